"""The eigenvectors of circulants as operators: ``Fourier`` (any circulant) and ``Hartley`` (real symmetric ones).

Neither holds an array: like the identity they adopt the library, device and precision of what they multiply.
Source for Hartley: Bini & Favati, Linear Algebra Appl. 183 (1993) 33; cas(t) = cos(t) + sin(t).
"""

from __future__ import annotations

import math
from typing import Any

from cola_core.backends import backend_of_type
from cola_core.cost import Cost
from cola_core.operators import LinearOperator, operator, static
from cola_core.properties import Property, SelfAdjoint, Unitary

__all__ = ["Fourier", "Hartley"]

Array = Any


class _Transform(LinearOperator):
    n: int
    precision: str

    def _shape(self) -> tuple[int, ...]:
        return (self.n, self.n)

    def _dtype(self) -> Any:
        return self.precision

    def _restatic(self, dtype: Any, backend: str | None) -> LinearOperator:
        """``A.to(dtype=...)`` of an expression reaches the static precision here."""
        if dtype is None:
            return self
        single = any(short in str(dtype) for short in ("float32", "complex64"))
        names = ("complex64", "complex128") if self._is_complex() else ("float32", "float64")
        return self.replace(precision=names[0 if single else 1])

    def _matvec_cost(self) -> Cost:
        return Cost(5.0 * self.n * math.log2(max(self.n, 2)), 6.0 * self.itemsize * self.n, 0, 1, 2)


def _fft(X: Array, inverse: bool = False) -> Array:
    """The unitary transform of every column."""
    xp = backend_of_type(type(X)).xp  # type: ignore[union-attr]
    if X.shape[-2] == 0:
        return X
    return (xp.fft.ifft if inverse else xp.fft.fft)(X, axis=-2, norm="ortho")


@operator
class Fourier(_Transform):
    """Columns ``exp(2 pi i j k / n) / sqrt(n)``: column k is the eigenvector of every circulant for ``fft(column)[k]``.

    Unitary; a product is one FFT and complex.
    """

    n: int = static()
    precision: str = static("complex128")

    def _matmat(self, X: Array) -> Array:
        return _fft(X, inverse=True)

    def _rmatmat(self, X: Array) -> Array:
        return _fft(X)

    def _properties(self) -> frozenset[Property]:
        return frozenset({Unitary})


@operator
class Hartley(_Transform):
    """Columns ``cas(2 pi j k / n) / sqrt(n)``: a real orthonormal eigenbasis of every real symmetric circulant.

    Symmetric and its own inverse; a product is one FFT.
    """

    n: int = static()
    precision: str = static("float64")

    def _matmat(self, X: Array) -> Array:
        be = backend_of_type(type(X))
        xp = be.xp  # type: ignore[union-attr]
        if be.is_complex(X):  # type: ignore[union-attr]
            return self._matmat(xp.real(X)) + 1j * self._matmat(xp.imag(X))
        Y = _fft(X)
        return xp.real(Y) - xp.imag(Y) if self.n else X

    def _rmatmat(self, X: Array) -> Array:
        return self._matmat(X)

    def _properties(self) -> frozenset[Property]:
        return frozenset({SelfAdjoint, Unitary})
