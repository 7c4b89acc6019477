"""``CovarianceOperator``: the matrix of a kernel that is never stored.

Products are computed in tiles whose size is bounded in bytes, so memory is O((n + m) k + tile) for an
``n x m`` matrix and ``k`` right-hand sides; every product evaluates the kernel anew, a symmetric one once for
every pair of points.
"""

from __future__ import annotations

from typing import Any

from cola_core import PSD
from cola_core.backends import backend_of
from cola_core.cost import Cost
from cola_core.errors import BackendError, ShapeError
from cola_core.operators import LinearOperator, operator, static

from ._struct import leaves, with_leaves
from .arrays import backend_for
from .data import as_points
from .grids import GRIDS
from .kernels import Kernel
from .kernels.base import Array, follow, points
from .kernels.distances import overwritable
from .kernels.harmonics import counted
from .kernels.symmetric import tile_sizes, times


def _array_of(X: Any) -> Any:
    """One array of the inputs, for their library and dtype; None for None."""
    if X is None:
        return None
    return X.axis_points()[0] if isinstance(X, GRIDS) else points(X)


@operator
class CovarianceOperator(LinearOperator):
    """Covariances ``k(X1[i], X2[j])``; with ``X2=None`` the symmetric PSD matrix ``k(X1)``, white noise
    included.

    X1: ``(n, d)``, or a :class:`~cola_gp.Grid` or :class:`~cola_gp.GridSubset` of n points in d dimensions;
    X2: likewise, or None.  ``block_bytes`` bounds the entries held at a time; what a kernel needs to evaluate
    them comes on top.
    """

    kernel: Kernel
    X1: Any
    X2: Any = None
    block_bytes: int = static(default=2**19)

    def _check(self) -> None:
        if not isinstance(self.kernel, Kernel):
            raise TypeError(f"CovarianceOperator needs a Kernel, not {type(self.kernel).__name__}.")
        mine, other = _array_of(self.X1), _array_of(self.X2)
        if other is not None:
            if backend_of(other) is not backend_of(mine):
                raise BackendError("CovarianceOperator needs both point sets in the same array library.")
            if self.X1.shape[1] != self.X2.shape[1]:
                raise ShapeError(
                    f"CovarianceOperator: points of shapes {tuple(self.X1.shape)} and {tuple(self.X2.shape)} "
                    "have different dimensions."
                )
        # All arrays of an operator belong to one library and dtype, so parameters follow the points here.
        followed = [follow(param, mine) for param in leaves(self.kernel)]
        kernel = counted(self.kernel) if self.X1.shape[1] == 1 else self.kernel
        object.__setattr__(self, "kernel", with_leaves(kernel, followed))

    @property
    def _rows(self) -> Array:
        return as_points(self.X1)

    @property
    def _columns(self) -> Array:
        return as_points(self.X1 if self.X2 is None else self.X2)

    def _shape(self) -> tuple[int, ...]:
        return (self.X1.shape[0], (self.X1 if self.X2 is None else self.X2).shape[0])

    def _properties(self) -> frozenset[Any]:
        # A kernel is a positive semi-definite function by definition, so this is structure and not a value.
        return frozenset({PSD}) if self.X2 is None else frozenset()

    def _matvec_cost(self) -> Cost:
        n, m = self.shape
        d = self.X1.shape[1]
        # three flops per dimension for the distance, about twenty for an exponential
        return Cost((3.0 * d + 22.0) * n * m, self.itemsize * (n + m) * (d + 1), float(self.block_bytes), 1)

    def nugget(self) -> Array:
        """``(n,)``: what the symmetric matrix has on its diagonal beyond the kernel as a function."""
        return self.kernel.diag(self._rows) - self.kernel.cross_diag(self._rows)

    def _matmat(self, X: Array) -> Array:
        n, m = self.shape
        backend = backend_for(_array_of(self.X1))
        if backend.name == "abstract":
            return backend.matmul(backend.zeros((n, m), self.dtype), X)
        matmul = backend.matmul  # multiplies real by complex on every library
        left, right = self._rows, self._columns
        entries = max(1, self.block_bytes // self.itemsize)
        if self.X2 is None and self._same_kind(X):
            return times(self.kernel, left, X, entries)

        def product(a: Any, b: Any) -> Array:
            return matmul(self.kernel(a[0], b[0]), b[1])

        out = backend.blockwise(product, (left,), (right, X), tile_sizes(entries))
        return out if self.X2 is not None else out + self.nugget()[:, None] * X

    def _same_kind(self, X: Array) -> bool:
        """Whether X is a matrix of the same dtype, and results may be overwritten: no derivatives."""
        arrays = (self._rows, X, *leaves(self.kernel))
        return X.ndim == 2 and X.dtype == self._rows.dtype and overwritable(*arrays)

    def columns(self, index: Any) -> Array:
        """Columns ``A[:, index]`` as an array, for a slice or an index array, at O(n) per column."""
        if self.X2 is None:
            return self.rows(index).T
        return self.kernel(self._rows, self._columns[index])

    def _rmatmat(self, X: Array) -> Array:
        if self.X2 is None:
            return self._matmat(X)
        return self._adjoint()._matmat(X)

    def _adjoint(self) -> LinearOperator:
        if self.X2 is None:
            return self
        return CovarianceOperator(self.kernel, self.X2, self.X1, self.block_bytes)

    def _transpose(self) -> LinearOperator:
        return self._adjoint()

    def _to_dense(self) -> Array:
        return self.kernel(self._rows, None if self.X2 is None else self._columns)

    def rows(self, index: Any) -> Array:
        """Rows ``A[index]`` as an array, for an integer, a slice or an index array, at O(m) per row."""
        xp = self.xp
        if isinstance(index, int):
            return self.rows(slice(index, index + 1) if index != -1 else slice(-1, None))[0]
        chosen = self._rows[index]
        out = self.kernel(chosen, self._columns)
        if self.X2 is not None:
            return out
        numbers = xp.arange(self.shape[0])
        hit = numbers[index][:, None] == numbers[None, :]
        return xp.where(hit, out + self.nugget()[index][:, None], out)

    def diagonal(self) -> Array:
        """The diagonal, at O(n) and without forming the matrix."""
        if self.X2 is None:
            return self.kernel.diag(self._rows)
        if self.X2 is self.X1:
            return self.kernel.cross_diag(self._rows)
        n, m = self.shape
        if n != m:
            raise ShapeError(f"the diagonal of a {n}x{m} covariance is not defined here; slice it first.")
        xp = self.xp
        # One pair of points at a time, evaluated block by block on the diagonal of small square matrices.
        left, right = self._rows, self._columns
        size = 256
        pieces = [
            xp.linalg.diagonal(self.kernel(left[s : s + size], right[s : s + size]))
            for s in range(0, n, size)
        ]
        return xp.concat(pieces)
