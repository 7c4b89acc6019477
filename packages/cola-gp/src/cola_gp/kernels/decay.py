r"""The decaying functions of Matern kernels, with derivatives that are right at distance zero.

With ``t = sqrt(c s)``::

    m_0 = exp(-t),   m_1 = (1 + t) exp(-t),   m_2 = (1 + t + t^2 / 3) exp(-t)

and ``d m_k / ds = -c / (2 (2 k - 1)) m_{k-1}``, which is finite where the root is not differentiable.
Automatic differentiation through the root gives zero there instead: first derivatives of the covariance
survive that, second ones (the variance of the slope of the process) do not; and close to zero it subtracts
nearly equal numbers.  So the derivative is stated, and by this recursion derivatives of every order that
exist are right.
"""

from __future__ import annotations

import math
from typing import Any

from ..arrays import backend_for
from .base import Array
from .distances import exponential, overwritable


def root(xp: Any, s: Array) -> Array:
    """``sqrt(s)``, whose derivative at zero is taken as zero."""
    # The root has an infinite slope at zero; automatic differentiation needs both branches finite.  Their
    # values are nearly equal too: a compiler may compute s twice, contracted differently, and so take one
    # branch inside and the other outside (XLA on CPUs does, for the distance of a point to itself).
    if overwritable(s):  # not differentiated
        return xp.sqrt(s)
    zero, tiny = s <= 0, float(xp.finfo(s.dtype).eps) ** 2
    return xp.where(zero, xp.zeros_like(s), xp.sqrt(xp.where(zero, tiny, s)))


def decay(k: int, c: float, s: Array) -> Array:
    """``m_k`` of ``sqrt(c s)`` for ``k`` in 0, 1, 2; not negative ``s`` of any shape."""
    backend = backend_for(s)
    xp: Any = backend.xp
    if k == 0 or not backend.differentiating(s):
        return values(xp, k, c, s)[0]

    def run(s: Array) -> tuple[tuple[Array, ...], Any]:
        return (values(xp, k, c, s)[0],), None

    def tangent(d: Any, inputs: tuple[Array, ...], outputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (-c / (2.0 * (2 * k - 1)) * decay(k - 1, c, inputs[0]) * d[0],)

    return backend.differentiable(run, tangent, s)[0][0]


def values(xp: Any, k: int, c: float, s: Array) -> tuple[Array, Array, Array]:
    """``m_k``, ``t`` and ``exp(-t)``."""
    t = math.sqrt(c) * root(xp, s)
    e = exponential(-t)
    if k == 0:
        return e, t, e
    value = 1.0 + t if k == 1 else (c / 3.0) * s
    if not overwritable(s):
        return (value if k == 1 else 1.0 + t + value) * e, t, e
    if k == 2:
        value += t
        value += 1.0
    value *= e
    return value, t, e
