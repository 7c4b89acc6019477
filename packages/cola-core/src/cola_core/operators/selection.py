"""Products with some rows or columns of an operator, without a product with the whole where that is possible.

For algorithms that take a matrix a few rows or columns at a time. Index arrays may be traced, so that
compiled loops can choose them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends import backend_of
from ..backends.base import Array
from ..properties import SelfAdjoint
from .base import LinearOperator
from .dense import Dense
from .diagonal import Diagonal, Identity, ScalarMul
from .kernel import Kernel
from .lowrank import LowRank
from .opaque import NoDispatch
from .product import Product, split_scalar
from .sparse import Sparse
from .sum import Sum

__all__ = ["columns_times", "diagonal_blocks", "has_cheap_rows", "rows_times", "some_columns"]


def has_cheap_rows(A: LinearOperator) -> bool:
    """Whether a few rows cost less than a product with the whole."""
    if A.batch_shape:
        return False
    if isinstance(A, Sum):
        return all(map(has_cheap_rows, A.Ms))
    if isinstance(A, Product):
        scalar, rest = split_scalar(A)
        return scalar is not None and not getattr(scalar.c, "shape", ()) and has_cheap_rows(rest)
    return isinstance(A, (Dense, Diagonal, Identity, ScalarMul, Kernel, LowRank))


def rows_times(A: LinearOperator, index: Array, X: Array) -> Array:
    """``A[index, :] @ X``."""
    be: Any = backend_of(X)
    if isinstance(A, Dense):
        return be.matmul(A.array[index, :], X)
    if isinstance(A, Kernel):
        part: LinearOperator = A._take(index, None)
        return part._matmat(X)
    if isinstance(A, LowRank):
        return be.matmul(A.U[index, :], be.matmul(be.adjoint(A.right), X))
    if isinstance(A, Diagonal):
        return A.diag[index, None] * X[index, :]
    if isinstance(A, (Identity, ScalarMul)):
        return A._matmat(X[index, :])
    if isinstance(A, Sum):
        parts = [rows_times(M, index, X) for M in A.Ms]
        return sum(parts[1:], parts[0])
    scalar, rest = split_scalar(A)
    if scalar is not None and has_cheap_rows(A):
        return scalar.c * rows_times(rest, index, X)
    return A._matmat(X)[index, :]


def columns_times(A: LinearOperator, index: Array, Y: Array, self_adjoint: bool = False) -> Array:
    """``A[:, index] @ Y``; where an index is given twice, both rows of Y count.

    self_adjoint: A is, so that rows may be read in place of columns, which lie together in memory.
    """
    be: Any = backend_of(Y)
    if isinstance(A, Dense) and self_adjoint:
        return be.matmul(be.adjoint(A.array[index, :]), Y)
    if isinstance(A, Dense):
        return be.matmul(A.array[:, index], Y)
    if isinstance(A, Kernel):
        part: LinearOperator = A._take(None, index)
        return part._matmat(Y)
    if isinstance(A, LowRank):
        return be.matmul(A.U, be.matmul(be.adjoint(A.right[index, :]), Y))
    if isinstance(A, Sum):
        # if all terms but one are self-adjoint, so is that one
        sure = self_adjoint and sum(not M.isa(SelfAdjoint) for M in A.Ms) <= 1
        parts = [columns_times(M, index, Y, sure) for M in A.Ms]
        return sum(parts[1:], parts[0])
    scalar, rest = split_scalar(A)
    if scalar is not None and has_cheap_rows(A):
        return scalar.c * columns_times(rest, index, Y)
    return A._matmat(be.index_add(index, Y, A.shape[-1]))


def some_columns(A: LinearOperator, index: Array) -> Array:
    """``A[:, index]`` as an array, from the entries where they are stored or evaluated one by one."""
    be = A._concrete_backend()
    if isinstance(A, NoDispatch):
        A = A.A
    if isinstance(A, Dense):
        return A.array[:, index]
    if isinstance(A, Kernel):
        part: LinearOperator = A._take(None, index)
        return part._to_dense()
    if hasattr(A, "columns"):  # an operator of a plugin that can tell its entries
        return A.columns(index)
    if isinstance(A, Sparse) and be.name == "numpy" and not A.batch_shape:
        return A.to_scipy()[:, index].toarray()  # type: ignore[no-any-return]
    if isinstance(A, Sum):
        parts = [some_columns(M, index) for M in A.Ms if M.backend is not None]
        parts += [_units(A, index, M) for M in A.Ms if M.backend is None]
        return sum(parts[1:], parts[0])
    return _units(A, index, A)


def _units(like: LinearOperator, index: Array, M: LinearOperator) -> Array:
    """Columns by a product with unit vectors."""
    be = like._concrete_backend()
    places = be.xp.arange(like.shape[-1], device=like.device)[:, None] == index[None, :]
    return M._matmat(be.astype(places, like.dtype))


def diagonal_blocks(A: LinearOperator, places: Any) -> Array:
    """``A[p, p]`` for each row p of a NumPy index array (count, size), stacked (count, size, size)."""
    from .entries import has_entries

    be = A._concrete_backend()
    count, size = places.shape
    if isinstance(A, NoDispatch):
        return diagonal_blocks(A.A, places)
    if isinstance(A, Kernel) and not A.batch_shape:
        index = [be.asarray(p, device=A.device) for p in places]
        return be.xp.stack([A._take(i, i)._to_dense() for i in index])
    if isinstance(A, Sum) and not A.batch_shape:
        parts = [be.astype(diagonal_blocks(M, places), A.dtype) for M in A.Ms if M.backend is not None]
        parts += [be.astype(_by_entries(A, M, places), A.dtype) for M in A.Ms if M.backend is None]
        return sum(parts[1:], parts[0])
    if has_entries(A):
        return be.astype(_by_entries(A, A, places), A.dtype)
    strip = max(int(2**22 / max(A.shape[-1] * size, 1)), 1)  # blocks whose columns are held at once
    pieces = []
    for start in range(0, count, strip):
        part = places[start : start + strip]
        index_array = be.asarray(part.ravel(), device=A.device)
        c = part.shape[0]
        whole = be.xp.reshape(some_columns(A, index_array)[index_array, :], (c, size, c, size))
        pieces.append(be.xp.stack([whole[k, :, k, :] for k in range(c)]))
    return be.xp.concat(pieces) if len(pieces) > 1 else pieces[0]


def _by_entries(like: LinearOperator, M: LinearOperator, places: Any) -> Array:
    from .entries import at_positions

    be = like._concrete_backend()
    count, size = places.shape
    i = np.broadcast_to(places[:, :, None], (count, size, size)).copy()
    j = np.broadcast_to(places[:, None, :], (count, size, size)).copy()
    return at_positions(M, be.asarray(i, device=like.device), be.asarray(j, device=like.device))
