"""Mean functions: what the process is expected to be before any data."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._struct import Struct, set_fields, struct
from .kernels.base import Array, follow, full, points, xp_of


class Mean(Struct):
    """``mean(X)`` is a vector ``(n,)``; ``mean.pullback(X, v)`` the derivatives of ``sum(v * mean(X))``."""

    def __call__(self, X: Array) -> Array:
        raise NotImplementedError

    def pullback(self, X: Array, v: Array) -> tuple[Array, ...]:
        """Derivatives with respect to every leaf, in leaf order."""
        raise NotImplementedError


@struct
class ZeroMean(Mean):
    """Mean zero everywhere."""

    def __call__(self, X: Array) -> Array:
        return xp_of(points(X)).zeros_like(X[:, 0])

    def pullback(self, X: Array, v: Array) -> tuple[Array, ...]:
        return ()


@struct
class ConstantMean(Mean):
    """The same unknown mean everywhere; ``value`` is a parameter."""

    value: Array

    def __init__(self, value: Any = 0.0):
        set_fields(self, value=np.asarray(value, dtype=float) if isinstance(value, (int, float)) else value)

    def __call__(self, X: Array) -> Array:
        return full(points(X), follow(self.value, X))

    def pullback(self, X: Array, v: Array) -> tuple[Array, ...]:
        return (xp_of(X).sum(v),)
