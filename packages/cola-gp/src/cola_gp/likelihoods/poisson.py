r"""Counts: ``y ~ Poisson(exp(f))``.  What is known of the exposure belongs into the mean function, as its
logarithm."""

from __future__ import annotations

from .._struct import struct
from ..arrays import backend_for
from ..kernels.base import Array
from .base import Curve, Likelihood
from .special import log_integral, special


@struct
class PoissonLikelihood(Likelihood):
    """Observations are whole numbers of mean ``exp(f)``."""

    def check(self, y: Array) -> None:
        if backend_for(y).is_concrete(y) and not bool(((y >= 0) & (y == y // 1)).all()):
            raise ValueError("PoissonLikelihood needs observations that are whole numbers, zero or more.")

    def log_density(self, y: Array, f: Array) -> Array:
        return y * f - backend_for(f).xp.exp(f) - special("gammaln", y + 1.0)

    def curve(self, y: Array, f: Array) -> Curve:
        rate = backend_for(f).xp.exp(f)
        return Curve(y - rate, rate, -rate)

    def guess(self, y: Array) -> Array:
        xp = backend_for(y).xp
        return xp.log(xp.where(y > 0.5, y, 0.5 * xp.ones_like(y)))

    def response(self, mean: Array, variance: Array) -> tuple[Array, Array]:
        xp = backend_for(mean).xp
        rate = xp.exp(mean + 0.5 * variance)
        return rate, rate + xp.expm1(variance) * rate * rate

    def log_predictive_density(self, y: Array, mean: Array, variance: Array) -> Array:
        xp = backend_for(mean).xp
        # A function that is known exactly has no density to integrate over.
        least = float(xp.finfo(mean.dtype).eps) * (1.0 + mean * mean)
        v = xp.where(variance > least, variance, least)
        # The mode of y f - exp(f) - (f - mean)^2 / (2 v) by Newton's method from above, where it is monotone.
        f = xp.where(mean + v * y > self.guess(y), xp.where(mean > self.guess(y), mean, self.guess(y)), mean)
        f = xp.where(f < mean + v * y, f, mean + v * y)
        f = xp.where(f > mean, f, mean)
        for _ in range(60):
            rate = xp.exp(f)
            step = (y - rate - (f - mean) / v) / (rate + 1.0 / v)
            f = f + xp.where(step > 1.0, xp.ones_like(step), step)
        width = 1.0 / xp.sqrt(xp.exp(f) + 1.0 / v)

        def integrand(g: Array) -> Array:
            d = (g - mean[:, None]) ** 2 / v[:, None]
            return y[:, None] * g - xp.exp(g) - 0.5 * d

        norm = 0.5 * xp.log(2 * xp.pi * v) + special("gammaln", y + 1.0)
        return log_integral(integrand, f, width) - norm
