"""Preconditioned systems beside plain ones and beside the library that a preconditioner comes from; and a sum
of many terms (the system of the CoLA paper) by SVRG beside conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cola_core as cola
from cola_core import CG, PSD, ops

from ..harness import Bench, Contender, Goal


def _residual_check(product: Callable[[Any], Any], b: Any, tol: float) -> Callable[[Any], None]:
    def check(answer: Any) -> None:
        residual = np.linalg.norm(b - product(answer)) / np.linalg.norm(b)
        assert residual <= 1.1 * tol, f"residual {residual}"

    return check


def _multigrid(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    import pyamg
    import scipy.sparse as sp

    m, tol = (30 if short else 316), 1e-8
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(m, m))
    M = sp.csr_array(sp.kron(T, sp.eye_array(m)) + sp.kron(sp.eye_array(m), T))
    b = np.random.default_rng(0).standard_normal(m * m)
    A = PSD(ops.Sparse.from_scipy(M))

    def theirs() -> Any:
        levels = pyamg.smoothed_aggregation_solver(sp.csr_matrix(M))
        return levels.solve(b, tol=tol, accel="cg", maxiter=100)

    return [
        Contender("solve(A, b, CG(P=AMG()))", lambda: cola.solve(A, b, CG(tol=tol, P=cola.AMG()))),
        Contender("pyamg, accelerated by CG", theirs),
        Contender("solve(A, b, CG())", lambda: cola.solve(A, b, CG(tol=tol))),
    ], _residual_check(lambda x: M @ x, b, tol)


def _kernel(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    n, tol, noise = (200 if short else 3000), 1e-6, 1e-2
    x = np.random.default_rng(0).standard_normal((n, 3))
    K = np.exp(-((x[:, None] - x) ** 2).sum(-1) / 2)
    b = np.random.default_rng(1).standard_normal(n)
    A = PSD(ops.Dense(K) + noise * ops.Identity(n))

    def ours(P: Any) -> Callable[[], Any]:
        return lambda: cola.solve(A, b, CG(tol=tol, P=P))

    return [
        Contender("CG(P=RPCholesky(300))", ours(cola.RPCholesky(min(300, n)))),
        Contender("CG(P=Nystrom())", ours(cola.Nystrom())),
        Contender("CG(P=PivotedCholesky(300))", ours(cola.PivotedCholesky(min(300, n)))),
        Contender("CG()", ours(None)),
        Contender("numpy.linalg.solve", lambda: np.linalg.solve(K + noise * np.eye(n), b)),
    ], _residual_check(lambda v: K @ v + noise * v, b, tol)


def _terms(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    count, n, tol = (20, 20, 1e-6) if short else (100, 1000, 1e-6)
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal((n, n // 5)) for _ in range(count)]
    terms = [F @ F.T / n for F in factors]
    b = rng.standard_normal(n)
    A = PSD(ops.Sum(*(PSD(ops.Dense(T)) for T in terms)))

    def product(v: Any) -> Any:
        return sum(T @ v for T in terms)

    return [
        Contender("solve(A, b, SVRG())", lambda: cola.solve(A, b, cola.SVRG(tol=tol))),
        Contender("solve(A, b, CG())", lambda: cola.solve(A, b, CG(tol=tol))),
        Contender("sum the terms, then solve", lambda: np.linalg.solve(sum(terms), b)),
    ], _residual_check(product, b, tol)


BENCHES = [
    Bench(
        "amg-poisson",
        "CG with multigrid, 2-D Poisson, n = 100,000",
        _multigrid,
        Goal("ratio", 1.2, "pyamg, accelerated by CG"),
        needs=("pyamg",),
        rounds=5,
    ),
    Bench(
        "kernel-preconditioned",
        "CG on a kernel matrix with noise, n = 3000",
        _kernel,
        Goal("ratio", 0.5, "CG()"),
        rounds=5,
    ),
    Bench("sum-of-terms", "a sum of 100 dense terms, n = 1000", _terms, rounds=3),
]
