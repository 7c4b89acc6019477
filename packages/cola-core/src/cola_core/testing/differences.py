"""Directional derivatives of a NumPy function by extrapolated central differences (Ridders 1982).

Each number comes with an estimate of its own error, so that a check knows how far to trust it: step sizes are
halved and extrapolated in even powers of the step until rounding takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["moved", "slope", "slopes", "twist"]

STEP, ROWS = 0.04, 6


def moved(arrays: Sequence[Any], *steps: tuple[float, Sequence[Any]]) -> list[Any]:
    """``arrays + sum_i t_i d_i`` for steps (t_i, d_i)."""
    out = list(arrays)
    for t, direction in steps:
        out = [a + t * d for a, d in zip(out, direction, strict=True)]
    return out


def slope(f: Callable[[list[Any]], float], x: Sequence[Any], d: Sequence[Any]) -> tuple[float, float]:
    """(``d/dt f(x + t d)`` at 0, estimate of its error). Costs 12 values of f."""
    return _ridders(lambda h: (f(moved(x, (h, d))) - f(moved(x, (-h, d)))) / (2 * h))


def twist(
    f: Callable[[list[Any]], float], x: Sequence[Any], d: Sequence[Any], e: Sequence[Any]
) -> tuple[float, float]:
    """(``d/ds d/dt f(x + s d + t e)`` at 0, estimate of its error). Costs 24 values of f."""

    def mixed(h: float) -> float:
        corners = [i * j * f(moved(x, (i * h, d), (j * h, e))) for i in (1, -1) for j in (1, -1)]
        return sum(corners) / (4 * h * h)

    return _ridders(mixed)


def slopes(f: Callable[[list[Any]], float], x: Sequence[Any], d: Sequence[Any]) -> list[float]:
    """``slope`` array by array: which of them a wrong derivative belongs to."""
    return [slope(f, x, [e if i == j else 0 * e for j, e in enumerate(d)])[0] for i in range(len(x))]


def _ridders(quotient: Callable[[float], float]) -> tuple[float, float]:
    entries: list[tuple[float, float]] = []
    previous: list[float] = []
    for k in range(ROWS):
        row = [quotient(STEP / 2**k)]
        for j, old in enumerate(previous):
            power = 4 ** (j + 1)
            row.append((power * row[j] - old) / (power - 1))
            entries.append((max(abs(row[j + 1] - row[j]), abs(row[j + 1] - old)), row[j + 1]))
        previous = row
    # the smallest spread is the best entry; of a function that is not smooth it is small by chance,
    # and the next best entries then lie elsewhere
    ranked = sorted((e for e in entries if e[0] == e[0]), key=lambda e: e[0])
    if not ranked:
        return float("nan"), float("inf")
    error, best = ranked[0]
    return best, max(error, *(abs(value - best) for _, value in ranked[1:4]))
