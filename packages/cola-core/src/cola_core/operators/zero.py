"""``Zero``: the m x n matrix of zeros, which stores nothing; and what counts as zero in arithmetic."""

from __future__ import annotations

from typing import Any

from ..backends import Backend, backend_of_type, get_backend
from ..backends.base import Array, dtype_name
from ..cost import Cost
from ..errors import ShapeError
from ..properties import PSD, Property
from ..pytree import operator, static
from .base import LinearOperator, _promote
from .diagonal import ScalarMul

__all__ = ["Zero", "is_zero"]


@operator
class Zero(LinearOperator):
    """The m x n zero matrix (or a batch of them). Without dtype, backend and device it adopts its partner's.

    ``A + Zero`` is A; a product or Kronecker product with it is again a ``Zero``.
    """

    rows: int = static()
    cols: int = static()
    dtype_name: str | None = static(default=None)
    library: str | None = static(default=None)
    place: Any = static(default=None)
    batch: tuple[int, ...] = static(default=())

    def __init__(
        self,
        m: Any,
        n: int | None = None,
        dtype: Any = None,
        *,
        backend: str | None = None,
        device: Any = None,
        batch: tuple[int, ...] = (),
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        if isinstance(m, tuple):
            if n is not None or len(m) < 2:
                raise ShapeError(f"Zero takes m and n, or one shape (*batch, m, n); got {m} and {n}.")
            *lead, m, n = m
            batch = (*batch, *lead)
        rows, cols = int(m), int(m if n is None else n)
        if rows < 0 or cols < 0:
            raise ShapeError(f"Zero needs sizes of at least 0, got {rows} x {cols}.")
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "cols", cols)
        object.__setattr__(self, "dtype_name", None if dtype is None else dtype_name(dtype))
        object.__setattr__(self, "library", backend)
        object.__setattr__(self, "place", device)
        object.__setattr__(self, "batch", tuple(map(int, batch)))
        object.__setattr__(self, "declared", declared)
        self.__post_init__()

    @classmethod
    def like(cls, A: LinearOperator, m: int | None = None, n: int | None = None, batch: Any = None) -> Zero:
        """The zero of A's shape (or m x n), dtype, library and device."""
        library = None if A.backend is None else A.backend.name
        dtype = A._dtype() if A.backend is None else A.dtype
        return cls(
            A.shape[-2] if m is None else m,
            A.shape[-1] if n is None else n,
            dtype,
            backend=library,
            device=A.device,
            batch=A.batch_shape if batch is None else batch,
        )

    @property
    def backend(self) -> Backend | None:  # type: ignore[override]
        return None if self.library is None else get_backend(self.library)

    @property
    def device(self) -> Any:  # type: ignore[override]
        return self.place

    def _shape(self) -> tuple[int, ...]:
        return (*self.batch, self.rows, self.cols)

    def _dtype(self) -> Any:
        return self.dtype_name

    def _product(self, X: Array, m: int) -> Array:
        be = backend_of_type(type(X)) or self._concrete_backend()
        dtype = X.dtype if self.dtype_name is None else _promote(X.dtype, self.dtype_name, self)
        # an empty sum of X: zero whatever X holds, and a function of it for whoever differentiates
        row = be.astype(be.xp.sum(X[..., :0, :], axis=-2)[..., None, :], dtype)
        return row + be.zeros((*self.batch, m, X.shape[-1]), dtype, be.device(X))

    def _matmat(self, X: Array) -> Array:
        return self._product(X, self.rows)

    def _rmatmat(self, X: Array) -> Array:
        return self._product(X, self.cols)

    def _adjoint(self) -> LinearOperator:
        return self.replace(rows=self.cols, cols=self.rows, declared=frozenset())

    _transpose = _adjoint

    def _conj(self) -> LinearOperator:
        return self

    def _properties(self) -> frozenset[Property]:
        return frozenset({PSD}) if self.rows == self.cols else frozenset()

    def _to_dense(self) -> Array:
        return self._concrete_backend().zeros(self.shape, self.dtype, self.place)

    def _dense_like(self, whole: LinearOperator) -> Array:
        if self.library is not None and self.dtype_name is not None:
            return self._to_dense()
        return whole._concrete_backend().zeros(self.shape, whole.dtype, whole.device)

    def _restatic(self, dtype: Any, backend: str | None) -> LinearOperator:
        changes: dict[str, Any] = {} if dtype is None else {"dtype_name": dtype_name(dtype)}
        if backend is not None and self.library is not None:
            changes |= {"library": backend, "place": None}
        return self.replace(**changes)

    def _matvec_cost(self) -> Cost:
        return Cost(0.0, self.itemsize * self.rows, self.itemsize * self.rows, 1)


def is_zero(A: LinearOperator) -> bool:
    """Whether A is zero by construction: a ``Zero``, or a multiple of the identity by the Python number 0."""
    return isinstance(A, Zero) or (
        isinstance(A, ScalarMul) and isinstance(A.c, (int, float, complex)) and A.c == 0
    )
