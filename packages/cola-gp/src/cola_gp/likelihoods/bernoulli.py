r"""Two classes: ``p(y = 1 | f) = s(f)`` with the logistic or the Gaussian distribution function as ``s``.

Rasmussen & Williams (2006), 3.3-3.4.  Every formula is written for the sign ``t = 2 y - 1`` in terms of
``t f``, so that both tails keep their relative accuracy however far the function is from zero.
"""

from __future__ import annotations

import math

import numpy as np

from .._struct import set_fields, static, struct
from ..arrays import backend_for
from ..kernels.base import Array
from .base import Curve, Likelihood
from .special import log_sigmoid, nodes, normal_average, special

LINKS = ("logit", "probit")


@struct
class BernoulliLikelihood(Likelihood):
    """Observations 0 or 1; ``link`` is "logit" (``1 / (1 + exp(-f))``) or "probit" (``Phi(f)``)."""

    link: str = static(default="logit")

    @property
    def has_moments(self) -> bool:
        return self.link == "probit"

    def __init__(self, link: str = "logit"):
        if link not in LINKS:
            raise ValueError(f"link must be one of {LINKS}, not {link!r}.")
        set_fields(self, link=link)

    def check(self, y: Array) -> None:
        if backend_for(y).is_concrete(y) and not bool(((y == 0) | (y == 1)).all()):
            raise ValueError("BernoulliLikelihood needs observations 0 or 1; number two classes by these.")

    def log_density(self, y: Array, f: Array) -> Array:
        z = (2.0 * y - 1.0) * f
        return log_sigmoid(z) if self.link == "logit" else special("log_ndtr", z)

    def curve(self, y: Array, f: Array) -> Curve:
        xp = backend_for(f).xp
        sign = 2.0 * y - 1.0
        z = sign * f
        if self.link == "logit":
            missing = xp.exp(log_sigmoid(-z))  # 1 - p
            weight = xp.exp(log_sigmoid(z)) * missing
            return Curve(sign * missing, weight, sign * weight * (1.0 - 2.0 * missing))
        # r = N(z) / Phi(z), of which the derivative is -r (z + r)
        ratio = xp.exp(-0.5 * z * z - 0.5 * math.log(2 * math.pi) - special("log_ndtr", z))
        # In the tail z + r is the difference of two large numbers: there its asymptotic series is used, from
        # where its first term left out equals the rounding of the difference.
        edge = -float((2e5 / xp.finfo(f.dtype).eps) ** 0.0625)
        far = z < edge
        safe = xp.where(far, z, xp.full_like(z, edge))
        x = 1.0 / (safe * safe)
        series = -(1.0 - x * (2.0 - x * (10.0 - x * (74.0 - x * (706.0 - x * 8162.0))))) / safe
        total = xp.where(far, series, z + ratio)
        ratio = xp.where(far, series - safe, ratio)
        weight = ratio * total
        # the derivative of the weight is r (1 + z t - 2 t^2) with t = z + r
        small = xp.where(
            far,
            -x * x * (2.0 - x * (26.0 - x * (330.0 - x * 4546.0))),
            1.0 + z * total - 2.0 * total * total,
        )
        change = ratio * small
        return Curve(sign * ratio, weight, -sign * change)

    def guess(self, y: Array) -> Array:
        return backend_for(y).xp.zeros_like(y)

    def probability(self, mean: Array, variance: Array) -> Array:
        """``p(y = 1)`` where the function is ``N(mean, variance)``; exact for "probit", to rounding for
        "logit"."""
        xp = backend_for(mean).xp
        if self.link == "probit":
            return special("ndtr", mean / xp.sqrt(1.0 + variance))

        narrow = normal_average(
            mean, xp.where(variance < 1.0, variance, xp.ones_like(variance)), lambda g: xp.exp(log_sigmoid(g))
        )
        # A wide Gaussian sees the logistic function as a step: average over the logistic density instead.
        t = np.arange(-80, 81) * 0.5
        density = np.exp(-np.abs(t)) / (1.0 + np.exp(-np.abs(t))) ** 2
        width = xp.sqrt(xp.where(variance > 1.0, variance, xp.ones_like(variance)))
        steps = special("ndtr", (mean[:, None] - nodes(t, mean)[None, :]) / width[:, None])
        return xp.where(variance < 1.0, narrow, steps @ nodes(density / density.sum(), mean))

    def moments(self, y: Array, mean: Array, variance: Array) -> tuple[Array, Array, Array]:
        """Rasmussen & Williams (2006), 3.58; closed for "probit" only."""
        if self.link != "probit":
            return super().moments(y, mean, variance)
        scale = backend_for(mean).xp.sqrt(1.0 + variance)
        slope, weight, _ = self.curve(y, mean / scale)
        log_z = self.log_density(y, mean / scale)
        share = variance / (1.0 + variance)
        return log_z, mean + variance * slope / scale, variance * (1.0 - share * weight)

    def response(self, mean: Array, variance: Array) -> tuple[Array, Array]:
        p = self.probability(mean, variance)
        # the other side by symmetry: 1 - p has no correct digits where p is one
        return p, p * self.probability(-mean, variance)

    def log_predictive_density(self, y: Array, mean: Array, variance: Array) -> Array:
        xp = backend_for(mean).xp
        sign = 2.0 * y - 1.0
        if self.link == "probit":
            return special("log_ndtr", sign * mean / xp.sqrt(1.0 + variance))
        return xp.log(self.probability(sign * mean, variance))


__all__ = ["LINKS", "BernoulliLikelihood"]
