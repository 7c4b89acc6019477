"""Small matrices at many times: products, solves and triangular factors over leading axes, on every
library.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array


def mv(M: Array, v: Array) -> Array:
    """Matrix times vector over leading axes."""
    return (M @ v[..., None])[..., 0]


def outer(a: Array, b: Array) -> Array:
    """``a b^T`` over leading axes."""
    return a[..., :, None] * b[..., None, :]


def symmetric(M: Array) -> Array:
    """The symmetric part: keeps rounding from growing in a recursion of covariances."""
    return 0.5 * (M + M.mT)


def eye(be: Any, s: int, like: Array) -> Array:
    """The identity with the dtype and device of ``like``."""
    return be.eye(s, like.dtype, be.device(like))


def solve(be: Any, M: Array, B: Array) -> Array:
    """``M^{-1} B`` of small square matrices; division where they are numbers."""
    return B / M if M.shape[-1] == 1 else be.xp.linalg.solve(M, B)


def consistent_solve(be: Any, P: Array, B: Array, hermitian: bool = True) -> Array:
    """``P^+ B`` for P (symmetric if ``hermitian``) whose range holds the columns of B; P may be singular.

    Where P is singular to rounding only, plain elimination is as good: what it adds lies in the null space
    of P, which the formulas of the smoother multiply by zero.  An exact zero pivot needs the
    pseudo-inverse.
    """
    xp = be.xp
    if be.name == "jax":
        import jax

        X = solve(be, P, B)
        fine = xp.all(xp.isfinite(X))
        return jax.lax.cond(fine, lambda: X, lambda: jax.numpy.linalg.pinv(P, hermitian=hermitian) @ B)
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            X = solve(be, P, B)
        if be.all_finite(X):
            return X
    except (np.linalg.LinAlgError, RuntimeError):  # PyTorch's error of a singular matrix is a RuntimeError
        pass
    if be.name == "torch":
        import torch

        return torch.linalg.pinv(P, hermitian=hermitian) @ B
    return np.linalg.pinv(P, hermitian=hermitian) @ B


def tria(be: Any, M: Array) -> Array:
    """Lower triangular ``L (.., m, m)`` with ``L L^T = M M^T``: the L of an LQ factorisation, any signs."""
    m, n = M.shape[-2:]
    xp = be.xp
    if n < m:
        M = xp.concat([M, xp.zeros((*M.shape[:-1], m - n), dtype=M.dtype)], axis=-1)
    if be.name == "numpy":
        return np.asarray(np.linalg.qr(M.mT, mode="r")).mT
    return be.qr(M.mT)[1].mT


def block(xp: Any, rows: list[list[Array]]) -> Array:
    """A matrix of blocks, over leading axes that broadcast."""
    lead = np.broadcast_shapes(*(tuple(x.shape[:-2]) for row in rows for x in row))
    wide = [[xp.broadcast_to(x, (*lead, *x.shape[-2:])) for x in row] for row in rows]
    return xp.concat([xp.concat(row, axis=-1) for row in wide], axis=-2)


def factor(be: Any, P: Array) -> Array:
    """Lower triangular ``L`` with ``L L^T = P`` for positive semidefinite P, singular ones included.

    Cholesky, and where that breaks down, Cholesky that leaves out columns whose pivot is zero to rounding.
    """
    if be.name == "jax":
        import jax

        L = be.cholesky(P, check=False)
        return jax.lax.cond(be.xp.all(be.xp.isfinite(L)), lambda: L, lambda: _semidefinite(be, P))
    L = be.cholesky(P, check=False)
    return L if be.all_finite(L) else _semidefinite(be, P)


def _semidefinite(be: Any, P: Array) -> Array:
    xp, s = be.xp, P.shape[-1]
    tiny = 8 * s * float(xp.finfo(P.dtype).eps)
    columns: list[Array] = []
    left = P
    for j in range(s):
        pivot = left[..., j, j]
        keep = pivot > tiny * P[..., j, j]
        root = xp.sqrt(xp.where(keep, pivot, xp.ones_like(pivot)))
        below = xp.asarray(np.arange(s) >= j)
        column = xp.where(
            keep[..., None] & below, left[..., :, j] / root[..., None], xp.zeros_like(left[..., :, j])
        )
        columns.append(column)
        left = left - outer(column, column)
    return xp.stack(columns, axis=-1)
