"""``BlockStack``: a block diagonal matrix whose blocks are one batched operator.

Equal blocks, several on each device: a product reshapes the vector to one row for each block, which keeps
what every device has where it is, so that nothing is sent. Solves, determinants, traces and diagonals are
those of the batch (the rules at the end, which the plugin registers). Imports no JAX; works on any library.
"""

from __future__ import annotations

import math
from typing import Any

from cola_core import PSD, SLQ, ops
from cola_core.cost import Cost
from cola_core.errors import ShapeError
from cola_core.linalg import diag, slogdet, solve, trace
from cola_core.plugins import RuleBook
from cola_core.properties import SelfAdjoint, Unitary

__all__ = ["RULES", "BlockStack"]

RULES = RuleBook()


@ops.operator
class BlockStack(ops.LinearOperator):
    """``diag(M[0], ..., M[t - 1])`` for a batched operator M of shape (t, m, n)."""

    blocks: ops.LinearOperator

    def _check(self) -> None:
        if len(self.blocks.shape) != 3:
            raise ShapeError(f"BlockStack needs blocks of shape (t, m, n), got {self.blocks.shape}.")

    def of(self, blocks: Any) -> Any:
        """The same arrangement of other blocks."""
        return BlockStack(blocks)

    def _shape(self) -> tuple[int, ...]:
        t, m, n = self.blocks.shape
        return (t * m, t * n)

    def _times_rows(self, X: Any, adjoint: bool) -> Any:
        Y = self.rows(X, adjoint)
        return self.joined(self.blocks._rmatmat(Y) if adjoint else self.blocks._matmat(Y))

    def rows(self, X: Any, adjoint: bool = False) -> Any:
        """The rows of X for each block: (*batch, t, n, k)."""
        t, m, n = self.blocks.shape
        return self._concrete_backend().reshape(X, (*X.shape[:-2], t, m if adjoint else n, X.shape[-1]))

    def joined(self, Y: Any) -> Any:
        """The rows of all blocks one below the other."""
        return self._concrete_backend().reshape(Y, (*Y.shape[:-3], Y.shape[-3] * Y.shape[-2], Y.shape[-1]))

    def _matmat(self, X: Any) -> Any:
        return self._times_rows(X, adjoint=False)

    def _rmatmat(self, X: Any) -> Any:
        return self._times_rows(X, adjoint=True)

    def _adjoint(self) -> Any:
        return self.of(self.blocks.H)

    def _transpose(self) -> Any:
        return self.of(self.blocks.T)

    def _conj(self) -> Any:
        return self.of(self.blocks.conj())

    def _part(self, imaginary: bool) -> Any:
        return self.of(self.blocks.imag if imaginary else self.blocks.real)

    def _times(self, c: Any) -> Any:
        return self.of(c * self.blocks)

    def _plus(self, other: Any) -> Any:
        """A multiple of the identity goes into every block."""
        n = self.blocks.shape[-1]
        if self.blocks.is_square and type(other) in (ops.Identity, ops.ScalarMul):
            if type(other) is ops.Identity:
                return self.of(self.blocks + ops.Identity(n))
            if not getattr(other.c, "shape", ()):
                return self.of(self.blocks + other.replace(n=n))
        return NotImplemented

    def _properties(self) -> frozenset[Any]:
        return frozenset(p for p in (PSD, SelfAdjoint, Unitary) if self.blocks.isa(p))

    def _matvec_cost(self) -> Cost:
        return self.blocks.matvec_cost

    def matmat_cost(self, k: float) -> Cost:
        """That of the batch."""
        return self.blocks.matmat_cost(k)


def _square(A: Any, *rest: Any, alg: Any) -> bool | str:
    return True if A.blocks.is_square else "the blocks are rectangular"


def _determined(A: Any, *rest: Any, alg: Any) -> bool | str:
    return "SLQ takes no batches: it is asked of the whole" if isinstance(alg, SLQ) else _square(A, alg=alg)


def _main(A: Any, k: int, *, alg: Any) -> bool | str:
    return _square(A, alg=alg) if k == 0 else f"only the main diagonal is that of the blocks, not k={k}"


@RULES.rule(
    solve,
    (BlockStack,),
    id="solve/blockstack",
    source="definition",
    when=_square,
    complexity="that of the blocks",
)
def solve_blocks(A: Any, b: Any, *, alg: Any) -> Any:
    return A.joined(solve(A.blocks, A.rows(b), alg))


@RULES.rule(
    slogdet,
    (BlockStack,),
    id="slogdet/blockstack",
    source="definition",
    when=_determined,
    complexity="that of the blocks",
)
def slogdet_blocks(A: Any, *, alg: Any) -> Any:
    sign, value = slogdet(A.blocks, alg)
    return A.xp.prod(sign, axis=-1), A.xp.sum(value, axis=-1)


@RULES.rule(
    trace,
    (BlockStack,),
    id="trace/blockstack",
    source="definition",
    when=_square,
    complexity="that of the blocks",
)
def trace_blocks(A: Any, *, alg: Any) -> Any:
    return A.xp.sum(trace(A.blocks, alg), axis=-1)


@RULES.rule(
    diag,
    (BlockStack,),
    id="diag/blockstack",
    source="definition",
    when=_main,
    complexity="that of the blocks",
)
def diag_blocks(A: Any, k: int, *, alg: Any) -> Any:
    d = diag(A.blocks, 0, alg)
    return A._concrete_backend().reshape(d, (math.prod(d.shape),))
