"""``SparseRows``: a sparse matrix as iterations on JAX want it, every row filled up to one length.

XLA scatters entry by entry, but gathers and adds whole vectors; so a product is one gather for each position
in a row, four times faster on a CPU than adding entries to their rows (the ELLPACK format; Saad 2003, sec.
3.4). Made by ``loop_form`` for the duration of a loop; nobody else needs to know it. Plugins have that
function as ``cola_core.algorithms.loop_form``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.base import Array
from ..cost import Cost
from ..pytree import flatten, operator, unflatten
from .base import LinearOperator
from .sparse import Sparse

__all__ = ["SparseRows", "loop_form"]

WIDEST = 48  # entries in a row; each is a gather of its own in the program
FILLING = 2  # at most so many times the entries that there are


@operator
class SparseRows(LinearOperator):
    """``source`` with its entries in slots: ``data[j, i]`` at row i and column ``cols[j, i]``, zeros at the
    end of short rows. data, cols: (width, m)."""

    data: Array
    cols: Array
    source: Sparse

    def _shape(self) -> tuple[int, ...]:
        return self.source.shape

    def _matmat(self, X: Array) -> Array:
        total = 0
        for j in range(self.data.shape[0]):
            total = total + self.data[j][:, None] * X[..., self.cols[j], :]
        return total

    def _rmatmat(self, X: Array) -> Array:
        return self.source._rmatmat(X)

    def _adjoint(self) -> LinearOperator:
        return self.source.H

    def _transpose(self) -> LinearOperator:
        return self.source.T

    def _conj(self) -> LinearOperator:
        return self.source.conj()

    def _to_dense(self) -> Array:
        return self.source._to_dense()

    def _matvec_cost(self) -> Cost:
        return self.source._matvec_cost()


def loop_form(A: Any) -> Any:
    """The operator that an iteration should multiply by: the same matrix, shape and dtype as A.

    On JAX the sparse matrices in A are stored by rows of one length, if their positions are known and no
    row is much longer than the others; everything else, and A itself where nothing changes, is returned as
    it is (so ``loop_form(A) is A`` on NumPy and PyTorch). Costs one pass over the entries, once: the form
    is kept with the matrix. What is not an operator is returned too; tuples are gone through.
    """
    if isinstance(A, Sparse):
        # a subclass with products of its own, such as one spread over devices, knows better
        return _rows(A) if type(A)._matmat is Sparse._matmat else A
    if not hasattr(type(A), "_child_fields"):
        return tuple(loop_form(x) for x in A) if isinstance(A, tuple) else A
    children, metadata = flatten(A)
    formed = tuple(loop_form(x) for x in children)
    if all(_same(x, y) for x, y in zip(children, formed, strict=True)):
        return A
    return unflatten(type(A), metadata, formed)


def _same(x: Any, y: Any) -> bool:
    if isinstance(x, tuple):
        return all(_same(a, b) for a, b in zip(x, y, strict=True))
    return x is y


def _rows(A: Sparse) -> LinearOperator:
    """A by rows; kept with A, since its entries never change."""
    be = A._concrete_backend()
    if be.name != "jax" or A.data.ndim != 1 or not A.nnz or not be.is_concrete(A.data, A.rows, A.cols):
        return A
    made = A.__dict__.get("_by_rows")
    if made is None:
        found = _slots(be, A)
        made = A.__dict__["_by_rows"] = A if found is None else found
    return made


def _slots(be: Any, A: Sparse) -> LinearOperator | None:
    m = A.size[0]
    rows, cols = be.to_numpy(A.rows), be.to_numpy(A.cols)
    counts = np.bincount(rows, minlength=m)
    width = int(counts.max())
    if width > WIDEST or width * m > FILLING * A.nnz:
        return None
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    slot = np.arange(A.nnz) - starts[rows]  # entries are in order of rows
    index = np.zeros((width, m), np.int32 if A.size[1] < 2**31 else np.int64)
    index[slot, rows] = cols
    data = be.zeros((width, m), A.data.dtype).at[slot, rows].set(A.data)
    return SparseRows(data, be.asarray(index), A, declared=A.declared)
