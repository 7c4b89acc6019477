"""Any kernel, any inputs: one Cholesky factorisation, O(n^3) once and O(n^2) per parameter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from cola_core import PSD, ops
from cola_core.cost import Cost
from cola_core.linalg import diag
from cola_core.plugins import RuleBook

from ..covariance import CovarianceOperator
from ..data import as_points
from ..kernels.base import Array
from ..kernels.distances import overwritable
from ..kernels.symmetric import symmetric
from .base import Conditioned, blocks, jittered_cholesky, reciprocal_condition
from .questions import CONDITION, REPRESENT, Inference, Problem, Representation, memory_budget

RULES = RuleBook()
VARIANCE_BYTES = 2**24


def dense_cost(n: int, itemsize: int) -> Cost:
    """One evaluation of likelihood and gradient: Cholesky, inverse, and some passes over the matrix."""
    return Cost(factor=float(n) ** 3, bytes=20.0 * itemsize * n * n, memory=4.0 * itemsize * n * n, calls=30)


def _fits(K: Any, problem: Any, *, alg: Any) -> bool | str:
    n = K.shape[0]
    size, budget = dense_cost(n, K.itemsize).memory, memory_budget(alg)
    if size > budget:
        return (
            f"needs {size / 2**30:.3g} GiB for the {n}x{n} covariance, the budget is {budget / 2**30:.3g} GiB"
        )
    return True


def _cost(K: Any, problem: Any, *, alg: Any) -> Cost:
    return dense_cost(K.shape[0], K.itemsize)


@RULES.rule(
    REPRESENT, (CovarianceOperator,), id="represent/dense", source="the stored matrix", when=_fits, cost=_cost
)
def represent_dense(K: Any, problem: Any, *, alg: Any) -> Representation:
    """Any kernel at any inputs, as a stored matrix; cotangent: a symmetric ``W (n, n)`` with
    ``dL = sum(W * dK)``."""
    value, pull = symmetric(K.kernel, as_points(K.X1))
    return Representation(PSD(ops.Dense(value)), pull)


@dataclass(frozen=True)
class DenseInference(Inference):
    """One Cholesky factorisation of the stored covariance: O(n^3) once and O(n^2) per parameter."""

    prior: ClassVar[type] = ops.Dense
    represents: ClassVar[str] = "gp:represent/dense"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return dense_cost(A.shape[0], A.itemsize)

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        return DenseConditioned(prior, noise, problem)


RULES.algorithm(CONDITION, DenseInference, name="dense")


def plus(backend: Any, prior: Any, noise: Any) -> Array:
    """``prior + noise`` as a matrix."""
    if isinstance(noise, (ops.Diagonal, ops.ScalarMul)):
        K = prior.to_dense()
        return backend.add_diagonal(K, backend.astype(diag(noise), K.dtype))
    return (prior + noise).to_dense()


def weights(inverse: Array, alpha: Array) -> Array:
    """``(a a^T - K^{-1}) / 2``; the inverse may be overwritten."""
    if not overwritable(inverse, alpha):
        return 0.5 * (alpha[:, None] * alpha[None, :] - inverse)
    half = 0.5 * alpha
    inverse *= -0.5
    for rows in blocks(*inverse.shape):
        inverse[rows] += half[rows, None] * alpha[None, :]
    return inverse


class DenseConditioned(Conditioned):
    """Inference through the Cholesky factor ``K = L L^T``."""

    method = "dense Cholesky"

    def __init__(self, prior: Any, noise: Any, problem: Problem):
        xp = self._observe(problem)
        self.L, self.jitter = jittered_cholesky(plus(self.backend, prior, noise))
        half = self._half(self.residual[:, None])
        self.alpha = self.backend.solve_triangular(self.L.T, half, lower=False)[:, 0]
        self.log_det = 2.0 * xp.sum(xp.log(xp.linalg.diagonal(self.L)))

    @cached_property
    def rcond(self) -> float:  # type: ignore[override]
        return reciprocal_condition(self.L)

    def _half(self, B: Array) -> Array:
        return self.backend.solve_triangular(self.L, B)

    def _inverse(self) -> Array:
        return self.backend.cholesky_inverse(self.L)

    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        W = weights(self._inverse(), self.alpha)
        return self._pull(W), self.backend.xp.linalg.diagonal(W)

    def solve(self, B: Array) -> Array:
        return self.backend.cholesky_solve(self.L, B)

    def inverse_diagonal(self) -> Array:
        return self.backend.xp.linalg.diagonal(self._inverse())

    def _cross(self, X: Array) -> Array:
        return self.model.kernel(self.points, X)

    def latent_mean(self, X: Array) -> Array:
        xp = self.backend.xp
        return xp.concat([self.alpha @ self._cross(X[part]) for part in blocks(X.shape[0], self.data.n)])

    def explained_variance(self, X: Array) -> Array:
        xp = self.backend.xp
        out = []
        # rows are test points, whose transpose LAPACK takes as it is; the blocks stay in the shared cache
        for part in blocks(X.shape[0], self.data.n, VARIANCE_BYTES):
            V = self._half(self.model.kernel(X[part], self.points).T).T
            out.append(xp.vecdot(V, V))
        return xp.concat(out)

    def explained_covariance(self, X: Array) -> Array:
        V = self._half(self._cross(X))
        return V.T @ V
