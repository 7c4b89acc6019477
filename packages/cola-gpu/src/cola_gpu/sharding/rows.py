"""Vectors whose rows lie in blocks on the devices of a mesh, and programs (``shard_map``) that work on them.

A vector of n entries over p devices lies as JAX lays it out: n / p consecutive entries on each device where p
divides n, and whole on every device where it does not (JAX has no uneven layouts). An operator here wants
blocks of a length of its own (whole rows of a grid, say): ``over_rows`` hands them to it, cut from the
neighbours' where they do not lie like that, the last ones filled up with zeros, and lays its answer out in
JAX's way again. No device ever holds more than its block and a neighbour's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from cola_core.dispatch.session import aside

from .placing import here, is_explicit, laid, others, permuted, pieces

__all__ = ["Place", "exchange", "fitted", "over_rows"]


@dataclass(frozen=True)
class Place:
    """The axes of a mesh that rows are spread over."""

    mesh: Any
    axes: tuple[str, ...]

    @property
    def pieces(self) -> int:
        """The number of devices along those axes."""
        return pieces(self.mesh, self.axes)

    @property
    def rows(self) -> PartitionSpec:
        """The layout of an array whose rows are spread."""
        return PartitionSpec(self.axes if len(self.axes) > 1 else self.axes[0])

    def lay(self, x: Any, spec: PartitionSpec) -> Any:
        """x with that layout."""
        return laid(x, self.mesh, self.axes, spec)

    def index(self) -> Any:
        """The number of the block, inside of a program."""
        return jax.lax.axis_index(self.axes)


def over_rows(
    place: Place,
    body: Callable[..., Any],
    X: Any,
    rows: tuple[int, int],
    chunks: tuple[int, int],
    shared: Any = (),
    spread: Any = (),
    spread_specs: Any = (),
) -> Any:
    """``Y`` (*batch, rows[1], k) of X (*batch, rows[0], k), made block by block.

    body(block, shared, spread): the block (chunks[0], k') of device d holds the entries from
    ``d * chunks[0]`` on, zeros beyond the last; it returns (chunks[1], k'), of which those beyond rows[1]
    are thrown away. shared: arrays (a pytree) that every device has; spread: arrays that lie by
    ``spread_specs``. k' is k times the batch.
    """
    *batch, _, k = X.shape
    flat = X if not batch else jnp.reshape(jnp.moveaxis(X, -2, 0), (rows[0], -1))
    (n, m), (c, d), p = rows, chunks, place.pieces
    whole = n % p != 0

    def program(x: Any, shared: Any, spread: Any) -> Any:
        if whole:
            x = jnp.pad(x, ((0, p * c - n), (0, 0)))
            x = jax.lax.dynamic_slice_in_dim(x, place.index() * c, c, 0)
        else:
            x = regrid(place, x, n // p, c)
        with aside(always=True):  # factors that solve report numbers, which stay inside of the program
            y = body(x, shared, spread)
        return y if m % p else regrid(place, y, d, m // p)

    everywhere = PartitionSpec()
    columns: Any = None
    names = frozenset(place.axes)
    if is_explicit(place.mesh, place.axes):
        names = frozenset(place.mesh.axis_names)
        columns = others(flat, place.mesh, place.axes)[-1] or None  # as they are, over other axes
    split = PartitionSpec(*place.rows, columns)
    given = PartitionSpec(None, columns) if whole else split
    mapped = jax.shard_map(
        program,
        mesh=here(place.mesh),
        in_specs=(given, everywhere, spread_specs),
        out_specs=split,
        axis_names=names,
        check_vma=False,  # factors may be solves, whose programs do not say what varies
    )
    shared = jax.tree.map(lambda a: place.lay(a, everywhere), shared)
    Y = mapped(place.lay(flat, given), shared, spread)
    if m % p:
        Y = place.lay(Y, PartitionSpec(None, columns))[:m]
    if batch:
        Y = jnp.moveaxis(jnp.reshape(Y, (m, *batch, k)), 0, -2)
    return Y


def regrid(place: Place, x: Any, b: int, c: int) -> Any:
    """Blocks of c entries made from blocks of b (inside of a program): device d gets the entries from d * c
    on, zeros where there are none. Whole blocks travel, one step of neighbours at a time."""
    if b == c:
        return x
    p = place.pieces
    steps: dict[int, list[tuple[int, int]]] = {}
    for d in range(p):
        for s in range(d * c // b, min(((d + 1) * c - 1) // b, p - 1) + 1):
            steps.setdefault(s - d, []).append((s, d))
    d = place.index()
    out = None
    for step, pairs in sorted(steps.items()):
        got = permuted(x, place.mesh, place.axes, pairs) if step else x
        at = (d + step) * b - d * c  # where the block begins in ours: it may overhang at both ends
        inside = (at > -b) & (at < c) & (d + step >= 0) & (d + step < p)
        buffer = jnp.zeros((c + 2 * b, *x.shape[1:]), x.dtype)
        start = jnp.clip(at + b, 0, c + b)
        part = jax.lax.dynamic_update_slice_in_dim(buffer, jnp.where(inside, got, 0), start, 0)
        part = part[b : b + c]
        out = part if out is None else out + part
    return out


def fitted(x: Any, axis: int, size: int) -> Any:
    """x, cut or filled up with zeros to ``size`` entries along an axis."""
    if x.shape[axis] > size:
        return x[(slice(None),) * axis + (slice(0, size),)]
    if x.shape[axis] == size:
        return x
    fill = [(0, 0)] * x.ndim
    fill[axis] = (0, size - x.shape[axis])
    return jnp.pad(x, fill)


def exchange(place: Place, x: Any, split: int, join: int) -> Any:
    """The all-to-all: axis ``split`` is cut among the devices, whose pieces meet along axis ``join``."""
    return jax.lax.all_to_all(x, place.axes, split, join, tiled=True)
