"""Conjugate gradients on the five-point Laplacian, to one tolerance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cola_core as cola

from ..harness import Bench, Contender, Goal


def _setup(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    import scipy.sparse as sp
    from scipy.sparse.linalg import cg

    m, tol = (20 if short else 316), 1e-6
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(m, m))
    M = sp.csr_array(sp.kron(T, sp.eye_array(m)) + sp.kron(sp.eye_array(m), T))
    b = np.random.default_rng(0).standard_normal(m * m)
    A = cola.PSD(cola.ops.Sparse.from_scipy(M))

    def theirs() -> Any:
        x, flag = cg(M, b, rtol=tol, atol=0.0)
        assert flag == 0
        return x

    def check(answer: Any) -> None:
        residual = np.linalg.norm(b - M @ answer) / np.linalg.norm(b)
        assert residual <= 1.1 * tol, f"residual {residual}"

    return [
        Contender("solve(A, b, CG(tol))", lambda: cola.solve(A, b, cola.CG(tol=tol))),
        Contender("scipy.sparse.linalg.cg", theirs),
    ], check


BENCHES = [
    Bench(
        "cg-poisson",
        "CG, 2-D Poisson, n = 100,000",
        _setup,
        Goal("ratio", 1.0, "scipy.sparse.linalg.cg"),
        rounds=7,
    )
]
