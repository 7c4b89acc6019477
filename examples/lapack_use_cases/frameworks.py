"""What the examples share: the array library of an array, values with gradients, and a fit by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.optimize

from cola_core.backends import Backend, backend_of, get_backend

__all__ = ["best_backend", "fit", "library", "value_and_gradient"]

Array = Any


def library(*arrays: Array) -> Backend:
    """The array library of the arguments (NumPy, PyTorch or JAX)."""
    bk = backend_of(*arrays)
    if bk is None:
        raise TypeError("the arguments are no arrays of NumPy, PyTorch or JAX")
    return bk


def best_backend() -> Backend:
    """A library that differentiates, if one is installed: PyTorch, then JAX (in double precision), else
    NumPy."""
    if find_spec("torch"):
        return get_backend("torch")
    if find_spec("jax"):
        import jax

        jax.config.update("jax_enable_x64", True)
        return get_backend("jax")
    return get_backend("numpy")


def value_and_gradient(f: Callable[[Array], Array], theta: Array) -> tuple[Array, Array]:
    """`f(theta)`, a number, and its gradient by reverse mode (PyTorch and JAX)."""
    bk = library(theta)
    value, pull_back = bk.vjp(f, theta)
    gradient = pull_back(bk.xp.ones_like(value))
    return value, gradient[0] if isinstance(gradient, tuple) else gradient


def fit(f: Callable[[Array], Array], theta: Array) -> np.ndarray:
    """The minimiser of f from `theta` on, by L-BFGS with the gradient of f (NumPy: by differences)."""
    bk = library(theta)

    def value(at: np.ndarray) -> float:
        return float(f(bk.asarray(at)))

    def both(at: np.ndarray) -> tuple[float, np.ndarray]:
        found, gradient = value_and_gradient(f, bk.asarray(at))
        return float(found), np.asarray(bk.to_numpy(gradient), float)

    start = np.asarray(bk.to_numpy(theta), float)
    if bk.name == "numpy":
        return scipy.optimize.minimize(value, start, method="L-BFGS-B").x
    return scipy.optimize.minimize(both, start, jac=True, method="L-BFGS-B").x
