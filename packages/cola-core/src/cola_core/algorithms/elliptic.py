"""Jacobi's elliptic functions by the arithmetic-geometric mean, on any backend and inside traces.

Abramowitz & Stegun 16.4, 17.6. The complementary modulus is an argument of its own: near k = 1 it cannot be
found from k.
"""

from __future__ import annotations

import math
from typing import Any

from ..backends.base import Array

__all__ = ["elliptic_functions", "elliptic_functions_above", "quarter_period"]

ROUNDS = 12  # the mean converges quadratically; from 1e-16 it takes nine


def quarter_period(xp: Any, complement: Array) -> Array:
    """``K(k)`` for the complementary modulus ``k' = sqrt(1 - k^2)``."""
    a, b = xp.ones_like(complement), complement
    for _ in range(ROUNDS):
        a, b = (a + b) / 2, xp.sqrt(a * b)
    return math.pi / (2 * a)


def elliptic_functions(xp: Any, u: Array, k: Array, complement: Array) -> tuple[Array, Array, Array]:
    """``sn, cn, dn`` of real u."""
    a, b = xp.ones_like(k), complement
    scales, gaps = [a], [k]
    for _ in range(ROUNDS):
        a, b, c = (a + b) / 2, xp.sqrt(a * b), (a - b) / 2
        scales.append(a)
        gaps.append(c)
    phi = 2.0**ROUNDS * a * u
    for a, c in zip(scales[:0:-1], gaps[:0:-1], strict=True):
        phi = (phi + xp.asin(xp.clip(c / a * xp.sin(phi), -1.0, 1.0))) / 2
    sn, cn = xp.sin(phi), xp.cos(phi)
    return sn, cn, xp.sqrt(complement**2 + (k * cn) ** 2)


def elliptic_functions_above(
    xp: Any, x: Array, y: Array, k: Array, complement: Array
) -> tuple[Array, Array, Array]:
    """``sn, cn, dn`` of ``x + i y``."""
    s, c, d = elliptic_functions(xp, x, k, complement)
    s1, c1, d1 = elliptic_functions(xp, y, complement, k)
    below = c1**2 + (k * s * s1) ** 2
    sn = (s * d1 + 1j * (c * d * s1 * c1)) / below
    cn = (c * c1 - 1j * (s * d * s1 * d1)) / below
    dn = (d * c1 * d1 - 1j * (k**2 * s * c * s1)) / below
    return sn, cn, dn
