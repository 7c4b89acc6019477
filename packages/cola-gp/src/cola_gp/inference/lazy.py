r"""Covariances too large to store or to factorise: everything from products, with error bars.

One run of Lanczos serves all.  In the coordinates of a preconditioner (:mod:`~cola_gp.inference.whitening`),
where ``A = K + D`` becomes ``B`` near the identity, it starts from the residual and from random signs
``z_1 .. z_m``, and gives

* ``a = A^{-1} r``;
* ``tr log B`` by Gauss quadrature (Ubaru, Chen & Saad, SIMAX 38 (2017) 1075), whose variance is only that of
  what the preconditioner has missed;
* the derivative of ``log|A|``, as ``tr(P^{-1} dK)``, which is exact, plus the mean over probes of
  ``(u - w)^T dK w`` with ``w = S R z`` and ``u = S R B^{-1} z``: the preconditioner is the control variate
  (the idea of Wenger, Pleiss, Hennig, Cunningham & Gardner, ICML 2022, here without differentiating it).

Probes are added until the standard error of the log likelihood meets the tolerance.  Signs z have the
variance ``2 sum_{i != j} M_ij^2`` for ``tr M``, ``M = log B``, which is estimated from the vectors ``M z``
that Lanczos gives as well: where few eigenvalues make up M, the spread of the ``z^T M z`` is a poor estimate
of it (relative variance ``14/m`` instead of ``2/m`` for m probes), and often far too small.  What the steps
leave out is bounded: B is never below the identity, so a relative residual t leaves at most ``t^2 |g|^2`` of
``g^T B^{-1} g`` and ``t^2 |z|^2 / tr T^{-1}`` of ``z^T log(B) z`` (by integration over shifted systems).

A product costs ``n^2/2`` evaluations of the kernel and ``2 n^2`` flops per column; memory is
O(n (rank + steps * samples)).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from cola_core import PSD, ops
from cola_core.algorithms import Tridiagonal, lanczos_tridiagonal
from cola_core.cost import Cost
from cola_core.dispatch import record
from cola_core.errors import ConvergenceWarning, NonFiniteError
from cola_core.info import Info
from cola_core.linalg import diag
from cola_core.plugins import RuleBook

from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..data import as_points
from ..kernels.base import Array
from ..kernels.symmetric import pull_low_rank
from .base import LOG_2PI, Conditioned
from .inverse_root import CHECKS
from .questions import CONDITION, REPRESENT, Inference, Problem, Representation
from .variances import WAYS, Variances
from .whitening import Whitening

RULES = RuleBook()
LARGEST_RANK = 1000
STEPS = 250.0  # counted where the number is not known before, see iterative_cost
ROUND_BYTES = 2**31  # what a round of probes may hold, half of the usual budget
GROUPS = 32  # of probes, whose means tell the error of the derivatives


def default_rank(n: int) -> int:
    """Columns of the preconditioner: their cost, ``n rank^2`` flops, is then below that of a few products,
    and from 50,000 points on their memory that of a round of probes."""
    return min(n, LARGEST_RANK, max(100, n // 5), max(100, ROUND_BYTES // (40 * n)))


def default_samples(n: int) -> int:
    """Probes of a round: 32, or as many as keep their vectors of all steps within a fixed memory."""
    return max(4, min(32, int(ROUND_BYTES / (8.0 * (STEPS + 8.0) * n)) - 1))


def iterative_cost(K: Any, rank: int | None = None, samples: int | None = None, steps: float = STEPS) -> Cost:
    """One evaluation of likelihood and gradient: the preconditioner, ``steps`` products with the residual and
    the probes, and the pullback of weights of rank ``rank``.

    Ten to thirty steps do where the preconditioner holds most of the spectrum, which is not known before;
    hundreds are needed where it does not.  The estimate is for the latter, so that exact answers are
    preferred as long as they are affordable.
    """
    n, d = K.X1.shape
    k = default_rank(n) if rank is None else min(rank, n)
    samples = default_samples(n) if samples is None else samples
    # an entry takes about as long as forty flops of a matrix product, beside its dimensions
    entry = 0.5 * (2.0 * d + 80.0)
    product = (entry + 2.0 * (samples + 1)) * n * n + 8.0 * n * k * (samples + 1)
    pull = (3.0 * entry + k) * n * n
    build = 4.0 * n * k * k
    return Cost(
        flops=steps * product + pull + build,
        factor=10.0 * float(k) ** 3,
        memory=K.itemsize * (4.0 * n * k + (steps + 8.0) * n * (samples + 1)) + 8.0 * K.block_bytes,
        matvecs=steps,
        calls=30 * steps,
    )


def _cost(K: Any, problem: Any, *, alg: Any) -> Cost:
    return iterative_cost(K)


@RULES.rule(
    REPRESENT, (CovarianceOperator,), id="represent/lazy", source="the matrix is never stored", cost=_cost
)
def represent_lazy(K: Any, problem: Any, *, alg: Any) -> Representation:
    """Any kernel at any inputs, as it is: products evaluate it tile by tile.

    Cotangent: ``(L, R)`` or ``(L, R, d)``, arrays ``(n, k)``, ``(n, k)`` and ``(n,)`` whose
    ``W = L R^T + diag(d)`` is symmetric, with ``dL = sum(W * dK)``.
    """
    return Representation(K, lambda cotangent: pull_low_rank(K.kernel, as_points(K.X1), cotangent)[0])


@dataclass(frozen=True)
class IterativeInference(Inference):
    """Preconditioned Lanczos quadrature on products with the covariance (see the module docstring).

    tol: wanted error of the log likelihood, two standard errors, relative to the larger of itself and n / 2.
    rank: columns of the preconditioner (default: n / 5, from 100 to 1000, fewer above 50,000 points).
    samples: probes of a round (default: 32, fewer above 32,000 points, to hold 2 GiB at most); there are
    rounds up to max_samples.  solve_tol: relative residual of the solves, in the preconditioner's norm.
    variance: how variances of predictions are found: "solve" a system for every test point; from a cached
    inverse "root"; as upper "bound", by conditioning on the nearest observations and on some directions of
    all; or "auto", by solving for up to 64 points, and for more by the first of these that is good enough.
    variance_tol: error of variances, relative to their mean, that is good enough and above which a warning is
    given; it is measured by solving for a few of the points.
    max_iters: steps at most.  key: seed of the probes and of the preconditioner; the same key gives the same
    numbers.  The noise must be diagonal and positive.
    """

    kind: ClassVar[str] = "stochastic"
    prior: ClassVar[type] = CovarianceOperator
    represents: ClassVar[str] = "gp:represent/lazy"

    tol: float = 1e-3
    rank: int | None = None
    samples: int | None = None
    max_samples: int = 128
    solve_tol: float = 1e-5
    variance: str = "auto"
    variance_tol: float = 0.1
    max_iters: int = 400
    key: int = 0

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 2:
            raise ValueError(f"IterativeInference: an error needs samples >= 2, not {self.samples}.")
        for name in ("tol", "solve_tol", "variance_tol"):
            if not getattr(self, name) > 0:
                raise ValueError(f"IterativeInference: {name} must be positive, not {getattr(self, name)}.")
        if self.variance not in WAYS:
            raise ValueError(f"IterativeInference: variance must be one of {WAYS}, not {self.variance!r}.")
        if self.max_iters < 1 or (self.rank is not None and self.rank < 0):
            raise ValueError(
                "IterativeInference: max_iters must be positive and rank not negative, not "
                f"{self.max_iters} and {self.rank}."
            )

    def rank_for(self, n: int) -> int:
        """Columns of the preconditioner for ``n`` points."""
        return default_rank(n) if self.rank is None else min(self.rank, n)

    def samples_for(self, n: int) -> int:
        """Probes of a round for ``n`` points."""
        return default_samples(n) if self.samples is None else self.samples

    def refuses(self, prior: Any, noise: Any, problem: Problem) -> str:
        if not isinstance(noise, (ops.Diagonal, ops.ScalarMul, ops.Identity)):
            return f"the noise is a {type(noise).__name__}, and the preconditioner needs a diagonal"
        return ""

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return iterative_cost(A, self.rank, self.samples)

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        return LazyConditioned(prior, noise, problem, self)


RULES.algorithm(CONDITION, IterativeInference, name="iterative")


class LazyConditioned(Conditioned):
    """Inference by products with the covariance.

    info: ``standard_error`` is that of the log marginal likelihood, with what unfinished steps may have left
    out of it; ``residual`` of ``A a = r`` recomputed,
    ``iterations`` are Lanczos steps.
    variance_errors: of predictive variances ("prediction", "leave-one-out"), absolute, once they are made;
    variance_info: how the last of predictions were made.
    Single precision data are computed with in double precision where the library has it.
    """

    method = "iterative (preconditioned Lanczos)"

    def __init__(self, prior: Any, noise: Any, problem: Problem, alg: IterativeInference):
        self.model, self.data = model, data = problem.model, problem.data
        self.alg = alg
        backend = self.backend = backend_for(data.y)
        xp = backend.xp
        given = as_points(data.X)
        # JAX has no doubles unless it was told so
        self._wide = data.y.dtype if backend.name == "jax" else xp.float64
        self.points = self._wider(given)
        self.residual = data.y - model.mean(given)
        K = CovarianceOperator(model.kernel, self.points, block_bytes=prior.block_bytes)
        self.kernel = K.kernel
        d = self._wider(diag(noise)) + xp.zeros_like(self.points[:, 0])
        A = self._A = PSD(K + ops.Diagonal(d))
        rank = alg.rank_for(data.n)
        self.white = Whitening.of(self.kernel, self.points, d + K.nugget(), rank, alg.key)
        self._half = self.white.half
        self.B = self.white.whitened(A)
        self._matvecs = self._steps = 0
        self._left: Array = xp.zeros_like(self.points[0, 0])  # largest residual of a solve
        self.variance_errors: dict[str, float] = {}
        self._share: float | None = None
        self._logs: list[Array] = []
        self._images: list[Array] = []  # log(B) Z
        self._bounds: list[Array] = []  # of what the steps leave out of self._logs
        self._runs: list[tuple[Array, Array]] = []  # probes Z and B^{-1} Z
        r = self._wider(self.residual)[:, None]
        T = self._first = self._round(self._half.T @ r)
        self._alpha = (self._half @ T.solve(backend)[:, :1])[:, 0]
        left = (r - A @ self._alpha[:, None])[:, 0]
        # to second order in the residual: r^T A^{-1} r = (r + left)^T a + O(left^2)
        self._quadratic = xp.sum((r[:, 0] + left) * self._alpha)
        self._quadratic_bound = xp.sum((self._half.T @ left[:, None]) ** 2)
        while backend.is_concrete(self._quadratic) and self._wants_more():
            self._round(None)
        self.alpha = backend.astype(self._alpha, data.y.dtype)
        self.log_det = backend.astype(self.white.log_det + self._rest()[0], data.y.dtype)
        norm = xp.linalg.vector_norm(r)
        self._tell(xp.linalg.vector_norm(left) / xp.where(norm > 0, norm, xp.ones_like(norm)))

    def _wider(self, x: Array) -> Array:
        return self.backend.astype(x, self._wide)

    def _round(self, start: Array | None) -> Tridiagonal:
        """One run of Lanczos from new probes, and from ``start (n, 1)`` before them."""
        backend, alg, n = self.backend, self.alg, self.data.n
        seed = 1_000_003 * (alg.key + 1) + len(self._runs)
        Z = backend.rademacher(seed, (n, alg.samples_for(n)), self._wide, backend.device(self.points))
        known = 0 if start is None else 1
        first = Z if start is None else backend.xp.concat([start, Z], axis=1)
        T = lanczos_tridiagonal(self.B, first, min(alg.max_iters, n), tol=alg.solve_tol)
        self._matvecs += T.products * first.shape[1]
        self._steps = max(self._steps, T.alpha.shape[0])
        xp = backend.xp
        self._logs.append(T.quadrature(backend, xp.log)[known:])
        self._images.append(T.apply(backend, xp.log)[:, known:])
        self._runs.append((Z, T.solve(backend)[:, known:]))
        residuals = T.residuals(backend)
        inverses = xp.sum(1.0 / xp.clip(T.eigh(backend)[0], 1.0, None), axis=-1)
        self._bounds.append(((residuals * T.norm) ** 2 / inverses)[known:])
        self._left = xp.maximum(xp.max(residuals), self._left)
        return T

    def _rest(self) -> tuple[Array, Array]:
        """``tr log B`` and its error: one standard error of the probes, and what the steps left out."""
        xp = self.backend.xp
        each = xp.concat(self._logs)
        m = each.shape[0]
        # sums over probes of |M z|^2 and of z * M z, the mean of which is the diagonal
        whole = sum(xp.sum(image**2) for image in self._images) / m
        diagonal = sum(xp.vecdot(Z, image) for (Z, _), image in zip(self._runs, self._images, strict=True))
        off = xp.clip(whole - xp.sum((diagonal / m) ** 2), 0.0, None) * (m / max(1, m - 1))
        spread = xp.maximum(2.0 * off, 0.0 * off if m == 1 else xp.var(each, correction=1.0))
        return xp.mean(each), xp.sqrt(spread / m) + xp.mean(xp.concat(self._bounds))

    def _value(self) -> tuple[Array, Array, Array]:
        """The log marginal likelihood, its standard error, and the one that was wanted."""
        xp, n = self.backend.xp, self.data.n
        rest, error = self._rest()
        value = -0.5 * (self._quadratic + self.white.log_det + rest + n * LOG_2PI)
        least = xp.zeros_like(value) + 0.5 * n
        return (
            value,
            0.5 * (error + self._quadratic_bound),
            0.5 * self.alg.tol * xp.maximum(xp.abs(value), least),
        )

    def _wants_more(self) -> bool:
        value, error, wanted = self._value()
        if not bool(self.backend.xp.isfinite(value)):
            raise NonFiniteError(
                "the log likelihood is not finite; check the kernel's parameters and the noise variance."
            )
        drawn = self.alg.samples_for(self.data.n) * len(self._runs)
        return bool(error > wanted) and drawn < self.alg.max_samples

    def _tell(self, residual: Array) -> None:
        alg, number = self.alg, self.backend.number
        if not self.backend.is_concrete(residual):
            return
        value, error, wanted = self._value()
        left = number(self._left)
        solved, sure = left <= 1.1 * alg.solve_tol, bool(error <= wanted)
        reason = "converged"
        if not solved:
            reason = f"step limit reached with residual {left:.1e} where {alg.solve_tol:.0e} was wanted"
        elif not sure:
            reason = (
                f"standard error {number(error):.3g} of the log likelihood {number(value):.6g} where "
                f"{number(wanted):.3g} was wanted"
            )
        self.info = Info(
            method="preconditioned Lanczos quadrature",
            converged=solved and sure,
            reason=reason,
            iterations=self._steps,
            matvecs=self._matvecs + 1,
            residual=number(residual),
            tolerance=alg.tol,
            standard_error=number(error),
        )
        if not (solved and sure):
            self.doubt = f"iterative inference did not converge: {reason}."
        record(self.info)  # the core warns

    def log_marginal_likelihood(self) -> Array:
        return self.backend.astype(self._value()[0], self.data.y.dtype)

    # -- derivatives ------------------------------------------------------------------------------------
    def _probed(self) -> tuple[Array, Array]:
        """``W = S R Z`` and ``E = S R (B^{-1} - I) Z``; what the preconditioner leaves of a derivative is the
        mean over probes of ``-(e^T dK w) / 2``.
        """
        xp = self.backend.xp
        Z = xp.concat([z for z, _ in self._runs], axis=1)
        Y = xp.concat([y for _, y in self._runs], axis=1)
        return self._half @ Z, self._half @ (Y - Z)

    @cached_property
    def _derivatives(self) -> tuple[tuple[Array, ...], Array]:
        """Derivatives of the log likelihood by the kernel's leaves, and by the diagonal."""
        xp = self.backend.xp
        a, V = self._alpha[:, None], self.white.low_rank
        base = -0.5 / self.white.d
        W, E = self._probed()
        c = -0.25 / W.shape[1]
        left, right = [0.5 * a, 0.5 * V, c * E, c * W], [a, V, W, E]
        diagonal = 0.5 * (self._alpha**2 + xp.vecdot(V, V)) + base + 2.0 * c * xp.vecdot(E, W)
        cotangent = (xp.concat(left, axis=1), xp.concat(right, axis=1), base)
        del V, W, E, left, right
        return pull_low_rank(self.kernel, self.points, cotangent)[0], diagonal

    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        kernel, diagonal = self._derivatives
        narrow = self.data.y.dtype
        return tuple(self.backend.astype(g, narrow) for g in kernel), self.backend.astype(diagonal, narrow)

    @cached_property
    def gradient_error(self) -> tuple[list[Array], Array]:
        """Standard errors of the derivatives: for the kernel's leaves, and for one common noise variance.

        From the spread of what every probe contributes, so with one degree of freedom less than there are
        probes; above ``GROUPS`` of them from the means of as many groups.  Cost: one pass over the pairs of
        points, with a pullback for every group, about as much as the inference itself takes.
        """
        xp = self.backend.xp
        W, E = self._probed()
        m = W.shape[1]
        count = min(m, GROUPS)
        ends = [m * (i + 1) // count for i in range(count)]
        parts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        cotangents, sums = [], []
        for part in parts:
            e, w = E[:, part], W[:, part]
            cotangents.append((xp.concat([-0.25 * e, -0.25 * w], axis=1), xp.concat([w, e], axis=1)))
            sums.append(-0.5 * xp.sum(e * w))
        weights = [end.stop - end.start for end in parts]

        def error(of_groups: Sequence[Array]) -> Array:
            # sums over groups of w probes have the variance w s^2; the estimate is their sum over m
            mean = sum(of_groups[1:], of_groups[0]) / m
            squares = sum((x - w * mean) ** 2 / w for x, w in zip(of_groups, weights, strict=True))
            return xp.sqrt(squares / ((count - 1) * m))

        pulled = pull_low_rank(self.kernel, self.points, *cotangents)
        return [error(leaf) for leaf in zip(*pulled, strict=True)], error(sums)

    # -- predictions ------------------------------------------------------------------------------------
    def latent_mean(self, X: Array) -> Array:
        cross = CovarianceOperator(self.kernel, self._wider(X), self.points)
        return self.backend.astype(cross @ self._alpha, X.dtype)

    @cached_property
    def _variances(self) -> Variances:
        return Variances(self.kernel, self.points, self._A, self.B, self.white, self._first, self.alg)

    def latent_variance(self, X: Array) -> Array:
        found, self.variance_info = self._variances.at(self._wider(X))
        if self.variance_info.error_estimate is not None:
            self.variance_errors["prediction"] = self.variance_info.error_estimate
        return self.backend.astype(self.backend.xp.clip(found, 0.0, None), X.dtype)

    def explained_variance(self, X: Array) -> Array:
        return self.model.kernel.cross_diag(X) - self.latent_variance(X)

    def _whitened_cross(self, X: Array) -> Array:
        return self._half.T @ self.kernel(self.points, self._wider(X))

    def explained_covariance(self, X: Array) -> Array:
        G = self._whitened_cross(X)
        steps = min(self.alg.max_iters, self.data.n)
        T = lanczos_tridiagonal(self.B, G, steps, tol=self.alg.solve_tol)
        return self.backend.astype(G.T @ T.solve(self.backend), X.dtype)

    def solve(self, B: Array) -> Array:
        steps = min(self.alg.max_iters, self.data.n)
        T = lanczos_tridiagonal(self.B, self._half.T @ self._wider(B), steps, tol=self.alg.solve_tol)
        return self.backend.astype(self._half @ T.solve(self.backend), B.dtype)

    def inverse_diagonal(self) -> Array:
        xp, root = self.backend.xp, self._variances.root
        low, white = self.white.low_rank, self.white
        whole = 1.0 / white.d - xp.vecdot(low, low)  # the diagonal of P^{-1}
        Q = self._half @ root.vectors
        near = whole - (Q * Q) @ root.gains
        outside = xp.clip(whole - xp.vecdot(Q, Q), 0.0, None)
        n = self.data.n
        chosen = xp.arange(0, n, max(1, n // CHECKS))[:CHECKS]
        units = xp.astype(xp.arange(n)[:, None] == chosen[None, :], self._wide)
        share, error = root.calibrate(self._half.T @ units, self.alg.solve_tol, self.alg.max_iters)
        self.variance_errors["leave-one-out"] = error
        size = float(xp.mean(near))
        if error > self.alg.variance_tol * (size + 0.1 * float(xp.mean(white.d))):
            warnings.warn(
                f"leave-one-out: inverse variances miss those of exact solves by about {error:.2g}, their "
                f"mean is {size:.3g}. Raise the rank of IterativeInference.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self.backend.astype(near - share * outside, self.data.y.dtype)
