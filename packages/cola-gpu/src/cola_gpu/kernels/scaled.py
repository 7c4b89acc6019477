"""Points in units in which ``u`` is their squared distance, and gradients back in the units of the data.

Distances do not change when a common centre is subtracted; the numbers get smaller, and so do the rounding
errors of the scaling. As K depends on the points over the lengthscales only, ``l dK/dl = -(x1 dK/dx1 + x2
dK/dx2)`` for each coordinate (Euler): the lengthscales' gradient needs no pass of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from cola_core.backends import Backend
from cola_core.backends.base import dtype_name

from .parameters import Parameters

__all__ = ["Scaled", "back", "on_host", "scaled"]

Array = Any


class Scaled(NamedTuple):
    """``a = (x1 - centre) * rate`` and b, in the dtype that is computed in; ``a is b`` where x1 is x2.
    alpha: a number on the host, a 0-d tensor on a device, which is not waited for."""

    a: Array
    b: Array
    rate: Array
    given: Parameters
    alpha: Any


def on_host(be: Backend, x: Array) -> bool:
    """Whether numbers can be looked at without waiting for a device."""
    return str(be.device(x)).partition(":")[0] in ("None", "cpu")


def scaled(be: Backend, fn: Any, x1: Array, x2: Array, params: Any, dtype: str) -> Scaled:
    """Scaled points of a function's profile."""
    same = x1 is x2
    x1 = be.astype(x1, dtype)
    x2 = x1 if same else be.astype(x2, dtype)
    given = fn._parameters(be, x1, params)
    xp = be.xp
    alpha = 1.0 if given.alpha is None else given.alpha
    rate = xp.sqrt(be.asarray(fn.profile.kappa(alpha), dtype=x1.dtype, device=be.device(x1)))
    rate = xp.broadcast_to(rate / given.lengthscale, (x1.shape[1],))
    if x1.shape[0]:
        centre = xp.mean(x1, axis=0)
        centre = xp.where(xp.isfinite(centre), centre, xp.zeros_like(centre))
        a = (x1 - centre) * rate
        b = a if same else (x2 - centre) * rate
    else:
        a, b = x1 * rate, x2 * rate
    if fn.alphas and on_host(be, x1):
        alpha = be.number(alpha)
    return Scaled(a, b, rate, given, alpha)


def back(
    be: Backend,
    points: Scaled,
    abar: Array,
    bbar: Array,
    values: Any,
    alphas: Any,
    x1: Array,
    x2: Array,
    params: Any,
) -> tuple[Array, Array, Any]:
    """Gradients in x1, x2 and params from those in a and b, all of K without outputscale.

    values: ``sum(G * (K V))``, alphas: its derivative in alpha at fixed distance, 0-d arrays or numbers.
    """
    xp = be.xp
    given = points.given
    scale: Any = 1.0 if given.outputscale is None else given.outputscale
    first, second = abar * points.rate * scale, bbar * points.rate * scale
    found = {}
    for key, value in (params or {}).items():
        if key == "lengthscale":
            wide = "float64" if be.name != "torch" or abar.device.type != "mps" else dtype_name(abar.dtype)
            terms = xp.sum(be.astype(points.a * abar, wide), axis=0) + xp.sum(
                be.astype(points.b * bbar, wide), axis=0
            )
            g = -be.astype(terms, abar.dtype) * scale / given.lengthscale
            g = g if tuple(value.shape) == tuple(g.shape) else xp.sum(g)
        elif key == "outputscale":
            g = be.asarray(values, dtype=abar.dtype, device=be.device(abar))
        else:
            g = be.asarray(alphas, dtype=abar.dtype, device=be.device(abar)) * scale
        found[key] = be.astype(xp.reshape(g, tuple(value.shape)), value.dtype)
    return be.astype(first, x1.dtype), be.astype(second, x2.dtype), found if params is not None else None
