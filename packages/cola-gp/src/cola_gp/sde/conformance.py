"""Conformance cases of the state-space operator, its rules, and values of inference in time.

References are written with NumPy alone, from the textbook covariance functions.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from cola_core.algorithms import Auto
from cola_core.testing import Capabilities, Case, closed, data

from ..covariance import CovarianceOperator
from ..data import Data
from ..inference.questions import represent
from ..inference.state_space import StateSpaceInference
from ..kernels import Constant, Cosine, Matern12, Matern32
from ..likelihood import marginal_likelihood
from ..model import GP
from ..posterior import Posterior
from .operator import StateSpaceCovariance

REAL = Capabilities(
    complex=closed("covariance functions are real"),
    torch_compile=closed("recursions over time are loops whose length is that of the data"),
)
TWICE = "the recursions are those of solve and inv_quad_logdet, whose second derivatives are checked"
IN_TIME = Auto(rules=("gp:represent/state-space",))


def _times(dtype: str, seed: int, n: int = 7) -> np.ndarray:
    """Unsorted, two of them equal."""
    t = data.normal(seed, (n,), dtype)
    t[2] = t[1]
    return t


def _factory(backend: Any, dtype: str, seed: int) -> StateSpaceCovariance:
    t = backend.asarray(_times(dtype, seed))
    kernel = 1.5 * Matern32(0.7) + Constant(0.4)
    A = represent(CovarianceOperator(kernel, t[:, None]), alg=IN_TIME).operator
    return A.replace(white=0.3 * t * t + 0.2)


def _matern32(t: np.ndarray, u: np.ndarray, scale: float) -> np.ndarray:
    r = math.sqrt(3.0) * np.abs(t[:, None] - u[None]) / scale
    return (1.0 + r) * np.exp(-r)


def _reference(dtype: str, seed: int) -> np.ndarray:
    t = _times(dtype, seed).astype(float)
    return 1.5 * _matern32(t, t, 0.7) + 0.4 + np.diag(0.3 * t * t + 0.2)


def _many(n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    t = _times("float64", 3, n)
    return t, np.sin(2.0 * t) + 0.1


def _damped_cosine(t: np.ndarray, u: np.ndarray) -> np.ndarray:
    d = t[:, None] - u[None]
    return np.cos(2.0 * np.pi * d / 0.9) * np.exp(-np.abs(d) / 2.0)


def _likelihood(backend: Any) -> tuple[Any, Any]:
    t, y = _many()
    model = GP(Cosine(0.9) * Matern12(2.0), noise=0.1)
    K = _damped_cosine(t, t) + 0.1 * np.eye(len(t))
    want = -0.5 * (y @ np.linalg.solve(K, y) + np.linalg.slogdet(K)[1] + len(t) * math.log(2 * math.pi))
    observed = Data(backend.asarray(t), backend.asarray(y))
    return backend.to_numpy(marginal_likelihood(model, observed, IN_TIME)), want


def _prediction(backend: Any) -> tuple[Any, Any]:
    t, y = _many()
    u = np.array([-3.0, 0.1, 4.0, t[0]])
    model = GP(1.5 * Matern32(0.7), noise=0.1)
    posterior = Posterior(model, Data(backend.asarray(t), backend.asarray(y)), StateSpaceInference())
    points = backend.asarray(u)
    got = [posterior.mean(points), posterior.variance(points)]
    K = 1.5 * _matern32(t, t, 0.7) + 0.1 * np.eye(len(t))
    cross = 1.5 * _matern32(t, u, 0.7)
    covariance = 1.5 * _matern32(u, u, 0.7) - cross.T @ np.linalg.solve(K, cross)
    want = [cross.T @ np.linalg.solve(K, y), np.diagonal(covariance)]
    return np.stack([backend.to_numpy(g) for g in got]), np.stack(want)


VALUES = {
    "log marginal likelihood, damped cosine in time": _likelihood,
    "predictions in time": _prediction,
}


def cases() -> list[Case]:
    """The operator and its rules."""
    shared: dict[str, Any] = {"factory": _factory, "reference": _reference, "capabilities": REAL}
    once = {**shared, "capabilities": replace(REAL, grad2=closed(TWICE))}
    return [
        Case("state-space", **shared),
        *(
            Case(f"{question}-state-space", kind="rule", rule=f"gp:{question}/state-space", **settings)
            for question, settings in (
                ("solve", shared),
                ("inv_quad_logdet", shared),
                ("slogdet", once),
                ("diag", once),
                ("trace", once),
                ("sample", once),
            )
        ),
    ]
