r"""Sines and cosines of phases between pairs of points, without a transcendental function per pair.

The phase of a pair is ``(x - x') turn``.  By the addition theorems its sine and cosine are products of rank
two of those of the single points: ``sin(a - b) = sin a cos b - cos a sin b``.  Their absolute error is that
of the phases of the points about their centre, so they are used in double precision where that stays below
``MOST_DIGITS_LOST``; elsewhere, and where functions are differentiated or compiled, phases of differences
are taken one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arrays import backend_for
from .base import Array, differences
from .distances import MOST_DIGITS_LOST, overwritable


class Waves:
    """Phases of one coordinate ``j`` of two point sets; every method makes an ``(n, m)`` array.

    turn: 0-d, radians per unit.  sensitivity: a bound of how much more an error of the phase weighs in what
    the waves are used for.
    """

    def __init__(
        self, X1: Array, X2: Array, j: int, turn: Array, sensitivity: Callable[[], float] | float = 1.0
    ):
        self.X1, self.X2, self.j, self.turn = X1, X2, j, turn
        self._parts = self._products(sensitivity)

    def _products(self, sensitivity: Callable[[], float] | float) -> tuple[Array, Array, Array] | None:
        """``(sin a, -cos a)`` and ``(cos a, sin a)`` as columns, ``(cos b, sin b)`` as rows."""
        x1, x2 = self.X1[:, self.j], self.X2[:, self.j]
        xp: Any = backend_for(x1).xp
        if not overwritable(x1, x2, self.turn) or x1.dtype != xp.float64 or 0 in (len(x1), len(x2)):
            return None
        center = xp.mean(x2)
        a, b = (x1 - center) * self.turn, (x2 - center) * self.turn
        reach = float(xp.max(xp.abs(a))) + float(xp.max(xp.abs(b)))
        weight = sensitivity() if callable(sensitivity) else sensitivity
        # written so that a NaN takes the other path
        if not reach * weight * float(xp.finfo(xp.float64).eps) <= MOST_DIGITS_LOST:
            return None
        sine, cosine = xp.sin(a), xp.cos(a)
        right = xp.stack([xp.cos(b), xp.sin(b)], axis=0)
        return xp.stack([sine, -cosine], axis=1), xp.stack([cosine, sine], axis=1), right

    def phase(self) -> Array:
        return differences(self.X1, self.X2, self.j) * self.turn

    def sin(self) -> Array:
        if self._parts is None:
            return backend_for(self.X1).xp.sin(self.phase())
        return self._parts[0] @ self._parts[2]

    def cos(self) -> Array:
        if self._parts is None:
            return backend_for(self.X1).xp.cos(self.phase())
        return self._parts[1] @ self._parts[2]
