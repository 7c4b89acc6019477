"""Uniform grids: geometry only, no boundary conditions.

An `Axis` is an interval cut into ``cells`` equal cells of width ``h``. Unknowns sit in the middle of the
cells (``centring="cell"``) or at their corners (``centring="vertex"``). How many corners are unknown depends
on the boundary conditions (a Dirichlet corner is known), so sizes of arrays belong to
`cola_pde.space.Space`, and refining a grid is always ``cells -> 2 * cells``, which halves ``h`` under every
condition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import GridError
from .spectrum import CENTRINGS, smallest_size, unknowns


@dataclass(frozen=True)
class Axis:
    """One direction of a grid: ``cells`` equal cells between ``lower`` and ``upper``."""

    cells: int
    lower: float = 0.0
    upper: float = 1.0
    centring: str = "cell"

    def __post_init__(self) -> None:
        if not isinstance(self.cells, (int, np.integer)) or isinstance(self.cells, bool) or self.cells < 1:
            raise GridError(f"an axis needs a whole number of cells, at least 1; got {self.cells!r}")
        if self.centring not in CENTRINGS:
            raise GridError(f"unknown centring {self.centring!r}; choose one of {', '.join(CENTRINGS)}")
        try:
            lower, upper = float(self.lower), float(self.upper)
        except (TypeError, ValueError):
            raise GridError(f"axis ends must be numbers; got {self.lower!r} and {self.upper!r}") from None
        if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
            raise GridError(f"an axis needs finite ends with lower < upper; got [{lower}, {upper}]")
        object.__setattr__(self, "cells", int(self.cells))
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    @property
    def length(self) -> float:
        return self.upper - self.lower

    @property
    def spacing(self) -> float:
        """Width h of a cell, and distance between neighbouring unknowns."""
        return self.length / self.cells

    def size(self, kind: str) -> int:
        """Number of unknowns under the boundary kind ("DD", "DN", "ND", "NN" or "P")."""
        n = unknowns(self.cells, self.centring, kind)
        if n < smallest_size(self.centring, kind):
            raise GridError(
                f"a {self.centring}-centred axis of {self.cells} cell(s) has no unknown under boundary "
                f"conditions {kind!r}; use more cells"
            )
        return n

    def points(self, kind: str) -> np.ndarray:
        """Coordinates (n,) float64 of the unknowns, ascending."""
        index = np.arange(self.size(kind), dtype=np.float64)
        if self.centring == "cell":
            index += 0.5
        elif kind != "P" and kind[0] == "D":
            index += 1.0
        return self.lower + self.spacing * index


@dataclass(frozen=True)
class Grid:
    """Tensor product of axes. ``Grid(Axis(64), Axis(32, 0, 2))`` or `Grid.box`."""

    axes: tuple[Axis, ...]

    def __init__(self, *axes: Axis) -> None:
        if not axes or not all(isinstance(a, Axis) for a in axes):
            raise GridError(
                "a grid needs at least one Axis, e.g. Grid(Axis(64), Axis(64)) or Grid.box((64, 64))"
            )
        object.__setattr__(self, "axes", tuple(axes))

    @classmethod
    def box(cls, cells: Sequence[int], lower: Any = 0.0, upper: Any = 1.0, centring: Any = "cell") -> Grid:
        """Grid over a box; ``lower``, ``upper`` and ``centring`` are one value or one per axis."""
        cells = tuple(cells)
        columns = []
        for name, value in (("lower", lower), ("upper", upper), ("centring", centring)):
            column = (value,) * len(cells) if np.ndim(value) == 0 else tuple(value)
            if len(column) != len(cells):
                raise GridError(f"{name} has {len(column)} entries but the grid has {len(cells)} axes")
            columns.append(column)
        return cls(*(Axis(*one) for one in zip(cells, *columns, strict=True)))

    @property
    def ndim(self) -> int:
        return len(self.axes)

    @property
    def spacings(self) -> tuple[float, ...]:
        return tuple(a.spacing for a in self.axes)

    @property
    def lengths(self) -> tuple[float, ...]:
        return tuple(a.length for a in self.axes)

    def refined(self, factor: int = 2) -> Grid:
        """The same box with ``factor`` times as many cells on every axis."""
        return Grid(*(Axis(a.cells * factor, a.lower, a.upper, a.centring) for a in self.axes))
