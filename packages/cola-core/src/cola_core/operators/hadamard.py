"""``HadamardProduct``: the elementwise product of two operators, applied strip by strip."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..errors import ShapeError
from ..properties import PSD, Property, SelfAdjoint
from ..pytree import operator
from .base import LinearOperator
from .entries import STRIP_BYTES, columns, readable, strips
from .lowrank import LowRank
from .sum import broadcast_batches

__all__ = ["HadamardProduct"]


@operator
class HadamardProduct(LinearOperator):
    """``(A * B)_ij = A_ij B_ij``; PSD where both are (Schur's product theorem).

    A product with x: where one factor is ``LowRank`` of rank r, r products with the other; else the columns
    of both, in strips of at most 64 MiB, by products with unit vectors where they are not stored.
    ``cola_core.hadamard(A, B)`` simplifies (diagonal, sparse and Kronecker factors).

    >>> import numpy as np, cola_core as cola
    >>> A = cola.ops.HadamardProduct(np.array([[1.0, 2.0], [3.0, 4.0]]), np.full((2, 2), 2.0))
    >>> [float(x) for x in A @ np.ones(2)]
    [6.0, 14.0]
    """

    A: LinearOperator
    B: LinearOperator

    def __init__(self, A: Any, B: Any, *, declared: frozenset[Property] = frozenset()) -> None:
        from .algebra import as_operator

        object.__setattr__(self, "A", as_operator(A))
        object.__setattr__(self, "B", as_operator(B))
        object.__setattr__(self, "declared", declared)
        self.__post_init__()

    def _check(self) -> None:
        if self.A.shape[-2:] != self.B.shape[-2:]:
            raise ShapeError(
                f"HadamardProduct: {self.A!r} of shape {self.A.shape} and {self.B!r} of shape {self.B.shape} "
                "need one shape."
            )
        self.backend  # noqa: B018 - raises if the parts mix libraries
        broadcast_batches("HadamardProduct", (self.A, self.B))

    def _shape(self) -> tuple[int, ...]:
        return (*broadcast_batches("HadamardProduct", (self.A, self.B)), *self.A.shape[-2:])

    def _low_rank(self) -> tuple[Any, LinearOperator] | None:
        """The factor of lower rank and the other, where products with the other are the cheaper way."""
        L, M = self.A, self.B
        if not isinstance(L, LowRank) or (isinstance(M, LowRank) and M.rank < L.rank):
            L, M = M, L
        if not isinstance(L, LowRank):
            return None
        return (L, M) if L.rank < min(self.shape[-2:]) or not readable(M) else None

    def _through_rank(self, L: Any, M: LinearOperator, X: Array, adjoint: bool) -> Array:
        """``sum_r diag(U_r) M diag(conj(V_r)) X``, all r at once as columns."""
        be = self._concrete_backend()
        left, right = (L.right, L.U) if adjoint else (L.U, L.right)
        r, k = L.rank, X.shape[-1]
        Y = be.conj(right)[..., :, :, None] * X[..., :, None, :]  # (n, r, k)
        Y = be.xp.reshape(Y, (*Y.shape[:-2], r * k))
        Y = M._rmatmat(Y) if adjoint else M._matmat(Y)
        Y = be.xp.reshape(Y, (*Y.shape[:-1], r, k))
        return be.xp.sum(left[..., :, :, None] * Y, axis=-2)

    def _strips(self) -> list[tuple[int, int]]:
        be_bytes = self.itemsize
        for s in (*self.batch_shape, self.shape[-2]):
            be_bytes *= s
        return strips(self.shape[-1], 3.0 * be_bytes, STRIP_BYTES)

    def _columns(self, start: int, stop: int) -> Array:
        return columns(self.A, start, stop, self) * columns(self.B, start, stop, self)

    def _product(self, X: Array, adjoint: bool) -> Array:
        found = self._low_rank()
        if found is not None:
            return self._through_rank(*found, X, adjoint)
        be = self._concrete_backend()
        pieces: list[Any] = []
        out: Any = None
        for start, stop in self._strips():
            S = self._columns(start, stop)
            if adjoint:
                pieces.append(be.matmul(be.adjoint(S), X))
            else:
                part = be.matmul(S, X[..., start:stop, :])
                out = part if out is None else out + part
        if adjoint and pieces:
            return be.xp.concat(pieces, axis=-2) if len(pieces) > 1 else pieces[0]
        if out is None:  # no columns
            m, n = self.shape[-2:]
            size = n if adjoint else m
            return be.zeros((*X.shape[:-2], size, X.shape[-1]), self.dtype, self.device)
        return out

    def _matmat(self, X: Array) -> Array:
        return self._product(X, adjoint=False)

    def _rmatmat(self, X: Array) -> Array:
        return self._product(X, adjoint=True)

    def _to_dense(self) -> Array:
        be = self._concrete_backend()
        out = be.astype(self.A._dense_like(self) * self.B._dense_like(self), self.dtype)
        return be.xp.broadcast_to(out, self.shape) if tuple(out.shape) != self.shape else out

    def _adjoint(self) -> LinearOperator:
        return HadamardProduct(self.A.H, self.B.H)

    def _transpose(self) -> LinearOperator:
        return HadamardProduct(self.A.T, self.B.T)

    def _conj(self) -> LinearOperator:
        return HadamardProduct(self.A.conj(), self.B.conj())

    def _properties(self) -> frozenset[Property]:
        return frozenset(p for p in (PSD, SelfAdjoint) if self.A.isa(p) and self.B.isa(p))

    def _matvec_cost(self) -> Cost:
        m, n = self.shape[-2:]
        found = self._low_rank()
        if found is not None:
            L, M = found
            one, size = M.matmat_cost(L.rank), L.rank * (m + n)
            return one + Cost(2.0 * size, 3 * self.itemsize * size, self.itemsize * size, 0, 3)
        total = Cost(
            3.0 * m * n, 3 * self.itemsize * m * n, min(STRIP_BYTES, 3 * self.itemsize * m * n), 1, 2
        )
        for M in (self.A, self.B):
            if not readable(M):
                one = M.matmat_cost(n)
                total = total + Cost(one.flops, one.bytes, 0, 0, one.calls)
        return total
