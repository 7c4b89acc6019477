"""Inputs on grids: all combinations of the places of several axes, or some of those combinations.

An axis is a vector of ``n_i`` numbers, an ``(n_i, d_i)`` array of points (so that a set of scattered points
crossed with a list of tasks is a grid too), or :class:`Regular`, equally spaced numbers.  That the spacing
is equal is declared and never read off the values, so that a plan is the same before and inside a compiled
function; :meth:`Regular.of` checks it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import DTypeError, ShapeError

from ._struct import Struct, set_fields, static, struct
from .arrays import Array, backend_for
from .checks import finite_numbers


@struct
class Regular(Struct):
    """The numbers ``start + step * (0, 1, ..., count - 1)``: an axis on which stationary kernels have
    Toeplitz matrices.

    start, step: numbers or 0-d arrays, whose library and dtype are those of the axis.

    >>> import numpy as np, cola_gp as gp
    >>> gp.Regular(0.0, 0.5, 3).coordinates()
    array([0. , 0.5, 1. ])
    >>> gp.Regular.of(np.linspace(1, 2, 5)).count
    5
    """

    start: Array
    step: Array
    count: int = static()

    def __init__(self, start: Any, step: Any, count: int):
        if int(count) != count or count < 1:
            raise ShapeError(f"Regular needs a positive number of coordinates, not count={count!r}.")
        start, step = finite_numbers("start", start, 0), finite_numbers("step", step, 0)
        backend_of(start, step)  # raises if they belong to different libraries
        backend = backend_for(step)
        if count > 1 and backend.is_concrete(step) and float(step) == 0.0:
            raise ValueError("Regular needs a step other than zero.")
        set_fields(self, start=start, step=step, count=int(count))

    @classmethod
    def of(cls, values: Any, tol: float | None = None) -> Regular:
        """The axis of the equally spaced ``values``; ValueError if they are not.

        tol: largest deviation, relative to the span; the default allows the rounding of the values.
        """
        values = finite_numbers("axis", values, 1)
        n = int(values.shape[0])
        if n < 2:
            return cls(values[0], backend_for(values).xp.ones_like(values[0]), n)
        backend = backend_for(values)
        x = np.asarray(backend.to_numpy(values), dtype=float)
        span = float(x[-1] - x[0])
        eps = float(backend.xp.finfo(values.dtype).eps)
        allowed = 4 * eps * float(np.max(np.abs(x))) if tol is None else tol * abs(span)
        error = float(np.max(np.abs(x - (x[0] + span / (n - 1) * np.arange(n)))))
        if span == 0.0 or error > allowed:
            raise ValueError(
                f"the {n} values are not equally spaced: they deviate by up to {error:.3g} over a span of "
                f"{abs(span):.3g}. Use them as an ordinary axis, or pass tol= if that may be ignored."
            )
        return cls(values[0], (values[-1] - values[0]) / (n - 1), n)

    @property
    def shape(self) -> tuple[int]:
        return (self.count,)

    @property
    def dtype(self) -> Any:
        return self.start.dtype

    def coordinates(self) -> Array:
        """The numbers, ``(count,)``."""
        backend = backend_for(self.start)
        steps = backend.asarray(
            np.arange(self.count), dtype=self.start.dtype, device=backend.device(self.start)
        )
        return self.start + self.step * steps


def _axis(value: Any, number: int) -> Any:
    name = f"grid axis {number}"
    if isinstance(value, Regular):
        return value
    ndim = getattr(value, "ndim", None)
    value = finite_numbers(name, value, 2 if ndim == 2 else 1)
    if 0 in value.shape:
        raise ShapeError(f"{name} is empty: shape {tuple(value.shape)}.")
    return value


@struct
class Grid(Struct):
    """All combinations of the places on ``axes``: point ``(i, j, ...)`` joins the coordinates of
    ``axes[0][i]``, ``axes[1][j]``, ...

    An axis is a vector, an ``(n_i, d_i)`` array or :class:`Regular`.  Points are numbered in C order, the
    last axis fastest, as in the Kronecker product of the axes' matrices.

    >>> import numpy as np, cola_gp as gp
    >>> X, tasks = np.random.default_rng(0).normal(size=(10, 2)), np.arange(3.0)
    >>> gp.Grid(X, tasks).shape, gp.Grid(X, tasks).sizes, gp.Grid(X, tasks).widths
    ((30, 3), (10, 3), (2, 1))
    """

    axes: tuple[Any, ...]

    def __init__(self, *given: Any, axes: tuple[Any, ...] = ()):
        chosen = tuple(given) or tuple(axes)
        if not chosen:
            raise ShapeError("Grid needs at least one axis.")
        set_fields(self, axes=tuple(_axis(axis, i) for i, axis in enumerate(chosen)))
        # raises if the axes belong to different libraries
        backend_of(*(axis.start if isinstance(axis, Regular) else axis for axis in self.axes))
        dtypes = [str(axis.dtype) for axis in self.axes]
        if len(set(dtypes)) > 1:
            raise DTypeError(f"the axes of a grid have dtypes {', '.join(dtypes)}; convert them to one.")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of places per axis."""
        return tuple(int(axis.shape[0]) for axis in self.axes)

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of input dimensions per axis."""
        return tuple(1 if len(axis.shape) == 1 else int(axis.shape[1]) for axis in self.axes)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(n, d)`` of the array of points."""
        return math.prod(self.sizes), sum(self.widths)

    @property
    def dtype(self) -> Any:
        """Data type of the coordinates of the first axis."""
        return self.axes[0].dtype

    @property
    def columns(self) -> tuple[slice, ...]:
        """For every axis, its input dimensions."""
        ends = np.cumsum(self.widths)
        return tuple(slice(int(end - width), int(end)) for end, width in zip(ends, self.widths, strict=True))

    def axis_points(self) -> tuple[Array, ...]:
        """The places on every axis as ``(n_i, d_i)`` arrays."""
        plain = [axis.coordinates() if isinstance(axis, Regular) else axis for axis in self.axes]
        return tuple(axis[:, None] if axis.ndim == 1 else axis for axis in plain)

    def points(self) -> Array:
        """The points as an ``(n, d)`` array."""
        places = self.axis_points()
        xp = backend_for(places[0]).xp
        parts = []
        for i, P in enumerate(places):
            shape = [1] * len(places) + [P.shape[1]]
            shape[i] = P.shape[0]
            spread = xp.broadcast_to(xp.reshape(P, tuple(shape)), (*self.sizes, P.shape[1]))
            parts.append(xp.reshape(spread, (self.shape[0], P.shape[1])))
        return xp.concat(parts, axis=1)

    def affine(self, shift: Array, scale: Array) -> Grid:
        """The grid of the points ``(x - shift) / scale``; shift, scale: ``(d,)``."""

        def moved(axis: Any, part: slice) -> Any:
            if isinstance(axis, Regular):
                where = part.start
                return Regular(
                    (axis.start - shift[where]) / scale[where], axis.step / scale[where], axis.count
                )
            if axis.ndim == 1:
                return (axis - shift[part.start]) / scale[part.start]
            return (axis - shift[part]) / scale[part]

        return Grid(*(moved(axis, part) for axis, part in zip(self.axes, self.columns, strict=True)))

    def as_float64(self) -> Grid:
        """The same grid in NumPy double precision."""

        def double(axis: Any) -> Any:
            if isinstance(axis, Regular):
                return Regular(np.asarray(axis.start, float), np.asarray(axis.step, float), axis.count)
            return np.asarray(axis, dtype=float)

        return Grid(*map(double, self.axes))


def _point_numbers(name: str, value: Any, backend: Any, device: Any) -> Array:
    """A vector of integers of the given library."""
    value = np.asarray(value) if backend_of(value) is None else value
    if value.ndim != 1:
        raise ShapeError(f"GridSubset needs a vector of point numbers as {name}, not shape {value.shape}.")
    if math.prod(value.shape) and not backend_for(value).xp.isdtype(value.dtype, "integral"):
        raise TypeError(f"GridSubset needs integer point numbers as {name}, not {value.dtype}.")
    if not math.prod(value.shape):
        value = np.zeros(0, dtype=int)
    return backend.asarray(value, device=device)


@struct
class GridSubset(Struct):
    """The points of ``grid`` numbered ``index (n,)``: a grid on which some values were not observed.

    :class:`~cola_gp.Data` makes one from NaN targets on a Grid; under ``jit``, where values cannot be looked
    at, build it outside.  Numbers must not repeat; ``missing`` are all others, found where possible.
    """

    grid: Grid
    index: Array
    missing: Array

    def __init__(self, grid: Grid, index: Any, missing: Any = None):
        if not isinstance(grid, Grid):
            raise TypeError(f"GridSubset needs a Grid, not {type(grid).__name__}.")
        places = grid.axis_points()[0]
        backend = backend_for(places)
        index, n = _point_numbers("index", index, backend, backend.device(places)), grid.shape[0]
        if backend.is_concrete(index):
            numbers = np.asarray(backend.to_numpy(index))
            if numbers.size and (numbers.min() < 0 or numbers.max() >= n):
                raise ShapeError(f"point numbers {numbers.min()}..{numbers.max()} on a grid of {n} points.")
            if np.unique(numbers).size != numbers.size:
                raise ValueError("GridSubset: a point number occurs twice; average its observations first.")
            missing = np.setdiff1d(np.arange(n), numbers)
        elif missing is None:
            raise ValueError("GridSubset: where index has no values yet, under jit, give missing= as well.")
        missing = _point_numbers("missing", missing, backend, backend.device(places))
        if index.shape[0] + missing.shape[0] != n:
            raise ShapeError(f"{index.shape[0]} observed and {missing.shape[0]} missing points of {n}.")
        set_fields(self, grid=grid, index=index, missing=missing)

    @classmethod
    def observed(cls, grid: Grid, y: Any) -> GridSubset:
        """The points at which ``y``, of the grid's shape or flat, is not NaN."""
        flat = np.asarray(backend_for(y).to_numpy(y)).reshape(-1)
        if flat.shape[0] != grid.shape[0]:
            raise ShapeError(f"y has {flat.shape[0]} values but the grid has {grid.shape[0]} points.")
        return cls(grid, np.flatnonzero(~np.isnan(flat)))

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(n, d)`` of the array of points."""
        return int(self.index.shape[0]), self.grid.shape[1]

    @property
    def dtype(self) -> Any:
        return self.grid.dtype

    def axis_points(self) -> tuple[Array, ...]:
        """The places on every axis of the grid as ``(n_i, d_i)`` arrays."""
        return self.grid.axis_points()

    def points(self) -> Array:
        """The points as an ``(n, d)`` array."""
        return self.grid.points()[self.index]

    def affine(self, shift: Array, scale: Array) -> GridSubset:
        """The same points as ``(x - shift) / scale``."""
        return GridSubset(self.grid.affine(shift, scale), self.index, self.missing)

    def as_float64(self) -> GridSubset:
        """The same points in NumPy double precision."""
        return GridSubset(self.grid.as_float64(), np.asarray(self.index), np.asarray(self.missing))


GRIDS = (Grid, GridSubset)

__all__ = ["GRIDS", "Grid", "GridSubset", "Regular"]
