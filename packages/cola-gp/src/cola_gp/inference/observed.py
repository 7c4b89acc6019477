r"""Grids on which some values are missing: the points that were observed out of a Kronecker product.

With ``A = K_1 ⊗ ... ⊗ K_d + s I`` on the whole grid, whose eigenbasis is cheap, and ``R`` the block of
``A^{-1}`` at the ``m`` missing points (Schur complements; Horn & Johnson, 2nd ed., sec. 0.8.5),

    log|A_oo| = log|A| + log|R|,
    A_oo^{-1} = (A^{-1} - G G^T)_oo,     G = A^{-1}[:, missing] L^{-T},  R = L L^T,

and ``A^{-1} - G G^T`` vanishes in the rows and columns of the missing points.  So everything is exact, at
O(m^2 N / n_1 + m N sum n_i) beyond the cost of the full grid of N points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cola_core import PSD, ops
from cola_core.backends import backend_of
from cola_core.cost import Cost
from cola_core.linalg import logdet, slogdet, solve
from cola_core.operators import LinearOperator, operator
from cola_core.plugins import RuleBook

from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..data import as_points
from ..grids import GridSubset
from ..kernels.base import Array
from .base import Conditioned, blocks, jittered_cholesky
from .grid import (
    GridBasis,
    axis_cotangent,
    axis_forms,
    axis_noise,
    clipped_variance,
    grid_cost,
    join_forms,
    noise_reason,
    separable,
)
from .questions import CONDITION, REPRESENT, Inference, Problem, Representation, memory_budget
from .tensors import apply, khatri_rao, outer, unfold

RULES = RuleBook()


@operator
class ObservedOnGrid(LinearOperator):
    """``base[index][:, index]`` for an operator ``base (N, N)`` over a grid, never formed.

    index (n,), missing (N - n,): point numbers, of which every one is in one of the two.  PSD where the base
    is.  A product costs one with the base.
    """

    base: Any
    index: Array
    missing: Array

    def _shape(self) -> tuple[int, ...]:
        n = int(self.index.shape[0])
        return (n, n)

    def _properties(self) -> frozenset[Any]:
        return frozenset({PSD}) if self.base.isa(PSD) else frozenset()

    def _matvec_cost(self) -> Cost:
        return self.base.matmat_cost(1) + Cost(bytes=4.0 * self.itemsize * self.base.shape[0], calls=3)  # type: ignore[no-any-return]

    def fill(self, X: Array) -> Array:
        """``X (*batch, n, k)`` at the observed points and zero at the missing ones, ``(*batch, N, k)``."""
        backend: Any = backend_of(X)
        shape = (*X.shape[:-2], self.missing.shape[0], X.shape[-1])
        rows = backend.xp.concat([X, backend.zeros(shape, X.dtype, backend.device(X))], axis=-2)
        order = backend.xp.argsort(backend.xp.concat([self.index, self.missing]))
        return rows[..., order, :]

    def _matmat(self, X: Array) -> Array:
        return self.base._matmat(self.fill(X))[..., self.index, :]

    def _rmatmat(self, X: Array) -> Array:
        return self.base._rmatmat(self.fill(X))[..., self.index, :]


def observed_cost(sizes: tuple[int, ...], missing: int, itemsize: int) -> Cost:
    """The full grid, the block of the inverse at the missing points, and a pass over the grid for each."""
    total = math.prod(sizes)
    extra = Cost(
        flops=2.0 * missing**2 * total / max(sizes) + 10.0 * missing * total * sum(sizes),
        factor=float(missing) ** 3,
        bytes=8.0 * itemsize * missing * total,
        memory=itemsize * (4.0 * missing**2 + 2.0 * missing * total / max(sizes)) + 2.0**27,
        calls=60 + max(sizes) * 6,
    )
    return grid_cost(sizes, itemsize) + extra


def _applies(K: Any, problem: Any, *, alg: Any) -> bool | str:
    if not isinstance(K.X1, GridSubset):
        return "the inputs are not a Grid with missing values"
    if problem is not None and not problem.model.noise.on_axes(K.X1.grid):
        return noise_reason(problem.model.noise)
    answer = separable(K.kernel, K.X1.grid)
    if answer is not True:
        return answer
    held, budget = _cost(K, problem, alg=alg).memory, memory_budget(alg)
    if held > budget:
        return f"needs {held / 2**30:.3g} GiB for the missing points, the budget is {budget / 2**30:.3g} GiB"
    return True


def _cost(K: Any, problem: Any, *, alg: Any) -> Cost:
    return observed_cost(K.X1.grid.sizes, int(K.X1.missing.shape[0]), K.itemsize)


@RULES.rule(
    REPRESENT,
    (CovarianceOperator,),
    id="represent/observed-on-grid",
    source="Saatci 2011, sec. 5.2; Schur complements of the missing points",
    when=_applies,
    cost=_cost,
)
def represent_observed(K: Any, problem: Any, *, alg: Any) -> Representation:
    """A product kernel on a grid with missing values; cotangent: as for the Kronecker product of the whole
    grid, derivatives with respect to the factors."""
    subset = K.X1
    forms = axis_forms(K.kernel, subset.grid)
    base = PSD(ops.Kronecker(*(form.operator for form in forms)))
    return Representation(
        ObservedOnGrid(base, subset.index, subset.missing), join_forms(K.kernel, subset.grid, forms)
    )


@dataclass(frozen=True)
class ObservedInference(Inference):
    """The eigenbasis of the whole grid and a Schur complement for the missing points; one noise variance."""

    prior: ClassVar[type] = ObservedOnGrid
    represents: ClassVar[str] = "gp:represent/observed-on-grid"

    def refuses(self, prior: Any, noise: Any, problem: Problem) -> str:
        if not isinstance(prior.base, ops.Kronecker):
            return (
                f"the covariance of the whole grid is a {type(prior.base).__name__}, not a Kronecker product"
            )
        noise = problem.model.noise
        return "" if noise.on_axes(problem.data.X.grid) else noise_reason(noise)

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        sizes = tuple(M.shape[-1] for M in A.base.Ms)
        return observed_cost(sizes, int(A.missing.shape[0]), A.itemsize)

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        return ObservedConditioned(prior, noise, problem)


RULES.algorithm(CONDITION, ObservedInference, name="observed-on-grid")


class ObservedConditioned(Conditioned):
    """Inference on a grid with missing values."""

    method = "Kronecker eigenbasis, missing points by a Schur complement"

    def __init__(self, prior: Any, noise: Any, problem: Problem):
        self.model, self.data = model, data = problem.model, problem.data
        self._pull = problem.pull
        self.backend = backend_for(data.y)
        xp = self.backend.xp
        self.prior = prior
        common, scales, _ = axis_noise(problem, data.X.grid)
        self.basis = basis = GridBasis(model.kernel, data.X.grid, prior.base.Ms, scales)
        self.inverse_spectrum = 1.0 / basis.spectrum(common)
        self.residual = data.y - model.mean(as_points(data.X))
        self.L, self.jitter = jittered_cholesky(self._missing_block())
        filled = basis.whiten(xp.reshape(prior.fill(self.residual[:, None]), basis.sizes))
        # what whitening multiplies the observed points by
        self.scale = xp.reshape(basis.whiten(xp.ones_like(filled)), (-1,))[prior.index]
        start = self._solve_grid(filled)
        # the values at the missing points that make alpha zero there
        guess = self._missing_rows(start)[:, None]
        half = self.backend.solve_triangular(self.L, guess)
        imputed = -self.backend.solve_triangular(self.L.T, half, lower=False)
        self.grid_alpha = start + self._solve_grid(self._at_missing(imputed)[..., 0])
        self.alpha = self.scale * xp.reshape(self.grid_alpha, (-1,))[prior.index]
        self.log_det = -xp.sum(xp.log(self.inverse_spectrum)) + 2.0 * xp.sum(
            xp.log(xp.linalg.diagonal(self.L))
        )
        if self.scaled:
            self.log_det = self.log_det - 2.0 * xp.sum(xp.log(self.scale))

    @property
    def scaled(self) -> bool:
        """Whether the noise differs along an axis."""
        return any(v is not None for v in self.basis.scales)

    # -- the whole grid ---------------------------------------------------------------------------------
    def _solve_grid(self, T: Array) -> Array:
        Q = self.basis.vectors
        return apply(Q, self.inverse_spectrum * apply([q.T for q in Q], T))

    def _missing_rows(self, T: Array) -> Array:
        """Entries of arrays over the grid (further axes last) at the missing points."""
        xp = self.backend.xp
        d = len(self.basis.sizes)
        return xp.reshape(T, (-1, *T.shape[d:]))[self.prior.missing, ...]

    def _at_missing(self, X: Array) -> Array:
        """``X (m, k)`` at the missing points and zero elsewhere, as an array over the grid and ``k``."""
        backend, prior = self.backend, self.prior
        xp, k = backend.xp, X.shape[1]
        zeros = backend.zeros((prior.index.shape[0], k), X.dtype, backend.device(X))
        order = xp.argsort(xp.concat([prior.index, prior.missing]))
        return xp.reshape(xp.concat([zeros, X])[order, :], (*self.basis.sizes, k))

    def _missing_block(self) -> Array:
        """``R``, the block of ``A^{-1}`` at the missing points, ``(m, m)``."""
        backend, basis = self.backend, self.basis
        xp, sizes = backend.xp, basis.sizes
        m = int(self.prior.missing.shape[0])
        longest = int(np.argmax(sizes))
        places, rest = [], self.prior.missing
        for n in reversed(sizes):
            places.append(rest % n)
            rest = rest // n
        places = places[::-1]
        others = [basis.vectors[i][places[i], :].T for i in range(len(sizes)) if i != longest]
        # V[j, a]: the product of the other axes' eigenvectors j at missing point a
        V = khatri_rao(others) if others else xp.ones((1, m), dtype=self.inverse_spectrum.dtype)
        D = xp.reshape(xp.moveaxis(self.inverse_spectrum, longest, -1), (-1, sizes[longest]))
        Q, own = basis.vectors[longest], places[longest]
        if backend.name != "numpy":
            rows = khatri_rao([V, Q[own, :].T])
            return rows.T @ (xp.reshape(D, (-1, 1)) * rows)
        R = np.empty((m, m), dtype=D.dtype)
        for place in np.unique(own):
            group = np.flatnonzero(own == place)
            weights = (D * Q[place]) @ Q.T  # A^{-1} between this place and all others, per eigenvector j
            R[group] = V[:, group].T @ (V * weights[:, own])
        return 0.5 * (R + R.T)

    def _corrections(self) -> Any:
        """``G`` in the eigenbasis, some columns at a time, as arrays over the grid and the columns."""
        backend, m = self.backend, int(self.prior.missing.shape[0])
        eye = backend.eye(m, self.L.dtype, backend.device(self.L))
        columns = backend.solve_triangular(self.L.T, eye, lower=False)
        Qt = [q.T for q in self.basis.vectors]
        for part in blocks(m, 4 * math.prod(self.basis.sizes)):
            yield self.inverse_spectrum[..., None] * apply(Qt, self._at_missing(columns[:, part]))

    # -- the questions ----------------------------------------------------------------------------------
    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        xp, basis = self.backend.xp, self.basis
        d = len(basis.sizes)
        rotated = apply([q.T for q in basis.vectors], self.grid_alpha)
        others = [
            outer([xp.ones_like(w) if j == i else w for j, w in enumerate(basis.values)]) for i in range(d)
        ]
        inner = []
        for i in range(d):
            c = xp.sum(unfold(self.inverse_spectrum * others[i], i), axis=1)
            quadratic = unfold(rotated, i) @ unfold(others[i] * rotated, i).T
            inner.append(quadratic - self.backend.matrix_diag(c))
        trace = xp.sum(self.inverse_spectrum)
        for G in self._corrections():
            trace = trace - xp.sum(G * G)
            for i in range(d):
                inner[i] = inner[i] + unfold(G, i) @ unfold(others[i][..., None] * G, i).T
        gradients = [
            axis_cotangent(M, 0.5 * (Q @ W @ Q.T))
            if basis.scales[i] is None
            else basis.cotangent(M, i, 0.5 * (Q @ W @ Q.T))
            for i, (M, Q, W) in enumerate(zip(self.prior.base.Ms, basis.vectors, inner, strict=True))
        ]
        if self.scaled:
            return self._pull(tuple(gradients)), 0.5 * (self.alpha**2 - self.inverse_diagonal())
        # With one common variance only the sum of the diagonal counts, so its mean stands for every entry.
        return self._pull(tuple(gradients)), 0.5 * (self.alpha**2 - trace / self.data.n)

    def inverse_diagonal(self) -> Array:
        xp, Q = self.backend.xp, self.basis.vectors
        diagonal = apply([q * q for q in Q], self.inverse_spectrum)
        for G in self._corrections():
            back = apply(Q, G)
            diagonal = diagonal - xp.sum(back * back, axis=-1)
        return self.scale**2 * xp.reshape(diagonal, (-1,))[self.prior.index]

    def latent_mean(self, X: Array) -> Array:
        xp, n = self.backend.xp, math.prod(self.basis.sizes)
        return xp.concat([self.basis.mean(self.grid_alpha, X[part]) for part in blocks(X.shape[0], n)])

    def latent_mean_on(self, grid: Any) -> Array | None:
        cross = self.basis.cross_grid(grid)
        return None if cross is None else self.backend.xp.reshape(apply(cross, self.grid_alpha), (-1,))

    def latent_variance_on(self, grid: Any) -> Array | None:
        cross = self.basis.cross_grid(grid)
        if cross is None or grid.shape[0] < int(self.prior.missing.shape[0]):
            return None  # a pass for every missing point costs more than one for every test point
        xp = self.backend.xp
        rotated = [k @ Q for k, Q in zip(cross, self.basis.vectors, strict=True)]
        explained = apply([k * k for k in rotated], self.inverse_spectrum)
        for G in self._corrections():
            back = apply(rotated, G)
            explained = explained - xp.sum(back * back, axis=-1)
        return clipped_variance(self.model.kernel, grid, explained)

    def _parts(self, X: Array) -> tuple[Array, Array]:
        """Test covariances in the eigenbasis ``(N, t)``; what the missing points take back, ``(m, t)``."""
        xp, sizes = self.backend.xp, self.basis.sizes
        rotated = khatri_rao(self.basis.rotated_cross(X))
        weighted = xp.reshape(self.inverse_spectrum, (-1, 1)) * rotated
        back = apply(self.basis.vectors, xp.reshape(weighted, (*sizes, X.shape[0])))
        return rotated, self.backend.solve_triangular(self.L, self._missing_rows(back))

    def explained_variance(self, X: Array) -> Array:
        xp = self.backend.xp
        D, out = xp.reshape(self.inverse_spectrum, (-1, 1)), []
        for part in blocks(X.shape[0], 4 * math.prod(self.basis.sizes)):
            rotated, half = self._parts(X[part])
            out.append(xp.sum(D * rotated * rotated, axis=0) - xp.sum(half * half, axis=0))
        return xp.concat(out)

    def explained_covariance(self, X: Array) -> Array:
        rotated, half = self._parts(X)
        D = self.backend.xp.reshape(self.inverse_spectrum, (-1, 1))
        return rotated.T @ (D * rotated) - half.T @ half


# -- the core's questions of the covariance with noise ------------------------------------------------------


def _split(A: Any) -> tuple[Any, Any] | None:
    """The operator on the grid and the multiple of the identity in ``A``, if that is what it is."""
    observed = [M for M in A.Ms if isinstance(M, ObservedOnGrid)]
    noise = [M for M in A.Ms if isinstance(M, ops.ScalarMul)]
    if len(A.Ms) != 2 or len(observed) != 1 or len(noise) != 1:
        return None
    return observed[0], noise[0]


def _shifted(A: Any, *operands: Any, alg: Any) -> bool | str:
    parts = _split(A)
    if parts is None:
        return "not points of a grid plus a multiple of the identity"
    n, missing = parts[0].base.shape[-1], int(parts[0].missing.shape[0])
    size, budget = 3.0 * A.itemsize * n * missing, memory_budget(alg)
    if size > budget:
        return f"needs {size / 2**30:.3g} GiB for the missing points, the budget is {budget / 2**30:.3g} GiB"
    return True


def _whole(A: Any) -> tuple[Any, Any, Any]:
    """The covariance of the whole grid, its inverse's columns and its block at the missing points."""
    observed, noise = _split(A)  # type: ignore[misc]
    grid = observed.base + PSD(ops.ScalarMul(noise.c, observed.base.shape[-1]))
    backend: Any = backend_of(observed.missing)
    n, m = observed.base.shape[-1], int(observed.missing.shape[0])
    numbers = backend.xp.arange(n, device=backend.device(observed.missing))
    columns = backend.astype(numbers[:, None] == observed.missing[None, :], A.dtype)
    B = solve(grid, columns) if m else columns
    return grid, B, B[observed.missing, :]


@RULES.rule(
    solve,
    (ops.Sum,),
    id="solve/observed-on-grid",
    source="Schur complement of the missing points",
    when=_shifted,
    precedence=1,
)
def solve_observed(A: Any, b: Array, *, alg: Any) -> Array:
    observed, _ = _split(A)  # type: ignore[misc]
    grid, B, R = _whole(A)
    vector = b.ndim == 1
    full = solve(grid, observed.fill(b[:, None] if vector else b))
    if observed.missing.shape[0]:
        full = full - B @ solve(PSD(ops.Dense(0.5 * (R + R.T))), full[observed.missing, :])
    out = full[observed.index, :]
    return out[:, 0] if vector else out


@RULES.rule(
    slogdet,
    (ops.Sum,),
    id="slogdet/observed-on-grid",
    source="Schur complement of the missing points",
    when=_shifted,
    precedence=1,
)
def slogdet_observed(A: Any, *, alg: Any) -> Any:
    grid, _, R = _whole(A)
    value = logdet(grid)
    if R.shape[0]:
        value = value + logdet(PSD(ops.Dense(0.5 * (R + R.T))))
    return backend_for(value).xp.ones_like(value), value


__all__ = ["RULES", "ObservedConditioned", "ObservedInference", "ObservedOnGrid"]
