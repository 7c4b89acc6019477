"""``Sliced``: some rows and columns of an operator; and what ``A[...]`` means."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..backends import backend_of_type
from ..backends.base import Array
from ..cost import Cost
from ..errors import ShapeError
from ..properties import PSD, Property, SelfAdjoint, Stiefel
from ..pytree import operator, static
from .base import LinearOperator

__all__ = ["Sliced", "getitem"]


@operator
class Sliced(LinearOperator):
    """``A[rows, cols]`` as an operator: scatter into A's columns, multiply, gather rows.
    Costs a product with A.

    rows, cols: index arrays (index leaves, duplicates allowed) or None for all; same: rows and cols are one
    selection, so self-adjointness and PSD survive.
    """

    A: LinearOperator
    rows: Array | None = None
    cols: Array | None = None
    same: bool = static(default=False)

    _aliases: ClassVar[dict[str, str]] = {"slices": "rows"}

    @property
    def slices(self) -> tuple[Array | None, Array | None]:
        """(rows, columns)."""
        return self.rows, self.cols

    def _check(self) -> None:
        if isinstance(self.rows, tuple):  # Sliced(A, (rows, cols)): CoLA's spelling of A[rows, cols]
            if len(self.rows) != 2 or any(map(_is_int, self.rows)):
                raise ShapeError(f"Sliced takes (rows, columns) as slices or index arrays, not {self.rows}.")
            (row, col), (m, n) = self.rows, self.A.shape[-2:]
            object.__setattr__(self, "same", m == n and _same(row, col))
            object.__setattr__(self, "rows", _selection(self.A, row, m))
            object.__setattr__(self, "cols", _selection(self.A, col, n))
        _check_index(self.A, self.rows, "rows")
        _check_index(self.A, self.cols, "cols")

    def _shape(self) -> tuple[int, ...]:
        m, n = self.A.shape[-2:]
        m = m if self.rows is None else self.rows.shape[0]
        n = n if self.cols is None else self.cols.shape[0]
        return (*self.A.batch_shape, m, n)

    def _dtype(self) -> Any:
        return self.A._dtype()

    def _pass(self, X: Array, cols: Any, extent: int, rows: Any, product: Any) -> Array:
        if cols is not None:
            be = backend_of_type(type(X))
            X = be.index_add(cols, X, extent)  # type: ignore[union-attr]
        Y = product(X)
        if rows is None:
            return Y
        return backend_of_type(type(Y)).gather(Y)[..., rows, :]  # type: ignore[union-attr]

    def _matmat(self, X: Array) -> Array:
        return self._pass(X, self.cols, self.A.shape[-1], self.rows, self.A._matmat)

    def _rmatmat(self, X: Array) -> Array:
        return self._pass(X, self.rows, self.A.shape[-2], self.cols, self.A._rmatmat)

    def _adjoint(self) -> LinearOperator:
        return Sliced(self.A.H, self.cols, self.rows, self.same)

    def _transpose(self) -> LinearOperator:
        return Sliced(self.A.T, self.cols, self.rows, self.same)

    def _conj(self) -> LinearOperator:
        return Sliced(self.A.conj(), self.rows, self.cols, self.same)

    def _part(self, imaginary: bool) -> LinearOperator:
        return Sliced(self.A.imag if imaginary else self.A.real, self.rows, self.cols, self.same)

    def _properties(self) -> frozenset[Property]:
        return frozenset(p for p in (PSD, SelfAdjoint) if self.same and self.A.isa(p))

    def _matvec_cost(self) -> Cost:
        m, n = self.shape[-2:]
        return self.A.matvec_cost + Cost(0, 3 * self.itemsize * (m + n), 0, 0, 2)


def _check_index(A: LinearOperator, index: Any, name: str) -> None:
    be = backend_of_type(type(index))
    if index is None or be is None or not be.is_concrete(index):
        return
    extent = A.shape[-2 if name == "rows" else -1]
    host = be.to_numpy(index)
    if host.ndim != 1 or (host.size and host.dtype.kind not in "iu"):
        raise ShapeError(f"index array of {A!r} must be 1-d integers, got {host.dtype} {host.shape}.")
    if host.size and (host.min() < -extent or host.max() >= extent):
        raise ShapeError(f"index {host.min()}..{host.max()} is out of range for {name} of {A!r} ({extent}).")


def getitem(A: LinearOperator, index: Any) -> Any:
    """``A[i]``, ``A[i, j]``, ``A[rows]``, ``A[rows, cols]`` with ints, slices and index arrays;
    batches by ``...`` only.

    Integers give arrays (a row, a column, an entry); slices and index arrays give a ``Sliced`` operator.
    """
    if not isinstance(index, tuple):
        index = (index, slice(None))
    if index and index[0] is Ellipsis:
        index = index[1:]
        if len(index) == 1:
            index = (slice(None), *index)
    if len(index) != 2:
        raise ShapeError(f"{A!r} takes one or two indices (rows, columns), got {len(index)}.")
    row, col = index
    m, n = A.shape[-2:]
    if type(A)._take is not LinearOperator._take and (_is_int(row) or _is_int(col)):
        return _taken(A, row, col, m, n)
    if _is_int(row) and _is_int(col):
        out = A @ _unit(A, _inside(A, col, n), n)
        return A._concrete_backend().gather(out)[..., _inside(A, row, m)]
    if _is_int(row):
        be = A._concrete_backend()
        out = be.gather(be.conj(A.H @ _unit(A, _inside(A, row, m), m)))
        return out[..., _selection(A, col, n, keep_slice=True)]
    if _is_int(col):
        out = A @ _unit(A, _inside(A, col, n), n)
        out = out if isinstance(row, slice) and row == slice(None) else A._concrete_backend().gather(out)
        return out[..., _selection(A, row, m, keep_slice=True)]
    same = m == n and _same(row, col)
    rows, cols = _selection(A, row, m), _selection(A, col, n)
    if rows is None and cols is None:
        return A
    if type(A)._take is not LinearOperator._take:
        _check_index(A, rows, "rows")
        _check_index(A, cols, "cols")
        made = A._take(rows, cols, same)
        if made is not NotImplemented:
            return made
    if rows is None and isinstance(col, slice) and A.isa(Stiefel):
        return Sliced(A, rows, cols, same, declared=frozenset({Stiefel}))  # some of orthonormal columns
    return Sliced(A, rows, cols, same)


def _taken(A: LinearOperator, row: Any, col: Any, m: int, n: int) -> Array:
    """A row, column or entry of an operator that makes its parts itself."""
    be = A._concrete_backend()

    def one(i: Any, extent: int) -> Any:
        return be.asarray(np.asarray([_inside(A, i, extent)]), device=A.device) if _is_int(i) else None

    out = A._take(one(row, m), one(col, n))._to_dense()
    rest_row = 0 if _is_int(row) else _selection(A, row, m, keep_slice=True)
    rest_col = 0 if _is_int(col) else _selection(A, col, n, keep_slice=True)
    return out[..., rest_row, rest_col]


def _is_int(i: Any) -> bool:
    return isinstance(i, (int, np.integer)) and not isinstance(i, bool)


def _inside(A: LinearOperator, i: int, extent: int) -> int:
    if not -extent <= i < extent:
        raise IndexError(f"index {i} is out of range for {A!r} of shape {A.shape}")
    return int(i) % extent


def _unit(A: LinearOperator, i: int, extent: int) -> Array:
    be = A._concrete_backend()
    return be.put(be.zeros((extent,), A.dtype, A.device), i, 1)


def _same(row: Any, col: Any) -> bool:
    if isinstance(row, slice) or isinstance(col, slice):
        return isinstance(row, slice) and isinstance(col, slice) and row == col
    return row is col


def _selection(A: LinearOperator, i: Any, extent: int, keep_slice: bool = False) -> Any:
    if isinstance(i, slice):
        if keep_slice:
            return i
        if i == slice(None):
            return None
        be = A._concrete_backend()
        return be.asarray(np.arange(extent)[i], device=A.device)
    be = A._concrete_backend()
    mine = backend_of_type(type(i))
    if mine is None or mine is not be:
        host = np.asarray(i if mine is None else mine.to_numpy(i))
        if host.dtype == bool:
            if host.shape != (extent,):
                raise ShapeError(f"boolean index of shape {host.shape} for an axis of {extent} of {A!r}.")
            host = np.flatnonzero(host)
        if not host.size:
            host = host.astype(np.int64)
        host = np.where((host < 0) & (host >= -extent), host + extent, host)
        return be.asarray(host, device=A.device)
    if be.xp.isdtype(i.dtype, "bool"):
        if i.shape != (extent,):
            raise ShapeError(f"boolean index of shape {tuple(i.shape)} for an axis of {extent} of {A!r}.")
        return be.xp.nonzero(i)[0]
    return be.xp.where(i < 0, i + extent, i)  # scattering into negative positions is not portable
