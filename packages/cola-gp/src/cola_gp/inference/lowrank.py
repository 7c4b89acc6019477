"""Kernels of finite rank ``r < n`` (linear, constant, their sums and products): O(n r^2), weight-space
inference.

``K = U U^T + D``.  The value and ``K^{-1} [r, U]`` come from the core, whose rule for low rank plus
diagonal is Woodbury's identity.  Predictions use the posterior of the weights, ``(I + U^T D^{-1} U)^{-1}``
(Rasmussen & Williams 2006, 2.8 with prior covariance I): a sum of squares, so variances lose no digits by
cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from cola_core import PSD, ops
from cola_core.cost import Cost
from cola_core.linalg import logdet, solve
from cola_core.plugins import RuleBook

from ..covariance import CovarianceOperator
from ..data import as_points
from ..kernels.base import Array
from .base import Conditioned, jittered_cholesky
from .questions import CONDITION, REPRESENT, Inference, Problem, Representation

RULES = RuleBook()


def low_rank_cost(n: int, r: int, itemsize: int) -> Cost:
    """A few products of tall matrices."""
    return Cost(flops=8.0 * n * r * r, factor=float(r) ** 3, memory=4.0 * itemsize * n * r, calls=20)


def _finite(K: Any, problem: Any, *, alg: Any) -> bool | str:
    n, d = K.X1.shape
    rank = K.kernel.feature_count(d)
    if rank is None:
        return "the kernel has no finite feature map"
    if 2 * rank > n:
        return f"rank {rank} is not small against {n} points"
    return True


def _cost(K: Any, problem: Any, *, alg: Any) -> Cost:
    n, d = K.X1.shape
    return low_rank_cost(n, K.kernel.feature_count(d), K.itemsize)


@RULES.rule(
    REPRESENT,
    (CovarianceOperator,),
    id="represent/low-rank",
    source="Rasmussen & Williams 2006, sec. 2.1.2",
    when=_finite,
    cost=_cost,
)
def represent_low_rank(K: Any, problem: Any, *, alg: Any) -> Representation:
    """A kernel of finite rank r as ``U U^T``; cotangent: ``G (n, r)`` with ``dL = sum(G * dU)``."""
    U, pull = K.kernel.features(as_points(K.X1))
    return Representation(PSD(ops.LowRank(U)), pull)


@dataclass(frozen=True)
class LowRankInference(Inference):
    """Woodbury's identity: inference in the space of the r weights, for kernels of finite rank r.

    Exact. Time O(n r^2), memory O(n r); any independent noise.
    """

    prior: ClassVar[type] = ops.LowRank
    represents: ClassVar[str] = "gp:represent/low-rank"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return low_rank_cost(A.shape[0], A.U.shape[-1], A.itemsize)

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        return LowRankConditioned(prior, noise, problem)


RULES.algorithm(CONDITION, LowRankInference, name="low-rank")


class LowRankConditioned(Conditioned):
    """Inference in the space of the r weights."""

    method = "low rank (Woodbury)"

    def __init__(self, prior: Any, noise: Any, problem: Problem):
        xp = self._observe(problem)
        model, data = self.model, self.data
        self.U = prior.U
        self.noise = model.noise.variances(data.y, data.X)
        K = prior + noise
        solved = solve(K, xp.concat([self.residual[:, None], self.U], axis=1))
        self.alpha, self.KU = solved[:, 0], solved[:, 1:]
        self.log_det = logdet(K)

    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        # tr((a a^T - K^{-1}) (dU U^T + U dU^T)) / 2 = sum(dU * (a (U^T a)^T - K^{-1} U))
        G = self.alpha[:, None] * (self.alpha @ self.U)[None, :] - self.KU
        return self._pull(G), 0.5 * (self.alpha**2 - self.inverse_diagonal())

    def inverse_diagonal(self) -> Array:
        xp = self.backend.xp
        return (1.0 - xp.sum(self.KU * self.U, axis=1)) / self.noise

    def _weight_root(self) -> Array:
        """Lower ``L`` with ``L L^T = I + U^T D^{-1} U``."""
        backend = self.backend
        r = self.U.shape[1]
        eye = backend.eye(r, self.U.dtype, backend.device(self.U))
        M = eye + self.U.T @ (self.U / self.noise[:, None])
        return jittered_cholesky(M)[0]

    def latent_mean(self, X: Array) -> Array:
        return self.model.kernel.features(X)[0] @ (self.U.T @ self.alpha)

    def _weight_half(self, X: Array) -> Array:
        U = self.model.kernel.features(X)[0]
        return self.backend.solve_triangular(self._weight_root(), U.T)

    def latent_variance(self, X: Array) -> Array:
        V = self._weight_half(X)
        return self.backend.xp.sum(V * V, axis=0)

    def latent_covariance(self, X: Array) -> Array:
        V = self._weight_half(X)
        return V.T @ V

    def explained_variance(self, X: Array) -> Array:
        return self.model.kernel.cross_diag(X) - self.latent_variance(X)

    def explained_covariance(self, X: Array) -> Array:
        return self.model.kernel(X, X) - self.latent_covariance(X)
