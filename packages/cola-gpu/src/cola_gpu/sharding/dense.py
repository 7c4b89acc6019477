"""``RowBlockDense``: a stored matrix in blocks of rows, or of columns, over the devices of a mesh.

Each device multiplies its own block and no block of the matrix is ever sent. In row blocks a product gathers
the vector (one all-gather of n numbers) and its result lies in rows; in column blocks each device's part of
the vector is at hand and the results are summed into rows (one reduce-scatter of m numbers, or one
all-reduce where the number of blocks does not divide m). The adjoint of one is the other.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from cola_core import ops
from cola_core.ops import static

from .padded import Padded, up_to
from .placing import OnDevices, on_blocks, pieces, row_spec
from .table import Layout, sharder

__all__ = ["RowBlockDense"]


@ops.operator
class RowBlockDense(OnDevices, ops.Dense):
    """A stored matrix (*batch, m, n) of which each device of a mesh holds a block.

    mesh: ``jax.sharding.Mesh``; axes: names of the mesh axes that count the blocks; split: "rows" or
    "columns", whichever is spread; the number of blocks divides its length. Products take vectors that lie
    in rows (or anyhow; they are moved) and return such; vectors of lengths that cannot be spread lie whole.
    Product: ``2mn / p`` flops on each of p devices, n (m) numbers gathered (summed).
    """

    mesh: Any = static(default=None)
    axes: tuple[str, ...] = static(default=())
    split: str = static(default="rows")

    def _on_devices(self, X: Any, adjoint: bool) -> Any:
        array, p = self.array, pieces(self.mesh, self.axes)
        by_rows = (self.split == "rows") != adjoint
        rows, columns = array.shape[-2:][::-1] if adjoint else array.shape[-2:]
        batch = max(array.ndim, X.ndim)
        along = row_spec(array.ndim, self.axes, -2 if self.split == "rows" else -1)
        spread_in, spread_out = columns % p == 0, rows % p == 0
        lies = row_spec(X.ndim, self.axes) if spread_in else PartitionSpec(*[None] * X.ndim)
        out = row_spec(batch, self.axes) if spread_out else PartitionSpec(*[None] * batch)

        def local(a: Any, x: Any) -> Any:
            if adjoint:
                a = jnp.conj(jnp.swapaxes(a, -1, -2))
            if by_rows:
                if spread_in:
                    x = jax.lax.all_gather(x, self.axes, axis=x.ndim - 2, tiled=True)
                return a @ x
            y = a @ x
            if spread_out:
                return jax.lax.psum_scatter(y, self.axes, scatter_dimension=y.ndim - 2, tiled=True)
            return jax.lax.psum(y, self.axes)

        return on_blocks(local, self.mesh, self.axes, [(array, along), (X, lies)], out, vectors=1)

    def _sent(self, columns: float) -> float:
        p = pieces(self.mesh, self.axes)
        m, n = self.shape[-2:]
        if self.split == "rows":
            return self.itemsize * columns * (n * (p - 1) / p if n % p == 0 else 0.0)
        return self.itemsize * columns * m * (p - 1) / p * (1 if m % p == 0 else 2)

    def _axes(self) -> dict[str, int | None]:
        return {"array": -2 if self.split == "rows" else -1}

    def _unspread(self) -> Any:
        return ops.Dense(self.array, declared=self.declared)

    def _like(self, array: Any, flipped: bool = False) -> RowBlockDense:
        split = {"rows": "columns", "columns": "rows"}[self.split] if flipped else self.split
        made: RowBlockDense = self.replace(array=array, split=split, declared=frozenset())
        return made

    def _adjoint(self) -> Any:
        return self._like(self._concrete_backend().adjoint(self.array), flipped=True)

    def _transpose(self) -> Any:
        return self._like(self.array.swapaxes(-1, -2), flipped=True)

    def _conj(self) -> Any:
        return self._like(self._concrete_backend().conj(self.array))

    def _part(self, imaginary: bool) -> Any:
        return self._like((self.xp.imag if imaginary else self.xp.real)(self.array))

    def _plus(self, other: Any) -> Any:
        same = type(other) is RowBlockDense and other.shape == self.shape and other.split == self.split
        if same and other.mesh == self.mesh and other.axes == self.axes and other.backend is self.backend:
            return self._like(self.array + other.array)
        return NotImplemented


@sharder(ops.Dense)
def dense(A: Any, layout: Layout) -> Any:
    """Row blocks; column blocks where only these come out even; else rows of zeros are added."""
    m, n = A.shape[-2:]
    for split, axis, length in (("rows", -2, m), ("columns", -1, n)):
        if layout.divides(length):
            array = layout.spread(A.array, "array", axis)
            return RowBlockDense(array, layout.mesh, layout.axes, split, declared=A.declared)
    if max(m, n) < 2 * layout.pieces:
        return layout.keep_all(A, f"{m} x {n} entries are too few for {layout.pieces} devices")
    more = up_to(m, layout.pieces)
    array = jnp.pad(A.array, [(0, 0)] * (A.ndim - 2) + [(0, more - m), (0, 0)])
    with layout.inside("A"):
        array = layout.spread(array, "array", reason=f"{more - m} rows of zeros added")
    base = RowBlockDense(array, layout.mesh, layout.axes)
    return Padded(base, (m, n), layout.mesh, layout.axes, declared=A.declared)
