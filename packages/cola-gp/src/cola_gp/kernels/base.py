r"""What a kernel is: a covariance function with its parameters, as an immutable pytree.

Contract of a kernel ``k`` (all points are rows of an ``(n, d)`` array):

* ``k(X1, X2)`` is the ``(n, m)`` covariance matrix, ``k(X)`` the symmetric one.  The two differ only by
  :class:`~cola_gp.kernels.White`, whose draws belong to a point's index and not to its position.
* ``k.diag(X)`` is the diagonal of ``k(X)`` without forming it.
* ``k.evaluate(X1, X2)`` returns the matrix and a *pullback*: a function that maps a weight matrix ``W`` to
  the derivatives of ``sum(W * K)`` with respect to every parameter leaf, in leaf order.  With ``W = (a a^T
  - K^{-1}) / 2`` this is the gradient of the log marginal likelihood (Rasmussen & Williams 2006, eq. 5.9),
  at O(n^2) per parameter.  A sum hands ``W`` to its terms, a product hands ``W * (the other factors)``.
* ``k.stationary`` says that ``k(x, x')`` depends on ``x - x'`` only; then ``k.profile(lags)`` evaluates it on
  differences, which is all that Toeplitz and interpolated covariances need.
* ``k.axis_factors(d)`` takes a product over the input dimensions (or over groups of them) apart,
  ``k.features(X)`` gives a finite feature map; both say None where there is none.
* Positive parameters are stored by their logarithm (fields ``log_...``), so every leaf may take any real
  value.

Parameters that are NumPy arrays follow the points: they are cast to the dtype and array library of ``X``.
Parameters that are torch or JAX arrays need points of the same library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import BackendError, ShapeError

from .._struct import Struct
from ..arrays import Array, backend_for

Pullback = Callable[[Array], tuple[Array, ...]]


class Kernel(Struct):
    """Base class of all kernels: ``k(X1 (n, d), X2 (m, d))`` is the ``(n, m)`` covariance.

    Subclasses define ``evaluate`` (values and pullback), ``diag``, and what they know of their structure; the
    contract is in the docstring of :mod:`cola_gp.kernels.base`.  Written with ``+``, ``*`` and numbers.
    """

    __array_ufunc__ = None  # NumPy leaves 2.0 * kernel to the kernel

    # Whether it says how inference is done, so that it makes sense around the whole kernel of a model only.
    outermost: ClassVar[bool] = False

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

    @property
    def stationary(self) -> bool:
        """True if ``k(x, x')`` depends on ``x - x'`` only; white noise, constant on the diagonal, counts too.

        It follows from the class: sums, products, scalings and restrictions to some dimensions of stationary
        kernels are stationary.
        """
        return False

    def profile(self, lags: Array, *, white: bool = False) -> tuple[Array, Pullback]:
        """The stationary kernel on differences: ``k(lag, 0)`` for every row of ``lags (m, d)``, as ``(m,)``.

        Returns the values and their pullback, which maps weights ``(m,)`` to derivatives for every leaf.
        With ``white=True`` the first row belongs to a point and itself and has the white noise, so that
        ``k.profile(X - X[0], white=True)`` is the first column of ``k(X)``.  Raises ValueError if the kernel
        is not stationary.  Cost O(m d).
        """
        if not self.stationary:
            raise ValueError(
                f"{type(self).__name__} is not stationary: it has no value at a difference of points; "
                "evaluate it on points."
            )
        return self._profile_at(points(lags), white)

    def _profile_at(self, lags: Array, white: bool) -> tuple[Array, Pullback]:
        backend = backend_for(lags)
        origin = backend.asarray(np.zeros((1, lags.shape[1])), dtype=lags.dtype, device=backend.device(lags))
        value, back = self.evaluate(lags, origin)
        return value[:, 0], lambda w: back(w[:, None])

    @property
    def blockwise(self) -> bool:
        """Whether a block of the matrix costs a share of the whole; not where points are first mapped."""
        return all(part.blockwise for part in self._parts())

    def _parts(self) -> Iterator[Kernel]:
        """The kernels this one is made of."""
        for name in self._child_fields:
            value = getattr(self, name)
            yield from (p for p in (value if isinstance(value, tuple) else (value,)) if isinstance(p, Kernel))

    def label_dims(self, d: int) -> frozenset[int]:
        """Which of ``d`` input dimensions hold labels, such as task numbers, that no scaling may touch."""
        return frozenset().union(*(part.label_dims(d) for part in self._parts()))

    def axis_factors(self, d: int | tuple[int, ...]) -> tuple[Kernel, ...] | None:
        """Kernels with ``k(x, x') = prod_i k_i(x_i, x_i')``; None if not separable.

        d: the number of input dimensions, or the widths of groups of consecutive dimensions: with ``(3, 1)``
        the first factor is a kernel of the first three columns and the second one of the last.
        """
        widths = (1,) * d if isinstance(d, int) else tuple(d)
        return (self,) if len(widths) == 1 else self._axis_factors(widths)

    def _axis_factors(self, widths: tuple[int, ...]) -> tuple[Kernel, ...] | None:
        return None

    def join_axis_gradients(
        self, parts: tuple[tuple[Array, ...], ...], widths: tuple[int, ...] | None = None
    ) -> tuple[Array, ...]:
        """Gradients of this kernel from those of its axis factors (one tuple per axis, leaf order).

        widths: what :meth:`axis_factors` was asked with, if those were groups of dimensions.
        """
        widths = (1,) * len(parts) if widths is None else tuple(widths)
        return parts[0] if len(widths) == 1 else self._join_axis_gradients(parts, widths)

    def _join_axis_gradients(
        self, parts: tuple[tuple[Array, ...], ...], widths: tuple[int, ...]
    ) -> tuple[Array, ...]:
        raise NotImplementedError(f"{type(self).__name__} is not a product over dimensions.")

    def __add__(self, other: Any) -> Kernel:
        from .compose import Sum

        if not isinstance(other, Kernel):
            return NotImplemented
        return Sum(*_flat(self, Sum, "terms"), *_flat(other, Sum, "terms"))

    def __mul__(self, other: Any) -> Kernel:
        from .compose import Product, Scale

        if isinstance(other, Kernel):
            return Product(*_flat(self, Product, "factors"), *_flat(other, Product, "factors"))
        if isinstance(other, (int, float)) or (backend_of(other) is not None and np.ndim(other) == 0):
            return Scale(self, variance=other)
        return NotImplemented

    def __radd__(self, other: Any) -> Kernel:
        # the start of sum(kernels)
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __rmul__(self, other: Any) -> Kernel:
        return self.__mul__(other)


def _flat(kernel: Kernel, cls: type, field: str) -> tuple[Kernel, ...]:
    return getattr(kernel, field) if isinstance(kernel, cls) else (kernel,)


def positive(name: str, value: Any, log_value: Any, max_ndim: int = 1) -> Array:
    """The stored logarithm of a positive parameter given either directly or by its logarithm.

    Numbers, lists and NumPy arrays become float64 arrays and are checked; torch and JAX arrays are kept as
    they are.
    """
    given = value if log_value is None else log_value
    backend = backend_of(given)
    if backend is not None and backend.name != "numpy":
        if log_value is None and backend.is_concrete(given) and not bool(backend.xp.all(given > 0)):
            raise ValueError(f"{name} must be positive and finite, not {given!r}.")
        return backend.xp.log(given) if log_value is None else given
    try:
        array = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number or an array of numbers, not {given!r}.") from None
    if array.ndim > max_ndim:
        what = "a number or one number per dimension" if max_ndim == 1 else f"an array of {max_ndim} axes"
        raise ShapeError(f"{name} must be {what}, not an array of shape {array.shape}.")
    if array.size == 0:
        raise ShapeError(f"{name} must hold at least one number, not none (shape {array.shape}).")
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


def differences(X1: Array, X2: Array, j: int) -> Array:
    """Differences ``(n, m)`` of coordinate ``j``."""
    return X1[:, j][:, None] - X2[:, j][None, :]


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
