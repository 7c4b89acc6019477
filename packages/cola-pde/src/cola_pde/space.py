"""A grid with its boundary conditions: what is unknown, where it sits, what data the sides carry.

Everything sized by the unknowns is here: shapes, coordinates, quadrature weights, evaluation of user
functions. Arrays on a space have ``space.shape`` (one entry per axis, in the order of the axes); vectors for
operators are their C-order flattening.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cola_core.backends import backend_of, get_backend

from .boundary import BC, Condition, Pair, kind, normalise
from .errors import BoundaryError, GridError
from .grid import Grid
from .spectrum import end_weights


@dataclass(frozen=True)
class Side:
    """One side of the box: axis, end (0 lower, 1 upper) and its condition."""

    axis: int
    end: int
    condition: Condition


@dataclass(frozen=True)
class Space:
    """The unknowns of ``grid`` under boundary conditions ``bc`` (see `cola_pde.boundary.normalise`).

    Raises BoundaryError or GridError if the two do not fit.
    """

    grid: Grid
    bc: BC = field(default="D")
    pairs: tuple[Pair, ...] = field(init=False, repr=False)
    kinds: tuple[str, ...] = field(init=False)
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.grid, Grid):
            raise GridError(
                f"expected a Grid; got {type(self.grid).__name__}. Build one with Grid.box((64, 64))"
            )
        pairs = normalise(self.bc, self.grid.ndim)
        kinds = tuple(kind(p) for p in pairs)
        object.__setattr__(self, "pairs", pairs)
        object.__setattr__(self, "kinds", kinds)
        object.__setattr__(
            self, "shape", tuple(a.size(k) for a, k in zip(self.grid.axes, kinds, strict=True))
        )

    @property
    def ndim(self) -> int:
        return self.grid.ndim

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return math.prod(self.shape)

    @property
    def singular(self) -> bool:
        """Whether constants are in the null space of the Laplacian (no Dirichlet side anywhere)."""
        return all("D" not in k for k in self.kinds)

    def sides(self) -> Iterator[Side]:
        """All sides that carry a condition (periodic axes have none)."""
        for axis, pair in enumerate(self.pairs):
            if self.kinds[axis] != "P":
                yield Side(axis, 0, pair[0])
                yield Side(axis, 1, pair[1])

    def points(self, axis: int) -> np.ndarray:
        """Coordinates (n_axis,) float64 of the unknowns along one axis."""
        return self.grid.axes[axis].points(self.kinds[axis])

    def coordinates(self) -> tuple[np.ndarray, ...]:
        """Coordinate arrays, one per axis, that broadcast against each other to ``shape``."""
        return tuple(_along(self.points(i), i, self.ndim) for i in range(self.ndim))

    def root_weights(self, axis: int) -> tuple[float, float]:
        """Square roots of the quadrature weights of the first and last unknown (all others are 1)."""
        first, last = end_weights(self.grid.axes[axis].centring, self.kinds[axis])
        return math.sqrt(first), math.sqrt(last)

    @property
    def weighted(self) -> bool:
        """Whether any unknown has a quadrature weight other than 1 (vertices on Neumann sides)."""
        return any(self.root_weights(i) != (1.0, 1.0) for i in range(self.ndim))

    def evaluate(self, f: Any, name: str = "source", dtype: Any = None, backend: Any = None) -> Any:
        """A number, array or callable of the coordinates as an array of ``shape`` (not necessarily a copy).

        Raises GridError if the shape does not fit or a value is not finite.
        """
        values = self._raw(f, self.coordinates())
        be = (
            get_backend(backend)
            if isinstance(backend, str)
            else backend or backend_of(values) or get_backend("numpy")
        )
        values = be.as_value(values) if dtype is None else be.asarray(values, dtype=dtype)
        if tuple(values.shape) != self.shape:
            try:
                values = be.xp.broadcast_to(values, self.shape)
            except (ValueError, RuntimeError, TypeError):
                raise GridError(
                    f"{name} has shape {tuple(values.shape)}, the unknowns of the grid have {self.shape} "
                    f"(boundary kinds {', '.join(self.kinds)}); pass an array of that shape or a callable"
                ) from None
        if not be.all_finite(values):
            raise GridError(f"{name} contains NaN or infinite values")
        return values

    def side_values(self, side: Side, backend: Any, dtype: Any, device: Any = None) -> Any:
        """The data of one side, an array of ``shape`` with this axis of length 1, or None if zero."""
        value = getattr(side.condition, "value", 0.0)
        if isinstance(value, (int, float)) and value == 0:
            return None
        where = f"data of the {('lower', 'upper')[side.end]} side of axis {side.axis}"
        axis = self.grid.axes[side.axis]
        coordinates = list(self.coordinates())
        coordinates[side.axis] = _along(np.array([(axis.lower, axis.upper)[side.end]]), side.axis, self.ndim)
        face = self.shape[: side.axis] + self.shape[side.axis + 1 :]
        wide = self.shape[: side.axis] + (1,) + self.shape[side.axis + 1 :]
        try:
            values = backend.asarray(self._raw(value, tuple(coordinates)), dtype=dtype, device=device)
        except (TypeError, ValueError) as error:
            raise BoundaryError(f"{where} cannot be used: {error}") from error
        if tuple(values.shape) == face:
            values = backend.xp.reshape(values, wide)
        try:
            values = backend.xp.broadcast_to(values, wide)
        except (ValueError, RuntimeError, TypeError):
            raise BoundaryError(
                f"{where} have shape {tuple(values.shape)}; this side has {face} unknowns next to it"
            ) from None
        if not backend.all_finite(values):
            raise BoundaryError(f"{where} contain NaN or infinite values")
        return values

    @staticmethod
    def _raw(f: Any, coordinates: tuple[np.ndarray, ...]) -> Any:
        return f(*coordinates) if callable(f) else f


def _along(values: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    return values.reshape((1,) * axis + (-1,) + (1,) * (ndim - axis - 1))


def scale_ends(values: Any, space: Space, power: int, backend: Any, overwrite: bool = False) -> Any:
    """``W^(power/2) values`` for values of the space's shape; touches only the weighted end slabs.

    ``overwrite=True`` lets NumPy work in place (the caller owns the array).
    """
    if not space.weighted:
        return values
    in_place = backend.name == "numpy"
    if in_place and not overwrite:
        values = values.copy()
    for axis in range(space.ndim):
        first, last = space.root_weights(axis)
        if (first, last) == (1.0, 1.0):
            continue
        if in_place:
            slabs = np.moveaxis(values, axis, 0)
            slabs[0] *= first**power
            slabs[-1] *= last**power
        else:
            factor = np.ones(space.shape[axis])
            factor[0] *= first**power
            factor[-1] *= last**power
            factor = backend.asarray(
                _along(factor, axis, space.ndim), dtype=values.dtype, device=backend.device(values)
            )
            values = values * factor
    return values
