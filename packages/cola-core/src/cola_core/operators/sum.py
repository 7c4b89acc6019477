"""``Sum``: A + B + ... of operators of one shape."""

from __future__ import annotations

import math

from ..backends.base import Array
from ..cost import Cost
from ..errors import ShapeError
from ..properties import PSD, Property, SelfAdjoint
from ..pytree import operator
from .base import LinearOperator
from .diagonal import Diagonal, ScalarMul

__all__ = ["Sum", "broadcast_batches"]


def broadcast_batches(what: str, operators: tuple[LinearOperator, ...]) -> tuple[int, ...]:
    """The common batch shape of several operators, by NumPy's broadcasting rules."""
    batch: tuple[int, ...] = ()
    for A in operators:
        mine = A.shape[:-2]
        if mine == batch or not mine:
            continue
        long, short = (mine, batch) if len(mine) >= len(batch) else (batch, mine)
        pad = (1,) * (len(long) - len(short)) + short
        if any(a != b and a != 1 and b != 1 for a, b in zip(long, pad, strict=True)):
            raise ShapeError(f"{what}: batch shapes {[A.batch_shape for A in operators]} do not broadcast.")
        batch = tuple(b if a == 1 else a for a, b in zip(long, pad, strict=True))
    return batch


@operator
class Sum(LinearOperator):
    """``M1 + M2 + ...``; use ``+``, which also simplifies."""

    Ms: tuple[LinearOperator, ...]

    def __init__(self, *Ms: LinearOperator, declared: frozenset[Property] = frozenset()) -> None:
        object.__setattr__(self, "Ms", tuple(Ms))
        object.__setattr__(self, "declared", declared)
        self.__post_init__()

    def _check(self) -> None:
        if not self.Ms:
            raise ShapeError("Sum needs at least one operator.")
        first = self.Ms[0].shape[-2:]
        for M in self.Ms[1:]:
            if M.shape[-2:] != first:
                raise ShapeError(
                    f"cannot add {self.Ms[0]!r} of shape {self.Ms[0].shape} and {M!r} of shape {M.shape}."
                )
        self.backend  # noqa: B018 - raises if the parts mix libraries
        broadcast_batches("Sum", self.Ms)

    def _shape(self) -> tuple[int, ...]:
        return broadcast_batches("Sum", self.Ms) + self.Ms[0].shape[-2:]

    def _matmat(self, X: Array) -> Array:
        out = self.Ms[0]._matmat(X)
        for M in self.Ms[1:]:
            out = out + M._matmat(X)
        return out

    def _rmatmat(self, X: Array) -> Array:
        out = self.Ms[0]._rmatmat(X)
        for M in self.Ms[1:]:
            out = out + M._rmatmat(X)
        return out

    def _adjoint(self) -> LinearOperator:
        return Sum(*(M.H for M in self.Ms))

    def _transpose(self) -> LinearOperator:
        return Sum(*(M.T for M in self.Ms))

    def _conj(self) -> LinearOperator:
        return Sum(*(M.conj() for M in self.Ms))

    def _part(self, imaginary: bool) -> LinearOperator:
        return Sum(*((M.imag if imaginary else M.real) for M in self.Ms))

    def _to_dense(self) -> Array:
        be = self._concrete_backend()
        rest: list[LinearOperator] = list(self.Ms)
        light: list[LinearOperator] = []
        if be.name == "torch" and not self.batch_shape:  # others fuse, or save nothing
            light = [M for M in self.Ms if isinstance(M, (Diagonal, ScalarMul))]
            rest = [M for M in self.Ms if not isinstance(M, (Diagonal, ScalarMul))]
            if not rest:
                rest, light = light[:1], light[1:]
        out = rest[0]._dense_like(self)
        for M in rest[1:]:
            out = out + M._dense_like(self)
        for M in light:  # without a matrix of its own
            d = M.diag if isinstance(M, Diagonal) else M.value  # type: ignore[attr-defined]
            out = be.add_diagonal(out, be.astype(be.asarray(d, device=self.device), self.dtype))
        return self.xp.broadcast_to(out, self.shape) if tuple(out.shape) != self.shape else out

    def _properties(self) -> frozenset[Property]:
        return frozenset(p for p in (PSD, SelfAdjoint) if all(M.isa(p) for M in self.Ms))

    def _matvec_cost(self) -> Cost:
        return self.matmat_cost(1)

    def matmat_cost(self, k: float) -> Cost:
        """The terms' products, and their sum."""
        m, total = self.shape[-2], Cost(calls=0)
        for M in self.Ms:
            total = total + M.matmat_cost(k) + Cost(m * k, 3 * self.itemsize * m * k)
        made = Cost(total.flops, total.bytes, total.memory + self.itemsize * m * k, k, total.calls)
        return self._placed(made, k)

    def _dense_cost(self) -> Cost:
        size = float(self.itemsize) * math.prod(self.shape)
        total = Cost(0, 3 * size * (len(self.Ms) - 1), 2 * size)
        for M in self.Ms:
            total = total + M.dense_cost
        return total
