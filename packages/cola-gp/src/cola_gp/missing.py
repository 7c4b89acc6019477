"""Rows with missing values: refused unless asked for, then dropped and counted; never imputed.

A value is missing if it is NaN; infinities are errors of the data and stay refused.  On a
:class:`~cola_gp.data.Grid` single rows cannot be taken out without destroying the structure, so grids are not
for this module.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import NonFiniteError, ShapeError

from .data import Grid

POLICIES = ("raise", "drop")


class Complete(NamedTuple):
    """Inputs ``(k, d)`` and targets ``(k,)`` without missing values; ``kept (n,)``: which rows these are."""

    X: Any
    y: Any
    kept: np.ndarray

    @property
    def dropped(self) -> int:
        """Number of rows left out."""
        return int(self.kept.size - self.kept.sum())


def check_policy(missing: str) -> None:
    """Raise ValueError for an unknown policy."""
    if missing not in POLICIES:
        raise ValueError(f"missing must be one of {', '.join(POLICIES)}, not {missing!r}.")


def drop_missing(X: Any, y: Any) -> Complete:
    """The rows of ``X (n, d)`` or ``(n,)`` and ``y (n,)`` in which nothing is NaN or masked.

    Arrays of any library, lists as well.  Raises NonFiniteError if no row is left, ShapeError for a Grid or
    for sizes that do not fit.
    """
    if isinstance(X, Grid):
        raise ShapeError("rows of a Grid cannot be dropped; give its points as an array: grid.points().")
    X, y = unveiled(X), unveiled(y)
    X = np.asarray(X, dtype=float) if backend_of(X) is None else X
    y = np.asarray(y, dtype=float) if backend_of(y) is None else y
    if X.ndim not in (1, 2) or y.ndim != 1 or X.shape[0] != y.shape[0]:
        raise ShapeError(
            f"X must be (n, d) or (n,) and y (n,), not {tuple(X.shape)} and {tuple(y.shape)}: "
            "there must be one value of y for every row of X."
        )
    inputs = np.reshape(_numpy(X), (X.shape[0], -1))
    kept = ~(np.isnan(inputs).any(axis=1) | np.isnan(_numpy(y)))
    if not kept.any():
        raise NonFiniteError(f"every one of the {kept.size} rows holds a NaN; nothing is left to fit.")
    if kept.all():
        return Complete(X, y, kept)
    return Complete(_rows(X, kept), _rows(y, kept), kept)


def unveiled(x: Any) -> Any:
    """A masked array with NaN where it hides something; anything else as it is."""
    if not isinstance(x, np.ma.MaskedArray):
        return x
    return np.ma.filled(x if x.dtype.kind == "f" else x.astype(float), np.nan)


def _numpy(x: Any) -> np.ndarray:
    backend = backend_of(x)
    array = np.asarray(x if backend is None else backend.to_numpy(x))
    return array if array.dtype.kind == "f" else array.astype(float)


def _rows(x: Any, kept: np.ndarray) -> Any:
    backend = backend_of(x)
    if backend is None or backend.name == "numpy":
        return x[kept]
    mask = backend.asarray(kept, dtype=backend.xp.bool, device=backend.device(x))
    return x[mask]


__all__ = ["Complete", "check_policy", "drop_missing", "unveiled"]
