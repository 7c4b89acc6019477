"""LQ in NumPy within the buffers at hand, by SciPy's LAPACK and BLAS on transposed views (which have the
columns that Fortran wants): Q where A was, the cotangent of A where that of Q was."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["gelqf_overwriting", "pullback_overwriting", "unsuitable"]


def gelqf_overwriting(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`Q, L` of `A = L Q`, the diagonal of L not negative, with Q in the buffer of A."""
    m = A.shape[-2]
    L = np.empty((*A.shape[:-1], m), A.dtype)
    if not A.size:
        return A, L
    geqrf, lwork, orgqr = _routines("lapack", ("geqrf", "geqrf_lwork", "orgqr"), A)
    n = A.shape[-1]
    work = int(lwork(n, m)[0].real)
    for i in np.ndindex(*A.shape[:-2]):
        a = A[i].T
        qr, tau, _, info = geqrf(a, lwork=work, overwrite_a=1)
        L[i] = np.tril(qr[:m].T)
        q, _, info = orgqr(qr, tau, lwork=max(work, m), overwrite_a=1)
        if not np.shares_memory(q, a):  # SciPy copies what is not aligned to 8 bytes
            A[i] = q.T
        sign = np.where(np.diagonal(L[i]) < 0, -1, 1).astype(A.dtype)
        A[i] *= sign[:, None]
        L[i] *= sign
    return A, L


def pullback_overwriting(Q: np.ndarray, L: np.ndarray, Qbar: np.ndarray, Lbar: np.ndarray) -> np.ndarray:
    """`L^{-T} (Qbar + copyltu(M) Q)`, `M = L^T Lbar - Qbar Q^T`, in the buffer of Qbar."""
    if not Q.size:
        return Qbar
    gemm, trsm = _routines("blas", ("gemm", "trsm"), Q)
    # BLAS reads them while it writes
    Q, L = (X.copy() if np.may_share_memory(X, Qbar) else X for X in (Q, L))
    for i in np.ndindex(*Q.shape[:-2]):
        M = L[i].T @ np.tril(Lbar[i])
        M = gemm(-1.0, Q[i].T, Qbar[i].T, 1.0, M.T, trans_a=1, overwrite_c=1).T
        M = np.tril(M)
        M += np.tril(M, -1).T
        g = Qbar[i].T
        g = gemm(1.0, Q[i].T, M.T, 1.0, g, overwrite_c=1)
        # G <- L^{-T} G is G^T <- G^T L^{-1}; the view L^T, by columns, is upper triangular
        g = trsm(1.0, np.ascontiguousarray(L[i]).T, g, side=1, lower=0, trans_a=1, overwrite_b=1)
        if not np.shares_memory(g, Qbar):
            Qbar[i] = g.T
    return Qbar


def unsuitable(A: np.ndarray) -> str | None:
    """Why A cannot be overwritten, and what to do instead."""
    if not A.flags.c_contiguous:
        return (
            f"it is not row-major (strides {A.strides}). Pass numpy.ascontiguousarray(A), or overwrite=False"
        )
    if not A.flags.writeable:
        return "it is read-only. Pass A.copy(), or overwrite=False"
    return None


def _routines(library: str, names: tuple[str, ...], A: np.ndarray) -> Any:
    import scipy.linalg as sl

    return (sl.get_lapack_funcs if library == "lapack" else sl.get_blas_funcs)(names, (A,))
