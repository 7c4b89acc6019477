r"""Expectation propagation for likelihoods that are log-concave (Minka 2001; Rasmussen & Williams 2006, 3.6).

Every factor of the likelihood is replaced by a Gaussian *site* with precision ``t`` and shift ``v``, such
that the posterior with the site and the posterior with the true factor in its place have the same mean and
variance at that observation.  Where Laplace's approximation looks at the mode alone, which for classes that
are told apart well is far from the mean, this follows the mass of the posterior, so probabilities and the
evidence stay honest for large variances of the prior.

All sites are updated at once from one factorisation of ``B = I + S K S``, ``S = sqrt(t)``, and less of the
way while that does not bring the moments together.  At the fixed point the evidence is stationary in the
sites, so its derivatives for the parameters are the explicit ones (5.27).  Second derivatives need those of
the sites, by one Newton step on the equations of the fixed point: O(n^3), for a stored covariance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from cola_core.info import Info
from cola_core.plugins import RuleBook

from ..kernels.base import Array
from .base import Conditioned
from .laplace import Curvature, LaplaceConditioned, LaplaceInference, constant_tree
from .laplace_forms import DenseForm, Form
from .questions import CONDITION, Problem

RULES = RuleBook()
MAX_SWEEPS = 200


@dataclass(frozen=True)
class EPInference(LaplaceInference):
    """Expectation propagation, to be asked for by name: ``alg=EPInference()``.

    One factorisation per sweep, of which some ten to thirty are made; stored and low-rank covariances.
    """

    def refuses(self, prior: Any, noise: Any, problem: Problem) -> str:
        likelihood = problem.model.noise
        return (
            ""
            if likelihood.has_moments
            else f"the moments of {likelihood!r} with a Gaussian are not available"
        )

    def cost(self, question: str, A: Any, *operands: Any) -> Any:
        return super().cost(question, A, *operands) * 4.0

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        return EPConditioned(prior, problem)


RULES.algorithm(CONDITION, EPInference, name="ep")

# Observations beyond which sites of a covariance that is not stored stay where they are: their motion takes
# matrices of twice their number.  First derivatives do not need it, the evidence being stationary in them.
MOST_MOVING = 2000


class Sites(NamedTuple):
    """Precisions and shifts of the sites of ``f - mean``, with what they imply at every observation."""

    precision: Array
    shift: Array


class EPConditioned(LaplaceConditioned):
    """The Gaussian posterior with the sites in the place of the likelihood.

    ``alpha`` is ``K^{-1} (E f - mean)`` and ``mode`` the posterior mean at the observations; ``info`` says
    how far the moments that should agree are apart, in posterior standard deviations.
    """

    method = "EP"

    def __init__(self, prior: Any, problem: Problem):
        self._begin(prior, problem)
        self._solve()
        t, v = self.sites
        self.curvature, self.alpha, centre, self._variance, self._left, self._shift = self._marginals(
            self.form, self.mean, t, v
        )
        self.residual = centre
        self.mode = self.mean + centre
        if self.info.converged is False:
            self._doubted(
                f"expectation propagation did not converge: {self.info.reason}, and the moments are still "
                f"{self.info.residual:.1e} standard deviations apart."
            )

    def _solve(self) -> None:
        backend = self.backend
        xp = backend.xp
        self.eps = float(xp.finfo(self.data.y.dtype).eps)
        mean = backend.constant(self.mean)
        form = self.form.constant()
        zero = xp.zeros_like(mean)
        state = (zero, zero, *(xp.sum(zero) + value for value in (math.inf, math.inf, 1.0, 0.0)))

        def body(state: Any) -> Any:
            t, v, _, before, size, sweeps = state
            (t_new, v_new), gap = self._targets(form, mean, t, v)
            # Further apart than before: less of the way from here on; otherwise a little more again.  The
            # last tenth is never gone at once, as sites of correlated observations answer to each other.
            size = xp.where(gap > 1.05 * before, 0.7 * size, xp.minimum(1.05 * size, 0.9 + 0.0 * size))
            return t + size * (t_new - t), v + size * (v_new - v), gap, gap, size, sweeps + 1

        def going(state: Any) -> Any:
            return (state[2] > self.tolerance) & (state[5] < MAX_SWEEPS)

        with np.errstate(all="ignore"):
            t, v, gap, _, _, sweeps = backend.while_loop(going, body, state)
        self.sites = Sites(t, v)
        small = mean.shape[0] <= MOST_MOVING or isinstance(self.form, DenseForm)
        if small and self._differentiating():
            self.sites = self._moving(form, mean, t, v)
        self.info = self._info(gap, sweeps)

    def _moving(self, form: Form, mean: Array, t: Array, v: Array) -> Sites:
        """The same sites with the derivatives they have as a fixed point: up to the second."""
        backend = self.backend
        xp = backend.xp
        curvature, _, centre, variance, left, shift = self._marginals(form, mean, t, v)
        eye = backend.eye(t.shape[0], t.dtype, backend.device(t))
        K = form.times(eye)
        S = K - form.times(curvature.R(K))
        likelihood = constant_tree(self.likelihood, backend)

        def target(left: Array, shift: Array) -> tuple[Array, Array]:
            return self._matched(likelihood, mean, left, shift)[:2]

        one, zero = xp.ones_like(left), xp.zeros_like(left)
        by_left = backend.jvp(target, (left, shift), (one, zero))[1]
        by_shift = backend.jvp(target, (left, shift), (zero, one))[1]
        # dS = -S dt S, d centre = S (dv - centre dt); what is left without the site follows
        shrunk = S * S / (variance * variance)[:, None]
        mixed = S / variance[:, None]
        left_t, shift_v = shrunk - eye, mixed - eye
        shift_t = centre[:, None] * shrunk - mixed * centre[None, :]
        rows = [
            xp.concat([a[:, None] * left_t + b[:, None] * shift_t, b[:, None] * shift_v], axis=1)
            for a, b in zip(by_left, by_shift, strict=True)
        ]
        slope = xp.concat(rows)
        both = backend.eye(slope.shape[0], t.dtype, backend.device(t))
        (t_new, v_new), _ = self._targets(self.form, self.mean, t, v)
        gap = xp.concat([t_new - t, v_new - v])
        move = xp.linalg.solve(backend.constant(both - slope), gap[:, None])[:, 0]
        move = move - backend.constant(move)  # the value stays that of the sweeps
        return Sites(t + move[: t.shape[0]], v + move[t.shape[0] :])

    @property
    def tolerance(self) -> float:
        # The evidence is stationary in the sites: its error is the square of this.
        return self.eps**0.375

    def _marginals(self, form: Form, mean: Array, t: Array, v: Array) -> tuple[Any, ...]:
        """Curvature, alpha, posterior and cavity moments of ``f - mean`` for given sites."""
        curvature = Curvature(form, t, positive=True)
        alpha = v - curvature.R(form.times(v))
        centre = form.times(alpha)
        variance = curvature.posterior_diagonal()
        # precision and shift of the posterior without the site
        left = 1.0 / variance - t
        return curvature, alpha, centre, variance, left, centre / variance - v

    def _targets(self, form: Form, mean: Array, t: Array, v: Array) -> tuple[Any, Array]:
        """The sites that match the moments one by one, and how far these are apart."""
        xp = self.backend.xp
        _, _, centre, variance, left, shift = self._marginals(form, mean, t, v)
        t_new, v_new, first, second = self._matched(self.likelihood, mean, left, shift)
        gap = xp.maximum(xp.abs(first - centre) / xp.sqrt(variance), xp.abs(second / variance - 1.0))
        return (t_new, v_new), xp.max(gap)

    def _matched(self, likelihood: Any, mean: Array, left: Array, shift: Array) -> tuple[Array, ...]:
        """The site that gives the moments of the true factor beside ``left`` and ``shift``, and these."""
        xp = self.backend.xp
        _, first, second = likelihood.moments(self.data.y, mean + shift / left, 1.0 / left)
        first = first - mean
        t_new = 1.0 / second - left
        t_new = xp.where(t_new > 0, t_new, xp.zeros_like(t_new))
        return t_new, first / second - shift, first, second

    def _info(self, gap: Array, sweeps: Array) -> Any:
        if not self.backend.is_concrete(gap):
            return Info(method="EP", converged=gap <= self.tolerance, residual=gap)
        apart, count = self.backend.number(gap), int(self.backend.number(sweeps))
        converged = apart <= self.tolerance
        return Info(
            method="EP",
            converged=converged,
            reason="the moments agree" if converged else f"{MAX_SWEEPS} sweeps were made",
            iterations=count,
            residual=apart,
            tolerance=self.tolerance,
        )

    @cached_property
    def _log_evidence(self) -> Array:
        """Rasmussen & Williams (2006), 3.65, rearranged as in 3.73 and 3.74, for ``f - mean``."""
        xp = self.backend.xp
        t, v = self.sites
        left, shift = self._left, self._shift
        log_z, _, _ = self.likelihood.moments(self.data.y, self.mean + shift / left, 1.0 / left)
        total = xp.sum(log_z) - 0.5 * self.log_det + 0.5 * xp.sum(xp.log1p(t / left))
        together = t + left
        total = total + 0.5 * (xp.sum(v * self.residual) - xp.sum(v * v / together))
        return total + 0.5 * xp.sum(shift / left * (left / together) * (t * shift / left - 2.0 * v))

    def log_marginal_likelihood(self) -> Array:
        """EP's approximation to the log density of the observations, a 0-d array."""
        return self._log_evidence

    def gradient(self) -> tuple[Array, ...]:
        nothing = self.backend.xp.zeros_like(self.alpha)
        kernel = self._pull(self.form.cotangent(self.alpha, nothing, self.curvature))
        return (*kernel, *self.model.mean.pullback(self.points, self.alpha))


__all__ = ["EPConditioned", "EPInference"]
