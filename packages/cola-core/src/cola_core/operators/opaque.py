"""``no_dispatch(A)``: the same operator with its structure hidden, so that only general algorithms apply."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..properties import Property
from ..pytree import operator
from .base import LinearOperator

__all__ = ["NoDispatch", "no_dispatch"]


@operator
class NoDispatch(LinearOperator):
    """Behaves as ``A`` but matches no structural rule; properties stay."""

    A: LinearOperator

    def _shape(self) -> tuple[int, ...]:
        return self.A.shape

    def _matmat(self, X: Array) -> Array:
        return self.A._matmat(X)

    def _rmatmat(self, X: Array) -> Array:
        return self.A._rmatmat(X)

    def _adjoint(self) -> LinearOperator:
        return NoDispatch(self.A.H)

    def _transpose(self) -> LinearOperator:
        return NoDispatch(self.A.T)

    def _conj(self) -> LinearOperator:
        return NoDispatch(self.A.conj())

    def _to_dense(self) -> Array:
        return self.A._to_dense()

    def _properties(self) -> frozenset[Property]:
        return self.A.properties

    def _declared_down(self, prop: Property) -> LinearOperator:
        return self.replace(A=prop(self.A))  # type: ignore[no-any-return]

    def _matvec_cost(self) -> Cost:
        return self.A.matvec_cost

    def _dense_cost(self) -> Cost:
        return self.A.dense_cost

    def matmat_cost(self, k: float) -> Cost:
        return self.A.matmat_cost(k)


def no_dispatch(A: Any) -> LinearOperator:
    """Hide the structure of ``A`` (an operator or an array) from the rules."""
    from .algebra import as_operator

    return NoDispatch(as_operator(A))
