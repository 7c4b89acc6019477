"""Leaves that store their entries: ``Dense`` and ``Triangular``."""

from __future__ import annotations

from typing import Any, ClassVar

from ..backends import backend_of_type, get_backend
from ..backends.base import Array
from ..backends.pieces import pieces
from ..cost import Cost
from ..errors import NonSquareError, ShapeError
from ..pytree import operator, static
from .base import LinearOperator
from .communication import all_gather, all_reduce

__all__ = ["Dense", "Triangular"]


def as_matrix_entries(x: Any, what: str, ndim: int = 2) -> Array:
    """An array usable as entries (integers become floats) of at least ``ndim`` axes;
    lists become NumPy arrays."""
    be = backend_of_type(type(x)) or get_backend("numpy")
    array = be.as_value(x)
    if array.ndim < ndim:
        raise ShapeError(f"{what} needs an array of at least {ndim} axes, got shape {tuple(array.shape)}.")
    return array


@operator
class Dense(LinearOperator):
    """A stored matrix of shape (*batch, m, n). Product: ``2mn`` flops."""

    array: Array

    _aliases: ClassVar[dict[str, str]] = {"A": "array"}

    def _check(self) -> None:
        object.__setattr__(self, "array", as_matrix_entries(self.array, "Dense"))

    def _shape(self) -> tuple[int, ...]:
        return self.array.shape

    def _matmat(self, X: Array) -> Array:
        return self._concrete_backend().matmul(self.array, X)

    def _matvec(self, x: Array) -> Array:
        return self._concrete_backend().matmul(self.array, x)

    def _rmatmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        return be.matmul(be.adjoint(self.array), X)

    def _adjoint(self) -> LinearOperator:
        return Dense(self._concrete_backend().adjoint(self.array))

    def _transpose(self) -> LinearOperator:
        return Dense(self.array.mT if hasattr(self.array, "mT") else self.array.swapaxes(-1, -2))

    def _conj(self) -> LinearOperator:
        return Dense(self._concrete_backend().conj(self.array))

    def _part(self, imaginary: bool) -> LinearOperator:
        return Dense((self.xp.imag if imaginary else self.xp.real)(self.array))

    def _to_dense(self) -> Array:
        return self.array

    def _dense_cost(self) -> Cost:
        return Cost(calls=0)

    def _sent(self, columns: float) -> float:
        # rows that are spread need all of the vectors, columns that are spread give summands of the answer
        m, n = self.shape[-2:]
        rows, cols = pieces(self.array)[-2:]
        return self.itemsize * columns * (all_gather(n, rows) + all_reduce(m, cols))

    def _plus(self, other: LinearOperator) -> Any:
        if type(other) is Dense and other.shape == self.shape and other.backend is self.backend:
            return Dense(self.array + other.array)
        return NotImplemented


@operator
class Triangular(LinearOperator):
    """A triangular matrix of shape (*batch, n, n), of which only one half is read.

    lower: which half; unit: the diagonal is taken as ones, whatever is stored there. Solve: ``n^2`` flops.
    """

    array: Array
    lower: bool = static(default=True)
    unit: bool = static(default=False)

    _aliases: ClassVar[dict[str, str]] = {"A": "array"}

    def _check(self) -> None:
        array = as_matrix_entries(self.array, "Triangular")
        if array.shape[-1] != array.shape[-2]:
            raise NonSquareError(f"Triangular needs a square array, got {tuple(array.shape)}.")
        object.__setattr__(self, "array", array)

    def _shape(self) -> tuple[int, ...]:
        return self.array.shape

    def _to_dense(self) -> Array:
        xp = self.xp
        half = xp.tril if self.lower else xp.triu
        if self.unit:
            n = self.shape[-1]
            return half(self.array, k=-1 if self.lower else 1) + self._concrete_backend().eye(
                n, self.dtype, self.device
            )
        return half(self.array)

    def _matmat(self, X: Array) -> Array:
        return self._concrete_backend().matmul(self._to_dense(), X)

    def _rmatmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        return be.matmul(be.adjoint(self._to_dense()), X)

    def _adjoint(self) -> LinearOperator:
        return Triangular(self._concrete_backend().adjoint(self.array), not self.lower, self.unit)

    def _transpose(self) -> LinearOperator:
        return Triangular(
            self.array.mT if hasattr(self.array, "mT") else self.array.swapaxes(-1, -2),
            not self.lower,
            self.unit,
        )

    def _conj(self) -> LinearOperator:
        return Triangular(self._concrete_backend().conj(self.array), self.lower, self.unit)

    def _part(self, imaginary: bool) -> LinearOperator:
        if imaginary and self.unit:
            return super()._part(imaginary)
        part = self.xp.imag if imaginary else self.xp.real
        return Triangular(part(self.array), self.lower, self.unit)

    def _matvec_cost(self) -> Cost:
        n = self.shape[-1]
        return Cost(n * n, self.itemsize * n * n / 2, self.itemsize * 2 * n, 1)
