"""How each axis of an array is cut over devices."""

from __future__ import annotations

from typing import Any

from .abstract import AbstractArray
from .registry import backend_of_type

__all__ = ["pieces"]


def pieces(x: Any) -> tuple[int, ...]:
    """Into how many pieces each axis of an array is cut over devices: all ones where every device has all."""
    if isinstance(x, AbstractArray):
        return x.pieces or (1,) * x.ndim
    backend = backend_of_type(type(x))
    return (1,) * len(x.shape) if backend is None else backend.pieces(x)
