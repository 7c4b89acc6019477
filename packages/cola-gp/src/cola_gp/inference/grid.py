r"""Product kernels on a grid: ``K = K_1 ⊗ ... ⊗ K_d + s I`` through the factors' eigenvectors.

With ``K_i = Q_i diag(w_i) Q_i^T`` everything is diagonal in the basis ``Q_1 ⊗ ... ⊗ Q_d`` (Saatci 2011,
chapter 5): O(sum n_i^3 + N sum n_i) for N = prod n_i points, for the value, the gradient and the predictive
variance alike. Arrays over the grid have one axis per grid axis here and are flattened only at the border.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from cola_core import PSD, ops
from cola_core.cost import Cost
from cola_core.errors import NotPositiveDefiniteError
from cola_core.plugins import RuleBook

from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..data import as_points
from ..grids import Grid, Regular
from ..kernels.base import Array
from ..means import ZeroMean
from .axis_basis import axis_basis
from .base import LOG_2PI, Conditioned, blocks
from .questions import CONDITION, REPRESENT, Inference, Problem, Representation
from .tensors import apply, contract, diagonal_sums, khatri_rao, outer
from .toeplitz import regular_column

RULES = RuleBook()


def grid_cost(sizes: tuple[int, ...], itemsize: int) -> Cost:
    """Eigendecompositions of the factors and a few sweeps over the grid."""
    total = math.prod(sizes)
    return Cost(
        flops=8.0 * total * sum(sizes),
        eigen=9.0 * sum(float(n) ** 3 for n in sizes),
        memory=6.0 * itemsize * (total + sum(n * n for n in sizes)),
        calls=10 * len(sizes),
    )


def noise_reason(noise: Any) -> str:
    """Why the eigenbasis of the grid does not serve for this noise."""
    return f"{type(noise).__name__} is neither one common noise variance nor one per place on an axis"


def separable(kernel: Any, grid: Any) -> bool | str:
    """Whether ``kernel`` is a product over the axes of ``grid``, or why not."""
    if kernel.axis_factors(grid.widths) is None:
        return "the kernel is not a product over the axes"
    return True


def axis_forms(kernel: Any, grid: Grid) -> list[Representation]:
    """One PSD operator per axis for a separable kernel: Toeplitz where the axis is equally spaced and the
    factor stationary (cotangent: ``w (n_i,)`` of its first column), else a stored matrix (``W (n_i, n_i)``).
    """
    forms = []
    factors = kernel.axis_factors(grid.widths)
    for factor, axis, places in zip(factors, grid.axes, grid.axis_points(), strict=True):
        if isinstance(axis, Regular) and axis.count > 1 and factor.stationary:
            column, pull = regular_column(factor, axis)
            forms.append(Representation(PSD(ops.Toeplitz(column)), pull))
        else:
            K, pull = factor.evaluate(places)
            forms.append(Representation(PSD(ops.Dense(K)), pull))
    return forms


def join_forms(kernel: Any, grid: Grid, forms: list[Representation]) -> Any:
    """Maps one cotangent per axis to the derivatives of the kernel's leaves."""

    def pull(cotangent: Any) -> tuple[Array, ...]:
        gradients = tuple(form.pull(W) for form, W in zip(forms, cotangent, strict=True))
        return kernel.join_axis_gradients(gradients, grid.widths)  # type: ignore[no-any-return]

    return pull


def axis_cotangent(operator: Any, W: Array) -> Array:
    """The matrix cotangent ``W`` of a factor in the form that its class expects."""
    return diagonal_sums(W) if isinstance(operator, ops.Toeplitz) else W


def _applies(K: Any, problem: Any, *, alg: Any) -> bool | str:
    if not isinstance(K.X1, Grid):
        return "the inputs are not a Grid"
    if len(K.X1.axes) < 2:
        return "the grid has one axis only"
    if problem is not None and not problem.model.noise.on_axes(K.X1):
        return noise_reason(problem.model.noise)
    return separable(K.kernel, K.X1)


def _cost(K: Any, problem: Any, *, alg: Any) -> Cost:
    return grid_cost(K.X1.sizes, K.itemsize)


@RULES.rule(
    REPRESENT,
    (CovarianceOperator,),
    id="represent/kronecker",
    source="Saatci 2011, sec. 5.2",
    when=_applies,
    cost=_cost,
)
def represent_kronecker(K: Any, problem: Any, *, alg: Any) -> Representation:
    """A product kernel on a grid, as the Kronecker product of one operator per axis; cotangent: one per
    factor, ``W_i (n_i, n_i)`` for a stored matrix, ``w_i (n_i,)`` of the first column for Toeplitz."""
    forms = axis_forms(K.kernel, K.X1)
    operator = PSD(ops.Kronecker(*(form.operator for form in forms)))
    return Representation(operator, join_forms(K.kernel, K.X1, forms))


def clipped_variance(kernel: Any, grid: Grid, explained: Array) -> Array:
    """Prior variance at the points of ``grid`` less what is explained (over the grid), never below zero."""
    xp = backend_for(explained).xp
    variance = kernel.cross_diag(grid.points()) - xp.reshape(explained, (-1,))
    return xp.where(variance > 0, variance, xp.zeros_like(variance))


def scaled(operator: Any, v: Array | None) -> Any:
    """``diag(v) M diag(v)`` as a stored matrix; M itself without scales."""
    return operator if v is None else PSD(ops.Dense(v[:, None] * operator.to_dense() * v))


def axis_noise(problem: Problem, grid: Grid) -> tuple[Array, tuple[Array | None, ...], Array]:
    """A common noise variance, the scales of the axes that make the noise common, and the sum of the
    logarithms of the noise that they take out, over the grid."""
    common, each = problem.model.noise.axis_variances(grid, problem.data.y)
    xp = backend_for(common).xp
    total: Array = xp.zeros_like(common)
    for n, v in zip(grid.sizes, each, strict=True):
        if v is not None:
            total = total + xp.sum(xp.log(v)) * (math.prod(grid.sizes) // n)
    return common, tuple(None if v is None else 1.0 / xp.sqrt(v) for v in each), total


class GridBasis:
    """The eigenvectors of one PSD factor per axis of a grid, and test points seen in them.

    sizes: of the grid.  values, vectors: eigenpairs, per axis.  scales: None or a vector per axis that
    multiplies its factor from both sides: noise that differs between the places of an axis is brought to one
    by the inverse of its root.  Test covariances are scaled alike, cotangents back.
    """

    def __init__(self, kernel: Any, grid: Grid, operators: Any, scales: Any = None):
        self.scales = scales or tuple(None for _ in operators)
        self.sizes, self.widths, self.columns = grid.sizes, grid.widths, grid.columns
        self.axes, self.factors = grid.axis_points(), kernel.axis_factors(grid.widths)
        self.bases = [axis_basis(scaled(M, v)) for M, v in zip(operators, self.scales, strict=True)]
        self.values = [basis.values for basis in self.bases]

    @cached_property
    def vectors(self) -> list[Array]:
        """The eigenvectors ``(n_i, n_i)``, per axis."""
        return [basis.matrix for basis in self.bases]

    def rotate(self, T: Array) -> Array:
        """Coefficients of ``T`` over the grid (further axes last) in the eigenbasis."""
        for axis, basis in enumerate(self.bases):
            T = basis.rotate(T, axis)
        return T

    def restore(self, T: Array) -> Array:
        """The inverse of :meth:`rotate`."""
        for axis, basis in enumerate(self.bases):
            T = basis.restore(T, axis)
        return T

    def others(self, i: int) -> Array:
        """Products of the other axes' eigenvalues, over the grid."""
        xp = backend_for(self.values[i]).xp
        return outer([xp.ones_like(w) if j == i else w for j, w in enumerate(self.values)])

    def spectrum(self, noise: Array) -> Array:
        """Eigenvalues of the Kronecker product plus ``noise``, over the grid."""
        spectrum = outer(self.values) + noise
        backend = backend_for(spectrum)
        if backend.is_concrete(spectrum) and not bool(backend.xp.all(spectrum > 0)):
            raise NotPositiveDefiniteError(
                "the covariance on the grid is singular; raise the noise variance."
            )
        return spectrum

    def cross(self, X: Array) -> list[Array]:
        """Covariances ``(n_i, m)`` of test points ``X (m, d)`` with the places on every axis."""
        parts = zip(self.factors, self.axes, self.columns, self.scales, strict=True)
        return [
            factor(places, X[:, columns]) if v is None else v[:, None] * factor(places, X[:, columns])
            for factor, places, columns, v in parts
        ]

    def rotated_cross(self, X: Array) -> list[Array]:
        """:meth:`cross` in the eigenbasis."""
        return [Q.T @ k for Q, k in zip(self.vectors, self.cross(X), strict=True)]

    def cross_grid(self, grid: Grid) -> list[Array] | None:
        """Per axis, the covariances ``(m_i, n_i)`` of a test grid's places with those of this grid; None if
        its axes hold other dimensions."""
        if grid.widths != self.widths:
            return None
        parts = zip(self.factors, grid.axis_points(), self.axes, self.scales, strict=True)
        return [
            factor(test, places) if v is None else factor(test, places) * v
            for factor, test, places, v in parts
        ]

    def whiten(self, T: Array) -> Array:
        """``T`` over the grid times the scales of its axes."""
        for axis, v in enumerate(self.scales):
            if v is not None:
                shape = [1] * T.ndim
                shape[axis] = v.shape[0]
                T = T * backend_for(T).xp.reshape(v, tuple(shape))
        return T

    def cotangent(self, operator: Any, i: int, W: Array) -> Array:
        """The cotangent ``W`` of the scaled factor i (a matrix where it is scaled), of the factor itself."""
        v = self.scales[i]
        return W if v is None else axis_cotangent(operator, v[:, None] * W * v)

    def mean(self, alpha: Array, X: Array) -> Array:
        """``K_* alpha`` at ``X`` for ``alpha`` over the grid."""
        return contract(alpha, self.cross(X))


@dataclass(frozen=True)
class KroneckerInference(Inference):
    """The eigenbasis of a Kronecker product, for noise of one common variance or one per place of an axis.

    Exact. Time O(sum n_i^3 + N sum n_i) and memory O(N + sum n_i^2) for N points on axes of n_i.
    """

    prior: ClassVar[type] = ops.Kronecker
    represents: ClassVar[str] = "gp:represent/kronecker"

    def refuses(self, prior: Any, noise: Any, problem: Problem) -> str:
        return "" if problem.model.noise.on_axes(problem.data.X) else noise_reason(problem.model.noise)

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return grid_cost(tuple(M.shape[-1] for M in A.Ms), A.itemsize)

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        return KroneckerConditioned(prior, noise, problem)


RULES.algorithm(CONDITION, KroneckerInference, name="kronecker")


class KroneckerConditioned(Conditioned):
    """Inference in the Kronecker eigenbasis."""

    method = "Kronecker eigenbasis"

    def __init__(self, prior: Any, noise: Any, problem: Problem):
        self.model, self.data = model, data = problem.model, problem.data
        self._pull = problem.pull
        self.backend = backend_for(data.y)
        xp = self.backend.xp
        self.operators = prior.Ms
        common, scales, log_scale = axis_noise(problem, data.X)
        self.basis = basis = GridBasis(model.kernel, data.X, prior.Ms, scales)
        spectrum = basis.spectrum(common)
        self.inverse_spectrum = 1.0 / spectrum
        # the points of a large grid are not written out for nothing
        zero = isinstance(model.mean, ZeroMean)
        self.residual = data.y if zero else data.y - model.mean(as_points(data.X))
        rotated = basis.rotate(basis.whiten(xp.reshape(self.residual, basis.sizes)))
        self.rotated_alpha = self.inverse_spectrum * rotated
        self.quadratic = xp.sum(rotated * self.rotated_alpha)
        self.log_det = xp.sum(xp.log(spectrum)) + log_scale

    @cached_property
    def grid_alpha(self) -> Array:
        """``alpha`` over the grid, before the scales; a fit with mean zero does not need it."""
        return self.basis.restore(self.rotated_alpha)

    @cached_property
    def alpha(self) -> Array:  # type: ignore[override]
        return self.backend.xp.reshape(self.basis.whiten(self.grid_alpha), (-1,))

    def gradient(self) -> tuple[Array, ...]:
        if not isinstance(self.model.mean, ZeroMean):
            return super().gradient()
        kernel, noise_diagonal = self._covariance_gradient()
        return self.rejoin((*kernel, *self.model.noise.pullback(noise_diagonal, self.data.X)))

    def log_marginal_likelihood(self) -> Array:
        return -0.5 * (self.quadratic + self.log_det + self.data.n * LOG_2PI)

    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        xp, b = self.backend.xp, self.rotated_alpha
        gradients = []
        for i, basis in enumerate(self.basis.bases):
            # With b = Q^T a on the grid, a^T (.. ⊗ dK_i ⊗ ..) a is b, unfolded, times Q_i^T dK_i Q_i times b
            # with the other factors' eigenvalues; and
            # tr(K^{-1} (.. ⊗ dK_i ⊗ ..)) = sum_k c_k (Q_i^T dK_i Q_i)_kk.
            others = self.basis.others(i)
            c = xp.sum(self.inverse_spectrum * others, axis=tuple(j for j in range(b.ndim) if j != i))
            W = 0.5 * basis.cotangent(b, others * b, c, i)
            gradients.append(self.basis.cotangent(self.operators[i], i, W))
        if any(v is not None for v in self.basis.scales):
            return self._pull(tuple(gradients)), 0.5 * (self.alpha**2 - self.inverse_diagonal())
        # With one common variance only the sum of the diagonal counts, so its mean stands for every entry.
        mean = 0.5 * (xp.mean(b * b) - xp.mean(self.inverse_spectrum))
        return self._pull(tuple(gradients)), mean * xp.ones_like(self.residual)

    def inverse_diagonal(self) -> Array:
        xp = self.backend.xp
        squares = [Q * Q for Q in self.basis.vectors]
        diagonal = apply(squares, self.inverse_spectrum)
        return xp.reshape(self.basis.whiten(self.basis.whiten(diagonal)), (-1,))

    def latent_mean(self, X: Array) -> Array:
        parts = [self.basis.mean(self.grid_alpha, X[part]) for part in blocks(X.shape[0], self.data.n)]
        return self.backend.xp.concat(parts)

    def latent_mean_on(self, grid: Any) -> Array | None:
        cross = self.basis.cross_grid(grid)
        return None if cross is None else self.backend.xp.reshape(apply(cross, self.grid_alpha), (-1,))

    def latent_variance_on(self, grid: Any) -> Array | None:
        cross = self.basis.cross_grid(grid)
        if cross is None:
            return None
        squares = [(k @ Q) ** 2 for k, Q in zip(cross, self.basis.vectors, strict=True)]
        return clipped_variance(self.model.kernel, grid, apply(squares, self.inverse_spectrum))

    def explained_variance(self, X: Array) -> Array:
        out = []
        for part in blocks(X.shape[0], self.data.n):
            squares = [k**2 for k in self.basis.rotated_cross(X[part])]
            out.append(contract(self.inverse_spectrum, squares))
        return self.backend.xp.concat(out)

    def explained_covariance(self, X: Array) -> Array:
        xp = self.backend.xp
        full = khatri_rao(self.basis.rotated_cross(X))
        return full.T @ (xp.reshape(self.inverse_spectrum, (-1, 1)) * full)
