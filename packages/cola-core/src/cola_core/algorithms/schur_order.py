"""The Schur form of a small matrix with wanted eigenvalues first, for Krylov-Schur restarts.

LAPACK's reordering (Bai & Demmel, LAA 186 (1993) 73) on the host: the matrix is as small as the basis is
short, so on every library and device the cost is that of sending it there; under JAX's jit it is a callback.
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array, dtype_name
from .spectrum import order_by

__all__ = ["ordered_schur"]


def ordered_schur(be: Any, H: Array, k: int, which: str) -> tuple[Array, Array, Array, Array, Array]:
    """``T, Z, weight, small, condition`` of a complex (m, m) matrix ``H = Z T Z^H``, T triangular, its
    diagonal most wanted first.

    weight: (m,) last entries' moduli of the unit eigenvectors of H. small: (k, k) unit eigenvectors of T's
    leading block. condition: (k,) condition numbers of the first k eigenvalues in H.
    """
    m = H.shape[-1]
    if be.name == "jax":
        import jax

        real = be.real_dtype(H.dtype)
        shapes = [
            jax.ShapeDtypeStruct(shape, dtype)
            for shape, dtype in (
                ((m, m), H.dtype),
                ((m, m), H.dtype),
                ((m,), real),
                ((k, k), H.dtype),
                ((k,), real),
            )
        ]

        def call(M: Any) -> Any:
            found = _on_host(M, k, which)
            return tuple(x.astype(s.dtype) for x, s in zip(found, shapes, strict=True))

        return tuple(jax.pure_callback(call, tuple(shapes), H, vmap_method="sequential"))  # type: ignore[return-value]
    device = be.device(H)
    found = _on_host(be.to_numpy(H), k, which)
    complex_, real = dtype_name(H.dtype), be.real_dtype(H.dtype)
    kinds = (complex_, complex_, real, complex_, real)
    return tuple(be.asarray(x, dtype=d, device=device) for x, d in zip(found, kinds, strict=True))  # type: ignore[return-value]


def _on_host(H: Any, k: int, which: str) -> tuple[Any, ...]:
    import numpy as np
    from scipy.linalg import schur
    from scipy.linalg.lapack import ztrexc

    from ..backends import get_backend

    H = np.asarray(H, np.complex128)
    m = H.shape[-1]
    if not np.isfinite(H).all():
        bad = np.full((m, m), np.nan, np.complex128)
        return bad, bad, np.full(m, np.nan), bad[:k, :k], np.full(k, np.nan)
    T, Z = schur(H, output="complex")
    host = get_backend("numpy")
    for i in range(m - 1):
        # selection sort: only what is out of place moves
        j = i + int(order_by(host, np.diagonal(T)[i:], 1, which)[0])
        if j > i:
            T, Z, _ = ztrexc(T, Z, j + 1, i + 1)
    size = float(np.abs(T).max()) or 1.0
    Y = np.zeros((m, m), np.complex128)
    condition = np.ones(k)
    for i in range(m):
        Y[i, i] = 1
        Y[:i, i] = _substitute(T[:i, :i], T[i, i], -T[:i, i], size)
        if i < k:
            left = _substitute(
                T[i + 1 :, i + 1 :].conj().T[::-1, ::-1], np.conj(T[i, i]), -T[i, i + 1 :].conj()[::-1], size
            )
            condition[i] = np.linalg.norm(Y[: i + 1, i]) * np.hypot(1.0, np.linalg.norm(left))
        Y[: i + 1, i] /= np.linalg.norm(Y[: i + 1, i])
    return T, Z, np.abs(Z[-1] @ Y), Y[:k, :k], condition


def _substitute(T: Any, shift: Any, b: Any, size: float) -> Any:
    """``(T - shift I)^{-1} b`` for an upper triangular T; coincident eigenvalues are moved apart by rounding
    error."""
    import numpy as np
    from scipy.linalg import solve_triangular

    if not len(b):
        return b
    M = T - shift * np.eye(len(b))
    d = np.diagonal(M)
    least = np.finfo(float).eps * size
    M = M + np.diag(np.where(np.abs(d) < least, least - d, 0))
    return solve_triangular(M, b, check_finite=False)
