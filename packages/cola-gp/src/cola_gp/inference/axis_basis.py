"""The eigenbasis of one PSD factor of a Kronecker product, and derivatives with respect to the factor.

A symmetric Toeplitz matrix is unchanged by reversing rows and columns, so its eigenvectors are symmetric or
antisymmetric (Cantoni & Butler 1976).  In sums and differences of the first and the reversed second half it
falls apart into

    E = T_1 + T_2,  F = T_1 - T_2,   T_1[i, j] = c[|i - j|],  T_2[i, j] = c[n - 1 - i - j],

of half the size (``E`` with one more row and column for the middle entry if n is odd): a quarter of the work
for the eigenvectors, half for every product with them.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from cola_core import ops

from ..arrays import backend_for
from ..kernels.base import Array
from .tensors import along, diagonal_sums, unfold

ROOT = math.sqrt(0.5)


class AxisBasis:
    """Eigenvectors of a stored matrix.  values: eigenvalues, in no order, none below zero."""

    def __init__(self, operator: Any):
        matrix = operator.to_dense()
        w, self.matrix = backend_for(matrix).eigh(matrix)
        self.values = not_negative(w)

    def rotate(self, T: Array, axis: int) -> Array:
        """Coefficients along ``axis``: multiply by the transposed eigenvectors."""
        return along(self.matrix.T, T, axis)

    def restore(self, T: Array, axis: int) -> Array:
        """The inverse of :meth:`rotate`."""
        return along(self.matrix, T, axis)

    def cotangent(self, left: Array, right: Array, c: Array, axis: int) -> Array:
        """Of ``left^T Q^T dK Q right`` (unfolded along ``axis``) less ``sum(c * diag(Q^T dK Q))``, in the
        form that the factor expects: here a symmetric matrix."""
        inner = unfold(left, axis) @ unfold(right, axis).T
        inner = inner - backend_for(inner).matrix_diag(c)
        return self.matrix @ inner @ self.matrix.T


class ToeplitzBasis(AxisBasis):
    """Eigenvectors of a symmetric Toeplitz matrix of more than one row, by halves."""

    def __init__(self, operator: Any):
        column = operator.column
        backend = backend_for(column)
        xp, n = backend.xp, int(column.shape[0])
        self.size, self.half = n, n // 2
        i = np.arange(self.half)

        def entries(index: np.ndarray) -> Array:
            return column[backend.asarray(index, device=backend.device(column))]

        near, far = entries(np.abs(i[:, None] - i)), entries(n - 1 - i[:, None] - i)
        even, odd = near + far, near - far
        if n % 2:
            edge = entries(self.half - i)[:, None] / ROOT
            below = xp.concat([edge.T, column[:1][:, None]], axis=1)
            even = xp.concat([xp.concat([even, edge], axis=1), below], axis=0)
        (w_even, self.even), (w_odd, self.odd) = backend.eigh(even), backend.eigh(odd)
        self.values = not_negative(xp.concat([w_even, w_odd]))

    @cached_property
    def matrix(self) -> Array:  # type: ignore[override]
        """The eigenvectors ``(n, n)``."""
        backend = backend_for(self.even)
        eye = backend.eye(self.size, self.even.dtype, backend.device(self.even))
        return self.restore(eye, 0)

    def rotate(self, T: Array, axis: int) -> Array:
        xp, h = backend_for(T).xp, self.half
        X = _three_axes(T, axis)
        top, bottom = X[:, :h], xp.flip(X[:, self.size - h :], axis=1)
        sums = ROOT * (top + bottom)
        if self.size % 2:
            sums = xp.concat([sums, X[:, h : h + 1]], axis=1)
        parts = [_middle(self.even.T, sums), _middle(self.odd.T, ROOT * (top - bottom))]
        return xp.reshape(xp.concat(parts, axis=1), tuple(T.shape))

    def restore(self, T: Array, axis: int) -> Array:
        xp, h = backend_for(T).xp, self.half
        X = _three_axes(T, axis)
        count = self.size - h
        sums, differences = _middle(self.even, X[:, :count]), _middle(self.odd, X[:, count:])
        parts = [ROOT * (sums[:, :h] + differences)]
        if self.size % 2:
            parts.append(sums[:, h:])
        parts.append(xp.flip(ROOT * (sums[:, :h] - differences), axis=1))
        return xp.reshape(xp.concat(parts, axis=1), tuple(T.shape))

    def cotangent(self, left: Array, right: Array, c: Array, axis: int) -> Array:
        """As for a stored matrix; the answer is ``w (n,)``, of the first column."""
        xp, h, n = backend_for(left).xp, self.half, self.size
        count = n - h
        L, R = unfold(left, axis), unfold(right, axis)
        diag = backend_for(left).matrix_diag
        even = self.even @ (L[:count] @ R[:count].T - diag(c[:count])) @ self.even.T
        odd = self.odd @ (L[count:] @ R[count:].T - diag(c[count:])) @ self.odd.T
        # near entries c[|i - j|], then far ones c[n - 1 - i - j]
        w = xp.concat([diagonal_sums(even[:h, :h] + odd), xp.zeros_like(c[h:])])
        far = antidiagonal_sums(even[:h, :h] - odd)
        skipped = n - far.shape[0]
        w = w + xp.concat([xp.zeros_like(c[:skipped]), xp.flip(far)])
        if n % 2:
            edge = (even[:h, h] + even[h, :h]) / ROOT  # c[h - i]
            w = w + xp.concat([even[h:, h], xp.flip(edge), xp.zeros_like(c[h + 1 :])])
        return w


def axis_basis(operator: Any) -> AxisBasis:
    """The eigenbasis of one factor, by halves where it is Toeplitz."""
    small = operator.shape[-1] < 2
    return (
        ToeplitzBasis(operator) if isinstance(operator, ops.Toeplitz) and not small else AxisBasis(operator)
    )


def not_negative(w: Array) -> Array:
    """A covariance has no negative eigenvalue: what eigh returns below zero is its rounding error."""
    xp = backend_for(w).xp
    return xp.where(w > 0, w, xp.zeros_like(w))


def antidiagonal_sums(W: Array) -> Array:
    """``sum_{i + j = k} W[i, j]`` for ``k = 0, ..., 2 h - 2``."""
    xp, h = backend_for(W).xp, W.shape[0]
    padded = xp.concat([W, xp.zeros_like(W)], axis=1)
    return xp.sum(xp.reshape(xp.reshape(padded, (-1,))[: h * (2 * h - 1)], (h, 2 * h - 1)), axis=0)


def _three_axes(T: Array, axis: int) -> Array:
    shape = tuple(T.shape)
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return backend_for(T).xp.reshape(T, (before, shape[axis], after))


def _middle(M: Array, X: Array) -> Array:
    """``M`` times the middle one of three axes."""
    xp = backend_for(X).xp
    if X.shape[2] == 1:
        return (X[..., 0] @ M.T)[..., None]
    return xp.matmul(M, X)
