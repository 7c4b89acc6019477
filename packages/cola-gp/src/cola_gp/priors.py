"""Priors on positive parameters, used for maximum a posteriori fits.

The density is that of the parameter ``x`` itself, evaluated as a function of ``t = log x`` and without its
normalising constant; ``log_density(t)`` returns the value and its derivative with respect to ``t``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


class Prior:
    """Base of the priors; see the module docstring."""

    def log_density(self, t: float) -> tuple[float, float]:
        raise NotImplementedError


@dataclass(frozen=True)
class LogNormal(Prior):
    """``log x`` is normal about ``log(median)`` with standard deviation ``sigma``; the mode in ``t`` is the
    median.

    The density is taken with respect to ``log x``, so the fit is pulled to the median in any units.
    """

    median: float
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if not (self.median > 0 and self.sigma > 0):
            raise ValueError("LogNormal needs a positive median and sigma.")

    def log_density(self, t: float) -> tuple[float, float]:
        z = (t - math.log(self.median)) / self.sigma
        return -0.5 * z * z, -z / self.sigma


@dataclass(frozen=True)
class Gamma(Prior):
    """Gamma density with the given shape and rate."""

    shape: float
    rate: float

    def __post_init__(self) -> None:
        if not (self.shape > 0 and self.rate > 0):
            raise ValueError("Gamma needs a positive shape and rate.")

    def log_density(self, t: float) -> tuple[float, float]:
        x = math.exp(t)
        return (self.shape - 1.0) * t - self.rate * x, (self.shape - 1.0) - self.rate * x
