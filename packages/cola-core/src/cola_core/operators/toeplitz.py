"""``Toeplitz`` (constant along diagonals) and ``Hankel`` (constant along antidiagonals), of any shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends import Backend
from ..backends.base import Array, dtype_name
from ..cost import Cost
from ..errors import ShapeError
from ..properties import Property, SelfAdjoint
from ..pytree import operator
from .axes import joined
from .base import LinearOperator
from .circulant import Circulant, floating_operand
from .dense import as_matrix_entries
from .diagonal import Identity, ScalarMul
from .fourier import convolve, fft_cost, good_length, kept, require_fft, spectrum

__all__ = ["Hankel", "Toeplitz"]


def _entries(A: Any, name: str, *fields: str) -> None:
    """Arrays of one library in a floating dtype, of at least one axis."""
    for field in fields:
        value = getattr(A, field)
        if value is None:
            continue
        value = as_matrix_entries(value, name, ndim=1)
        if hasattr(value, "dtype"):
            require_fft(value, name)
        object.__setattr__(A, field, value)


@operator
class Toeplitz(LinearOperator):
    """``T[i, j] = column[i - j]`` below and on the diagonal, ``row[j - i]`` above it; ``row[0]`` is not read.

    column: (*batch, m); row: (*batch, n), or None for the conjugate of the column, as
    ``scipy.linalg.toeplitz``. Real with row=None it is symmetric; complex with row=None it is self-adjoint
    where its first entry is real, which is declared (``SelfAdjoint(T)``), never read off the values.
    Product: three FFTs of a length of at least m + n - 1 that is good for FFTs, real ones for real data; the
    transform of the symbol is kept between products. Sums with Toeplitz, circulant and scalar operators stay
    Toeplitz. The error of a product is relative to the norms, not entry by entry. Raises ShapeError without
    an axis, DTypeError for half precision.

    >>> import numpy as np, cola_core as cola
    >>> cola.ops.Toeplitz(np.array([1.0, 2.0]), np.array([1.0, 5.0, 6.0])).to_dense()
    array([[1., 5., 6.],
           [2., 1., 5.]])
    """

    column: Array
    row: Array | None = None

    def _check(self) -> None:
        _entries(self, "Toeplitz", "column", "row")

    def _shape(self) -> tuple[int, ...]:
        c, r = self.column.shape, self.column.shape if self.row is None else self.row.shape
        lead = _broadcast(c[:-1], r[:-1], "Toeplitz")
        return (*lead, c[-1], r[-1])

    def _properties(self) -> frozenset[Property]:
        return frozenset({SelfAdjoint}) if self.row is None and not self._is_complex() else frozenset()

    @property
    def first_row(self) -> Array:
        """The row that was given, or the conjugate of the column; its first entry is not read."""
        return self._concrete_backend().conj(self.column) if self.row is None else self.row

    def generator(self, length: int) -> Array:
        """The first column of the circulant of size ``length`` of which this is the upper left corner."""
        be, (m, n) = self._concrete_backend(), self.shape[-2:]
        gap = be.zeros((length - m - n + 1,), self.column.dtype, self.device)
        return joined(be.xp, [self.column, gap, be.xp.flip(self.first_row[..., 1:], axis=-1)])

    @property
    def _length(self) -> int:
        return good_length(self.shape[-1] + self.shape[-2] - 1)

    # -- products --------------------------------------------------------------------------------------------
    def _matmat(self, X: Array) -> Array:
        return self._convolved(X, self.shape[-2], adjoint=False)

    def _rmatmat(self, X: Array) -> Array:
        return self._convolved(X, self.shape[-1], adjoint=True)

    def _matvec(self, x: Array) -> Array:
        return self._convolved(x[:, None], self.shape[-2], adjoint=False)[..., 0]

    def _convolved(self, X: Array, rows: int, adjoint: bool) -> Array:
        be = self._concrete_backend()
        xp = be.xp
        X = floating_operand(be, self, X)
        if 0 in (*self.shape, *X.shape):
            dtype = xp.result_type(self.dtype, X.dtype)
            lead = _broadcast(self.batch_shape, X.shape[:-2], "Toeplitz")
            return be.zeros((*lead, rows, X.shape[-1]), dtype, self.device)
        real = not self._is_complex() and not be.is_complex(X)
        dtype = X.dtype if real else xp.result_type(X.dtype, be.dtype("complex64"))
        S = self._transformed(be, dtype, real)
        # the symbol read backwards has the spectrum read backwards: for the adjoint, its conjugate
        return convolve(be, xp.conj(S) if adjoint else S, X, (self._length,), real)[..., :rows, :]

    def _transformed(self, be: Backend, dtype: Any, real: bool) -> Array:
        sources = (self.column,) if self.row is None else (self.column, self.row)
        L = self._length
        return kept(
            self,
            (dtype_name(dtype), real),
            sources,
            lambda: spectrum(be, self.generator(L), (L,), dtype, real),
        )

    def _matvec_cost(self) -> Cost:
        return fft_cost(self._length, not self._is_complex(), self.itemsize) * 3 + Cost(
            6.0 * self._length, 2.0 * self.itemsize * self._length, 0.0, 1, 4
        )

    def _column_bytes(self, one: Cost) -> float:
        return one.bytes  # of the transforms, which every column needs

    # -- structure -------------------------------------------------------------------------------------------
    def _transpose(self) -> LinearOperator:
        xp, c, r = self.xp, self.column, self.row
        if 0 in self.shape[-2:]:
            m, n = self.shape[-2:]
            return Toeplitz(self.first_row[..., :n], c[..., :m])
        if r is None:
            return Toeplitz(joined(xp, [c[..., :1], self._concrete_backend().conj(c[..., 1:])]))
        return Toeplitz(joined(xp, [c[..., :1], r[..., 1:]]), c)

    def _conj(self) -> LinearOperator:
        conj = self._concrete_backend().conj
        return Toeplitz(conj(self.column), None if self.row is None else conj(self.row))

    def _adjoint(self) -> LinearOperator:
        return self._transpose()._conj()

    def _to_dense(self) -> Array:
        xp, (m, n) = self.xp, self.shape[-2:]
        if 0 in self.shape:
            return self._concrete_backend().zeros(self.shape, self.dtype, self.device)
        i, j = xp.arange(m, device=self.device), xp.arange(n, device=self.device)
        return self.generator(m + n - 1)[..., (i[:, None] - j[None, :]) % (m + n - 1)]

    def _times(self, c: Any) -> Any:
        c = c[..., None] if getattr(c, "shape", ()) else c
        static_real = isinstance(c, (int, float))
        if self.row is None and (static_real or _real(c)):
            return Toeplitz(c * self.column)
        return Toeplitz(c * self.column, c * self.first_row)

    def _plus(self, other: LinearOperator) -> Any:
        xp = self.xp
        if isinstance(other, (Identity, ScalarMul)):
            if 0 in self.shape:
                return self
            c: Any = 1 if isinstance(other, Identity) else other.c
            first = self.column[..., :1] + (c[..., None] if getattr(c, "shape", ()) else c)
            rest = self.column[..., 1:]
            return Toeplitz(joined(xp, [first, rest]), self.row)
        if isinstance(other, Circulant):
            other = Toeplitz(other.column, other.reflected(other.column))
        if not isinstance(other, Toeplitz):
            return NotImplemented
        if self.row is None and other.row is None:
            return Toeplitz(self.column + other.column)
        return Toeplitz(self.column + other.column, self.first_row + other.first_row)


@operator
class Hankel(LinearOperator):
    """``H[i, j] = h[i + j]`` with h the column followed by the row from its second entry; ``row[0]`` is not
    read.

    column: (*batch, m); row: (*batch, n), or None for zeros below the first antidiagonal of a square matrix,
    as ``scipy.linalg.hankel``. Square it is symmetric. It is a Toeplitz matrix with its columns in reverse,
    and costs the same. Raises ShapeError without an axis, DTypeError for half precision.

    >>> import numpy as np, cola_core as cola
    >>> cola.ops.Hankel(np.array([1.0, 2.0]), np.array([2.0, 3.0, 4.0])).to_dense()
    array([[1., 2., 3.],
           [2., 3., 4.]])
    """

    column: Array
    row: Array | None = None

    def _check(self) -> None:
        _entries(self, "Hankel", "column", "row")

    def _shape(self) -> tuple[int, ...]:
        c, r = self.column.shape, self.column.shape if self.row is None else self.row.shape
        return (*_broadcast(c[:-1], r[:-1], "Hankel"), c[-1], r[-1])

    def _properties(self) -> frozenset[Property]:
        square = self.shape[-1] == self.shape[-2]
        return frozenset({SelfAdjoint}) if square and not self._is_complex() else frozenset()

    @property
    def antidiagonals(self) -> Array:
        """The m + n - 1 numbers h."""
        if 0 in self.shape[-2:]:
            return self._concrete_backend().zeros(
                (*self.batch_shape, max(sum(self.shape[-2:]) - 1, 0)), self.dtype, self.device
            )
        row = self.xp.zeros_like(self.column) if self.row is None else self.row
        return joined(self.xp, [self.column, row[..., 1:]])

    @property
    def toeplitz(self) -> Toeplitz:
        """The Toeplitz matrix T with ``H = T J``, J the reversal of n entries."""
        n = self.shape[-1]
        if 0 in self.shape[-2:]:
            return Toeplitz(
                self._concrete_backend().zeros((*self.batch_shape, self.shape[-2]), self.dtype, self.device),
                self._concrete_backend().zeros((n,), self.dtype, self.device),
            )
        h = self.antidiagonals
        return Toeplitz(h[..., n - 1 :], self.xp.flip(h[..., :n], axis=-1))

    def _kept_toeplitz(self) -> Toeplitz:
        sources = (self.column,) if self.row is None else (self.column, self.row)
        return kept(self, "toeplitz", sources, lambda: self.toeplitz)

    def _matmat(self, X: Array) -> Array:
        return self._kept_toeplitz()._matmat(self.xp.flip(X, axis=-2))

    def _rmatmat(self, X: Array) -> Array:
        return self.xp.flip(self._kept_toeplitz()._rmatmat(X), axis=-2)

    def _matvec_cost(self) -> Cost:
        m, n = self.shape[-2:]
        length = good_length(m + n)
        return fft_cost(length, not self._is_complex(), self.itemsize) * 3 + Cost(
            6.0 * length, 3.0 * self.itemsize * length, 0.0, 1, 6
        )

    def _column_bytes(self, one: Cost) -> float:
        return one.bytes  # of the transforms, which every column needs

    def _transpose(self) -> LinearOperator:
        m, n = self.shape[-2:]
        if m == n:
            return self
        if 0 in (m, n):
            zero = self._concrete_backend().zeros
            return Hankel(
                zero((*self.batch_shape, n), self.dtype, self.device), zero((m,), self.dtype, self.device)
            )
        h = self.antidiagonals
        return Hankel(h[..., :n], h[..., n - 1 :])

    def _conj(self) -> LinearOperator:
        conj = self._concrete_backend().conj
        return Hankel(conj(self.column), None if self.row is None else conj(self.row))

    def _adjoint(self) -> LinearOperator:
        return self._transpose()._conj() if self._is_complex() else self._transpose()

    def _to_dense(self) -> Array:
        xp, (m, n) = self.xp, self.shape[-2:]
        if 0 in self.shape:
            return self._concrete_backend().zeros(self.shape, self.dtype, self.device)
        i, j = xp.arange(m, device=self.device), xp.arange(n, device=self.device)
        return self.antidiagonals[..., i[:, None] + j[None, :]]

    def _times(self, c: Any) -> Any:
        c = c[..., None] if getattr(c, "shape", ()) else c
        return Hankel(c * self.column, None if self.row is None else c * self.row)

    def _plus(self, other: LinearOperator) -> Any:
        if not isinstance(other, Hankel):
            return NotImplemented
        if self.row is None and other.row is None:
            return Hankel(self.column + other.column)
        rows = [self.xp.zeros_like(H.column) if H.row is None else H.row for H in (self, other)]
        return Hankel(self.column + other.column, rows[0] + rows[1])


def _real(c: Any) -> bool:
    return hasattr(c, "dtype") and "complex" not in dtype_name(c.dtype)


def _broadcast(a: tuple[int, ...], b: tuple[int, ...], name: str) -> tuple[int, ...]:
    if not a:
        return tuple(b)
    if not b:
        return tuple(a)
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        raise ShapeError(f"{name}: batches {a} and {b} of column and row (or operand) do not fit.") from None
