"""Replace operands by their shapes and dtypes, keeping every structural and declared fact."""

from __future__ import annotations

from typing import Any

from ..backends import backend_of_type
from ..backends.abstract import AbstractArray
from ..operators import LinearOperator, as_operator, map_leaves
from ..operators.algebra import is_scipy_sparse

__all__ = ["abstract"]


def abstract(x: Any) -> Any:
    """The operator (or array) with placeholders for its arrays; anything else unchanged."""
    if isinstance(x, LinearOperator):
        return map_leaves(_leaf, x)._restatic(None, "abstract")
    if is_scipy_sparse(x):
        return abstract(as_operator(x))
    return _leaf(x)


def _leaf(x: Any) -> Any:
    return x if backend_of_type(type(x)) is None else AbstractArray(x.shape, x.dtype)
