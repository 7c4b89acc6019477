"""What short recurrences for many columns share: the first residual, quotients that cannot divide by zero,
breakdown judged relatively, and the best iterate so far.

Every column of a right-hand side runs by itself. A column that has stopped gets zero coefficients, and what
is returned is its best iterate, so that a product that gave NaN in one column spoils nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..backends.base import Array, Backend

__all__ = ["Best", "Seen", "Single", "diverged", "first_residual", "negligible", "quotient", "smoothing_step"]

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
    """The best iterate to within a factor of two, of a hundred where a column is better than its neighbours
    (so that few are copied): X, its residual's norm, and the least norm there has been."""

    X: Array
    norm: Array
    least: Array

    def seen(
        self,
        be: Backend,
        X: Array,
        rnorm: Array,
        live: Array,
        trusted: Callable[[], Array] | None = None,
    ) -> tuple[Best, Array]:
        """With one more iterate, and in which columns it is the best so far. trusted: asked before it is kept
        whether its norm is the residual's."""
        xp = be.xp
        new = live & (rnorm < self.least)
        keep = live & (rnorm < 0.5 * self.norm)
        least = xp.where(new, rnorm, self.least)

        def kept() -> tuple[Array, Array]:
            fine = keep if trusted is None else keep & trusted()
            if be.is_concrete(fine) and bool(xp.all(fine)):
                return X + 0, rnorm
            return xp.where(fine[..., None, :], X, self.X), xp.where(fine, rnorm, self.norm)

        if be.name == "jax":
            import jax

            X, norm = jax.lax.cond(xp.any(keep), kept, lambda: (self.X, self.norm))
            return Best(X, norm, least), new
        if be.is_concrete(keep) and not bool(xp.any(keep)):
            return Best(self.X, self.norm, least), new
        if be.is_concrete(keep) and keep.shape[-1] > 1:
            # columns halve their residuals in turn; one copy serves many of them
            many = 2 * int(xp.sum(keep)) >= int(xp.sum(live))
            if not many and not bool(xp.any(keep & (rnorm < 0.01 * self.norm))):
                return Best(self.X, self.norm, least), new
        return Best(*kept(), least), new

    def better(self, be: Backend, X: Array, rnorm: Array) -> Array:
        """The last iterate where it is no worse, else the best."""
        fine = rnorm <= self.norm
        if be.is_concrete(fine) and bool(be.xp.all(fine)):
            return X
        return be.xp.where(fine[..., None, :], X, self.X)

    def answer(
        self, be: Backend, A: Any, B: Array, X: Array, rnorm: Array, first: Array | None, began: Array
    ) -> Array:
        """The last iterate where it is no worse; and the first one (None: zero), whose residual has the norm
        ``began``, where rounding has spoiled both. One product."""
        xp = be.xp
        X = self.better(be, X, rnorm)
        first = xp.zeros_like(X) if first is None else first
        return xp.where((be.norm(B - A @ X) <= began)[..., None, :], X, first)


def diverged(be: Backend, rnorm: Array, least: Array) -> Array:
    """Whether a residual has grown so much that no digit of the best one is left."""
    return float(be.xp.finfo(rnorm.dtype).eps) * rnorm > least


class Seen(NamedTuple):
    """What products tell of an operator: the largest and the least ``|A y| / |y|`` per column, zero where
    there is none, which bound its norm from below and its least singular value from above."""

    most: Array
    least: Array

    @classmethod
    def none(cls, rnorm: Array) -> Seen:
        return cls(0 * rnorm, 0 * rnorm)

    def product(self, be: Backend, before: Array, after: Array, live: Array) -> Seen:
        """With a product: the norms of y and of A y."""
        xp = be.xp
        ratio = quotient(be, after, before, live & xp.isfinite(after) & xp.isfinite(before))
        least = xp.where((ratio > 0) & ((self.least == 0) | (ratio < self.least)), ratio, self.least)
        return Seen(xp.maximum(self.most, ratio), least)

    def block(self, be: Backend, Y: Array, AY: Array, live: Array) -> Seen:
        """With the products of a block of vectors, all of them together as one column."""
        xp = be.xp
        before, after = be.norm(Y), be.norm(AY)
        fine = live & (before > 0) & xp.isfinite(before) & xp.isfinite(after)
        ratio = quotient(be, after, before, fine)
        most = xp.max(ratio, axis=-1, keepdims=True) if ratio.shape[-1] else self.most
        huge = float(xp.finfo(ratio.dtype).max)
        least = xp.min(xp.where(ratio > 0, ratio, huge + 0 * ratio), axis=-1, keepdims=True)
        least = xp.where(least < huge, least, 0 * least)
        least = xp.where((least > 0) & ((self.least == 0) | (least < self.least)), least, self.least)
        return Seen(xp.maximum(self.most, most), least)

    def facts(self, be: Backend) -> dict[str, Array]:
        """For the Info; NaN where there was no product."""
        xp = be.xp
        some = self.least > 0
        nan = float("nan") * xp.ones_like(self.most)
        condition = self.most / xp.where(some, self.least, xp.ones_like(self.least))
        return {"norm": xp.where(some, self.most, nan), "condition": xp.where(some, condition, nan)}
