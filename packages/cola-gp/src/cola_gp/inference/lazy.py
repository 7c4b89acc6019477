"""Covariances too large to store: products only, solves by conjugate gradients, determinants by Lanczos
quadrature.

Answers are iterative and stochastic; the core warns when a tolerance is missed.  There is no gradient here,
so such a model can be evaluated and conditioned but not fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from cola_core.cost import Cost
from cola_core.errors import MemoryBudgetError
from cola_core.linalg import logdet, solve
from cola_core.plugins import RuleBook

from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..data import as_points
from ..kernels.base import Array
from .base import Conditioned, blocks
from .questions import CONDITION, REPRESENT, Inference, Problem, Representation

RULES = RuleBook()
SOLVES, PROBES, STEPS = 1.0, 20.0, 100.0  # what an evaluation is taken to need


def iterative_cost(K: Any) -> Cost:
    """Products with the covariance for one solve and the probes of a determinant."""
    n, d = K.X1.shape
    per_entry = 3.0 * d + 22.0
    return Cost(
        flops=STEPS * (per_entry + 2.0 * (SOLVES + PROBES)) * n * n,
        memory=min(float(K.block_bytes), K.itemsize * float(n) * n) + 40.0 * K.itemsize * n,
        matvecs=STEPS,
        calls=STEPS * 30,
    )


def _cost(K: Any, problem: Any, *, alg: Any) -> Cost:
    return iterative_cost(K)


@RULES.rule(
    REPRESENT, (CovarianceOperator,), id="represent/lazy", source="the matrix is never stored", cost=_cost
)
def represent_lazy(K: Any, problem: Any, *, alg: Any) -> Representation:
    """Any kernel at any inputs, as it is: products evaluate it block by block.

    Cotangent: a pair ``(L, R)`` of ``(n, k)`` arrays with ``dL = sum((L R^T) * dK)``.
    """

    def pull(cotangent: Any) -> tuple[Array, ...]:
        raise NotImplementedError("the gradient of a covariance that is not stored is not available.")

    return Representation(K, pull)


@dataclass(frozen=True)
class IterativeInference(Inference):
    """Conjugate gradients and Lanczos quadrature on products with the covariance."""

    kind: ClassVar[str] = "stochastic"
    prior: ClassVar[type] = CovarianceOperator
    represents: ClassVar[str] = "gp:represent/lazy"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return iterative_cost(A)

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        return LazyConditioned(prior, noise, problem)


RULES.algorithm(CONDITION, IterativeInference, name="iterative")


class LazyConditioned(Conditioned):
    """Inference by products with the covariance."""

    method = "iterative (lazy covariance)"

    def __init__(self, prior: Any, noise: Any, problem: Problem):
        self.model, self.data = model, data = problem.model, problem.data
        self.points = as_points(data.X)
        self.operator = prior + noise
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
