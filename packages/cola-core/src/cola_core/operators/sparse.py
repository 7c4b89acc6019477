"""``Sparse``: entries at (row, column) positions; duplicates are summed, any order is accepted.

Stored sorted by row, then column, so that NumPy can use SciPy's CSR product and JAX and torch a sorted
segment sum.
The positions are index leaves: they are never cast and take no gradient; the entries do.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..backends import backend_of_type, get_backend
from ..backends.base import Array
from ..cost import Cost
from ..errors import ShapeError
from ..pytree import cached, operator, static
from .base import LinearOperator

__all__ = ["Sparse"]


@operator
class Sparse(LinearOperator):
    """An m x n sparse matrix from entries ``data[k]`` at ``(rows[k], cols[k])``. Product: ``2 nnz`` flops."""

    data: Array
    rows: Array
    cols: Array
    size: tuple[int, int] = static()

    _aliases: ClassVar[dict[str, str]] = {"row_indices": "rows", "col_indices": "cols", "shape": "size"}

    def _check(self) -> None:
        be = backend_of_type(type(self.data)) or get_backend("numpy")
        data = be.as_value(self.data)
        m, n = (int(s) for s in self.size)
        object.__setattr__(self, "size", (m, n))
        rows, cols = _host_index(self.rows, "rows"), _host_index(self.cols, "cols")
        if data.ndim != 1 or rows.shape != data.shape or cols.shape != data.shape:
            raise ShapeError(
                f"Sparse needs 1-d data, rows and cols of one length; got {tuple(data.shape)}, "
                f"{rows.shape}, {cols.shape}."
            )
        if rows.size and (rows.min() < 0 or rows.max() >= m or cols.min() < 0 or cols.max() >= n):
            raise ShapeError(
                f"Sparse of shape {(m, n)} has indices outside it: rows {rows.min()}..{rows.max()}, "
                f"columns {cols.min()}..{cols.max()}."
            )
        if m * n >= 2**63:
            raise ShapeError(f"Sparse of shape {(m, n)} has more positions than 64-bit indices can number.")
        position = rows * n + cols
        step = np.diff(position)
        if (step <= 0).any():
            order = np.argsort(position, kind="stable")
            data = data[be.asarray(order)]
            position = position[order]
            first = np.concatenate([[True], np.diff(position) > 0])
            if not first.all():
                slot = np.cumsum(first) - 1
                data = be.index_add(be.asarray(slot), data[:, None], int(first.sum()))[:, 0]
                position = position[first]
            rows, cols = position // max(n, 1), position % max(n, 1)
        device = be.device(data)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "rows", be.asarray(rows, device=device))
        object.__setattr__(self, "cols", be.asarray(cols, device=device))

    @classmethod
    def from_scipy(cls, M: Any, declared: frozenset[Any] = frozenset()) -> Sparse:
        """From any ``scipy.sparse`` matrix or array (duplicates summed)."""
        coo = M.tocoo()
        return cls(coo.data, coo.row, coo.col, coo.shape, declared=declared)

    def to_scipy(self) -> Any:
        """As ``scipy.sparse.csr_array`` (entries copied to the host if they live elsewhere)."""
        if self.backend is not None and self.backend.name == "numpy":
            return self._csr
        from scipy.sparse import csr_array

        be = self._concrete_backend()
        data, rows, cols = (be.to_numpy(x) for x in (self.data, self.rows, self.cols))
        return csr_array((data, (rows, cols)), shape=self.size)

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return int(self.data.shape[0])

    @cached
    def _csr(self) -> Any:
        from scipy.sparse import csr_array

        indptr = np.searchsorted(self.rows, np.arange(self.size[0] + 1))
        index = np.int32 if max(self.nnz, *self.size) < 2**31 else np.int64
        return csr_array((self.data, self.cols.astype(index), indptr.astype(index)), shape=self.size)

    @cached
    def _csr_adjoint(self) -> Any:
        return self._csr.conj().T.tocsr()

    def _shape(self) -> tuple[int, ...]:
        return self.size

    def _matmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        if be.name == "numpy":
            return _scipy_product(self._csr, X)
        return be.index_add(self.rows, self.data[:, None] * X[..., self.cols, :], self.size[0])

    def _matvec(self, x: Array) -> Array:
        return self._csr @ x if self._concrete_backend().name == "numpy" else self._matmat(x[:, None])[..., 0]

    def _rmatmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        if be.name == "numpy":
            return _scipy_product(self._csr_adjoint, X)
        return be.index_add(self.cols, be.conj(self.data)[:, None] * X[..., self.rows, :], self.size[1])

    def _adjoint(self) -> LinearOperator:
        return self._flipped(self._concrete_backend().conj(self.data))

    def _transpose(self) -> LinearOperator:
        return self._flipped(self.data)

    def _flipped(self, data: Array) -> LinearOperator:
        if self._concrete_backend().is_concrete(self.rows, self.cols):
            return Sparse(data, self.cols, self.rows, self.size[::-1])
        # planned or traced: the entries cannot be put in order, and products do not need it
        size = self.size[::-1]
        return self.replace(data=data, rows=self.cols, cols=self.rows, size=size, declared=frozenset())

    def _conj(self) -> LinearOperator:
        return self.replace(data=self._concrete_backend().conj(self.data), declared=frozenset())

    def _part(self, imaginary: bool) -> LinearOperator:
        part = self.xp.imag if imaginary else self.xp.real
        return self.replace(data=part(self.data), declared=frozenset())

    def _to_dense(self) -> Array:
        be = self._concrete_backend()
        if be.name == "numpy":
            return self._csr.toarray()
        return super()._to_dense()

    def _matvec_cost(self) -> Cost:
        m, n = self.size
        return Cost(
            2.0 * self.nnz,
            (self.itemsize + 8) * self.nnz + self.itemsize * (m + n),
            self.itemsize * (m + n),
            1,
        )

    def _short(self) -> str:
        return f"{type(self).__name__}[{self.size[0]}x{self.size[1]}, nnz={self.nnz}]"


def _scipy_product(csr: Any, X: Array) -> Array:
    """CSR times (*batch, n, k): batches are folded into columns, which is one pass over the matrix."""
    if X.ndim == 2:
        return csr @ (X if X.flags.c_contiguous else np.ascontiguousarray(X))
    batch, (n, k) = X.shape[:-2], X.shape[-2:]
    folded = np.moveaxis(X.reshape(-1, n, k), 0, 1).reshape(n, -1)
    out = (csr @ np.ascontiguousarray(folded)).reshape(csr.shape[0], -1, k)
    return np.moveaxis(out, 1, 0).reshape(*batch, csr.shape[0], k)


def _host_index(x: Any, what: str) -> Any:
    be = backend_of_type(type(x)) or get_backend("numpy")
    if not be.is_concrete(x):
        raise ShapeError(f"Sparse {what} must be concrete: the sparsity pattern is structure, not data.")
    array = np.asarray(be.to_numpy(x) if be.name != "numpy" else x)
    if array.dtype.kind not in "iu" and array.size:
        raise ShapeError(f"Sparse {what} must be integers, got dtype {array.dtype}.")
    return array.astype(np.int64)
