"""``Permutation``: row i of the product is row ``perm[i]`` of the operand."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends import backend_of_type, get_backend
from ..backends.base import Array, dtype_name
from ..cost import Cost
from ..errors import ShapeError
from ..properties import Property, Unitary
from ..pytree import operator, static
from .base import LinearOperator

__all__ = ["Permutation"]


@operator
class Permutation(LinearOperator):
    """The n x n permutation with ``(P x)[i] = x[perm[i]]``. Unitary; product O(n), no arithmetic.

    ``perm`` is an index leaf and is never cast;
    ``dtype`` is what ``to_dense`` returns (adopts the partner's if None).
    """

    perm: Array
    entries: str | None = static(default=None)

    def __init__(self, perm: Any, dtype: Any = None, *, declared: frozenset[Property] = frozenset()) -> None:
        be = backend_of_type(type(perm)) or get_backend("numpy")
        perm = be.asarray(perm)
        object.__setattr__(self, "perm", perm)
        object.__setattr__(self, "entries", None if dtype is None else dtype_name(dtype))
        object.__setattr__(self, "declared", declared)
        self.__post_init__()

    def _check(self) -> None:
        be = self._concrete_backend()
        perm = self.perm
        if perm.ndim != 1:
            raise ShapeError(f"Permutation needs a 1-d index array, got shape {tuple(perm.shape)}.")
        if be.is_concrete(perm):
            host = be.to_numpy(perm)
            if host.size == 0:
                host = host.astype(np.int64)
                object.__setattr__(self, "perm", be.asarray(host))
            if host.dtype.kind not in "iu" or not np.array_equal(np.sort(host), np.arange(host.size)):
                raise ShapeError(f"Permutation needs each of 0..{host.size - 1} exactly once.")

    def _shape(self) -> tuple[int, ...]:
        n = self.perm.shape[0]
        return (n, n)

    def _dtype(self) -> Any:
        return self.entries

    def _matmat(self, X: Array) -> Array:
        return X[..., self.perm, :]

    def _inverse_perm(self) -> Array:
        return self.xp.argsort(self.perm)

    def _rmatmat(self, X: Array) -> Array:
        return X[..., self._inverse_perm(), :]

    def _adjoint(self) -> LinearOperator:
        return self.replace(perm=self._inverse_perm(), declared=frozenset())

    _transpose = _adjoint

    def _conj(self) -> LinearOperator:
        return self

    def _properties(self) -> frozenset[Property]:
        return frozenset({Unitary})

    def _restatic(self, dtype: Any, backend: str | None) -> LinearOperator:
        return self if dtype is None else self.replace(entries=dtype_name(dtype))

    def _compose(self, other: LinearOperator) -> Any:
        if isinstance(other, Permutation) and self.backend is other.backend:
            # (P Q x)[i] = (Q x)[p[i]] = x[q[p[i]]]
            return Permutation(other.perm[self.perm], self.entries or other.entries)
        return NotImplemented

    def _matvec_cost(self) -> Cost:
        n = self.shape[-1]
        return Cost(0.0, (2 * self.itemsize + 8) * n, 2 * self.itemsize * n, 1)
