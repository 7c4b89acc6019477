"""Some entries of an operator as an array: read off where they are stored, by products with unit vectors
else.

For operators and rules that go through a matrix strip by strip with bounded memory.
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array, Backend
from .base import LinearOperator
from .dense import Dense
from .diagonal import Diagonal
from .lowrank import LowRank
from .sparse import Sparse

__all__ = ["STRIP_BYTES", "at_positions", "columns", "readable", "rows", "strips", "unit_columns"]

STRIP_BYTES = 2**26  # bytes of a strip of a matrix that is held at once


def readable(M: LinearOperator) -> bool:
    """Whether rows and columns are read off without products."""
    return isinstance(M, (Dense, LowRank))


def strips(length: int, bytes_each: float, limit: int = STRIP_BYTES) -> list[tuple[int, int]]:
    """``range(length)`` cut into (start, stop) so that a strip stays below the limit."""
    width = max(int(limit / max(bytes_each, 1)), 1)
    return [(s, min(s + width, length)) for s in range(0, length, width)]


def unit_columns(be: Backend, n: int, start: int, stop: int, dtype: Any, device: Any) -> Array:
    """Columns start to stop of the n x n identity."""
    E = be.zeros((n, stop - start), dtype, device)
    return be.put(E, slice(start, stop), be.eye(stop - start, dtype, device))


def columns(M: LinearOperator, start: int, stop: int, like: LinearOperator) -> Array:
    """``M[:, start:stop]`` (*batch, m, stop - start), of ``like``'s library and dtype where M has none."""
    if isinstance(M, Dense):
        return M.array[..., :, start:stop]
    be = like._concrete_backend()
    if isinstance(M, LowRank):
        return be.matmul(M.U, be.adjoint(M.right[..., start:stop, :]))
    return M._matmat(unit_columns(be, M.shape[-1], start, stop, like.dtype, like.device))


def rows(M: LinearOperator, start: int, stop: int, like: LinearOperator) -> Array:
    """``M[start:stop, :]`` (*batch, stop - start, n), of ``like``'s library and dtype where M has none."""
    if isinstance(M, Dense):
        return M.array[..., start:stop, :]
    be = like._concrete_backend()
    if isinstance(M, LowRank):
        return be.matmul(M.U[..., start:stop, :], be.adjoint(M.right))
    return be.adjoint(M._rmatmat(unit_columns(be, M.shape[-2], start, stop, like.dtype, like.device)))


def at_positions(M: LinearOperator, i: Array, j: Array) -> Array | None:
    """``M[i[k], j[k]]`` for every k (*batch, len(i)), or None where that takes products."""
    be = M._concrete_backend()
    xp = be.xp
    if isinstance(M, Dense):
        return M.array[..., i, j]
    if isinstance(M, LowRank):
        return xp.sum(M.U[..., i, :] * be.conj(M.right[..., j, :]), axis=-1)
    if isinstance(M, Diagonal):
        return xp.where(i == j, M.diag[..., i], xp.zeros_like(M.diag[..., i]))
    if isinstance(M, Sparse) and M.nnz:
        # stored by row, then column: the position of an entry is found by bisection
        n = M.size[1]
        stored, wanted = M.rows * n + M.cols, i * n + j
        slot = xp.minimum(xp.searchsorted(stored, wanted), xp.asarray(M.nnz - 1))
        return xp.where(stored[slot] == wanted, M.data[slot], xp.zeros_like(M.data[slot]))
    return None
