"""Back substitution in Kronecker compositions of triangular matrices, which are never formed.

``(c (T1 + ... + Tp as a Kronecker sum) + s I) Y = C`` and ``(c (T1 x ... x Tp) + s I) Y = C`` for upper
triangular T: the last block row of the first factor is a smaller problem of the same kind, and so on
upwards. Two factors of a sum are Sylvester's equation ``T1 Y + Y T2^T = C`` (Bartels & Stewart 1972), by
halving (Jonsson & Kagstrom 2002), so that nearly all work is matrix products. Cost:
``N (n1 + ... + np)`` complex operations a column, N the product of the sizes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.base import Array

__all__ = ["quasi_eigenvalues", "substitute", "substitute_traced"]

BLOCK = 64  # below this LAPACK's trsyl is as fast as products


def quasi_eigenvalues(T: Any) -> Any:
    """Eigenvalues of an upper triangular NumPy matrix with 2 x 2 blocks where pairs are complex."""
    d = np.diagonal(T).astype(np.result_type(T.dtype, np.complex64))
    below: Any = np.flatnonzero(np.diagonal(T, -1)) if len(T) > 1 and T.dtype.kind != "c" else []
    for i in below:
        half = (T[i, i] - T[i + 1, i + 1]) / 2
        root = np.sqrt(np.asarray(half * half + T[i, i + 1] * T[i + 1, i], d.dtype))
        middle = (T[i, i] + T[i + 1, i + 1]) / 2
        d[i], d[i + 1] = middle + root, middle - root
    return d


def substitute(kind: str, Ts: list[Any], c: Any, s: Any, C: Any) -> Any:
    """The solution for NumPy arrays; T (n_i, n_i), C (N, k). kind: "sum" or "product"."""
    if 0 in C.shape:
        return C
    if C.dtype.kind == "c" and all(np.asarray(x).dtype.kind != "c" for x in (*Ts, c, s)):
        # complex methods of LAPACK would read the 2 x 2 blocks of real Schur forms as triangular
        return substitute(kind, Ts, c, s, C.real) + 1j * substitute(kind, Ts, c, s, C.imag)
    if kind == "sum":
        Ts = [T if c == 1 else c * T for T in Ts]
        return _sum(Ts, s, C)
    return _product(Ts, c, s, C)


def _solve_upper(T: Any, C: Any) -> Any:
    from ..backends.numpy_backend import BACKEND

    return BACKEND.solve_triangular(T, C, lower=False)


def _shifted(T: Any, s: Any) -> Any:
    return T if np.ndim(s) == 0 and s == 0 else T + s * np.eye(len(T), dtype=T.dtype)


def _sum(Ts: list[Any], s: Any, C: Any) -> Any:
    T, rest = Ts[0], Ts[1:]
    if not rest:
        return _solve_upper(_shifted(T, s), C)
    k = C.shape[1]
    C = C.reshape(len(T), -1, k)
    if len(rest) == 1:
        R = _shifted(T, s)
        dtype = np.result_type(R, rest[0], C)
        R, S = R.astype(dtype, copy=False), rest[0].astype(dtype, copy=False)
        Y = [_sylvester(R, S, np.array(C[:, :, j], dtype)) for j in range(k)]
        return np.stack(Y, axis=-1).reshape(-1, k)
    out = np.empty(C.shape, np.result_type(C, *Ts))
    for i in range(len(T) - 1, -1, -1):
        right = C[i] - np.tensordot(T[i, i + 1 :], out[i + 1 :], axes=1)
        out[i] = _sum(rest, s + T[i, i], right)
    return out.reshape(-1, k)


def _sylvester(R: Any, S: Any, C: Any) -> Any:
    """``R Y + Y S^T = C`` for upper (quasi-)triangular R and S; C is overwritten."""
    m, n = C.shape
    if max(m, n) <= BLOCK:
        from ..backends.numpy_backend import _lapack

        trsyl = _lapack("trsyl", R)
        if R.dtype.kind == "c":
            Y, scale, _ = trsyl(R, S.conj(), C, tranb="C")
        else:
            Y, scale, _ = trsyl(R, S, C, tranb="T")
        return Y if scale == 1 else Y / scale
    if m >= n:
        h = _cut(R)
        C[h:] = _sylvester(R[h:, h:], S, C[h:])
        C[:h] -= R[:h, h:] @ C[h:]
        C[:h] = _sylvester(R[:h, :h], S, C[:h])
    else:
        h = _cut(S)
        C[:, h:] = _sylvester(R, S[h:, h:], C[:, h:])
        C[:, :h] -= C[:, h:] @ S[:h, h:].T
        C[:, :h] = _sylvester(R, S[:h, :h], C[:, :h])
    return C


def _cut(T: Any) -> int:
    """About the middle, not through a 2 x 2 block."""
    h = len(T) // 2
    return h + 1 if T[h, h - 1] != 0 else h


def _product(Ts: list[Any], c: Any, s: Any, C: Any) -> Any:
    T, rest = Ts[0], Ts[1:]
    if not rest:
        return _solve_upper(_shifted(c * T, s), C)
    k = C.shape[1]
    C = C.reshape(len(T), -1, k)
    out = np.empty(C.shape, np.result_type(C, *Ts, np.asarray(c), np.asarray(s)))
    moved = np.empty_like(out)  # (T2 x ... x Tp) applied to what is known
    for i in range(len(T) - 1, -1, -1):
        right = C[i] - c * np.tensordot(T[i, i + 1 :], moved[i + 1 :], axes=1)
        out[i] = _product(rest, c * T[i, i], s, right)
        moved[i] = _apply(rest, out[i])
    return out.reshape(-1, k)


def _apply(Ts: list[Any], X: Any) -> Any:
    """``(T1 x ... x Tp) @ X``."""
    k = X.shape[-1]
    Y = X.reshape(*(len(T) for T in Ts), k)
    for i, T in enumerate(Ts):
        Y = np.moveaxis(np.tensordot(T, Y, axes=(1, i)), 0, i)
    return Y.reshape(-1, k)


def substitute_traced(be: Any, kind: str, Ts: list[Array], c: Any, s: Any, C: Array) -> Array:
    """The same as loops that JAX compiles: rows one by one, the last factor's as one triangular solve."""
    import jax

    xp = be.xp
    if 0 in C.shape:
        return C
    T, rest = Ts[0], Ts[1:]
    n, k = T.shape[0], C.shape[-1]
    if not rest:
        return be.solve_triangular(c * T + s * be.eye(n, T.dtype), C, lower=False)
    C = xp.reshape(C, (n, -1, k))

    def row(j: Any, state: Any) -> Any:
        Y, W = state
        i = n - 1 - j
        right = C[i] - c * xp.tensordot(T[i], W, axes=1)  # rows of W not yet known are zero
        if kind == "sum":
            y = w = substitute_traced(be, kind, rest, c, s + c * T[i, i], right)
        else:
            y = substitute_traced(be, kind, rest, c * T[i, i], s, right)
            w = _apply_traced(xp, rest, y)
        return Y.at[i].set(y), W.at[i].set(w)

    zero = xp.zeros_like(C)
    Y, _ = jax.lax.fori_loop(0, n, row, (zero, zero))
    return xp.reshape(Y, (-1, k))


def _apply_traced(xp: Any, Ts: list[Array], X: Array) -> Array:
    k = X.shape[-1]
    Y = xp.reshape(X, (*(T.shape[0] for T in Ts), k))
    for i, T in enumerate(Ts):
        Y = xp.moveaxis(xp.tensordot(T, Y, axes=([1], [i])), 0, i)
    return xp.reshape(Y, (-1, k))
