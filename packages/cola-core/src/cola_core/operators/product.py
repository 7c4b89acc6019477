"""``Product``: A @ B @ ... of operators;
a number times an operator is a product with ``ScalarMul`` in front."""

from __future__ import annotations

import math
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..errors import ShapeError
from ..properties import PSD, Congruence, Property, SelfAdjoint, Stiefel, Unitary
from ..pytree import cached, operator
from .base import LinearOperator
from .chain import multiply, plan
from .diagonal import Identity, ScalarMul
from .sum import broadcast_batches

__all__ = ["Product", "split_scalar"]


@operator
class Product(LinearOperator):
    """``M1 @ M2 @ ...``; use ``@``, which also simplifies and recognises ``B.H @ B`` as PSD."""

    Ms: tuple[LinearOperator, ...]

    def __init__(self, *Ms: LinearOperator, declared: frozenset[Property] = frozenset()) -> None:
        object.__setattr__(self, "Ms", tuple(Ms))
        object.__setattr__(self, "declared", declared | _sandwich(self.Ms) | _congruence(self.Ms))
        self.__post_init__()

    def _check(self) -> None:
        if not self.Ms:
            raise ShapeError("Product needs at least one operator.")
        for A, B in zip(self.Ms, self.Ms[1:], strict=False):
            if A.shape[-1] != B.shape[-2]:
                raise ShapeError(
                    f"cannot multiply {A!r} of shape {A.shape} and {B!r} of shape {B.shape}: "
                    f"{A.shape[-1]} columns against {B.shape[-2]} rows."
                )
        self.backend  # noqa: B018 - raises if the parts mix libraries
        broadcast_batches("Product", self.Ms)

    def _shape(self) -> tuple[int, ...]:
        return (*broadcast_batches("Product", self.Ms), self.Ms[0].shape[-2], self.Ms[-1].shape[-1])

    @cached
    def _narrowest(self) -> int:
        """Fewer columns than this are best multiplied from right to left."""
        return min(M.shape[-2] for M in self.Ms)

    def _order(self, columns: int | None) -> Any:
        """The order of multiplication that costs least (see ``chain``); None: from right to left."""
        known = self.__dict__.setdefault("_orders", {})
        if columns not in known:
            known[columns] = None if self.batch_shape else plan(self.Ms, columns, self.itemsize)
        return known[columns]

    def _matmat(self, X: Array) -> Array:
        if X.ndim == 2 and X.shape[1] > self._narrowest:
            order = self._order(X.shape[1])
            if order is not None:
                return multiply(self.Ms, order, X, self)
        for M in reversed(self.Ms):
            X = M._matmat(X)
        return X

    def _rmatmat(self, X: Array) -> Array:
        for M in self.Ms:
            X = M._rmatmat(X)
        return X

    def _adjoint(self) -> LinearOperator:
        return Product(*(M.H for M in reversed(self.Ms)))

    def _transpose(self) -> LinearOperator:
        return Product(*(M.T for M in reversed(self.Ms)))

    def _conj(self) -> LinearOperator:
        return Product(*(M.conj() for M in self.Ms))

    def _to_dense(self) -> Array:
        order = self._order(None)
        if order is not None:
            return multiply(self.Ms, order, None, self)
        out = self.Ms[-1]._dense_like(self)
        for M in reversed(self.Ms[:-1]):
            out = M._matmat(out)
        return self.xp.broadcast_to(out, self.shape) if tuple(out.shape) != self.shape else out

    def _part(self, imaginary: bool) -> LinearOperator:
        s, rest = split_scalar(self)
        if s is None or not isinstance(s.c, (int, float)):
            return super()._part(imaginary)
        return s.c * (rest.imag if imaginary else rest.real)  # type: ignore[no-any-return]

    def _properties(self) -> frozenset[Property]:
        found = {p for p in (Unitary, Stiefel) if all(M.isa(p) for M in self.Ms)}
        scalars = [M for M in self.Ms if isinstance(M, (ScalarMul, Identity))]
        rest = [M for M in self.Ms if not isinstance(M, (ScalarMul, Identity))]
        if len(rest) <= 1:  # scalars commute with anything
            found |= {p for p in (PSD, SelfAdjoint) if all(M.isa(p) for M in scalars + rest)}
        return frozenset(found)

    def _plus(self, other: LinearOperator) -> object:
        """``B - A`` is written as ``B + (-1) A``: A may know a simpler form."""
        first = self.Ms[0]
        if len(self.Ms) == 2 and isinstance(first, ScalarMul) and isinstance(first.c, (int, float)):
            return self.Ms[1]._rminus(other) if first.c == -1 else NotImplemented
        return NotImplemented

    def _declared_down(self, prop: Property) -> LinearOperator:
        """Through a number in front, as far as its sign and size are known."""
        s = self.Ms[0]
        if not isinstance(s, ScalarMul) or len(self.Ms) != 2 or not isinstance(s.c, (int, float)) or not s.c:
            return self
        if prop is PSD:
            below: Property | None = PSD if s.c > 0 else SelfAdjoint
        elif prop is SelfAdjoint:
            below = SelfAdjoint
        else:
            below = prop if abs(s.c) == 1 else None
        if below is None:
            return self
        return self.replace(Ms=(s, below(self.Ms[1])))  # type: ignore[no-any-return]

    def _matvec_cost(self) -> Cost:
        return self.matmat_cost(1)

    def matmat_cost(self, k: float) -> Cost:
        """One factor after the other."""
        total = Cost(calls=0)
        for M in self.Ms:
            total = total + M.matmat_cost(k)
        return self._placed(Cost(total.flops, total.bytes, total.memory, k, total.calls), k)

    def _dense_cost(self) -> Cost:
        size = float(self.itemsize) * math.prod(self.shape)
        made = self.matmat_cost(self.shape[-1])
        return Cost(made.flops, made.bytes + 2 * size, size, made.matvecs, made.calls)


def are_adjoint(a: LinearOperator, b: LinearOperator) -> bool:
    """Whether one was made as the other's ``.H``; a self-adjoint operator is its own adjoint."""
    if a is b:
        return a.isa(SelfAdjoint)
    return a._adjoint_pair(b)


def _sandwich(Ms: tuple[LinearOperator, ...]) -> frozenset[Property]:
    """Facts of ``B.H @ S @ B``, seen when it is written: the adjoint remembers whose it is."""
    declared: set[Property] = set()
    scalars = [M for M in Ms if isinstance(M, ScalarMul)]
    Ms = tuple(M for M in Ms if not isinstance(M, ScalarMul))
    claim = PSD
    while len(Ms) >= 2:
        a, b = Ms[0], Ms[-1]
        if not are_adjoint(a, b):
            return frozenset()
        Ms = Ms[1:-1]
        declared.add(claim)
    if Ms and declared:
        declared = {p for p in (PSD, SelfAdjoint) if Ms[0].isa(p)}
    for s in scalars:
        declared = {p for p in (PSD, SelfAdjoint) if p in declared or PSD in declared} & {
            p for p in (PSD, SelfAdjoint) if s.isa(p)
        }
    return frozenset(declared)


def _congruence(Ms: tuple[LinearOperator, ...]) -> frozenset[Property]:
    """Whether the last factor is the first one's adjoint, which data alone could not tell later."""
    a, b = Ms[0] if Ms else None, Ms[-1] if Ms else None
    if len(Ms) < 2 or a is None or b is None or isinstance(a, ScalarMul):
        return frozenset()
    if a._adjoint_pair(b):
        return frozenset({Congruence})
    return frozenset()


def split_scalar(A: LinearOperator) -> tuple[ScalarMul | None, LinearOperator]:
    """``(c, B)`` with ``A = c B``; c is None where A carries no scalar."""
    if isinstance(A, Product) and len(A.Ms) > 1 and isinstance(A.Ms[0], ScalarMul):
        rest = A.Ms[1:]
        if len(rest) == 1:
            return A.Ms[0], rest[0]
        return A.Ms[0], Product(*rest)
    return None, A
