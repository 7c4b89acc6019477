"""Replace operands by their shapes and dtypes, keeping every structural and declared fact."""

from __future__ import annotations

from typing import Any

from ..backends import backend_of_type
from ..backends.abstract import AbstractArray
from ..interop import convert
from ..operators import LinearOperator, map_leaves

__all__ = ["abstract"]


def abstract(x: Any) -> Any:
    """The operator (or array) with placeholders for its arrays; anything else unchanged."""
    if isinstance(x, LinearOperator):
        return map_leaves(_leaf, x)._restatic(None, "abstract")
    foreign = convert(x)
    return _leaf(x) if foreign is None else abstract(foreign)


def _leaf(x: Any) -> Any:
    return x if backend_of_type(type(x)) is None else AbstractArray(x.shape, x.dtype)
