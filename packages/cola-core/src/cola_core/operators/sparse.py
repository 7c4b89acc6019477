"""``Sparse``: entries at (row, column) positions; duplicates are summed, any order is accepted.

Stored sorted by row, then column, so that NumPy can use SciPy's CSR product and JAX and torch a sorted
segment sum.
The positions are index leaves: they are never cast and take no gradient; the entries do.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

import numpy as np

from ..backends import backend_of_type, get_backend
from ..backends.base import Array
from ..cost import Cost
from ..errors import ShapeError
from ..pytree import cached, operator, static
from .base import LinearOperator
from .diagonal import Diagonal, Identity, ScalarMul

__all__ = ["Sparse"]


@operator
class Sparse(LinearOperator):
    """An m x n sparse matrix from entries ``data[..., k]`` at ``(rows[k], cols[k])``; duplicates are summed.

    data: (*batch, nnz), one pattern for a whole batch. Product: ``2 nnz`` flops. Sums and products of sparse
    and diagonal matrices are again sparse, as long as they do not fill. Entries that are not given row by
    row, each row from left to right, are sorted into a copy: an optimiser that changes ``data`` in place
    has to make the operator anew in each step, and so has a second ``backward`` of PyTorch.
    """

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
        if data.ndim < 1 or rows.shape != data.shape[-1:] or cols.shape != data.shape[-1:]:
            raise ShapeError(
                f"Sparse needs data of shape (*batch, nnz), rows and cols of shape (nnz,); got "
                f"{tuple(data.shape)}, {rows.shape}, {cols.shape}."
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
            data = data[..., be.asarray(order)]
            position = position[order]
            first = np.concatenate([[True], np.diff(position) > 0])
            if not first.all():
                slot = np.cumsum(first) - 1
                data = be.index_add(be.asarray(slot), data[..., None], int(first.sum()))[..., 0]
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

    @classmethod
    def from_torch(cls, t: Any, declared: frozenset[Any] = frozenset()) -> Sparse:
        """From a sparse tensor of PyTorch (COO, CSR, CSC; duplicates summed)."""
        from ..interop.torch_sparse import read

        return read(t).replace(declared=declared)

    @classmethod
    def from_jax(cls, M: Any, declared: frozenset[Any] = frozenset()) -> Sparse:
        """From a sparse array of ``jax.experimental.sparse`` (BCOO, BCSR, COO, CSR, CSC)."""
        from ..interop.jax_sparse import read

        return read(M).replace(declared=declared)

    def to_torch(self, layout: str = "csr") -> Any:
        """As a sparse tensor of PyTorch; layout "csr" or "coo"."""
        from ..interop import to_torch_sparse

        return to_torch_sparse(self, layout)

    def to_jax(self, layout: str = "bcoo") -> Any:
        """As a sparse array of JAX; layout "bcoo" or "bcsr"."""
        from ..interop import to_jax_sparse

        return to_jax_sparse(self, layout)

    def to_scipy(self) -> Any:
        """As ``scipy.sparse.csr_array`` (entries copied to the host if they live elsewhere)."""
        if self.batch_shape:
            raise ShapeError(
                f"{self!r} is a batch of {self.batch_shape} matrices, a SciPy matrix is one: convert them "
                "one by one, Sparse(A.data[i], A.rows, A.cols, A.size).to_scipy()."
            )
        if self.backend is not None and self.backend.name == "numpy":
            return self._csr
        from scipy.sparse import csr_array

        be = self._concrete_backend()
        data, rows, cols = (be.to_numpy(x) for x in (self.data, self.rows, self.cols))
        return csr_array((data, (rows, cols)), shape=self.size)

    def with_entries(self, data: Array) -> Sparse:
        """The same positions with other entries, (*batch, nnz) in the order of ``self.data``; what products
        have found out about the positions is not found out again."""
        if data.shape[-1:] != self.data.shape[-1:]:
            raise ShapeError(f"{self!r} has {self.nnz} entries, the new ones are {tuple(data.shape)}.")
        out: Sparse = self.replace(data=data, declared=frozenset())
        be = self._concrete_backend()
        if data.ndim != 1 or self.data.ndim != 1 or not be.is_concrete(data, self.data, self.rows):
            return out
        if be.name == "numpy":
            from scipy.sparse import csr_array

            own = self._csr
            out.__dict__["_csr"] = csr_array((data, own.indices, own.indptr), shape=self.size)
        elif be.name == "torch" and self.nnz and not be.differentiating(data, self.data):
            import torch

            if min(data.dtype.itemsize, self.data.dtype.itemsize) >= 4:
                mine = self._as_torch_csr()
                out.__dict__["_torch_csr"] = torch.sparse_csr_tensor(
                    mine.crow_indices(), mine.col_indices(), data, self.size, check_invariants=False
                )
        return out

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return int(self.data.shape[-1])

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
        return (*self.data.shape[:-1], *self.size)

    def _matmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        if be.name == "numpy" and self.data.ndim == 1:
            return _scipy_product(self._csr, X)
        fast = self._fast(be, X)
        if fast is not None:  # PyTorch's product with one vector is faster than that with one column
            return (fast @ X[:, 0])[:, None] if X.shape[1] == 1 else fast @ X
        return be.index_add(self.rows, self.data[..., None] * X[..., self.cols, :], self.size[0])

    def _matvec(self, x: Array) -> Array:
        if self._concrete_backend().name == "numpy" and self.data.ndim == 1:
            return self._csr @ x
        return self._matmat(x[:, None])[..., 0]

    def _fast(self, be: Any, X: Array) -> Any:
        """PyTorch's own CSR matrix where it serves: one matrix, at hand, of which no derivative is wanted."""
        if be.name != "torch" or self.data.ndim != 1 or X.ndim != 2 or X.dtype != self.data.dtype:
            return None
        if not self.nnz or not be.is_concrete(self.data, self.rows, X) or be.differentiating(self.data, X):
            return None
        if X.dtype.itemsize < 4:
            return None  # PyTorch's sparse products know no half precision
        return self._as_torch_csr()

    def _as_torch_csr(self) -> Any:
        made = self.__dict__.get("_torch_csr")
        if made is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that CSR is in beta state
                made = self.to_torch()
                if max(self.nnz, *self.size) < 2**31:  # half the traffic for the positions
                    import torch

                    starts, cols = made.crow_indices().to(torch.int32), made.col_indices().to(torch.int32)
                    made = torch.sparse_csr_tensor(
                        starts, cols, made.values(), self.size, check_invariants=False
                    )
            self.__dict__["_torch_csr"] = made
        return made

    def _rmatmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        if be.name == "numpy" and self.data.ndim == 1:
            return _scipy_product(self._csr_adjoint, X)
        return be.index_add(self.cols, be.conj(self.data)[..., None] * X[..., self.rows, :], self.size[1])

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
        if be.name == "numpy" and self.data.ndim == 1:
            return self._csr.toarray()
        if be.name == "abstract":
            return super()._to_dense()
        # entry by entry: products with the columns of an identity would make nnz numbers for each of them
        m, n = self.size
        flat = be.index_add(self.rows * n + self.cols, self.data[..., None], m * n)
        return be.xp.reshape(flat, self.shape)

    def _times(self, c: Any) -> Any:
        c = c[..., None] if getattr(c, "shape", ()) else c
        return self.replace(data=c * self.data, declared=frozenset())

    def _plus(self, other: LinearOperator) -> Any:
        entries = self._entries_of(other)
        if entries is None or self._pattern() is None:
            return NotImplemented
        data, rows, cols = entries
        xp, (mine, columns) = self.xp, self._pattern()  # type: ignore[misc]
        lead = xp.broadcast_arrays(xp.sum(self.data, axis=-1), xp.sum(data, axis=-1))[0].shape
        both = [xp.broadcast_to(d, (*lead, d.shape[-1])) for d in (self.data, data)]
        dtype = xp.result_type(*both)
        both = [self._concrete_backend().astype(d, dtype) for d in both]
        positions = np.concatenate([mine, rows]), np.concatenate([columns, cols])
        return Sparse(xp.concat(both, axis=-1), *positions, self.size)

    def _entries_of(self, other: LinearOperator) -> tuple[Array, Any, Any] | None:
        """The entries of something that may be added, of this library; None for what is not sparse."""
        if isinstance(other, Sparse):
            pattern = other._pattern() if other.backend is self.backend else None
            return None if pattern is None else (other.data, *pattern)
        n = np.arange(self.size[0])
        if isinstance(other, Diagonal):
            return (other.diag, n, n) if other.backend is self.backend else None
        if isinstance(other, (ScalarMul, Identity)):
            c: Any = other.c if isinstance(other, ScalarMul) else 1
            c = c[..., None] if getattr(c, "shape", ()) else c
            be = self._concrete_backend()
            dtype = be.real_dtype(self.data.dtype)
            return c * be.xp.ones((n.size,), dtype=dtype, device=be.device(self.data)), n, n
        return None

    def _pattern(self) -> tuple[Any, Any] | None:
        """Rows and columns as NumPy arrays; None while planning or under a trace."""
        be = self._concrete_backend()
        if not be.is_concrete(self.rows, self.cols):
            return None
        return be.to_numpy(self.rows), be.to_numpy(self.cols)

    def _compose(self, other: LinearOperator) -> Any:
        if other.backend is not self.backend:
            return NotImplemented
        if isinstance(other, Diagonal):
            return self.replace(data=self.data * other.diag[..., self.cols], declared=frozenset())
        return _sparse_product(self, other) if isinstance(other, Sparse) else NotImplemented

    def _rcompose(self, other: LinearOperator) -> Any:
        if isinstance(other, Diagonal) and other.backend is self.backend:
            return self.replace(data=other.diag[..., self.rows] * self.data, declared=frozenset())
        return NotImplemented

    def _matvec_cost(self) -> Cost:
        m, n = self.size
        return Cost(
            2.0 * self.nnz,
            (self.itemsize + 8) * self.nnz + self.itemsize * (m + n),
            self.itemsize * (m + n),
            1,
        )

    def _short(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"{type(self).__name__}[{size}, nnz={self.nnz}]"


GROWTH = 8  # a product of sparse matrices is formed if it takes at most this many times their entries


def _sparse_product(A: Sparse, B: Sparse) -> Any:
    """``A @ B`` as a sparse matrix, positions found on the host; NotImplemented where it would fill."""
    mine, theirs = A._pattern(), B._pattern()
    if mine is None or theirs is None:
        return NotImplemented
    start = np.searchsorted(theirs[0], np.arange(B.size[0] + 1))  # B's entries are in order of rows
    counts = np.diff(start)[mine[1]]  # entries of B that each entry of A meets
    total = int(counts.sum())
    if total > GROWTH * (A.nnz + B.nnz) + 10_000:
        return NotImplemented
    left = np.repeat(np.arange(A.nnz), counts)
    offset = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    right = start[mine[1][left]] + offset
    be = A._concrete_backend()
    data = A.data[..., be.asarray(left)] * B.data[..., be.asarray(right)]
    return Sparse(data, mine[0][left], theirs[1][right], (A.size[0], B.size[1]))


def _scipy_product(csr: Any, X: Array) -> Array:
    """CSR times (*batch, n, k): batches are folded into columns, which is one pass over the matrix."""
    if X.ndim == 2:
        return csr @ (X if X.flags.c_contiguous else np.ascontiguousarray(X))
    batch, (n, k) = X.shape[:-2], X.shape[-2:]
    count = math.prod(batch)  # not -1: n or k may be zero
    folded = np.moveaxis(X.reshape(count, n, k), 0, 1).reshape(n, count * k)
    out = (csr @ np.ascontiguousarray(folded)).reshape(csr.shape[0], count, k)
    return np.moveaxis(out, 1, 0).reshape(*batch, csr.shape[0], k)


def _host_index(x: Any, what: str) -> Any:
    be = backend_of_type(type(x)) or get_backend("numpy")
    try:
        array = np.asarray(be.to_numpy(x) if be.name != "numpy" else x)
    except Exception:
        if be.is_concrete(x):
            raise
        raise ShapeError(
            f"Sparse {what} must be concrete: the sparsity pattern is structure, not data."
        ) from None
    if array.dtype.kind not in "iu" and array.size:
        raise ShapeError(f"Sparse {what} must be integers, got dtype {array.dtype}.")
    return array.astype(np.int64)
