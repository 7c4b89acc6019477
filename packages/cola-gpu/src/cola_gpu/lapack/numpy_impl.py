"""Forward factorisations on NumPy arrays (LAPACK through NumPy); batched, real float32 and float64."""

from __future__ import annotations

import numpy as np

__all__ = ["gelqf", "potrf", "syevd"]


def gelqf(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`A = L Q` by the QR factorisation of A^T; the diagonal of L is made non-negative."""
    Qt, R = np.linalg.qr(np.swapaxes(A, -1, -2))
    L, Q = np.swapaxes(R, -1, -2), np.swapaxes(Qt, -1, -2)
    sign = np.where(np.diagonal(L, axis1=-2, axis2=-1) < 0, -1, 1).astype(A.dtype)
    return np.ascontiguousarray(sign[..., :, None] * Q), np.tril(L * sign[..., None, :])


def potrf(A: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor; NaN where a matrix of the batch is not positive definite."""
    if A.shape[-1] == 0:
        return A.copy()
    try:
        return np.linalg.cholesky(A)
    except np.linalg.LinAlgError:
        if A.ndim == 2:
            return np.full_like(A, np.nan)
        return np.stack([potrf(a) for a in A])


def syevd(A: np.ndarray, gap_tol: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors as rows with their largest entry positive, and ascending eigenvalues."""
    lam, V = np.linalg.eigh(A, UPLO="L")
    if A.shape[-1] == 0:
        return V, lam
    U = np.swapaxes(V, -1, -2)
    sign = np.where(U.max(axis=-1) >= -U.min(axis=-1), 1, -1).astype(A.dtype)
    return np.ascontiguousarray(sign[..., None] * U), lam
