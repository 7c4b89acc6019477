r"""Laplace's approximation for likelihoods that are not Gaussian (Rasmussen & Williams 2006, 3.4 and 5.5.1).

The posterior of the function's values is replaced by the Gaussian around its mode ``f = m + K a`` with the
precision ``K^{-1} + W``, ``W`` the second derivatives of ``-log p(y | f)``.  Newton's method finds the mode;
every step is the best of a geometric sequence of fractions of the full one, so the posterior density never
falls and starts far away or flat likelihoods do no harm.  At the mode ``a`` is the slope of the likelihood:
how far it is from that is the residual that the answer reports.

Everything goes through ``R = (K + W^{-1})^{-1} = S B^{-1} S`` with ``B = I + S K S``, ``S = sqrt(W)``, which
holds where weights vanish.  Where an observation has a negative weight (an outlier under Student's
distribution) ``W = S^2 - N`` and ``R`` takes a correction of the rank of the outliers,

    R = S B^{-1} S - P (N^{-1} - E^T K P)^{-1} P^T,   P = (I - S B^{-1} S K) E,

with ``E`` the columns of the identity at the outliers; the bracket is positive definite at a maximum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from cola_core import ops
from cola_core.cost import Cost
from cola_core.errors import NotPositiveDefiniteError
from cola_core.info import Info
from cola_core.operators import LinearOperator
from cola_core.plugins import RuleBook

from .._struct import leaves, with_leaves
from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..data import as_points
from ..kernels.base import Array
from ..kernels.symmetric import symmetric
from ..sde.operator import StateSpaceCovariance, recursion_cost
from .base import Conditioned, blocks
from .dense import dense_cost
from .laplace_forms import DenseForm, DenseRoot, Form, LowRankForm, LowRankRoot, form_of
from .questions import CONDITION, Inference, Problem, memory_budget

RULES = RuleBook()
MAX_STEPS = 100
FRACTIONS = 2.0 ** -np.arange(0.0, 24.0)  # of a Newton step that are tried


@dataclass(frozen=True)
class LaplaceInference(Inference):
    """Newton's method for the mode and the Gaussian around it, for likelihoods that are not Gaussian.

    One factorisation per step: O(n^3) for a stored covariance, O(n r^2) for one of rank r, O(n s^3) in
    time with a state of size s; otherwise conjugate gradients, without gradients for the parameters.
    """

    kind: ClassVar[str] = "iterative"
    gaussian: ClassVar[bool] = False
    prior: ClassVar[type] = LinearOperator

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[0]
        if isinstance(A, ops.LowRank):
            r = A.U.shape[-1]
            return Cost(
                flops=60.0 * n * r * r, factor=10.0 * r**3, memory=6.0 * A.itemsize * n * r, calls=300
            )
        if isinstance(A, ops.Dense):
            once = dense_cost(n, A.itemsize)
            return Cost(factor=6.0 * once.factor, bytes=8.0 * once.bytes, memory=once.memory, calls=300)
        if isinstance(A, StateSpaceCovariance):
            return 12.0 * recursion_cost(n, A.states, A.itemsize)
        return Cost(flops=5000.0 * n * n, memory=100.0 * A.itemsize * n, calls=3000)

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        return LaplaceConditioned(prior, problem)


RULES.algorithm(CONDITION, LaplaceInference, name="laplace")


class Curvature:
    """``R = (K + W^{-1})^{-1}`` and ``log|I + K W|`` for weights of any sign.

    positive: no weight is negative, which tracers cannot be asked.
    Raises NotPositiveDefiniteError where ``K^{-1} + W`` is not positive definite: not at a maximum.
    """

    def __init__(self, form: Form, weight: Array, positive: bool = False):
        self.form = form
        self.backend = backend = backend_for(weight)
        xp = backend.xp
        zero, one = xp.zeros_like(weight), xp.ones_like(weight)
        # the root of a one that is then discarded has a derivative, that of zero has none
        self.s = xp.where(weight > 0, xp.sqrt(xp.where(weight > 0, weight, one)), zero)
        self.root = form.root(self.s)
        self.P: Any = None
        if positive:
            return
        negative = weight < 0
        concrete = backend.is_concrete(weight)
        if concrete and not bool(xp.any(negative)):
            return
        every = np.eye(weight.shape[0])
        if concrete:
            every = every[:, np.flatnonzero(np.asarray(backend.to_numpy(negative)))]
        E = backend.asarray(every, dtype=weight.dtype, device=backend.device(weight))
        q = xp.where(negative, xp.sqrt(xp.where(negative, -weight, one)), zero) @ E
        P = E - self._plain(form.times(E))
        C = backend.add_diagonal(-(q[:, None] * (form.times(E).T @ P) * q[None, :]), xp.ones_like(q))
        self.C = backend.cholesky(0.5 * (C + C.T))
        self.P = P * q[None, :]

    def _plain(self, V: Array) -> Array:
        """``S B^{-1} S V``."""
        s = self.s if V.ndim == 1 else self.s[:, None]
        return s * self.root.solve(s * V)

    def R(self, V: Array) -> Array:
        """``R V`` for ``V (n,)`` or ``(n, k)``."""
        out = self._plain(V)
        if self.P is None:
            return out
        columns = V if V.ndim == 2 else V[:, None]
        return out - (self.P @ self.backend.cholesky_solve(self.C, self.P.T @ columns)).reshape(V.shape)

    @property
    def log_det(self) -> Array:
        """``log|I + K W|``."""
        if self.P is None:
            return self.root.log_det
        xp = self.backend.xp
        return self.root.log_det + 2.0 * xp.sum(xp.log(xp.linalg.diagonal(self.C)))

    def outlying(self, V: Array) -> Any:
        """What the correction adds to ``diag(V^T (K^{-1} + W)^{-1} V)``: half of it, ``(m, k)``; None without
        outliers."""
        if self.P is None:
            return None
        return self.backend.solve_triangular(self.C, self.P.T @ V)

    def outliers(self) -> Array | None:
        """``G (n, k)`` with ``R = S B^{-1} S - G G^T``; None without outliers."""
        if self.P is None:
            return None
        return self.backend.solve_triangular(self.C, self.P.T).T  # type: ignore[no-any-return]

    def posterior_diagonal(self) -> Array:
        """``diag((K^{-1} + W)^{-1})``."""
        variance = self.root.posterior_diagonal()
        if self.P is None:
            return variance
        extra = self.backend.solve_triangular(self.C, self.form.times(self.P).T)
        return variance + self.backend.xp.sum(extra * extra, axis=0)


class Mode:
    """The mode of the posterior: ``a`` with ``f = mean + K a``, and how well it was found."""

    def __init__(self, form: Form, likelihood: Any, y: Array, mean: Array):
        self.form, self.likelihood, self.y, self.mean = form, likelihood, y, mean
        self.backend = backend = backend_for(y)
        xp = backend.xp
        self.eps = float(xp.finfo(y.dtype).eps)
        # Trial steps may overflow on the way to a density that is then refused.
        with np.errstate(all="ignore"):
            self._find()
        self.info = self._info()

    def _find(self) -> None:
        form, mean, backend = self.form, self.mean, self.backend
        xp = backend.xp
        a = self._start()
        Ka = form.times(a)
        psi = self._density(a[:, None], Ka[:, None])[0]
        nothing = xp.zeros_like(a)
        better = psi > self._density(nothing[:, None], nothing[:, None])[0]
        a, Ka = (xp.where(better, v, nothing) for v in (a, Ka))
        psi = self._density(a[:, None], Ka[:, None])[0]
        large = psi * 0 + math.inf
        state = (a, Ka, psi, large, large, psi * 0)
        state = backend.while_loop(self._going, self._step, state)
        self.a, Ka, self.psi, self.decrement, _, self.steps = state
        self.f = mean + Ka

    def _start(self) -> Array:
        """One Newton step from the likelihood's own guess of the function."""
        guess = self.likelihood.guess(self.y)
        slope = self.likelihood.curve(self.y, guess).slope
        weight = self.likelihood.bound_weight(self.y, guess)
        b = weight * (guess - self.mean) + slope
        return b - Curvature(self.form, weight, positive=True).R(self.form.times(b))

    def _density(self, A: Array, KA: Array) -> Array:
        """Log posterior density, up to a constant, of every column."""
        xp = self.backend.xp
        f = self.mean[:, None] + KA
        density = self.likelihood.log_density(self.y[:, None], f)
        total = xp.sum(density - 0.5 * A * KA, axis=0)
        # NaN and infinities of overflow are worse than anything.
        return xp.where(xp.isfinite(total), total, xp.full_like(total, -math.inf))

    def _tolerance(self, psi: Array) -> Array:
        return 10.0 * self.eps * (1.0 + self.backend.xp.abs(psi))

    def _going(self, state: Any) -> Any:
        # After a step whose predicted gain was below rounding there is nothing left to gain.
        _, _, psi, decrement, _, steps = state
        return (decrement > self._tolerance(psi)) & (steps < MAX_STEPS)

    def _curvature(self, weight: Array, f: Array) -> Curvature:
        if self.likelihood.log_concave:
            return Curvature(self.form, weight, positive=True)
        if self.backend.is_concrete(weight):
            try:
                return Curvature(self.form, weight)
            except NotPositiveDefiniteError:
                pass  # not near a maximum yet: maximise a bound instead, which points uphill everywhere
        return Curvature(self.form, self.likelihood.bound_weight(self.y, f), positive=True)

    def _direction(self, rest: Array, weight: Array, f: Array) -> Array:
        """Newton's step for the gradient ``rest``, or that of a bound where it would not lead uphill."""
        backend, toward = self.backend, self.form.times(rest)
        da = rest - self._curvature(weight, f).R(toward)
        if self.likelihood.log_concave or backend.is_concrete(weight):
            return da
        # Compiled, a factorisation that fails gives NaN instead of an error, so both are made.
        xp = backend.xp
        newton = rest - Curvature(self.form, weight).R(toward)
        uphill = xp.all(xp.isfinite(newton)) & (xp.sum(newton * toward) > 0)
        return xp.where(uphill, newton, da)

    def _step(self, state: Any) -> Any:
        a, Ka, psi, _, _, steps = state
        backend = self.backend
        xp = backend.xp
        slope, weight, _ = self.likelihood.curve(self.y, self.mean + Ka)
        rest = slope - a
        da = self._direction(rest, weight, self.mean + Ka)
        Kda = self.form.times(da)
        decrement = xp.sum(rest * Kda)
        t = backend.asarray(FRACTIONS, dtype=a.dtype, device=backend.device(a))
        values = self._density(a[:, None] + da[:, None] * t, Ka[:, None] + Kda[:, None] * t)
        best = xp.argmax(values)
        # Within rounding of the mode densities cannot be compared, and the full step is right.
        room = 1e3 * self._tolerance(psi)
        after = self.likelihood.curve(self.y, self.mean + Ka + Kda).slope - a - da
        flatter = xp.abs(xp.sum(after * Kda)) <= 0.5 * decrement
        close = (decrement <= room) | (flatter & (values[0] >= psi - room) & (values[best] <= psi + room))
        fails = (values[best] <= psi) & ~close
        size = xp.where(close, xp.ones_like(t[0]), xp.where(fails, xp.zeros_like(t[0]), t[best]))
        decrement = xp.where(fails, xp.zeros_like(decrement), xp.abs(decrement))
        a, Ka = a + size * da, Ka + size * Kda
        return a, Ka, self._density(a[:, None], Ka[:, None])[0], decrement, size, steps + 1

    def _info(self) -> Any:
        """Residual: the largest of ``|slope - a|`` against the size of the terms of the sum that it is."""
        xp = self.backend.xp
        slope = self.likelihood.curve(self.y, self.f).slope
        size = xp.max(xp.abs(slope)) + xp.max(xp.abs(self.a))
        tiny = float(xp.finfo(self.y.dtype).tiny)
        residual = xp.max(xp.abs(slope - self.a)) / (size + tiny)
        tolerance = 100.0 * math.sqrt(self.eps)
        if not self.backend.is_concrete(residual):
            return Info(method="Laplace", converged=residual <= tolerance, residual=residual)
        converged = self.backend.number(residual) <= tolerance
        reason = "the density is stationary" if converged else "no step improves the density any more"
        steps = int(self.backend.number(self.steps))
        if steps >= MAX_STEPS:
            reason = f"{MAX_STEPS} Newton steps were made"
        return Info(
            method="Laplace",
            converged=converged,
            reason=reason,
            iterations=steps,
            residual=self.backend.number(residual),
            tolerance=tolerance,
        )


class LaplaceConditioned(Conditioned):
    """The Gaussian around the mode of the posterior.

    ``alpha`` is ``K^{-1} (f - mean)`` and ``mode`` is ``f`` at the observations; ``info`` says how well the
    mode was found.
    """

    method = "Laplace"

    def _begin(self, prior: Any, problem: Problem) -> None:
        self.model, self.data = model, data = problem.model, problem.data
        self.points = as_points(data.X)
        self.backend = backend_for(data.y)
        self.likelihood = model.noise
        self.likelihood.check(data.y)
        self._pull = problem.pull
        self._represent(prior)
        self.mean = model.mean(self.points)

    def __init__(self, prior: Any, problem: Problem):
        self._begin(prior, problem)
        data = self.data
        frozen = self.backend.constant(self.mean)
        found = Mode(self.form.constant(), constant_tree(self.likelihood, self.backend), data.y, frozen)
        self.info = found.info
        self.alpha, self.mode = found.a, found.f
        if type(self.form) is not Form and self._differentiating():
            # A Newton step from the mode changes no value.  One has the first derivative of the mode, and as
            # every further one doubles the order, two have the first three.
            self._newton_step()
            self._newton_step()
        self.residual = self.mode - self.mean
        weight, self.change = self.likelihood.evidence_curve(data.y, self.mode)
        try:
            self.curvature = Curvature(self.form, weight, self.likelihood.log_concave)
        except NotPositiveDefiniteError:
            raise NotPositiveDefiniteError(
                f"the posterior under {type(self.likelihood).__name__} has no maximum where the search ended "
                f"({self.info.reason}, residual {self.info.residual:.1e}): too many observations are "
                "outliers for these parameters; raise the scale of the noise."
            ) from None
        if self.info.converged is False:
            self._doubted(
                f"the mode of the posterior was not found: {self.info.reason}; the residual is "
                f"{self.info.residual:.1e} where {self.info.tolerance:.1e} was wanted."
            )

    def _newton_step(self) -> None:
        slope, weight, _ = self.likelihood.curve(self.data.y, self.mode)
        b = weight * (self.mode - self.mean) + slope
        try:
            step = Curvature(self.form, weight, self.likelihood.log_concave)
            self.alpha = b - step.R(self.form.times(b))
        except NotPositiveDefiniteError:  # at a saddle, where the mode has no derivative
            pass
        self.mode = self.mean + self.form.times(self.alpha)

    def _differentiating(self) -> bool:
        parameters = [p for p in leaves(self.likelihood) if backend_for(p) is self.backend]
        return bool(self.backend.differentiating(self.mean, *self.form.arrays(), *parameters))

    def _represent(self, prior: Any) -> None:
        """Structures that are known by their products only are stored where they fit."""
        size = 4.0 * prior.itemsize * float(prior.shape[0]) ** 2
        self.form = form_of(prior)
        # A covariance that is lazy already was too large for the budget.
        lazy = isinstance(prior, CovarianceOperator)
        if type(self.form) is Form and not lazy and size <= memory_budget(None):
            value, self._pull = symmetric(self.model.kernel, self.points)
            self.form = DenseForm(value)

    @cached_property
    def log_det(self) -> Array:  # type: ignore[override]
        """``log|I + K W|``."""
        return self.curvature.log_det

    def log_marginal_likelihood(self) -> Array:
        """Laplace's approximation to the log density of the observations, a 0-d array (3.32)."""
        xp = self.backend.xp
        fit = xp.sum(self.likelihood.log_density(self.data.y, self.mode))
        return fit - 0.5 * xp.sum(self.alpha * self.residual) - 0.5 * self.log_det

    def gradient(self) -> tuple[Array, ...]:
        # Beside the explicit derivatives the mode moves: the evidence depends on it through log|I + K W|.
        xp = self.backend.xp
        variance = self.curvature.posterior_diagonal()
        pressure = -0.5 * variance * self.change
        u = pressure - self.curvature.R(self.form.times(pressure))
        kernel = self._pull(self.form.cotangent(self.alpha, u, self.curvature))
        mean = self.model.mean.pullback(self.points, self.alpha + u)
        moved = self.form.times(u)
        likelihood = tuple(
            xp.sum(part.density - 0.5 * variance * part.weight + moved * part.slope)
            for part in self.likelihood.parameter_curves(self.data.y, self.mode)
        )
        return (*kernel, *mean, *likelihood)

    def correction(self, f: Array, normal: Array) -> Array:
        # The Gaussian around the mode is that of targets mode + W^{-1} a with noise W^{-1}.
        if self.curvature.P is not None:
            raise NotImplementedError(
                "functions cannot be drawn where the likelihood has outliers (negative curvature); draw at "
                "given points with method='covariance'."
            )
        noise = self.curvature.s[:, None] * self.curvature.root.solve(normal)
        return self.alpha[:, None] - self.curvature.R(f) - noise

    def inverse_diagonal(self) -> Array:
        raise NotImplementedError("leave-one-out is not available for likelihoods that are not Gaussian.")

    def _cross(self, X: Array) -> Array:
        return self.model.kernel(self.points, X)

    def latent_mean(self, X: Array) -> Array:
        if isinstance(self.form, LowRankForm):
            return self.model.kernel.features(X)[0] @ (self.form.U.T @ self.alpha)
        known = self.form.mean_at(self, X)
        if known is not None:
            return known
        parts = [self.alpha @ self._cross(X[part]) for part in blocks(X.shape[0], self.data.n)]
        return self.backend.xp.concat(parts)

    def _half(self, V: Array) -> tuple[Array, Any]:
        """Roots of what the observations take from the variance and of what outliers give back."""
        root = self.curvature.root
        assert isinstance(root, DenseRoot)
        return root.half(V), self.curvature.outlying(V)

    def latent_variance(self, X: Array) -> Array:
        xp = self.backend.xp
        root = self.curvature.root
        if isinstance(root, LowRankRoot):
            features = self.model.kernel.features(X)[0]
            V = root.weight_half(features)
            extra = self.curvature.outlying(self.form.K @ features.T)
            variance = xp.sum(V * V, axis=0)
            return variance if extra is None else variance + xp.sum(extra * extra, axis=0)
        known = self.form.variance_at(self, X)
        return super().latent_variance(X) if known is None else known

    def latent_covariance(self, X: Array) -> Array:
        known = self.form.covariance_at(self, X)
        return super().latent_covariance(X) if known is None else known

    def explained_variance(self, X: Array) -> Array:
        xp = self.backend.xp
        if isinstance(self.form, LowRankForm):
            return self.model.kernel.cross_diag(X) - self.latent_variance(X)
        out = []
        for part in blocks(X.shape[0], self.data.n):
            cross = self._cross(X[part])
            if isinstance(self.curvature.root, DenseRoot):
                taken, given = self._half(cross)
                value = xp.sum(taken * taken, axis=0)
                out.append(value if given is None else value - xp.sum(given * given, axis=0))
            else:
                out.append(xp.sum(cross * self.curvature.R(cross), axis=0))
        return xp.concat(out)

    def explained_covariance(self, X: Array) -> Array:
        cross = self._cross(X)
        return cross.T @ self.curvature.R(cross)


def constant_tree(tree: Any, backend: Any) -> Any:
    """A likelihood whose parameters are numbers that nothing is differentiated through."""
    fixed = [backend.constant(leaf) if backend_for(leaf) is backend else leaf for leaf in leaves(tree)]
    return with_leaves(tree, fixed)


__all__ = ["Curvature", "LaplaceConditioned", "LaplaceInference", "Mode", "constant_tree"]
