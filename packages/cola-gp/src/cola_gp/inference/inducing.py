r"""Inducing points: the kernel :class:`~cola_gp.kernels.Inducing`, O(n m^2) for n observations and m points.

With ``Q = U U^T``, ``U = k(X, Z) L^{-T}``, ``L L^T = k(Z, Z)``, noise ``D`` and what the points do not
explain, ``t_i = k(x_i, x_i) - Q_ii >= 0``:

* **vfe** (Titsias 2009): ``F = log N(y | mean, Q + D) - sum(t / D) / 2``, a lower bound of the exact log
  marginal likelihood, and the best distribution over the inducing values that attains it;
* **fitc** (Snelson & Ghahramani 2006): ``log N(y | mean, Q + D + diag(t))``, which is no bound.

Both predict with ``B = I + U^T D^{-1} U`` (for fitc with ``D + diag(t)``): mean ``u_* B^{-1} U^T D^{-1}
r``, covariance ``k_** - u_* u_*^T + u_* B^{-1} u_*^T``, so far from the points the variance is that of
the prior.

Derivative of the bound: with ``a = (Q + D)^{-1} r``, that in U is ``a (U^T a)^T + D^{-1} U (I -
B^{-1})``, in the diagonal of the exact kernel ``-1 / (2 D)`` and in the noise ``(a^2 - diag (Q + D)^{-1}
+ t / D^2) / 2``.
"""

from __future__ import annotations

from typing import Any

from ..arrays import backend_for
from ..data import Data, as_points
from ..kernels.base import Array
from ..kernels.derivatives import diagonal_gradient
from ..kernels.inducing import Inducing
from .base import LOG_2PI, Conditioned, blocks, jittered_cholesky, reciprocal_condition


class InducingConditioned(Conditioned):
    """Inference through the m inducing values.

    Further attributes: bound (whether the likelihood is a lower bound), unexplained ``t (n,)``, nugget
    (relative, of the inducing points), ``log_det`` of the approximate covariance.
    """

    def __init__(self, model: Any, data: Data):
        kernel = model.kernel
        self.model, self.data = model, data
        self.bound = kernel.method == "vfe"
        self.method = "inducing points (VFE bound)" if self.bound else "inducing points (FITC)"
        self.points = as_points(data.X)
        self.backend = backend_for(data.y)
        xp = self.backend.xp
        self.residual = data.y - model.mean(self.points)
        self.factor = kernel.factor(self.points)
        self.nugget = self.factor.relative
        self.U, self._pull_features = self.factor.evaluate(self.points)
        self.noise = model.noise.variances(data.y)
        left = kernel.cross_diag(self.points) - xp.sum(self.U * self.U, axis=1)
        self.unexplained = xp.where(left > 0, left, xp.zeros_like(left))
        self.diagonal = self.noise if self.bound else self.noise + self.unexplained
        # Everything is scaled by the noise: B has eigenvalues above one, whatever the scale of the data.
        root = xp.sqrt(self.diagonal)
        scaled = self.U / root[:, None]
        r = self.residual / root
        eye = self.backend.eye(self.U.shape[1], self.U.dtype, self.backend.device(self.U))
        self.LB, self.jitter = jittered_cholesky(eye + scaled.T @ scaled)
        self.rcond = reciprocal_condition(self.LB)
        self.half = self.backend.solve_triangular(self.LB, (scaled.T @ r)[:, None])
        self.weights = self.backend.solve_triangular(self.LB.T, self.half, lower=False)[:, 0]
        # (Q + D)^{-1} r by the residual of the fit, which loses fewer digits than r - U U^T a
        self.alpha = (self.residual - self.U @ self.weights) / self.diagonal
        self.log_det = xp.sum(xp.log(self.diagonal)) + 2.0 * xp.sum(xp.log(xp.linalg.diagonal(self.LB)))
        self.quadratic = xp.sum(self.residual * self.alpha)
        self.trace_term = 0.5 * xp.sum(self.unexplained / self.noise)

    def log_marginal_likelihood(self) -> Array:
        """The bound (vfe) or the approximate log likelihood (fitc), a 0-d array."""
        value = -0.5 * (self.quadratic + self.log_det + self.data.n * LOG_2PI)
        return value - self.trace_term if self.bound else value

    def upper_bound(self) -> Array:
        """An upper bound of the exact log marginal likelihood (Titsias 2014): ``K <= Q + tr(K - Q) I``,
        and ``log det`` grows with K. O(n m^2)."""
        xp, backend = self.backend.xp, self.backend
        noise = self.noise + xp.sum(self.unexplained)
        root = xp.sqrt(noise)
        scaled, r = self.U / root[:, None], self.residual / root
        eye = backend.eye(self.U.shape[1], self.U.dtype, backend.device(self.U))
        half = backend.solve_triangular(
            jittered_cholesky(eye + scaled.T @ scaled)[0], (scaled.T @ r)[:, None]
        )
        quadratic = xp.sum(r * r) - xp.sum(half * half)
        plain = self.U / xp.sqrt(self.noise)[:, None]
        L = self.LB if self.bound else jittered_cholesky(eye + plain.T @ plain)[0]
        log_det = xp.sum(xp.log(self.noise)) + 2.0 * xp.sum(xp.log(xp.linalg.diagonal(L)))
        return -0.5 * (quadratic + log_det + self.data.n * LOG_2PI)

    def _solved_features(self) -> Array:
        """``D^{-1} U B^{-1}``, which is ``(Q + D)^{-1} U``."""
        half = self.backend.solve_triangular(self.LB, self.U.T)
        return self.backend.solve_triangular(self.LB.T, half, lower=False).T / self.diagonal[:, None]

    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        SU = self._solved_features()
        slope = 0.5 * (self.alpha**2 - self._inverse_diagonal(SU))  # by the diagonal of the covariance
        G = self.alpha[:, None] * (self.alpha @ self.U)[None, :] - SU
        if self.bound:
            by_diagonal = -0.5 / self.noise
            noise = slope + 0.5 * self.unexplained / self.noise**2
        else:
            by_diagonal = noise = slope
        # t = diag(k) - sum U^2, by row
        G = G - 2.0 * by_diagonal[:, None] * self.U
        kernel = self.model.kernel
        own = self._pull_features(G, kernel.fixed)
        exact = diagonal_gradient(kernel, self.points, by_diagonal)
        return tuple(a + b for a, b in zip(own, exact, strict=True)), noise

    def _inverse_diagonal(self, SU: Array) -> Array:
        return (1.0 - self.backend.xp.sum(SU * self.U, axis=1)) / self.diagonal

    def inverse_diagonal(self) -> Array:
        return self._inverse_diagonal(self._solved_features())

    def features(self, X: Array) -> Array:
        """``u (m', m)`` at test points: covariance with the whitened inducing values."""
        return self.factor.features(X)

    def latent_mean(self, X: Array) -> Array:
        xp = self.backend.xp
        parts = (self.features(X[part]) @ self.weights for part in blocks(X.shape[0], self.U.shape[1]))
        return xp.concat(list(parts))

    def explained_variance(self, X: Array) -> Array:
        xp = self.backend.xp
        out = []
        for part in blocks(X.shape[0], self.U.shape[1]):
            u = self.features(X[part])
            v = self.backend.solve_triangular(self.LB, u.T)
            out.append(xp.sum(u * u, axis=1) - xp.sum(v * v, axis=0))
        return xp.concat(out)

    def explained_covariance(self, X: Array) -> Array:
        u = self.features(X)
        v = self.backend.solve_triangular(self.LB, u.T)
        return u @ u.T - v.T @ v


def outermost(kernel: Any) -> bool | str:
    """True if the kernel of a model is to be seen through inducing points, or the reason why not."""
    return True if isinstance(kernel, Inducing) else "the kernel is not Inducing(kernel, points)"
