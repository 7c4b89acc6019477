"""The log marginal likelihood of a model, by whatever the structure of its covariance allows."""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core.algorithms import CG, SLQ, Auto
from cola_core.linalg import inv_quad, inv_quad_logdet, logdet
from cola_core.preconditioners import RPCholesky

from ._struct import leaves
from .arrays import backend_for
from .covariance import CovarianceOperator
from .data import Data, as_points
from .inference import IterativeInference, Problem, condition, represent
from .inference.base import LOG_2PI, observed_like, warn_of_jitter
from .inference.questions import as_inference, form_of, insist
from .inference.white import hides_white, without_white
from .kernels.base import Array
from .model import GP, check_problem


def marginal_likelihood(model: GP, data: Data, alg: Any = Auto()) -> Array:
    """``log p(y | X, model)``, a 0-d array of the data's library.

    The covariance is an operator and the core's ``inv_quad_logdet`` decides how: Cholesky for a stored
    matrix, factor by factor for a grid, Woodbury for a kernel of finite rank, iterations for one too large
    to store. Differentiable in torch and JAX with respect to the model's leaves; for NumPy use
    :func:`value_and_gradient`.  With :class:`~cola_gp.Inducing` points it is their lower bound.
    """
    check_problem(model, data)
    alg = as_inference(alg)
    if not model.noise.gaussian:
        return condition(model, data, alg).log_marginal_likelihood()
    if hides_white(model) is True:
        model = without_white(model, observed_like(data))[0]
    prior, problem = CovarianceOperator(model.kernel, data.X), Problem(model, data)
    found = represent(prior, problem, form_of(alg))
    if found.bound:
        return condition(model, data, alg).log_marginal_likelihood()
    noise = model.noise.operator(observed_like(data), data.X)
    insist(alg, prior, (found.operator, noise, problem))
    K = found.operator + noise
    residual = data.y - model.mean(as_points(data.X))
    if isinstance(found.operator, CovarianceOperator):
        if not backend_for(data.y).differentiating(residual, *leaves(found.operator.kernel)):
            return condition(model, data, alg).log_marginal_likelihood()
        return _by_products(K, residual, alg)
    try:
        quadratic, log_det = inv_quad_logdet(K, residual)
    except np.linalg.LinAlgError:  # base of the core's not-positive-definite and singular errors
        # Singular to working precision: the conditioned model adds jitter.
        conditioned = condition(model, data, alg)
        if conditioned.jitter > 0:
            warn_of_jitter(data, conditioned.jitter)
        return conditioned.log_marginal_likelihood()
    return -0.5 * (quadratic + log_det + data.n * LOG_2PI)


def _by_products(K: Any, residual: Array, alg: Any) -> Array:
    """For a covariance that is never stored, by the core's preconditioned iterations, which differentiate."""
    given = alg if isinstance(alg, IterativeInference) else IterativeInference()
    n = K.shape[-1]
    P = RPCholesky(rank=given.rank_for(n), key=given.key)
    quadratic = inv_quad(K, residual, CG(P=P, tol=given.solve_tol))
    log_det = logdet(K, SLQ(P=P, tol=given.tol, samples=given.samples_for(n), max_samples=given.max_samples))
    return -0.5 * (quadratic + log_det + n * LOG_2PI)


def value_and_gradient(model: GP, data: Data, alg: Any = Auto()) -> tuple[Array, tuple[Array, ...]]:
    """The log marginal likelihood and its closed-form derivatives, one array per leaf of the model in leaf
    order.

    One factorisation serves both.  Works on every array library, without automatic differentiation.
    """
    conditioned = condition(model, data, alg)
    return conditioned.log_marginal_likelihood(), conditioned.gradient()
