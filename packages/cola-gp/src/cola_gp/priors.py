"""Priors on parameters, used for maximum a posteriori fits.

A prior is a log density of the parameter ``x`` without its normalising constant; ``at(x)`` returns the value
and the derivative with respect to ``x``.  Positive parameters are fitted by their logarithm ``t = log x``:
``log_density(t)`` is the same density as a function of ``t``, with the derivative with respect to ``t``.  A
class with ``positive = True`` is for positive parameters only; the others are for parameters of any sign and
may be put on positive ones too (then truncated at zero).  Subclasses of :class:`Prior` need ``at`` only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar


class Prior:
    """Base of the priors of one parameter: ``at(x)`` is the log density, without its constant, and its slope.

    ``positive`` says that it is for positive parameters only, which are fitted by their logarithm.
    """

    positive: ClassVar[bool] = True

    def at(self, x: float) -> tuple[float, float]:
        """Log density at ``x`` and its derivative."""
        raise NotImplementedError(f"{type(self).__name__}.at")

    def log_density(self, t: float) -> tuple[float, float]:
        """Log density at ``exp(t)`` and its derivative with respect to ``t``."""
        x = math.exp(t)
        value, slope = self.at(x)
        return value, slope * x


def _need(prior: Prior, **numbers: float) -> None:
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"{type(prior).__name__} needs a positive {name}, not {number!r}.")


@dataclass(frozen=True)
class Normal(Prior):
    """Normal density with the given mean and standard deviation, for parameters of any sign."""

    positive: ClassVar[bool] = False
    mean: float = 0.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        _need(self, sigma=self.sigma)
        if not math.isfinite(self.mean):
            raise ValueError(f"Normal needs a finite mean, not {self.mean!r}.")

    def at(self, x: float) -> tuple[float, float]:
        z = (x - self.mean) / self.sigma
        return -0.5 * z * z, -z / self.sigma


@dataclass(frozen=True)
class StudentT(Prior):
    """Student's t density: like :class:`Normal`, but outliers are pulled back with bounded force."""

    positive: ClassVar[bool] = False
    mean: float = 0.0
    scale: float = 1.0
    degrees: float = 4.0

    def __post_init__(self) -> None:
        _need(self, scale=self.scale, degrees=self.degrees)

    def at(self, x: float) -> tuple[float, float]:
        z = (x - self.mean) / self.scale
        half = 0.5 * (self.degrees + 1.0)
        return -half * math.log1p(z * z / self.degrees), -2.0 * half * z / (self.degrees + z * z) / self.scale


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

    def at(self, x: float) -> tuple[float, float]:
        value, slope = self.log_density(math.log(x))
        return value, slope / x

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

    def at(self, x: float) -> tuple[float, float]:
        return (self.shape - 1.0) * math.log(x) - self.rate * x, (self.shape - 1.0) / x - self.rate

    def log_density(self, t: float) -> tuple[float, float]:
        # Written in t, so that a parameter that underflows still has a density.
        x = math.exp(t)
        return (self.shape - 1.0) * t - self.rate * x, (self.shape - 1.0) - self.rate * x


@dataclass(frozen=True)
class InverseGamma(Prior):
    """Inverse gamma density: it forbids values near zero, which suits lengthscales."""

    shape: float
    scale: float

    def __post_init__(self) -> None:
        _need(self, shape=self.shape, scale=self.scale)

    def at(self, x: float) -> tuple[float, float]:
        value, slope = self.log_density(math.log(x))
        return value, slope / x

    def log_density(self, t: float) -> tuple[float, float]:
        pull = self.scale * math.exp(-t)
        return -(self.shape + 1.0) * t - pull, -(self.shape + 1.0) + pull


@dataclass(frozen=True)
class HalfNormal(Prior):
    """Normal density about zero on positive numbers: small unless the data say otherwise."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        _need(self, scale=self.scale)

    def at(self, x: float) -> tuple[float, float]:
        z = x / self.scale
        return -0.5 * z * z, -z / self.scale


@dataclass(frozen=True)
class HalfCauchy(Prior):
    """Cauchy density on positive numbers: small values preferred, large ones permitted."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        _need(self, scale=self.scale)

    def at(self, x: float) -> tuple[float, float]:
        z = x / self.scale
        return -math.log1p(z * z), -2.0 * z / (1.0 + z * z) / self.scale


def weak_lengthscales(count: int) -> LogNormal:
    """The prior of ``count`` lengthscales of scaled inputs, one per dimension: wide, and centred where the
    distances between points are, which grow with the square root of their number.

    The marginal likelihood of many lengthscales is easily overfitted by few data; this prior leaves it
    alone where the data say anything.  ``log l`` is normal about ``sqrt(2) + log(count) / 2`` with standard
    deviation ``sqrt(3)`` (Hvarfner, Hellsten & Nardi 2024, sec. 4).
    """
    return LogNormal(math.exp(math.sqrt(2.0)) * math.sqrt(count), math.sqrt(3.0))


__all__ = [
    "Gamma",
    "HalfCauchy",
    "HalfNormal",
    "InverseGamma",
    "LogNormal",
    "Normal",
    "Prior",
    "StudentT",
    "weak_lengthscales",
]
