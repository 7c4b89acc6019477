"""Observation noise: what is added to the diagonal of the covariance.

:class:`GaussianNoise` is one variance for all, :class:`FixedNoise` a known one per observation,
:class:`TaskNoise` an unknown one per task (or any other group), and :class:`HeteroscedasticNoise` a
function of the inputs with parameters of its own.
"""

from __future__ import annotations

from typing import Any, ClassVar

from cola_core import PSD, ops
from cola_core.errors import ShapeError

from ._struct import Struct, set_fields, static, struct
from .arrays import backend_for
from .checks import finite_numbers
from .grids import Grid, GridSubset
from .kernels.base import Array, follow, positive, xp_of
from .labels import label_numbers, one_hot
from .maps import Map, as_map
from .means import one_image


class Noise(Struct):
    """Contract: ``operator(like, X)`` is the ``(n, n)`` noise covariance of ``n = len(like)`` observations.

    like: a vector ``(n,)`` for the length, library and dtype, such as the targets.  X: the inputs of the
    observations, points ``(n, d)`` or a grid.  Noise that depends on them (``needs_inputs``) raises
    ValueError without, other noise ignores them.
    """

    needs_inputs: ClassVar[bool] = False

    #: False for likelihoods whose posterior is only approximated (:mod:`cola_gp.likelihoods`).
    gaussian: ClassVar[bool] = True

    def variances(self, like: Array, X: Any = None) -> Array:
        """Noise variance of every observation, ``(n,)``."""
        raise NotImplementedError

    def operator(self, like: Array, X: Any = None) -> Any:
        """The noise covariance as an operator: its class tells which structure survives."""
        return PSD(ops.Diagonal(self.variances(like, X)))

    def pullback(self, v: Array, X: Any = None) -> tuple[Array, ...]:
        """Derivatives of the leaves from the derivative ``v (n,)`` with respect to the diagonal."""
        raise NotImplementedError

    def at_test_points(self, like: Array, X: Any = None) -> Array:
        """Noise variance of future observations: 0-d, or ``(m,)`` where it depends on their inputs."""
        raise NotImplementedError

    def on_axes(self, grid: Any) -> bool:
        """Whether the noise of a grid's points is a product of one vector per axis; from classes alone."""
        return False

    def axis_variances(self, grid: Any, like: Array) -> tuple[Array, tuple[Array | None, ...]]:
        """A common factor (0-d) and a vector per axis (None: ones) whose products are the noise variances of
        the points of a grid; only where :meth:`on_axes` says so."""
        raise NotImplementedError(f"{type(self).__name__} is no product over the axes of a grid.")

    def label_dims(self, d: int) -> frozenset[int]:
        """Which of ``d`` input dimensions hold labels, such as task numbers, that no scaling may touch."""
        return frozenset()

    def _inputs(self, X: Any) -> Array:
        if X is None:
            raise ValueError(f"{type(self).__name__} depends on the inputs of the observations; pass X.")
        return X.points() if hasattr(X, "points") else X


@struct
class GaussianNoise(Noise):
    """Independent noise of one common variance."""

    log_variance: Array

    def __init__(self, variance: Any = 1e-2, *, log_variance: Any = None):
        stored = positive("noise variance", variance, log_variance)
        if stored.ndim != 0:
            raise ShapeError("GaussianNoise has one variance; use FixedNoise for one per observation.")
        set_fields(self, log_variance=stored)

    def variances(self, like: Array, X: Any = None) -> Array:
        xp = xp_of(like)
        return xp.exp(follow(self.log_variance, like)) * xp.ones_like(like)

    def operator(self, like: Array, X: Any = None) -> Any:
        n = like.shape[0]
        return PSD(ops.ScalarMul(xp_of(like).exp(follow(self.log_variance, like)), n))

    def pullback(self, v: Array, X: Any = None) -> tuple[Array, ...]:
        xp = xp_of(v)
        return (xp.sum(v) * xp.exp(follow(self.log_variance, v)),)

    def at_test_points(self, like: Array, X: Any = None) -> Array:
        return xp_of(like).exp(follow(self.log_variance, like))

    def on_axes(self, grid: Any) -> bool:
        return True

    def axis_variances(self, grid: Any, like: Array) -> tuple[Array, tuple[Array | None, ...]]:
        return self.at_test_points(like), tuple(None for _ in grid.axes)


@struct
class FixedNoise(Noise):
    """Known noise variances; no parameter is fitted.

    variance: one per observation; on a grid with missing targets, one per observation or one per grid point.
    In the units of the model: where columns are scaled first (``Predictor``, ``GPRegressor``), those of
    scaled targets, so divide known variances by ``y.var()`` or give ``scale=False``.
    """

    variance: Array
    _data_fields = ("variance",)

    def __init__(self, variance: Any):
        variance = finite_numbers("the variance of FixedNoise", variance, 1)
        if backend_for(variance).is_concrete(variance) and not bool((variance > 0).all()):
            raise ValueError(f"FixedNoise needs positive variances, not {variance!r}.")
        set_fields(self, variance=variance)

    def _whole_grid(self, like: Array, X: Any) -> bool:
        """Whether there is one variance per point of a grid on which some targets are missing."""
        held, n = self.variance.shape[0], like.shape[0]
        if held == n:
            return False
        if isinstance(X, GridSubset) and held == X.grid.shape[0]:
            return True
        grid = f" on a grid of {X.grid.shape[0]} points" if isinstance(X, GridSubset) else ""
        raise ShapeError(f"FixedNoise holds {held} variances for {n} observations{grid}.")

    def variances(self, like: Array, X: Any = None) -> Array:
        variance = follow(self.variance, like)
        return variance[X.index] if self._whole_grid(like, X) else variance

    def pullback(self, v: Array, X: Any = None) -> tuple[Array, ...]:
        if self._whole_grid(v, X):
            return (backend_for(v).index_add(X.index, v[:, None], self.variance.shape[0])[:, 0],)
        return (v,)

    def at_test_points(self, like: Array, X: Any = None) -> Array:
        raise ValueError(
            "FixedNoise knows the noise of the training points only; ask for the latent function "
            "(include_noise=False), or add the noise of the test points yourself."
        )


@struct
class TaskNoise(Noise):
    """One unknown variance per task: the noise of points whose column ``dim`` holds the task number.

    Any other grouping of the observations will do (instruments, batches), numbered ``0, 1, ...``.  variance:
    one initial value per task.  Raises ValueError for numbers that are no tasks.
    """

    log_variance: Array
    dim: int = static(default=0)
    needs_inputs: ClassVar[bool] = True

    def __init__(self, variance: Any = None, dim: int = 0, *, log_variance: Any = None):
        stored = positive("noise variance", variance, log_variance)
        if stored.ndim != 1:
            raise ShapeError("TaskNoise needs one variance per task; use GaussianNoise for a common one.")
        set_fields(self, log_variance=stored, dim=int(dim))

    def label_dims(self, d: int) -> frozenset[int]:
        return frozenset({self.dim % d})

    def _each(self, like: Array, X: Any) -> Array:
        points = self._inputs(X)
        numbers, good = label_numbers(points, self.dim, self.log_variance.shape[0], "TaskNoise")
        value = xp_of(like).exp(follow(self.log_variance, like))[numbers]
        return value if good is None else xp_of(like).where(good, value, xp_of(like).nan)

    def variances(self, like: Array, X: Any = None) -> Array:
        return _as_many(self._each(like, X), like)

    def operator(self, like: Array, X: Any = None) -> Any:
        if not (isinstance(X, Grid) and len(X.axes) > 1):
            return super().operator(like, X)
        _, each = self.axis_variances(X, like)
        sizes = zip(X.sizes, each, strict=True)
        one = xp_of(like).ones_like(like[0])
        return PSD(ops.Kronecker(*(PSD(_axis_operator(n, v, one)) for n, v in sizes)))

    def on_axes(self, grid: Any) -> bool:
        return -grid.shape[1] <= self.dim < grid.shape[1]

    def axis_variances(self, grid: Any, like: Array) -> tuple[Array, tuple[Array | None, ...]]:
        dim = self.dim % grid.shape[1]
        each: list[Array | None] = []
        for places, columns in zip(grid.axis_points(), grid.columns, strict=True):
            if not columns.start <= dim < columns.stop:
                each.append(None)
                continue
            local = TaskNoise(dim=dim - columns.start, log_variance=self.log_variance)
            each.append(local.variances(places[:, 0], places))
        return xp_of(like).ones_like(like[0]), tuple(each)

    def pullback(self, v: Array, X: Any = None) -> tuple[Array, ...]:
        count = self.log_variance.shape[0]
        numbers, _ = label_numbers(self._inputs(X), self.dim, count, "TaskNoise")
        return ((one_hot(numbers, count, v).T @ v) * xp_of(v).exp(follow(self.log_variance, v)),)

    def at_test_points(self, like: Array, X: Any = None) -> Array:
        return self._each(like, X)


@struct
class HeteroscedasticNoise(Noise):
    """A variance that depends on the inputs: ``exp(map(x))`` for a map with one image.

    map: a :class:`~cola_gp.maps.Map` for the *logarithm* of the variance, such as ``Affine(np.zeros((d, 1)),
    np.log(0.1))`` (log-linear noise) or a small :class:`~cola_gp.maps.Network`; or a plain function of the
    points, for noise of a known shape.

    >>> import numpy as np, cola_gp as gp
    >>> noise = gp.HeteroscedasticNoise(gp.Affine([1.0], 0.0))
    >>> noise.variances(np.zeros(3), np.log([[1.0], [2.0], [4.0]])).round(12)
    array([1., 2., 4.])
    """

    map: Map
    needs_inputs: ClassVar[bool] = True

    def __init__(self, map: Any):
        set_fields(self, map=as_map(map))

    def _each(self, like: Array, X: Any) -> Array:
        return xp_of(like).exp(one_image(self.map(self._inputs(X)), "HeteroscedasticNoise"))

    def variances(self, like: Array, X: Any = None) -> Array:
        return _as_many(self._each(like, X), like)

    def pullback(self, v: Array, X: Any = None) -> tuple[Array, ...]:
        return self.map.pullback(self._inputs(X), (v * self._each(v, X))[:, None])

    def at_test_points(self, like: Array, X: Any = None) -> Array:
        return self._each(like, X)


def _axis_operator(n: int, variances: Array | None, one: Array) -> Any:
    return ops.ScalarMul(one, n) if variances is None else ops.Diagonal(variances)


def _as_many(values: Array, like: Array) -> Array:
    if values.shape[0] != like.shape[0]:
        raise ShapeError(f"{like.shape[0]} observations have {values.shape[0]} inputs.")
    return values
