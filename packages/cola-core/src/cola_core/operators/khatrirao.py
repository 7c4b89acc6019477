"""``KhatriRao``: Kronecker products column by column (or row by row), never formed."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..errors import ShapeError
from ..properties import Property, Stiefel
from ..pytree import operator, static
from .base import LinearOperator
from .entries import columns, rows
from .sum import broadcast_batches

__all__ = ["KhatriRao"]


@operator
class KhatriRao(LinearOperator):
    """Column c is ``kron(A[:, c], B[:, c])``, for A (m, n) and B (p, n): shape (m p, n).

    With ``rowwise=True`` row r is ``kron(A[r], B[r])`` for A (m, n) and B (m, q): shape (m, n q), the
    face-splitting product, which is what the adjoint is. A product with x is ``A diag(x) B^T``, ``2 m n p``
    flops for a dense A, with the entries of B read once. ``K.H @ K`` is the elementwise product of the
    Grams. Source: Khatri & Rao, Sankhya A 30 (1968) 167.

    >>> import numpy as np, cola_core as cola
    >>> K = cola.ops.KhatriRao(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]))
    >>> [[float(x) for x in row] for row in K.to_dense()]
    [[3.0, 8.0], [5.0, 12.0]]
    """

    A: LinearOperator
    B: LinearOperator
    rowwise: bool = static(default=False)

    def __init__(
        self, A: Any, B: Any, rowwise: bool = False, *, declared: frozenset[Property] = frozenset()
    ) -> None:
        from .algebra import as_operator

        object.__setattr__(self, "A", as_operator(A))
        object.__setattr__(self, "B", as_operator(B))
        object.__setattr__(self, "rowwise", bool(rowwise))
        object.__setattr__(self, "declared", declared)
        self.__post_init__()

    def _check(self) -> None:
        axis, what = (-2, "rows") if self.rowwise else (-1, "columns")
        if self.A.shape[axis] != self.B.shape[axis]:
            raise ShapeError(
                f"KhatriRao: {self.A!r} of shape {self.A.shape} and {self.B!r} of shape "
                f"{self.B.shape} need one "
                f"number of {what}."
            )
        self.backend  # noqa: B018 - raises if the parts mix libraries
        broadcast_batches("KhatriRao", (self.A, self.B))

    def _shape(self) -> tuple[int, ...]:
        (m, n), (p, q) = self.A.shape[-2:], self.B.shape[-2:]
        batch = broadcast_batches("KhatriRao", (self.A, self.B))
        return (*batch, m, n * q) if self.rowwise else (*batch, m * p, n)

    def _expand(self, X: Array, A: Any, B: Array) -> Array:
        """``vec(A diag(x) B^T)`` of every column x: A a product, B (*batch, p, n)."""
        xp = self._space(X)
        p, n, k = B.shape[-2], B.shape[-1], X.shape[-1]
        Y = X[..., :, None, :] * B.mT[..., :, :, None]  # (n, p, k)
        Y = A(xp.reshape(Y, (*Y.shape[:-3], n, p * k)))
        return xp.reshape(Y, (*Y.shape[:-2], Y.shape[-2] * p, k))

    def _collapse(self, Y: Array, A: Any, inner: int, B: Array) -> Array:
        """``sum_p (A Y)_np conj(B_pn)`` of every column, Y seen as (inner, p): the adjoint of ``_expand``."""
        xp = self._space(Y)
        p, k = B.shape[-2], Y.shape[-1]
        Z = A(xp.reshape(Y, (*Y.shape[:-2], inner, p * k)))
        Z = xp.reshape(Z, (*Z.shape[:-1], p, k))
        return xp.sum(Z * self._concrete_backend().conj(B).mT[..., :, :, None], axis=-2)

    def _space(self, X: Array) -> Any:
        from ..backends import backend_of_type

        return (self.backend or backend_of_type(type(X))).xp  # type: ignore[union-attr]

    def _right(self) -> Array:
        """The entries of B, or of its adjoint for the row-wise product: (*batch, p, n)."""
        B = self.B
        if self.rowwise:
            return self._concrete_backend().adjoint(rows(B, 0, B.shape[-2], self))
        return columns(B, 0, B.shape[-1], self)

    def _matmat(self, X: Array) -> Array:
        if self.rowwise:  # the adjoint of the column-wise product of A^H and B^H
            return self._collapse(X, self.A._matmat, self.A.shape[-1], self._right())
        return self._expand(X, self.A._matmat, self._right())

    def _rmatmat(self, X: Array) -> Array:
        if self.rowwise:
            return self._expand(X, self.A._rmatmat, self._right())
        return self._collapse(X, self.A._rmatmat, self.A.shape[-2], self._right())

    def _adjoint(self) -> LinearOperator:
        return KhatriRao(self.A.H, self.B.H, not self.rowwise)

    def _transpose(self) -> LinearOperator:
        return KhatriRao(self.A.T, self.B.T, not self.rowwise)

    def _conj(self) -> LinearOperator:
        return KhatriRao(self.A.conj(), self.B.conj(), self.rowwise)

    def _to_dense(self) -> Array:
        be = self._concrete_backend()
        A, B = self.A._dense_like(self), self.B._dense_like(self)
        out = (
            A[..., :, :, None] * B[..., :, None, :]
            if self.rowwise
            else A[..., :, None, :] * B[..., None, :, :]
        )
        lead = out.shape[:-3]
        m, n = self.shape[-2:]
        out = be.astype(be.xp.reshape(out, (*lead, m, n)), self.dtype)
        return be.xp.broadcast_to(out, self.shape) if tuple(out.shape) != self.shape else out

    def _compose(self, other: LinearOperator) -> Any:
        """The Gram is an elementwise product; a Kronecker product on the wide side goes into the factors."""
        from .algebra import matmul
        from .hadamard import HadamardProduct
        from .kronecker import Kronecker

        if not self.rowwise:
            return NotImplemented
        if isinstance(other, KhatriRao) and not other.rowwise and _fit(self, (other.A, other.B)):
            linked = _adjoint(self, other)
            return HadamardProduct(
                _gram(matmul(self.A, other.A), linked), _gram(matmul(self.B, other.B), linked)
            )
        if isinstance(other, Kronecker) and len(other.Ms) == 2 and _fit(self, other.Ms):
            return KhatriRao(matmul(self.A, other.Ms[0]), matmul(self.B, other.Ms[1]), True)
        return NotImplemented

    def _rcompose(self, other: LinearOperator) -> Any:
        from .algebra import matmul
        from .kronecker import Kronecker

        if not self.rowwise and isinstance(other, Kronecker) and len(other.Ms) == 2:
            C, D = other.Ms
            if C.shape[-1] == self.A.shape[-2] and D.shape[-1] == self.B.shape[-2]:
                return KhatriRao(matmul(C, self.A), matmul(D, self.B))
        return NotImplemented

    def _properties(self) -> frozenset[Property]:
        # the Gram matrix is the elementwise product of the factors' Gram matrices
        if self.rowwise or not (self.A.isa(Stiefel) and self.B.isa(Stiefel)):
            return frozenset()
        return frozenset({Stiefel})

    def _matvec_cost(self) -> Cost:
        n = self.shape[-2] if self.rowwise else self.shape[-1]
        p = self.B.shape[-1] if self.rowwise else self.B.shape[-2]
        one = self.A.matmat_cost(p)
        return one + Cost(2.0 * n * p, 3 * self.itemsize * n * p, self.itemsize * n * p, 0, 3)


def _fit(K: KhatriRao, Ms: Any) -> bool:
    return bool(K.A.shape[-1] == Ms[0].shape[-2] and K.B.shape[-1] == Ms[1].shape[-2])


def _adjoint(K: LinearOperator, L: LinearOperator) -> bool:
    return K._adjoint_pair(L)


def _gram(G: LinearOperator, linked: bool) -> LinearOperator:
    """The Grams of both factors are PSD where the whole was written as ``K.H @ K``."""
    from ..properties import PSD

    return G.replace(declared=G.declared | {PSD}) if linked and not G.isa(PSD) else G
