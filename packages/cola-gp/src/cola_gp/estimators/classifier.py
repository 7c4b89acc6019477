r"""``GPClassifier``: Gaussian process classification with the interface of a scikit-learn estimator.

Two classes are one Gaussian process under a :class:`~cola_gp.BernoulliLikelihood`, more are one process per
class against the rest.  The posterior is approximated by expectation propagation
(:mod:`cola_gp.inference.ep`) or Laplace's method (:mod:`cola_gp.inference.laplace`): Rasmussen & Williams
(2006), chapter 3.  Laplace's is faster, but where classes are told apart well its probabilities are far too
cautious and its evidence rewards that; which class is the more probable is hardly affected.  Probabilities
are averages over the posterior.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from cola_core.errors import ConvergenceWarning, FileFormatError

from .. import storage
from ..data import Data, Scaling
from ..expressions import parse_kernel, parse_mean
from ..fitting import fit
from ..inference import EPInference, LaplaceInference
from ..kernels import RBF, Constant, Kernel
from ..likelihoods import BernoulliLikelihood
from ..means import ConstantMean, Mean
from ..model import GP
from ..posterior import Posterior
from .base import (
    BaseEstimator,
    ClassifierMixin,
    check_classification_targets,
    check_is_fitted,
    seed_of,
    validate_data,
)


class GPClassifier(ClassifierMixin, BaseEstimator):
    """Gaussian process classification, binary or one class against the rest.

    kernel: a :class:`~cola_gp.kernels.Kernel` with initial values, or text such as "matern52 + linear"
    (:mod:`cola_gp.expressions`; default: a scaled RBF with one lengthscale). mean: of the function whose sign
    decides, likewise (default: a constant, at first the log odds of the class). approximation: "ep" or
    "laplace".  link: "probit", or with Laplace's approximation also "logit".
    scale: bring inputs to zero mean and unit variance first; kernel and
    mean then refer to scaled inputs.  optimize: fit the parameters of every class (else use the initial
    ones).  restarts, random_state, max_iters, tol, bounds, fixed, priors: see :func:`cola_gp.fit`.

    After ``fit``: ``classes_``, ``models_`` and ``fit_results_`` (one per process: one for two classes, none
    for one), ``n_features_in_``, ``n_iter_``.

    Cost: a few factorisations O(n^3) per class and evaluation of the likelihood.

        >>> import numpy as np
        >>> from cola_gp import GPClassifier
        >>> X = np.linspace(-2.0, 2.0, 20)[:, None]
        >>> model = GPClassifier().fit(X, np.where(X[:, 0] > 0, "right", "left"))
        >>> model.predict(np.array([[-1.0], [1.5]])).tolist()
        ['left', 'right']
    """

    def __init__(
        self,
        kernel: Kernel | str | None = None,
        mean: Mean | str | None = None,
        *,
        approximation: str = "ep",
        link: str = "probit",
        scale: bool = True,
        optimize: bool = True,
        restarts: int = 0,
        max_iters: int = 100,
        tol: float = 1e-4,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        fixed: tuple[str, ...] = (),
        priors: Mapping[str, Any] | None = None,
        random_state: int | None = 0,
    ):
        self.kernel = kernel
        self.mean = mean
        self.approximation = approximation
        self.link = link
        self.scale = scale
        self.optimize = optimize
        self.restarts = restarts
        self.max_iters = max_iters
        self.tol = tol
        self.bounds = bounds
        self.fixed = fixed
        self.priors = priors
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> GPClassifier:
        """Fit to inputs ``X (n, d)`` and labels ``y (n,)``; warns if an optimiser did not converge."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        if self.approximation not in ("ep", "laplace"):
            raise ValueError(f"approximation must be 'ep' or 'laplace', not {self.approximation!r}.")
        if self.approximation == "ep" and self.link == "logit":
            raise ValueError("link='logit' needs approximation='laplace'; with 'ep' the link is 'probit'.")
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._scaling = Scaling.of(X, np.zeros(len(X))) if self.scale else Scaling.none(X.shape[1])
        self._data = Data(self._scaling.inputs(X), codes.astype(float))
        results = [self._fit_one(Data(self._data.X, target)) for target in self._targets()]
        self.fit_results_ = results
        self._condition([result.model for result in results])
        self.n_iter_ = max([1, *(result.iterations for result in results)])
        failed = [
            (label, result)
            for label, result in zip(self._labels(), results, strict=True)
            if self.optimize and not result.converged
        ]
        if failed:
            label, result = failed[0]
            warnings.warn(
                f"GPClassifier did not converge for {len(failed)} of {len(results)} processes (class "
                f"{label!r}: {result.reason}). The best parameters are used; raise max_iters, set bounds, or "
                "give better initial values.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _labels(self) -> np.ndarray:
        """The positive class of every process."""
        return self.classes_ if len(self.classes_) > 2 else self.classes_[1:]

    def _targets(self) -> list[np.ndarray]:
        """What every process has to tell apart, as zeros and ones."""
        first = len(self.classes_) - len(self._labels())
        return [(self._data.y == code).astype(float) for code in range(first, len(self.classes_))]

    def _fit_one(self, data: Data) -> Any:
        d = data.X.shape[1]
        kernel = self.kernel if self.kernel is not None else Constant(1.0) * RBF(math.sqrt(d))
        share = float(np.mean(data.y))
        mean = self.mean if self.mean is not None else ConstantMean(math.log(share / (1.0 - share)))
        kernel = parse_kernel(kernel, d) if isinstance(kernel, str) else kernel
        mean = parse_mean(mean, d) if isinstance(mean, str) else mean
        model = GP(kernel, mean, BernoulliLikelihood(self.link))
        if not self.optimize:
            return fit(model, data, max_iters=0, alg=self._alg())
        return fit(
            model,
            data,
            restarts=self.restarts,
            seed=seed_of(self.random_state),
            max_iters=self.max_iters,
            tol=self.tol,
            bounds=self.bounds,
            fixed=self.fixed,
            priors=self.priors,
            alg=self._alg(),
        )

    def _alg(self) -> Any:
        return EPInference() if self.approximation == "ep" else LaplaceInference()

    def _condition(self, models: list[GP]) -> None:
        self.models_ = models
        self._posteriors = [
            Posterior(model, Data(self._data.X, target), self._alg())
            for model, target in zip(models, self._targets(), strict=True)
        ]

    def _check(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._scaling.inputs(validate_data(self, X, reset=False, dtype=np.float64))

    def _log_odds(self, X: Any) -> np.ndarray:
        """Log odds ``(m, k)`` of the k processes' positive classes."""
        X = self._check(X)
        odds = np.zeros((len(X), len(self._posteriors)))
        for k, posterior in enumerate(self._posteriors):
            mean, variance = posterior.observable(X)
            likelihood: Any = posterior.model.noise
            density, ones = likelihood.log_predictive_density, np.ones(len(X))
            odds[:, k] = density(ones, mean, variance) - density(0.0 * ones, mean, variance)
        return odds

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities ``(m, classes)``, which sum to one; against-the-rest ones are normalised."""
        odds = self._log_odds(X)
        if len(self.classes_) == 1:
            return np.ones((len(odds), 1))
        if len(self.classes_) == 2:
            return np.column_stack([np.exp(-np.logaddexp(0.0, sign * odds[:, 0])) for sign in (1.0, -1.0)])
        # Where every process says no, the one that says it least loudly still wins: normalise in logarithms.
        log_p = -np.logaddexp(0.0, -odds)
        p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
        return p / p.sum(axis=1, keepdims=True)

    def decision_function(self, X: Any) -> np.ndarray:
        """Log odds of the second class, ``(m,)``, or of every class against the rest, ``(m, classes)``."""
        odds = self._log_odds(X)
        return odds[:, 0] if len(self.classes_) == 2 else odds

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class, ``(m,)``."""
        odds = self._log_odds(X)
        if len(self.classes_) == 1:
            return np.repeat(self.classes_, len(odds))
        if len(self.classes_) == 2:
            return self.classes_[(odds[:, 0] > 0).astype(int)]
        return self.classes_[np.argmax(odds, axis=1)]

    def log_marginal_likelihood(self) -> float:
        """Sum over the processes of their (approximate) log marginal likelihoods."""
        check_is_fitted(self)
        return float(sum(posterior.log_marginal_likelihood() for posterior in self._posteriors))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted classifier to one file; read it with :meth:`load`.

        Labels must be numbers, strings or truth values.
        """
        check_is_fitted(self)
        labels = self.classes_.tolist()
        if not all(isinstance(label, (bool, int, float, str)) for label in labels):
            raise FileFormatError("only labels that are numbers, strings or truth values can be saved.")
        parts = {"models": tuple(self.models_), "data": self._data, "scaling": self._scaling}
        meta = {"estimator": "GPClassifier", "classes": labels, "approximation": self.approximation}
        names = [str(name) for name in getattr(self, "feature_names_in_", ())]
        storage.save(path, parts, {**meta, "link": self.link, **({"features": names} if names else {})})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GPClassifier:
        """Read a file written by :meth:`save`; no code in it is executed.  Raises FileFormatError."""
        parts, meta = storage.load(path)
        models: Any
        data: Any
        scaling: Any
        models, data, scaling = (parts.get(name) for name in ("models", "data", "scaling"))
        labels = meta.get("classes")
        sound = (
            isinstance(models, tuple)
            and all(isinstance(model, GP) for model in models)
            and isinstance(data, Data)
            and isinstance(scaling, Scaling)
            and isinstance(labels, list)
            and meta.get("approximation") in ("ep", "laplace")
            and len(models) == (len(labels) if len(labels) > 2 else len(labels) - 1)
            and meta.get("link", "probit") in ("probit", "logit")
        )
        if not sound:
            raise FileFormatError(f"{os.fspath(path)} holds no GPClassifier.")
        self = cls(approximation=meta["approximation"], link=meta.get("link", "probit"))
        with storage.assembling(path):
            self.classes_ = np.asarray(labels)
            self._data, self._scaling = data, scaling
            self.n_features_in_ = int(data.X.shape[1])
            names = storage.column_names(meta, self.n_features_in_)
            if names is not None:
                self.feature_names_in_ = names
            self._condition(list(models))
        return self


__all__ = ["GPClassifier"]
