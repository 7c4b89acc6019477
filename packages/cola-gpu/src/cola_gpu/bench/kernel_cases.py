"""The product of a kernel matrix that is never formed, against the rate of multiply-adds in float32."""

from __future__ import annotations

import numpy as np

from ..kernels import rbf
from .case import Case, Problem
from .roofline import Phase
from .target import Target

__all__ = ["CASES", "product_work"]

D = 10
POINTS = {"short": 200, "quick": 8192, "full": 50_000}
POINTS_ON_ACCELERATORS = {"short": 2048, "quick": 2**17, "full": 10**6}


def product_work(n: int, m: int, d: int, columns: int = 1, dtype: str = "float32") -> Phase:
    """`K X` for n x m points in d dimensions: d multiply-adds for a distance, one to assemble it, one per
    column.

    The exponential is not counted (other units of a GPU make it). Bytes: points, X and the result once.
    """
    width = np.dtype(dtype).itemsize
    return Phase(2.0 * n * m * (d + 1 + columns), width * ((n + m) * d + (n + m) * columns), dtype)


def _product(target: Target, size: str) -> Problem:
    n = (POINTS_ON_ACCELERATORS if target.accelerated else POINTS)[size]
    rng = np.random.default_rng(0)
    X = target.put(rng.standard_normal((n, D)), "float32")
    v = target.put(rng.standard_normal(n), "float32")
    K = rbf(X, lengthscale=3.0)
    return Problem(
        run=lambda: K @ v,
        phases=lambda answer: [product_work(n, n, D)],
        size={"n": n, "d": D},
    )


CASES = [
    Case(
        "kernel-product",
        "RBF kernel matrix times a vector, d = 10, float32, never formed",
        "12 multiply-adds per pair of points, exponentials not counted",
        _product,
    )
]
