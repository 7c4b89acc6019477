"""``RealPart``: the real or imaginary part of an operator whose structure does not split."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array, dtype_name
from ..cost import Cost
from ..properties import PSD, Property, SelfAdjoint
from ..pytree import operator, static
from .base import LinearOperator
from .derivative import by_parts

__all__ = ["RealPart"]


@operator
class RealPart(LinearOperator):
    """The matrix of the real (or imaginary) parts of A's entries; use ``A.real`` and ``A.imag``.

    A product with real vectors is one product with A, with complex ones a product with twice as many columns.
    """

    A: LinearOperator
    imaginary: bool = static(default=False)

    def _shape(self) -> tuple[int, ...]:
        return self.A.shape

    def _dtype(self) -> Any:
        return dtype_name(self.A._concrete_backend().real_dtype(self.A.dtype))

    def _part_of(self, Y: Array) -> Array:
        be = self._concrete_backend()
        if not be.is_complex(Y):
            return 0 * Y if self.imaginary else Y
        return be.xp.imag(Y) if self.imaginary else be.xp.real(Y)

    def _entered(self, X: Array) -> Array:
        be = self._concrete_backend()
        return be.astype(X, be.xp.result_type(X.dtype, self.A.dtype))

    def _matmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        return by_parts(be, lambda X: self._part_of(self.A._matmat(self._entered(X))), X)

    def _rmatmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        # the transpose of Im A is Im A^T = -Im A^H
        sign = -1 if self.imaginary else 1
        return by_parts(be, lambda X: sign * self._part_of(self.A._rmatmat(self._entered(X))), X)

    def _adjoint(self) -> LinearOperator:
        return RealPart(self.A.T, True) if self.imaginary else RealPart(self.A.H)

    def _transpose(self) -> LinearOperator:
        return self._adjoint()

    def _conj(self) -> LinearOperator:
        return self

    def _to_dense(self) -> Array:
        return self._part_of(self.A._to_dense())

    def _properties(self) -> frozenset[Property]:
        return frozenset(p for p in (PSD, SelfAdjoint) if not self.imaginary and self.A.isa(p))

    def _matvec_cost(self) -> Cost:
        return self.A.matvec_cost

    def _short(self) -> str:
        return f"{type(self).__name__}({'imaginary, ' if self.imaginary else ''}{self.A._short()})"
