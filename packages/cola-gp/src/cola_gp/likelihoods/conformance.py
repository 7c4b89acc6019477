"""Values of the likelihoods and of the linear models for the conformance kit, on every backend.

References are SciPy's and NumPy's: the mode by a generic optimiser, evidence and moments by dense formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cola_core.testing import data

from ..components import principal_components, whiten
from ..data import Data
from ..inference import EPInference
from ..kernels import RBF
from ..likelihood import marginal_likelihood, value_and_gradient
from ..linear_model import linear_posterior
from ..model import GP
from ..posterior import Posterior
from .bernoulli import BernoulliLikelihood
from .poisson import PoissonLikelihood
from .student_t import StudentTLikelihood


def _points(seed: int, n: int) -> np.ndarray:
    return data.normal(seed, (n, 2), "float64")


def _covariance(X: np.ndarray) -> np.ndarray:
    square = np.sum((X[:, None, :] - X[None, :, :]) ** 2, axis=-1)
    return 1.5 * np.exp(-0.5 * square / 0.7**2)


def _evidence(K: np.ndarray, minus_log: Callable[..., Any], weight: Callable[..., Any]) -> float:
    """Laplace's approximation (Rasmussen & Williams 2006, 3.32) with the mode found by BFGS."""
    from scipy.optimize import minimize

    inverse = np.linalg.inv(K)
    f = minimize(lambda f: 0.5 * f @ inverse @ f + minus_log(f), np.zeros(len(K)), method="BFGS", tol=1e-10).x
    log_det = np.linalg.slogdet(np.eye(len(K)) + K * weight(f))[1]
    return float(-0.5 * f @ inverse @ f - minus_log(f) - 0.5 * log_det)


def _classes(backend: Any) -> tuple[Any, Any]:
    X = _points(3, 7)
    y = (X[:, 0] > 0).astype(float)
    model = GP(1.5 * RBF(0.7), noise=BernoulliLikelihood())
    got = marginal_likelihood(model, Data(backend.asarray(X), backend.asarray(y)))
    sign = 2 * y - 1

    def weight(f: np.ndarray) -> np.ndarray:
        p = 1 / (1 + np.exp(-f))
        return p * (1 - p)

    want = _evidence(_covariance(X), lambda f: np.sum(np.logaddexp(0.0, -sign * f)), weight)
    return backend.to_numpy(got), want


def _counts(backend: Any) -> tuple[Any, Any]:
    from scipy.special import gammaln

    X = _points(3, 7)
    y = np.array([0.0, 2.0, 1.0, 5.0, 0.0, 3.0, 1.0])
    model = GP(1.5 * RBF(0.7), noise=PoissonLikelihood())
    got = marginal_likelihood(model, Data(backend.asarray(X), backend.asarray(y)))
    want = _evidence(_covariance(X), lambda f: np.sum(np.exp(f) - y * f + gammaln(y + 1)), np.exp)
    return backend.to_numpy(got), want


def _heavy_tails(backend: Any) -> tuple[Any, Any, float]:
    """The derivative for the scale against a difference of values."""
    X = _points(3, 7)
    y = np.sin(X[:, 0]) + np.array([0.0, 0.0, 3.0, 0.0, 0.0, 0.1, 0.0])
    observed = Data(backend.asarray(X), backend.asarray(y))

    def value(scale: float) -> tuple[Any, Any]:
        return value_and_gradient(GP(1.5 * RBF(0.7), noise=StudentTLikelihood(scale, 4.0)), observed)

    step = 1e-4
    up, down = (float(backend.to_numpy(value(0.2 * math.exp(s))[0])) for s in (step, -step))
    return backend.to_numpy(value(0.2)[1][-2]), (up - down) / (2 * step), 1e-5


def _one_site(backend: Any) -> tuple[Any, Any, float]:
    """With one observation expectation propagation is exact: ``Phi(0)`` and the moments of a half."""
    X, y = np.zeros((1, 2)), np.ones(1)
    model = GP(1.5 * RBF(0.7), noise=BernoulliLikelihood("probit"))
    posterior = Posterior(model, Data(backend.asarray(X), backend.asarray(y)), EPInference())
    got = [posterior.log_marginal_likelihood(), posterior.mean(backend.asarray(X))[0]]
    mean = 1.5 * math.sqrt(2 / math.pi) / math.sqrt(2.5)
    return np.array([float(backend.to_numpy(g)) for g in got]), np.array([math.log(0.5), mean]), 1e-6


def _linear(backend: Any) -> tuple[Any, Any]:
    X = _points(3, 12)
    y = X @ [1.0, -0.5] + 0.1
    found = linear_posterior(backend.asarray(X), backend.asarray(y), 0.5, 4.0)
    precision = 4.0 * X.T @ X + 0.5 * np.eye(2)
    K = np.eye(12) / 4.0 + X @ X.T / 0.5
    evidence = -0.5 * (y @ np.linalg.solve(K, y) + np.linalg.slogdet(2 * math.pi * K)[1])
    got = [*backend.to_numpy(found.mean), float(backend.to_numpy(found.log_evidence))]
    return np.array(got), np.array([*np.linalg.solve(precision, 4.0 * X.T @ y), evidence])


def _components(backend: Any) -> tuple[Any, Any]:
    X = _points(3, 12) * [2.0, 1.0]
    covariance = np.cov(X.T)
    variance = principal_components(backend.asarray(X)).variance
    factor = whiten(backend.asarray(X)).factor
    got = np.concatenate([backend.to_numpy(variance), np.ravel(backend.to_numpy(factor))])
    root = np.linalg.cholesky(covariance)
    return got, np.concatenate([np.linalg.eigvalsh(covariance)[::-1], np.ravel(root)])


VALUES: dict[str, Callable[..., Any]] = {
    "Laplace's approximation, two classes": _classes,
    "Laplace's approximation, counts": _counts,
    "Laplace's approximation, derivative for heavy tails": _heavy_tails,
    "expectation propagation, one observation": _one_site,
    "Bayesian linear regression": _linear,
    "principal components and whitening": _components,
}
