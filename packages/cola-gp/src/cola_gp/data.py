"""Observations: checked inputs and targets, grids, and scaling to zero mean and unit variance."""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import BackendError, DTypeError, NonFiniteError, ShapeError

from ._struct import Struct, set_fields, struct
from .arrays import backend_for
from .kernels.base import Array


def _checked(name: str, value: Any, ndim: int) -> Array:
    """A finite floating array; lists and integers become float64."""
    backend = backend_of(value)
    if backend is None:
        try:
            value = np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            raise DTypeError(f"{name} must be numbers, not {type(value).__name__}.") from None
        backend = backend_for(value)
    if backend.is_complex(value):
        raise DTypeError(f"{name} is complex ({value.dtype}); Gaussian processes here are real.")
    try:
        value = backend.as_value(value)
    except (TypeError, ValueError):
        raise DTypeError(f"{name} must be numbers, not an array of dtype {value.dtype}.") from None
    if value.ndim != ndim:
        raise ShapeError(f"{name} must have {ndim} axes, not shape {tuple(value.shape)}.")
    if backend.is_concrete(value) and not backend.all_finite(value):
        bad = int(np.sum(~np.isfinite(np.asarray(backend.to_numpy(value)))))
        raise NonFiniteError(
            f"{name} holds {bad} NaN or infinite entries; remove or impute those observations."
        )
    return value


@struct
class Grid(Struct):
    """All combinations of the coordinates in ``axes``: point ``(i, j, ...)`` is ``(axes[0][i], axes[1][j],
    ...)``.

    Points are numbered in C order, the last axis fastest, as in the Kronecker product of the axes' matrices.
    """

    axes: tuple[Array, ...]

    def __init__(self, *given: Any, axes: tuple[Any, ...] = ()):
        chosen = tuple(given) or tuple(axes)
        if not chosen:
            raise ShapeError("Grid needs at least one axis.")
        set_fields(self, axes=tuple(_checked(f"grid axis {i}", axis, 1) for i, axis in enumerate(chosen)))
        backend_of(*self.axes)  # raises if the axes belong to different libraries

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of coordinates per axis."""
        return tuple(int(axis.shape[0]) for axis in self.axes)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(n, d)`` of the array of points."""
        return int(np.prod(self.sizes)), len(self.axes)

    def points(self) -> Array:
        """The points as an ``(n, d)`` array."""
        xp = backend_for(self.axes[0]).xp
        mesh = xp.meshgrid(*self.axes, indexing="ij")
        return xp.stack([xp.reshape(m, (-1,)) for m in mesh], axis=1)


def as_inputs(X: Any, name: str = "X") -> Any:
    """Checked inputs: a :class:`Grid`, or an ``(n, d)`` array (a vector becomes ``(n, 1)``)."""
    if isinstance(X, Grid):
        return X
    if backend_of(X) is None:
        X = np.asarray(X) if not isinstance(X, (list, tuple)) else np.asarray(X, dtype=float)
    if getattr(X, "ndim", None) == 1:
        X = X[:, None]
    return _checked(name, X, 2)


def as_points(X: Any) -> Array:
    """Inputs as an ``(n, d)`` array; a grid is written out."""
    return X.points() if isinstance(X, Grid) else X


@struct
class Data(Struct):
    """Inputs ``X`` (an ``(n, d)`` array, a vector of n numbers, or a :class:`Grid`) and targets ``y (n,)``.

    Raises ShapeError, DTypeError, NonFiniteError or BackendError; targets on a grid may have the grid's
    shape.
    """

    X: Any
    y: Array

    def __init__(self, X: Any, y: Any):
        X = as_inputs(X)
        if isinstance(X, Grid) and getattr(y, "ndim", 1) == len(X.axes) > 1:
            if tuple(y.shape) != X.sizes:
                raise ShapeError(f"y has shape {tuple(y.shape)} but the grid has shape {X.sizes}.")
            y = y.reshape((-1,))
        y = _checked("y", y, 1)
        if X.shape[0] != y.shape[0]:
            raise ShapeError(f"X has {X.shape[0]} points but y has {y.shape[0]} values.")
        if X.shape[0] == 0 or X.shape[1] == 0:
            raise ShapeError(f"no data: X has shape {tuple(X.shape)}.")
        here = X.axes[0] if isinstance(X, Grid) else X
        if backend_for(here).name != backend_for(y).name:
            raise BackendError(
                f"X is a {backend_for(here).name} array and y a {backend_for(y).name} array; "
                "convert one of them."
            )
        if here.dtype != y.dtype:
            raise DTypeError(f"X has dtype {here.dtype} and y has dtype {y.dtype}; convert one of them.")
        set_fields(self, X=X, y=y)

    @staticmethod
    def inputs(X: Any) -> Any:
        """Checked inputs: a :class:`Grid` as it is, anything else as an ``(n, d)`` array."""
        return as_inputs(X)

    @property
    def n(self) -> int:
        """Number of observations."""
        return int(self.y.shape[0])


@struct
class Scaling(Struct):
    """An affine change of units of NumPy data: inputs and targets to zero mean and unit variance, and back.

    Constant columns and constant targets keep scale one, so nothing is ever divided by zero.
    """

    x_shift: Array
    x_scale: Array
    y_shift: Array
    y_scale: Array

    @classmethod
    def of(cls, X: np.ndarray, y: np.ndarray) -> Scaling:
        """Scaling by the mean and standard deviation of every column of ``X (n, d)`` and of ``y (n,)``."""
        x_shift, x_scale = _moments(X)
        y_shift, y_scale = _moments(y)
        return cls(x_shift, x_scale, y_shift, y_scale)

    @classmethod
    def none(cls, d: int) -> Scaling:
        """The identity for ``d`` input dimensions."""
        return cls(np.zeros(d), np.ones(d), np.zeros(()), np.ones(()))

    def inputs(self, X: Any) -> Any:
        """Points ``(n, d)`` or a grid in scaled units."""
        d = self.x_shift.shape[0]
        if X.shape[1] != d:
            raise ShapeError(f"X has {X.shape[1]} dimensions (shape {tuple(X.shape)}) but {d} were scaled.")
        if isinstance(X, Grid):
            return Grid(*((a - b) / c for a, b, c in zip(X.axes, self.x_shift, self.x_scale, strict=True)))
        return (X - self.x_shift) / self.x_scale

    def targets(self, y: np.ndarray) -> np.ndarray:
        return (y - self.y_shift) / self.y_scale

    def mean(self, mean: np.ndarray) -> np.ndarray:
        """A predicted mean in the units of the original targets."""
        return self.y_shift + self.y_scale * mean

    def variance(self, variance: np.ndarray) -> np.ndarray:
        """A predicted variance or covariance in the units of the original targets."""
        return self.y_scale**2 * variance


def _moments(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Dividing by the largest magnitude first keeps the squares of huge and tiny values representable.
    unit = np.max(np.abs(a), axis=0)
    unit = np.where(unit > 0, unit, 1.0)
    shift = np.mean(a / unit, axis=0)
    spread = np.std(a / unit, axis=0)
    # A spread at the level of rounding is a constant.
    constant = spread <= 10 * np.finfo(float).eps * np.maximum(np.abs(shift), np.finfo(float).tiny)
    return np.asarray(shift * unit), np.asarray(np.where(constant, 1.0, spread * unit))
