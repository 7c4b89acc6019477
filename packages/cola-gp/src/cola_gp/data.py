"""Observations: checked inputs and targets, and scaling to zero mean and unit variance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import BackendError, DTypeError, NonFiniteError, ShapeError

from ._struct import Struct, set_fields, struct
from .arrays import backend_for
from .checks import finite_numbers, numbers
from .grids import GRIDS, Grid, GridSubset, Regular
from .kernels.base import Array


def as_inputs(X: Any, name: str = "X") -> Any:
    """Checked inputs: a :class:`Grid` or :class:`GridSubset`, or an ``(n, d)`` array (a vector becomes
    ``(n, 1)``)."""
    if isinstance(X, GRIDS):
        return X
    if backend_of(X) is None:
        X = np.asarray(X) if not isinstance(X, (list, tuple)) else np.asarray(X, dtype=float)
    if getattr(X, "ndim", None) == 1:
        X = X[:, None]
    return finite_numbers(name, X, 2)


def as_points(X: Any) -> Array:
    """Inputs as an ``(n, d)`` array; a grid is written out."""
    return X.points() if isinstance(X, GRIDS) else X


def _observed(X: Grid, y: Array) -> tuple[Any, Array]:
    """The points and targets that were observed, where some of ``y`` is NaN."""
    backend = backend_for(y)
    if X.shape[0] != y.shape[0] or not backend.is_concrete(y):
        return X, y
    known = ~np.isnan(np.asarray(backend.to_numpy(y)))
    if known.all():
        return X, y
    if not known.any():
        raise NonFiniteError(f"all {known.size} targets on the grid are NaN; nothing was observed.")
    subset = GridSubset(X, np.flatnonzero(known))
    return subset, y[subset.index]


@struct
class Data(Struct):
    """Inputs ``X`` (an ``(n, d)`` array, a vector of n numbers, or a :class:`Grid`) and targets ``y (n,)``.

    Targets on a grid may have the grid's shape, and NaN where nothing was observed: ``X`` is then the
    :class:`GridSubset` of the observed points.  Raises ShapeError, DTypeError, NonFiniteError or
    BackendError.
    """

    X: Any
    y: Array

    def __init__(self, X: Any, y: Any):
        X = as_inputs(X)
        if isinstance(X, Grid) and getattr(y, "ndim", 1) == len(X.axes) > 1:
            if tuple(y.shape) != X.sizes:
                raise ShapeError(f"y has shape {tuple(y.shape)} but the grid has shape {X.sizes}.")
            y = y.reshape((-1,))
        if isinstance(X, Grid):
            X, y = _observed(X, numbers("y", y, 1))
        y = finite_numbers("y", y, 1)
        if X.shape[0] != y.shape[0]:
            raise ShapeError(f"X has {X.shape[0]} points but y has {y.shape[0]} values.")
        if X.shape[0] == 0 or X.shape[1] == 0:
            raise ShapeError(f"no data: X has shape {tuple(X.shape)}.")
        here = X.axis_points()[0] if isinstance(X, GRIDS) else X
        if backend_for(here).name != backend_for(y).name:
            raise BackendError(
                f"X is a {backend_for(here).name} array and y a {backend_for(y).name} array; "
                "convert one of them."
                + (
                    " An axis Regular(start, step, count) is of the library of its step."
                    if X is not here
                    else ""
                )
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
    def of(cls, X: np.ndarray, y: np.ndarray, keep: Iterable[int] = ()) -> Scaling:
        """Scaling by the mean and standard deviation of every column of ``X (n, d)`` and of ``y (n,)``.

        keep: columns to leave as they are, such as task numbers.
        """
        x_shift, x_scale = _moments(X)
        kept = sorted(keep)
        x_shift[kept], x_scale[kept] = 0.0, 1.0
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
        if isinstance(X, GRIDS):
            return X.affine(self.x_shift, self.x_scale)
        return (X - self.x_shift) / self.x_scale

    def targets(self, y: np.ndarray) -> np.ndarray:
        """Targets ``(n,)`` in the units of the scaled ones."""
        return (y - self.y_shift) / self.y_scale

    def mean(self, mean: np.ndarray) -> np.ndarray:
        """A predicted mean in the units of the original targets."""
        return self.y_shift + self.y_scale * mean

    def deviation(self, variance: np.ndarray) -> np.ndarray:
        """The standard deviation, in the units of the original targets, of a predicted variance."""
        return np.abs(self.y_scale) * np.sqrt(variance)

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


__all__ = ["Data", "Grid", "GridSubset", "Regular", "Scaling", "as_inputs", "as_points"]
