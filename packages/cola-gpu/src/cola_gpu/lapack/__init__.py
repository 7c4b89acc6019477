"""Differentiable LAPACK: the family of "Auto-Differentiating Linear Algebra" on NumPy, PyTorch and JAX
arrays.

`gelqf, potrf, trsm, syevd, syrk, sumlogdiag` take arrays (not operators) of shape (*batch, m, n), real
float32 or float64, and return arrays of the same library. PyTorch and JAX differentiate through them,
forward, reverse and twice; for NumPy (and for anyone else) each has an explicit adjoint,
`gelqf_backward(...)` and so on. The formulas and their derivations are in `formulas.py`. Importing this
package imports neither PyTorch nor JAX.
"""

from __future__ import annotations

from .adjoints import (
    gelqf_backward,
    potrf_backward,
    sumlogdiag_backward,
    syevd_backward,
    syevd_skipped,
    syrk_backward,
    trsm_backward,
)
from .family import LQ, SymmetricEigen, gelqf, potrf, sumlogdiag, syevd, syrk, trsm

__all__ = [
    "LQ",
    "SymmetricEigen",
    "gelqf",
    "gelqf_backward",
    "potrf",
    "potrf_backward",
    "sumlogdiag",
    "sumlogdiag_backward",
    "syevd",
    "syevd_backward",
    "syevd_skipped",
    "syrk",
    "syrk_backward",
    "trsm",
    "trsm_backward",
]
