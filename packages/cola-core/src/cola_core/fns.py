"""Functions on operators under the names of CoLA's ``cola.fns``; every one is also an operator's own syntax.

>>> import numpy as np, cola_core as cola
>>> A = cola.fns.kron(np.eye(2), np.ones((2, 2)))
>>> cola.fns.add(A, cola.fns.transpose(A)).shape
(4, 4)
"""

from __future__ import annotations

from typing import Any

from .functions import I_like, densify, lazify
from .operators import LinearOperator, as_operator, block_diag, kron, kronsum, no_dispatch

__all__ = [
    "I_like",
    "add",
    "adjoint",
    "block_diag",
    "concatenate",
    "densify",
    "dot",
    "kron",
    "kronsum",
    "lazify",
    "mul",
    "no_dispatch",
    "transpose",
]


def dot(A: Any, B: Any) -> LinearOperator:
    """``A @ B`` as an operator."""
    return as_operator(A) @ as_operator(B)


def add(A: Any, B: Any) -> LinearOperator:
    """``A + B`` as an operator."""
    return as_operator(A) + as_operator(B)


def mul(A: Any, c: Any) -> LinearOperator:
    """``c * A`` for a number c, on either side."""
    if isinstance(c, LinearOperator):
        A, c = c, A
    return c * as_operator(A)


def transpose(A: Any) -> LinearOperator:
    """``A.T``."""
    return as_operator(A).T


def adjoint(A: Any) -> LinearOperator:
    """``A.H``."""
    return as_operator(A).H


def concatenate(Ms: Any, axis: int = 0) -> LinearOperator:
    """Operators stacked on top of each other (axis 0) or side by side (axis 1)."""
    from .operators import Concatenated

    return Concatenated(*map(as_operator, Ms), axis=axis)
