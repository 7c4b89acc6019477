r"""Covariances as Laplace's approximation needs them: ``B = I + S K S`` factorised, ``S`` a diagonal matrix.

``B`` has no eigenvalue below one whatever the covariance and however small or large the weights ``S^2``, so
its factorisation never needs jitter (Rasmussen & Williams 2006, 3.4.3).  A *form* is a class of prior
operators: stored, of low rank, or known by its products only, where the core's ``solve`` and ``logdet``
decide what to do with ``B``.
"""

from __future__ import annotations

from typing import Any

from cola_core import PSD, ops
from cola_core.linalg import logdet, solve
from cola_core.operators import LinearOperator

from ..arrays import backend_for
from ..kernels.base import Array
from ..sde.operator import StateSpaceCovariance
from .base import jittered_cholesky


class Form:
    """A prior covariance ``K (n, n)``."""

    def __init__(self, K: Any):
        self.K = K

    def constant(self) -> Form:
        """The same covariance as a number that nothing is differentiated through."""
        return self

    def times(self, V: Array) -> Array:
        """``K V`` for ``V (n,)`` or ``(n, k)``."""
        return self.K @ V

    def root(self, s: Array) -> Root:
        """``B`` factorised for ``S = diag(s)``."""
        return ProductRoot(self.K, s)

    def arrays(self) -> tuple[Any, ...]:
        """What the covariance is made of, for derivatives."""
        return (self.K,)

    def mean_at(self, conditioned: Any, X: Array) -> Array | None:
        """``K_* a`` at test points, where the structure knows it better than by covariances with all."""
        return None

    def variance_at(self, conditioned: Any, X: Array) -> Array | None:
        """Posterior variance of the latent function, likewise."""
        return None

    def covariance_at(self, conditioned: Any, X: Array) -> Array | None:
        """Posterior covariance of the latent function, likewise."""
        return None

    def cotangent(self, a: Array, u: Array, curvature: Any) -> Any:
        """Of ``sum(dK * ((a a^T - R + u a^T + a u^T) / 2))``, in the form of this class of operators."""
        raise NotImplementedError(
            f"the gradient of Laplace's approximation is not available for a {type(self.K).__name__}, known "
            "by its products only; use fewer observations, or a kernel of finite rank."
        )


class Root:
    """``B = I + S K S``: ``solve(V)`` is ``B^{-1} V``, ``log_det`` is ``log|B|``."""

    log_det: Array

    def solve(self, V: Array) -> Array:
        raise NotImplementedError

    def posterior_diagonal(self) -> Array:
        """``diag((K^{-1} + S^2)^{-1})``, never negative."""
        raise NotImplementedError("posterior variances at all observations need a stored or low-rank prior.")


class ProductRoot(Root):
    """By the core's algorithms on products."""

    def __init__(self, K: LinearOperator, s: Array):
        D = ops.Diagonal(s)
        self.B = PSD(ops.Identity.like(K) + D @ K @ D)
        self._log_det: Any = None

    @property
    def log_det(self) -> Array:  # type: ignore[override]
        if self._log_det is None:
            self._log_det = logdet(self.B)
        return self._log_det

    def solve(self, V: Array) -> Array:
        return solve(self.B, V)


class DenseForm(Form):
    """A stored matrix."""

    def __init__(self, K: Array):
        super().__init__(K)

    def constant(self) -> DenseForm:
        return DenseForm(backend_for(self.K).constant(self.K))

    def root(self, s: Array) -> DenseRoot:
        return DenseRoot(self.K, s)

    def cotangent(self, a: Array, u: Array, curvature: Any) -> Any:
        backend = backend_for(self.K)
        R = curvature.R(backend.eye(self.K.shape[0], self.K.dtype, backend.device(self.K)))
        b = 0.5 * a + u
        W = b[:, None] * a[None, :] - 0.5 * R
        return 0.5 * (W + W.T)


class DenseRoot(Root):
    """Cholesky: O(n^3)."""

    def __init__(self, K: Array, s: Array):
        self.K, self.s = K, s
        self.backend = backend = backend_for(K)
        xp = backend.xp
        B = backend.add_diagonal(s[:, None] * K * s[None, :], xp.ones_like(s))
        self.L = jittered_cholesky(B)[0]
        self.log_det = 2.0 * xp.sum(xp.log(xp.linalg.diagonal(self.L)))

    def half(self, V: Array) -> Array:
        """``L^{-1} S V``."""
        return self.backend.solve_triangular(self.L, self.s[:, None] * V)

    def solve(self, V: Array) -> Array:
        return self.backend.cholesky_solve(self.L, V if V.ndim == 2 else V[:, None]).reshape(V.shape)

    def posterior_diagonal(self) -> Array:
        xp = self.backend.xp
        V = self.half(self.K)
        variance = xp.linalg.diagonal(self.K) - xp.sum(V * V, axis=0)
        return xp.where(variance > 0, variance, xp.zeros_like(variance))


class LowRankForm(Form):
    """``K = U U^T``: everything in the space of the r weights."""

    def __init__(self, U: Array):
        super().__init__(U)
        self.U = U

    def constant(self) -> LowRankForm:
        return LowRankForm(backend_for(self.U).constant(self.U))

    def times(self, V: Array) -> Array:
        return self.U @ (self.U.T @ V)

    def root(self, s: Array) -> LowRankRoot:
        return LowRankRoot(self.U, s)

    def cotangent(self, a: Array, u: Array, curvature: Any) -> Any:
        toward_a, toward_u = a @ self.U, u @ self.U
        return (a + u)[:, None] * toward_a[None, :] + a[:, None] * toward_u[None, :] - curvature.R(self.U)


class LowRankRoot(Root):
    """Woodbury's identity with ``M = I + U^T S^2 U = L L^T``: O(n r^2)."""

    def __init__(self, U: Array, s: Array):
        self.U, self.s = U, s
        self.backend = backend = backend_for(U)
        xp = backend.xp
        self.SU = s[:, None] * U
        M = backend.add_diagonal(self.SU.T @ self.SU, xp.ones_like(U[0]))
        self.L = jittered_cholesky(M)[0]
        self.log_det = 2.0 * xp.sum(xp.log(xp.linalg.diagonal(self.L)))

    def solve(self, V: Array) -> Array:
        columns = V if V.ndim == 2 else V[:, None]
        inside = self.backend.cholesky_solve(self.L, self.SU.T @ columns)
        return (columns - self.SU @ inside).reshape(V.shape)

    def weight_half(self, U: Array) -> Array:
        """``L^{-1} U^T`` for features ``U (m, r)``: its squares are posterior variances."""
        return self.backend.solve_triangular(self.L, U.T)

    def posterior_diagonal(self) -> Array:
        V = self.weight_half(self.U)
        return self.backend.xp.sum(V * V, axis=0)


def form_of(prior: LinearOperator) -> Form:
    """The form of a prior operator."""
    if isinstance(prior, ops.Dense):
        return DenseForm(prior.to_dense())
    if isinstance(prior, ops.LowRank):
        return LowRankForm(prior.U)
    if isinstance(prior, StateSpaceCovariance) and prior.white is None:
        from .laplace_time import StateSpaceForm

        return StateSpaceForm(prior)
    return Form(prior)
