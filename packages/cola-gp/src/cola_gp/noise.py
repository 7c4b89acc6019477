"""Observation noise: what is added to the diagonal of the covariance."""

from __future__ import annotations

from typing import Any

from cola_core import PSD, ops
from cola_core.backends import backend_of
from cola_core.errors import ShapeError

from ._struct import Struct, set_fields, struct
from .kernels.base import Array, follow, positive, xp_of


class Noise(Struct):
    """Contract: ``operator(like)`` is the ``(n, n)`` noise covariance of ``n = len(like)`` observations.

    ``pullback(v)`` maps the derivative ``v (n,)`` with respect to the diagonal to derivatives of the leaves.
    """

    def variances(self, like: Array) -> Array:
        """Noise variance of every observation, ``(n,)``, of the library and dtype of ``like (n,)``."""
        raise NotImplementedError

    def operator(self, like: Array) -> Any:
        """The noise covariance as an operator: its class tells which structure survives."""
        raise NotImplementedError

    def pullback(self, v: Array) -> tuple[Array, ...]:
        raise NotImplementedError

    def at_test_points(self, like: Array) -> Array:
        """Noise variance of future observations, a 0-d array."""
        raise NotImplementedError


@struct
class GaussianNoise(Noise):
    """Independent noise of one common variance."""

    log_variance: Array

    def __init__(self, variance: Any = 1e-2, *, log_variance: Any = None):
        stored = positive("noise variance", variance, log_variance)
        if stored.ndim != 0:
            raise ShapeError("GaussianNoise has one variance; use FixedNoise for one per observation.")
        set_fields(self, log_variance=stored)

    def variances(self, like: Array) -> Array:
        xp = xp_of(like)
        return xp.exp(follow(self.log_variance, like)) * xp.ones_like(like)

    def operator(self, like: Array) -> Any:
        n = like.shape[0]
        return PSD(ops.ScalarMul(xp_of(like).exp(follow(self.log_variance, like)), n))

    def pullback(self, v: Array) -> tuple[Array, ...]:
        xp = xp_of(v)
        return (xp.sum(v) * xp.exp(follow(self.log_variance, v)),)

    def at_test_points(self, like: Array) -> Array:
        return xp_of(like).exp(follow(self.log_variance, like))


@struct
class FixedNoise(Noise):
    """Known noise variances, one per observation; no parameter is fitted."""

    variance: Array
    _data_fields = ("variance",)

    def __init__(self, variance: Any):
        backend = backend_of(variance)
        if backend is None or getattr(variance, "ndim", 0) != 1:
            raise ShapeError("FixedNoise needs a vector with one variance per observation.")
        if backend.is_concrete(variance) and not bool((variance > 0).all()):
            raise ValueError("FixedNoise needs positive variances.")
        set_fields(self, variance=variance)

    def variances(self, like: Array) -> Array:
        if self.variance.shape[0] != like.shape[0]:
            raise ShapeError(
                f"FixedNoise holds {self.variance.shape[0]} variances for {like.shape[0]} observations."
            )
        return follow(self.variance, like)

    def operator(self, like: Array) -> Any:
        return PSD(ops.Diagonal(self.variances(like)))

    def pullback(self, v: Array) -> tuple[Array, ...]:
        return (v,)

    def at_test_points(self, like: Array) -> Array:
        raise ValueError(
            "FixedNoise knows the noise of the training points only; ask for the latent function "
            "(include_noise=False), or add the noise of the test points yourself."
        )
