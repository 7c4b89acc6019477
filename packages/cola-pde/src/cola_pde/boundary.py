"""Boundary conditions: one per side of each axis, with data given as a number, an array or a function.

- ``Dirichlet(g)``: u = g on the side.
- ``Neumann(g)``: the *outward* normal derivative is g on the side.
- ``Periodic()``: the two sides of the axis are glued.

The data ``g`` of an n-dimensional grid live on a side of dimension n-1: a number; an array with the shape of
the unknowns with this axis left out; or a callable of all n coordinates, ``g(x, y, ...)``, called once with
broadcastable coordinate arrays in which this axis holds the boundary's own position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import BoundaryError


@dataclass(frozen=True)
class Dirichlet:
    """u = value on this side."""

    value: Any = 0.0
    letter = "D"


@dataclass(frozen=True)
class Neumann:
    """Outward normal derivative of u = value on this side."""

    value: Any = 0.0
    letter = "N"


@dataclass(frozen=True)
class Periodic:
    """This side is glued to the opposite one; both sides of an axis must say so."""

    letter = "P"


Condition = Dirichlet | Neumann | Periodic
Pair = tuple[Condition, Condition]
BC = Any  # whatever `normalise` accepts
BY_LETTER: dict[str, Callable[[], Condition]] = {"D": Dirichlet, "N": Neumann, "P": Periodic}


def normalise(bc: Any, ndim: int) -> tuple[Pair, ...]:
    """One (lower side, upper side) pair per axis from what a user writes.

    Accepted: one condition for every side; a sequence with one entry per axis, each a condition (both sides)
    or a pair; a string of letters for homogeneous conditions, e.g. ``"D"``, ``"DN"`` (same on every axis) or
    ``"DN,P"`` (per axis).
    """
    if isinstance(bc, str):
        words = [w.strip().upper() for w in bc.split(",")]
        entries: Sequence[Any] = [_from_letters(w) for w in words]
        if len(entries) == 1:
            entries = list(entries) * ndim
    elif isinstance(bc, Condition):
        entries = [bc] * ndim
    elif isinstance(bc, Sequence):
        entries = [_from_letters(e.strip().upper()) if isinstance(e, str) else e for e in bc]
    else:
        raise BoundaryError(
            f"boundary conditions must be a condition, a sequence or a string; got {type(bc).__name__}"
        )
    if len(entries) != ndim:
        raise BoundaryError(f"got boundary conditions for {len(entries)} axes, the grid has {ndim}")
    return tuple(_pair(entry, axis) for axis, entry in enumerate(entries))


def _from_letters(word: str) -> Any:
    if len(word) not in (1, 2) or any(letter not in BY_LETTER for letter in word):
        raise BoundaryError(
            f"unknown boundary letters {word!r}; write D, N or P for both sides, or two of D and N"
        )
    return tuple(BY_LETTER[letter]() for letter in (word * 2 if len(word) == 1 else word))


def _pair(entry: Any, axis: int) -> Pair:
    pair = (entry, entry) if isinstance(entry, Condition) else entry
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(c, Condition) for c in pair):
        raise BoundaryError(
            f"axis {axis} needs one condition or a pair (lower, upper side) of Dirichlet, Neumann, Periodic; "
            f"got {entry!r}"
        )
    if (pair[0].letter == "P") != (pair[1].letter == "P"):
        raise BoundaryError(f"axis {axis} is periodic on one side only; give Periodic() for both sides")
    return pair[0], pair[1]


def kind(pair: Pair) -> str:
    """Letters of a pair: "DD", "DN", "ND", "NN" or "P"."""
    return "P" if pair[0].letter == "P" else pair[0].letter + pair[1].letter
