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

from . import storage
from .estimators.base import (
    HAS_SKLEARN,
    BaseEstimator,
    RegressorMixin,
    check_is_fitted,
    one_column,
    real_numbers,
    seed_of,
    validate_data,
)
from .expressions import has_values, parse_kernel, parse_mean, parse_noise
from .kernels import Kernel
from .means import Mean
from .missing import check_policy, unveiled
from .model import GP
from .noise import Noise
from .predictor import Predictor, default_model


class GPRegressor(RegressorMixin, BaseEstimator):
    """Gaussian process regression, with the inference that the structure of the covariance allows.

    kernel: a :class:`~cola_gp.kernels.Kernel` with initial values, or text such as "matern52 + linear"
    (:mod:`cola_gp.expressions`; default: a scaled RBF, one lengthscale per dimension).  noise: initial
    noise variance, a :class:`~cola_gp.noise.Noise` or likelihood, or text such as "student".  mean:
    likewise, default zero.  They refer to scaled data when ``scale`` is True: inputs and targets are then
    brought to zero mean and unit variance first, and predictions are given in the original units.
    inference: how, see :func:`cola_gp.condition`.  optimize: fit the parameters (else use the initial
    ones).  initial: "given", "data", or "auto", which looks at the data unless a kernel with values is given.
    optimizer, restarts, random_state, max_iters, bounds, fixed, priors: see :func:`cola_gp.fit`; the
    default priors (of scaled data) keep many lengthscales from being overfitted to few data, and
    ``priors=None`` maximises the likelihood itself.  missing: "raise", or "drop" to leave out training rows
    that hold NaN (``predictor_.dropped`` counts them); inputs of predictions must be complete.

    After ``fit``: ``model_`` (in scaled units), ``fit_result_``, ``predictor_``, ``n_features_in_``.

    >>> import numpy as np, cola_gp as gp
    >>> X = np.linspace(0, 6, 40)[:, None]
    >>> model = gp.GPRegressor("matern52 + linear").fit(X, np.sin(X[:, 0]))
    >>> bool(model.score(X, np.sin(X[:, 0])) > 0.99)
    True
    """

    def __init__(
        self,
        kernel: Kernel | str | None = None,
        noise: float | Noise | str = 0.1,
        *,
        mean: Mean | str | None = None,
        inference: Any = "auto",
        scale: bool = True,
        optimize: bool = True,
        optimizer: str = "l-bfgs",
        initial: str = "auto",
        restarts: int = 0,
        max_iters: int = 200,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        fixed: tuple[str, ...] = (),
        priors: Mapping[str, Any] | str | None = "weak",
        missing: str = "raise",
        random_state: int | None = 0,
    ):
        self.kernel = kernel
        self.noise = noise
        self.mean = mean
        self.inference = inference
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
            X = validate_data(self, unveiled(X), dtype=np.float64, ensure_all_finite="allow-nan")
            y = one_column(self, unveiled(y))
        else:
            X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        y = real_numbers(y, "y")
        self.predictor_ = Predictor.fit(
            X,
            y,
            self._model(*X.shape),
            scale=self.scale,
            alg=self.inference,
            optimize=self.optimize,
            missing=self.missing,
            **(
                {
                    "optimizer": self.optimizer,
                    "initial": self._initial(),
                    "restarts": self.restarts,
                    "seed": seed_of(self.random_state),
                    "max_iters": self.max_iters,
                    "bounds": self.bounds,
                    "fixed": self.fixed,
                    # weak priors are centred where lengthscales of scaled inputs are
                    "priors": self.priors if self.scale or self.priors != "weak" else None,
                }
                if self.optimize
                else {}
            ),
        )
        self.model_ = self.predictor_.model
        result: Any = self.predictor_.result
        self.fit_result_ = result
        self.n_iter_ = max(1, result.iterations)
        if self.optimize and not result.converged:
            warnings.warn(
                f"GPRegressor did not converge: {result.reason}. The best parameters are used; "
                "raise max_iters, set bounds, or give better initial values.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _model(self, n: int, d: int) -> GP:
        kernel, mean, noise = self.kernel, self.mean, self.noise
        if kernel is None:
            kernel = default_model(d, n).kernel
        if isinstance(kernel, str):
            kernel = parse_kernel(kernel, d)
        if isinstance(mean, str):
            mean = parse_mean(mean, d)
        if isinstance(noise, str):
            noise = parse_noise(noise, d)
        return GP(kernel, mean, noise)

    def _initial(self) -> str:
        if self.initial != "auto":
            return self.initial
        bare = self.kernel is None or (isinstance(self.kernel, str) and not has_values(self.kernel))
        return "data" if bare else "given"

    def _check(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=np.float64)

    def predict(self, X: Any, return_std: bool = False, return_cov: bool = False) -> Any:
        """Predictive mean; with the latent function's standard deviation or covariance if asked for.

        Under a likelihood that is not Gaussian: mean and standard deviation of observations.
        """
        if return_std and return_cov:
            raise ValueError("ask for return_std or return_cov, not both.")
        X = self._check(X)
        if not self.predictor_.model.noise.gaussian:
            if return_cov:
                raise ValueError(
                    "return_cov is for Gaussian noise; predictor_.covariance is that of the function."
                )
            mean, variance = self.predictor_.response(X)
            return (mean, np.sqrt(variance)) if return_std else mean
        mean = self.predictor_.mean(X)
        if return_std:
            return mean, self.predictor_.deviation(X)
        if return_cov:
            return mean, self.predictor_.covariance(X)
        return mean

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """Joint draws of the latent function, shape ``(m, n_samples)`` as in scikit-learn."""
        return self.predictor_.sample(self._check(X), n_samples, key=seed_of(random_state)).T

    def log_marginal_likelihood(self) -> float:
        """Log marginal likelihood of the (scaled) training targets."""
        check_is_fitted(self)
        return float(self.predictor_.posterior.log_marginal_likelihood())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one file."""
        check_is_fitted(self)
        names = [str(name) for name in getattr(self, "feature_names_in_", ())]
        self.predictor_.save(path, {"estimator": "GPRegressor", **({"features": names} if names else {})})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GPRegressor:
        """The fitted estimator of a file written by :meth:`save` or by the command line.

        Nothing in the file is executed.  Options of the fit are not in it: ``kernel``, ``mean`` and ``noise``
        are the fitted ones, in scaled units, and ``fit_result_`` is None.
        """
        predictor, meta = Predictor.load(path)
        model = predictor.model
        made = cls(model.kernel, model.noise, mean=model.mean, inference=predictor.alg)
        made.predictor_, made.model_, made.fit_result_ = predictor, model, None
        made.n_features_in_ = int(predictor.data.X.shape[1])
        names = storage.column_names(meta, made.n_features_in_)
        if names is not None:
            made.feature_names_in_ = names
        return made


__all__ = ["HAS_SKLEARN", "GPRegressor"]
