"""Differentiable LAPACK: the family of "Auto-Differentiating Linear Algebra" on NumPy, PyTorch and JAX
arrays.

`gelqf, potrf, potri, trsm, trmm, syevd, gemm, gemm2, syrk, inverse, det, slogdet, sumlogdiag, extractdiag,
makediag, extracttrian, maketrian` take arrays (not operators) of shape (*batch, m, n), real
float32 or float64, and return arrays of the same library. PyTorch and JAX differentiate through them,
forward, reverse and twice; for NumPy (and for anyone else) each has an explicit adjoint,
`gelqf_backward(...)` and so on. The formulas and their derivations are in `formulas.py`
(`determinants.py` for the determinant at singular matrices). Importing this
package imports neither PyTorch nor JAX.
"""

from __future__ import annotations

from .adjoints import (
    gelqf_backward,
    potrf_backward,
    potri_backward,
    syevd_backward,
    syevd_skipped,
    trsm_backward,
)
from .determinants import (
    SignAndLog,
    det,
    det_backward,
    inverse,
    inverse_backward,
    slogdet,
    slogdet_backward,
)
from .entries import (
    extractdiag,
    extractdiag_backward,
    extracttrian,
    extracttrian_backward,
    makediag,
    makediag_backward,
    maketrian,
    maketrian_backward,
    sumlogdiag,
    sumlogdiag_backward,
)
from .family import (
    LQ,
    SymmetricEigen,
    gelqf,
    potrf,
    potri,
    syevd,
    trsm,
)
from .products import (
    gemm,
    gemm2,
    gemm2_backward,
    gemm_backward,
    syrk,
    syrk_backward,
    trmm,
    trmm_backward,
)

__all__ = [
    "LQ",
    "SignAndLog",
    "SymmetricEigen",
    "det",
    "det_backward",
    "extractdiag",
    "extractdiag_backward",
    "extracttrian",
    "extracttrian_backward",
    "gelqf",
    "gelqf_backward",
    "gemm",
    "gemm2",
    "gemm2_backward",
    "gemm_backward",
    "inverse",
    "inverse_backward",
    "makediag",
    "makediag_backward",
    "maketrian",
    "maketrian_backward",
    "potrf",
    "potrf_backward",
    "potri",
    "potri_backward",
    "slogdet",
    "slogdet_backward",
    "sumlogdiag",
    "sumlogdiag_backward",
    "syevd",
    "syevd_backward",
    "syevd_skipped",
    "syrk",
    "syrk_backward",
    "trmm",
    "trmm_backward",
    "trsm",
    "trsm_backward",
]
