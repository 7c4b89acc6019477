"""Lazy ``Transpose`` and ``Adjoint`` of operators that have no structural one (user functions)."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..properties import PSD, Property, SelfAdjoint, Unitary
from ..pytree import operator
from .base import LinearOperator

__all__ = ["Adjoint", "Transpose"]


def _survivors(A: LinearOperator) -> frozenset[Property]:
    return frozenset(p for p in (PSD, SelfAdjoint, Unitary) if A.isa(p))


class _OfOne:
    """What is declared of a (conjugate) transpose holds of the operator."""

    def _declared_down(self: Any, prop: Property) -> Any:
        return self.replace(A=prop(self.A)) if prop in (PSD, SelfAdjoint, Unitary) else self


@operator
class Adjoint(_OfOne, LinearOperator):
    """``A.H`` through ``A``'s own adjoint product."""

    A: LinearOperator

    def _shape(self) -> tuple[int, ...]:
        *batch, m, n = self.A.shape
        return (*batch, n, m)

    def _matmat(self, X: Array) -> Array:
        return self.A._rmatmat(X)

    def _rmatmat(self, X: Array) -> Array:
        return self.A._matmat(X)

    def _adjoint(self) -> LinearOperator:
        return self.A

    def _transpose(self) -> LinearOperator:
        return self.A.conj()

    def _conj(self) -> LinearOperator:
        return Transpose(self.A)

    def _to_dense(self) -> Array:
        return self._concrete_backend().adjoint(self.A._to_dense())

    def _properties(self) -> frozenset[Property]:
        return _survivors(self.A)

    def _matvec_cost(self) -> Cost:
        return self.A.matvec_cost

    def _dense_cost(self) -> Cost:
        return self.A.dense_cost

    def matmat_cost(self, k: float) -> Cost:
        return self.A.matmat_cost(k)


@operator
class Transpose(_OfOne, LinearOperator):
    """``A.T`` of a complex operator: ``conj(A^H conj(X))``."""

    A: LinearOperator

    def _shape(self) -> tuple[int, ...]:
        *batch, m, n = self.A.shape
        return (*batch, n, m)

    def _matmat(self, X: Array) -> Array:
        conj: Any = self._concrete_backend().conj
        return conj(self.A._rmatmat(conj(X)))

    def _rmatmat(self, X: Array) -> Array:
        conj: Any = self._concrete_backend().conj
        return conj(self.A._matmat(conj(X)))

    def _adjoint(self) -> LinearOperator:
        return Transpose(Adjoint(self.A))  # the conjugate of A

    def _transpose(self) -> LinearOperator:
        return self.A

    def _conj(self) -> LinearOperator:
        return Adjoint(self.A)

    def _to_dense(self) -> Array:
        dense = self.A._to_dense()
        return dense.mT if hasattr(dense, "mT") else dense.swapaxes(-1, -2)

    def _properties(self) -> frozenset[Property]:
        return _survivors(self.A)

    def _matvec_cost(self) -> Cost:
        return self.A.matvec_cost

    def _dense_cost(self) -> Cost:
        return self.A.dense_cost

    def matmat_cost(self, k: float) -> Cost:
        return self.A.matmat_cost(k)
