r"""What a likelihood ``p(y | f)`` must answer, for factors that depend on one value of the function each.

Derivatives are those of ``log p(y | f)`` with respect to ``f``, at every observation: Laplace's approximation
needs the first three, and for every parameter how it changes the density and its first two (Rasmussen &
Williams 2006, 3.4 and 5.5.1).  Arrays are ``(n,)``, of any library.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..kernels.base import Array
from ..noise import Noise


class Curve(NamedTuple):
    """At every observation: ``d log p / df``, ``-d2 log p / df2`` and ``d3 log p / df3``."""

    slope: Array
    weight: Array
    third: Array


class ParameterCurve(NamedTuple):
    """Derivatives by one parameter of ``log p``, its slope and the weight, at every observation."""

    density: Array
    slope: Array
    weight: Array


class Likelihood(Noise):
    """Base of all likelihoods; see the module docstring for the contract.

    ``log_concave``: whether ``weight`` is never negative.
    """

    gaussian = False
    log_concave = True

    def check(self, y: Array) -> None:
        """Raise ValueError, naming what is wrong, unless ``y`` may be observations of this likelihood."""

    def log_density(self, y: Array, f: Array) -> Array:
        """``log p(y | f)``."""
        raise NotImplementedError

    def curve(self, y: Array, f: Array) -> Curve:
        """Derivatives of :meth:`log_density` by ``f``."""
        raise NotImplementedError

    def bound_weight(self, y: Array, f: Array) -> Array:
        """Weight of a parabola that lies below ``log p`` and touches it at ``f``; never negative.

        Of use where the likelihood is not log-concave; otherwise the weight itself will do.
        """
        return self.curve(y, f).weight

    def evidence_curve(self, y: Array, f: Array) -> tuple[Array, Array]:
        """The weight of the Gaussian around the mode, and how it changes with ``f``.

        The weight of :meth:`curve`, or what stands for it where that may be negative.
        """
        curve = self.curve(y, f)
        return curve.weight, -curve.third

    def parameter_curves(self, y: Array, f: Array) -> tuple[ParameterCurve, ...]:
        """How every leaf changes the density, its slope and the weight of :meth:`evidence_curve`, in leaf
        order."""
        return ()

    @property
    def has_moments(self) -> bool:
        """Whether :meth:`moments` is available, as expectation propagation needs it."""
        return False

    def moments(self, y: Array, mean: Array, variance: Array) -> tuple[Array, Array, Array]:
        """Log normaliser, mean and variance of ``p(y | f) N(f; mean, variance)``."""
        raise NotImplementedError(f"the moments of {self!r} with a Gaussian are not available.")

    def guess(self, y: Array) -> Array:
        """Values of the function from which the search for the mode may begin."""
        raise NotImplementedError

    def response(self, mean: Array, variance: Array) -> tuple[Array, Array]:
        """Mean and variance of an observation where the function is ``N(mean, variance)``."""
        raise NotImplementedError

    def log_predictive_density(self, y: Array, mean: Array, variance: Array) -> Array:
        """``log E p(y | f)`` where the function is ``N(mean, variance)``."""
        raise NotImplementedError

    # -- as a noise model -------------------------------------------------------------------------------
    def variances(self, like: Array, X: Any = None) -> Array:
        """Of the Gaussian that osculates every factor at :meth:`guess`; only orders of magnitude matter."""
        weight = self.curve(like, self.guess(like)).weight
        positive = weight > 0
        return 1.0 / (positive * weight + (~positive) * 1.0)

    def pullback(self, v: Array, X: Any = None) -> tuple[Array, ...]:
        raise TypeError(f"{type(self).__name__} is not a Gaussian noise; ask value_and_gradient.")

    def at_test_points(self, like: Array, X: Any = None) -> Array:
        raise ValueError(
            f"{type(self).__name__} adds no Gaussian noise to the function: ask Posterior.response for "
            "observations, or for the function itself (include_noise=False)."
        )
