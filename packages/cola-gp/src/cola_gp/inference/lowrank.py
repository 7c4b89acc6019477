"""Kernels of finite rank ``r < n`` (linear, constant, their sums and products): O(n r^2), weight-space
inference.

``K = U U^T + D``.  The value and ``K^{-1} [r, U]`` come from the core, whose rule for low rank plus
diagonal is Woodbury's identity.  Predictions use the posterior of the weights, ``(I + U^T D^{-1} U)^{-1}``
(Rasmussen & Williams 2006, 2.8 with prior covariance I): a sum of squares, so variances lose no digits by
cancellation.
"""

from __future__ import annotations

from typing import Any

from cola_core import PSD, ops
from cola_core.linalg import logdet, solve

from ..arrays import backend_for
from ..data import Data, as_points
from ..kernels.base import Array
from .base import Conditioned, Structure, jittered_cholesky


class LowRankStructure(Structure):
    """The prior as ``LowRank(U)``."""

    name = "low rank (Woodbury)"

    def applies(self, model: Any, X: Any) -> bool | str:
        n, d = X.shape
        rank = model.kernel.feature_count(d)
        if rank is None:
            return "the kernel has no finite feature map"
        if 2 * rank > n:
            return f"rank {rank} is not small against {n} points"
        return True

    def prior(self, model: Any, X: Any) -> Any:
        return PSD(ops.LowRank(model.kernel.features(as_points(X))[0]))

    def condition(self, model: Any, data: Data) -> LowRankConditioned:
        return LowRankConditioned(model, data)


class LowRankConditioned(Conditioned):
    """Inference in the space of the r weights."""

    method = LowRankStructure.name

    def __init__(self, model: Any, data: Data):
        self.model, self.data = model, data
        self.points = as_points(data.X)
        self.backend = backend_for(data.y)
        xp = self.backend.xp
        self.residual = data.y - model.mean(self.points)
        self.U, self._pull = model.kernel.features(self.points)
        self.noise = model.noise.variances(data.y)
        K = PSD(ops.LowRank(self.U)) + model.noise.operator(data.y)
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
