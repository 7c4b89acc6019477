r"""Stationary kernels at equally spaced points of one dimension: ``T = K + s I`` is a symmetric Toeplitz
matrix, O(n^2) for the likelihood and O(n log n) more for everything else.

Levinson's recursion (:class:`cola_core.algorithms.Levinson`) gives ``log|T|`` and the first column ``x`` of
the inverse, and by Gohberg & Semencul (1972)

    x_0 T^{-1} = L(x) L(x)^T - L(z) L(z)^T,     z = (0, x_{n-1}, ..., x_1),

with ``L(v)`` the lower triangular Toeplitz matrix of first column ``v``.  The gradient needs of ``T^{-1}``
only the sums along its diagonals: those of ``L(x) L(x)^T`` are ``sum_l (n - k - l) x_l x_{l+k}``, those of
the second term ``sum_l l x_l x_{l+k}``, so that

    s_k = sum_l (n - k - 2 l) x_l x_{l+k} / x_0,

two correlations, done by FFT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from cola_core import PSD, ops
from cola_core.algorithms import Levinson
from cola_core.cost import Cost
from cola_core.errors import NotPositiveDefiniteError
from cola_core.linalg import solve
from cola_core.plugins import RuleBook

from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..grids import Grid, Regular
from ..kernels.base import Array
from ..noise import GaussianNoise
from .base import Conditioned, blocks, jittered_cholesky
from .dense import DenseConditioned
from .questions import CONDITION, REPRESENT, Inference, Problem, Representation, memory_budget
from .tensors import diagonal_sums

RULES = RuleBook()


def toeplitz_cost(n: int, itemsize: int) -> Cost:
    """The recursion, eight array operations a step, and some FFTs."""
    return Cost(
        flops=8.0 * n * n + 200.0 * n * math.log2(n + 1),
        bytes=8.0 * itemsize * n * n,
        memory=20.0 * itemsize * n,
        calls=8.0 * n + 60,
    )


def is_regular(X: Any) -> bool | str:
    """Whether the inputs are one equally spaced axis, or why not; from their classes alone."""
    if not isinstance(X, Grid):
        return "the inputs are not a Grid"
    if len(X.axes) > 1:
        return f"the grid has {len(X.axes)} axes"
    if not isinstance(X.axes[0], Regular):
        return "the axis is not declared equally spaced (Regular, Regular.of)"
    return True


def regular_column(kernel: Any, axis: Regular) -> tuple[Array, Any]:
    """First column of a stationary kernel's matrix at equally spaced points, and its pullback."""
    lags = Regular(axis.step * 0, axis.step, axis.count).coordinates()
    return kernel.profile(lags[:, None], white=True)  # type: ignore[no-any-return]


def _applies(K: Any, problem: Any, *, alg: Any) -> bool | str:
    regular = is_regular(K.X1)
    if regular is not True:
        return regular
    if not K.kernel.stationary:
        return f"{type(K.kernel).__name__} is not stationary"
    if problem is not None and not isinstance(problem.model.noise, GaussianNoise):
        return f"{type(problem.model.noise).__name__} is not one common noise variance"
    return True


def _cost(K: Any, problem: Any, *, alg: Any) -> Cost:
    return toeplitz_cost(K.shape[0], K.itemsize)


@RULES.rule(
    REPRESENT,
    (CovarianceOperator,),
    id="represent/toeplitz",
    source="Golub & Van Loan, 4th ed., sec. 4.7",
    when=_applies,
    cost=_cost,
)
def represent_toeplitz(K: Any, problem: Any, *, alg: Any) -> Representation:
    """A stationary kernel on one equally spaced axis, by its first column; cotangent: ``w (n,)`` with
    ``dL = sum(w * dcolumn)``."""
    column, pull = regular_column(K.kernel, K.X1.axes[0])
    return Representation(PSD(ops.Toeplitz(column)), pull)


@dataclass(frozen=True)
class ToeplitzInference(Inference):
    """Levinson's recursion: a symmetric Toeplitz prior and noise of one common variance.

    Exact. Time O(n^2), memory O(n); where the recursion breaks down the dense path answers and ``method``
    says so.
    """

    prior: ClassVar[type] = ops.Toeplitz
    represents: ClassVar[str] = "gp:represent/toeplitz"

    def refuses(self, prior: Any, noise: Any, problem: Problem) -> str:
        if not isinstance(problem.model.noise, GaussianNoise):
            return f"{type(problem.model.noise).__name__} is not one common noise variance"
        return ""

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return toeplitz_cost(A.shape[0], A.itemsize)

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        found = ToeplitzConditioned(prior, noise, problem)
        return found if found.sound else _DenseToeplitzConditioned(prior, noise, problem)


RULES.algorithm(CONDITION, ToeplitzInference, name="toeplitz")


def _correlate(a: Array, b: Array) -> Array:
    """``sum_l a_l b_{l+k}`` for ``k = 0, ..., n - 1``, by FFT."""
    xp, n = backend_for(a).xp, a.shape[0]
    length = 1 << (2 * n - 1).bit_length()
    spectrum = xp.conj(xp.fft.rfft(a, n=length)) * xp.fft.rfft(b, n=length)
    return xp.fft.irfft(spectrum, n=length)[:n]


def _count(like: Array, n: int) -> Array:
    """``0, 1, ..., n - 1`` of the library and dtype of ``like``."""
    backend = backend_for(like)
    return backend.asarray(np.arange(n), dtype=like.dtype, device=backend.device(like))


def diagonal_sums_of_inverse(x: Array) -> Array:
    """Sums along the diagonals ``k = 0, ..., n - 1`` of ``T^{-1}``, from its first column ``x (n,)``."""
    n = x.shape[0]
    step = _count(x, n)
    # free of the scale of T, so that nothing overflows
    unit = x / x[0]
    return ((n - step) * _correlate(unit, unit) - 2.0 * _correlate(step * unit, unit)) * x[0]


def diagonal_of_inverse(x: Array) -> Array:
    """The diagonal of ``T^{-1}`` from its first column: ``sum_{l <= i} (x_l^2 - z_l^2) / x_0``."""
    xp, n = backend_for(x).xp, x.shape[0]
    unit = x / x[0]
    z = xp.concat([xp.zeros_like(unit[:1]), xp.flip(unit[1:])])
    half = (n + 1) // 2
    first = xp.cumulative_sum((unit * unit - z * z)[:half]) * x[0]
    return xp.concat([first, xp.flip(first[: n - half])])  # the inverse is symmetric about both diagonals


class ToeplitzConditioned(Conditioned):
    """Inference from the first column of the inverse.

    sound: whether the recursion kept its accuracy; where a leading minor is nearly singular it does not.
    """

    method = "Toeplitz (Levinson)"

    def __init__(self, prior: Any, noise: Any, problem: Problem):
        xp = self._observe(problem)
        self.sound = True
        self.total = total = prior + noise
        try:
            self.factor = Levinson().factor(total)
        except NotPositiveDefiniteError:
            self.sound = False  # the dense path adds jitter and reports it
            return
        solved = self.factor.solve(self.residual[:, None])
        if solved is NotImplemented or not self.factor.sound():
            self.sound = False
            return
        self.alpha = solved[:, 0]
        self.log_det = xp.sum(xp.log(self.factor.ratios))
        if self.backend.is_concrete(self.alpha):
            self.rcond = self.factor.rcond()

    @cached_property
    def _stored(self) -> Array:
        """The Cholesky factor of the stored matrix, for right-hand sides that need its accuracy."""
        L, self.jitter = jittered_cholesky(self.total.to_dense())
        return L

    def _solve(self, B: Array) -> Array:
        solved = self.factor.solve(B)
        if solved is not NotImplemented:
            return solved
        n = self.data.n
        if 3.0 * self.total.itemsize * n * n > memory_budget(None):
            return solve(self.total, B, Levinson())  # warns that accuracy was lost
        return self.backend.cholesky_solve(self._stored, B)

    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        xp = self.backend.xp
        x = self.factor.f
        w = _correlate(self.alpha, self.alpha) - diagonal_sums_of_inverse(x)
        w = xp.concat([0.5 * w[:1], w[1:]])  # every other diagonal occurs twice
        return self._pull(w), 0.5 * (self.alpha**2 - self.inverse_diagonal())

    def inverse_diagonal(self) -> Array:
        return diagonal_of_inverse(self.factor.f)

    def latent_mean(self, X: Array) -> Array:
        xp = self.backend.xp
        parts = [self.model.kernel(X[part], self.points) @ self.alpha for part in blocks(len(X), self.data.n)]
        return xp.concat(parts)

    def explained_variance(self, X: Array) -> Array:
        xp = self.backend.xp
        out = []
        for part in blocks(X.shape[0], self.data.n):
            cross = self.model.kernel(self.points, X[part])
            out.append(xp.sum(cross * self._solve(cross), axis=0))
        return xp.concat(out)

    def explained_covariance(self, X: Array) -> Array:
        cross = self.model.kernel(self.points, X)
        return cross.T @ self._solve(cross)


class _DenseToeplitzConditioned(DenseConditioned):
    """The stored matrix, where the recursion lost its accuracy."""

    method = "dense Cholesky (Levinson's recursion lost its accuracy)"

    def __init__(self, prior: Any, noise: Any, problem: Problem):
        def pull(W: Array) -> tuple[Array, ...]:
            return problem.pull(diagonal_sums(W))  # type: ignore[no-any-return]

        dense = PSD(ops.Dense(prior.to_dense()))
        super().__init__(dense, noise, Problem(problem.model, problem.data, pull))


__all__ = ["RULES", "ToeplitzConditioned", "ToeplitzInference", "is_regular", "regular_column"]
