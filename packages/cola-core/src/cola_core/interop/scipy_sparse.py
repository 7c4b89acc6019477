"""``scipy.sparse`` matrices and arrays."""

from __future__ import annotations

from typing import Any

from ..errors import ShapeError
from ..operators import LinearOperator, Sparse

__all__ = ["entries", "read", "write"]


def read(M: Any) -> LinearOperator:
    """A SciPy matrix as ``Sparse`` (duplicates summed)."""
    return Sparse.from_scipy(M)


def write(A: LinearOperator) -> Any:
    """The entries as a ``csr_array``; the same memory for a ``Sparse`` of NumPy arrays."""
    return entries(A).to_scipy()


def entries(A: LinearOperator) -> Sparse:
    """``A`` as ``Sparse``. Only operators that store entries have any: making others sparse would cost a
    product per column, which is for the caller to decide (``as_operator(scipy.sparse.csr_array(...))``)."""
    if isinstance(A, Sparse):
        if A.batch_shape:
            raise ShapeError(
                f"{A!r} is a batch of {A.batch_shape} matrices, what is to be made is one: convert them "
                "one by one, Sparse(A.data[i], A.rows, A.cols, A.size)."
            )
        return A
    raise TypeError(
        f"{A!r} stores no list of entries. Products work through interop.to_scipy(A); for entries make "
        "cola_core.ops.Sparse yourself, or scipy.sparse.csr_array(A.to_dense())."
    )
