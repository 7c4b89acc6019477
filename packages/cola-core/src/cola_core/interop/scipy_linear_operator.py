"""``scipy.sparse.linalg.LinearOperator``: what it is made of is taken apart where SciPy keeps it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.base import dtype_name
from ..errors import ShapeError
from ..operators import FunctionOperator, Identity, LinearOperator, as_operator

__all__ = ["read", "write"]


def read(op: Any) -> LinearOperator:
    """A SciPy operator as one of ours. Its adjoint is SciPy's ``rmatvec``, an error there if not given."""
    kind: str = type(op).__name__
    args: Any = getattr(op, "args", ())
    if type(op).__module__.startswith("scipy.sparse.linalg"):
        if kind == "MatrixLinearOperator":
            return as_operator(op.A)
        if kind == "IdentityOperator":
            return Identity(op.shape[0], None if op.dtype is None else dtype_name(op.dtype))
        if kind == "_SumLinearOperator":
            return read(args[0]) + read(args[1])
        if kind == "_ProductLinearOperator":
            return read(args[0]) @ read(args[1])
        if kind == "_ScaledLinearOperator":
            return args[1] * read(args[0])
        if kind == "_AdjointLinearOperator":
            return read(args[0]).H
        if kind == "_TransposedLinearOperator":
            return read(args[0]).T
    # SciPy offers rmatvec always, and fails in it with an unrelated error if it was not given
    adjoint = getattr(op, "_CustomLinearOperator__rmatvec_impl", op) is not None
    return FunctionOperator(
        op.matvec,
        op.shape,
        np.dtype(np.float64 if op.dtype is None else op.dtype).name,
        rmatvec=op.rmatvec if adjoint else None,
        matmat=op.matmat,
        rmatmat=op.rmatmat if adjoint else None,
    )


def write(A: LinearOperator) -> Any:
    """One of ours as a SciPy operator on NumPy arrays, whatever library computes."""
    from scipy.sparse.linalg import LinearOperator as Scipy

    if A.batch_shape:
        raise ShapeError(f"SciPy's operators have no batches; {A!r} has batch shape {A.batch_shape}.")
    forward, backward = on_numpy(A)
    return Scipy(A.shape, forward, rmatvec=backward, matmat=forward, rmatmat=backward, dtype=numpy_dtype(A))


def numpy_dtype(A: LinearOperator) -> Any:
    """A's dtype for NumPy, which has no bfloat16 of its own."""
    name = dtype_name(A.dtype)
    return np.dtype("float32" if name == "bfloat16" else name)


def on_numpy(A: LinearOperator) -> tuple[Any, Any]:
    """``x -> A x`` and ``x -> A^H x`` for NumPy arrays of one or two axes."""
    from ..backends.exchange import exchange

    be = A._concrete_backend()
    numpy = numpy_dtype(A)

    def product(M: LinearOperator, x: Any) -> Any:
        # what SciPy passes may be of another precision than A; the answer has the wider one
        x = np.asarray(x)
        if be.name == "numpy":
            return M @ x
        y = M @ exchange(x.astype(np.promote_types(numpy, x.dtype), copy=False), "numpy", be.name, A.device)
        return exchange(y, be.name, "numpy")

    return (lambda x: product(A, x)), (lambda x: product(A.H, x))
