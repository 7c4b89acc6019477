"""What short recurrences for many columns share: the first residual, quotients that cannot divide by zero,
breakdown judged relatively, and the best iterate so far.

Every column of a right-hand side runs by itself. A column that has stopped gets zero coefficients, and what
is returned is its best iterate, so that a product that gave NaN in one column spoils nothing.
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array, Backend

__all__ = ["better", "first_residual", "negligible", "quotient", "smoothing_step"]

# Sleijpen & van der Vorst, Numer. Algorithms 10 (1995) 203: the least cosine that a smoothing step may have
LEAST_COSINE = 0.7


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


def better(
    be: Backend, X: Array, rnorm: Array, best: Array, least: Array, live: Array
) -> tuple[Array, Array, Array]:
    """The best iterate, its residual's norm, and in which columns it is new."""
    xp = be.xp
    new = live & (rnorm < least)
    if be.is_concrete(new):
        if bool(xp.all(new)):
            return X + 0, rnorm, new
        if not bool(xp.any(new)):
            return best, least, new
    return xp.where(new[..., None, :], X, best), xp.where(new, rnorm, least), new
