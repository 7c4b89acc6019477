"""``Concatenated``: operators below one another, or beside one another."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..errors import ShapeError
from ..properties import Property
from ..pytree import operator, static
from .base import LinearOperator
from .grid import Grid, concat_rows, grid_of, multiply, offsets
from .sum import broadcast_batches

__all__ = ["Concatenated"]


@operator
class Concatenated(LinearOperator):
    """``M1, M2, ...`` stacked along the rows (axis 0 or -2) or along the columns (axis 1 or -1).

    The sizes along the axis may differ. ``V.H @ V`` of operators below one another is the sum of theirs.

    >>> import numpy as np, cola_core as cola
    >>> V = cola.ops.Concatenated(np.ones((2, 3)), np.eye(3))
    >>> V.shape, (V.H @ V).isa(cola.PSD)
    ((5, 3), True)
    """

    Ms: tuple[LinearOperator, ...]
    axis: int = static()

    def __init__(self, *Ms: Any, axis: int = 0, declared: frozenset[Property] = frozenset()) -> None:
        from .algebra import as_operator

        if axis not in (0, 1, -1, -2):
            raise ShapeError(
                f"Concatenated: axis={axis} is neither the rows (0, -2) nor the columns (1, -1)."
            )
        object.__setattr__(self, "Ms", tuple(map(as_operator, Ms)))
        object.__setattr__(self, "axis", -2 if axis in (0, -2) else -1)
        object.__setattr__(self, "declared", declared)
        self.__post_init__()

    def _check(self) -> None:
        if not self.Ms:
            raise ShapeError("Concatenated needs at least one operator.")
        first, other = self.Ms[0], -3 - self.axis
        for M in self.Ms[1:]:
            if M.shape[other] != first.shape[other]:
                what = "columns" if other == -1 else "rows"
                raise ShapeError(
                    f"Concatenated(axis={self.axis}): {first!r} of shape {first.shape} and {M!r} of shape "
                    f"{M.shape} have different numbers of {what}."
                )
        self.backend  # noqa: B018 - raises if the parts mix libraries
        broadcast_batches("Concatenated", self.Ms)

    def _shape(self) -> tuple[int, ...]:
        batch = broadcast_batches("Concatenated", self.Ms)
        total = sum(M.shape[self.axis] for M in self.Ms)
        m, n = self.Ms[0].shape[-2:]
        return (*batch, total, n) if self.axis == -2 else (*batch, m, total)

    def _grid(self) -> Grid:
        m, n = self.Ms[0].shape[-2:]
        sizes = tuple(M.shape[self.axis] for M in self.Ms)
        if self.axis == -2:
            return sizes, (n,), {(i, 0): M for i, M in enumerate(self.Ms)}
        return (m,), sizes, {(0, j): M for j, M in enumerate(self.Ms)}

    def _apply_all(self, X: Array, adjoint: bool) -> Array:
        if (self.axis == -2) != adjoint:  # one operand, answers below one another
            pieces = [M._rmatmat(X) if adjoint else M._matmat(X) for M in self.Ms]
            return concat_rows((self.backend or _backend(X)).xp, pieces)
        at = offsets(tuple(M.shape[self.axis] for M in self.Ms))
        out: Any = None
        for i, M in enumerate(self.Ms):
            piece = X[..., at[i] : at[i + 1], :]
            piece = M._rmatmat(piece) if adjoint else M._matmat(piece)
            out = piece if out is None else out + piece
        return out

    def _matmat(self, X: Array) -> Array:
        return self._apply_all(X, adjoint=False)

    def _rmatmat(self, X: Array) -> Array:
        return self._apply_all(X, adjoint=True)

    def _to_dense(self) -> Array:
        be = self._concrete_backend()
        out = concat_rows(be.xp, [M._dense_like(self) for M in self.Ms], axis=self.axis)
        out = be.astype(out, self.dtype)
        return be.xp.broadcast_to(out, self.shape) if tuple(out.shape) != self.shape else out

    def _adjoint(self) -> LinearOperator:
        return Concatenated(*(M.H for M in self.Ms), axis=-3 - self.axis)

    def _transpose(self) -> LinearOperator:
        return Concatenated(*(M.T for M in self.Ms), axis=-3 - self.axis)

    def _conj(self) -> LinearOperator:
        return Concatenated(*(M.conj() for M in self.Ms), axis=self.axis)

    def _compose(self, other: LinearOperator) -> Any:
        from .block import from_grid

        theirs = grid_of(other)
        product = None if theirs is None else multiply(self._grid(), theirs)
        return NotImplemented if product is None else from_grid(*product)

    def _rcompose(self, other: LinearOperator) -> Any:
        from .block import from_grid

        theirs = grid_of(other)
        product = None if theirs is None else multiply(theirs, self._grid())
        return NotImplemented if product is None else from_grid(*product)

    def _plus(self, other: LinearOperator) -> Any:
        from .algebra import add

        if not isinstance(other, Concatenated) or other._grid()[:2] != self._grid()[:2]:
            return NotImplemented
        return Concatenated(*(add(a, b) for a, b in zip(self.Ms, other.Ms, strict=True)), axis=self.axis)

    def _matvec_cost(self) -> Cost:
        return self._columns_cost(1)

    def matmat_cost(self, k: float) -> Cost:
        """Every part."""
        return self._placed(self._columns_cost(k), k)

    def _columns_cost(self, k: float) -> Cost:
        size = self.itemsize * sum(self.shape[-2:]) * k
        total = Cost(0, size, size, 0, 1)
        for M in self.Ms:
            total = total + M.matmat_cost(k)
        return Cost(total.flops, total.bytes, total.memory, k, total.calls)


def _backend(X: Array) -> Any:
    from ..backends import backend_of_type

    return backend_of_type(type(X))
