"""Points of a table that lie on a grid, found by their coordinates."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from cola_core.errors import ShapeError

from .data import Grid
from .grids import GridSubset, Regular


class Gridded(NamedTuple):
    """The same points as a Grid or GridSubset; point i of it is row ``order[i]`` of the table."""

    inputs: Any
    order: np.ndarray


def find_grid(X: np.ndarray, fill: float = 0.5) -> Gridded:
    """The rows of ``X (n, d)`` as points of a grid: the different numbers in every column are its axes.

    Points may be in any order and up to a share ``1 - fill`` of them may be missing, which gives a
    GridSubset.  Equally spaced axes become :class:`~cola_gp.grids.Regular`.  Raises ShapeError where rows
    repeat, or where the points are too few for the grid that their coordinates span.

    >>> import numpy as np, cola_gp as gp
    >>> found = gp.find_grid(np.array([[0.0, 2.0], [1.0, 2.0], [1.0, 5.0], [0.0, 5.0]]))
    >>> found.inputs.sizes, found.order.tolist()
    ((2, 2), [0, 3, 1, 2])
    """
    X = np.asarray(X, dtype=float)
    if X.ndim != 2 or X.shape[0] == 0 or X.shape[1] == 0:
        raise ShapeError(f"X must be (n, d) with n and d at least one, not shape {X.shape}.")
    n = X.shape[0]
    parts = [np.unique(column, return_inverse=True) for column in X.T]
    sizes = tuple(len(values) for values, _ in parts)
    # In Python's integers: the grid of scattered points in many dimensions has no end.
    total = math.prod(sizes)
    if n < fill * total:
        raise ShapeError(
            f"the {n} points are no grid: their coordinates span {' x '.join(map(str, sizes))} = {total} "
            "points."
        )
    place = np.ravel_multi_index(tuple(np.reshape(inverse, -1) for _, inverse in parts), sizes)
    order = np.argsort(place, kind="stable")
    place = place[order]
    if np.any(place[1:] == place[:-1]):
        raise ShapeError("the points are no grid: some rows are repeated.")
    grid = Grid(*(_axis(values) for values, _ in parts))
    return Gridded(grid if n == total else GridSubset(grid, place), order)


def _axis(values: np.ndarray) -> Any:
    if len(values) < 3:
        return values
    try:
        return Regular.of(values)
    except ValueError:
        return values


__all__ = ["Gridded", "find_grid"]
