"""``RingKernel``: a kernel matrix of which each device keeps its block of row points.

The column points and the right-hand sides travel round: at step s every device receives the block of the
device s places further on (one collective-permute each), multiplies its rows with it, block by block as
``Kernel`` does, and lets it go. Each device holds its blocks and one that is passing through, never all
points, and never a matrix. For derivatives the blocks travel again instead of being kept. Where the columns
are few and lie whole (inducing points), rows need the whole vector (one all-gather), and the adjoint sums
into it (one all-reduce).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from cola_core import PSD, ops
from cola_core.ops import static
from cola_core.properties import SelfAdjoint

from .padded import Padded, beginning, up_to
from .placing import OnDevices, on_blocks, permuted, pieces, row_spec, taken, whole
from .table import Layout, sharder

__all__ = ["RingKernel"]


@ops.operator
class RingKernel(OnDevices, ops.Kernel):
    """``Kernel`` with its points in blocks over the devices of a mesh.

    spread: which of the points lie in blocks, "x1", "x2" or "both" (also where x2 is x1); the number of
    blocks divides their number. Made by ``shard(A, mesh)``. Product: ``(3 d + 22) n m / p`` flops on each of
    p devices; m (d + k) numbers pass through each device.
    """

    mesh: Any = static(default=None)
    axes: tuple[str, ...] = static(default=())
    spread: str = static(default="both")

    # a dataclass would write a constructor for the fields; it is Kernel's that checks
    __init__ = ops.Kernel.__init__

    @classmethod
    def of(cls, A: Any, mesh: Any, axes: tuple[str, ...], spread: str) -> RingKernel:
        """The kernel ``A``, whose points lie as ``spread`` says."""
        children = [A.__dict__[name] for name in ops.Kernel._child_fields]
        known = {name: A.__dict__[name] for name in ops.Kernel._static_fields}
        known |= {"mesh": mesh, "axes": axes, "spread": spread}
        made: RingKernel = ops.unflatten(cls, tuple(known[name] for name in cls._static_fields), children)
        return made

    def _plain(self, x1: Any, x2: Any, params: Any) -> Any:
        """The kernel of some blocks of points on one device."""
        known = {**self.__dict__, "x1": x1, "x2": x2, "params": params, "declared": frozenset()}
        return ops.unflatten(
            ops.Kernel,
            tuple(known[name] for name in ops.Kernel._static_fields),
            [known[name] for name in ops.Kernel._child_fields],
        )

    def _axes(self) -> dict[str, int | None]:
        goes = {"x1": self.spread != "x2", "x2": self.spread != "x1"}
        return {name: -2 if spread else None for name, spread in goes.items()}

    def _unspread(self) -> Any:
        return self._plain(self.x1, self.x2, self.params).replace(declared=self.declared)

    def _sent(self, columns: float) -> float:
        p, (m, n) = pieces(self.mesh, self.axes), self.shape[-2:]
        resting = "x1" if self.swapped else "x2"
        if self.spread == "both":  # the points and the vectors of the columns pass through
            return self.itemsize * n * (self.x1.shape[-1] + columns) * (p - 1) / p
        summed = m if self.spread == resting else 0  # columns that are spread give summands of the answer
        return self.itemsize * columns * 2 * summed * (p - 1) / p

    def _take(self, rows: Any, cols: Any, same: bool = False) -> Any:
        """Some rows and columns: a ``Kernel`` of the points they need, which lie whole on every device."""
        if self.backend is None or self.backend.name != "jax" or (rows is None and cols is None):
            return super()._take(rows, cols, same)
        a = taken(self._rows, rows, self.mesh, self.axes)
        b = taken(self._columns, cols, self.mesh, self.axes)
        alone = same and self.x2 is None
        first, second = (b, a) if self.swapped else (a, b)
        keep = frozenset(p for p in (PSD, SelfAdjoint) if same and self.isa(p))
        return self._plain(first, None if alone else second, self.params).replace(declared=keep)

    def diagonal(self, k: int = 0) -> Any:
        """The k-th diagonal; but for the main one of a square matrix, of points that every device has."""
        m, n = self.shape[-2:]
        if self.backend is None or self.backend.name != "jax" or (k == 0 and m == n):
            return super().diagonal(k)
        x1 = whole(self.x1, self.mesh, self.axes)
        x2 = None if self.x2 is None else whole(self.x2, self.mesh, self.axes)
        return self._plain(x1, x2, self.params).diagonal(k)

    def _to_dense(self) -> Any:
        if self.backend is None or self.backend.name != "jax" or self.batch_shape:
            return super()._to_dense()
        return _matrix(self)

    def _entries(self) -> Any:
        """The matrix in row blocks: the column points whole on every device (one all-gather)."""
        rows, columns = self._rows, self._columns
        rows_spread = self.spread in ("both", "x2" if self.swapped else "x1")

        def local(a: Any, b: Any, *params: Any) -> Any:
            first, second = (b, a) if self.swapped else (a, b)
            return self._plain(first, second, params)._to_dense()

        lies = row_spec(2, self.axes) if rows_spread else PartitionSpec(None, None)
        operands = [(rows, lies), (whole(columns, self.mesh, self.axes), PartitionSpec(None, None))]
        operands += [(w, PartitionSpec(*[None] * w.ndim)) for w in self.params]
        return on_blocks(local, self.mesh, self.axes, operands, lies)

    def _on_devices(self, X: Any, adjoint: bool) -> Any:
        A: Any = self._flipped(conjugated=self._is_complex()) if adjoint else self
        mesh, axes = self.mesh, self.axes
        rows, columns = A._rows, A._columns
        names = {"x1": (True, False), "x2": (False, True), "both": (True, True)}[self.spread]
        rows_spread, columns_spread = names[::-1] if A.swapped else names

        def lies(x: Any, spread: bool) -> PartitionSpec:
            return row_spec(x.ndim, axes) if spread else PartitionSpec(*[None] * x.ndim)

        def block(a: Any, b: Any, x: Any, *params: Any) -> Any:
            first, second = (b, a) if A.swapped else (a, b)
            return A._plain(first, second, params)._matmat(x)

        def local(a: Any, b: Any, x: Any, *params: Any) -> Any:
            if rows_spread and columns_spread:
                return _round(block, mesh, axes, a, b, x, params)
            if rows_spread:
                return block(a, b, x, *params)
            return jax.lax.psum(block(a, b, x, *params), axes)

        ndim = max(len(A.batch_shape) + 2, X.ndim)
        operands = [(rows, lies(rows, rows_spread)), (columns, lies(columns, columns_spread))]
        operands += [(X, lies(X, columns_spread))]
        operands += [(w, PartitionSpec(*[None] * w.ndim)) for w in self.params]
        out = row_spec(ndim, axes) if rows_spread else PartitionSpec(*[None] * ndim)
        return on_blocks(local, mesh, axes, operands, out, vectors=2)


@ops.operator
class PaddedKernel(Padded):
    """A ``Padded`` kernel, of which some rows and columns are evaluated from the points they need."""

    def _unspread(self) -> Any:
        K: Any = self.A._in_one_place()
        n1, n2 = self.size[::-1] if K.swapped else self.size
        x2 = None if K.x2 is None else beginning(K.x2, n2)
        return K.replace(x1=beginning(K.x1, n1), x2=x2, declared=self.declared)

    def _take(self, rows: Any, cols: Any, same: bool = False) -> Any:
        xp = self.xp
        rows = xp.arange(self.size[0]) if rows is None else rows
        cols = xp.arange(self.size[1]) if cols is None else cols
        return self.A._take(rows, cols, same)


@jax.jit
def _matrix(A: Any) -> Any:
    return A._entries()


def _round(block: Any, mesh: Any, axes: Any, a: Any, b: Any, x: Any, params: Any) -> Any:
    """The sum over all devices of the products with their columns, which come by one after the other.

    Every step fetches from home, so that its derivative can do so again and nothing is kept for it; the
    barrier keeps a step from fetching before the one before it is done with its own. The points take no part
    in it: what passes it together with x is linear in x to JAX, which then cannot transpose the product."""

    p = pieces(mesh, axes)

    @partial(jax.checkpoint, static_argnums=(0,))
    def step(s: int, a: Any, b: Any, x: Any, params: Any) -> Any:
        if s:
            moves = [((i + s) % p, i) for i in range(p)]
            b, x = permuted((b, x), mesh, axes, moves)
        return block(a, b, x, *params)

    total = step(0, a, b, x, params)
    for s in range(1, p):
        total, x = jax.lax.optimization_barrier((total, x))
        total = total + step(s, a, b, x, params)
    return total


@sharder(ops.Kernel)
def kernel(A: Any, layout: Layout) -> Any:
    """Points in blocks; few points, or a number that does not come out even, lie whole where there are
    others to spread, else points are added."""
    p, n1 = layout.pieces, A.x1.shape[-2]
    n2 = n1 if A.x2 is None else A.x2.shape[-2]
    known = tuple(
        layout.keep(w, f"params[{i}]", "parameters of the function") for i, w in enumerate(A.params)
    )
    if max(n1, n2) < 2 * p and not (layout.divides(n1) or layout.divides(n2)):
        return layout.keep_all(A, f"{n1} x {n2} pairs of points are too few for {p} devices")
    even = layout.divides(n1), layout.divides(n2)
    if A.x2 is None or all(even):
        spread = "both"
    else:
        first = even[0] if any(even) else n1 >= n2
        spread = "x1" if first else "x2"
    goes = {"x1": spread != "x2", "x2": spread != "x1"}
    ends = {"x1": n1, "x2": n2}
    changes: dict[str, Any] = {"params": known}
    inner = "" if all(layout.divides(ends[k]) for k in goes if goes[k]) else "A"
    with layout.inside(inner):
        for name, length in ends.items():
            x = A.__dict__[name]
            if x is None:
                continue
            if not goes[name]:
                changes[name] = layout.keep(x, name, f"{p} devices do not divide its length {length}")
                continue
            more = up_to(length, p) - length
            if more:
                fill = [(0, 0)] * (x.ndim - 2) + [(0, more), (0, 0)]
                x, ends[name] = jnp.pad(x, fill, mode="edge"), length + more
            changes[name] = layout.spread(x, name, reason=f"{more} points added" if more else "")
        for i, _ in enumerate(known):
            layout.reasons[layout.name(f"params[{i}]")] = "parameters of the function"
    made = RingKernel.of(A.replace(**changes), layout.mesh, layout.axes, spread)
    if not inner:
        return made
    size = A.shape[-2:]
    return PaddedKernel(
        made.replace(declared=frozenset()), size, layout.mesh, layout.axes, declared=A.declared
    )
