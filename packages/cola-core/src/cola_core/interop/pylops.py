"""PyLops operators: matrix-free, with an adjoint, on NumPy arrays; multi-dimensional models are flattened."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError
from ..operators import FunctionOperator, LinearOperator
from .scipy_linear_operator import numpy_dtype, on_numpy

__all__ = ["read", "write"]


def read(op: Any) -> LinearOperator:
    """A PyLops operator of shape (m, n) as one of ours; what ``write`` made is given back as it was."""
    original = getattr(op, "cola_operator", None)
    if isinstance(original, LinearOperator):
        return original
    dtype = np.dtype(np.float64 if op.dtype is None else op.dtype)
    if dtype.kind not in "fc":
        dtype = np.dtype(np.float64)
    return FunctionOperator(
        op.matvec, op.shape, dtype.name, rmatvec=op.rmatvec, matmat=op.matmat, rmatmat=op.rmatmat
    )


def write(A: LinearOperator) -> Any:
    """One of ours as a ``pylops.LinearOperator``; its ``cola_operator`` is the original."""
    from pylops import LinearOperator as PyLops

    if A.batch_shape:
        raise ShapeError(f"PyLops operators have no batches; {A!r} has batch shape {A.batch_shape}.")
    forward, backward = on_numpy(A)

    class Wrapped(PyLops):
        def _matvec(self, x: Any) -> Any:
            return forward(x)

        def _rmatvec(self, x: Any) -> Any:
            return backward(x)

        def _matmat(self, X: Any) -> Any:
            return forward(X)

        def _rmatmat(self, X: Any) -> Any:
            return backward(X)

    made = Wrapped(dtype=numpy_dtype(A), shape=A.shape, name=type(A).__name__[:9])
    made.cola_operator = A
    return made
