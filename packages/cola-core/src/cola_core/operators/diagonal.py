"""Diagonal operators: ``Diagonal`` (a vector),
``ScalarMul`` (one number) and ``Identity`` (nothing stored)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..backends import Backend, backend_of_type, get_backend
from ..backends.base import Array, dtype_name
from ..cost import Cost
from ..errors import ShapeError
from ..properties import PSD, Property, SelfAdjoint, Unitary
from ..pytree import operator, static
from .base import LinearOperator
from .dense import as_matrix_entries

__all__ = ["Diagonal", "Identity", "ScalarMul"]


class _DiagonalCost:
    """Products of diagonal operators cost O(n)."""

    def _matvec_cost(self: Any) -> Cost:
        n = self.shape[-1]
        return Cost(n, 3 * self.itemsize * n, 2 * self.itemsize * n, 1)

    def _sent(self, columns: float) -> float:
        return 0.0


@operator
class Diagonal(_DiagonalCost, LinearOperator):
    """``diag(d)`` for d of shape (*batch, n)."""

    diag: Array

    def _check(self) -> None:
        object.__setattr__(self, "diag", as_matrix_entries(self.diag, "Diagonal", ndim=1))

    def _shape(self) -> tuple[int, ...]:
        return (*self.diag.shape, self.diag.shape[-1])

    def _matmat(self, X: Array) -> Array:
        return self.diag[..., :, None] * X

    def _matvec(self, x: Array) -> Array:
        return self.diag * x

    def _rmatmat(self, X: Array) -> Array:
        return self._concrete_backend().conj(self.diag)[..., :, None] * X

    def _adjoint(self) -> LinearOperator:
        return self._conj()

    def _transpose(self) -> LinearOperator:
        return self

    def _conj(self) -> LinearOperator:
        return Diagonal(self._concrete_backend().conj(self.diag)) if self._is_complex() else self

    def _part(self, imaginary: bool) -> LinearOperator:
        return Diagonal((self.xp.imag if imaginary else self.xp.real)(self.diag))

    def _properties(self) -> frozenset[Property]:
        return frozenset() if self._is_complex() else frozenset({SelfAdjoint})

    def _to_dense(self) -> Array:
        return self._concrete_backend().matrix_diag(self.diag)

    def _plus(self, other: LinearOperator) -> Any:
        if isinstance(other, Diagonal):
            return Diagonal(self.diag + other.diag, declared=_sum_declared(self, other))
        if isinstance(other, ScalarMul):
            # a Python number stays one: as an array it would widen single precision
            c = other.c[..., None] if getattr(other.c, "shape", ()) else other.c
            return Diagonal(self.diag + c, declared=_sum_declared(self, other))
        if isinstance(other, Identity):
            return Diagonal(self.diag + 1, declared=_sum_declared(self, other))
        return NotImplemented

    def _compose(self, other: LinearOperator) -> Any:
        if isinstance(other, Diagonal):
            keep = {PSD} if self.isa(PSD) and other.isa(PSD) else set()
            return Diagonal(self.diag * other.diag, declared=frozenset(keep))
        return NotImplemented


@operator
class ScalarMul(_DiagonalCost, LinearOperator):
    """``c * I`` of size n. ``c`` is a Python number (adopts dtype and backend of its partner)
    or an array of batch shape.

    A Python number's sign and realness are static facts, so ``ScalarMul(2.0, n)`` is PSD; an array's are not.
    """

    c: Any
    n: int = static()

    _aliases: ClassVar[dict[str, str]] = {"shape": "n"}

    def __init__(
        self,
        c: Any,
        n: Any,
        dtype: Any = None,
        device: Any = None,
        *,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        if dtype is not None and isinstance(c, (int, float, complex)):
            # only PyTorch's dtypes belong to one library; elsewhere a number adopts its partner's precision
            if type(dtype).__module__.partition(".")[0] == "torch":
                c = get_backend("torch").asarray(c, dtype, device)
            elif "complex" in dtype_name(dtype):
                c = complex(c)
        object.__setattr__(self, "c", c)
        object.__setattr__(self, "n", n)
        object.__setattr__(self, "declared", declared)
        self.__post_init__()

    def _check(self) -> None:
        c, n = self.c, self.n
        if isinstance(n, tuple):  # ScalarMul(c, shape): the paper's spelling
            if len(n) != 2 or n[0] != n[1]:
                raise ShapeError(f"ScalarMul is square; got shape {n}.")
            object.__setattr__(self, "n", int(n[0]))
        if isinstance(c, np.generic):  # a NumPy scalar is a number, with a static value, to every library
            c = c.item()
        if isinstance(c, bool):
            c = int(c)
        object.__setattr__(self, "c", c)
        if backend_of_type(type(c)) is None:
            if not isinstance(c, (int, float, complex)):
                return  # a framework placeholder
            facts: set[Property] = set()
            if not isinstance(c, complex):
                facts.add(SelfAdjoint)
                if c >= 0:
                    facts.add(PSD)
            if abs(c) == 1:
                facts.add(Unitary)
            object.__setattr__(self, "declared", self.declared | facts)

    @property
    def value(self) -> Any:
        """The scalar as an array of batch shape."""
        be = self._concrete_backend()
        return self.c if backend_of_type(type(self.c)) is not None else be.asarray(self.c)

    def _shape(self) -> tuple[int, ...]:
        return (*getattr(self.c, "shape", ()), self.n, self.n)

    def _adopts_precision(self) -> bool:
        return backend_of_type(type(self.c)) is None

    def _dtype(self) -> Any:
        if backend_of_type(type(self.c)) is None:
            return None if not isinstance(self.c, complex) else "complex64"
        return self.c.dtype

    def _matmat(self, X: Array) -> Array:
        return (self.c[..., None, None] if getattr(self.c, "shape", ()) else self.c) * X

    def _matvec(self, x: Array) -> Array:
        return (self.c[..., None] if getattr(self.c, "shape", ()) else self.c) * x

    def _rmatmat(self, X: Array) -> Array:
        return self._conj()._matmat(X)

    def _adjoint(self) -> LinearOperator:
        return self._conj()

    def _transpose(self) -> LinearOperator:
        return self

    def _conj(self) -> LinearOperator:
        if isinstance(self.c, complex):
            return ScalarMul(self.c.conjugate(), self.n)
        if backend_of_type(type(self.c)) is None or not self._is_complex():
            return self
        return ScalarMul(_data(self._concrete_backend().conj(self.c), self.c), self.n)

    def _part(self, imaginary: bool) -> LinearOperator:
        if isinstance(self.c, complex):
            return ScalarMul(self.c.imag if imaginary else self.c.real, self.n)
        return ScalarMul(_data((self.xp.imag if imaginary else self.xp.real)(self.c), self.c), self.n)

    def _properties(self) -> frozenset[Property]:
        if backend_of_type(type(self.c)) is not None and "complex" not in dtype_name(self.c.dtype):
            return frozenset({SelfAdjoint})
        return frozenset()

    def _plus(self, other: LinearOperator) -> Any:
        if isinstance(other, ScalarMul):
            return ScalarMul(
                _data(self.c + other.c, self.c, other.c), self.n, declared=_sum_declared(self, other)
            )
        if isinstance(other, Identity):
            return ScalarMul(_data(self.c + 1, self.c), self.n, declared=_sum_declared(self, other))
        return NotImplemented


@operator
class Identity(_DiagonalCost, LinearOperator):
    """The n x n identity. Without dtype, backend and device it adopts its partner's."""

    n: int = static()
    dtype_name: str | None = static(default=None)
    library: str | None = static(default=None)
    place: Any = static(default=None)

    _aliases: ClassVar[dict[str, str]] = {"shape": "n"}

    def __init__(
        self,
        n: Any,
        dtype: Any = None,
        *,
        backend: str | None = None,
        device: Any = None,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        if isinstance(n, tuple):
            if len(n) != 2 or n[0] != n[1]:
                raise ShapeError(f"Identity is square; got shape {n}.")
            n = n[0]
        object.__setattr__(self, "n", int(n))
        object.__setattr__(self, "dtype_name", None if dtype is None else dtype_name(dtype))
        object.__setattr__(self, "library", backend)
        object.__setattr__(self, "place", device)
        object.__setattr__(self, "declared", declared)
        self.__post_init__()

    @classmethod
    def like(cls, A: LinearOperator, n: int | None = None) -> Identity:
        """The identity of A's size (or n), dtype, library and device."""
        library = None if A.backend is None else A.backend.name
        dtype = None if A.backend is None and A._dtype() is None else A.dtype
        return cls(A.shape[-1] if n is None else n, dtype, backend=library, device=A.device)

    @property
    def backend(self) -> Backend | None:  # type: ignore[override]
        return None if self.library is None else get_backend(self.library)

    @property
    def device(self) -> Any:  # type: ignore[override]
        return self.place

    def _shape(self) -> tuple[int, ...]:
        return (self.n, self.n)

    def _dtype(self) -> Any:
        return self.dtype_name

    def _matmat(self, X: Array) -> Array:
        return X

    def _matvec(self, x: Array) -> Array:
        return x

    def _rmatmat(self, X: Array) -> Array:
        return X

    def _adjoint(self) -> LinearOperator:
        return self

    _transpose = _conj = _adjoint

    def _properties(self) -> frozenset[Property]:
        return frozenset({PSD, Unitary})

    def _restatic(self, dtype: Any, backend: str | None) -> LinearOperator:
        changes: dict[str, Any] = {} if dtype is None else {"dtype_name": dtype_name(dtype)}
        if backend is not None and self.library is not None:
            changes |= {"library": backend, "place": None}
        return self.replace(**changes)

    def _compose(self, other: LinearOperator) -> Any:
        return other

    def _rcompose(self, other: LinearOperator) -> Any:
        return other

    def _plus(self, other: LinearOperator) -> Any:
        if isinstance(other, Identity):
            return ScalarMul(2, self.n)
        return NotImplemented


def _data(c: Any, *sources: Any) -> Any:
    """A 0-d result that came from data stays data: NumPy would turn it into a scalar."""
    return (
        np.asarray(c) if isinstance(c, np.generic) and any(isinstance(s, np.ndarray) for s in sources) else c
    )


def _sum_declared(a: LinearOperator, b: LinearOperator) -> frozenset[Property]:
    return frozenset({PSD}) if a.isa(PSD) and b.isa(PSD) else frozenset()
