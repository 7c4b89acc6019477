"""Block diagonal operators over the devices of a mesh.

Many equal stored blocks become a ``BlockStack`` with some blocks on each device: nothing is sent. Other
blocks are laid one by one, each over all devices, in a ``SpreadBlockDiag``: a product gathers the vector
once, each block sends what it sends, and the rows of the result are taken from the gathered results.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from cola_core import PSD, ops
from cola_core.ops import static
from cola_core.properties import SelfAdjoint, Unitary

from .placing import OnDevices, hidden, laid, on_blocks, pieces, row_spec, whole
from .stack import BlockStack
from .table import Layout, sharder

__all__ = ["BlockStack", "SpreadBlockDiag", "SpreadBlockStack"]


@ops.operator
class SpreadBlockStack(OnDevices, BlockStack):
    """A ``BlockStack`` of stored blocks, some on each device of a mesh; products send nothing."""

    mesh: Any = static(default=None)
    axes: tuple[str, ...] = static(default=())

    def _sent(self, columns: float) -> float:
        return 0.0

    def _on_devices(self, X: Any, adjoint: bool) -> Any:
        array = self.blocks.__dict__["array"]

        def local(a: Any, x: Any) -> Any:
            a = jnp.conj(jnp.swapaxes(a, -1, -2)) if adjoint else a
            x = jnp.reshape(x, (*x.shape[:-2], a.shape[0], a.shape[-1], x.shape[-1]))
            y = a @ x
            return jnp.reshape(y, (*y.shape[:-3], y.shape[-3] * y.shape[-2], y.shape[-1]))

        rows = row_spec(X.ndim, self.axes)
        operands = [(array, row_spec(3, self.axes, 0)), (X, rows)]
        return on_blocks(local, self.mesh, self.axes, operands, rows, vectors=1)

    def _with_layout(self) -> Any:
        array = self.blocks.__dict__["array"]
        if not hidden(array, self.mesh, self.axes):
            return self
        array = laid(array, self.mesh, self.axes, row_spec(3, self.axes, 0))
        return self.replace(blocks=self.blocks.replace(array=array))

    def _unspread(self) -> Any:
        return BlockStack(self.blocks, declared=self.declared)

    def of(self, blocks: Any) -> Any:
        """The same arrangement of other blocks; stored ones stay on their devices."""
        if type(blocks) is not ops.Dense:
            return BlockStack(blocks)
        made: SpreadBlockStack = self.replace(blocks=blocks, declared=frozenset())
        return made


@ops.operator
class SpreadBlockDiag(OnDevices, ops.BlockDiag):
    """A ``BlockDiag`` of which every block is spread over all devices of a mesh.

    lies: the layout of every array, so that its gradient gets it too; empty where it is not known.
    """

    mesh: Any = static(default=None)
    axes: tuple[str, ...] = static(default=())
    lies: tuple[Any, ...] = static(default=())

    def _on_devices(self, X: Any, adjoint: bool) -> Any:
        Ms = self.Ms
        if self.lies:
            specs = iter(self.lies)
            Ms = ops.map_leaves(lambda x: self._stated(x, next(specs)), Ms)
        plain = ops.BlockDiag.with_blocks(self, *(_Whole(M, self.mesh, self.axes) for M in Ms))
        p = pieces(self.mesh, self.axes)
        if X.shape[-2] % p == 0:  # so that its gradient, too, lies in rows
            X = laid(X, self.mesh, self.axes, row_spec(X.ndim, self.axes))
        X = whole(X, self.mesh, self.axes)
        Y = plain._rmatmat(X) if adjoint else plain._matmat(X)
        if Y.shape[-2] % p:
            return Y
        return laid(Y, self.mesh, self.axes, row_spec(Y.ndim, self.axes))

    def _with_layout(self) -> Any:
        if not self.lies or not any(hidden(x, self.mesh, self.axes) for x in ops.tree_leaves(self.Ms)):
            return self
        specs = iter(self.lies)
        return self.replace(Ms=ops.map_leaves(lambda x: self._stated(x, next(specs)), self.Ms))

    def _unspread(self) -> Any:
        return ops.BlockDiag(*self.Ms, multiplicities=self.multiplicities, declared=self.declared)

    def _stated(self, x: Any, spec: Any) -> Any:
        return x if spec is None else laid(x, self.mesh, self.axes, spec)

    def _sent(self, columns: float) -> float:
        p, (m, n) = pieces(self.mesh, self.axes), self.shape[-2:]
        both = self.itemsize * columns * (m + n) * (p - 1) / p
        return both + sum(M._sent(columns * t) for M, t in zip(self.Ms, self.multiplicities, strict=True))

    def with_blocks(self, *Ms: Any) -> Any:
        """The same arrangement of other blocks."""
        made: SpreadBlockDiag = self.replace(Ms=tuple(Ms), lies=(), declared=frozenset())
        return made


@ops.operator
class _Whole(ops.LinearOperator):
    """A block whose results are gathered onto every device."""

    A: ops.LinearOperator
    mesh: Any = static(default=None)
    axes: tuple[str, ...] = static(default=())

    def _shape(self) -> tuple[int, ...]:
        return self.A.shape

    def _matmat(self, X: Any) -> Any:
        return whole(self.A._matmat(X), self.mesh, self.axes)

    def _rmatmat(self, X: Any) -> Any:
        return whole(self.A._rmatmat(X), self.mesh, self.axes)


@sharder(ops.BlockDiag)
def block_diag(A: Any, layout: Layout) -> Any:
    """Equal stored blocks, as many as devices or a multiple, in a stack; others one by one."""
    first = A.Ms[0]
    equal = all(type(M) is ops.Dense and M.shape == first.shape and M.dtype == first.dtype for M in A.Ms)
    if equal and first.ndim == 2 and set(A.multiplicities) == {1} and layout.divides(len(A.Ms)):
        shared = frozenset(p for p in (PSD, SelfAdjoint, Unitary) if all(M.isa(p) for M in A.Ms))
        array = jnp.stack([M.array for M in A.Ms])
        with layout.inside("blocks"):
            array = layout.spread(array, "array", 0, f"{len(A.Ms)} equal blocks in one array")
        stored = ops.Dense(array, declared=shared)
        return SpreadBlockStack(stored, layout.mesh, layout.axes, declared=A.declared)
    if equal and set(A.multiplicities) == {1}:
        layout.remark(f"{layout.pieces} devices do not divide the number of blocks, {len(A.Ms)}")
    Ms = layout.parts(A.Ms, "Ms")
    static = {
        "declared": A.declared,
        "multiplicities": A.multiplicities,
        "mesh": layout.mesh,
        "axes": layout.axes,
        "lies": tuple(x.sharding.spec if getattr(x, "ndim", 0) else None for x in ops.tree_leaves(Ms)),
    }
    made: SpreadBlockDiag = ops.unflatten(
        SpreadBlockDiag, tuple(static[name] for name in SpreadBlockDiag._static_fields), (Ms,)
    )
    return made


@sharder(BlockStack)
def stack(A: Any, layout: Layout) -> Any:
    """Some blocks on each device, where the number of devices divides theirs."""
    t = A.blocks.shape[0]
    if type(A.blocks) is not ops.Dense or not layout.divides(t):
        reason = f"{layout.pieces} devices do not divide the number of blocks, {t}"
        return layout.keep_all(A, reason if type(A.blocks) is ops.Dense else "its blocks are not stored")
    with layout.inside("blocks"):
        stored = A.blocks.replace(array=layout.spread(A.blocks.array, "array", 0))
    return SpreadBlockStack(stored, layout.mesh, layout.axes, declared=A.declared)
