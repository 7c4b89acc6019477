"""Cases of the differentiable LAPACK, bound by arithmetic; flops are those that LAPACK counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import lapack
from .case import Case, Problem
from .roofline import Phase
from .target import Target

__all__ = ["CASES", "lq_backward_work", "lq_work", "potrf_work", "syevd_work"]

WIDE = {"short": (20, 60), "quick": (300, 2400), "full": (1000, 8000)}
WIDE_ON_ACCELERATORS = {"short": (64, 256), "quick": (1000, 8000), "full": (4000, 32000)}
SYMMETRIC = {"short": 40, "quick": 512, "full": 2048}
SYMMETRIC_ON_ACCELERATORS = {"short": 128, "quick": 4096, "full": 8192}
SQUARE = {"short": 40, "quick": 1024, "full": 4096}
SQUARE_ON_ACCELERATORS = {"short": 256, "quick": 8192, "full": 16384}


def lq_work(m: int, n: int, dtype: str = "float64") -> Phase:
    """`gelqf` of m x n: the factorisation 2 m^2 (n - m/3), as much to form Q; A read, Q and L written."""
    width = np.dtype(dtype).itemsize
    return Phase(4.0 * m**2 * (n - m / 3), width * (2.0 * m * n + m**2), dtype)


def lq_backward_work(m: int, n: int, dtype: str = "float64") -> Phase:
    """Its adjoint: `Qbar Q^T` and `copyltu(M) Q` 2 m^2 n each, the triangular solve m^2 n, `L^T Lbar` m^3."""
    width = np.dtype(dtype).itemsize
    return Phase(5.0 * m**2 * n + m**3, width * (3.0 * m * n + 2 * m**2), dtype)


def potrf_work(n: int, dtype: str = "float64") -> Phase:
    """Cholesky of n x n: n^3 / 3 flops; the matrix read and the factor written."""
    return Phase(n**3 / 3.0, np.dtype(dtype).itemsize * 2.0 * n**2, dtype)


def syevd_work(n: int, dtype: str = "float64") -> list[Phase]:
    """Symmetric eigenvectors, without the tridiagonal problem itself, which deflation may make free.

    The reduction's 4/3 n^3 flops are half products with the remaining triangle, read in every one of n steps
    (n^3 / 6 numbers); the other half and the transformation of the vectors, 2 n^3, are matrix products.
    """
    width = np.dtype(dtype).itemsize
    return [
        Phase(2 / 3 * n**3, width * n**3 / 6, dtype),
        Phase((2 / 3 + 2) * n**3, width * 3.0 * n**2, dtype),
    ]


def _lq(target: Target, size: str) -> Problem:
    m, n = (WIDE_ON_ACCELERATORS if target.accelerated else WIDE)[size]
    A = target.put(np.random.default_rng(0).standard_normal((m, n)))
    return Problem(
        run=lambda: tuple(lapack.gelqf(A, check=False)),
        phases=lambda answer: [lq_work(m, n)],
        size={"m": m, "n": n},
    )


def _lq_both(target: Target, size: str) -> Problem:
    m, n = (WIDE_ON_ACCELERATORS if target.accelerated else WIDE)[size]
    rng = np.random.default_rng(0)
    A, Qbar = (target.put(rng.standard_normal((m, n))) for _ in range(2))
    Lbar = target.put(rng.standard_normal((m, m)))

    def run() -> Any:
        Q, L = lapack.gelqf(A, check=False)
        return lapack.gelqf_backward(Q, L, Qbar, Lbar)

    return Problem(
        run=run,
        phases=lambda answer: [lq_work(m, n), lq_backward_work(m, n)],
        size={"m": m, "n": n},
    )


def _potrf(target: Target, size: str) -> Problem:
    n = (SQUARE_ON_ACCELERATORS if target.accelerated else SQUARE)[size]
    A = np.random.default_rng(0).standard_normal((n, n)) / n**0.5
    M = target.put(A @ A.T + np.eye(n))
    return Problem(
        run=lambda: lapack.potrf(M, check=False),
        phases=lambda answer: [potrf_work(n)],
        size={"n": n},
    )


def _syevd(target: Target, size: str) -> Problem:
    n = (SYMMETRIC_ON_ACCELERATORS if target.accelerated else SYMMETRIC)[size]
    A = np.random.default_rng(0).standard_normal((n, n))
    M = target.put(A + A.T)
    return Problem(
        run=lambda: tuple(lapack.syevd(M, check=False)),
        phases=lambda answer: syevd_work(n),
        size={"n": n},
    )


CASES = [
    Case("lq", "gelqf (LQ with Q), float64", "4 m^2 (n - m/3) flops", _lq),
    Case(
        "lq-backward",
        "gelqf and its adjoint, float64",
        "4 m^2 (n - m/3) and 5 m^2 n + m^3 flops",
        _lq_both,
    ),
    Case("potrf", "potrf (Cholesky), float64", "n^3 / 3 flops", _potrf),
    Case(
        "syevd",
        "syevd (symmetric eigenvectors), float64",
        "2/3 n^3 flops that read n^3 / 6 numbers, and 8/3 n^3 in products",
        _syevd,
    ),
]
