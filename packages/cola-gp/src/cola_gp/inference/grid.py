r"""Product kernels on a grid: ``K = K_1 ⊗ ... ⊗ K_d + s I`` through the factors' eigenvectors.

With ``K_i = Q_i diag(w_i) Q_i^T`` everything is diagonal in the basis ``Q_1 ⊗ ... ⊗ Q_d`` (Saatci 2011,
chapter 5): O(sum n_i^3 + N sum n_i) for N = prod n_i points, for the value, the gradient and the predictive
variance alike. Arrays over the grid have one axis per grid axis here and are flattened only at the border.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from cola_core import PSD, ops
from cola_core.cost import Cost
from cola_core.errors import NotPositiveDefiniteError
from cola_core.plugins import RuleBook

from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..data import Grid
from ..kernels.base import Array
from ..noise import GaussianNoise
from .base import Conditioned, blocks
from .questions import CONDITION, REPRESENT, Inference, Problem, Representation

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


def _separable(K: Any, problem: Any, *, alg: Any) -> bool | str:
    if not isinstance(K.X1, Grid):
        return "the inputs are not a Grid"
    if len(K.X1.axes) < 2:
        return "the grid has one axis only"
    if K.kernel.axis_factors(K.X1.widths) is None:
        return "the kernel is not a product over the axes"
    if problem is not None and not isinstance(problem.model.noise, GaussianNoise):
        return f"{type(problem.model.noise).__name__} is not one common noise variance"
    return True


def _cost(K: Any, problem: Any, *, alg: Any) -> Cost:
    return grid_cost(K.X1.sizes, K.itemsize)


@RULES.rule(
    REPRESENT,
    (CovarianceOperator,),
    id="represent/kronecker",
    source="Saatci 2011, sec. 5.2",
    when=_separable,
    cost=_cost,
)
def represent_kronecker(K: Any, problem: Any, *, alg: Any) -> Representation:
    """A product kernel on a grid, as the Kronecker product of one matrix per axis; cotangent: one ``W_i (n_i,
    n_i)`` per factor."""
    kernel, grid = K.kernel, K.X1
    factors = kernel.axis_factors(grid.widths)
    parts = [factor.evaluate(places) for factor, places in zip(factors, grid.axis_points(), strict=True)]

    def pull(cotangent: Any) -> tuple[Array, ...]:
        gradients = tuple(back(W) for (_, back), W in zip(parts, cotangent, strict=True))
        return kernel.join_axis_gradients(gradients, grid.widths)  # type: ignore[no-any-return]

    return Representation(PSD(ops.Kronecker(*(PSD(ops.Dense(K_i)) for K_i, _ in parts))), pull)


@dataclass(frozen=True)
class KroneckerInference(Inference):
    """The eigenbasis of a Kronecker product and noise of one common variance."""

    prior: ClassVar[type] = ops.Kronecker
    represents: ClassVar[str] = "gp:represent/kronecker"

    def refuses(self, prior: Any, noise: Any, problem: Problem) -> str:
        if not isinstance(problem.model.noise, GaussianNoise):
            return f"{type(problem.model.noise).__name__} is not one common noise variance"
        return ""

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
        grid = data.X
        self.sizes = grid.sizes
        self.backend = backend_for(data.y)
        xp = self.backend.xp
        self.axes = grid.axis_points()
        self.factors = model.kernel.axis_factors(grid.widths)
        self.matrices = [M.to_dense() for M in prior.Ms]
        pairs = [self.backend.eigh(K) for K in self.matrices]
        # A covariance has no negative eigenvalue: what eigh returns below zero is its rounding error.
        self.values = [xp.where(w > 0, w, xp.zeros_like(w)) for w, _ in pairs]
        self.vectors = [Q for _, Q in pairs]
        spectrum = self._outer(self.values) + model.noise.at_test_points(data.y)
        if self.backend.is_concrete(spectrum) and not bool(xp.all(spectrum > 0)):
            raise NotPositiveDefiniteError(
                "the covariance on the grid is singular; raise the noise variance."
            )
        self.inverse_spectrum = 1.0 / spectrum
        self.residual = data.y - model.mean(grid.points())
        rotated = self._apply([Q.T for Q in self.vectors], xp.reshape(self.residual, self.sizes))
        self.grid_alpha = self._apply(self.vectors, self.inverse_spectrum * rotated)
        self.alpha = xp.reshape(self.grid_alpha, (-1,))
        self.log_det = xp.sum(xp.log(spectrum))

    # -- arrays over the grid ---------------------------------------------------------------------------
    def _outer(self, vectors: list[Array]) -> Array:
        out = vectors[0]
        for v in vectors[1:]:
            out = out[..., None] * v
        return out

    def _along(self, M: Array, T: Array, axis: int) -> Array:
        """Multiply grid axis ``axis`` of ``T`` by the matrix ``M``."""
        xp = self.backend.xp
        return xp.moveaxis(xp.tensordot(M, T, axes=((1,), (axis,))), 0, axis)

    def _apply(self, matrices: list[Array], T: Array, skip: int = -1) -> Array:
        for axis, M in enumerate(matrices):
            if axis != skip:
                T = self._along(M, T, axis)
        return T

    def _unfold(self, T: Array, axis: int) -> Array:
        xp = self.backend.xp
        return xp.reshape(xp.moveaxis(T, axis, 0), (self.sizes[axis], -1))

    # -- the questions ----------------------------------------------------------------------------------
    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        xp = self.backend.xp
        gradients = []
        for i, Q in enumerate(self.vectors):
            # a^T (.. ⊗ dK_i ⊗ ..) a = sum(dK_i * (unfolded a) (the other factors applied to a)^T)
            others = self._apply(self.matrices, self.grid_alpha, skip=i)
            quadratic = self._unfold(self.grid_alpha, i) @ self._unfold(others, i).T
            # tr(K^{-1} (.. ⊗ dK_i ⊗ ..)) = sum_k c_k (Q_i^T dK_i Q_i)_kk
            ones = [xp.ones_like(w) if j == i else w for j, w in enumerate(self.values)]
            c = xp.sum(self._unfold(self.inverse_spectrum * self._outer(ones), i), axis=1)
            gradients.append(0.5 * (0.5 * (quadratic + quadratic.T) - (Q * c) @ Q.T))
        return self._pull(tuple(gradients)), 0.5 * (self.alpha**2 - self.inverse_diagonal())

    def inverse_diagonal(self) -> Array:
        xp = self.backend.xp
        squares = [Q * Q for Q in self.vectors]
        return xp.reshape(self._apply(squares, self.inverse_spectrum), (-1,))

    def _cross(self, X: Array) -> list[Array]:
        """Covariances ``(n_i, m)`` of test points with the coordinates of every axis."""
        return [
            factor(places, X[:, columns])
            for factor, places, columns in zip(self.factors, self.axes, self.data.X.columns, strict=True)
        ]

    def _contract(self, T: Array, columns: list[Array]) -> Array:
        """``sum_grid T[i, j, ..] columns[0][i, m] columns[1][j, m] ..`` for every m."""
        xp = self.backend.xp
        m = columns[0].shape[1]
        out = xp.reshape(columns[0].T @ xp.reshape(T, (self.sizes[0], -1)), (m, *self.sizes[1:]))
        for column in columns[1:]:
            weights = xp.reshape(column.T, (m, column.shape[0], *([1] * (out.ndim - 2))))
            out = xp.sum(out * weights, axis=1)
        return out

    def latent_mean(self, X: Array) -> Array:
        xp = self.backend.xp
        return xp.concat(
            [
                self._contract(self.grid_alpha, self._cross(X[part]))
                for part in blocks(X.shape[0], self.data.n)
            ]
        )

    def explained_variance(self, X: Array) -> Array:
        xp = self.backend.xp
        out = []
        for part in blocks(X.shape[0], self.data.n):
            columns = [(Q.T @ k) ** 2 for Q, k in zip(self.vectors, self._cross(X[part]), strict=True)]
            out.append(self._contract(self.inverse_spectrum, columns))
        return xp.concat(out)

    def explained_covariance(self, X: Array) -> Array:
        xp = self.backend.xp
        m = X.shape[0]
        rotated = [Q.T @ k for Q, k in zip(self.vectors, self._cross(X), strict=True)]
        full = rotated[0]
        for column in rotated[1:]:
            full = xp.reshape(full[:, None, :] * column[None, :, :], (-1, m))
        return full.T @ (xp.reshape(self.inverse_spectrum, (-1, 1)) * full)
