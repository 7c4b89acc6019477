"""Products of a ``Stencil`` on a mesh: the first axis of the grid in blocks, halos from the neighbours; and
how ``shard`` recognises stencils (``Stencil``, ``Banded``, ``Tridiagonal``, small ``ConvolveND``).

Where the devices do not divide that axis the last blocks are filled up with zeros, which also stand for what
lies outside; a periodic grid then gets the few rows that wrap around by a sum over all devices.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from cola_core import ops
from cola_core.properties import SelfAdjoint

from .placing import here, hidden, is_explicit, permuted
from .rows import Place, fitted, over_rows
from .stencil import Stencil, of_convolution, weighted
from .table import Layout, sharder

__all__ = ["product_on_mesh", "spread_banded", "spread_convolution", "spread_stencil"]


def product_on_mesh(A: Stencil, X: Any) -> Any:
    """``A @ X`` of X (*batch, N, k)."""
    traced = any(isinstance(x, jax.core.Tracer) for x in (X, A.coefficients))
    return (_product if traced else _compiled)(A, X)


def _product(A: Stencil, X: Any) -> Any:
    place, n = Place(A.mesh, A.axes), A.shape[-1]
    dtype = jnp.result_type(A.dtype, X.dtype)
    if 0 in (n, *X.shape):
        return X.astype(dtype)
    p, rest = place.pieces, A.grid[1:]
    rows, width = -(-A.grid[0] // p), math.prod(rest)
    c, specs, shared = A.coefficients, (), A.coefficients
    if A.varies and A.grid[0] % p == 0:
        specs, shared = PartitionSpec(None, *place.rows), ()
        c = place.lay(c, specs)

    def body(x: Any, shared: Any, spread: Any) -> Any:
        if not A.varies:
            weights = shared
        elif specs:
            weights = spread
        else:
            weights = fitted(shared, 1, p * rows)
            weights = jax.lax.dynamic_slice_in_dim(weights, place.index() * rows, rows, 1)
        x = jnp.reshape(x, (rows, *rest, -1))
        x = with_halo(place, x, A.grid[0], *A.reach[0], periodic=A.boundary[0] == "periodic")
        for axis, (before, after) in enumerate(A.reach[1:], 1):
            fill = [(0, 0)] * x.ndim
            fill[axis] = (before, after)
            x = jnp.pad(x, fill, mode="wrap" if A.boundary[axis] == "periodic" else "constant")
        y = weighted(weights, A.offsets, A.reach, (rows, *rest), x)
        return jnp.reshape(y, (rows * width, -1))

    spread = c if specs else ()
    return over_rows(
        place, body, X, (n, n), (rows * width,) * 2, shared=shared, spread=spread, spread_specs=specs
    ).astype(dtype)


_compiled = jax.jit(_product)


def coefficients_laid(A: Stencil) -> Any:
    """The stencil with the layout of its coefficients stated, in programs that are traced."""
    c, place = A.coefficients, Place(A.mesh, A.axes)
    if not hidden(c, A.mesh, A.axes):
        return A
    spread = A.varies and A.grid[0] % place.pieces == 0 and A.grid[0] > 0
    return A.replace(
        coefficients=place.lay(c, PartitionSpec(None, *place.rows) if spread else PartitionSpec())
    )


def moved_on_mesh(A: Stencil, c: Any) -> Any:
    """Coefficients c_s of A (s, *grid), each moved by its offset around the ends."""
    axes = tuple(range(1, len(A.grid)))
    place, n = Place(A.mesh, A.axes), A.grid[0]
    if n % place.pieces or 0 in A.grid:
        return jnp.stack([jnp.roll(c[s], o, axis=(0, *axes)) for s, o in enumerate(A.offsets)])
    rows = n // place.pieces
    spec = PartitionSpec(None, *place.rows)

    def program(c: Any) -> Any:
        out = []
        for s, (first, *others) in enumerate(A.offsets):
            x = jnp.roll(c[s], others, axis=axes) if axes else c[s]
            if first:
                x = with_halo(place, x, n, max(first, 0), max(-first, 0), periodic=True)
                x = x[:rows] if first > 0 else x[x.shape[0] - rows :]
            out.append(x)
        return jnp.stack(out)

    names = frozenset(A.mesh.axis_names if is_explicit(A.mesh, A.axes) else A.axes)
    mapped = jax.shard_map(program, mesh=here(A.mesh), in_specs=spec, out_specs=spec, axis_names=names)
    return jax.jit(mapped)(place.lay(c, spec))


def with_halo(place: Place, x: Any, n: int, before: int, after: int, periodic: bool) -> Any:
    """Blocks (rows, ...) of n rows over all devices, with the rows that lie around (inside of a program)."""
    p, rows = place.pieces, x.shape[0]
    even = n == p * rows
    pieces = [x]
    for reach, way in ((before, 1), (after, -1)):
        found = []
        for step in range(1, -(-reach // rows) + 1):
            size = min(rows, reach - (step - 1) * rows)
            part = x[rows - size :] if way == 1 else x[:size]
            pairs = [(d, (d + way * step) % p) for d in range(p) if periodic or 0 <= d + way * step < p]
            if periodic and even:
                part = permuted(part, place.mesh, place.axes, pairs)
            else:
                pairs = [(s, d) for s, d in pairs if 0 <= s + way * step < p]
                part = permuted(part, place.mesh, place.axes, pairs) if pairs else jnp.zeros_like(part)
            found.append(part)
        pieces = found[::-1] + pieces if way == 1 else pieces + found
    y = jnp.concatenate(pieces) if len(pieces) > 1 else x
    if periodic and not even and (before or after):
        y = y + _around(place, x, n, before, after, y.shape)
    return y


def _around(place: Place, x: Any, n: int, before: int, after: int, shape: tuple[int, ...]) -> Any:
    """Of blocks of which the last are not full: the rows that wrap around, at their places, zeros between."""
    rows = x.shape[0]
    first = place.index() * rows
    ends = jnp.concatenate([jnp.arange(-before, 0), jnp.arange(n, n + after)])  # where they are wanted
    source = ends % n - first
    mine = (source >= 0) & (source < rows)
    values = jnp.where(jnp.reshape(mine, (-1, *[1] * (x.ndim - 1))), x[jnp.clip(source, 0, rows - 1)], 0)
    values = jax.lax.psum(values, place.axes)
    at = ends - first + before
    at = jnp.where((at >= 0) & (at < shape[0]), at, shape[0])  # beyond the end: dropped
    return jnp.zeros(shape, values.dtype).at[at].set(values, mode="drop")


# -- the table -----------------------------------------------------------------------------------------------
@sharder(Stencil)
def spread_stencil(A: Any, layout: Layout) -> Any:
    """Rows of the grid in blocks, and coefficients that vary with them."""
    c = A.coefficients
    if A.varies:
        c = layout.spread(c, "coefficients", axis=1)
    else:
        c = layout.keep(c, "coefficients", "one number for each offset")
    return A.replace(coefficients=c, mesh=layout.mesh, axes=layout.axes)


@sharder(ops.Banded, ops.Tridiagonal)
def spread_banded(A: Any, layout: Layout) -> Any:
    """A stencil on a line whose coefficients are the diagonals."""
    if not A.is_square or A.batch_shape or A.shape[-1] < 2:
        return layout.keep_all(A, "of band matrices only square ones, not of a batch, are stencils")
    n, (below, above) = A.shape[-1], A.widths
    offsets = tuple(range(-below, above + 1))
    if isinstance(A, ops.Banded):
        at = jnp.arange(n)
        inside = [(at + k >= 0) & (at + k < n) for k in offsets]  # the storage may hold anything elsewhere
        lines = [
            jnp.where(here, jnp.roll(A.bands[above - k], -k), 0)
            for k, here in zip(offsets, inside, strict=True)
        ]
    else:
        diagonals = (A.alpha, A.beta, A.upper)
        lines = [jnp.pad(d, (max(-k, 0), max(k, 0))) for k, d in zip((-1, 0, 1), diagonals, strict=True)]
    made = Stencil(
        jnp.stack(lines), tuple((k,) for k in offsets), (n,), declared=A.declared | (A.properties & SELF)
    )
    layout.remark(f"{type(A).__name__} became a Stencil of {len(offsets)} offsets")
    return spread_stencil(made, layout)


@sharder(ops.ConvolveND)
def spread_convolution(A: Any, layout: Layout) -> Any:
    """A stencil, where the filter is small."""
    made = of_convolution(A) if math.prod(A.filter_shape) <= MOST_TAPS else None
    if made is None:
        return layout.keep_all(A, "a product is a Fourier transform of the whole array")
    layout.remark(f"{type(A).__name__} became a Stencil of {len(made.offsets)} offsets")
    return spread_stencil(made, layout)


MOST_TAPS = 128  # beyond, transforms on one device are likely cheaper
SELF = frozenset({SelfAdjoint})
