"""Conformance values of the state-space models, against the dense Gaussian of all states and observations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cola_core.testing import data

from .em import em_step
from .filtering import kalman_filter
from .model import LinearGaussian
from .score import value_and_gradient
from .smoothing import kalman_smoother

N, S, P = 6, 2, 2


def _parameters() -> dict[str, np.ndarray]:
    return {
        "A": np.array([[0.9, 0.4], [-0.3, 0.8]]),
        "Q": np.array([[0.3, 0.1], [0.1, 0.2]]),
        "H": np.array([[1.0, 0.5], [-0.4, 1.2]]),
        "R": np.array([[0.4, 0.15], [0.15, 0.3]]),
        "m0": np.array([0.5, -1.0]),
        "P0": np.array([[1.0, 0.2], [0.2, 0.8]]),
    }


def _observed() -> np.ndarray:
    """Six times two values, of which three are missing."""
    y = data.normal(11, (N, P), "float64")
    y[1, 0] = np.nan
    y[3] = np.nan
    return y


def _dense(parameters: dict[str, np.ndarray], y: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
    """States given what is seen of y, and its log density, by one solve with everything in it.

    Analytic in the parameters: they may have an imaginary part, for derivatives.
    """
    A, Q, H, R, m0, P0 = (parameters[k] for k in ("A", "Q", "H", "R", "m0", "P0"))
    n = len(y)
    powers = [np.linalg.matrix_power(A, k) for k in range(n)]
    flow = np.block([[powers[i - j] if i >= j else np.zeros((S, S)) for j in range(n)] for i in range(n)])
    drive = np.kron(np.eye(n), Q).astype(np.result_type(Q, P0))
    drive[:S, :S] = P0
    K = flow @ drive @ flow.T
    mean = np.concatenate([power @ m0 for power in powers])
    seen = ~np.isnan(y.ravel())
    C = np.kron(np.eye(n), H)[seen]
    V = C @ K @ C.T + np.kron(np.eye(n), R)[np.ix_(seen, seen)]
    v = y.ravel()[seen] - C @ mean
    gain = np.linalg.solve(V, C @ K).T
    density = v @ np.linalg.solve(V, v) + np.log(np.linalg.det(V)) + len(v) * math.log(2 * math.pi)
    return mean + gain @ v, K - gain @ C @ K, -0.5 * density


def _given(backend: Any) -> tuple[LinearGaussian, Any]:
    model = LinearGaussian(**{name: backend.asarray(x) for name, x in _parameters().items()})
    return model, backend.asarray(_observed())


def _blocks(cov: np.ndarray) -> np.ndarray:
    return np.stack([cov[k : k + S, k : k + S] for k in range(0, len(cov), S)])


def _smoother(form: str, method: str) -> Callable[[Any], tuple[Any, Any]]:
    def values(backend: Any) -> tuple[Any, Any]:
        answer = kalman_smoother(*_given(backend), form=form, method=method)
        mean, cov, value = _dense(_parameters(), _observed())
        got = [backend.to_numpy(x).ravel() for x in (answer.mean, answer.covariance, answer.log_likelihood)]
        return np.concatenate(got), np.concatenate([mean, _blocks(cov).ravel(), [value]])

    return values


def _filter(backend: Any) -> tuple[Any, Any]:
    answer = kalman_filter(*_given(backend))
    y, means, covs = _observed(), [], []
    for k in range(N):
        mean, cov, _ = _dense(_parameters(), y[: k + 1])
        means.append(mean[-S:])
        covs.append(cov[-S:, -S:])
    got = [backend.to_numpy(answer.mean).ravel(), backend.to_numpy(answer.covariance).ravel()]
    return np.concatenate(got), np.concatenate([np.ravel(means), np.ravel(covs)])


def _gradient(backend: Any) -> tuple[Any, Any]:
    """By complex steps of the dense likelihood; of a covariance along symmetric directions."""
    value, gradient = value_and_gradient(*_given(backend))
    parameters, y, step = _parameters(), _observed(), 1e-30
    got, want = [float(backend.to_numpy(value))], [_dense(parameters, y)[2]]
    for name, given in parameters.items():
        g = backend.to_numpy(getattr(gradient, name))
        for index in np.ndindex(given.shape):
            along = np.zeros_like(given)
            along[index] = 1.0
            if name in ("Q", "R", "P0"):
                along = (along + along.T) / 2
            moved = _dense(parameters | {name: given + 1j * step * along}, y)[2]
            got.append(np.sum(g * along))
            want.append(moved.imag / step)
    return np.array(got), np.array(want)


def _em(backend: Any) -> tuple[Any, Any]:
    """The step of A and Q in terms of dense moments of pairs of neighbours."""
    new = em_step(*_given(backend), learn=("A", "Q")).model
    mean, cov, _ = _dense(_parameters(), _observed())
    second = cov + np.outer(mean, mean)
    at = lambda i, j: second[S * i : S * i + S, S * j : S * j + S]  # noqa: E731
    before, mixed, after = (
        np.sum([at(k + i, k + j) for k in range(N - 1)], axis=0) for i, j in ((0, 0), (1, 0), (1, 1))
    )
    A = np.linalg.solve(before, mixed.T).T
    Q = (after - A @ mixed.T) / (N - 1)
    return np.stack([backend.to_numpy(new.A), backend.to_numpy(new.Q)]), np.stack([A, Q])


VALUES: dict[str, Callable[..., Any]] = {
    "Kalman filter": _filter,
    "Kalman smoother": _smoother("covariance", "sequential"),
    "Kalman smoother, parallel": _smoother("covariance", "parallel"),
    "Kalman smoother, square root, parallel": _smoother("sqrt", "parallel"),
    "state-space likelihood and gradient": _gradient,
    "state-space EM": _em,
}
