"""Arrays over a grid: one axis per grid axis, flattened in C order only at the border."""

from __future__ import annotations

import math
from typing import Any

from ..arrays import backend_for
from ..kernels.base import Array


def outer(vectors: Any) -> Array:
    """``T[i, j, ...] = vectors[0][i] * vectors[1][j] * ...``."""
    out = vectors[0]
    for v in vectors[1:]:
        out = out[..., None] * v
    return out


def along(M: Array, T: Array, axis: int) -> Array:
    """Multiply axis ``axis`` of ``T`` by the matrix ``M``: O(M.shape[0] * T.size)."""
    xp, shape = backend_for(T).xp, tuple(T.shape)
    n, before, after = shape[axis], math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    if after == 1:
        out = xp.reshape(T, (before, n)) @ M.T
    else:
        out = xp.matmul(M, xp.reshape(T, (before, n, after)))
    return xp.reshape(out, (*shape[:axis], M.shape[0], *shape[axis + 1 :]))


def apply(matrices: Any, T: Array, skip: int = -1) -> Array:
    """Multiply every axis of ``T`` by its matrix, except axis ``skip``."""
    for axis, M in enumerate(matrices):
        if axis != skip:
            T = along(M, T, axis)
    return T


def unfold(T: Array, axis: int) -> Array:
    """``T`` as a matrix whose rows belong to ``axis``."""
    xp = backend_for(T).xp
    return xp.reshape(xp.moveaxis(T, axis, 0), (T.shape[axis], -1))


def contract(T: Array, columns: list[Array]) -> Array:
    """``sum_grid T[i, j, ..] columns[0][i, m] columns[1][j, m] ..`` for every m."""
    xp = backend_for(T).xp
    m = columns[0].shape[1]
    out = xp.reshape(columns[0].T @ xp.reshape(T, (T.shape[0], -1)), (m, *T.shape[1:]))
    for column in columns[1:]:
        weights = xp.reshape(column.T, (m, column.shape[0], *([1] * (out.ndim - 2))))
        out = xp.sum(out * weights, axis=1)
    return out


def khatri_rao(columns: list[Array]) -> Array:
    """``K[(i, j, ..), m] = columns[0][i, m] columns[1][j, m] ..``, rows in C order."""
    xp, full = backend_for(columns[0]).xp, columns[0]
    for column in columns[1:]:
        full = xp.reshape(full[:, None, :] * column[None, :, :], (-1, full.shape[1]))
    return full


def diagonal_sums(W: Array) -> Array:
    """Sums of ``W (n, n)`` along both diagonals at distance ``k = 0, ..., n - 1`` from the main one."""
    xp, n = backend_for(W).xp, W.shape[0]
    # Read with a row length of one less, a matrix with n zeros after every row has its diagonals as columns.
    padded = xp.concat([xp.flip(W, axis=1), xp.zeros_like(W)], axis=1)
    sums = xp.sum(xp.reshape(xp.reshape(padded, (-1,))[: n * (2 * n - 1)], (n, 2 * n - 1)), axis=0)
    below, above = sums[n - 1 :], xp.flip(sums[:n])
    return xp.concat([below[:1], below[1:] + above[1:]])
