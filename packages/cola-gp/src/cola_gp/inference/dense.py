"""Any kernel, any inputs: one Cholesky factorisation, O(n^3) once and O(n^2) per parameter."""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core import PSD, ops

from ..arrays import backend_for
from ..data import Data, as_points
from ..kernels.base import Array
from .base import Conditioned, Structure, blocks, jittered_cholesky, reciprocal_condition

MAX_BYTES = 2**32  # covariance matrices beyond this stay lazy


class DenseStructure(Structure):
    """The covariance as a stored matrix."""

    name = "dense Cholesky"

    def applies(self, model: Any, X: Any) -> bool | str:
        n = X.shape[0]
        size = 8 * n * n
        if size > MAX_BYTES:
            return f"the {n}x{n} covariance takes {size / 2**30:.1f} GiB, above {MAX_BYTES / 2**30:.0f} GiB"
        return True

    def prior(self, model: Any, X: Any) -> Any:
        return PSD(ops.Dense(model.kernel(as_points(X))))

    def condition(self, model: Any, data: Data) -> DenseConditioned:
        return DenseConditioned(model, data)


class DenseConditioned(Conditioned):
    """Inference through the Cholesky factor ``K = L L^T``."""

    method = DenseStructure.name

    def __init__(self, model: Any, data: Data):
        self.model, self.data = model, data
        self.points = as_points(data.X)
        self.backend = backend_for(data.y)
        xp = self.backend.xp
        self.residual = data.y - model.mean(self.points)
        K, self._pull = model.kernel.evaluate(self.points)
        total = (PSD(ops.Dense(K)) + model.noise.operator(data.y)).to_dense()
        self.L, self.jitter = jittered_cholesky(total)
        self.rcond = reciprocal_condition(self.L)
        half = self._half(self.residual[:, None])
        self.alpha = self.backend.solve_triangular(self.L.T, half, lower=False)[:, 0]
        self.log_det = 2.0 * xp.sum(xp.log(xp.linalg.diagonal(self.L)))

    def _half(self, B: Array) -> Array:
        return self.backend.solve_triangular(self.L, B)

    def _inverse(self) -> Array:
        if self.backend.name == "numpy":
            from scipy.linalg import get_lapack_funcs

            # potri writes one triangle of the inverse in n^3/3 flops, a third of two triangular solves.
            (potri,) = get_lapack_funcs(("potri",), (self.L,))
            half, status = potri(self.L, lower=1)
            if status == 0:
                lower = np.tril(half)
                return lower + np.tril(half, -1).T
        eye = self.backend.eye(self.data.n, self.L.dtype, self.backend.device(self.L))
        half = self._half(eye)
        return half.T @ half

    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        xp = self.backend.xp
        W = 0.5 * (self.alpha[:, None] * self.alpha[None, :] - self._inverse())
        return self._pull(W), xp.linalg.diagonal(W)

    def inverse_diagonal(self) -> Array:
        return self.backend.xp.linalg.diagonal(self._inverse())

    def _cross(self, X: Array) -> Array:
        return self.model.kernel(self.points, X)

    def latent_mean(self, X: Array) -> Array:
        xp = self.backend.xp
        return xp.concat([self.alpha @ self._cross(X[part]) for part in blocks(X.shape[0], self.data.n)])

    def explained_variance(self, X: Array) -> Array:
        xp = self.backend.xp
        parts = (self._half(self._cross(X[part])) for part in blocks(X.shape[0], self.data.n))
        return xp.concat([xp.sum(V * V, axis=0) for V in parts])

    def explained_covariance(self, X: Array) -> Array:
        V = self._half(self._cross(X))
        return V.T @ V
