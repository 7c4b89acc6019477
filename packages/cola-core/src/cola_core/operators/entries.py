"""Some entries of an operator as an array: read off where they are stored, by products with unit vectors
else.

For operators and rules that go through a matrix strip by strip with bounded memory.
"""

from __future__ import annotations

from typing import Any

from ..backends import backend_of
from ..backends.base import Array, Backend
from .base import LinearOperator
from .circulant import Circulant
from .dense import Dense
from .diagonal import Diagonal, Identity, ScalarMul
from .kernel import Kernel
from .kronecker import Kronecker
from .lowrank import LowRank
from .product import Product, split_scalar
from .sparse import Sparse
from .sum import Sum
from .toeplitz import Toeplitz

__all__ = [
    "STRIP_BYTES",
    "at_positions",
    "columns",
    "has_entries",
    "readable",
    "rows",
    "strips",
    "unit_columns",
]

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


def has_entries(M: LinearOperator) -> bool:
    """Whether single entries are read off or composed from a few of the parts'."""
    if isinstance(M, (Sum, Kronecker)):
        return not M.batch_shape and all(map(has_entries, M.Ms))
    if isinstance(M, Product):
        scalar, rest = split_scalar(M)
        return scalar is not None and not getattr(scalar.c, "shape", ()) and has_entries(rest)
    if isinstance(M, (ScalarMul, Kernel)):
        return not M.batch_shape
    return isinstance(M, (Dense, LowRank, Diagonal, Identity, Toeplitz, Circulant)) or (
        isinstance(M, Sparse) and M.nnz > 0
    )


def at_positions(M: Any, i: Array, j: Array) -> Array | None:
    """``M[i[k], j[k]]`` for index arrays of one shape (*batch, *shape), or None where that takes products."""
    if not has_entries(M):
        return None
    be: Any = backend_of(i)
    xp = be.xp
    if isinstance(M, Dense):
        return M.array[..., i, j]
    if isinstance(M, LowRank):
        return xp.sum(M.U[..., i, :] * be.conj(M.right[..., j, :]), axis=-1)
    if isinstance(M, Diagonal):
        return xp.where(i == j, M.diag[..., i], xp.zeros_like(M.diag[..., i]))
    if isinstance(M, (ScalarMul, Identity)):
        c = M.c if isinstance(M, ScalarMul) else 1
        return xp.where(i == j, c, 0 * c)
    if isinstance(M, Toeplitz):
        zero = xp.zeros_like(i)
        below = M.column[..., xp.where(i >= j, i - j, zero)]
        above = M.first_row[..., xp.where(j > i, j - i, zero)]
        return xp.where(i >= j, below, above)
    if isinstance(M, Circulant):
        return M.column[..., (i - j) % M.shape[-1]]
    if isinstance(M, Sparse):
        # stored by row, then column: the position of an entry is found by bisection
        n = M.size[1]
        stored, wanted = M.rows * n + M.cols, i * n + j
        slot = xp.minimum(xp.searchsorted(stored, wanted), xp.asarray(M.nnz - 1))
        return xp.where(stored[slot] == wanted, M.data[slot], xp.zeros_like(M.data[slot]))
    if isinstance(M, Kernel):
        pairs: Any = M._take(xp.reshape(i, (-1,)), xp.reshape(j, (-1,)))
        return xp.reshape(pairs.diagonal(), i.shape)
    if isinstance(M, Product):
        scalar, rest = split_scalar(M)
        return scalar.c * at_positions(rest, i, j)  # type: ignore[union-attr, operator]
    out: Any = None
    if isinstance(M, Sum):
        for part in M.Ms:
            more = at_positions(part, i, j)
            out = more if out is None else out + more
        return out
    # Kronecker: an entry is the product of the entries at the digits of its indices
    for part in reversed(M.Ms):
        m, n = part.shape[-2:]
        more = at_positions(part, i % m, j % n)
        out = more if out is None else out * more
        i, j = i // m, j // n
    return out
