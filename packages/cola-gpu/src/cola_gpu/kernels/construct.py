"""``rbf(x1, x2, lengthscale=..., outputscale=...)`` and its kin: the operators at once, checked, and declared
positive semidefinite where there is one set of points."""

from __future__ import annotations

from typing import Any

from cola_core.backends import backend_of, get_backend
from cola_core.errors import BackendError
from cola_core.ops import Kernel, LinearOperator
from cola_core.properties import PSD

from .functions import RBF, Matern12, Matern32, Matern52, RationalQuadratic, Stationary

__all__ = ["matern12", "matern32", "matern52", "rational_quadratic", "rbf"]

Array = Any


def rbf(
    x1: Array,
    x2: Array | None = None,
    lengthscale: Any = 1.0,
    outputscale: Any = 1.0,
    *,
    path: str = "auto",
    precision: str = "ieee",
) -> LinearOperator:
    """``K[i, j] = outputscale * exp(-r^2 / 2)`` for points x1 (*batch, n, d), x2 (*batch, m, d), with r the
    distance in lengthscales: one, or one for each coordinate.

    x2: None means x1, and the operator is declared PSD. Parameters are positive numbers or arrays of the
    points' library, and take gradients; ValueError where one is not positive, unless a traced program hides
    it. path, precision: see ``Stationary``. A product costs O(n m d) and holds blocks only.

    >>> import numpy as np
    >>> from cola_gpu.kernels import rbf
    >>> K = rbf(np.array([[0.0], [1.0]]), lengthscale=2.0)
    >>> (K @ np.ones(2)).round(4).tolist()
    [1.8825, 1.8825]
    """
    return _operator(RBF(path, precision), x1, x2, lengthscale=lengthscale, outputscale=outputscale)


def matern12(
    x1: Array,
    x2: Array | None = None,
    lengthscale: Any = 1.0,
    outputscale: Any = 1.0,
    *,
    path: str = "auto",
    precision: str = "ieee",
) -> LinearOperator:
    """``outputscale * exp(-r)``; see ``rbf``."""
    return _operator(Matern12(path, precision), x1, x2, lengthscale=lengthscale, outputscale=outputscale)


def matern32(
    x1: Array,
    x2: Array | None = None,
    lengthscale: Any = 1.0,
    outputscale: Any = 1.0,
    *,
    path: str = "auto",
    precision: str = "ieee",
) -> LinearOperator:
    """``outputscale * (1 + t) exp(-t)``, t = sqrt(3) r; see ``rbf``."""
    return _operator(Matern32(path, precision), x1, x2, lengthscale=lengthscale, outputscale=outputscale)


def matern52(
    x1: Array,
    x2: Array | None = None,
    lengthscale: Any = 1.0,
    outputscale: Any = 1.0,
    *,
    path: str = "auto",
    precision: str = "ieee",
) -> LinearOperator:
    """``outputscale * (1 + t + t^2 / 3) exp(-t)``, t = sqrt(5) r; see ``rbf``."""
    return _operator(Matern52(path, precision), x1, x2, lengthscale=lengthscale, outputscale=outputscale)


def rational_quadratic(
    x1: Array,
    x2: Array | None = None,
    lengthscale: Any = 1.0,
    alpha: Any = 1.0,
    outputscale: Any = 1.0,
    *,
    path: str = "auto",
    precision: str = "ieee",
) -> LinearOperator:
    """``outputscale * (1 + r^2 / (2 alpha))^-alpha``; see ``rbf``."""
    fn = RationalQuadratic(path, precision)
    return _operator(fn, x1, x2, lengthscale=lengthscale, alpha=alpha, outputscale=outputscale)


def _operator(fn: Stationary, x1: Array, x2: Array | None, **given: Any) -> LinearOperator:
    be = backend_of(x1) or get_backend("numpy")
    x1 = be.as_value(x1)
    x2 = None if x2 is None else be.as_value(x2)
    params = {}
    for name, value in given.items():
        own = backend_of(value)
        if own is not None and own is not be and own.name != "numpy":
            raise BackendError(
                f"{type(fn).__name__}: {name} is an array of {own.name} and the points are of {be.name}; "
                "convert one of them."
            )
        if own is not be:
            value = be.asarray(value, dtype=x1.dtype, device=be.device(x1))
        params[name] = value
        # wherever it can be looked at: with a negative scale the declaration below would be false
        if be.is_concrete(value) and not bool(be.xp.all(value > 0)):
            raise ValueError(f"{type(fn).__name__}: {name} must be positive, got {value}.")
    fn._parameters(be, x1, params)
    if fn.path_ == "triton":
        fn.path(x1, x1 if x2 is None else x2, 1, params)
    K = Kernel(x1, x2, fn, params=params)
    return PSD(K) if x2 is None else K
