"""Conformance cases of this package: its operator, its rules, and values of Gaussian process inference.

References are written with NumPy alone, from the textbook formulas and not from this package's kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cola_core import PSD, ops
from cola_core.testing import Capabilities, Case, closed, data

from . import functional
from .calibration import Calibration
from .covariance import CovarianceOperator
from .data import Data, Grid
from .inference import IterativeInference
from .inference.inducing import InducingCovariance
from .inference.observed import ObservedOnGrid
from .kernels import (
    RBF,
    ActiveDims,
    Constant,
    Coregion,
    Cosine,
    Deep,
    Inducing,
    Linear,
    Matern32,
    Polynomial,
    RandomFourier,
    SpectralMixture,
    White,
)
from .likelihood import marginal_likelihood, value_and_gradient
from .likelihoods import conformance as in_likelihoods
from .maps import Affine
from .means import LinearMean
from .model import GP
from .noise import HeteroscedasticNoise, TaskNoise
from .posterior import Posterior
from .sde import conformance as in_time
from .statespace import conformance as in_statespace

REAL = Capabilities(
    complex=closed("covariance functions are real"),
    torch_compile=closed(
        "torch.compile rebuilds the frozen dataclasses in `A @ x` from placeholders; compile the evaluation "
        "of the kernel instead"
    ),
)


def _points(dtype: str, seed: int, n: int) -> np.ndarray:
    return data.normal(seed, (n, 2), dtype)


def _square_distance(X: np.ndarray, Z: np.ndarray, scale: Any) -> np.ndarray:
    return np.sum(((X[:, None, :] - Z[None, :, :]) / np.asarray(scale)) ** 2, axis=-1)


def _rbf(X: np.ndarray, Z: np.ndarray) -> np.ndarray:
    return 1.5 * np.exp(-0.5 * _square_distance(X, Z, [0.7, 1.1]))


def _symmetric(backend: Any, dtype: str, seed: int) -> CovarianceOperator:
    # Blocks of two rows, so that the loop over blocks is part of what is checked.
    X = backend.asarray(_points(dtype, seed, 7))
    return CovarianceOperator(1.5 * RBF([0.7, 1.1]) + White(0.3), X, block_bytes=16 * 7)


def _symmetric_reference(dtype: str, seed: int) -> np.ndarray:
    X = _points(dtype, seed, 7).astype(float)
    return _rbf(X, X) + 0.3 * np.eye(7)


def _rectangular(backend: Any, dtype: str, seed: int) -> CovarianceOperator:
    X, Z = _points(dtype, seed, 6), _points(dtype, seed + 1, 4)
    return CovarianceOperator(Matern32(0.8) * Linear(0.5), backend.asarray(X), backend.asarray(Z))


def _rectangular_reference(dtype: str, seed: int) -> np.ndarray:
    X, Z = _points(dtype, seed, 6).astype(float), _points(dtype, seed + 1, 4).astype(float)
    t = np.sqrt(3.0 * _square_distance(X, Z, 0.8))
    return (1.0 + t) * np.exp(-t) * 0.5 * (X @ Z.T)


def _linear(backend: Any, dtype: str, seed: int) -> CovarianceOperator:
    X, Z = _points(dtype, seed, 5), _points(dtype, seed + 1, 5)
    return CovarianceOperator(Linear([0.5, 2.0]) + Constant(0.3), backend.asarray(X), backend.asarray(Z))


def _linear_reference(dtype: str, seed: int) -> np.ndarray:
    X, Z = _points(dtype, seed, 5).astype(float), _points(dtype, seed + 1, 5).astype(float)
    return (X * [0.5, 2.0]) @ Z.T + 0.3


def _inducing(backend: Any, dtype: str, seed: int) -> InducingCovariance:
    U = backend.asarray(data.normal(seed, (6, 2), dtype))
    return InducingCovariance(U, backend.asarray(data.normal(seed + 1, (6,), dtype) ** 2), "fitc")


def _inducing_reference(dtype: str, seed: int) -> np.ndarray:
    U = data.normal(seed, (6, 2), dtype).astype(float)
    return U @ U.T + np.diag(data.normal(seed + 1, (6,), dtype).astype(float) ** 2)


def _observed_factors(dtype: str, seed: int) -> list[np.ndarray]:
    roots = [data.normal(seed + i, (n, n), dtype).astype(float) for i, n in enumerate((3, 4))]
    return [root @ root.T + np.eye(len(root)) for root in roots]


def _observed(backend: Any, dtype: str, seed: int) -> ObservedOnGrid:
    parts = [PSD(ops.Dense(backend.asarray(K.astype(dtype)))) for K in _observed_factors(dtype, seed)]
    index, missing = np.array([0, 2, 3, 6, 7, 8, 11]), np.array([1, 4, 5, 9, 10])
    return ObservedOnGrid(PSD(ops.Kronecker(*parts)), backend.asarray(index), backend.asarray(missing))


def _observed_reference(dtype: str, seed: int) -> np.ndarray:
    index = [0, 2, 3, 6, 7, 8, 11]
    return np.kron(*_observed_factors(dtype, seed))[np.ix_(index, index)]


def _observed_with_noise(backend: Any, dtype: str, seed: int) -> Any:
    return _observed(backend, dtype, seed) + PSD(ops.ScalarMul(0.3, 7))


def _observed_with_noise_reference(dtype: str, seed: int) -> np.ndarray:
    return _observed_reference(dtype, seed) + 0.3 * np.eye(7)


# -- values -----------------------------------------------------------------------------------------


def _regression(backend: Any) -> tuple[GP, Data, np.ndarray, np.ndarray, np.ndarray]:
    """A model on scattered points; points, targets and covariance as NumPy arrays."""
    X = _points("float64", 3, 9)
    y = np.sin(X[:, 0]) + 0.2
    K = _rbf(X, X) + 0.1 * np.eye(9)
    model = GP(1.5 * RBF([0.7, 1.1]), noise=0.1)
    return model, Data(backend.asarray(X), backend.asarray(y)), X, y, K


def _log_density(K: np.ndarray, y: np.ndarray) -> float:
    """Rasmussen & Williams (2006), eq. 2.30."""
    return float(
        -0.5 * y @ np.linalg.solve(K, y)
        - 0.5 * np.linalg.slogdet(K)[1]
        - 0.5 * len(y) * math.log(2 * math.pi)
    )


def _likelihood(backend: Any) -> tuple[Any, Any]:
    model, observed, _, y, K = _regression(backend)
    return backend.to_numpy(marginal_likelihood(model, observed)), _log_density(K, y)


def _likelihood_low_rank(backend: Any) -> tuple[Any, Any]:
    X = _points("float64", 3, 30)
    y = X @ [1.0, -0.5] + 0.1
    K = (X * [0.5, 2.0]) @ X.T + 0.3 + 0.1 * np.eye(30)
    model = GP(Linear([0.5, 2.0]) + Constant(0.3), noise=0.1)
    observed = Data(backend.asarray(X), backend.asarray(y))
    return backend.to_numpy(marginal_likelihood(model, observed)), _log_density(K, y)


def _likelihood_grid(backend: Any) -> tuple[Any, Any]:
    axes = np.linspace(0.0, 1.0, 4), np.array([0.0, 0.7, 1.9])
    X = np.array([(a, b) for a in axes[0] for b in axes[1]])
    y = data.normal(5, (12,))
    model = GP(1.5 * RBF([0.7, 1.1]), noise=0.1)
    observed = Data(Grid(*(backend.asarray(a) for a in axes)), backend.asarray(y))
    K = _rbf(X, X) + 0.1 * np.eye(12)
    return backend.to_numpy(marginal_likelihood(model, observed)), _log_density(K, y)


def _gradient(backend: Any) -> tuple[Any, Any]:
    """Against Rasmussen & Williams (2006), eq. 5.9, with explicit derivative matrices."""
    model, observed, X, y, K = _regression(backend)
    _, gradient = value_and_gradient(model, observed)
    R = _rbf(X, X)
    d_scale = [R * ((X[:, None, j] - X[None, :, j]) / s) ** 2 for j, s in enumerate((0.7, 1.1))]
    inverse = np.linalg.inv(K)
    a = inverse @ y
    W = 0.5 * (np.outer(a, a) - inverse)
    want = [np.sum(W * D) for D in (*d_scale, R, 0.1 * np.eye(9))]
    return np.concatenate([np.ravel(backend.to_numpy(g)) for g in gradient]), np.array(want)


def _mean_and_variance(backend: Any) -> tuple[Any, Any]:
    model, observed, X, y, K = _regression(backend)
    Z = _points("float64", 4, 5)
    posterior = Posterior(model, observed)
    got = [posterior.mean(backend.asarray(Z)), posterior.variance(backend.asarray(Z))]
    cross = _rbf(Z, X)
    want = [cross @ np.linalg.solve(K, y), 1.5 - np.sum(cross.T * np.linalg.solve(K, cross.T), axis=0)]
    return np.stack([backend.to_numpy(g) for g in got]), np.stack(want)


def _inducing_bound(backend: Any) -> tuple[Any, Any]:
    """Titsias (2009), eq. 9, with the n x n matrices written out."""
    model, observed, X, y, _ = _regression(backend)
    Z = X[:4]
    sparse = GP(Inducing(model.kernel, Z, nugget=0.0), noise=0.1)
    Q = _rbf(X, Z) @ np.linalg.solve(_rbf(Z, Z), _rbf(Z, X))
    want = _log_density(Q + 0.1 * np.eye(9), y) - 0.5 * np.trace(_rbf(X, X) - Q) / 0.1
    return backend.to_numpy(marginal_likelihood(sparse, observed)), want


def _tasks(backend: Any) -> tuple[Any, Any]:
    """Tasks on scattered points, with a noise of their own: Bonilla, Chai & Williams (2008), eq. 1."""
    P = _points("float64", 6, 9)
    task = np.arange(9) % 3
    X = np.column_stack([P, task])
    y = np.sin(P[:, 0]) + 0.2 * task
    B, v, noise = np.array([[0.5], [1.1], [-0.7]]), np.array([0.3, 0.2, 0.9]), np.array([0.1, 0.2, 0.3])
    C = B @ B.T + np.diag(v)
    K = _rbf(P, P) * C[np.ix_(task, task)] + np.diag(noise[task])
    kernel = ActiveDims(1.5 * RBF([0.7, 1.1]), (0, 1)) * ActiveDims(Coregion(root=B, variance=v), 2)
    model = GP(kernel, noise=TaskNoise(noise, dim=2))
    observed = Data(backend.asarray(X), backend.asarray(y))
    return backend.to_numpy(value_and_gradient(model, observed)[0]), _log_density(K, y)


def _heteroscedastic(backend: Any) -> tuple[Any, Any]:
    X = _points("float64", 7, 9)
    y = np.cos(X[:, 1])
    K = _rbf(X, X) + np.diag(np.exp(X @ [0.5, -0.2] - 2.0))
    model = GP(
        1.5 * RBF([0.7, 1.1]), LinearMean([0.3, 0.1], 0.2), HeteroscedasticNoise(Affine([0.5, -0.2], -2.0))
    )
    observed = Data(backend.asarray(X), backend.asarray(y))
    residual = y - X @ [0.3, 0.1] - 0.2
    return backend.to_numpy(value_and_gradient(model, observed)[0]), _log_density(K, residual)


def _further_kernels(backend: Any) -> tuple[Any, Any]:
    """One matrix each, stacked: polynomial, cosine, spectral mixture, deep."""
    X = _points("float64", 8, 5)
    t = X[:, None, :] - X[None, :, :]
    w, f, b = np.array([0.6, 1.4]), np.array([[0.3, 0.7], [1.1, 0.2]]), np.array([[0.2, 0.1], [0.05, 0.4]])
    M = np.array([[0.5, -1.0], [0.3, 0.8]])
    kernels = [
        Polynomial(3, 0.6, 0.8),
        Cosine([1.7, 0.9]),
        SpectralMixture(w, f, b),
        Deep(1.5 * RBF([0.7, 1.1]), Affine(M)),
    ]
    waves = [
        np.prod(np.exp(-2 * (np.pi * t * b[q]) ** 2) * np.cos(2 * np.pi * t * f[q]), axis=-1)
        for q in range(2)
    ]
    want = [
        (0.6 * X @ X.T + 0.8) ** 3,
        np.prod(np.cos(2 * np.pi * t / [1.7, 0.9]), axis=-1),
        w[0] * waves[0] + w[1] * waves[1],
        _rbf(X @ M, X @ M),
    ]
    return np.stack([backend.to_numpy(k(backend.asarray(X))) for k in kernels]), np.stack(want)


def _independent_conditionals(backend: Any) -> tuple[Any, Any]:
    """Snelson & Ghahramani (2006), eq. 9; and the mean of Quinonero-Candela & Rasmussen (2005), eq. 24b."""
    model, observed, X, y, _ = _regression(backend)
    Z, T = X[:4], _points("float64", 4, 3)
    sparse = GP(Inducing(model.kernel, Z, "fitc", nugget=0.0), noise=0.1)
    weights = np.linalg.solve(_rbf(Z, Z), _rbf(Z, X))
    Q = _rbf(X, Z) @ weights
    S = Q + np.diag(np.diagonal(_rbf(X, X) - Q)) + 0.1 * np.eye(9)
    got = [marginal_likelihood(sparse, observed)[None], Posterior(sparse, observed).mean(backend.asarray(T))]
    mean = _rbf(T, Z) @ weights @ np.linalg.solve(S, y)
    return np.concatenate([backend.to_numpy(g) for g in got]), np.append(_log_density(S, y), mean)


def _random_features(backend: Any) -> tuple[Any, Any]:
    """Rahimi & Recht (2007): the average of cosines, with frequencies that are part of the kernel."""
    _, observed, X, y, _ = _regression(backend)
    frequencies = data.normal(7, (1, 3, 2), "float64")
    kernel = RandomFourier(RBF([0.7, 1.1]), frequencies=frequencies)
    phase = X @ (frequencies[0] / np.array([0.7, 1.1])).T
    K = np.mean(np.cos(phase[:, None, :] - phase[None, :, :]), axis=-1)
    value = marginal_likelihood(GP(kernel, noise=0.1), observed)
    return backend.to_numpy(value), _log_density(K + 0.1 * np.eye(9), y)


def _functional(backend: Any) -> tuple[Any, Any]:
    """The loss of changed parameters, and its gradient in closed form at the kernel's variance."""
    model, observed, X, y, K = _regression(backend)
    given = functional.parameters(model, like=observed.y)
    given = given | {"noise.log_variance": given["noise.log_variance"] + math.log(2.0)}
    value = functional.loss(given, model, observed.X, observed.y)
    mean, variance = functional.predict(given, model, observed.X, observed.y, observed.X[:3])
    K = K + 0.1 * np.eye(9)
    cross = _rbf(X[:3], X)
    left = 1.5 - np.sum(cross.T * np.linalg.solve(K, cross.T), axis=0)
    want = [np.array([-_log_density(K, y) / 9]), cross @ np.linalg.solve(K, y), left]
    got = [backend.to_numpy(v) for v in (value[None], mean, variance)]
    return np.concatenate(got), np.concatenate(want)


def _calibration(backend: Any) -> tuple[Any, Any]:
    """Negative log density, root mean square error, and how many of six observations an interval holds."""
    mean, sd, y = data.normal(1, (6,)), 0.5 + np.abs(data.normal(2, (6,))), data.normal(3, (6,))
    given = [backend.asarray(a) for a in (mean, sd**2, y)]
    report = Calibration.of(given[0], given[1], given[2], levels=(0.6827,))
    z = (y - mean) / sd
    density = np.mean(0.5 * z**2 + np.log(sd) + 0.5 * math.log(2 * math.pi))
    got = [report.nlpd, report.rmse, float(report.coverage[0])]
    return np.array(got), np.array([density, np.sqrt(np.mean((y - mean) ** 2)), np.mean(np.abs(z) <= 1.0)])


def _by_products(backend: Any) -> tuple[Any, Any]:
    """Mean and variance from preconditioned Lanczos runs, which are solves to the tolerance asked for."""
    model, observed, X, y, K = _regression(backend)
    Z = _points("float64", 4, 5)
    posterior = Posterior(model, observed, IterativeInference(rank=3, solve_tol=1e-12, tol=10.0))
    got = [posterior.mean(backend.asarray(Z)), posterior.variance(backend.asarray(Z))]
    cross = _rbf(Z, X)
    want = [cross @ np.linalg.solve(K, y), 1.5 - np.sum(cross.T * np.linalg.solve(K, cross.T), axis=0)]
    return np.stack([backend.to_numpy(g) for g in got]), np.stack(want)


VALUES: dict[str, Callable[..., Any]] = {
    "predictive mean and variance, by products": _by_products,
    "loss and prediction as pure functions": _functional,
    "scores of predictions": _calibration,
    "tasks on scattered points": _tasks,
    "noise and mean that depend on the inputs": _heteroscedastic,
    "polynomial, cosine, spectral mixture, deep kernels": _further_kernels,
    "log marginal likelihood": _likelihood,
    "log marginal likelihood, low rank": _likelihood_low_rank,
    "log marginal likelihood, grid": _likelihood_grid,
    "gradient": _gradient,
    "lower bound from inducing points": _inducing_bound,
    "independent conditionals from inducing points": _independent_conditionals,
    "log marginal likelihood, random Fourier features": _random_features,
    "predictive mean and variance": _mean_and_variance,
}


def cases() -> list[Case]:
    """Operators, rules and domain values of ``cola_gp``."""
    symmetric: dict[str, Any] = {
        "factory": _symmetric,
        "reference": _symmetric_reference,
        "capabilities": REAL,
    }
    return [
        Case("covariance", **symmetric),
        Case(
            "covariance-rectangular",
            factory=_rectangular,
            reference=_rectangular_reference,
            capabilities=REAL,
        ),
        Case("inducing-covariance", factory=_inducing, reference=_inducing_reference, capabilities=REAL),
        Case("observed-on-grid", factory=_observed, reference=_observed_reference, capabilities=REAL),
        *(
            Case(
                f"{question}-observed-on-grid",
                kind="rule",
                rule=f"gp:{question}/observed-on-grid",
                factory=_observed_with_noise,
                reference=_observed_with_noise_reference,
                capabilities=REAL,
            )
            for question in ("solve", "slogdet")
        ),
        Case("covariance-cross", factory=_linear, reference=_linear_reference, capabilities=REAL),
        Case("diag-covariance", kind="rule", rule="gp:diag/covariance", **symmetric),
        Case("trace-covariance", kind="rule", rule="gp:trace/covariance", **symmetric),
        Case("cholesky-covariance", kind="rule", rule="gp:cholesky/covariance", **symmetric),
        *in_time.cases(),
        Case(
            "gaussian-processes",
            kind="domain",
            module="cola_gp",
            values=VALUES | in_time.VALUES | in_statespace.VALUES | in_likelihoods.VALUES,
        ),
    ]
