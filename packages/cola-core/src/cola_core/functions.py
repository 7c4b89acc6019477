"""Small conversions between arrays and operators, under the names of the CoLA package."""

from __future__ import annotations

from typing import Any

from .operators import Identity, LinearOperator, as_operator

__all__ = ["I_like", "densify", "lazify"]


def lazify(A: Any) -> LinearOperator:
    """An operator as is, an array as ``Dense``."""
    return as_operator(A)


def densify(A: Any) -> Any:
    """The matrix of an operator as an array; arrays as they are."""
    return A.to_dense() if isinstance(A, LinearOperator) else A


def I_like(A: Any) -> Identity:
    """The identity of A's size, dtype, array library and device."""
    return Identity.like(as_operator(A))
