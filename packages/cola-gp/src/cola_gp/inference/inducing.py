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

from dataclasses import dataclass
from typing import Any, ClassVar

from cola_core import PSD, ops
from cola_core.cost import Cost
from cola_core.operators import LinearOperator, operator, static
from cola_core.plugins import RuleBook

from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..data import as_points
from ..kernels.base import Array
from ..kernels.derivatives import diagonal_gradient
from ..kernels.inducing import Inducing
from .base import LOG_2PI, Conditioned, blocks, jittered_cholesky, reciprocal_condition
from .lowrank import low_rank_cost
from .questions import CONDITION, REPRESENT, Inference, Problem, Representation

RULES = RuleBook()


@operator
class InducingCovariance(LinearOperator):
    """What inducing points see of a covariance: ``U U^T``, and for fitc ``U U^T + diag(t)``.

    U: ``(n, m)``; unexplained: ``t (n,)``, the diagonal of the exact covariance minus that of ``U U^T``;
    method: of the kernel.  A sum with another operator is one of its parts, which the core knows how to
    solve with.
    """

    U: Array
    unexplained: Array
    method: str = static(default="vfe")

    def _shape(self) -> tuple[int, ...]:
        return (self.U.shape[-2], self.U.shape[-2])

    def _properties(self) -> frozenset[Any]:
        return frozenset({PSD})

    def parts(self) -> LinearOperator:
        """The same matrix of the core's classes."""
        Q = PSD(ops.LowRank(self.U))
        return Q if self.method == "vfe" else PSD(Q + PSD(ops.Diagonal(self.unexplained)))

    def __add__(self, other: Any) -> Any:
        return self.parts() + other

    def __radd__(self, other: Any) -> Any:
        return other + self.parts()

    def _matmat(self, X: Array) -> Array:
        matmul = backend_for(self.U).matmul
        out = matmul(self.U, matmul(self.U.T, X))
        return out if self.method == "vfe" else out + self.unexplained[:, None] * X

    _rmatmat = _matmat

    def _adjoint(self) -> LinearOperator:
        return self

    def _transpose(self) -> LinearOperator:
        return self

    def diagonal(self) -> Array:
        """The diagonal, O(n m)."""
        out = self.xp.sum(self.U * self.U, axis=1)
        return out if self.method == "vfe" else out + self.unexplained


def _outermost(K: Any, problem: Any, *, alg: Any) -> bool | str:
    return True if isinstance(K.kernel, Inducing) else "the kernel is not Inducing(kernel, points)"


def _cost(K: Any, problem: Any, *, alg: Any) -> Cost:
    return low_rank_cost(K.shape[0], K.kernel.inducing.shape[0], K.itemsize)


@RULES.rule(
    REPRESENT,
    (CovarianceOperator,),
    id="represent/inducing",
    source="Titsias 2009; Snelson & Ghahramani 2006",
    when=_outermost,
    cost=_cost,
    precedence=1,  # asked for by the model: never the exact covariance instead, even where that is cheaper
)
def represent_inducing(K: Any, problem: Any, *, alg: Any) -> Representation:
    """A covariance as its inducing points see it; cotangent: a pair, ``G (n, m)`` for U and ``(n,)`` for the
    diagonal of the exact covariance."""
    kernel, X = K.kernel, as_points(K.X1)
    if problem is not None and not problem.model.noise.gaussian:
        raise NotImplementedError(
            f"inducing points need Gaussian noise, not {type(problem.model.noise).__name__}. Use "
            "Nystrom(kernel, points), whose finite rank Laplace's approximation makes use of."
        )
    U, pull_features = kernel.factor(X).evaluate(X)
    xp = K.xp
    left = kernel.cross_diag(X) - xp.sum(U * U, axis=1)
    unexplained = xp.where(left > 0, left, xp.zeros_like(left))

    def pull(cotangent: tuple[Array, Array]) -> tuple[Array, ...]:
        G, by_diagonal = cotangent
        own = pull_features(G)
        exact = diagonal_gradient(kernel, X, by_diagonal)
        return tuple(a + b for a, b in zip(own, exact, strict=True))

    return Representation(InducingCovariance(U, unexplained, kernel.method), pull, kernel.method == "vfe")


@dataclass(frozen=True)
class InducingInference(Inference):
    """Titsias' lower bound, or FITC, through the values at m inducing points: O(n m^2), memory O(n m).

    For kernels :class:`~cola_gp.Inducing`; :func:`~cola_gp.approximation_report` says how far from exact.
    """

    prior: ClassVar[type] = InducingCovariance
    represents: ClassVar[str] = "gp:represent/inducing"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return low_rank_cost(A.shape[0], A.U.shape[-1], A.itemsize)

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        return InducingConditioned(prior, noise, problem)


RULES.algorithm(CONDITION, InducingInference, name="inducing")


class InducingConditioned(Conditioned):
    """Inference through the m inducing values.

    Further attributes: bound (whether the likelihood is a lower bound), unexplained ``t (n,)``, nugget
    (relative, of the inducing points), ``log_det`` of the approximate covariance.
    """

    def __init__(self, prior: Any, noise: Any, problem: Problem):
        xp = self._observe(problem)
        model, data = self.model, self.data
        self.bound = prior.method == "vfe"
        self.method = "inducing points (VFE bound)" if self.bound else "inducing points (FITC)"
        self.factor = model.kernel.factor(self.points)
        self.nugget = self.factor.relative
        self.U, self.unexplained = prior.U, prior.unexplained
        self.noise = model.noise.variances(data.y, data.X)
        if self.bound:  # of an observation left out, which fitc has in its covariance
            self.left_out_variance = self.unexplained
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

    def _log_density(self, noise: Array) -> tuple[Array, Array]:
        """Quadratic form and log determinant of ``Q + diag(noise)``."""
        xp, backend = self.backend.xp, self.backend
        root = xp.sqrt(noise)
        scaled, r = self.U / root[:, None], self.residual / root
        eye = backend.eye(self.U.shape[1], self.U.dtype, backend.device(self.U))
        L = jittered_cholesky(eye + scaled.T @ scaled)[0]
        half = backend.solve_triangular(L, (scaled.T @ r)[:, None])
        log_det = xp.sum(xp.log(noise)) + 2.0 * xp.sum(xp.log(xp.linalg.diagonal(L)))
        return xp.sum(r * r) - xp.sum(half * half), log_det

    def lower_bound(self) -> Array:
        """Titsias' (2009) lower bound of the exact log marginal likelihood, for both methods."""
        if self.bound:
            return self.log_marginal_likelihood()
        quadratic, log_det = self._log_density(self.noise)
        return -0.5 * (quadratic + log_det + self.data.n * LOG_2PI) - self.trace_term

    def upper_bound(self) -> Array:
        """An upper bound of the exact log marginal likelihood (Titsias 2014): ``K <= Q + tr(K - Q) I``
        for the quadratic form, and ``log det`` grows with the covariance. O(n m^2)."""
        quadratic, _ = self._log_density(self.noise + self.backend.xp.sum(self.unexplained))
        _, log_det = self._log_density(self.noise)
        return -0.5 * (quadratic + log_det + self.data.n * LOG_2PI)

    def _solved_features(self) -> Array:
        """``D^{-1} U B^{-1}``, which is ``(Q + D)^{-1} U``."""
        return self.U @ self.backend.cholesky_inverse(self.LB) / self.diagonal[:, None]

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
        return self._pull((G, by_diagonal)), noise

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
