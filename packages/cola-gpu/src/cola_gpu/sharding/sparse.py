"""``RowBlockSparse``: the entries of each block of rows on one device of a mesh.

A product gathers the vector (one all-gather of n numbers) and needs nothing else; the adjoint sums into the
vector (one reduce-scatter of n numbers). Blocks hold equally many entries: those with fewer are filled up
with entries of value zero at empty positions of the block, so that it stays a ``Sparse`` with all that the
core knows of one. These zeros take no part in products and get no gradient from them.

The number of rows need not be even: blocks are of equal height, and the last ones reach below the matrix.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from cola_core import ops
from cola_core.ops import static

from .padded import up_to
from .placing import OnDevices, on_blocks, pieces, row_spec, whole
from .table import Layout, sharder

__all__ = ["RowBlockSparse"]


@ops.operator
class RowBlockSparse(OnDevices, ops.Sparse):
    """A ``Sparse`` matrix m x n of which each device of a mesh holds the entries of a block of rows.

    given: for each stored entry whether it was given, or added as a zero to make blocks equal. Made by
    ``shard(A, mesh)``. Product: ``2 nnz / p`` flops on each of p devices, n numbers gathered (summed).
    """

    given: Any = None
    mesh: Any = static(default=None)
    axes: tuple[str, ...] = static(default=())

    def _check(self) -> None:
        """The entries are in order and within the matrix: those of a ``Sparse`` that was checked."""

    def _on_devices(self, X: Any, adjoint: bool) -> Any:
        mesh, axes, p = self.mesh, self.axes, pieces(self.mesh, self.axes)
        m, n = self.size
        height, length = up_to(m, p) // p, up_to(m if adjoint else n, p)
        spread = X.shape[-2] % p == 0
        if not spread:
            X = whole(X, mesh, axes)
        lies = row_spec(X.ndim, axes) if spread else PartitionSpec(*[None] * X.ndim)
        entries = row_spec(self.data.ndim, axes, -1)
        places = row_spec(1, axes, -1)

        def block() -> Any:
            """Which row block this device has."""
            at = 0
            for name in axes:
                at = at * mesh.shape[name] + jax.lax.axis_index(name)
            return at

        def local(data: Any, rows: Any, cols: Any, given: Any, x: Any) -> Any:
            data = jnp.where(given, data, 0)
            rows = rows - block() * height
            if adjoint:
                if not spread:  # this device's rows of a whole vector
                    x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, length - x.shape[-2]), (0, 0)])
                    x = jax.lax.dynamic_slice_in_dim(x, block() * height, height, x.ndim - 2)
                terms = jnp.conj(data)[..., None] * x[..., rows, :]
                y = _summed(cols, terms, up_to(n, p))
                if n % p:
                    return jax.lax.psum(y, axes)
                return jax.lax.psum_scatter(y, axes, scatter_dimension=y.ndim - 2, tiled=True)
            if spread:
                x = jax.lax.all_gather(x, axes, axis=x.ndim - 2, tiled=True)
            return _summed(rows, data[..., None] * x[..., cols, :], height)

        ndim = max(self.data.ndim + 1, X.ndim)
        over = n % p == 0 if adjoint else True
        out = row_spec(ndim, axes) if over else PartitionSpec(*[None] * ndim)
        operands = [(self.data, entries), (self.rows, places), (self.cols, places), (self.given, places)]
        Y = on_blocks(local, mesh, axes, [*operands, (X, lies)], out, vectors=4)
        if (n if adjoint else m) % p:
            Y = whole(Y, mesh, axes)[..., : n if adjoint else m, :]
        return Y

    def _sent(self, columns: float) -> float:
        (m, n), p = self.size, pieces(self.mesh, self.axes)
        rows = (n if n % p == 0 else 0) + (m if m % p else 0)
        return self.itemsize * columns * rows * (p - 1) / p

    def _axes(self) -> dict[str, int | None]:
        return {"data": -1}

    def _unspread(self) -> Any:
        kept = np.flatnonzero(np.asarray(self.given))  # without the entries that were added
        data, rows, cols = (np.asarray(x)[..., kept] for x in (self.data, self.rows, self.cols))
        return ops.Sparse(jnp.asarray(data), rows, cols, self.size, declared=self.declared)

    def _to_dense(self) -> Any:
        return ops.LinearOperator._to_dense(self)

    # the core would sort the entries by columns on the host, or form new patterns there
    _adjoint = ops.LinearOperator._adjoint
    _transpose = ops.LinearOperator._transpose

    def _plus(self, other: Any) -> Any:
        return NotImplemented

    def _compose(self, other: Any) -> Any:
        return NotImplemented

    def _rcompose(self, other: Any) -> Any:
        return NotImplemented


def _summed(rows: Any, terms: Any, m: int) -> Any:
    out = jnp.zeros((*terms.shape[:-2], m, terms.shape[-1]), terms.dtype)
    return out.at[..., rows, :].add(terms)


def _empty_places(taken: Any, first: int, rows: int, n: int, count: int) -> Any:
    """``count`` positions (row * n + column) of the block of rows that no entry has."""
    free = np.setdiff1d(np.arange(first * n, first * n + min(rows * n, taken.size + count)), taken)
    return free[:count]


@sharder(ops.Sparse)
def sparse(A: Any, layout: Layout) -> Any:
    """Entries by blocks of rows, each filled up to as many as the fullest has."""
    (m, n), p = A.size, layout.pieces
    if (m < 2 * p and m % p) or not A.nnz:
        return layout.keep_all(A, f"{m} rows with {A.nnz} entries are too few for {p} devices")
    height = up_to(m, p) // p
    data = np.asarray(A.data)
    rows, cols = (np.asarray(x, np.int64) for x in (A.rows, A.cols))  # row * n + column is beyond int32
    starts = np.searchsorted(rows, height * np.arange(p + 1))
    most = int(np.max(np.diff(starts)))
    reason = ""
    places, index = [], []
    for b in range(p):
        mine = np.arange(starts[b], starts[b + 1])
        position = rows[mine] * n + cols[mine]
        here = max(min(height, m - b * height), 0)
        more = _empty_places(position, b * height, here, n, most - mine.size)
        if mine.size + more.size < most:
            # a block of fewer positions than the fullest has entries: no rows of its own are left to use
            return layout.keep_all(A, "its rows are too unevenly filled to be cut into equal blocks")
        order = np.argsort(np.concatenate([position, more]), kind="stable")
        places.append(np.concatenate([position, more])[order])
        index.append(np.concatenate([mine, np.full(more.size, -1)])[order])
    where, source = np.concatenate(places), np.concatenate(index)
    added = int(np.sum(source < 0))
    if added:
        reason = f"{added} zeros added to {A.nnz} entries"
    filled = np.where(source < 0, 0, data[..., np.maximum(source, 0)]).astype(data.dtype)
    fields = {"data": filled, "rows": where // n, "cols": where % n, "given": source >= 0}
    index_type = A.rows.dtype
    laid = {
        name: layout.spread(
            jnp.asarray(x, index_type if name in ("rows", "cols") else x.dtype), name, -1, reason
        )
        for name, x in fields.items()
    }
    static = {"size": (m, n), "mesh": layout.mesh, "axes": layout.axes, "declared": A.declared}
    made: RowBlockSparse = ops.unflatten(
        RowBlockSparse,
        tuple(static[name] for name in RowBlockSparse._static_fields),
        tuple(laid[name] for name in RowBlockSparse._child_fields),
    )
    return made
