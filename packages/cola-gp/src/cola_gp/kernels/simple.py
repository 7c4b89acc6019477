"""Kernels that are not functions of a distance: linear, constant, white noise."""

from __future__ import annotations

from typing import Any

from .._struct import set_fields, struct
from .base import Array, Kernel, Pullback, eye, follow, full, pair, per_dimension, points, positive, xp_of


@struct
class Linear(Kernel):
    """``sum_d v_d x_d x'_d``: Bayesian linear regression with weight variances ``v`` (one, or one per
    dimension).

    Add a :class:`Constant` for the offset; scikit-learn's ``DotProduct(s)`` is ``Linear(1) +
    Constant(s**2)``.
    """

    log_variance: Array

    def __init__(self, variance: Any = 1.0, *, log_variance: Any = None):
        set_fields(self, log_variance=positive("variance", variance, log_variance))

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        xp, X1, X2 = pair(X1, X2)
        variance = xp.exp(follow(self.log_variance, X1))
        ard = per_dimension("variance", variance, X1.shape[1])

        def pull(W: Array) -> tuple[Array, ...]:
            each = variance * xp.sum(X1 * (W @ X2), axis=0)
            return (each if ard else xp.sum(each),)

        return (X1 * variance) @ X2.T, pull

    def diag(self, X: Array) -> Array:
        xp = xp_of(points(X))
        return xp.sum(X * X * xp.exp(follow(self.log_variance, X)), axis=1)

    def feature_count(self, d: int) -> int:
        return d

    def features(self, X: Array) -> tuple[Array, Pullback]:
        xp = xp_of(points(X))
        log_variance = follow(self.log_variance, X)
        ard = per_dimension("variance", log_variance, X.shape[1])
        U = X * xp.exp(0.5 * log_variance)

        def pull(G: Array) -> tuple[Array, ...]:
            each = 0.5 * xp.sum(G * U, axis=0)
            return (each if ard else xp.sum(each),)

        return U, pull


@struct
class Constant(Kernel):
    """The same covariance ``variance`` between all points: an unknown offset, normal about zero.

    variance: one positive number.  Rank one.
    """

    log_variance: Array

    def __init__(self, variance: Any = 1.0, *, log_variance: Any = None):
        set_fields(self, log_variance=positive("variance", variance, log_variance))

    @property
    def stationary(self) -> bool:
        return True

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        xp, X1, X2 = pair(X1, X2)
        variance = xp.exp(follow(self.log_variance, X1))
        value = full(X1, variance)[:, None] * xp.ones_like(X2[:, 0])[None, :]
        return value, lambda W: (variance * xp.sum(W),)

    def diag(self, X: Array) -> Array:
        return full(X, xp_of(X).exp(follow(self.log_variance, points(X))))

    def feature_count(self, d: int) -> int:
        return 1

    def features(self, X: Array) -> tuple[Array, Pullback]:
        xp = xp_of(points(X))
        root = xp.exp(0.5 * follow(self.log_variance, X))
        return full(X, root)[:, None], lambda G: (0.5 * root * xp.sum(G),)

    def _axis_factors(self, widths: tuple[int, ...]) -> tuple[Kernel, ...]:
        return (self, *(Ones() for _ in widths[1:]))

    def _join_axis_gradients(
        self, parts: tuple[tuple[Array, ...], ...], widths: tuple[int, ...]
    ) -> tuple[Array, ...]:
        return parts[0]


@struct
class Ones(Kernel):
    """Covariance one between all points, without parameters: the neutral element of products."""

    @property
    def stationary(self) -> bool:
        return True

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        xp, X1, X2 = pair(X1, X2)
        return xp.ones_like(X1[:, 0])[:, None] * xp.ones_like(X2[:, 0])[None, :], lambda W: ()

    def diag(self, X: Array) -> Array:
        return xp_of(points(X)).ones_like(X[:, 0])

    def feature_count(self, d: int) -> int:
        return 1

    def features(self, X: Array) -> tuple[Array, Pullback]:
        return xp_of(points(X)).ones_like(X[:, :1]), lambda G: ()

    def _axis_factors(self, widths: tuple[int, ...]) -> tuple[Kernel, ...]:
        return tuple(Ones() for _ in widths)

    def _join_axis_gradients(
        self, parts: tuple[tuple[Array, ...], ...], widths: tuple[int, ...]
    ) -> tuple[Array, ...]:
        return ()


@struct
class White(Kernel):
    """Independent noise of the given variance at every training point: ``variance * I`` on ``k(X)``, zero
    on ``k(X1, X2)``.

    Two training points at the same place have independent noise, and test points never share it, as in
    scikit-learn's ``WhiteKernel``.
    """

    log_variance: Array

    def __init__(self, variance: Any = 1.0, *, log_variance: Any = None):
        set_fields(self, log_variance=positive("variance", variance, log_variance))

    @property
    def stationary(self) -> bool:
        return True

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        same = X2 is None
        xp, X1, X2 = pair(X1, X2)
        variance = xp.exp(follow(self.log_variance, X1))
        if same:
            identity = eye(X1)
            return variance * identity, lambda W: (variance * xp.sum(W * identity),)
        zeros = xp.zeros_like(X1[:, 0])[:, None] * xp.zeros_like(X2[:, 0])[None, :]
        return zeros, lambda W: (0.0 * variance,)

    def _profile_at(self, lags: Array, white: bool) -> tuple[Array, Pullback]:
        xp = xp_of(lags)
        variance = xp.exp(follow(self.log_variance, lags))
        own = xp.zeros_like(lags[:, 0])
        if white and lags.shape[0]:
            own = xp.concat([xp.ones_like(own[:1]), own[1:]])
        return variance * own, lambda w: (variance * xp.sum(w * own),)

    def diag(self, X: Array) -> Array:
        return full(X, xp_of(X).exp(follow(self.log_variance, points(X))))

    def cross_diag(self, X: Array) -> Array:
        return xp_of(points(X)).zeros_like(X[:, 0])
