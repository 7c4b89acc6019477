"""The log marginal likelihood of a model, by whatever the structure of its covariance allows."""

from __future__ import annotations

import numpy as np

from cola_core.linalg import logdet, solve

from .data import Data, as_points
from .inference import choose
from .inference.base import LOG_2PI
from .kernels.base import Array, xp_of
from .model import GP


def marginal_likelihood(model: GP, data: Data) -> Array:
    """``log p(y | X, model)``, a 0-d array of the data's library.

    The covariance is an operator and the core's ``solve`` and ``logdet`` decide how: Cholesky for a stored
    matrix, factor by factor for a grid, Woodbury for a kernel of finite rank, iterations for one too large
    to store. Differentiable in torch and JAX with respect to the model's leaves; for NumPy use
    :func:`value_and_gradient`.
    """
    K = model.covariance(data.X)
    residual = data.y - model.mean(as_points(data.X))
    xp = xp_of(data.y)
    try:
        quadratic = xp.sum(residual * solve(K, residual))
        log_det = logdet(K)
    except np.linalg.LinAlgError:  # base of the core's not-positive-definite and singular errors
        # Singular to working precision: the conditioned model adds jitter and reports it.
        return choose(model, data.X).condition(model, data).log_marginal_likelihood()
    return -0.5 * (quadratic + log_det + data.n * LOG_2PI)


def value_and_gradient(model: GP, data: Data) -> tuple[Array, tuple[Array, ...]]:
    """The log marginal likelihood and its closed-form derivatives, one array per leaf of the model in leaf
    order.

    One factorisation serves both.  Works on every array library, without automatic differentiation.
    """
    conditioned = choose(model, data.X).condition(model, data)
    return conditioned.log_marginal_likelihood(), conditioned.gradient()
