r"""``BayesianLinearRegressor``: linear regression whose regularisation and noise follow from the evidence.

The design is factorised once by LQ.  With one precision for all weights the evidence then depends on the
ratio ``r = a / b`` of weight to noise precision alone, in the singular values of the small triangular factor
(MacKay 1992; Bishop 2006, 3.5); it is scanned over all scales and refined to a root of its derivative, so no
start can be wrong and nothing iterates for long.  With one precision per weight (``ard=True``, automatic
relevance determination) L-BFGS-B takes over from there.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from cola_core.errors import ConvergenceWarning
from cola_core.linalg import lq, svd

from ..data import _moments
from ..linear_model import LinearPosterior, linear_posterior
from .base import BaseEstimator, RegressorMixin, check_is_fitted, validate_data
from .saving import Saved

# Relative to the variance of the targets: noise below this cannot be told from rounding.
NOISE_FLOOR = 1e-14
# Precisions of weights relative to those of the noise and the squared singular values.
RANGE = 1e10


@dataclass(frozen=True)
class SpectralPosterior:
    """Posterior of the weights under one prior precision: variances ``values`` along the orthonormal columns
    of ``vectors (d, k)``, and ``rest`` in every other direction."""

    mean: np.ndarray
    vectors: np.ndarray
    values: np.ndarray
    rest: float

    def _parts(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        along = X @ self.vectors
        d, k = self.vectors.shape
        return along, (X - along @ self.vectors.T if k < d else None)

    def variance(self, X: np.ndarray) -> np.ndarray:
        along, beyond = self._parts(X)
        variance = (along * along) @ self.values
        return variance if beyond is None else variance + self.rest * np.sum(beyond * beyond, axis=1)

    def covariance(self, X: np.ndarray) -> np.ndarray:
        along, beyond = self._parts(X)
        covariance = (along * self.values) @ along.T
        return covariance if beyond is None else covariance + self.rest * (beyond @ beyond.T)


class BayesianLinearRegressor(Saved, RegressorMixin, BaseEstimator):
    """Linear regression with a Gaussian prior on the weights, fitted by maximising the evidence.

    fit_intercept: a constant with a flat prior is integrated out (the evidence then counts n - 1
    observations).  scale: the prior refers to inputs of unit variance, so that units do not matter.  ard: one
    prior precision per weight instead of one for all.  max_iters, tol: of the optimiser with ``ard``; tol is
    the largest derivative of the evidence per observation.

    After ``fit``: ``coef_ (d,)`` and ``intercept_`` in the units of the data (predictions do not depend on
    whether a float can hold them), ``noise_variance_``,
    ``weight_precision_`` (of scaled inputs, relative to the variance of the targets: one number, or ``(d,)``
    with ``ard``), ``effective_parameters_`` (how many weights the data determine), ``log_evidence_``,
    ``at_bounds_`` (whether noise or a precision ended where only a limit is meaningful: an exact fit, or
    inputs without any influence), ``n_features_in_``.

    Cost: O(n d min(n, d)), with ``ard`` O(d^3) per iteration.

        >>> import numpy as np
        >>> from cola_gp import BayesianLinearRegressor
        >>> X = np.linspace(0.0, 1.0, 20)[:, None]
        >>> model = BayesianLinearRegressor().fit(X, 3.0 * X[:, 0] + 1.0)
        >>> np.round([model.coef_[0], model.intercept_], 6).tolist()
        [3.0, 1.0]
    """

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        scale: bool = True,
        ard: bool = False,
        max_iters: int = 300,
        tol: float = 1e-6,
    ):
        self.fit_intercept = fit_intercept
        self.scale = scale
        self.ard = ard
        self.max_iters = max_iters
        self.tol = tol

    def fit(self, X: Any, y: Any) -> BayesianLinearRegressor:
        """Fit to inputs ``X (n, d)`` and targets ``y (n,)``."""
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        y = np.asarray(y, dtype=float)
        n, d = X.shape
        shift, unit = _moments(X)
        y_shift, y_unit = _moments(y)
        if not self.fit_intercept:
            shift, y_shift = np.zeros(d), np.zeros(())
            y_unit = np.asarray(np.max(np.abs(y)) or 1.0)
        if not self.scale:
            # One common unit: it leaves the prior spherical, and keeps squares of extreme values finite.
            unit = np.full(d, np.max(np.abs(X - shift)) or 1.0)
        self._shift, self._unit = shift, unit
        self._y_shift, self._y_unit = float(y_shift), float(y_unit)
        design, target = (X - shift) / unit, (y - y_shift) / y_unit
        count = n - 1 if self.fit_intercept else n
        reduced = _Reduced(design, target, count)
        ratio, at_bounds = reduced.best_ratio()
        weight: Any
        weight, noise, evidence = reduced.precisions(ratio)
        self._posterior: Any = reduced.posterior(float(weight), noise)
        self.effective_parameters_ = float(np.sum(reduced.s**2 / (reduced.s**2 + ratio)))
        self.n_iter_ = 1
        if self.ard and reduced.s[:1].any():
            weight, noise, evidence, at_bounds = self._relevance(reduced, weight, noise)
        self.at_bounds_ = at_bounds
        self.coef_ = self._posterior.mean * (y_unit / unit)
        self.intercept_ = float(y_shift - self.coef_ @ shift)
        # In scaled units: those of the data may be such that no number can hold their squares.
        self._noise = float(1.0 / noise)
        self._intercept_variance = self._noise / n if self.fit_intercept else 0.0
        self.noise_variance_ = self._noise * self._y_unit * self._y_unit
        # In the original inputs if they were not scaled, so that it is what one would write by hand.
        self.weight_precision_ = weight if self.scale else weight * unit[0] ** 2
        self.log_evidence_ = float(evidence - count * math.log(y_unit))
        return self

    def _relevance(
        self, reduced: _Reduced, weight: float, noise: float
    ) -> tuple[np.ndarray, float, float, bool]:
        """Maximise the evidence over one precision per weight, starting from the common one."""
        from scipy.optimize import minimize

        d = reduced.R.shape[1]
        start = np.log(np.append(np.full(d, weight), noise))
        # Precisions beyond these are zero weights and unregularised weights to working precision.
        bounds = [(start[0] - 20.0, start[0] + 20.0)] * d + [(start[d] - 10.0, -math.log(NOISE_FLOOR))]
        start = np.clip(start, [b[0] for b in bounds], [b[1] for b in bounds])

        def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = reduced.evidence(np.exp(theta[:d]), float(np.exp(theta[d])))
            return -value / max(reduced.count, 1), -gradient / max(reduced.count, 1)

        answer = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": self.max_iters, "gtol": self.tol, "ftol": 1e-14, "maxcor": 20},
        )
        theta = answer.x
        value, gradient = reduced.evidence(np.exp(theta[:d]), float(np.exp(theta[d])))
        self.n_iter_ = max(1, int(answer.nit))
        low, high = (np.array(side) for side in zip(*bounds, strict=True))
        slope = np.max(np.abs(np.clip(theta + gradient / max(reduced.count, 1), low, high) - theta))
        if slope > 10 * self.tol:
            warnings.warn(
                f"BayesianLinearRegressor did not converge: the evidence still changes by {slope:.1e} per "
                f"observation after {answer.nit} iterations. The best precisions are used; raise max_iters.",
                ConvergenceWarning,
                stacklevel=3,
            )
        weights, noise = np.exp(theta[:d]), float(np.exp(theta[d]))
        posterior = reduced.relevance_posterior(weights, noise)
        inverse = np.sum(posterior.covariance(np.eye(d)).diagonal() * weights)
        self.effective_parameters_ = float(d - inverse)
        self._posterior = posterior
        return weights, noise, value, bool(theta[d] <= low[d] + 1e-6 or theta[d] >= high[d] - 1e-6)

    def predict(
        self, X: Any, return_std: bool = False, return_cov: bool = False, include_noise: bool = False
    ) -> Any:
        """Predictive mean; with the standard deviation or covariance of the function if asked for, or of
        observations with ``include_noise``."""
        if return_std and return_cov:
            raise ValueError("ask for return_std or return_cov, not both.")
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        # Not by the weights in the units of the data, which no number may hold.
        scaled = (X - self._shift) / self._unit
        mean = self._y_unit * (scaled @ self._posterior.mean) + self._y_shift
        if not (return_std or return_cov):
            return mean
        noise = self._noise if include_noise else 0.0
        if return_std:
            variance = self._posterior.variance(scaled) + self._intercept_variance
            return mean, self._y_unit * np.sqrt(variance + noise)
        covariance = self._posterior.covariance(scaled) + self._intercept_variance + noise * np.eye(len(X))
        return mean, self._y_unit * self._y_unit * covariance

    @property
    def covariance_(self) -> np.ndarray:
        """Posterior covariance ``(d, d)`` of ``coef_``."""
        check_is_fitted(self)
        return self._posterior.covariance(np.diag(self._y_unit / self._unit))


class _Reduced:
    """The regression problem after LQ of its design: all further work is on small matrices.

    ``X = P R`` with orthonormal columns in P; ``z = P^T y``; ``outside`` is the squared part of y beyond P.
    ``s`` and ``vectors`` are the singular values of X and their right vectors, ``zs`` is z in the left ones.
    """

    def __init__(self, X: np.ndarray, y: np.ndarray, count: int):
        self.count = count
        n, d = X.shape
        if n >= d:
            L, Q = (factor.to_dense() for factor in lq(np.ascontiguousarray(X.T)))
            self.R, self.z = L.T, Q @ y
            beyond = y - Q.T @ self.z
        else:
            L, Q = (factor.to_dense() for factor in lq(X))
            self.R, self.z = L @ Q, y
            beyond = np.zeros(n)
        U, S, V = svd(self.R if n >= d else L)
        self.s = np.asarray(S.diag)
        self.vectors = V.to_dense() if n >= d else Q.T @ V.to_dense()
        self.zs = U.to_dense().T @ self.z
        if n < d:
            beyond = y - U.to_dense() @ self.zs
        # The rank decides what the data can say; singular values at the level of rounding are zero.
        self.s = np.where(self.s > max(n, d) * np.finfo(float).eps * self.s[:1], self.s, 0.0)
        self.outside = float(beyond @ beyond)

    def _energy(self, ratio: Any) -> Any:
        """``|y - X m|^2 + ratio |m|^2`` at the posterior mean m, never below the floor."""
        ratio = np.asarray(ratio)[..., None]
        inside = np.sum(self.zs**2 * (ratio / (self.s**2 + ratio)), axis=-1)
        return np.maximum(self.outside + inside, NOISE_FLOOR * max(self.count, 1))

    def _profile(self, ratio: Any) -> Any:
        """Evidence at the best noise precision ``count / energy``."""
        gain = np.sum(np.log1p(self.s**2 / np.asarray(ratio)[..., None]), axis=-1)
        noise = max(self.count, 1) / self._energy(ratio)
        return 0.5 * (self.count * (np.log(noise) - 1.0 - math.log(2 * math.pi)) - gain)

    def _slope(self, log_ratio: float) -> float:
        ratio = math.exp(log_ratio)
        share = self.s**2 / (self.s**2 + ratio)
        change = np.sum(self.zs**2 * share * (1.0 - share))
        return float(-0.5 * self.count * change / self._energy(ratio) + 0.5 * np.sum(share))

    def best_ratio(self) -> tuple[float, bool]:
        """The ratio of precisions with the largest evidence, and whether it or the noise is at its limit."""
        from scipy.optimize import brentq

        top = self.s[0] ** 2 if len(self.s) and self.s[0] > 0 else 1.0
        least = np.min(self.s[self.s > 0] ** 2, initial=top)
        grid = np.linspace(math.log(least / RANGE), math.log(top * RANGE), 481)
        values = self._profile(np.exp(grid))
        best = int(np.argmax(values))
        # Towards no noise and towards no weights the evidence levels off: its top is then a limit.
        ends = [end for end in (0, len(grid) - 1) if values[end] >= values[best] - 1e-6]
        at_end = bool(ends)
        best = ends[0] if ends else best
        log_ratio = grid[best]
        if not at_end:
            low, high = grid[best - 1], grid[best + 1]
            if self._slope(low) > 0 > self._slope(high):
                log_ratio = float(brentq(self._slope, low, high, xtol=1e-13))
        ratio = math.exp(log_ratio)
        return ratio, at_end or bool(self._energy(ratio) <= NOISE_FLOOR * max(self.count, 1))

    def precisions(self, ratio: float) -> tuple[float, float, float]:
        """Weight and noise precision at a ratio, and the evidence."""
        noise = float(max(self.count, 1) / self._energy(ratio))
        return ratio * noise, noise, float(self._profile(ratio))

    def posterior(self, weight: float, noise: float) -> SpectralPosterior:
        values = 1.0 / (weight + noise * self.s**2)
        mean = self.vectors @ (noise * self.s * self.zs * values)
        return SpectralPosterior(mean, self.vectors, values, 1.0 / weight)

    def relevance_posterior(self, weights: np.ndarray, noise: float) -> LinearPosterior:
        return linear_posterior(self.R, self.z, weights, noise)

    def evidence(self, weights: np.ndarray, noise: float) -> tuple[float, np.ndarray]:
        """The evidence and its derivatives for the logarithms of all precisions (Bishop 2006, 3.86-3.95)."""
        posterior = self.relevance_posterior(weights, noise)
        d, size = len(weights), len(self.z)
        # What lies outside of the reduced problem is noise only.
        extra = self.count - size
        value = float(posterior.log_evidence) - 0.5 * noise * self.outside
        value += 0.5 * extra * (math.log(noise) - math.log(2 * math.pi))
        half = posterior._half(np.eye(d))
        determined = 1.0 - weights * np.sum(half * half, axis=0)
        residual = self.z - self.R @ posterior.mean
        misfit = noise * (float(residual @ residual) + self.outside)
        gradient = np.append(
            0.5 * (determined - weights * posterior.mean**2), 0.5 * (self.count - misfit - np.sum(determined))
        )
        return value, gradient


__all__ = ["BayesianLinearRegressor", "SpectralPosterior"]
