"""Columns of the points that hold labels, such as task numbers: integers stored in floating columns."""

from __future__ import annotations

from typing import Any

from cola_core.errors import ShapeError

from .arrays import Array, backend_for


def label_numbers(X: Any, dim: int, count: int, owner: str) -> tuple[Array, Array | None]:
    """Column ``dim`` of ``X (n, d)`` as integers ``(n,)`` below ``count``.

    Raises ShapeError for a column that is not there and ValueError for values that are no labels.  Where
    values cannot be looked at (in a compiled function) the second result says which are labels; the others
    have the number 0 and must be marked by the caller.
    """
    if not -X.shape[1] <= dim < X.shape[1]:
        raise ShapeError(f"{owner} uses dimension {dim} but the points have {X.shape[1]} dimensions.")
    backend = backend_for(X)
    xp = backend.xp
    column = X[:, dim]
    rounded = xp.round(column)
    good = (rounded == column) & (column >= 0) & (column < count)
    inside = backend.astype(xp.where(good, rounded, xp.zeros_like(rounded)), xp.int32)
    if not backend.is_concrete(X):
        return inside, good
    if not bool(xp.all(good)):
        bad = backend.to_numpy(column)[~backend.to_numpy(good)][0]
        raise ValueError(
            f"{bad:g} is not one of the labels of {owner}, which are the numbers 0 to {count - 1}; "
            "number them so, and leave their column unscaled."
        )
    return inside, None


def one_hot(numbers: Array, count: int, like: Array) -> Array:
    """Ones where an observation has a label, ``(n, count)``, of the dtype of ``like``."""
    backend = backend_for(like)
    hit = numbers[:, None] == backend.xp.arange(count, device=backend.device(like))[None, :]
    return backend.astype(hit, like.dtype)
