"""Householder QR and LQ factorisations of an operator that fits as a dense matrix.
Golub & Van Loan, 4th ed., sec. 5.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..properties import Stiefel, Unitary
from .base import Algorithm
from .dense_cost import batch_size, dense_memory, with_entries
from .factor import dense_entries

__all__ = ["LQ", "QR", "phases"]


def phases(be: Any, d: Array) -> Array:
    """The sign or complex phase of every entry, one for zero."""
    xp = be.xp
    size = xp.abs(d)
    zero = size == 0
    return xp.where(zero, xp.ones_like(d), d / be.astype(xp.where(zero, xp.ones_like(size), size), d.dtype))


def _cost(A: Any) -> Cost:
    m, n = A.shape[-2:]
    b, k = batch_size(A), min(m, n)
    return with_entries(
        A,
        Cost(
            0.0,
            b * A.itemsize * m * n * 4,
            3 * dense_memory(A),
            0,
            8,
            factor=b * 4.0 * m * n * k,
            steps=b * 2.0 * k,
        ),
    )


@dataclass(frozen=True)
class QR(Algorithm):
    """``A = Q R`` with k = min(m, n) orthonormal columns in Q: ``4 m n k`` flops.

    positive: make R's diagonal real and non-negative, which fixes the signs LAPACK leaves open, so that the
    factors of a matrix of full column rank are unique and the same on every array library.
    """

    positive: bool = True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return _cost(A)

    def qr(self, A: Any) -> tuple[Any, Any]:
        from ..operators import Dense, Triangular

        be = A._concrete_backend()
        Q, R = be.qr(dense_entries(A))
        if self.positive:
            p = phases(be, be.xp.linalg.diagonal(R))
            Q, R = Q * p[..., None, :], be.conj(p)[..., :, None] * R
        Q, R = be.astype(Q, A.dtype), be.astype(R, A.dtype)
        m, n = A.shape[-2:]
        left = Dense(Q, declared=frozenset({Unitary if m <= n else Stiefel}))
        return left, Triangular(R, lower=False) if n <= m else Dense(R)


@dataclass(frozen=True)
class LQ(Algorithm):
    """``A = L Q`` with k = min(m, n) orthonormal rows in Q: ``4 m n k`` flops.
    From the Householder QR factors of ``A^H``, whose columns are the rows of A in memory.

    positive: make L's diagonal real and non-negative, which makes the factors of a matrix of full row rank
    unique (LAPACK leaves the signs open).
    """

    positive: bool = True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return _cost(A)

    def lq(self, A: Any) -> tuple[Any, Any]:
        from ..operators import Dense, Triangular

        be = A._concrete_backend()
        L, Q = be.lq(dense_entries(A))
        if self.positive:
            p = phases(be, be.xp.linalg.diagonal(L))
            L, Q = L * be.conj(p)[..., None, :], p[..., :, None] * Q
        L, Q = be.astype(L, A.dtype), be.astype(Q, A.dtype)
        m, n = A.shape[-2:]
        right = Dense(Q, declared=frozenset({Unitary}) if n <= m else frozenset())
        return Triangular(L) if m <= n else Dense(L), right
