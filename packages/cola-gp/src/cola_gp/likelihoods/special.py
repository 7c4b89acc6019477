"""Special functions by their name on every library, and the quadratures of predictive densities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import backend_for
from ..kernels.base import Array


def special(name: str, x: Array) -> Array:
    """``log_ndtr``, ``ndtr``, ``gammaln`` or ``digamma`` of an array."""
    library = backend_for(x).name
    if library == "torch":
        import torch

        return getattr(torch.special, name)(x)
    if library == "jax":
        import jax.scipy.special

        return getattr(jax.scipy.special, name)(x)
    import scipy.special

    return np.asarray(getattr(scipy.special, name)(x), dtype=x.dtype)


def log_sigmoid(x: Array) -> Array:
    """``log(1 / (1 + exp(-x)))`` without overflow, and without loss where it is tiny."""
    xp = backend_for(x).xp
    return xp.where(x < 0, x, xp.zeros_like(x)) - xp.log1p(xp.exp(-xp.abs(x)))


def nodes(values: np.ndarray, like: Array) -> Array:
    """Nodes or weights of a quadrature in the library and dtype of ``like``."""
    backend = backend_for(like)
    return backend.asarray(values, dtype=like.dtype, device=backend.device(like))


def normal_average(mean: Array, variance: Array, f: Any) -> Array:
    """``E f(g)`` for ``g ~ N(mean, variance)``, f analytic and slow against the standard deviation.

    The trapezoidal rule converges exponentially for analytic integrands on the whole line (Trefethen &
    Weideman 2014).
    """
    xp = backend_for(mean).xp
    z = np.arange(-34, 35) * 0.25
    weights = np.exp(-0.5 * z**2)
    values = f(mean[:, None] + xp.sqrt(variance)[:, None] * nodes(z, mean)[None, :])
    return values @ nodes(weights / weights.sum(), mean)


def log_integral(log_f: Any, mode: Array, width: Array) -> Array:
    """``log`` of the integral of ``exp(log_f)`` over the line, for log-concave integrands with that mode and
    the curvature ``-1 / width^2`` there.  ``log_f`` maps ``(n, k)`` to ``(n, k)``."""
    xp = backend_for(mode).xp
    z = np.arange(-400, 401) * 0.1
    values = log_f(mode[:, None] + width[:, None] * nodes(z, mode)[None, :])
    top = xp.max(values, axis=1)
    return top + xp.log(xp.sum(xp.exp(values - top[:, None]), axis=1)) + xp.log(width) + math.log(0.1)
