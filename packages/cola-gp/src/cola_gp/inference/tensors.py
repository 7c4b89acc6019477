"""Arrays over a grid: one axis per grid axis, flattened in C order only at the border; and the eigenpairs of
one factor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cola_core import ops

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


def factor_eigh(operator: Any) -> tuple[Array, Array]:
    """Eigenvalues (in no order, none below zero) and orthonormal eigenvectors of one PSD factor.

    A symmetric Toeplitz matrix is unchanged by reversing rows and columns, so its eigenvectors are symmetric
    or antisymmetric, and two problems of half the size give them (Cantoni & Butler 1976): a quarter of the
    work.
    """
    if isinstance(operator, ops.Toeplitz) and operator.shape[-1] > 3:
        w, Q = _centrosymmetric_eigh(operator.column)
    else:
        matrix = operator.to_dense()
        w, Q = backend_for(matrix).eigh(matrix)
    xp = backend_for(w).xp
    # A covariance has no negative eigenvalue: what eigh returns below zero is its rounding error.
    return xp.where(w > 0, w, xp.zeros_like(w)), Q


def _centrosymmetric_eigh(column: Array) -> tuple[Array, Array]:
    backend = backend_for(column)
    xp, n = backend.xp, column.shape[0]
    half = n // 2
    i, j = np.arange(half)[:, None], np.arange(half)[None, :]

    def entries(index: np.ndarray) -> Array:
        return column[backend.asarray(index, device=backend.device(column))]

    near, far = entries(np.abs(i - j)), entries(n - 1 - i - j)
    even, odd = near + far, near - far
    if n % 2:  # the middle entry belongs to the symmetric vectors
        edge = math.sqrt(2.0) * entries(half - np.arange(half))[:, None]
        even = xp.concat(
            [xp.concat([even, edge], axis=1), xp.concat([edge.T, column[:1][:, None]], axis=1)], axis=0
        )
    (w_even, U), (w_odd, V) = backend.eigh(even), backend.eigh(odd)
    top, bottom = U[:half] / math.sqrt(2.0), V / math.sqrt(2.0)
    rows = [xp.concat([top, bottom], axis=1)]
    if n % 2:
        rows.append(xp.concat([U[half:], xp.zeros_like(V[:1])], axis=1))
    rows.append(xp.concat([xp.flip(top, axis=0), -xp.flip(bottom, axis=0)], axis=1))
    return xp.concat([w_even, w_odd]), xp.concat(rows, axis=0)
