r"""Bayesian linear regression through an LQ factorisation: no normal equations.

With ``y = X w + noise``, weights ``w ~ N(0, diag(1/a))`` and noise variance ``1/b``, the posterior is that of
least squares with the design ``[sqrt(b) X^T, diag(sqrt(a))] = L Q`` (Bishop 2006, 3.5; Seeger et al. 2017,
arXiv:1710.08717, 2.2): its precision is ``L L^T``, its mean ``L^{-T} Q [sqrt(b) y; 0]``.  The condition
number of the design, and not its square, decides the accuracy.

NumPy, torch and JAX; differentiable in all arguments where the library is.
"""

from __future__ import annotations

import math
from typing import Any

from cola_core.errors import ShapeError
from cola_core.linalg import lq

from ._struct import Struct, struct
from .arrays import backend_for
from .checks import finite_numbers
from .kernels.base import Array, follow

__all__ = ["LinearPosterior", "linear_evidence", "linear_posterior"]


@struct
class LinearPosterior(Struct):
    """Gaussian posterior of the weights with ``mean (d,)``.

    ``factor (d, d)`` is lower triangular and ``factor @ factor.T`` the precision; ``log_evidence`` is
    ``log p(y)``.
    """

    mean: Array
    factor: Array
    log_evidence: Array

    def predict(self, X: Array) -> Array:
        """Mean of the function at the rows of ``X (m, d)``: ``(m,)``."""
        return X @ self.mean

    def variance(self, X: Array) -> Array:
        """Variance of the function, without noise, at the rows of ``X (m, d)``: ``(m,)``."""
        half = self._half(X)
        return backend_for(X).xp.sum(half * half, axis=0)

    def covariance(self, X: Array) -> Array:
        """Joint covariance ``(m, m)`` of the function at the rows of ``X (m, d)``."""
        half = self._half(X)
        return half.T @ half

    def _half(self, X: Array) -> Array:
        return backend_for(X).solve_triangular(self.factor, X.T)


def linear_posterior(X: Any, y: Any, weight_precision: Any, noise_precision: Any) -> LinearPosterior:
    """Posterior of the weights given ``X (n, d)`` and ``y (n,)``.

    Precisions are positive: one for all weights or ``(d,)``, and one for the noise.  There is no intercept:
    centre the data, or add a column of ones.

    The evidence uses the residual of the augmented problem and not ``|y|^2 - |Q y|^2``, which cancels.  Cost:
    O((n + d) d^2).
    """
    X, y = finite_numbers("X", X, 2), finite_numbers("y", y, 1)
    backend = backend_for(X)
    if backend_for(y).name != backend.name or X.shape[0] != y.shape[0]:
        raise ShapeError(
            f"X is a {backend.name} array of shape {tuple(X.shape)} and y a {backend_for(y).name} array of "
            f"shape {tuple(y.shape)}; both need one library and the same number of rows."
        )
    xp, (n, d) = backend.xp, X.shape
    a, b = (_precision(name, p, X) for name, p in (("weight", weight_precision), ("noise", noise_precision)))
    if a.ndim > 1 or (a.ndim == 1 and a.shape[0] != d) or b.ndim != 0:
        raise ShapeError(
            f"weight_precision needs shape () or ({d},) and noise_precision shape (), "
            f"not {tuple(a.shape)} and {tuple(b.shape)}."
        )
    a = a * xp.ones_like(X[0]) if n else a * xp.ones((d,), dtype=X.dtype)
    root = xp.sqrt(b)
    design = xp.concat([root * X.T, backend.matrix_diag(xp.sqrt(a))], axis=1)
    target = xp.concat([root * y, xp.zeros_like(a)])
    L, Q = (factor.to_dense() for factor in lq(design))
    projected = Q @ target
    residual = target - Q.T @ projected
    mean = backend.solve_triangular(L.T, projected[:, None], lower=False)[:, 0]
    evidence = (
        0.5 * (xp.sum(xp.log(a)) + n * xp.log(b) - n * math.log(2 * math.pi))
        - xp.sum(xp.log(xp.linalg.diagonal(L)))
        - 0.5 * xp.sum(residual * residual)
    )
    return LinearPosterior(mean, L, evidence)


def linear_evidence(X: Any, y: Any, weight_precision: Any, noise_precision: Any) -> Array:
    """``log p(y) = log N(y; 0, 1/b + X diag(1/a) X^T)``; arguments as in :func:`linear_posterior`."""
    return linear_posterior(X, y, weight_precision, noise_precision).log_evidence


def _precision(name: str, value: Any, like: Array) -> Array:
    backend = backend_for(like)
    if isinstance(value, (int, float, list, tuple)):
        value = backend.asarray(value, dtype=like.dtype, device=backend.device(like))
    value = follow(value, like)
    if backend.is_concrete(value) and not bool(backend.xp.all(value > 0)):
        raise ValueError(f"{name}_precision must be positive.")
    return value
