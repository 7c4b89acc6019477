"""``Stencil``: weighted sums over neighbours on a grid, on one device or with the grid's rows over many.

    y[i] = sum_s c_s[i] x[i + o_s]

for a few offsets o_s of grid points i: finite differences, band matrices, small convolutions. On devices the
first axis of the grid lies in blocks, and a product needs of its neighbours only the rows within reach of an
offset, a halo that one step in each direction of ``ppermute`` brings (more steps where a block is shorter
than the halo). Nothing else is sent.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from cola_core.cost import Cost
from cola_core.errors import ShapeError, UnknownNameError
from cola_core.ops import Identity, LinearOperator, ScalarMul, operator, static

__all__ = ["Stencil"]

Array = Any
BOUNDARIES = ("zero", "periodic")


@operator
class Stencil(LinearOperator):
    """``y[i] = sum_s c_s[i] x[i + o_s]`` of arrays of shape ``grid``, flattened in C order.

    coefficients: (s,), constant over the grid, or (s, *grid). offsets: s tuples of d integers, one for each
    axis (integers for one axis); each is met once. grid: (n1, ..., nd). boundary: what lies outside,
    "zero" or "periodic", one for all axes or one for each. NumPy, PyTorch or JAX arrays, real or complex.
    Product: ``2 s N`` flops, N grid points. Adjoint and transpose are stencils again. mesh, axes: given by
    ``shard``, which spreads the first axis of the grid. Raises ShapeError where shapes do not fit,
    UnknownNameError for another boundary.

    >>> import numpy as np
    >>> from cola_gpu.sharding import Stencil
    >>> laplacian = Stencil(np.array([-1.0, 2.0, -1.0]), (-1, 0, 1), 4)
    >>> laplacian @ np.array([0.0, 1.0, 0.0, 0.0])
    array([-1.,  2., -1.,  0.])
    """

    coefficients: Array
    offsets: tuple[tuple[int, ...], ...] = static()
    grid: tuple[int, ...] = static()
    boundary: Any = static(default="zero")
    mesh: Any = static(default=None)
    axes: tuple[str, ...] = static(default=())

    def _check(self) -> None:
        grid = (self.grid,) if isinstance(self.grid, (int, np.integer)) else self.grid
        grid = tuple(int(n) for n in grid)
        offsets = tuple(
            (int(o),) if isinstance(o, (int, np.integer)) else tuple(int(i) for i in o) for o in self.offsets
        )
        kinds = (self.boundary,) * len(grid) if isinstance(self.boundary, str) else tuple(self.boundary)
        for kind in kinds:
            if kind not in BOUNDARIES:
                raise UnknownNameError(f"Stencil(boundary={kind!r}): choose from {', '.join(BOUNDARIES)}.")
        if not grid or min(grid) < 0 or len(kinds) != len(grid):
            raise ShapeError(
                f"Stencil: grid {grid} and boundary {kinds}: sizes from 0, and one boundary an axis."
            )
        if any(len(o) != len(grid) for o in offsets) or len(set(offsets)) != len(offsets) or not offsets:
            raise ShapeError(
                f"Stencil: offsets {offsets} on a grid {grid}: one number for each axis, each offset once."
            )
        c = self.coefficients
        c = c if hasattr(c, "shape") else np.asarray(c, dtype=float)
        if tuple(c.shape) not in ((len(offsets),), (len(offsets), *grid)):
            raise ShapeError(
                f"Stencil: coefficients of shape {tuple(c.shape)} for {len(offsets)} offsets on the grid "
                f"{grid}: they are ({len(offsets)},), or {(len(offsets), *grid)} where they vary."
            )
        axes = (self.axes,) if isinstance(self.axes, str) else tuple(self.axes)
        values = dict(coefficients=c, offsets=offsets, grid=grid, boundary=kinds, axes=axes)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _shape(self) -> tuple[int, ...]:
        return (math.prod(self.grid),) * 2

    def _sent(self, columns: float) -> float:
        if self.mesh is None or math.prod([self.mesh.shape[name] for name in self.axes]) < 2:
            return 0.0
        return float(self.itemsize * columns * sum(self.reach[0]) * math.prod(self.grid[1:]))

    def _with_layout(self) -> LinearOperator:
        if self.mesh is None:
            return self
        from .halo import coefficients_laid

        return coefficients_laid(self)

    def _rows_laid(self, X: Array) -> Array:
        if self.mesh is None:
            return X
        from .placing import rows_laid

        return rows_laid(X, self.mesh, self.axes)

    def _in_one_place(self) -> LinearOperator:
        return self if self.mesh is None else self.replace(mesh=None, axes=())  # type: ignore[no-any-return]

    @property
    def varies(self) -> bool:
        """Whether the coefficients depend on the grid point."""
        return len(self.coefficients.shape) > 1

    @property
    def reach(self) -> tuple[tuple[int, int], ...]:
        """For each axis how many points before and after a point its neighbours lie."""
        columns = zip(*self.offsets, strict=True)
        return tuple((max(0, -min(column)), max(0, max(column))) for column in columns)

    # -- products --------------------------------------------------------------------------------------------
    def _matmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        if self.mesh is not None and be.name == "jax":
            from .halo import product_on_mesh

            return product_on_mesh(self, X)
        *batch, N, k = X.shape
        xp = be.xp
        if not N * k * math.prod(batch):
            return X * be.astype(xp.ones((), device=be.device(X)), xp.result_type(self.dtype, X.dtype))
        x = be.reshape(X, (*batch, *self.grid, k))
        for axis, (before, after) in enumerate(self.reach):
            x = padded(be, x, axis - len(self.grid) - 1, before, after, self.boundary[axis] == "periodic")
        y = weighted(self.coefficients, self.offsets, self.reach, self.grid, x)
        return be.reshape(y, (*batch, N, k))

    def _rmatmat(self, X: Array) -> Array:
        return self._adjoint()._matmat(X)

    def _reversed(self, c: Array) -> LinearOperator:
        """The stencil of the transpose, of the same coefficients: c_s[i] is met at i + o_s, from -o_s."""
        if self.varies and self.mesh is not None and self._concrete_backend().name == "jax":
            from .halo import moved_on_mesh

            c = moved_on_mesh(self, c)
        elif self.varies:
            xp = self.xp
            c = xp.stack([moved(xp, c[s], o) for s, o in enumerate(self.offsets)])
        offsets = tuple(tuple(-i for i in o) for o in self.offsets)
        return self.replace(coefficients=c, offsets=offsets, declared=frozenset())  # type: ignore[no-any-return]

    def _transpose(self) -> LinearOperator:
        return self._reversed(self.coefficients)

    def _adjoint(self) -> LinearOperator:
        return self._reversed(self._concrete_backend().conj(self.coefficients))

    def _conj(self) -> LinearOperator:
        c = self._concrete_backend().conj(self.coefficients)
        return self.replace(coefficients=c, declared=frozenset())  # type: ignore[no-any-return]

    def _times(self, c: Any) -> Any:
        if getattr(c, "shape", ()):
            return NotImplemented
        return self.replace(coefficients=c * self.coefficients, declared=frozenset())

    def _plus(self, other: LinearOperator) -> Any:
        """Multiples of the identity are taken up by the offset zero."""

        zero = (0,) * len(self.grid)
        if not isinstance(other, (Identity, ScalarMul)) or zero not in self.offsets:
            return NotImplemented
        c: Any = 1 if isinstance(other, Identity) else other.c
        if getattr(c, "shape", ()):
            return NotImplemented
        be = self._concrete_backend()
        at = be.xp.arange(len(self.offsets), device=self.device) == self.offsets.index(zero)
        one = be.astype(at, self.coefficients.dtype)
        one = be.reshape(one, (-1, *[1] * (len(self.coefficients.shape) - 1)))
        return self.replace(coefficients=self.coefficients + c * one, declared=frozenset())

    def _matvec_cost(self) -> Cost:
        N, s = self.shape[-1], len(self.offsets)
        flops, traffic, sent = 2.0 * s * N, self.itemsize * N * (2.0 * s if self.varies else s + 2.0), 0.0
        if self.mesh is not None:
            p = math.prod([self.mesh.shape[name] for name in self.axes])
            flops, traffic = flops / p, traffic / p
            sent = float(self.itemsize * sum(self.reach[0]) * N) / max(self.grid[0], 1)
        return Cost(flops, traffic, 2.0 * self.itemsize * N, 1, 2 * s, moved=sent)


def weighted(c: Array, offsets: Any, reach: Any, grid: tuple[int, ...], x: Array) -> Array:
    """The sum over offsets of windows of x (*batch, *padded grid, k), for points of ``grid``."""
    y = None
    for s, o in enumerate(offsets):
        window = tuple(
            slice(before + i, before + i + n) for i, (before, _), n in zip(o, reach, grid, strict=True)
        )
        weight = c[s][..., None] if len(c.shape) > 1 else c[s]
        term = weight * x[(..., *window, slice(None))]
        y = term if y is None else y + term
    return y


def padded(be: Any, x: Array, axis: int, before: int, after: int, periodic: bool) -> Array:
    """x with that many more entries on both sides of an axis: zeros, or those of the other end."""
    n = x.shape[axis]
    pieces = [x]
    for size, at in ((before, 0), (after, 1)):
        if not size:
            continue
        if periodic:  # a reach beyond the grid goes around more than once
            index = (np.arange(size) - size) % n if at == 0 else np.arange(size) % n
            take = be.xp.asarray(index, device=be.device(x))
            more = be.xp.take(x, take, axis=axis)
        else:
            shape = list(x.shape)
            shape[axis] = size
            more = be.zeros(tuple(shape), x.dtype, be.device(x))
        pieces.insert(0 if at == 0 else len(pieces), more)
    return be.xp.concat(pieces, axis=axis) if len(pieces) > 1 else x


def moved(xp: Any, c: Array, offset: tuple[int, ...]) -> Array:
    """c (*grid) with entry i at i + offset, around the ends (where one with zeros outside never looks)."""
    return xp.roll(c, offset, axis=tuple(range(len(offset)))) if c.shape and any(offset) else c


def of_convolution(A: Any) -> Stencil | None:
    """The stencil of a ``ConvolveND`` of one filter whose result is of the array's shape, or None."""
    if A.mode not in ("same", "circular") or A.batch_shape:
        return None
    taps = list(product(*map(range, A.filter_shape)))
    offsets = tuple(tuple(s - i for s, i in zip(A.starts, at, strict=True)) for at in taps)
    boundary = "periodic" if A.mode == "circular" else "zero"
    flat = A._concrete_backend().reshape(A.filter, (len(taps),))
    return Stencil(flat, offsets, A.array_shape, boundary, declared=A.declared)
