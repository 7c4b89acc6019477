"""The eigenvectors of circulants as operators: ``Fourier`` (any circulant) and ``Hartley`` (real symmetric).

A product is one FFT. They have no entries to store, only an empty array ``like`` from which they know the
library, device and precision to work in. Source for Hartley: Bini & Favati, Linear Algebra Appl. 183 (1993)
33; cas(t) = cos(t) + sin(t).
"""

from __future__ import annotations

import math
from typing import Any

from cola_core.cost import Cost
from cola_core.operators import LinearOperator, operator, static
from cola_core.properties import Property, SelfAdjoint, Unitary

__all__ = ["Fourier", "Hartley"]

Array = Any


class _Transform(LinearOperator):
    like: Array
    n: int

    @classmethod
    def of(cls, n: int, w: Array) -> LinearOperator:
        """The transform of size n in the library, device and precision of the array w."""
        return cls(w.reshape((-1,))[:0], n)  # type: ignore[call-arg]

    def _shape(self) -> tuple[int, ...]:
        return (self.n, self.n)

    def _matvec_cost(self) -> Cost:
        flops = 5.0 * self.n * math.log2(max(self.n, 2))
        return Cost(flops, 6.0 * self.itemsize * self.n, 2.0 * self.itemsize * self.n, 1, 2)

    def _fft(self, X: Array, inverse: bool = False) -> Array:
        """The unitary transform of every column."""
        if 0 in X.shape:  # libraries refuse to transform nothing
            return X + 0j
        return (self.xp.fft.ifft if inverse else self.xp.fft.fft)(X, axis=-2, norm="ortho")


@operator
class Fourier(_Transform):
    """Columns ``exp(2 pi i j k / n) / sqrt(n)``:
    column k is every circulant's eigenvector for ``fft(column)[k]``.

    Unitary and symmetric. ``inverse``: the conjugate, that is, the inverse matrix.
    """

    like: Array
    n: int = static()
    inverse: bool = static(default=False)

    def _matmat(self, X: Array) -> Array:
        return self._fft(X, inverse=not self.inverse)

    def _rmatmat(self, X: Array) -> Array:
        return self._fft(X, inverse=self.inverse)

    def _adjoint(self) -> LinearOperator:
        return Fourier(self.like, self.n, not self.inverse)

    _conj = _adjoint

    def _transpose(self) -> LinearOperator:
        return self

    def _properties(self) -> frozenset[Property]:
        return frozenset({Unitary})


@operator
class Hartley(_Transform):
    """Columns ``cas(2 pi j k / n) / sqrt(n)``:
    a real orthonormal eigenbasis of every real symmetric circulant.

    Symmetric and its own inverse.
    """

    like: Array
    n: int = static()

    def _matmat(self, X: Array) -> Array:
        xp = self.xp
        if self._concrete_backend().is_complex(X):
            return self._matmat(xp.real(X)) + 1j * self._matmat(xp.imag(X))
        Y = self._fft(X)
        return xp.real(Y) - xp.imag(Y)

    def _rmatmat(self, X: Array) -> Array:
        return self._matmat(X)

    def _properties(self) -> frozenset[Property]:
        return frozenset({SelfAdjoint, Unitary})
