"""Covariances too large to store: products only, solves by conjugate gradients, determinants by Lanczos
quadrature.

Answers are iterative and stochastic; the core warns when a tolerance is missed.  There is no gradient here,
so such a model can be evaluated and conditioned but not fitted.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from cola_core.errors import MemoryBudgetError
from cola_core.linalg import logdet, solve

from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..data import Data, as_points
from ..kernels.base import Array
from .base import Conditioned, Structure, blocks


class LazyStructure(Structure):
    """The prior as a :class:`~cola_gp.covariance.CovarianceOperator`."""

    name = "iterative (lazy covariance)"

    def applies(self, model: Any, X: Any) -> bool | str:
        return True

    def prior(self, model: Any, X: Any) -> Any:
        return CovarianceOperator(model.kernel, as_points(X))

    def condition(self, model: Any, data: Data) -> LazyConditioned:
        return LazyConditioned(model, data)


class LazyConditioned(Conditioned):
    """Inference by products with the covariance."""

    method = LazyStructure.name

    def __init__(self, model: Any, data: Data):
        self.model, self.data = model, data
        self.points = as_points(data.X)
        self.operator = LazyStructure().covariance(model, data.X)
        self.residual = data.y - model.mean(self.points)
        self.alpha = solve(self.operator, self.residual)

    @cached_property
    def log_det(self) -> Array:  # type: ignore[override]
        return logdet(self.operator)

    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        raise MemoryBudgetError(
            f"the gradient needs the inverse of a {self.data.n}x{self.data.n} covariance, which exceeds the "
            "memory budget; fit on a subset of the data, on a grid, or with a kernel of finite rank."
        )

    def inverse_diagonal(self) -> Array:
        raise MemoryBudgetError(
            f"leave-one-out needs the inverse of a {self.data.n}x{self.data.n} covariance, which exceeds the "
            "memory budget; use a held-out set."
        )

    def _cross(self, X: Array) -> CovarianceOperator:
        return CovarianceOperator(self.model.kernel, X, self.points)

    def latent_mean(self, X: Array) -> Array:
        return self._cross(X) @ self.alpha

    def explained_variance(self, X: Array) -> Array:
        xp = backend_for(X).xp
        out = []
        for part in blocks(X.shape[0], self.data.n):
            cross = self.model.kernel(self.points, X[part])
            out.append(xp.sum(cross * solve(self.operator, cross), axis=0))
        return xp.concat(out)

    def explained_covariance(self, X: Array) -> Array:
        cross = self.model.kernel(self.points, X)
        return cross.T @ solve(self.operator, cross)
