r"""Draws of whole functions from a prior and from a posterior.

By Matheron's rule a draw of the posterior is a draw of the prior plus an update (Wilson, Borovitskiy,
Terenin, Mostowsky & Deisenroth 2020, Efficiently sampling functions from Gaussian process posteriors, eq.
9):

.. math:: f(\cdot) + k(\cdot, X) (K + D)^{-1} (y - f(X) - \varepsilon), \quad \varepsilon \sim N(0, D).

The solve is with the covariance of the observations, so it has whatever structure inference has. The
prior's draw is

* exact, where the kernel has finite rank (weights times features) or where the covariance of training and
  test points together has structure (a grid, a time series), through the core's ``sample``;
* else by random Fourier features, whose error is estimated: it is that of the prior, and near data the
  update takes most of it away.

With inducing points the update goes through their values ``u ~ q(u)`` instead: ``f + k(., Z) (K_ZZ +
nugget)^{-1} (u - f(Z) - noise of the nugget)``.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from cola_core import PSD, ops
from cola_core.algorithms import Auto
from cola_core.errors import ConvergenceWarning, NotPositiveDefiniteError
from cola_core.linalg import sample

from .arrays import backend_for
from .checks import whole_count
from .covariance import CovarianceOperator
from .data import Data, Grid, as_inputs, as_points
from .grids import GridSubset
from .inference import represent
from .inference.base import Conditioned
from .inference.inducing import InducingConditioned
from .kernels import ActiveDims, Deep, Inducing, Kernel, Product, Scale, Sum, White
from .kernels.base import Array
from .kernels.nystrom import contains
from .kernels.prior_features import PriorFeatures
from .model import GP

FEATURES = 512  # frequencies per product of stationary kernels
SETS = 64  # independent sets of frequencies at most: one for every draw, if there are no more draws
TOLERANCE = 0.05  # of the prior's covariance, relative to its variance, before a warning


def subkeys(key: Any, count: int) -> list[int]:
    """Independent integer keys from one key, an integer or a JAX key."""
    if not isinstance(key, (int, np.integer)):
        import jax

        key = int(jax.random.bits(key))
    state = np.random.SeedSequence(int(key) % 2**63).generate_state(count)
    return [int(s) % 2**31 for s in state]


def without_white(kernel: Kernel) -> Kernel | None:
    """The kernel as a function: without its white noise; None if nothing is left."""
    if isinstance(kernel, White):
        return None
    if isinstance(kernel, Sum):
        kept = [part for part in map(without_white, kernel.terms) if part is not None]
        return None if not kept else kept[0] if len(kept) == 1 else Sum(*kept)
    if isinstance(kernel, Product):
        parts = [without_white(part) for part in kernel.factors]
        return None if any(part is None for part in parts) else Product(*parts)  # type: ignore[arg-type]
    if isinstance(kernel, Scale):
        inner = without_white(kernel.kernel)
        return None if inner is None else kernel.replace(kernel=inner)
    if isinstance(kernel, (ActiveDims, Deep)):
        inner = without_white(kernel.kernel)
        return None if inner is None else kernel.replace(kernel=inner)
    return kernel


def draw(K: Any, key: int, count: int) -> Array:
    """``count`` normal vectors with covariance ``K (n, n)``, as rows; also where rounding has left K
    singular."""
    try:
        return sample(K, key, count)
    except NotPositiveDefiniteError:
        return _eigen_root(K, key, count)


def _eigen_root(K: Any, key: int, count: int) -> Array:
    """By the eigenvectors of K, or of its factors: a smooth covariance has eigenvalues below its rounding
    error."""
    Ms = tuple(K.Ms) if isinstance(K, ops.Kronecker) else (K,)
    roots = []
    for M in Ms:
        dense = M.to_dense()
        backend = backend_for(dense)
        xp = backend.xp
        values, vectors = backend.eigh(dense)
        root = vectors * xp.sqrt(xp.where(values > 0, values, xp.zeros_like(values)))
        roots.append(ops.Dense(root))
    F = roots[0] if len(roots) == 1 else ops.Kronecker(*roots)
    normal = backend.normal(key, (K.shape[0], count), dense.dtype, backend.device(dense))
    return (F @ normal).T


def sample_prior(model: GP, X: Any, count: int = 1, *, key: Any = 0, include_noise: bool = False) -> Array:
    """``count`` draws of the prior at ``X`` (n points or a Grid), shape ``(count, n)``.

    Through a root of the covariance operator in the form that its structure allows: O(n) per draw for
    kernels of finite rank, factor by factor on a grid, O(n^3) for scattered points. ``include_noise``
    adds the noise of observations, white parts of the kernel included.

    >>> import numpy as np, cola_gp as gp
    >>> gp.sample_prior(gp.GP(gp.RBF(1.0)), np.linspace(0, 1, 5), 3, key=0).shape
    (3, 5)
    """
    X = as_inputs(X)
    count = whole_count("sample_prior", count)
    places = as_points(X)
    backend = backend_for(places)
    first, second = subkeys(key, 2)
    mean = model.mean(places)
    latent = without_white(model.kernel)
    shape = (count, places.shape[0])
    if latent is None:
        out = mean[None, :] + backend.zeros(shape, places.dtype, backend.device(places))
    else:
        while isinstance(latent, Inducing):
            latent = latent.kernel
        out = mean[None, :] + draw(represent(CovarianceOperator(latent, X)).operator, first, count)
    if include_noise:
        extra = model.kernel.diag(places) - model.kernel.cross_diag(places)
        extra = extra + model.noise.variances(places[:, 0], X)
        normal = backend.normal(second, shape, places.dtype, backend.device(places))
        out = out + backend.xp.sqrt(extra) * normal
    return out


class Paths:
    """Functions drawn from a posterior, to be evaluated anywhere: ``paths(X)`` is ``(count, m)`` at m points.

    The same function is evaluated every time, so values at different points belong together. Made by
    :meth:`cola_gp.Posterior.paths`.

    Up to 64 draws have frequencies of their own each: averaged over those, covariances are exact. More
    draws share 64 sets. Attributes: count; features (per set); exact (whether the draw of the prior has
    its exact distribution); error (estimated root mean square error of the covariance of the prior's
    draws, given the frequencies, relative to the prior's variance; 0 where exact). Where data leave a
    fraction v of the variance, the error of the posterior's covariance is up to ``error / v`` of it.
    Evaluating costs O(m (features + n)) per function, in blocks of bounded memory; there are no
    derivatives of draws.
    """

    def __init__(
        self, model: GP, data: Data, conditioned: Conditioned, count: int, key: Any, features: int = FEATURES
    ):
        if count < 1 or features < 1:
            raise ValueError(f"paths needs count >= 1 and features >= 1, not {count} and {features}.")
        self.model, self.count = model, int(count)
        self._backend: Any = backend_for(data.y)
        X = as_points(data.X)
        for_features, for_weights, for_noise, for_values = subkeys(key, 4)
        self._features = PriorFeatures(model.kernel, X, features, for_features, min(self.count, SETS))
        width = int(self._features(X[:1]).shape[1])
        self.features = width
        # draw j belongs to set j // share
        self._share = -(-self.count // self._features.sets)
        self._weights = self._normal(for_weights, (width, self.count), X)
        self.exact = self._features.exact
        self.error = 0.0 if self.exact else self._estimate(X, for_values)
        if self.error > TOLERANCE:
            warnings.warn(
                f"{features} random frequencies give the prior's covariance to {self.error:.1%} of its "
                "variance only; raise features, or draw at given points with method='covariance'.",
                ConvergenceWarning,
                stacklevel=3,
            )
        if isinstance(conditioned, InducingConditioned):
            self._update_by_inducing_values(conditioned, for_noise, for_values)
        else:
            self._update_by_observations(conditioned, X, data, for_noise, for_values)

    def _normal(self, key: int, shape: tuple[int, ...], like: Array) -> Array:
        return self._backend.normal(key, shape, like.dtype, self._backend.device(like))

    def _sets(self) -> list[tuple[int, slice]]:
        """Every set of frequencies with its draws."""
        starts = range(0, self.count, self._share)
        return [(number, slice(start, start + self._share)) for number, start in enumerate(starts)]

    def _prior(self, X: Array) -> Array:
        """Draws of the prior at X without the mean, ``(m, count)``."""
        parts = [self._features.times(X, self._weights[:, draws], number) for number, draws in self._sets()]
        return parts[0] if len(parts) == 1 else self._backend.xp.concat(parts, axis=1)

    def _update_by_observations(
        self, conditioned: Conditioned, X: Array, data: Data, key: int, other: int
    ) -> None:
        f = self._backend.xp.concat([self._prior(X[block]) for block in self._blocks(X, 0)], axis=0)
        f = _with_white(self.model, X, f, other)
        V = conditioned.correction(f, self._normal(key, (data.n, self.count), X))
        if self.exact:  # the update is a change of the weights
            for block in self._blocks(X, 0):
                self._weights = self._weights + self._features(X[block]).T @ V[block]
            self._centres = None
        else:
            self._centres, self._coefficients = X, V

    def _update_by_inducing_values(self, conditioned: InducingConditioned, key: int, other: int) -> None:
        factor, backend = conditioned.factor, self._backend
        normal = self._normal(key, (factor.m, self.count), factor.Z)
        slack = self._normal(other, (factor.m, self.count), factor.Z)
        # whitened inducing values: N(weights, B^{-1}) with B = LB LB^T
        v = conditioned.weights[:, None] + backend.solve_triangular(conditioned.LB.T, normal, lower=False)
        noisy = self._prior(factor.Z) + backend.xp.sqrt(factor.nugget) * slack
        half = v - backend.solve_triangular(factor.L, noisy)
        self._centres = factor.Z
        self._coefficients = backend.solve_triangular(factor.L.T, half, lower=False)

    def _estimate(self, X: Array, key: int) -> float:
        """Root mean square error of the features' covariance between sampled observations."""
        backend = self._backend
        rng = np.random.default_rng(key)
        rows, columns = (
            backend.asarray(
                rng.choice(X.shape[0], min(48, X.shape[0]), replace=False), device=backend.device(X)
            )
            for _ in range(2)
        )
        A, B = X[rows], X[columns]
        wanted = self.model.kernel(A, B)
        numbers = [number for number, _ in self._sets()][:8]
        squares = [
            backend.xp.mean((self._features(A, number) @ self._features(B, number).T - wanted) ** 2)
            for number in numbers
        ]
        variance = backend.xp.mean(self.model.kernel.cross_diag(A))
        return float(backend.xp.sqrt(sum(squares) / len(squares)) / variance)

    def _blocks(self, X: Array, n: int) -> list[slice]:
        size = max(1, 2**26 // (8 * (self.features + n)))
        return [slice(start, min(start + size, X.shape[0])) for start in range(0, max(1, X.shape[0]), size)]

    def __call__(self, X: Any) -> Array:
        """Values at ``X`` (m points or a Grid), mean included: ``(count, m)``."""
        X = as_points(as_inputs(X))
        n = 0 if self._centres is None else int(self._centres.shape[0])
        out = []
        for block in self._blocks(X, n):
            part = self._prior(X[block])
            if self._centres is not None:
                part = part + self.model.kernel(X[block], self._centres) @ self._coefficients
            out.append(part)
        return (self._backend.xp.concat(out, axis=0) + self.model.mean(X)[:, None]).T


def _with_white(model: GP, X: Array, f: Array, key: int) -> Array:
    """Draws ``f (n, count)`` of the function plus the white noise of the kernel at the observations."""
    if not contains(model.kernel, White):
        return f
    backend = backend_for(f)
    spread = backend.xp.sqrt(model.kernel.diag(X) - model.kernel.cross_diag(X))
    return f + spread[:, None] * backend.normal(key, tuple(f.shape), f.dtype, backend.device(f))


def _together(data: Data, X: Any) -> tuple[Any, Any, Any] | None:
    """Inputs that hold both training and test points, and where those are: indices or slices."""
    mine = data.X
    if isinstance(X, GridSubset):
        found = _together(data, X.grid)
        return None if found is None else (found[0], found[1], X.index)
    if isinstance(X, Grid):
        whole = mine.grid if isinstance(mine, GridSubset) else mine
        if not isinstance(whole, Grid) or not _same_grid(whole, X):
            return None
        train = mine.index if isinstance(mine, GridSubset) else slice(None)
        return X, train, slice(None)
    if isinstance(mine, (Grid, GridSubset)):
        return None
    n = mine.shape[0]
    if X is mine:
        return mine, slice(None), slice(None)
    return backend_for(mine).xp.concat([mine, X], axis=0), slice(0, n), slice(n, n + X.shape[0])


def _same_grid(a: Grid, b: Grid) -> bool:
    if a is b:
        return True
    if a.sizes != b.sizes or a.widths != b.widths:
        return False
    backend = backend_for(a.axis_points()[0])
    return all(bool(backend.xp.all(p == q)) for p, q in zip(a.axis_points(), b.axis_points(), strict=True))


def sample_structured(
    model: GP, data: Data, conditioned: Conditioned, X: Any, count: int, key: Any
) -> Array | None:
    """Exact posterior draws ``(count, m)`` where training and test points together have structure, else None.

    On the grid of the data, missing values or not, and in time (any points): the prior is drawn by the
    structure's root and updated by its products.
    """
    if isinstance(conditioned, InducingConditioned):
        return None
    both = _together(data, X)
    latent = without_white(model.kernel)
    if both is None or latent is None:
        return None
    inputs, train, test = both
    lazy = CovarianceOperator(latent, inputs)
    # a budget that a stored matrix exceeds: structure, even where it would cost more than a small matrix
    budget = Auto(memory=0.5 * lazy.itemsize * lazy.shape[0] ** 2)
    K = represent(lazy, None, budget).operator
    if isinstance(K, (ops.Dense, CovarianceOperator)):
        return None
    first, second, third = subkeys(key, 3)
    backend = backend_for(data.y)
    f = draw(PSD(K), first, count)
    normal = backend.normal(second, (data.n, count), data.y.dtype, backend.device(data.y))
    V = conditioned.correction(_with_white(model, as_points(data.X), f[:, train].T, third), normal)
    spread = backend.zeros((K.shape[0], count), V.dtype, backend.device(V))
    spread = backend.put(spread, train, V)
    updated = f + (K @ spread).T
    return updated[:, test] + model.mean(as_points(inputs))[test][None, :]
