"""``LinearDynamicalSystem``: Kalman filter and smoother of a model learned from the series itself."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from cola_core.errors import ConvergenceWarning, FileFormatError, UnknownNameError

from .. import storage
from ..statespace import (
    LearnResult,
    LinearGaussian,
    em,
    forecast,
    gradient_fit,
    kalman_filter,
    kalman_smoother,
    log_likelihood,
    observed,
    sample,
    sample_posterior,
)
from ..statespace.subspace import subspace_model
from .base import (
    BaseEstimator,
    TransformerMixin,
    check_is_fitted,
    check_names,
    frame_names,
    real_numbers,
    seed_of,
)

OPTIMIZERS = ("em+gradient", "em", "gradient", None)


class LinearDynamicalSystem(TransformerMixin, BaseEstimator):
    """A linear Gaussian state-space model of one or several multivariate time series.

    X is one series ``(n, p)`` or ``(n,)``, several of one length ``(series, n, p)``, or a list of series
    ``(n_i, p)`` of any lengths; NaN is missing.  Rows are equally spaced in time and belong together in
    their order, so that cross-validation must not take them at random.  Everything is computed with NumPy.

    states: dimension of the state.  model: initial :class:`~cola_gp.statespace.LinearGaussian` in the units
    of X; the default is a subspace estimate after every column is brought to zero mean and unit variance.
    learn: which of its parameters to fit; by default all, but of a single series not P0, whose best value
    is zero (and which the default model has near zero: the first state is estimated). diagonal: covariances
    kept diagonal.  optimizer: ``"gradient"`` (L-BFGS), ``"em"``, ``"em+gradient"`` (EM, and L-BFGS from
    there) or None to use the model as it is. max_iters: of each; tol: derivative (L-BFGS) and gain (EM) per
    observed value.

    After ``fit``: ``model_`` and ``offset_ (p,)``, with ``X = offset_ + H x + noise``; ``log_likelihood_``,
    ``fit_result_`` (in scaled units), ``n_iter_``, ``n_features_in_``.  The states have no units: what they
    mean is up to a change of basis, unless A and H are given and not learned.

        >>> import numpy as np
        >>> from cola_gp import LinearDynamicalSystem
        >>> t = np.arange(80)
        >>> X = np.sin(t / 4) + 0.05 * np.random.default_rng(0).normal(size=80)
        >>> system = LinearDynamicalSystem(states=2).fit(X[:60])
        >>> bool(np.max(np.abs(system.forecast(X[:60], 10)[:, 0] - np.sin(t[60:70] / 4))) < 0.3)
        True
    """

    def __init__(
        self,
        states: int = 2,
        *,
        model: LinearGaussian | None = None,
        learn: Sequence[str] | None = None,
        diagonal: Sequence[str] = ("R",),
        optimizer: str | None = "gradient",
        max_iters: int = 300,
        tol: float = 1e-5,
    ):
        self.states = states
        self.model = model
        self.learn = learn
        self.diagonal = diagonal
        self.optimizer = optimizer
        self.max_iters = max_iters
        self.tol = tol

    def fit(self, X: Any, y: Any = None) -> LinearDynamicalSystem:
        """Learn the model from the series X; y is ignored.  Warns if the optimiser did not converge."""
        if self.optimizer not in OPTIMIZERS:
            known = ", ".join(map(repr, OPTIMIZERS))
            raise UnknownNameError(f"unknown optimizer {self.optimizer!r}; there are {known}.")
        if not (isinstance(self.states, (int, np.integer)) and self.states >= 1):
            raise ValueError(f"states must be a whole number of at least 1, not {self.states!r}.")
        series = _series(X)
        check_names(self, frame_names(X), reset=True)
        p = series[0].shape[1]
        if self.model is not None:
            if self.model.observed != p:
                raise ValueError(f"the model observes {self.model.observed} values, X has {p} columns.")
            shift, unit, start = np.zeros(p), np.ones(p), self.model
        else:
            shift, unit = _moments(series)
            start = subspace_model([(one - shift) / unit for one in series], self.states)
        self.n_features_in_ = p
        scaled = (_stacked(series) - shift) / unit
        several = scaled.ndim == 3
        learn = (
            self.learn
            if self.learn is not None
            else ("A", "Q", "H", "R", "m0", *(("P0",) if several else ()))
        )
        result = self._learned(start, scaled, tuple(learn))
        found = result.model
        self.model_ = found.replace(H=unit[:, None] * found.H, R=unit[:, None] * found.R * unit)
        self.offset_ = shift
        self.fit_result_ = result
        self.n_iter_ = max(1, result.iterations)
        self.log_likelihood_ = self.log_likelihood(series)
        if not result.converged:
            warnings.warn(
                f"LinearDynamicalSystem did not converge: {result.reason}. The best parameters are used; "
                "raise max_iters, or learn fewer parameters.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _learned(self, start: LinearGaussian, y: np.ndarray, learn: tuple[str, ...]) -> LearnResult:
        options: dict[str, Any] = {"learn": learn, "diagonal": tuple(self.diagonal)}
        if self.optimizer is None:
            value = float(np.sum(log_likelihood(start, y)))
            return LearnResult(start, value, True, "nothing was learned", 0, (value,))
        first: LearnResult | None = None
        if self.optimizer != "gradient":
            first = em(start, y, max_iters=self.max_iters, tol=self.tol, **options)
            if self.optimizer == "em":
                return first
            start = first.model
        second = gradient_fit(start, y, max_iters=self.max_iters, tol=self.tol, **options)
        if first is None:
            return second
        if second.log_likelihood < first.log_likelihood:
            return first
        return LearnResult(
            second.model,
            second.log_likelihood,
            second.converged,
            second.reason,
            first.iterations + second.iterations,
            (*first.history, *second.history[1:]),
            second.gradient_norm,
        )

    def _check(self, X: Any) -> tuple[np.ndarray, list[int] | None]:
        """The series less the offset, stacked; their lengths if there are several of different ones."""
        check_is_fitted(self)
        series = _series(X)
        if series[0].shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {series[0].shape[1]} columns, but {self.n_features_in_} were seen in fit."
            )
        check_names(self, frame_names(X), reset=False)
        ragged = len({len(one) for one in series}) > 1
        return _stacked(series) - self.offset_, [len(one) for one in series] if ragged else None

    def filter(self, X: Any) -> tuple[Any, Any]:
        """Mean ``(n, s)`` and covariance ``(n, s, s)`` of every state given the past and present of X.

        Of several series: arrays with an axis in front, or lists where their lengths differ.
        """
        y, lengths = self._check(X)
        answer = kalman_filter(self.model_, y)
        return _cut(answer.mean, lengths), _cut(answer.covariance, lengths)

    def smooth(self, X: Any) -> tuple[Any, Any]:
        """Mean and covariance of every state given all of X; as :meth:`filter`."""
        y, lengths = self._check(X)
        answer = kalman_smoother(self.model_, y)
        return _cut(answer.mean, lengths), _cut(answer.covariance, lengths)

    def transform(self, X: Any) -> Any:
        """The smoothed states ``(n, s)``."""
        return self.smooth(X)[0]

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Every row of X predicted from the rows before it, ``(n, p)``; with standard deviations if asked
        for.
        """
        y, lengths = self._check(X)
        answer = kalman_filter(self.model_, y)
        return self._in_units(answer.predicted_mean, answer.predicted_covariance, True, return_std, lengths)

    def reconstruct(self, X: Any, return_std: bool = False) -> Any:
        """What was observed without its noise, ``(n, p)``, given all of X: missing values are filled in."""
        y, lengths = self._check(X)
        answer = kalman_smoother(self.model_, y)
        return self._in_units(answer.mean, answer.covariance, False, return_std, lengths)

    def forecast(self, X: Any, steps: int = 1, return_std: bool = False) -> Any:
        """The ``steps`` rows after X, ``(steps, p)``, and the standard deviations of such observations."""
        y, lengths = self._check(X)
        if lengths is not None:
            parts = [self.forecast(y[i, :k] + self.offset_, steps, True) for i, k in enumerate(lengths)]
            mean, std = np.stack([m for m, _ in parts]), np.stack([s for _, s in parts])
            return (mean, std) if return_std else mean
        ahead = forecast(self.model_, y, steps)
        mean = self.offset_ + ahead.mean
        return (mean, _deviation(ahead.covariance)) if return_std else mean

    def _in_units(self, mean: Any, cov: Any, noise: bool, return_std: bool, lengths: list[int] | None) -> Any:
        seen = observed(self.model_, mean, cov, include_noise=noise)
        shown = _cut(self.offset_ + seen.mean, lengths)
        return (shown, _cut(_deviation(seen.covariance), lengths)) if return_std else shown

    def sample(self, n: int, count: int = 1, random_state: Any = 0) -> tuple[np.ndarray, np.ndarray]:
        """New series of the model: observations ``(count, n, p)`` and their states ``(count, n, s)``."""
        check_is_fitted(self)
        x, y = sample(self.model_, n, key=seed_of(random_state), count=count)
        return self.offset_ + y, x

    def sample_states(self, X: Any, count: int = 1, random_state: Any = 0) -> np.ndarray:
        """Joint draws of all states given one series X, ``(count, n, s)``."""
        y, lengths = self._check(X)
        if lengths is not None:
            raise ValueError("draws of the states are made of series of one length; give them one by one.")
        return sample_posterior(self.model_, y, key=seed_of(random_state), count=count)

    def log_likelihood(self, X: Any) -> float:
        """Log density of the series X, summed over them."""
        return float(np.sum(log_likelihood(self.model_, self._check(X)[0])))

    def score(self, X: Any, y: Any = None) -> float:
        """Log density per observed value."""
        seen = int(np.sum(~np.isnan(self._check(X)[0])))
        return self.log_likelihood(X) / max(1, seen)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one file, which :meth:`load` reads without executing code."""
        check_is_fitted(self)
        parts = {"model": self.model_, "offset": self.offset_}
        storage.save(
            path,
            parts,
            {
                "estimator": "LinearDynamicalSystem",
                "log_likelihood": self.log_likelihood_,
                "features": [str(name) for name in getattr(self, "feature_names_in_", ())],
            },
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LinearDynamicalSystem:
        """The estimator written by :meth:`save`, fitted; what the fit did on the way is not in the file."""
        parts, meta = storage.load(path)
        model, offset = parts.get("model"), parts.get("offset")
        if not isinstance(model, LinearGaussian) or getattr(offset, "shape", None) != (model.observed,):
            raise FileFormatError(f"{os.fspath(path)} holds no linear dynamical system.")
        system = cls(model.states)
        system.model_, system.offset_ = model, np.asarray(offset)
        system.n_features_in_ = model.observed
        with storage.assembling(path):
            system.log_likelihood_ = float(meta.get("log_likelihood", np.nan))
            names = storage.column_names(meta, system.n_features_in_)
            if names is not None:
                system.feature_names_in_ = names
        return system


def _series(X: Any) -> list[np.ndarray]:
    """X as a list of series ``(n, p)`` of real numbers or NaN."""
    several = isinstance(X, (list, tuple)) and any(np.ndim(one) == 2 for one in X)
    lengths = {np.size(one) for one in X} if isinstance(X, (list, tuple)) else set()
    if not several and len(lengths) > 1:
        raise ValueError(
            "series of different lengths must each be an array (n, p); use one[:, None] for p = 1."
        )
    whole = None if several else real_numbers(X, "X")
    if whole is None:
        found = [real_numbers(one, "X") for one in X]
    else:
        found = list(whole) if whole.ndim == 3 else [whole[:, None] if whole.ndim == 1 else whole]
    shapes = [one.shape for one in found]
    if not found or any(len(k) != 2 or 0 in k for k in shapes) or len({k[1] for k in shapes}) > 1:
        raise ValueError(
            f"X must be one series (n, p), several (series, n, p), or a list of series, not {shapes}."
        )
    for one in found:
        if np.any(np.isinf(one)):
            raise ValueError("X contains infinity; missing values are NaN.")
    return found


def _stacked(series: list[np.ndarray]) -> np.ndarray:
    """One array; several series with an axis in front, the short ones with missing values at their end."""
    if len(series) == 1:
        return series[0]
    out = np.full((len(series), max(map(len, series)), series[0].shape[1]), np.nan)
    for row, one in zip(out, series, strict=True):
        row[: len(one)] = one
    return out


def _cut(x: np.ndarray, lengths: list[int] | None) -> Any:
    return x if lengths is None else [row[:k] for row, k in zip(x, lengths, strict=True)]


def _deviation(covariance: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(np.diagonal(covariance, axis1=-2, axis2=-1), 0.0))


def _moments(series: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of what is seen in every column; a constant one keeps its unit."""
    every = np.concatenate(series)
    shift, unit = np.zeros(every.shape[1]), np.ones(every.shape[1])
    for j, column in enumerate(every.T):
        seen = column[~np.isnan(column)]
        if len(seen):
            # dividing first keeps squares of huge and tiny values finite
            top = np.max(np.abs(seen)) or 1.0
            shift[j] = top * np.mean(seen / top)
            spread = np.std(seen / top)
            unit[j] = top * spread if spread > 1e-12 else 1.0
    return shift, unit


__all__ = ["LinearDynamicalSystem"]
