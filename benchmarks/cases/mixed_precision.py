"""Conjugate gradients with products in float32 beside those in float64, to one residual measured in float64.

Both problems are bound by the memory's bandwidth: in float64 the matrix is larger than the last cache, and a
product reads it once. Each runs on NumPy and on PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cola_core as cola
from cola_core import CG, PSD, ops

from ..harness import Bench, Contender, Goal

TOL = 1e-10
CORE = "cola_core.CG, float64"


def _contenders(A: Any, b: Any) -> tuple[list[Contender], Callable[[Any], None]]:
    from cola_gpu import MixedPrecisionCG

    def check(answer: Any) -> None:
        residual = float(A.backend.norm((b - A @ answer)[:, None])[0] / A.backend.norm(b[:, None])[0])
        assert residual <= 1.1 * TOL, f"residual {residual}"

    return [
        Contender("MixedPrecisionCG, float32", lambda: cola.solve(A, b, MixedPrecisionCG(tol=TOL))),
        Contender(CORE, lambda: cola.solve(A, b, CG(tol=TOL))),
    ], check


def _dense(short: bool) -> tuple[Any, Any]:
    """A random symmetric matrix, its spectrum a half circle, shifted to a condition number of about 200."""
    n = 200 if short else 8000
    rng = np.random.default_rng(0)
    M = rng.standard_normal((n, n))
    M += M.T
    M *= (2 * n) ** -0.5
    M[np.diag_indices(n)] += 2.02
    return PSD(ops.Dense(M)), rng.standard_normal(n)


def _sparse(short: bool) -> tuple[Any, Any]:
    """Five diagonals, a mesh's Laplacian with a shift; condition number about 120."""
    from scipy.sparse import diags_array

    n = 400 if short else 4_000_000
    far = round(n**0.5)
    bands = [np.full(n - abs(k), v) for k, v in ((-far, -0.5), (-1, -1.0), (0, 3.05), (1, -1.0), (far, -0.5))]
    M = diags_array(bands, offsets=[-far, -1, 0, 1, far], format="csr")
    return PSD(ops.Sparse.from_scipy(M)), np.random.default_rng(1).standard_normal(n)


def _numpy(problem: Callable[[bool], tuple[Any, Any]]) -> Callable[[bool], Any]:
    return lambda short: _contenders(*problem(short))


def _torch(problem: Callable[[bool], tuple[Any, Any]]) -> Callable[[bool], Any]:
    def setup(short: bool) -> Any:
        import torch

        A, b = problem(short)
        return _contenders(A.to(backend="torch"), torch.from_numpy(b))

    return setup


BENCHES = [
    Bench(f"mixed-cg-{kind}-{library}", f"CG, {title}, {name}", make(problem), goal, needs, rounds=5)
    for kind, title, problem, goal in (
        ("dense", "dense matrix, n = 8000", _dense, Goal("ratio", 1 / 1.5, CORE)),
        ("sparse", "five diagonals, n = 4,000,000", _sparse, Goal("ratio", 1 / 1.5, CORE)),
    )
    for library, name, make, needs in (
        ("numpy", "NumPy", _numpy, ("cola_gpu",)),
        ("torch", "PyTorch", _torch, ("cola_gpu", "torch")),
    )
]
