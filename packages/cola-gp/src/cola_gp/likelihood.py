"""The log marginal likelihood of a model, by whatever the structure of its covariance allows."""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core.algorithms import Auto
from cola_core.linalg import inv_quad_logdet

from .covariance import CovarianceOperator
from .data import Data, as_points
from .inference import Problem, condition, represent
from .inference.base import LOG_2PI, observed_like
from .inference.questions import as_inference, form_of
from .kernels.base import Array
from .model import GP


def marginal_likelihood(model: GP, data: Data, alg: Any = Auto()) -> Array:
    """``log p(y | X, model)``, a 0-d array of the data's library.

    The covariance is an operator and the core's ``inv_quad_logdet`` decides how: Cholesky for a stored
    matrix, factor by factor for a grid, Woodbury for a kernel of finite rank, iterations for one too large
    to store. Differentiable in torch and JAX with respect to the model's leaves; for NumPy use
    :func:`value_and_gradient`.  With :class:`~cola_gp.Inducing` points it is their lower bound.
    """
    alg = as_inference(alg)
    if not model.noise.gaussian:
        return condition(model, data, alg).log_marginal_likelihood()
    found = represent(CovarianceOperator(model.kernel, data.X), Problem(model, data), form_of(alg))
    if found.bound:
        return condition(model, data, alg).log_marginal_likelihood()
    K = found.operator + model.noise.operator(observed_like(data), data.X)
    residual = data.y - model.mean(as_points(data.X))
    try:
        quadratic, log_det = inv_quad_logdet(K, residual)
    except np.linalg.LinAlgError:  # base of the core's not-positive-definite and singular errors
        # Singular to working precision: the conditioned model adds jitter and reports it.
        return condition(model, data, alg).log_marginal_likelihood()
    return -0.5 * (quadratic + log_det + data.n * LOG_2PI)


def value_and_gradient(model: GP, data: Data, alg: Any = Auto()) -> tuple[Array, tuple[Array, ...]]:
    """The log marginal likelihood and its closed-form derivatives, one array per leaf of the model in leaf
    order.

    One factorisation serves both.  Works on every array library, without automatic differentiation.
    """
    conditioned = condition(model, data, alg)
    return conditioned.log_marginal_likelihood(), conditioned.gradient()
