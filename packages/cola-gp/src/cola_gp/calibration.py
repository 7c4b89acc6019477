r"""Do the stated uncertainties hold?  Coverage, probability integral transform, and proper scores.

For a Gaussian prediction with mean ``m``, standard deviation ``s`` and observation ``y`` let ``z = (y - m) /
s``.

* Probability integral transform ``Phi(z)``: uniform on [0, 1] if the predictive distributions are right
  (Dawid 1984).  Tested by the largest distance of the empirical distribution from uniform (Kolmogorov &
  Smirnov).
* Coverage: how often the central interval of probability ``p`` holds the observation, with the standard
  error that a sample of ``n`` independent observations has.
* Negative log predictive density ``z^2 / 2 + log s + log(2 pi) / 2``, and the continuous ranked probability
  score ``s (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi))`` (Gneiting & Raftery 2007, eq. 21), both means over
  the observations, smaller is better.
* Standardised: the mean squared error over the variance of the targets, and the log density against that of
  the Gaussian with the targets' own mean and variance (Rasmussen & Williams 2006, section 2.5).

Tests of uniformity take observations for independent.  Errors of nearby predictions are not, because they
share the error of the fitted function; where the joint predictive covariance ``C = L L^T`` is known the test
uses ``L^{-1} (y - m)``, whose entries are independent standard normals if the model is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import NonFiniteError, ShapeError

from .inference.base import jittered_cholesky

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
# Fewer observations than these contradict wrong uncertainties too seldom for their silence to mean anything.
FEW = 8


def _vector(name: str, value: Any) -> np.ndarray:
    backend = backend_of(value)
    if backend is not None and backend.name == "torch":
        value = value.detach()
    array = np.asarray(value if backend is None else backend.to_numpy(value), dtype=float)
    if array.ndim != 1:
        raise ShapeError(f"{name} must be a vector (n,), not shape {array.shape}.")
    if not np.all(np.isfinite(array)):
        raise NonFiniteError(f"{name} holds NaN or infinite entries; a calibration of those means nothing.")
    return array


def _decorrelated(error: np.ndarray, covariance: Any) -> np.ndarray:
    """``L^{-1} error`` with ``L L^T`` the covariance ``(n, n)``."""
    from scipy.linalg import solve_triangular

    backend = backend_of(covariance)
    if backend is not None and backend.name == "torch":
        covariance = covariance.detach()
    C = np.asarray(covariance if backend is None else backend.to_numpy(covariance), dtype=float)
    if C.shape != (error.size, error.size):
        raise ShapeError(f"covariance must be {(error.size, error.size)}, not {C.shape}.")
    return np.asarray(solve_triangular(jittered_cholesky(C)[0], error, lower=True))


@dataclass(frozen=True)
class Calibration:
    """How well Gaussian predictions of ``n`` observations hold; see the module docstring.

    levels, coverage, coverage_error: nominal and observed probabilities of central intervals, and the
    standard error that the observed ones have if the nominal ones are right.  pit, z: ``(n,)``.
    ks_distance, ks_pvalue, z_variance: distance of the transforms from uniform, its p-value, and the mean
    square of z; from decorrelated errors if ``joint``.  sharpness: mean standard deviation.
    """

    n: int
    rmse: float
    mae: float
    nlpd: float
    crps: float
    sharpness: float
    z_variance: float
    standardised_mse: float
    standardised_nlpd: float
    levels: np.ndarray
    coverage: np.ndarray
    coverage_error: np.ndarray
    ks_distance: float
    ks_pvalue: float
    joint: bool
    pit: np.ndarray = field(repr=False)
    z: np.ndarray = field(repr=False)

    @classmethod
    def of(
        cls,
        mean: Any,
        variance: Any,
        y: Any,
        levels: tuple[float, ...] = LEVELS,
        covariance: Any = None,
    ) -> Calibration:
        """How well Gaussian predictions ``mean (n,)``, ``variance (n,)`` hold for observations ``y (n,)``.

        ``variance`` is that of observations, noise included, and positive; so is ``covariance (n, n)``, if
        given.  Arrays of any library.

        >>> import numpy as np, cola_gp as gp
        >>> rng = np.random.default_rng(0)
        >>> report = gp.Calibration.of(np.zeros(400), np.ones(400), rng.normal(size=400))
        >>> report.verdict()
        'the uncertainties agree with the observations'
        >>> gp.Calibration.of(np.zeros(400), np.full(400, 0.04), rng.normal(size=400)).verdict()
        'overconfident: observations lie outside of the intervals too often'
        """
        from scipy.special import ndtr
        from scipy.stats import kstest

        mean, variance, y = _vector("mean", mean), _vector("variance", variance), _vector("y", y)
        if not mean.shape == variance.shape == y.shape or y.size == 0:
            raise ShapeError(
                f"mean, variance and y must have one entry per observation, not {mean.shape}, "
                f"{variance.shape} and {y.shape}."
            )
        if np.any(variance <= 0):
            raise ValueError("variance must be positive: give that of observations, noise included.")
        if not levels or any(not 0 < p < 1 for p in levels):
            raise ValueError(f"levels must lie between 0 and 1, not {levels!r}.")
        n = y.size
        sd = np.sqrt(variance)
        error = y - mean
        z = error / sd
        pit = ndtr(z)
        density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        nlpd = float(np.mean(0.5 * z * z + np.log(sd) + 0.5 * math.log(2 * math.pi)))
        # The reference prediction is the targets' own mean and variance; constant targets have none.
        spread = float(np.var(y))
        reference = 0.5 * (1.0 + math.log(2 * math.pi * spread)) if spread > 0 else math.nan
        wanted = np.asarray(levels, dtype=float)
        inside = np.abs(pit[:, None] - 0.5) <= 0.5 * wanted
        white = z if covariance is None else _decorrelated(error, covariance)
        ks = kstest(ndtr(white), "uniform")
        return cls(
            n=n,
            rmse=float(np.sqrt(np.mean(error**2))),
            mae=float(np.mean(np.abs(error))),
            nlpd=nlpd,
            crps=float(np.mean(sd * (z * (2 * pit - 1) + 2 * density - 1 / math.sqrt(math.pi)))),
            sharpness=float(np.mean(sd)),
            z_variance=float(np.mean(white * white)),
            standardised_mse=float(np.mean(error**2) / spread) if spread > 0 else math.nan,
            standardised_nlpd=nlpd - reference,
            levels=wanted,
            coverage=np.mean(inside, axis=0),
            coverage_error=np.sqrt(wanted * (1 - wanted) / n),
            ks_distance=float(ks.statistic),
            ks_pvalue=float(ks.pvalue),
            joint=covariance is not None,
            pit=pit,
            z=z,
        )

    def coverage_at(self, level: float) -> float:
        """Observed probability of the central interval of probability ``level``."""
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, not {level!r}.")
        return float(np.mean(np.abs(self.pit - 0.5) <= 0.5 * level))

    def verdict(self) -> str:
        """One sentence: whether the data contradict the stated uncertainties, and in which direction."""
        from scipy.special import chdtr, chdtrc

        if self.ks_pvalue >= 0.01:
            if self.n < FEW:
                return "too few observations to judge the uncertainties"
            return "the uncertainties agree with the observations"
        # Under the right model n times the mean of z^2 is chi-squared of n degrees; tails of 2.5 sigma.
        if chdtrc(self.n, self.n * self.z_variance) < 0.006:
            return "overconfident: observations lie outside of the intervals too often"
        if chdtr(self.n, self.n * self.z_variance) < 0.006:
            return "underconfident: the intervals are wider than the errors"
        return "the shape of the predictive distribution is wrong: biased, skewed or heavy-tailed"

    def as_dict(self) -> dict[str, Any]:
        """The numbers without the vectors, ready for JSON."""
        names = ("n", "rmse", "mae", "nlpd", "crps", "sharpness", "z_variance", "standardised_mse")
        out: dict[str, Any] = {name: getattr(self, name) for name in names}
        out["standardised_nlpd"] = self.standardised_nlpd
        out["ks_distance"], out["ks_pvalue"] = self.ks_distance, self.ks_pvalue
        out["coverage"] = {f"{p:g}": float(c) for p, c in zip(self.levels, self.coverage, strict=True)}
        out["verdict"] = self.verdict()
        return out

    def summary(self) -> str:
        """A few lines for people."""
        # Observations that are all alike have no variance to compare with.
        share = f" ({100 * self.standardised_mse:.3g} % of the variance)"
        gain = f" ({self.standardised_nlpd:+.3g} against a constant Gaussian)"
        share, gain = (
            text if math.isfinite(value) else ""
            for text, value in ((share, self.standardised_mse), (gain, self.standardised_nlpd))
        )
        lines = [
            f"{self.n} observations: {self.verdict()}",
            f"RMSE {self.rmse:.4g}{share}, MAE {self.mae:.4g}, mean predicted sd {self.sharpness:.4g}",
            f"NLPD {self.nlpd:.4g}{gain}, CRPS {self.crps:.4g}",
            f"uniformity of the PIT: distance {self.ks_distance:.3g}, p = {self.ks_pvalue:.2g}; "
            f"mean z^2 {self.z_variance:.3g}",
            "coverage: "
            + ", ".join(
                f"{100 * p:g} % -> {100 * c:.1f} +- {100 * e:.1f}"
                for p, c, e in zip(self.levels, self.coverage, self.coverage_error, strict=True)
            ),
        ]
        return "\n".join(lines)


def calibration_report(
    predictor: Any,
    X: Any = None,
    y: Any = None,
    *,
    levels: tuple[float, ...] = LEVELS,
    joint: bool | None = None,
) -> Calibration:
    """Calibration of a Posterior or Predictor on held-out data, or without data by leave-one-out.

    joint: decorrelate the errors of the ``m`` held-out points before they are tested, at O(m^3) (default: up
    to a thousand points).  Leave-one-out predictions use the parameters fitted to all data and are
    correlated, so there the numbers flatter a little and the p-value is a rough one.
    """
    if (X is None) != (y is None):
        raise ValueError("give both X and y, or neither for leave-one-out predictions.")
    noise = getattr(predictor, "posterior", predictor).model.noise
    if not noise.gaussian:
        raise NotImplementedError(
            f"calibration_report: predictions under {type(noise).__name__} are not Gaussian; compare "
            "log_predictive_density and response with the observations."
        )
    if X is None:
        left_out = predictor.leave_one_out()
        scaling = getattr(predictor, "scaling", None)
        targets = predictor.data.y if scaling is None else scaling.mean(predictor.data.y)
        return Calibration.of(left_out.mean, left_out.variance, targets, levels)
    mean = predictor.mean(X)
    if joint is None:
        joint = mean.shape[0] <= 1000
    covariance = predictor.covariance(X, include_noise=True) if joint else None
    return Calibration.of(mean, predictor.variance(X, include_noise=True), y, levels, covariance)


__all__ = ["LEVELS", "Calibration", "calibration_report"]
