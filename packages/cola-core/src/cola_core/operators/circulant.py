"""``Circulant``, and what it shares with circular convolutions of any number of axes (``Periodic``)."""

from __future__ import annotations

import math
from typing import Any

from ..backends import Backend
from ..backends.base import Array, dtype_name
from ..cost import Cost
from ..properties import PSD, Property, SelfAdjoint, Unitary
from ..pytree import operator
from .base import LinearOperator
from .dense import as_matrix_entries
from .diagonal import Identity, ScalarMul
from .fourier import convolve, fft, fft_cost, good_length, ifft, kept, require_fft, rough, spectrum

__all__ = ["Circulant", "Periodic", "floating_operand"]


def floating_operand(be: Backend, A: LinearOperator, X: Array) -> Array:
    """X in a floating dtype that the transforms know, at least as wide as A's precision."""
    if not be.xp.isdtype(X.dtype, ("real floating", "complex floating")):
        return be.astype(X, be.real_dtype(A.dtype))
    precision = be.real_dtype(A.dtype)
    if be.real_dtype(X.dtype) != precision:
        X = be.astype(X, be.xp.result_type(X.dtype, precision))
    return X


class Periodic(LinearOperator):
    """A matrix that commutes with cyclic shifts of an array of shape ``grid``: ``F^H diag(w) F``.

    ``symbol`` (*batch, *grid) is its first column as an array, ``eigenvalues`` its transform, F the unitary
    Fourier transform over all axes. Subclasses give ``grid``, ``_symbol`` and ``with_symbol``. Source:
    Davis, Circulant Matrices (1979), ch. 3 and 5.
    """

    grid: tuple[int, ...]

    def _symbol(self) -> Array:
        raise NotImplementedError(f"{type(self).__name__} must define _symbol()")

    def with_symbol(self, symbol: Array, declared: frozenset[Property] = frozenset()) -> Periodic:
        """The operator of the same kind with another first column, given as an array (*batch, *grid)."""
        raise NotImplementedError(f"{type(self).__name__} must define with_symbol(symbol)")

    def eigenvalues(self) -> Array:
        """The transform of the symbol, flattened: complex (*batch, n), in the order of the frequencies."""
        be, s, grid = self._concrete_backend(), self._symbol(), self.grid
        if 0 in s.shape:
            return be.xp.reshape(s, self.shape[:-1]) + 0j
        return be.xp.reshape(fft(be, s, grid, -1), self.shape[:-1])

    def with_eigenvalues(self, w: Array, real: bool, declared: frozenset[Property] = frozenset()) -> Periodic:
        """The operator of the same kind with eigenvalues w (*batch, n).

        real: its entries are known to be real; what is left of their imaginary parts is rounding.
        """
        be, grid = self._concrete_backend(), self.grid
        xp = be.xp
        w = be.xp.reshape(w, (*w.shape[:-1], *grid))
        if 0 not in w.shape:
            w = ifft(be, be.astype(w, xp.result_type(w.dtype, be.dtype("complex64"))), grid, -1)
        return self.with_symbol(xp.real(w) if real and be.is_complex(w) else w, declared)

    def reflected(self, x: Array) -> Array:
        """Entry k of every axis of x (..., *grid) exchanged with entry -k."""
        xp, d = self.xp, len(self.grid)
        for axis in range(-d, 0):
            if x.shape[axis] > 1:
                index: list[Any] = [slice(None)] * d
                index[axis + d] = slice(0, 1)
                head = x[(..., *index)]
                index[axis + d] = slice(1, None)
                x = xp.concat((head, xp.flip(x[(..., *index)], axis=axis)), axis=axis)
        return x

    # -- products --------------------------------------------------------------------------------------------
    def _matmat(self, X: Array) -> Array:
        return self._periodic(X, adjoint=False)

    def _rmatmat(self, X: Array) -> Array:
        return self._periodic(X, adjoint=True)

    def _periodic(self, X: Array, adjoint: bool) -> Array:
        be, grid = self._concrete_backend(), self.grid
        xp = be.xp
        X = floating_operand(be, self, X)
        if 0 in (*self.shape, *X.shape):
            s = xp.reshape(self._symbol(), self.shape[:-1])
            return s[..., :, None] * X
        *batch, n, k = X.shape
        real = not self._is_complex() and not be.is_complex(X)
        dtype = X.dtype if real else xp.result_type(X.dtype, be.dtype("complex64"))
        S, lengths = self._transformed(be, dtype, real)
        if adjoint:
            S = xp.conj(S)
        Y = convolve(be, S, X if len(grid) == 1 else xp.reshape(X, (*batch, *grid, k)), lengths, real)
        if lengths != grid:
            Y = Y[..., :n, :]  # padded: one axis
        return xp.reshape(Y, (*Y.shape[: Y.ndim - len(grid) - 1], n, k))

    def _lengths(self) -> tuple[int, ...]:
        """The lengths of the transforms: those of the axes, but a single axis with a large prime factor is
        padded."""
        grid = self.grid
        return (good_length(2 * grid[0] - 1),) if len(grid) == 1 and rough(grid[0]) else grid

    def _transformed(self, be: Backend, dtype: Any, real: bool) -> tuple[Array, tuple[int, ...]]:
        lengths, grid = self._lengths(), self.grid

        def make() -> Array:
            s = self._symbol()
            if lengths != grid:
                xp, n = be.xp, grid[0]
                gap = be.zeros((*s.shape[:-1], lengths[0] - 2 * n + 1), s.dtype, self.device)
                s = xp.concat((s, gap, s[..., 1:]), axis=-1)
            return spectrum(be, s, lengths, dtype, real)

        return kept(self, (dtype_name(dtype), real), self._sources(), make), lengths

    def _sources(self) -> tuple[Array, ...]:
        raise NotImplementedError(f"{type(self).__name__} must define _sources()")

    def _matvec_cost(self) -> Cost:
        n = math.prod(self._lengths())
        return fft_cost(n, not self._is_complex(), self.itemsize) * 3 + Cost(
            6.0 * n, 2.0 * self.itemsize * n, 0.0, 1, 4
        )

    def _column_bytes(self, one: Cost) -> float:
        return one.bytes  # of the transforms, which every column needs

    # -- structure -------------------------------------------------------------------------------------------
    def _adjoint(self) -> LinearOperator:
        return self._transpose()._conj()

    def _compose(self, other: LinearOperator) -> Any:
        """They commute and multiply eigenvalue by eigenvalue: what holds of both holds of the product."""
        if not isinstance(other, Periodic) or other.grid != self.grid or self.backend is not other.backend:
            return NotImplemented
        both = frozenset(p for p in (PSD, SelfAdjoint, Unitary) if self.isa(p) and other.isa(p))
        n = self.shape[-1]
        flat = self.xp.reshape(other._symbol(), (*other.batch_shape, n, 1))
        product = self._matmat(flat)[..., 0]
        return self.with_symbol(self.xp.reshape(product, (*product.shape[:-1], *self.grid)), both)

    def _plus(self, other: LinearOperator) -> Any:
        """They add, and take up multiples of the identity."""
        if isinstance(other, (Identity, ScalarMul)):
            c: Any = 1 if isinstance(other, Identity) else other.c
            be, xp, s = self._concrete_backend(), self.xp, self._symbol()
            if not s.shape[-1] or 0 in self.grid:
                return self
            flat = xp.reshape(s, self.shape[:-1])
            first = be.astype(xp.arange(self.shape[-1], device=self.device) == 0, s.dtype)
            flat = flat + (c[..., None] if getattr(c, "shape", ()) else c) * first
            return self.with_symbol(xp.reshape(flat, (*flat.shape[:-1], *self.grid)))
        if isinstance(other, Periodic) and other.grid == self.grid:
            return self.with_symbol(self._symbol() + other._symbol())
        return NotImplemented


@operator
class Circulant(Periodic):
    """``C[i, j] = column[(i - j) mod n]`` for a first column of shape (*batch, n), real or complex.

    Product: three FFTs, real ones for real data, O(n log n); the transform of the column is kept between
    products. Sums, products, adjoints, inverses and functions of circulants are circulants. Self-adjoint
    where ``column[k] == conj(column[-k])`` and PSD where its eigenvalues are: declared, never read off the
    values. The error of a product is relative to the norms, not entry by entry. Integer columns become
    floats. Raises ShapeError without an axis, DTypeError for half precision.

    >>> import numpy as np, cola_core as cola
    >>> C = cola.ops.Circulant(np.array([4.0, 1.0, 0.0]))
    >>> C.to_dense()
    array([[4., 0., 1.],
           [1., 4., 0.],
           [0., 1., 4.]])
    >>> type(cola.inv(C @ C + C.H)).__name__
    'Circulant'
    """

    column: Array

    def _check(self) -> None:
        column = as_matrix_entries(self.column, "Circulant", ndim=1)
        if hasattr(column, "dtype"):
            require_fft(column, "Circulant")
        object.__setattr__(self, "column", column)

    def _shape(self) -> tuple[int, ...]:
        return (*self.column.shape, self.column.shape[-1])

    @property
    def grid(self) -> tuple[int, ...]:  # type: ignore[override]
        """The shape of the array that is shifted."""
        return (self.column.shape[-1],)

    def _symbol(self) -> Array:
        return self.column

    def _sources(self) -> tuple[Array, ...]:
        return (self.column,)

    def with_symbol(self, symbol: Array, declared: frozenset[Property] = frozenset()) -> Circulant:
        return Circulant(symbol, declared=declared)

    def _transpose(self) -> LinearOperator:
        return Circulant(self.reflected(self.column))

    def _conj(self) -> LinearOperator:
        return Circulant(self._concrete_backend().conj(self.column))

    def _times(self, c: Any) -> Any:
        return Circulant((c[..., None] if getattr(c, "shape", ()) else c) * self.column)

    def _to_dense(self) -> Array:
        i = self.xp.arange(self.shape[-1], device=self.device)
        return self.column[..., (i[:, None] - i[None, :]) % max(self.shape[-1], 1)]
