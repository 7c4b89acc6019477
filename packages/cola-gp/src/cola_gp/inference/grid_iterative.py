r"""Grids without an exact way: noise of any independent kind, sums of products over the axes, many missing
values.

With ``K = sum_t K_t1 ⊗ K_t2 ⊗ ..`` on the whole grid of N points and ``h = 1 / sqrt(noise)``, zero where
nothing was observed, everything is asked of

    B = I + diag(h) K diag(h),   log|A| = log|B| - 2 sum log h,   A^{-1} = (diag(h) B^{-1} diag(h))_observed,

whose products cost O(N sum n_i).  B is preconditioned from both sides by the root of

    P = Q (I + mean(h^2) diag(Q^T K Q)) Q^T,

the diagonal of K in a Kronecker eigenbasis Q, exact where there is one term and h is constant.  One block of
Lanczos recurrences on ``M = P^{-1/2} B P^{-1/2}``, from the data and some random vectors, gives the solution,
``tr log M`` by quadrature (Ubaru, Chen & Saad 2017) and the gradient's traces (Gardner et al. 2018); what is
estimated at random are only the differences between B and P (a control variate; Wenger et al. 2022), whose
scatter is reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from cola_core import PSD, ops
from cola_core.algorithms import CG, lanczos_tridiagonal
from cola_core.cost import Cost
from cola_core.errors import MemoryBudgetError
from cola_core.info import Info
from cola_core.linalg import solve
from cola_core.operators import LinearOperator, operator
from cola_core.plugins import RuleBook

from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..data import as_points
from ..grids import Grid, GridSubset
from ..kernels import Sum
from ..kernels.base import Array
from .axis_basis import axis_basis
from .base import Conditioned, blocks
from .grid import axis_cotangent, axis_forms, join_forms, separable
from .observed import ObservedOnGrid
from .questions import CONDITION, REPRESENT, Inference, Problem, Representation
from .tensors import apply, contract, outer, unfold

RULES = RuleBook()
# Largest relative residual of a random vector at which its part of determinant and gradient counts as found:
# the determinant is off by the square of it, the gradient by as much.
PROBE_RESIDUAL = 0.01
PROBES, STEPS, USUAL = 16, 100, 30  # random vectors; steps at most, and usually
MOST_EXACT = 2000  # observations up to which the diagonal of the inverse is computed by solves


@operator
class PreconditionedGrid(LinearOperator):
    """``half (I + diag(h) K diag(h)) half``, positive definite: what the recurrences run on.

    half: ``P^{-1/2}``; K: the covariance on the whole grid; h: ``(N,)``.  Solved by iterations only.
    """

    half: Any
    K: Any
    h: Array

    def _shape(self) -> tuple[int, ...]:
        return self.K.shape  # type: ignore[no-any-return]

    def _properties(self) -> frozenset[Any]:
        return frozenset({PSD})

    def _matmat(self, X: Array) -> Array:
        Y = self.half @ X
        h = self.h[:, None]
        return self.half @ (Y + h * (self.K @ (h * Y)))

    def _rmatmat(self, X: Array) -> Array:
        return self._matmat(X)


def iterative_cost(sizes: tuple[int, ...], terms: int, itemsize: int) -> Cost:
    """Products with the terms and the eigenvectors for every vector of the block, and its basis."""
    total = math.prod(sizes)
    columns = PROBES + 1
    one = 2.0 * total * sum(sizes) * (terms + 4) * columns
    return Cost(
        flops=USUAL * (one + 4.0 * USUAL * total * columns),
        bytes=USUAL * 12.0 * itemsize * total * columns,
        memory=itemsize * total * columns * (2.0 * USUAL + 6.0),
        matvecs=USUAL,
        calls=USUAL * 60,
    )


def _terms(kernel: Any) -> tuple[Any, ...]:
    return kernel.terms if isinstance(kernel, Sum) else (kernel,)


def _grid_of(X: Any) -> Any:
    return X.grid if isinstance(X, GridSubset) else X


def _applies(K: Any, problem: Any, *, alg: Any) -> bool | str:
    grid = _grid_of(K.X1)
    if not isinstance(grid, Grid):
        return "the inputs are not a Grid"
    if len(grid.axes) < 2:
        return "the grid has one axis only"
    if problem is not None and not problem.model.noise.gaussian:
        return f"{type(problem.model.noise).__name__} is not Gaussian"
    for term in _terms(K.kernel):
        if separable(term, grid) is not True:
            return "the kernel is not a sum of products over the axes"
    return True


def _cost(K: Any, problem: Any, *, alg: Any) -> Cost:
    return iterative_cost(_grid_of(K.X1).sizes, len(_terms(K.kernel)), K.itemsize)


@RULES.rule(
    REPRESENT,
    (CovarianceOperator,),
    id="represent/grid-terms",
    source="Saatci 2011, sec. 5.2, term by term",
    when=_applies,
    cost=_cost,
)
def represent_terms(K: Any, problem: Any, *, alg: Any) -> Representation:
    """A sum of products on a grid, complete or not, as a sum of Kronecker products; cotangent: one per term,
    each as for a Kronecker product, or that of the only term."""
    grid = _grid_of(K.X1)
    operators, pulls = [], []
    for term in _terms(K.kernel):
        forms = axis_forms(term, grid)
        operators.append(PSD(ops.Kronecker(*(form.operator for form in forms))))
        pulls.append(join_forms(term, grid, forms))
    base = operators[0] if len(operators) == 1 else PSD(ops.Sum(*operators))

    def pull(cotangent: Any) -> tuple[Array, ...]:
        if len(pulls) == 1:
            return pulls[0](cotangent)  # type: ignore[no-any-return]
        return tuple(g for back, W in zip(pulls, cotangent, strict=True) for g in back(W))

    if isinstance(K.X1, GridSubset):
        return Representation(ObservedOnGrid(base, K.X1.index, K.X1.missing), pull)
    return Representation(base, pull)


def _kronecker_terms(prior: Any) -> tuple[Any, ...] | None:
    """The Kronecker products whose sum a prior is, on a complete grid or not; else None."""
    base = prior.base if isinstance(prior, ObservedOnGrid) else prior
    terms = base.Ms if isinstance(base, ops.Sum) else (base,)
    return terms if all(isinstance(M, ops.Kronecker) for M in terms) else None


@dataclass(frozen=True)
class GridIterativeInference(Inference):
    """Preconditioned Lanczos recurrences on a grid: sums of products, any independent noise, missing values.

    probes: random vectors.  steps: at most.  key: the same gives the same numbers, so that a fit sees a
    smooth function.  tol: relative residual of the solutions; None is 1e-8, or 1e-4 in float32.
    """

    probes: int = PROBES
    steps: int = STEPS
    key: int = 0
    tol: float | None = None
    kind: ClassVar[str] = "stochastic"
    prior: ClassVar[type] = LinearOperator
    represents: ClassVar[str] = "gp:represent/grid-terms"

    def refuses(self, prior: Any, noise: Any, problem: Problem) -> str:
        if not isinstance(prior, (ObservedOnGrid, ops.Kronecker, ops.Sum)):
            return f"the prior is a {type(prior).__name__}, not a sum of Kronecker products on a grid"
        if _kronecker_terms(prior) is None or not isinstance(_grid_of(problem.data.X), Grid):
            return "the prior is not a sum of Kronecker products on a grid"
        if not problem.model.noise.gaussian:
            return f"{type(problem.model.noise).__name__} is not Gaussian"
        return ""

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        terms: Any = _kronecker_terms(A)
        return iterative_cost(tuple(M.shape[-1] for M in terms[0].Ms), len(terms), A.itemsize)

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        return GridIterativeConditioned(prior, noise, problem, self)


RULES.algorithm(CONDITION, GridIterativeInference, name="grid-iterative")


class GridIterativeConditioned(Conditioned):
    """Inference by products with a sum of Kronecker products."""

    method = "iterative on the grid"

    def __init__(self, prior: Any, noise: Any, problem: Problem, alg: GridIterativeInference):
        self.model, self.data = model, data = problem.model, problem.data
        self._pull, self.alg = problem.pull, alg
        self.backend = backend = backend_for(data.y)
        xp = backend.xp
        self.grid = _grid_of(data.X)
        self.sizes, self.n_grid = self.grid.sizes, self.grid.shape[0]
        subset = isinstance(data.X, GridSubset)
        self.index = data.X.index if subset else None
        self.operators: Any = [M.Ms for M in _kronecker_terms(prior) or ()]
        self.matrices = [[M.to_dense() for M in term] for term in self.operators]
        self.residual = data.y - model.mean(as_points(data.X))
        root = 1.0 / xp.sqrt(model.noise.variances(data.y, data.X))
        both = xp.stack([root, root * self.residual], axis=1)
        if subset:
            spread = ObservedOnGrid(
                ops.Identity((self.n_grid, self.n_grid), data.y.dtype), self.index, data.X.missing
            )
            both = spread.fill(both)
        self.h, weighted = both[:, 0], both[:, 1]
        self._precondition()
        probes = self._probes()
        start = xp.concat([self.half @ weighted[:, None], probes], axis=1)
        tol = alg.tol or (1e-8 if data.y.dtype == xp.float64 else 1e-4)
        steps = min(alg.steps, self.n_grid)
        found = lanczos_tridiagonal(self.M, start, steps, tol=tol)
        solutions = found.solve(backend)
        first = solutions[:, :1]
        residual = self._relative(start[:, :1], first)
        if backend.is_concrete(residual) and float(residual) > 10 * tol:
            first = solve(self.M, start[:, :1], CG(tol=tol, x0=first))  # which warns if it misses, too
            residual = self._relative(start[:, :1], first)
        grid_alpha = self.h * (self.half @ first)[:, 0]
        self.grid_alpha = xp.reshape(grid_alpha, self.sizes)
        self.alpha = grid_alpha if self.index is None else grid_alpha[self.index]
        logs = found.quadrature(backend, xp.log)[1:]
        self.log_det = xp.sum(xp.log(self.spectrum)) + xp.mean(logs) - 2.0 * xp.sum(xp.log(root))
        self.U, self.V = self.half @ solutions[:, 1:], self.half @ probes
        scatter = xp.sqrt(xp.sum((logs - xp.mean(logs)) ** 2) / max(1, alg.probes - 1) / alg.probes)
        worst = xp.max(found.residuals(backend))
        concrete = backend.is_concrete(residual, worst)
        solved = concrete and float(residual) <= 10 * tol
        estimated = concrete and float(worst) <= PROBE_RESIDUAL
        reason = "the residual is within tolerance" if solved else "the residual is not within tolerance"
        if solved and not estimated:
            reason = f"the random vectors are not solved for after {steps} steps"
        self.info = Info(
            method=self.method,
            converged=solved and estimated if concrete else None,
            reason=reason if concrete else "",
            iterations=int(found.alpha.shape[0]),
            residual=residual,
            tolerance=tol,
            standard_error=scatter,
        ).concrete(backend)
        if concrete and not estimated:
            self._doubted(
                f"after {steps} steps the residuals of the random vectors on the grid are up to "
                f"{float(worst):.1e}; the likelihood and its gradient may be off by more than the reported "
                "scatter. Raise the noise variance, or use DenseInference() where it fits."
            )

    # -- operators --------------------------------------------------------------------------------------
    def _precondition(self) -> None:
        """Sets spectrum (of P), diagonals (of the factors in the basis), half (P^{-1/2}) and M."""
        backend, xp = self.backend, self.backend.xp
        d = len(self.sizes)
        means = [[xp.mean(xp.linalg.diagonal(K)) for K in term] for term in self.matrices]
        bases = []
        for i in range(d):
            if len(self.matrices) == 1:
                bases.append(axis_basis(self.operators[0][i]).matrix)
                continue
            # every factor weighted by the typical size of what it is multiplied with
            total = 0.0
            for term, mean in zip(self.matrices, means, strict=True):
                weight = xp.ones_like(mean[0])
                for j in range(d):
                    weight = weight * mean[j] if j != i else weight
                total = total + weight * term[i]
            bases.append(backend.eigh(total)[1])
        self.vectors = bases
        self.diagonals = [
            [xp.sum(Q * (K @ Q), axis=0) for K, Q in zip(term, bases, strict=True)] for term in self.matrices
        ]
        self.level = xp.mean(self.h * self.h)
        products = [outer(each) for each in self.diagonals]
        spectrum = 1.0 + self.level * xp.clip(sum(products[1:], products[0]), 0.0, None)
        self.spectrum = xp.reshape(spectrum, (-1,))
        Q = ops.Kronecker(*(ops.Dense(q) for q in bases))
        self.half = Q @ ops.Diagonal(1.0 / xp.sqrt(self.spectrum)) @ Q.H
        terms = [ops.Kronecker(*(ops.Dense(K) for K in term)) for term in self.matrices]
        self.M = PreconditionedGrid(self.half, terms[0] if len(terms) == 1 else ops.Sum(*terms), self.h)

    def _probes(self) -> Array:
        backend = self.backend
        shape = (self.n_grid, self.alg.probes)
        normal = backend.normal(self.alg.key, shape, self.data.y.dtype, backend.device(self.data.y))
        ones = backend.xp.ones_like(normal)
        return backend.xp.where(normal < 0, -ones, ones)

    def _relative(self, b: Array, x: Array) -> Array:
        xp = self.backend.xp
        error = b - self.M @ x
        size = xp.sum(b * b)
        return xp.sqrt(xp.sum(error * error) / xp.where(size > 0, size, xp.ones_like(size)))

    # -- the questions ----------------------------------------------------------------------------------
    def _quadratic(self, t: int, i: int, left: Array, right: Array) -> Array:
        """Of ``sum_k left_k^T (.. ⊗ dK_i ⊗ ..) right_k`` in term t, for arrays over the grid and k."""
        return unfold(left, i) @ unfold(apply(self.matrices[t], right, skip=i), i).T

    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        xp, s = self.backend.xp, self.alg.probes
        shape = (*self.sizes, s)
        inverse = xp.reshape(1.0 / self.spectrum, self.sizes)
        V = xp.reshape(self.V, shape)
        HU, HV = (xp.reshape(self.h[:, None] * X, shape) for X in (self.U, self.V))
        alpha = self.grid_alpha[..., None]
        gradients = []
        for t, term in enumerate(self.operators):
            parts = []
            for i, (M, Q) in enumerate(zip(term, self.vectors, strict=True)):
                others = outer([xp.ones_like(w) if j == i else w for j, w in enumerate(self.diagonals[t])])
                c = xp.sum(unfold(inverse * others, i), axis=1)
                known = self.level * (Q * c) @ Q.T
                guess = self._quadratic(t, i, HU, HV) - self.level * self._quadratic(t, i, V, V)
                W = self._quadratic(t, i, alpha, alpha) - known - guess / s
                parts.append(axis_cotangent(M, 0.25 * (W + W.T)))
            gradients.append(tuple(parts))
        kernel = self._pull(gradients[0] if len(gradients) == 1 else tuple(gradients))
        diagonal = self._estimated_diagonal()
        return kernel, 0.5 * (self.alpha**2 - diagonal)

    def _estimated_diagonal(self) -> Array:
        """``diag(A^{-1})``, its part beyond P by the random vectors."""
        xp = self.backend.xp
        inverse = xp.reshape(1.0 / self.spectrum, self.sizes)
        known = xp.reshape(apply([Q * Q for Q in self.vectors], inverse), (-1,))
        B = known + xp.mean((self.U - self.V) * self.V, axis=1)
        full = self.h * self.h * B
        return full if self.index is None else full[self.index]

    def inverse_diagonal(self) -> Array:
        n = self.data.n
        if n > MOST_EXACT:
            raise MemoryBudgetError(
                f"leave-one-out needs {n} solves on the grid, and is done for up to {MOST_EXACT} "
                "observations; use a held-out set."
            )
        backend, xp = self.backend, self.backend.xp
        out = []
        own = xp.arange(self.n_grid) if self.index is None else self.index
        numbers = xp.arange(self.n_grid, device=backend.device(own))
        for part in blocks(n, 8 * self.n_grid):
            unit = backend.astype(numbers[:, None] == own[None, part], self.data.y.dtype)
            out.append(self._explained(self.h[:, None] * unit))
        return xp.concat(out)

    def _explained(self, weighted: Array) -> Array:
        """``sum(X * B^{-1} X)`` per column."""
        start = self.half @ weighted
        return self.backend.xp.sum(start * solve(self.M, start, CG(tol=self.info.tolerance)), axis=0)

    def _cross(self, X: Array) -> Array:
        """``diag(h) k(grid, X)``, ``(N, m)``."""
        return self.h[:, None] * self.model.kernel(self.grid.points(), X)

    def latent_mean(self, X: Array) -> Array:
        xp, terms = self.backend.xp, _terms(self.model.kernel)
        axes, columns = self.grid.axis_points(), self.grid.columns
        out = []
        for part in blocks(X.shape[0], self.n_grid):
            total: Any = 0.0
            for term in terms:
                factors = zip(term.axis_factors(self.grid.widths), axes, columns, strict=True)
                cross = [factor(places, X[part][:, where]) for factor, places, where in factors]
                total = total + contract(self.grid_alpha, cross)
            out.append(total)
        return xp.concat(out)

    def explained_variance(self, X: Array) -> Array:
        parts = blocks(X.shape[0], 8 * self.n_grid)
        return self.backend.xp.concat([self._explained(self._cross(X[part])) for part in parts])

    def explained_covariance(self, X: Array) -> Array:
        start = self.half @ self._cross(X)
        return start.T @ solve(self.M, start, CG(tol=self.info.tolerance))


__all__ = ["RULES", "GridIterativeConditioned", "GridIterativeInference"]
