"""Kronecker products: ``inv(K) @ b`` of small factors (overhead),
solve and log-determinant of larger ones (work)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

import cola_core as cola

from ..harness import Bench, Contender, Exchange, Goal


def spd(n: int, seed: int) -> Any:
    """Symmetric positive definite with eigenvalues from 1 to about 5."""
    G = np.random.default_rng(seed).standard_normal((n, n))
    return G @ G.T / n + np.eye(n)


def _small(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    n = 10
    A, B = spd(n, 0), spd(n, 1)
    b = np.random.default_rng(2).standard_normal(n * n)
    K = cola.kron(A, B)
    K_psd = cola.kron(cola.PSD(A), cola.PSD(B))

    def by_hand() -> Any:
        return scipy.linalg.solve(A, scipy.linalg.solve(B, b.reshape(n, n).T).T).reshape(-1)

    def check(answer: Any) -> None:
        np.testing.assert_allclose(np.kron(A, B) @ answer, b, atol=1e-10)

    return [
        Contender("inv(kron(A, B)) @ b", lambda: cola.inv(K) @ b),
        Contender("inv(kron(A, B)) @ b, declared PSD", lambda: cola.inv(K_psd) @ b),
        Contender("solve(kron(A, B), b)", lambda: cola.solve(K, b)),
        Contender("by hand, scipy.linalg.solve", by_hand),
    ], check


def _large(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    n = 20 if short else 100
    A, B = spd(n, 0), spd(n, 1)
    b = np.random.default_rng(2).standard_normal(n * n)

    def kept() -> Any:
        # the factorisations that the first product makes serve the determinant too
        inverse = cola.inv(cola.kron(cola.PSD(A), cola.PSD(B)))
        return inverse @ b, -cola.logdet(inverse)

    def plain() -> Any:
        K = cola.kron(cola.PSD(A), cola.PSD(B))
        return cola.solve(K, b), cola.logdet(K)

    def by_hand() -> Any:
        FA, FB = scipy.linalg.cho_factor(A, lower=True), scipy.linalg.cho_factor(B, lower=True)
        X = scipy.linalg.cho_solve(FA, scipy.linalg.cho_solve(FB, b.reshape(n, n).T).T)
        value = 2 * n * (np.log(np.diag(FA[0])).sum() + np.log(np.diag(FB[0])).sum())
        return X.reshape(-1), value

    # the residual and the determinant, from factors, without any of the contenders' code
    want = n * (np.linalg.slogdet(A)[1] + np.linalg.slogdet(B)[1])

    def check(answer: Any) -> None:
        x, value = answer
        np.testing.assert_allclose(A @ x.reshape(n, n) @ B.T, b.reshape(n, n), atol=1e-9)
        np.testing.assert_allclose(float(value), want, rtol=1e-10)

    return [
        Contender("inv once: product and logdet", kept),
        Contender("solve, then logdet", plain),
        Contender("by hand, cho_factor", by_hand),
    ], check


def _problem(n: int) -> dict[str, Any]:
    """What ``_small`` and ``_large`` set up, for peers elsewhere."""
    return {"A": spd(n, 0), "B": spd(n, 1), "b": np.random.default_rng(2).standard_normal(n * n)}


BENCHES = [
    Bench(
        "kron-small",
        "inv(Kronecker) @ b, factors 10x10",
        _small,
        Goal("absolute", 150e-6),
        rounds=31,
        exchange=Exchange("kron-solve", lambda: _problem(10)),
    ),
    Bench(
        "kron-large",
        "Kronecker 100x100 by 100x100, solve and logdet",
        _large,
        Goal("ratio", 1.5, "by hand, cho_factor"),
        rounds=31,
        exchange=Exchange("kron-solve-logdet", lambda: _problem(100)),
    ),
]
