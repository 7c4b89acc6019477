"""Divided differences ``f[x_0, ..., x_k]`` of any order, accurate for arguments far apart, close and equal.

Two arguments, with multiplicities: the difference quotient, or Gauss-Legendre quadrature of the Hermite-
Genocchi integral of f's derivative, whichever is the more accurate: the quotient's error is known, and where
the integral agrees with it to within that error it is the better one (at a tie the quotient says nothing, and
the integral is the derivative). No distance is called small: functions of any scale are served.

More arguments: the identity behind knot insertion, ``(x_k - x_0) f[x_0..x_k] = (x_k - y) f[x_1..x_k, y] +
(y - x_0) f[x_0..x_{k-1}, y]`` with y one of those between, until two are left. The weights are between 0 and
1 for sorted real arguments, so nothing cancels. Source of all: de Boor, Divided differences, 2005.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends.base import Array

__all__ = ["divided"]

NODES, FEWER = 8, 5
ROUNDINGS = 64  # a value of f is trusted to this many roundings


def divided(be: Any, f: Any, xs: list[Array]) -> Array:
    """``f[x_0, ..., x_k]``, elementwise over arrays that broadcast; f: a ``ScalarFunction``.
    Complex arguments: at most three, and f holomorphic."""
    xp = be.xp
    derivatives = [f]
    for _ in xs[1:]:
        derivatives.append(derivatives[-1].derivative())
    if len(xs) == 1:
        return f.fn(xp, xs[0])
    if len(xs) == 2:
        return _pair(be, derivatives, 1, 1, xs[0], xs[1])[0]
    xs = list(xp.broadcast_arrays(*xs))
    if be.is_complex(xs[0]):
        if len(xs) > 3:
            raise NotImplementedError(
                f"divided differences of {f.name} of order {len(xs) - 1} at complex eigenvalues: third and "
                "higher derivatives of functions by eigenvectors are offered for self-adjoint operators only."
            )
        xs = _ends_apart(xp, xs)
    else:
        stacked = xp.sort(xp.stack(xs), axis=0)
        xs = [stacked[i] for i in range(len(xs))]
    return _inserted(be, derivatives, [(x, 1) for x in xs])


def _ends_apart(xp: Any, xs: list[Array]) -> list[Array]:
    """Three numbers with the two farthest apart at the ends."""
    a, b, c = xs
    ab, bc, ac = xp.abs(a - b), xp.abs(b - c), xp.abs(a - c)
    first = (ab > bc) & (ab > ac)
    a, b, c = a, xp.where(first, c, b), xp.where(first, b, c)
    second = (bc > ac) & ~first
    return [xp.where(second, b, a), xp.where(second, a, b), c]


def _inserted(be: Any, derivatives: Any, points: list[tuple[Array, int]]) -> Array:
    """The divided difference at distinct (or not) arguments with multiplicities, the ends farthest apart."""
    if len(points) == 2:
        (a, p), (b, q) = points
        return _pair(be, derivatives, p, q, a, b)[0]
    xp = be.xp
    (low, p), *between, (high, q) = points
    i = len(between) // 2
    y, m = between[i]
    between[i] = (y, m + 1)
    span = high - low
    same = span == 0
    share = xp.where(same, 0.5 + 0 * span, (y - low) / xp.where(same, 1 + 0 * span, span))
    left = [(low, p), *between, *([(high, q - 1)] if q > 1 else [])]
    right = [*([(low, p - 1)] if p > 1 else []), *between, (high, q)]
    return share * _inserted(be, derivatives, left) + (1 - share) * _inserted(be, derivatives, right)


def _pair(be: Any, derivatives: Any, p: int, q: int, a: Array, b: Array) -> tuple[Array, Array]:
    """``f[a, .., a, b, .., b]`` with a p times and b q times, and about its error."""
    xp = be.xp
    order = p + q - 1
    if not p or not q:
        x = (b if not p else a) + 0 * (a + b)
        value = derivatives[order].fn(xp, x) / math.factorial(order)
        return value, _rounding(be, value)
    left, left_error = _pair(be, derivatives, p - 1, q, a, b)
    right, right_error = _pair(be, derivatives, p, q - 1, a, b)
    gap = b - a
    apart = xp.abs(gap)
    size = xp.maximum(xp.abs(a), xp.abs(b))
    eps = float(xp.finfo(apart.dtype).eps)
    tied = apart <= ROUNDINGS * eps * size
    quotient = (left - right) / xp.where(tied, xp.ones_like(gap), gap)
    doubt = (left_error + right_error) / xp.where(tied, xp.ones_like(apart), apart)
    integral = _integral(be, derivatives[order], p, q, a, gap, NODES)
    rough = _integral(be, derivatives[order], p, q, a, gap, FEWER)
    taken = tied | (xp.abs(quotient - integral) <= doubt)
    own = xp.abs(integral - rough) + _rounding(be, integral)
    return xp.where(taken, integral, quotient), xp.where(tied | (taken & (own < doubt)), own, doubt)


def _rounding(be: Any, value: Array) -> Array:
    size = be.xp.abs(value)
    return ROUNDINGS * float(be.xp.finfo(size.dtype).eps) * size


def _integral(be: Any, slope: Any, p: int, q: int, a: Array, gap: Array, nodes: int) -> Array:
    """``int t^(q-1) (1-t)^(p-1) f^(k)(a + t gap) dt / ((p-1)! (q-1)!)``."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    total: Any = 0
    for t, w in zip((points + 1) / 2, weights / 2, strict=True):
        c = w * t ** (q - 1) * (1 - t) ** (p - 1) / (math.factorial(p - 1) * math.factorial(q - 1))
        total = total + float(c) * slope.fn(be.xp, a + float(t) * gap)
    return total
