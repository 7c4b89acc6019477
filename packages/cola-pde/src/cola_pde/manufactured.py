"""Manufactured solutions: a problem with a known answer, and the order of accuracy it measures.

Choose u, compute f = -Laplacian(u) and the boundary data from u by hand, solve on a sequence of refined
grids, compare. The observed order between two grids is log(e1/e2) / log(h1/h2). Source: Roache, J. Fluids
Eng. 124 (2002) 4-10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .boundary import Condition, Dirichlet, Neumann, Pair, Periodic, kind, normalise
from .grid import Grid
from .space import Space

Field = Callable[..., Any]


@dataclass(frozen=True)
class Manufactured:
    """An exact solution with its source and gradient, each a callable of the coordinates.

    ``source`` is -Laplacian(u); ``gradient`` has one callable per axis (needed for Neumann sides only).
    """

    solution: Field
    source: Field
    gradient: tuple[Field, ...] = ()

    def conditions(self, bc: Any, ndim: int) -> tuple[Pair, ...]:
        """The conditions ``bc`` (only their kinds matter) carrying this solution's own boundary data."""
        pairs = []
        for axis, pair in enumerate(normalise(bc, ndim)):
            if kind(pair) == "P":
                pairs.append(pair)
            else:
                pairs.append((self._side(pair[0], axis, -1.0), self._side(pair[1], axis, 1.0)))
        return tuple(pairs)

    def _side(self, condition: Condition, axis: int, outward: float) -> Condition:
        if isinstance(condition, Periodic):
            return condition
        if isinstance(condition, Dirichlet):
            return Dirichlet(self.solution)
        derivative = self.gradient[axis]
        return Neumann(lambda *x: outward * derivative(*x))


def trigonometric(grid: Grid) -> Manufactured:
    """A smooth solution, periodic on the box, neither odd nor even about any side: fits every condition.

    u(x) = prod_i (1 + sin(w_i x_i + 1) / 2), w_i = 2 pi / L_i.
    """
    waves = [2 * math.pi / a.length for a in grid.axes]

    def factor(i: int, x: Any) -> Any:
        return 1 + 0.5 * np.sin(waves[i] * x + 1)

    def product(x: Sequence[Any], replaced: int | None = None, by: Any = None) -> Any:
        out: Any = 1.0
        for i, xi in enumerate(x):
            out = out * (by if i == replaced else factor(i, xi))
        return out

    def solution(*x: Any) -> Any:
        return product(x)

    def source(*x: Any) -> Any:
        return sum(product(x, i, 0.5 * w * w * np.sin(w * x[i] + 1)) for i, w in enumerate(waves))

    def derivative(i: int) -> Field:
        return lambda *x: product(x, i, 0.5 * waves[i] * np.cos(waves[i] * x[i] + 1))

    return Manufactured(solution, source, tuple(derivative(i) for i in range(grid.ndim)))


@dataclass(frozen=True)
class OrderRow:
    """One grid of an observed-order table; orders compare with the row before (None in the first)."""

    cells: tuple[int, ...]
    spacing: float
    max_error: float
    l2_error: float
    max_order: float | None
    l2_order: float | None


@dataclass(frozen=True)
class OrderTable:
    """Errors against the exact solution on refined grids. ``print`` it."""

    rows: tuple[OrderRow, ...]

    @property
    def order(self) -> float:
        """Observed order in the root-mean-square norm between the two finest grids."""
        return self.rows[-1].l2_order or math.nan

    def __str__(self) -> str:
        lines = [f"{'cells':>14} {'h':>10} {'max error':>11} {'order':>6} {'rms error':>11} {'order':>6}"]
        for r in self.rows:
            orders = ["" if o is None else f"{o:.3f}" for o in (r.max_order, r.l2_order)]
            cells = "x".join(map(str, r.cells))
            lines.append(
                f"{cells:>14} {r.spacing:10.3e} {r.max_error:11.3e} {orders[0]:>6} "
                f"{r.l2_error:11.3e} {orders[1]:>6}"
            )
        return "\n".join(lines)


def observed_order(
    solver: Callable[[Grid, Any, Any], Any],
    grids: Sequence[Grid],
    bc: Any,
    problem: Manufactured | None = None,
) -> OrderTable:
    """Solve ``problem`` (default `trigonometric`) on each grid and tabulate errors and observed orders.

    ``solver(grid, source, bc)`` returns an object with an array ``u`` on the unknowns, as `cola_pde.poisson`
    does; when no side is Dirichlet both solutions are compared after subtracting their quadrature-weighted
    means.
    """
    rows: list[OrderRow] = []
    for grid in grids:
        case = problem or trigonometric(grid)
        conditions = case.conditions(bc, grid.ndim)
        space = Space(grid, conditions)
        u = np.asarray(solver(grid, case.source, conditions).u, dtype=np.float64)
        exact = np.broadcast_to(case.solution(*space.coordinates()), space.shape)
        weights = np.ones(space.shape)
        for axis in range(space.ndim):
            ends = space.root_weights(axis)
            slabs = np.moveaxis(weights, axis, 0)
            slabs[0] *= ends[0] ** 2
            slabs[-1] *= ends[1] ** 2
        weights /= weights.sum()
        error = u - exact
        if space.singular:
            error = error - np.sum(weights * error)
        row = (float(np.max(np.abs(error))), float(np.sqrt(np.sum(weights * error**2))))
        h = max(grid.spacings)
        orders: tuple[float | None, float | None] = (None, None)
        if rows:
            ratio = math.log(rows[-1].spacing / h)
            before = (rows[-1].max_error, rows[-1].l2_error)
            orders = tuple(  # type: ignore[assignment]
                math.log(b / e) / ratio if e > 0 and b > 0 else None for b, e in zip(before, row, strict=True)
            )
        rows.append(OrderRow(tuple(a.cells for a in grid.axes), h, *row, *orders))
    return OrderTable(tuple(rows))
