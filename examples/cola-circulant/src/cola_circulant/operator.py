"""``Circulant``: every column is the one before it, shifted down by one.

It is the matrix of circular convolution with its first column, so the discrete Fourier transform
diagonalises it: ``C = F^H diag(w) F`` with ``w = fft(column)``. Source: Davis, Circulant Matrices (1979),
ch. 3.
"""

from __future__ import annotations

import math
from typing import Any

from cola_core.backends import backend_of_type, get_backend
from cola_core.cost import Cost
from cola_core.errors import DTypeError, ShapeError
from cola_core.operators import Identity, LinearOperator, ScalarMul, operator
from cola_core.properties import PSD, Property, SelfAdjoint, Unitary

__all__ = ["Circulant"]

Array = Any


@operator
class Circulant(LinearOperator):
    """``C[i, j] = column[(i - j) mod n]`` for a first column of shape (*batch, n).

    Product: three FFTs, O(n log n). Integer columns become floats. A circulant is self-adjoint when its
    column is (``column[k] == conj(column[-k])``) and PSD when its eigenvalues are; as everywhere in
    cola-core that is declared (``cola_core.PSD(C)``), never read off the values. Raises ShapeError without
    an axis, DTypeError for half precision.

    >>> import numpy as np
    >>> Circulant(np.array([1.0, 2.0, 3.0])).to_dense()
    array([[1., 3., 2.],
           [2., 1., 3.],
           [3., 2., 1.]])
    """

    column: Array

    def _check(self) -> None:
        be = backend_of_type(type(self.column)) or get_backend("numpy")
        column = be.as_value(self.column)
        if column.ndim == 0:
            raise ShapeError(
                "Circulant needs the first column as an array of at least one axis, got a number."
            )
        if "16" in str(column.dtype):
            raise DTypeError(
                f"Circulant: there is no FFT in {column.dtype}; cast the column to single precision."
            )
        object.__setattr__(self, "column", column)

    def _shape(self) -> tuple[int, ...]:
        n = self.column.shape[-1]
        return (*self.column.shape, n)

    @property
    def spectrum(self) -> Array:
        """The eigenvalues ``fft(column)``, complex, in the order of the Fourier frequencies."""
        return self.xp.fft.fft(self.column) if self.shape[-1] else self.column

    @classmethod
    def from_spectrum(
        cls, w: Array, like: Circulant, declared: frozenset[Property] = frozenset()
    ) -> Circulant:
        """The circulant with eigenvalues ``w`` (in Fourier order), in the dtype of ``like``.

        For a real ``like`` the imaginary part of the column is rounding and is dropped.
        """
        be, xp = like._concrete_backend(), like.xp
        if not like.shape[-1]:
            return like.replace(declared=declared)
        column = xp.fft.ifft(be.astype(w, _complex(like)))
        return cls(column if like._is_complex() else xp.real(column), declared=declared)

    # -- products --------------------------------------------------------------------------------------------
    def _matmat(self, X: Array) -> Array:
        return self._convolve(self.column, X)

    def _rmatmat(self, X: Array) -> Array:
        return self._adjoint()._matmat(X)

    def _convolve(self, column: Array, X: Array) -> Array:
        be, xp = self._concrete_backend(), self.xp
        n = self.shape[-1]
        if 0 in (n, *X.shape):  # libraries refuse to transform nothing
            return column[..., :, None] * X
        if be.is_complex(column) or be.is_complex(X):
            return xp.fft.ifft(xp.fft.fft(column)[..., :, None] * xp.fft.fft(X, axis=-2), axis=-2)
        # half the work: the spectrum of a real vector is its own mirror image
        return xp.fft.irfft(xp.fft.rfft(column)[..., :, None] * xp.fft.rfft(X, axis=-2), n=n, axis=-2)

    def _to_dense(self) -> Array:
        i = self.xp.arange(self.shape[-1], device=self.device)
        return self.column[..., (i[:, None] - i[None, :]) % max(self.shape[-1], 1)]

    def _matvec_cost(self) -> Cost:
        n = self.shape[-1]
        transform = 5.0 * n * math.log2(max(n, 2)) * (1.0 if self._is_complex() else 0.5)
        return Cost(3 * transform + 6 * n, 12.0 * self.itemsize * n, 6.0 * self.itemsize * n, 1, 4)

    # -- structure -------------------------------------------------------------------------------------------
    def _transpose(self) -> LinearOperator:
        """The column read backwards, its first entry staying first."""
        xp, c = self.xp, self.column
        return Circulant(xp.concat([c[..., :1], xp.flip(c[..., 1:], axis=-1)], axis=-1))

    def _conj(self) -> LinearOperator:
        return Circulant(self._concrete_backend().conj(self.column))

    def _adjoint(self) -> LinearOperator:
        return self._transpose()._conj()

    def _compose(self, other: LinearOperator) -> Any:
        """Circulants commute and multiply eigenvalue by eigenvalue:
        what holds of both holds of the product."""
        if not isinstance(other, Circulant):
            return NotImplemented
        both = frozenset(p for p in (PSD, SelfAdjoint, Unitary) if self.isa(p) and other.isa(p))
        column = self._convolve(self.column, other.column[..., :, None])[..., 0]
        return Circulant(column, declared=both)

    def _plus(self, other: LinearOperator) -> Any:
        """Circulants add, and take up multiples of the identity.
        (The core carries PSD and SelfAdjoint over.)"""
        be, xp = self._concrete_backend(), self.xp
        if isinstance(other, Circulant):
            return Circulant(self.column + other.column)
        if isinstance(other, (Identity, ScalarMul)):
            c = 1 if isinstance(other, Identity) else other.c
            first = be.astype(xp.arange(self.shape[-1], device=self.device) == 0, self.dtype)
            return Circulant(self.column + (c[..., None] if getattr(c, "shape", ()) else c) * first)
        return NotImplemented


def _complex(A: LinearOperator) -> str:
    return "complex64" if A.itemsize == (8 if A._is_complex() else 4) else "complex128"
