"""``GPRegressor``: Gaussian process regression with the interface of a scikit-learn estimator.

What it derives from, with and without scikit-learn, is :mod:`cola_gp.estimators.base`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from cola_core.errors import ConvergenceWarning

from .estimators.base import (
    HAS_SKLEARN,
    BaseEstimator,
    RegressorMixin,
    check_is_fitted,
    seed_of,
    validate_data,
)
from .kernels import Kernel
from .missing import check_policy
from .model import GP
from .predictor import Predictor, default_model


class GPRegressor(RegressorMixin, BaseEstimator):
    """Exact Gaussian process regression.

    kernel: a :class:`~cola_gp.kernels.Kernel` with initial values (default: a scaled RBF, one lengthscale per
    dimension).  noise: initial noise variance.  Both refer to scaled data when ``scale`` is True: inputs
    and targets are then brought to zero mean and unit variance first, and predictions are given in the
    original units. optimize: fit the parameters (else use the initial ones).  optimizer, initial, restarts,
    random_state, max_iters, bounds, fixed, priors: see :func:`cola_gp.fit`.  missing: "raise", or "drop" to
    leave out training rows that hold NaN (``predictor_.dropped`` counts them); inputs of predictions must be
    complete.

    After ``fit``: ``model_`` (in scaled units), ``fit_result_``, ``predictor_``, ``n_features_in_``.
    """

    def __init__(
        self,
        kernel: Kernel | None = None,
        noise: float = 0.1,
        *,
        scale: bool = True,
        optimize: bool = True,
        optimizer: str = "l-bfgs",
        initial: str = "given",
        restarts: int = 0,
        max_iters: int = 200,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        fixed: tuple[str, ...] = (),
        priors: Mapping[str, Any] | None = None,
        missing: str = "raise",
        random_state: int | None = 0,
    ):
        self.kernel = kernel
        self.noise = noise
        self.scale = scale
        self.optimize = optimize
        self.optimizer = optimizer
        self.initial = initial
        self.restarts = restarts
        self.max_iters = max_iters
        self.bounds = bounds
        self.fixed = fixed
        self.priors = priors
        self.missing = missing
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> GPRegressor:
        """Fit to inputs ``X (n, d)`` and targets ``y (n,)``; warns if the optimiser did not converge."""
        check_policy(self.missing)
        if self.missing == "drop":
            # scikit-learn never lets NaN through in y, so y is looked at by drop_missing alone.
            X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
            y = np.asarray(y, dtype=float)
            y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        else:
            X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        y = np.asarray(y, dtype=float)
        kernel = self.kernel if self.kernel is not None else default_model(X.shape[1], X.shape[0]).kernel
        self.predictor_ = Predictor.fit(
            X,
            y,
            GP(kernel, noise=self.noise),
            scale=self.scale,
            optimize=self.optimize,
            missing=self.missing,
            **(
                {
                    "optimizer": self.optimizer,
                    "initial": self.initial,
                    "restarts": self.restarts,
                    "seed": seed_of(self.random_state),
                    "max_iters": self.max_iters,
                    "bounds": self.bounds,
                    "fixed": self.fixed,
                    "priors": self.priors,
                }
                if self.optimize
                else {}
            ),
        )
        self.model_ = self.predictor_.model
        self.fit_result_ = self.predictor_.result
        self.n_iter_ = max(1, self.fit_result_.iterations)
        if self.optimize and not self.fit_result_.converged:
            warnings.warn(
                f"GPRegressor did not converge: {self.fit_result_.reason}. The best parameters are used; "
                "raise max_iters, set bounds, or give better initial values.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _check(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=np.float64)

    def predict(self, X: Any, return_std: bool = False, return_cov: bool = False) -> Any:
        """Predictive mean; with the latent function's standard deviation or covariance if asked for."""
        if return_std and return_cov:
            raise ValueError("ask for return_std or return_cov, not both.")
        X = self._check(X)
        mean = self.predictor_.mean(X)
        if return_std:
            return mean, np.sqrt(self.predictor_.variance(X))
        if return_cov:
            return mean, self.predictor_.covariance(X)
        return mean

    def sample_y(self, X: Any, n_samples: int = 1, random_state: int = 0) -> np.ndarray:
        """Joint draws of the latent function, shape ``(m, n_samples)`` as in scikit-learn."""
        return self.predictor_.sample(self._check(X), n_samples, key=random_state).T

    def log_marginal_likelihood(self) -> float:
        """Log marginal likelihood of the (scaled) training targets."""
        check_is_fitted(self)
        return float(self.predictor_.posterior.log_marginal_likelihood())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one file; read it with :meth:`cola_gp.Predictor.load`."""
        check_is_fitted(self)
        self.predictor_.save(path)


__all__ = ["HAS_SKLEARN", "GPRegressor"]
