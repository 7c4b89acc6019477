"""A model conditioned on data: predictions, samples, leave-one-out and predictive densities."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

from cola_core.algorithms import Auto
from cola_core.errors import (
    BackendError,
    DTypeError,
    IllConditionedWarning,
    MemoryBudgetError,
    NonFiniteError,
    NotPositiveDefiniteError,
    ShapeError,
)

from .arrays import backend_for
from .checks import whole_count
from .data import Data, as_inputs, as_points
from .grids import Grid
from .inference import condition
from .inference.base import jittered_cholesky, warn_of_jitter
from .initial import range_advice
from .kernels.base import Array
from .model import GP
from .pathwise import FEATURES, Paths, sample_structured, subkeys

EIGEN_LIMIT = 500  # size up to which draws are by eigenvectors
SAMPLE_LIMIT = 2000  # points up to which draws are made from the joint covariance


class LeaveOneOut(NamedTuple):
    """Predictions of every target from all others (Rasmussen & Williams 2006, 5.10-5.12), noise included."""

    mean: Array
    variance: Array
    log_density: Array


class Posterior:
    """``p(f | data)`` for a model; all factorisations happen at construction and are shared by the methods.

    Inputs of the methods are ``(m, d)`` arrays, vectors for one-dimensional data, or a Grid, of the library
    of the data.  ``include_noise=True`` predicts observations instead of the latent function.

    alg: how to do inference, see :func:`~cola_gp.inference.condition`.

    Attributes: model, data, alg, method (the structure used), jitter (added to the diagonal; zero in the
    normal case).
    """

    def __init__(self, model: GP, data: Data, alg: Any = Auto()):
        self.model, self.data, self.alg = model, data, alg
        self._conditioned = condition(model, data, alg)
        self._backend: Any = backend_for(data.y)
        eps = float(self._backend.xp.finfo(data.y.dtype).eps)
        if self.jitter > 0:
            warn_of_jitter(data, self.jitter)
        elif self._conditioned.rcond < eps:
            warnings.warn(
                f"the {data.n}x{data.n} covariance is singular to working precision (condition number above "
                f"{1 / max(self._conditioned.rcond, 1e-300):.0e}); predictions may have few correct digits. "
                "Raise the noise variance, or use float64.",
                IllConditionedWarning,
                stacklevel=2,
            )

    def __reduce__(self) -> Any:
        # Factors are functions of the model and the data, so a pickle holds only those.
        return Posterior, (self.model, self.data, self.alg)

    def __repr__(self) -> str:
        n, d = self.data.X.shape
        return f"Posterior({self.model!r}, given {n} observations in {d} dimensions, by {self.method})"

    @property
    def method(self) -> str:
        return self._conditioned.method

    @property
    def jitter(self) -> float:
        return self._conditioned.jitter

    @property
    def variance_info(self) -> Any:
        """How the last variances were found and their absolute error (``error_estimate`` of a
        ``cola_core.info.Info``), where they are not exact by construction; else None."""
        return self._conditioned.variance_info

    def log_marginal_likelihood(self) -> Array:
        """Log density of the training targets."""
        return self._conditioned.log_marginal_likelihood()

    def _points(self, X: Any) -> Array:
        X = as_points(as_inputs(X))
        if backend_for(X) is not self._backend:
            raise BackendError(
                f"the posterior holds {self._backend.name} arrays but X is a {backend_for(X).name} array; "
                "convert one of them."
            )
        d = self.data.X.shape[1]
        if X.shape[1] != d:
            raise ShapeError(
                f"X has {X.shape[1]} dimensions (shape {tuple(X.shape)}) but the model was trained on {d}."
            )
        if X.dtype != self.data.y.dtype:
            raise DTypeError(
                f"X has dtype {X.dtype} but the model was trained on {self.data.y.dtype}; convert X."
            )
        return X

    def mean(self, X: Any) -> Array:
        """Predictive mean ``(m,)``."""
        grid, X = X, self._points(X)
        latent = self._conditioned.latent_mean_on(grid) if isinstance(grid, Grid) else None
        latent = self._conditioned.latent_mean(X) if latent is None else latent
        return self._finite("mean", self.model.mean(X) + latent)

    def variance(self, X: Any, include_noise: bool = False) -> Array:
        """Predictive variance ``(m,)``, never negative."""
        grid, X = X, self._points(X)
        found = self._conditioned.latent_variance_on(grid) if isinstance(grid, Grid) else None
        variance = self._conditioned.latent_variance(X) if found is None else found
        return self._finite("variance", variance + self._white(X) if include_noise else variance)

    def _finite(self, name: str, value: Array) -> Array:
        """``value``, unless it left the range of its dtype, which would pass for an answer."""
        if self._backend.is_concrete(value) and not self._backend.all_finite(value):
            advice = range_advice(self.data) or "use float64, or scale the data first"
            raise NonFiniteError(f"the predictive {name} overflows {value.dtype}; {advice}.")
        return value

    def covariance(self, X: Any, include_noise: bool = False) -> Array:
        """Joint predictive covariance ``(m, m)``, exactly symmetric."""
        X = self._points(X)
        covariance = self._conditioned.latent_covariance(X)
        covariance = 0.5 * (covariance + covariance.T)
        if include_noise:
            covariance = covariance + self._backend.matrix_diag(self._white(X))
        return covariance

    def _white(self, X: Array) -> Array:
        """Variance of an observation beyond the latent function: the noise and the kernel's white part."""
        kernel = self.model.kernel
        return kernel.diag(X) - kernel.cross_diag(X) + self.model.noise.at_test_points(self.data.y, X)

    def sample(
        self, X: Any, count: int = 1, *, key: Any = 0, include_noise: bool = False, method: str = "auto"
    ) -> Array:
        """``count`` joint draws at the m points, shape ``(count, m)``; the same key gives the same draws.

        method: "covariance", a root of the ``(m, m)`` covariance, O(m^3); "structure", exact draws by the
        structure of training and test points together (the grid of the data, points in time), where
        NotImplementedError says that there is none; "paths", functions from :meth:`paths`, O(m),
        approximate unless the kernel has finite rank; or "auto", the first of these for up to
        2000 points and beyond that the first that applies of "structure", "paths" and "covariance".
        """
        if method not in ("auto", "covariance", "structure", "paths"):
            raise ValueError(
                f"sample: method must be 'auto', 'covariance', 'structure' or 'paths', not {method!r}."
            )
        inputs = as_inputs(X)
        count = whole_count("sample", count)
        X = self._points(inputs)
        if method == "auto" and X.shape[0] <= SAMPLE_LIMIT:
            method = "covariance"
        for_draw, for_noise = (key, key) if method == "covariance" else subkeys(key, 2)
        out = None
        ways = {
            "structure": lambda: self._by_structure(inputs, count, for_draw),
            "paths": lambda: self.paths(count, key=for_draw)(X),
        }
        for name, way in ways.items():
            if out is None and method in ("auto", name):
                try:
                    out = way()
                except NotImplementedError:
                    if method == name:
                        raise
        if out is None:
            size, budget = 3 * X.shape[0] ** 2 * 8, Auto().memory_budget
            if size > budget:
                raise MemoryBudgetError(
                    f"sample: the joint covariance of {X.shape[0]} points takes {size / 2**30:.3g} GiB, the "
                    f"budget is {budget / 2**30:.3g} GiB; draw functions (method='paths'), or fewer points."
                )
            covariance = self.covariance(X, include_noise=include_noise)
            root = self._root(covariance)
            normal = self._backend.normal(for_draw, (root.shape[1], count), X.dtype, self._backend.device(X))
            return self.mean(X)[None, :] + (root @ normal).T
        if include_noise:
            normal = self._backend.normal(for_noise, tuple(out.shape), X.dtype, self._backend.device(X))
            out = out + self._backend.xp.sqrt(self._white(X)) * normal
        return out

    def _by_structure(self, inputs: Any, count: int, key: int) -> Array:
        conditioned = self._conditioned
        out = sample_structured(conditioned.model, self.data, conditioned, inputs, count, key)
        if out is None:
            raise NotImplementedError(
                "sample: training and test points together have no structure to draw by (a grid, points in "
                "time); use method='paths' or 'covariance'."
            )
        return out

    def paths(self, count: int = 1, *, key: Any = 0, features: int = FEATURES) -> Paths:
        """``count`` functions drawn from the posterior, which can be evaluated anywhere; see
        :class:`~cola_gp.pathwise.Paths`.

        features: random frequencies per product of stationary kernels; kernels of finite rank need none.
        Raises NotImplementedError for kernels with neither.

        >>> import numpy as np, cola_gp as gp
        >>> data = gp.Data(np.linspace(0, 5, 30), np.sin(np.linspace(0, 5, 30)))
        >>> paths = gp.Posterior(gp.GP(gp.RBF(1.0), noise=1e-4), data).paths(2, key=0)
        >>> paths(np.linspace(0, 5, 1000)).shape, bool(abs(paths(np.array([2.5])) - np.sin(2.5)).max() < 0.1)
        ((2, 1000), True)
        """
        conditioned = self._conditioned  # its model has the white noise where its solves have it
        return Paths(conditioned.model, self.data, conditioned, count, key, features)

    def observable(self, X: Any) -> tuple[Array, Array]:
        """Mean and variance, each ``(m,)``, of what a likelihood sees: the function and the kernel's white
        part."""
        X = self._points(X)
        kernel = self.model.kernel
        white = kernel.diag(X) - kernel.cross_diag(X)
        return self.mean(X), self._conditioned.latent_variance(X) + white

    def response(self, X: Any) -> tuple[Array, Array]:
        """Predictive mean and variance of observations, each ``(m,)``, under any likelihood.

        For a ``BernoulliLikelihood`` the mean is the probability of a one.
        """
        X = self._points(X)
        if self.model.noise.gaussian:
            return self.mean(X), self.variance(X, include_noise=True)
        likelihood: Any = self.model.noise
        return likelihood.response(*self.observable(X))  # type: ignore[no-any-return]

    def _root(self, covariance: Array) -> Array:
        """``R`` with ``R R^T`` the covariance, by eigenvalues where Cholesky fails: a posterior is often
        singular."""
        xp = self._backend.xp
        if covariance.shape[0] > EIGEN_LIMIT:  # about ten times faster
            try:
                return self._backend.cholesky(covariance)
            except NotPositiveDefiniteError:
                pass
        values, vectors = self._backend.eigh(covariance)
        return vectors * xp.sqrt(xp.where(values > 0, values, xp.zeros_like(values)))

    def log_predictive_density(self, X: Any, y: Any, joint: bool = False) -> Array:
        """Log density of held-out observations ``y (m,)``: one value per point, or the joint one (0-d)."""
        X = self._points(X)
        test = Data(X, y)
        if not self.model.noise.gaussian:
            if joint:
                raise NotImplementedError("joint densities are available for Gaussian noise only.")
            likelihood: Any = self.model.noise
            likelihood.check(test.y)
            mean, variance = self.observable(X)
            return likelihood.log_predictive_density(test.y, mean, variance)
        error = test.y - self.mean(X)
        xp = self._backend.xp
        if not joint:
            return _log_normal(xp, error, self.variance(X, include_noise=True))
        L, _ = jittered_cholesky(self.covariance(X, include_noise=True))
        half = self._backend.solve_triangular(L, error[:, None])
        log_det = 2.0 * xp.sum(xp.log(xp.linalg.diagonal(L)))
        return -0.5 * (xp.sum(half * half) + log_det + test.n * math.log(2.0 * math.pi))

    def leave_one_out(self) -> LeaveOneOut:
        """Prediction of every training target from the others, in closed form and without refitting."""
        conditioned = self._conditioned
        plain = 1.0 / conditioned.inverse_diagonal()
        error = conditioned.alpha * plain
        variance = plain + conditioned.left_out_variance
        return LeaveOneOut(self.data.y - error, variance, _log_normal(self._backend.xp, error, variance))


def _log_normal(xp: Any, error: Array, variance: Array) -> Array:
    return -0.5 * (error * error / variance + xp.log(variance) + math.log(2.0 * math.pi))
