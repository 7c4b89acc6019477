"""Batch axes of arrays: exchanging, joining and comparing them in the one way that all libraries know."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.base import Array

__all__ = ["exchange", "fits", "joined"]


def exchange(xp: Any, x: Array) -> Array:
    """The axes -3 and -2 exchanged. Not ``moveaxis``: torch has no batching rule for it."""
    d = len(x.shape)
    return xp.permute_dims(x, (*range(d - 3), d - 2, d - 3, d - 1))


def joined(xp: Any, parts: list[Array], core: int = 1) -> Array:
    """Concatenated along the last axis; dtypes are promoted, the axes before the last ``core`` broadcast."""
    dtype = xp.result_type(*parts)
    parts = [xp.astype(p, dtype) if p.dtype != dtype else p for p in parts]
    if any(p.ndim > core for p in parts):
        lead = np.broadcast_shapes(*(tuple(p.shape[:-core]) for p in parts))
        parts = [xp.broadcast_to(p, (*lead, *p.shape[-core:])) for p in parts]
    return xp.concat(parts, axis=-1)


def fits(small: Any, large: Any) -> bool:
    """Whether an array of shape ``small`` can be added in place to one of shape ``large``."""
    small, large = tuple(small), tuple(large)
    extra = len(large) - len(small)
    return extra >= 0 and all(s in (1, t) for s, t in zip(small, large[extra:], strict=True))
