"""Adjoints and transposes, which differ for complex operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compare import close, expect, host
from ..registry import check
from .common import make, rounding, vectors


@check("operator.adjoint", "operator", "capability", capability="adjoint")
def check_adjoint(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The dot test ``<y, A x> = <A^H y, x>``, and ``A.H`` equals the reference's conjugate transpose."""
    A, M = make(case, backend, dtype, seed)
    tol = rounding(case, dtype, M, 60)
    x, x0 = vectors(backend, dtype, (M.shape[-1],), seed)
    y, y0 = vectors(backend, dtype, (M.shape[-2],), seed + 1)
    left = np.sum(y0.conj() * host(A @ x), axis=-1)
    right = np.sum(host(A.H @ y).conj() * x0, axis=-1)
    scale = float(np.abs(M).max() * np.linalg.norm(x0) * np.linalg.norm(y0)) if M.size else 1.0
    close(right, left, "<A.H y, x> against <y, A x>", tol, scale)
    H = np.conj(np.swapaxes(M, -1, -2))
    expect(A.H.shape == H.shape, f"A.H has shape {A.H.shape}, expected {H.shape}")
    close(A.H.to_dense(), H, "A.H.to_dense()", tol)
    Y, Y0 = vectors(backend, dtype, (M.shape[-2], 2), seed)
    close(A.H @ Y, H @ Y0, "A.H @ Y", tol, float(np.abs(M).max() * np.abs(Y0).max()) if M.size else 1.0)


@check("operator.transpose", "operator", "capability", capability="adjoint", dtypes="pair")
def check_transpose(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """``A.T`` does not conjugate, ``A.conj()`` does not transpose, and doing either twice gives A back."""
    A, M = make(case, backend, dtype, seed)
    tol = rounding(case, dtype, M)
    T = np.swapaxes(M, -1, -2)
    y, y0 = vectors(backend, dtype, (M.shape[-2],), seed)
    x, x0 = vectors(backend, dtype, (M.shape[-1],), seed)
    scale = float(np.abs(M).max() * max(np.abs(y0).max(), np.abs(x0).max())) if M.size else 1.0
    close(A.T @ y, T @ y0, "A.T @ y", tol, scale)
    close(A.conj() @ x, M.conj() @ x0, "A.conj() @ x", tol, scale)
    for what, B, want in (
        ("A.T.T", A.T.T, M),
        ("A.H.H", A.H.H, M),
        ("A.H.T", A.H.T, M.conj()),
        ("A.T.H", A.T.H, M.conj()),
        ("A.conj().conj()", A.conj().conj(), M),
        ("A.conj().T", A.conj().T, T.conj()),
    ):
        close(B.to_dense(), want, what, tol)
