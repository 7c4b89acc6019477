r"""What exact inference must answer, whatever the structure of the covariance.

With ``K`` the covariance of the observations, ``r = y - mean`` and ``a = K^{-1} r`` (Rasmussen & Williams
2006):

* log marginal likelihood ``-r^T a / 2 - log|K| / 2 - n log(2 pi) / 2``  (2.30);
* its derivative ``tr((a a^T - K^{-1}) dK) / 2``  (5.9);
* predictive mean ``K_* a`` and variance ``k_** - k_*^T K^{-1} k_*``  (2.25, 2.26).

Which algorithm answers them is decided by the operators (:mod:`cola_gp.inference.questions`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from cola_core.dispatch import session
from cola_core.errors import (
    ConvergenceError,
    ConvergenceWarning,
    IllConditionedWarning,
    NonFiniteError,
    NotPositiveDefiniteError,
)
from cola_core.linalg import solve

from ..arrays import backend_for
from ..data import Data, as_points
from ..kernels.base import Array

LOG_2PI = math.log(2.0 * math.pi)
CHUNK_BYTES = 2**26  # working memory of one block of test points


def _unchanged(gradients: tuple[Array, ...]) -> tuple[Array, ...]:
    return gradients


class Conditioned:
    """A model conditioned on data.  Subclasses set the fields named here and fill in the methods.

    alpha: ``K^{-1} (y - mean)``, shape ``(n,)``.  log_det: ``log|K|``.  jitter: what was added to the
    diagonal, zero in the normal case.  method: how, in a few words.  info: what an iterative or stochastic
    computation knows of its error (a ``cola_core.info.Info``), None where the answers are exact.
    variance_info: the same of the last predictive variances.  doubt: what a warning says of an answer that
    did not converge, empty for all others.
    """

    model: Any
    data: Data
    points: Array
    backend: Any
    residual: Array
    alpha: Array
    log_det: Array
    jitter: float = 0.0
    rcond: float = 1.0
    method: str = ""
    info: Any = None
    variance_info: Any = None
    doubt: str = ""
    # Variance of an observation predicted from all others beyond 1 / diag(K^{-1}); zero where K is exact.
    left_out_variance: Any = 0.0
    # Derivatives for the leaves of the model that was asked about from those of ``model``, which may be
    # another form of it (:mod:`cola_gp.inference.white`).
    rejoin: Callable[[tuple[Array, ...]], tuple[Array, ...]] = staticmethod(_unchanged)

    def _observe(self, problem: Any) -> Any:
        """Take over model, data and what follows from them alone; returns the library's namespace."""
        self.model, self.data, self._pull = problem.model, problem.data, problem.pull
        self.points = as_points(self.data.X)
        self.backend = backend_for(self.data.y)
        self.residual = self.data.y - self.model.mean(self.points)
        return self.backend.xp

    def _doubted(self, message: str) -> None:
        """It did not converge: keep why, and warn or raise as the question that runs wants it."""
        self.doubt = message
        running = session()
        policy = "warn" if running is None else running.on_failure
        if policy == "raise":
            raise ConvergenceError(message)
        if policy == "warn":
            warnings.warn(message, ConvergenceWarning, stacklevel=3)

    def log_marginal_likelihood(self) -> Array:
        """Log density of the targets, a 0-d array."""
        xp = backend_for(self.alpha).xp
        quadratic = xp.sum(self.residual * self.alpha)
        return -0.5 * (quadratic + self.log_det + self.data.n * LOG_2PI)

    def gradient(self) -> tuple[Array, ...]:
        """Derivatives of the log marginal likelihood, one array per leaf of the model, in leaf order."""
        kernel, noise_diagonal = self._covariance_gradient()
        mean = self.model.mean.pullback(as_points(self.data.X), self.alpha)
        return self.rejoin((*kernel, *mean, *self.model.noise.pullback(noise_diagonal, self.data.X)))

    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        """Derivatives for the kernel's leaves, and ``diag(a a^T - K^{-1}) / 2``."""
        raise NotImplementedError

    def solve(self, B: Array) -> Array:
        """``K^{-1} B`` for ``B (n, k)``, by the core's ``solve`` of prior plus noise in the form of its
        structure."""
        return solve(self.model.covariance(self.data.X), B)

    def correction(self, f: Array, normal: Array) -> Array:
        """``(K + D)^{-1} (y - mean - f - noise)`` for draws ``f (n, k)`` of the prior at the observations and
        standard normal numbers ``(n, k)``: what makes them draws of the posterior (Matheron's rule)."""
        if not self.model.noise.gaussian:
            raise NotImplementedError(
                f"functions cannot be drawn from a posterior by {self.method}; use method='covariance'."
            )
        spread = backend_for(f).xp.sqrt(self.model.noise.variances(self.data.y, self.data.X))
        return self.solve(self.residual[:, None] - f - spread[:, None] * normal)

    def inverse_diagonal(self) -> Array:
        """``diag(K^{-1})``, shape ``(n,)``."""
        raise NotImplementedError

    def latent_mean(self, X: Array) -> Array:
        """``K_* a`` at ``X (m, d)``, without the mean function."""
        raise NotImplementedError

    def explained_variance(self, X: Array) -> Array:
        """``diag(K_* K^{-1} K_*^T)`` at ``X (m, d)``."""
        raise NotImplementedError

    def explained_covariance(self, X: Array) -> Array:
        """``K_* K^{-1} K_*^T`` at ``X (m, d)``."""
        raise NotImplementedError

    def latent_variance(self, X: Array) -> Array:
        """Variance of the latent function at ``X``, never below zero."""
        xp = backend_for(X).xp
        variance = self.model.kernel.cross_diag(X) - self.explained_variance(X)
        return xp.where(variance > 0, variance, xp.zeros_like(variance))

    def latent_mean_on(self, grid: Any) -> Array | None:
        """:meth:`latent_mean` at the points of a Grid by its structure; None where that is of no use."""
        return None

    def latent_variance_on(self, grid: Any) -> Array | None:
        """:meth:`latent_variance` at the points of a Grid by its structure; None where that is of no use."""
        return None

    def latent_covariance(self, X: Array) -> Array:
        """Joint covariance of the latent function at ``X``, shape ``(m, m)``."""
        return self.model.kernel(X, X) - self.explained_covariance(X)


def observed_like(data: Data) -> Array:
    """A vector with one entry per observation, for its length, dtype and library."""
    return data.y


def blocks(m: int, n: int, memory: int = CHUNK_BYTES) -> list[slice]:
    """Slices of ``m`` test points whose covariance with ``n`` points stays within the working memory."""
    size = max(1, memory // (8 * max(1, n)))
    return [slice(start, min(start + size, m)) for start in range(0, max(m, 1), size)]


def jittered_cholesky(A: Array) -> tuple[Array, float]:
    """Lower Cholesky factor of a covariance matrix, and the jitter it took (zero if none).

    Jitter is relative to the mean of the diagonal: it starts at ten units of rounding and grows tenfold up
    to a square root of the machine epsilon.  Beyond that the matrix is not a covariance and the error says
    so.

    This asks the backend and not the core's ``cholesky``, whose warning about the condition number would
    appear for every trial point of a fit; :class:`~cola_gp.Posterior` warns once.
    """
    backend = backend_for(A)
    try:
        L = backend.cholesky(A)
        if backend.is_concrete(L) and not backend.all_finite(backend.xp.linalg.diagonal(L)):
            raise NonFiniteError(
                f"the {A.shape[-1]}x{A.shape[-1]} covariance holds NaN or infinity in {A.dtype} arithmetic; "
                "check the kernel's parameters and the noise variance, or scale the data."
            )
        return L, 0.0
    except NotPositiveDefiniteError as first:
        n = A.shape[-1]
        eps = float(backend.xp.finfo(A.dtype).eps)
        scale = float(backend.xp.sum(backend.xp.linalg.diagonal(A))) / n
        if not (math.isfinite(scale) and scale > 0):
            raise
        eye = backend.eye(n, A.dtype, backend.device(A))
        relative = 10 * eps
        while relative <= math.sqrt(eps):
            try:
                return backend.cholesky(A + relative * scale * eye), relative * scale
            except NotPositiveDefiniteError:
                relative *= 10
        raise NotPositiveDefiniteError(
            f"the {n}x{n} covariance is not positive definite even with {math.sqrt(eps) * scale:.3g} "
            "added to its diagonal; raise the noise variance, or check the kernel's parameters."
        ) from first


def warn_of_jitter(data: Data, jitter: float) -> None:
    """Say that the answer is that of another model, whose noise is larger by ``jitter``."""
    double = "float64" in str(data.y.dtype)
    warnings.warn(
        f"the {data.n}x{data.n} covariance is not positive definite in {data.y.dtype} arithmetic: "
        f"{jitter:.3g} was added to its diagonal, as if the noise variance were larger by as much. Raise "
        f"the noise variance{'' if double else ', or use float64'}.",
        IllConditionedWarning,
        stacklevel=3,
    )


def reciprocal_condition(L: Array) -> float:
    """An estimate from above of the reciprocal condition number of ``L L^T``, at O(n^2).

    From the factor's diagonal, and by a few steps of the power method for the matrix and for its inverse.
    """
    backend = backend_for(L)
    if not backend.is_concrete(L) or 0 in L.shape:
        return 1.0
    L, n = backend.constant(L), L.shape[-1]
    d = backend.to_numpy(backend.xp.linalg.diagonal(L))
    spread = float(d.min() / d.max())
    start = np.random.default_rng(0).normal(size=(n, 1)) / math.sqrt(n)
    v = backend.asarray(start, dtype=L.dtype, device=backend.device(L))
    # halves of the products, so that numbers have the size of square roots
    largest = _growth(backend, lambda x: L.T @ x, lambda x: L @ x, v)
    largest_inverse = _growth(
        backend,
        lambda x: backend.solve_triangular(L, x),
        lambda x: backend.solve_triangular(L.T, x, lower=False),
        v,
    )
    product = largest * largest_inverse
    return min(spread, 1.0 / product) ** 2 if math.isfinite(product) and product > 0 else spread**2


def _growth(backend: Any, half: Any, other: Any, v: Array) -> float:
    """A lower bound of the largest singular value of ``half``, whose transpose is ``other``."""
    size = 0.0
    for _ in range(3):
        x = half(v)
        size = float(backend.to_numpy(backend.xp.linalg.vector_norm(x)))
        if not (math.isfinite(size) and size > 0):
            break
        v = other(x / size)
        v = v / backend.xp.linalg.vector_norm(v)
    return size
