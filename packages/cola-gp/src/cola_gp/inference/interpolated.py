r"""Structured kernel interpolation, exactly: ``A = W K W^T + D`` with N grid points, n data, sparse ``W`` and
diagonal ``D``.

With ``K = Q Λ Q^T`` on the grid and ``G = W^T D^{-1} W``, everything happens in the N eigenvectors (Woodbury;
Rasmussen & Williams 2006, A.9):

    B = I + Λ^{1/2} Q^T G Q Λ^{1/2},   log|A| = log|D| + log|B|,
    C = Q Λ^{1/2} B^{-1} Λ^{1/2} Q^T,

where ``C`` is the covariance of the grid values given the data, so predictions are sums of squares and K may
be singular.  The data enter by ``G`` and ``W^T D^{-1} y`` alone: O(n p^2 + N^3), p weights per point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from cola_core import PSD, ops
from cola_core.cost import Cost
from cola_core.plugins import RuleBook

from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..data import as_points
from ..kernels.base import Array
from ..kernels.ski import SKI, interpolated_diagonal, weight_matrix
from .base import Conditioned, blocks, jittered_cholesky, reciprocal_condition
from .grid import GridBasis, axis_cotangent, axis_forms, join_forms, separable
from .questions import CONDITION, REPRESENT, Inference, Problem, Representation, memory_budget
from .tensors import outer

RULES = RuleBook()


def interpolated_cost(n: int, p: int, count: int, itemsize: int) -> Cost:
    """One pass over the weights' squares and a few factorisations and products of N x N matrices."""
    return Cost(
        flops=8.0 * float(count) ** 3 + 4.0 * n * p * p,
        factor=float(count) ** 3,
        bytes=4.0 * itemsize * n * p * p + 60.0 * itemsize * count**2,
        memory=6.0 * itemsize * count**2 + 3.0 * itemsize * n * p,
        calls=60.0 + 4 * p,
    )


def _applies(K: Any, problem: Any, *, alg: Any) -> bool | str:
    if not isinstance(K.kernel, SKI):
        return "the kernel is not SKI"
    if problem is not None and not problem.model.noise.gaussian:
        return f"{type(problem.model.noise).__name__} is not Gaussian"
    answer = separable(K.kernel.kernel, K.kernel.grid)
    if answer is not True:
        return answer
    held, budget = _cost(K, problem, alg=alg).memory, memory_budget(alg)
    if held > budget:
        return f"needs {held / 2**30:.3g} GiB for the grid of SKI, the budget is {budget / 2**30:.3g} GiB"
    return True


def _weights_per_point(kernel: SKI) -> int:
    return int((4 if kernel.order == "cubic" else 2) ** len(kernel.grid.axes))


def _cost(K: Any, problem: Any, *, alg: Any) -> Cost:
    return interpolated_cost(
        K.shape[0], _weights_per_point(K.kernel), math.prod(K.kernel.grid.sizes), K.itemsize
    )


@RULES.rule(
    REPRESENT,
    (CovarianceOperator,),
    id="represent/interpolated",
    source="Wilson & Nickisch 2015, eq. 8",
    when=_applies,
    cost=_cost,
)
def represent_interpolated(K: Any, problem: Any, *, alg: Any) -> Representation:
    """A kernel interpolated from a grid as ``W (K_1 ⊗ K_2 ⊗ ..) W^T``; cotangent: one per factor, as for a
    Kronecker product."""
    kernel, X = K.kernel, as_points(K.X1)
    grid = kernel.grid_like(X)
    forms = axis_forms(kernel.kernel, grid)
    base = forms[0].operator if len(forms) == 1 else PSD(ops.Kronecker(*(form.operator for form in forms)))
    inner = join_forms(kernel.kernel, grid, forms)

    def pull(cotangent: Any) -> tuple[Array, ...]:
        zero = backend_for(X).xp.zeros_like(X[0, 0])
        return (*inner(cotangent), *(zero for _ in range(2 * len(grid.axes))))

    return Representation(ops.Interpolated(base, *kernel.weights(X)), pull)


@dataclass(frozen=True)
class InterpolatedInference(Inference):
    """Structured kernel interpolation in the eigenvectors of its grid, with any independent noise."""

    prior: ClassVar[type] = ops.Interpolated
    represents: ClassVar[str] = "gp:represent/interpolated"

    def refuses(self, prior: Any, noise: Any, problem: Problem) -> str:
        if not problem.model.noise.gaussian:
            return f"{type(problem.model.noise).__name__} is not Gaussian"
        return "" if isinstance(problem.model.kernel, SKI) else "the kernel is not SKI"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return interpolated_cost(A.shape[0], A.left_weights.shape[-1], A.base.shape[0], A.itemsize)

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        return InterpolatedConditioned(prior, noise, problem)


RULES.algorithm(CONDITION, InterpolatedInference, name="interpolated")


class InterpolatedConditioned(Conditioned):
    """Inference on the values at the points of SKI's grid."""

    method = "structured kernel interpolation (Woodbury on the grid)"

    def __init__(self, prior: Any, noise: Any, problem: Problem):
        self.model, self.data = model, data = problem.model, problem.data
        self._pull = problem.pull
        self.backend = backend_for(data.y)
        xp = self.backend.xp
        self.kernel = model.kernel
        grid = self.kernel.grid_like(as_points(data.X))
        self.operators = prior.base.Ms if isinstance(prior.base, ops.Kronecker) else (prior.base,)
        self.basis = basis = GridBasis(self.kernel.kernel, grid, self.operators)
        self.index, self.weights = prior.left_index, prior.left_weights
        self.noise = model.noise.variances(data.y, data.X)
        self.residual = data.y - model.mean(as_points(data.X))
        W = weight_matrix(self.index, self.weights, grid.shape[0])
        scaled = W.T * (1.0 / self.noise)[None, :]
        G = scaled @ W
        self.root = xp.sqrt(xp.reshape(outer(basis.values), (-1,)))
        # Q^T G Q: rotate the rows, then the columns
        half = self._rotate(G.toarray() if self.backend.name == "numpy" else G)
        self.rotated = self._rotate(half.T)
        self.rotated = 0.5 * (self.rotated + self.rotated.T)
        inner = self.root[:, None] * self.rotated * self.root[None, :]
        B = self.backend.add_diagonal(inner, xp.ones_like(self.root))
        self.L, self.jitter = jittered_cholesky(B)
        self.rcond = reciprocal_condition(self.L)
        self.projected = self._rotate((scaled @ self.residual)[:, None])[:, 0]
        lower = self.backend.solve_triangular(self.L, (self.root * self.projected)[:, None])
        solved = self.backend.solve_triangular(self.L.T, lower, lower=False)[:, 0]
        self.coefficients = self.root * solved  # of the grid's posterior mean, in the eigenvectors
        self.grid_mean = self._restore(self.coefficients[:, None])[:, 0]
        self.alpha = (self.residual - W @ self.grid_mean) / self.noise
        self.log_det = xp.sum(xp.log(self.noise)) + 2.0 * xp.sum(xp.log(xp.linalg.diagonal(self.L)))

    def _rotate(self, X: Array) -> Array:
        xp, sizes = self.backend.xp, self.basis.sizes
        return xp.reshape(self.basis.rotate(xp.reshape(X, (*sizes, X.shape[1]))), tuple(X.shape))

    def _restore(self, X: Array) -> Array:
        xp, sizes = self.backend.xp, self.basis.sizes
        return xp.reshape(self.basis.restore(xp.reshape(X, (*sizes, X.shape[1]))), tuple(X.shape))

    @cached_property
    def grid_covariance(self) -> Array:
        """``C``, the covariance of the values on the grid given the data, ``(N, N)``."""
        half = self.backend.solve_triangular(self.L, self.backend.matrix_diag(self.root))
        rows = self._restore(half.T)  # Q Λ^{1/2} L^{-T}
        return rows @ rows.T

    # -- the questions ----------------------------------------------------------------------------------
    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        xp, basis, sizes = self.backend.xp, self.basis, self.basis.sizes
        # W^T A^{-1} W and W^T alpha, both in the eigenvectors
        S = self.backend.solve_triangular(self.L, self.root[:, None] * self.rotated)
        a = self.projected - self.rotated @ self.coefficients
        M = 0.5 * (a[:, None] * a[None, :] - (self.rotated - S.T @ S))
        gradients = []
        for i, (operator, Q) in enumerate(zip(self.operators, basis.vectors, strict=True)):
            others = [w for j, w in enumerate(basis.values) if j != i]
            # rows and columns as (before, n_i, after); the other axes' eigenvalues weigh the diagonal
            before, after = math.prod(sizes[:i]), math.prod(sizes[i + 1 :])
            weights = xp.reshape(outer(others), (before, after)) if others else xp.ones_like(M[:1, :1])
            T = xp.reshape(M, (before, sizes[i], after, before, sizes[i], after))
            inner = xp.zeros_like(M[: sizes[i], : sizes[i]])
            for u in range(before):
                for v in range(after):
                    inner = inner + weights[u, v] * T[u, :, v, u, :, v]
            gradients.append(axis_cotangent(operator, Q @ inner @ Q.T))
        return self._pull(tuple(gradients)), 0.5 * (self.alpha**2 - self.inverse_diagonal())

    def inverse_diagonal(self) -> Array:
        taken = interpolated_diagonal(self.grid_covariance, self.index, self.weights)
        return (1.0 - taken / self.noise) / self.noise

    def latent_mean(self, X: Array) -> Array:
        index, weights = self.kernel.weights(X)
        return self.backend.xp.sum(weights * self.grid_mean[index], axis=1)

    def latent_variance(self, X: Array) -> Array:
        parts = blocks(X.shape[0], int(self.weights.shape[1]) ** 2)
        C = self.grid_covariance
        found = [interpolated_diagonal(C, *self.kernel.weights(X[part])) for part in parts]
        variance = self.backend.xp.concat(found)
        return self.backend.xp.where(variance > 0, variance, self.backend.xp.zeros_like(variance))

    def latent_covariance(self, X: Array) -> Array:
        W = self.kernel.matrix(X)
        return W @ (W @ self.grid_covariance).T

    def explained_variance(self, X: Array) -> Array:
        return self.kernel.cross_diag(X) - self.latent_variance(X)

    def explained_covariance(self, X: Array) -> Array:
        return self.kernel(X, X) - self.latent_covariance(X)


__all__ = ["RULES", "InterpolatedConditioned", "InterpolatedInference"]
