"""What short recurrences for many columns share: the first residual, quotients that cannot divide by zero,
breakdown judged relatively, and the best iterate so far.

Every column of a right-hand side runs by itself. A column that has stopped gets zero coefficients, and what
is returned is its best iterate, so that a product that gave NaN in one column spoils nothing.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..backends.base import Array, Backend

__all__ = ["Best", "Single", "diverged", "first_residual", "negligible", "quotient", "smoothing_step"]

# Sleijpen & van der Vorst, Numer. Algorithms 10 (1995) 203: the least cosine that a smoothing step may have
LEAST_COSINE = 0.7


class Single:
    """The functions of an array library that recurrences use, for Python's numbers."""

    hypot, sqrt, isfinite = math.hypot, math.sqrt, math.isfinite
    abs, maximum, minimum = abs, max, min

    @staticmethod
    def where(condition: bool, x: float, y: float) -> float:
        return x if condition else y

    @staticmethod
    def ones_like(x: float) -> float:
        return 1.0


def first_residual(A: Any, B: Array, X: Array | None, be: Backend) -> tuple[Array, Array, int]:
    """The first iterate, its residual and the products made."""
    if X is None:
        return be.xp.zeros_like(B), B + 0, 0
    return X + 0, B - A @ X, 1


def quotient(be: Backend, a: Array, b: Array, live: Array) -> Array:
    """``a / b`` where live and b is not zero, else zero."""
    xp = be.xp
    fine = live & (b != 0)
    return xp.where(fine, a / xp.where(fine, b, xp.ones_like(b)), xp.zeros_like(a))


def negligible(be: Backend, product: Array, size: Array) -> Array:
    """Whether an inner product is rounding error beside the product of the norms (``size``): breakdown."""
    eps = float(be.xp.finfo(size.dtype).eps)
    return ~(be.xp.abs(product) > eps * size)


def smoothing_step(be: Backend, T: Array, S: Array, live: Array) -> Array:
    """``omega`` for ``S - omega T``: the minimiser of the norm, lengthened where T and S are nearly
    orthogonal (a tiny omega would spoil every later coefficient)."""
    xp = be.xp
    ts, tnorm, snorm = be.inner(T, S), be.norm(T), be.norm(S)
    size = xp.abs(ts)
    cosine = quotient(be, size, tnorm * snorm, live)
    omega = quotient(be, ts, be.astype(tnorm * tnorm, ts.dtype), live)
    longer = quotient(be, LEAST_COSINE * xp.ones_like(cosine), cosine, live & (cosine < LEAST_COSINE))
    factor = xp.where(longer > 0, longer, xp.ones_like(longer))
    lengthened = omega * be.astype(factor, omega.dtype)
    # orthogonal to rounding: any direction is as good
    plain = be.astype(LEAST_COSINE * quotient(be, snorm, tnorm, live), omega.dtype)
    return xp.where(negligible(be, ts, tnorm * snorm), plain, lengthened)


class Best(NamedTuple):
    """The best iterate to within a factor of two (so that few are copied): X, its residual's norm, and the
    least norm there has been."""

    X: Array
    norm: Array
    least: Array

    def seen(self, be: Backend, X: Array, rnorm: Array, live: Array) -> tuple[Best, Array]:
        """With one more iterate, and in which columns it is the best so far."""
        xp = be.xp
        new = live & (rnorm < self.least)
        keep = live & (rnorm < 0.5 * self.norm)
        least = xp.where(new, rnorm, self.least)
        if be.is_concrete(keep) and not bool(xp.any(keep)):
            return Best(self.X, self.norm, least), new
        kept = xp.where(keep[..., None, :], X, self.X)
        return Best(kept, xp.where(keep, rnorm, self.norm), least), new

    def answer(
        self, be: Backend, A: Any, B: Array, X: Array, rnorm: Array, first: Array | None, began: Array
    ) -> Array:
        """The last iterate where it is no worse; and the first one (None: zero), whose residual has the norm
        ``began``, where rounding has spoiled both. One product."""
        xp = be.xp
        X = xp.where((rnorm <= self.norm)[..., None, :], X, self.X)
        first = xp.zeros_like(X) if first is None else first
        return xp.where((be.norm(B - A @ X) <= began)[..., None, :], X, first)


def diverged(be: Backend, rnorm: Array, least: Array) -> Array:
    """Whether a residual has grown so much that no digit of the best one is left."""
    return float(be.xp.finfo(rnorm.dtype).eps) * rnorm > least
