"""Exchanging axes in the one way that NumPy, JAX, torch under vmap, and planning all know."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array

__all__ = ["exchange"]


def exchange(xp: Any, x: Array) -> Array:
    """The axes -3 and -2 exchanged. Not ``moveaxis``: torch has no batching rule for it."""
    d = len(x.shape)
    return xp.permute_dims(x, (*range(d - 3), d - 2, d - 3, d - 1))
