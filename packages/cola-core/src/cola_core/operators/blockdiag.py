"""``BlockDiag``: blocks on the diagonal, each repeated as often as its multiplicity says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backends.base import Array
from ..cost import Cost
from ..errors import ShapeError
from ..properties import PSD, Property, SelfAdjoint, Stiefel, Unitary
from ..pytree import operator, static
from .axes import exchange
from .base import LinearOperator
from .grid import Grid
from .sum import broadcast_batches

__all__ = ["BlockDiag"]


@operator
class BlockDiag(LinearOperator):
    """``diag(M1, ..., M1, M2, ...)`` with Mi repeated ``multiplicities[i]`` times;
    repeats are applied in one product."""

    Ms: tuple[LinearOperator, ...]
    multiplicities: tuple[int, ...] = static()

    def __init__(
        self,
        *Ms: LinearOperator,
        multiplicities: Sequence[int] | None = None,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        object.__setattr__(self, "Ms", tuple(Ms))
        times = (1,) * len(Ms) if multiplicities is None else tuple(int(t) for t in multiplicities)
        object.__setattr__(self, "multiplicities", times)
        object.__setattr__(self, "declared", declared)
        self.__post_init__()

    def _check(self) -> None:
        if not self.Ms:
            raise ShapeError("BlockDiag needs at least one block.")
        if len(self.multiplicities) != len(self.Ms) or min(self.multiplicities) < 1:
            raise ShapeError(
                f"BlockDiag needs one multiplicity >= 1 per block: {len(self.Ms)} blocks, "
                f"{self.multiplicities}."
            )
        self.backend  # noqa: B018 - raises if the parts mix libraries
        broadcast_batches("BlockDiag", self.Ms)

    def _shape(self) -> tuple[int, ...]:
        m = sum(M.shape[-2] * t for M, t in zip(self.Ms, self.multiplicities, strict=True))
        n = sum(M.shape[-1] * t for M, t in zip(self.Ms, self.multiplicities, strict=True))
        return (*broadcast_batches("BlockDiag", self.Ms), m, n)

    def _grid(self) -> Grid:
        repeated = [M for M, t in zip(self.Ms, self.multiplicities, strict=True) for _ in range(t)]
        cells = {(i, i): M for i, M in enumerate(repeated)}
        return tuple(M.shape[-2] for M in repeated), tuple(M.shape[-1] for M in repeated), cells

    def with_blocks(self, *Ms: LinearOperator) -> BlockDiag:
        """The same arrangement of other blocks."""
        return BlockDiag(*Ms, multiplicities=self.multiplicities)

    def _blocks(self, X: Array, adjoint: bool) -> Array:
        if self.backend is not None:
            xp = self.xp
        else:
            from ..backends import backend_of_type

            xp = backend_of_type(type(X)).xp  # type: ignore[union-attr]
        k, batch = X.shape[-1], X.shape[:-2]
        pieces, at = [], 0
        for M, t in zip(self.Ms, self.multiplicities, strict=True):
            m, n = M.shape[-2:]
            if adjoint:
                m, n = n, m
            Y = X[..., at : at + n * t, :]
            at += n * t
            if t > 1:  # (t, n, k) -> (n, t * k): repeats become columns
                Y = xp.reshape(Y, (*batch, t, n, k))
                Y = xp.reshape(exchange(xp, Y), (*batch, n, t * k))
            Y = M._rmatmat(Y) if adjoint else M._matmat(Y)
            if t > 1:
                lead = Y.shape[:-2]
                Y = xp.reshape(exchange(xp, xp.reshape(Y, (*lead, m, t, k))), (*lead, m * t, k))
            pieces.append(Y)
        lead = broadcast_batches("BlockDiag", self.Ms)
        lengths = {p.shape[:-2] for p in pieces}
        if len(lengths) > 1:
            full = np.broadcast_shapes(*map(tuple, lengths))
            pieces = [xp.broadcast_to(p, (*full, *p.shape[-2:])) for p in pieces]
        dtypes = {p.dtype for p in pieces}
        if len(dtypes) > 1:
            be = self._concrete_backend()
            pieces = [be.astype(p, self.dtype) if not be.is_complex(p) else p for p in pieces]
        return xp.concat(pieces, axis=-2) if len(pieces) > 1 else pieces[0]

    def _matmat(self, X: Array) -> Array:
        return self._blocks(X, adjoint=False)

    def _rmatmat(self, X: Array) -> Array:
        return self._blocks(X, adjoint=True)

    def _adjoint(self) -> LinearOperator:
        return self.with_blocks(*(M.H for M in self.Ms))

    def _transpose(self) -> LinearOperator:
        return self.with_blocks(*(M.T for M in self.Ms))

    def _conj(self) -> LinearOperator:
        return self.with_blocks(*(M.conj() for M in self.Ms))

    def _compose(self, other: LinearOperator) -> object:
        if not isinstance(other, BlockDiag) or self.multiplicities != other.multiplicities:
            return NotImplemented
        if any(a.shape[-1] != b.shape[-2] for a, b in zip(self.Ms, other.Ms, strict=True)):
            return NotImplemented
        from .algebra import matmul

        keep = {PSD} if self._adjoint_pair(other) else set()
        blocks = (matmul(a, b) for a, b in zip(self.Ms, other.Ms, strict=True))
        return BlockDiag(*blocks, multiplicities=self.multiplicities, declared=frozenset(keep))

    def _plus(self, other: LinearOperator) -> object:
        """A multiple of the identity goes into every block, which keeps block rules applicable."""
        from .algebra import add
        from .diagonal import Identity, ScalarMul

        if not isinstance(other, (Identity, ScalarMul)) or any(not M.is_square for M in self.Ms):
            return NotImplemented
        blocks = [
            add(M, Identity(M.shape[-1]) if isinstance(other, Identity) else other.replace(n=M.shape[-1]))
            for M in self.Ms
        ]
        return self.with_blocks(*blocks)

    def _part(self, imaginary: bool) -> LinearOperator:
        return self.with_blocks(*((M.imag if imaginary else M.real) for M in self.Ms))

    def _properties(self) -> frozenset[Property]:
        return frozenset(p for p in (PSD, SelfAdjoint, Unitary, Stiefel) if all(M.isa(p) for M in self.Ms))

    def _declared_down(self, prop: Property) -> LinearOperator:
        # columns of different blocks share no row, so each block has what the whole has
        if any(not M.is_square for M in self.Ms) and (
            prop is not Stiefel or any(M.shape[-2] < M.shape[-1] for M in self.Ms)
        ):
            return self
        return self.replace(Ms=tuple(prop(M) for M in self.Ms))  # type: ignore[no-any-return]

    def _matvec_cost(self) -> Cost:
        return self._columns_cost(1)

    def matmat_cost(self, k: float) -> Cost:
        """Every block on its rows."""
        return self._placed(self._columns_cost(k), k)

    def _columns_cost(self, k: float) -> Cost:
        total = Cost(calls=0)
        for M, t in zip(self.Ms, self.multiplicities, strict=True):
            one = M.matmat_cost(k)
            total = total + Cost(one.flops * t, one.bytes * t, one.memory * t, 1, one.calls + 2)
        return Cost(total.flops, total.bytes, 2 * self.itemsize * max(self.shape[-2:]) * k, k, total.calls)
