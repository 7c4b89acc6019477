r"""What a kernel is: a covariance function with its parameters, as an immutable pytree.

Contract of a kernel ``k`` (all points are rows of an ``(n, d)`` array):

* ``k(X1, X2)`` is the ``(n, m)`` covariance matrix, ``k(X)`` the symmetric one.  The two differ only by
  :class:`~cola_gp.kernels.White`, whose draws belong to a point's index and not to its position.
* ``k.diag(X)`` is the diagonal of ``k(X)`` without forming it.
* ``k.evaluate(X1, X2)`` returns the matrix and a *pullback*: a function that maps a weight matrix ``W`` to
  the derivatives of ``sum(W * K)`` with respect to every parameter leaf, in leaf order.  With ``W = (a a^T
  - K^{-1}) / 2`` this is the gradient of the log marginal likelihood (Rasmussen & Williams 2006, eq. 5.9),
  at O(n^2) per parameter.  A sum hands ``W`` to its terms, a product hands ``W * (the other factors)``.
* Positive parameters are stored by their logarithm (fields ``log_...``), so every leaf may take any real
  value.

Parameters that are NumPy arrays follow the points: they are cast to the dtype and array library of ``X``.
Parameters that are torch or JAX arrays need points of the same library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import BackendError, ShapeError

from .._struct import Struct
from ..arrays import Array, backend_for

Pullback = Callable[[Array], tuple[Array, ...]]


class Kernel(Struct):
    """Base class of all kernels; see the module docstring for the contract."""

    def __call__(self, X1: Array, X2: Array | None = None) -> Array:
        """Covariance ``(n, m)`` between the rows of ``X1 (n, d)`` and of ``X2 (m, d)`` (default: ``X1``)."""
        return self.evaluate(X1, X2)[0]

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        """The covariance matrix and its pullback (see the module docstring)."""
        raise NotImplementedError

    def diag(self, X: Array) -> Array:
        """Diagonal ``(n,)`` of ``self(X)``."""
        raise NotImplementedError

    def cross_diag(self, X: Array) -> Array:
        """Diagonal ``(n,)`` of ``self(X, X)``, that is without the white part."""
        return self.diag(X)

    def features(self, X: Array) -> tuple[Array, Pullback] | None:
        """``U (n, r)`` with ``k(X1, X2) = U1 @ U2.T`` and its pullback; None for infinite rank."""
        return None

    def feature_count(self, d: int) -> int | None:
        """Number of columns of :meth:`features` in ``d`` dimensions; None for infinite rank."""
        return None

    def axis_factors(self, d: int) -> tuple[Kernel, ...] | None:
        """One-dimensional kernels with ``k(x, x') = prod_i k_i(x_i, x_i')``; None if not separable."""
        return None

    def join_axis_gradients(self, parts: tuple[tuple[Array, ...], ...]) -> tuple[Array, ...]:
        """Gradients of this kernel from those of its axis factors (one tuple per axis, leaf order)."""
        raise NotImplementedError

    def __add__(self, other: Any) -> Kernel:
        from .compose import Sum

        if not isinstance(other, Kernel):
            return NotImplemented
        return Sum(*_flat(self, Sum, "terms"), *_flat(other, Sum, "terms"))

    def __mul__(self, other: Any) -> Kernel:
        from .compose import Product, Scale

        if isinstance(other, Kernel):
            return Product(*_flat(self, Product, "factors"), *_flat(other, Product, "factors"))
        if isinstance(other, (int, float)):
            return Scale(self, variance=other)
        return NotImplemented

    def __rmul__(self, other: Any) -> Kernel:
        return self.__mul__(other)


def _flat(kernel: Kernel, cls: type, field: str) -> tuple[Kernel, ...]:
    return getattr(kernel, field) if isinstance(kernel, cls) else (kernel,)


def positive(name: str, value: Any, log_value: Any) -> Array:
    """The stored logarithm of a positive parameter given either directly or by its logarithm.

    Numbers, lists and NumPy arrays become float64 arrays and are checked; torch and JAX arrays are kept as
    they are.
    """
    given = value if log_value is None else log_value
    backend = backend_of(given)
    if backend is not None and backend.name != "numpy":
        return backend.xp.log(given) if log_value is None else given
    try:
        array = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number or an array of numbers, not {given!r}.") from None
    if array.ndim > 1:
        raise ShapeError(
            f"{name} must be a number or one number per dimension, not an array of shape {array.shape}."
        )
    if not np.all(np.isfinite(array)) or (log_value is None and np.any(array <= 0)):
        raise ValueError(f"{name} must be positive and finite, not {given!r}.")
    return np.asarray(np.log(array)) if log_value is None else array


def follow(param: Array, like: Array) -> Array:
    """``param`` as an array of the library, dtype and device of ``like``."""
    here, there = backend_for(param), backend_for(like)
    if here.name == there.name:
        return param if param.dtype == like.dtype else there.astype(param, like.dtype)
    if here.name == "numpy":
        return there.asarray(param, dtype=like.dtype, device=there.device(like))
    raise BackendError(
        f"a parameter is a {here.name} array but the points are a {there.name} array; "
        f"convert the points to {here.name}, or give the parameters as NumPy arrays, which follow the points."
    )


def points(X: Array) -> Array:
    """Check that ``X`` is an ``(n, d)`` array of a floating dtype and return it."""
    if backend_of(X) is None:
        raise TypeError(f"points must be an (n, d) NumPy, torch or JAX array, not {type(X).__name__}.")
    if X.ndim != 2:
        raise ShapeError(
            f"points must be an (n, d) array, not one of shape {tuple(X.shape)}; "
            "reshape a vector of n one-dimensional points with X[:, None]."
        )
    return X


def pair(X1: Array, X2: Array | None) -> tuple[Any, Array, Array]:
    """Array namespace and the two checked point sets of a kernel evaluation."""
    points(X1)
    backend = backend_for(X1)
    if X2 is None:
        return backend.xp, X1, X1
    points(X2)
    if backend_for(X2).name != backend.name:
        raise BackendError(
            f"the two point sets are {backend.name} and {backend_for(X2).name} arrays; convert one of them."
        )
    if X1.shape[1] != X2.shape[1]:
        raise ShapeError(
            f"point sets of shapes {tuple(X1.shape)} and {tuple(X2.shape)} have different dimensions "
            f"({X1.shape[1]} and {X2.shape[1]})."
        )
    return backend.xp, X1, X2


def per_dimension(name: str, param: Array, d: int) -> bool:
    """True for one value per dimension (ARD), False for one shared; raises if the length is not ``d``."""
    if param.ndim == 0:
        return False
    if param.shape[0] != d:
        raise ShapeError(f"{name} has {param.shape[0]} values but the points have {d} dimensions.")
    return True


def xp_of(X: Array) -> Any:
    """Array namespace of ``X``."""
    return backend_for(X).xp


def full(X: Array, value: Array) -> Array:
    """Vector of length ``len(X)`` filled with the 0-d array ``value``."""
    xp = xp_of(X)
    return value * xp.ones_like(X[:, 0])


def eye(X: Array) -> Array:
    """Identity matrix of the size, dtype and device of the rows of ``X``."""
    backend = backend_for(X)
    n = X.shape[0]
    return backend.asarray(np.eye(n), dtype=X.dtype, device=backend.device(X))


__all__ = ["Array", "Kernel", "Pullback"]
