"""Checks of arrays given by users, with errors that say what was given and what to do."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import DTypeError, NonFiniteError, ShapeError

from .arrays import backend_for

Array = Any


def plain(name: str, value: Any) -> Any:
    """``value`` without its mask, which most functions look past.

    Raises NonFiniteError if the mask hides entries, DTypeError for dates and durations: as numbers they
    count years, days or nanoseconds as they happen to be stored.
    """
    dtypes = getattr(value, "dtypes", ()) if hasattr(value, "columns") else [getattr(value, "dtype", None)]
    for dtype in dtypes:
        if getattr(dtype, "kind", "") in ("m", "M"):
            raise DTypeError(
                f"{name} holds dates or durations ({dtype}); give numbers in a unit of your choice, such as "
                "days: (t - t[0]) / numpy.timedelta64(1, 'D')."
            )
    if not isinstance(value, np.ma.MaskedArray):
        return value
    hidden = int(np.ma.getmaskarray(value).sum())
    if hidden:
        raise NonFiniteError(
            f"{name} is a masked array that hides {hidden} entries; drop those observations "
            f"(y.compressed(), X[~y.mask]), or write y.filled(np.nan) for targets on a grid."
        )
    return value.data


def numbers(name: str, value: Any, ndim: int) -> Array:
    """A real floating array with ``ndim`` axes; lists and integers become float64.  May hold NaN."""
    value = plain(name, value)
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
        axes = "1 axis" if ndim == 1 else f"{ndim} axes"
        column = ndim == 1 and value.ndim == 2 and value.shape[1] == 1
        remedy = f"; give its column, {name}[:, 0]" if column else ""
        raise ShapeError(f"{name} must have {axes}, not shape {tuple(value.shape)}{remedy}.")
    return value


def finite_numbers(name: str, value: Any, ndim: int) -> Array:
    """As :func:`numbers`, and every entry finite."""
    value = numbers(name, value, ndim)
    backend = backend_for(value)
    if backend.is_concrete(value) and not backend.all_finite(value):
        bad = int(np.sum(~np.isfinite(np.asarray(backend.to_numpy(value)))))
        raise NonFiniteError(
            f"{name} holds {bad} NaN or infinite entries; remove or impute those observations."
        )
    return value


def whole_count(name: str, count: Any) -> int:
    """A number of draws: a whole number, zero or more."""
    try:
        whole = operator.index(count)
    except TypeError:
        raise TypeError(f"{name}: count must be a whole number, not {count!r}.") from None
    if whole < 0:
        raise ValueError(f"{name}: count must not be negative, not {whole}.")
    return whole
