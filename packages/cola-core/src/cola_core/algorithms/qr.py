"""Householder QR and LQ factorisations of an operator that fits as a dense matrix.
Golub & Van Loan, 4th ed., sec. 5.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..properties import Stiefel, Unitary
from .base import Algorithm
from .cholesky import check_finite
from .condition import inverse_norm1
from .dense_cost import batch_size, dense_memory, with_entries
from .factor import dense_entries, warn_if_singular

__all__ = ["LQ", "QR", "phases"]


def phases(be: Any, d: Array) -> Array:
    """The sign or complex phase of every entry, one for zero."""
    xp = be.xp
    size = xp.abs(d)
    zero = size == 0
    return xp.where(zero, xp.ones_like(d), d / be.astype(xp.where(zero, xp.ones_like(size), size), d.dtype))


def _common(be: Any, b: Array, R: Array) -> Any:
    return be.xp.result_type(b.dtype, R.dtype)


def _regular(be: Any, A: Any, R: Array, lower: bool, method: str) -> None:
    """Warn where a triangular factor is singular to working precision, as A then is."""
    if R.ndim != 2 or 0 in R.shape or not be.is_concrete(R):
        return
    adjoint = be.adjoint(R)
    inverse = inverse_norm1(
        be,
        lambda x: be.solve_triangular(R, x, lower=lower),
        lambda x: be.solve_triangular(adjoint, x, lower=not lower),
        R.shape[-1],
        R.dtype,
        be.device(R),
    )
    norm = be.xp.max(be.xp.sum(be.xp.abs(R), axis=-2))
    warn_if_singular(1 / be.number(norm * inverse), A, method)


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

    gathers: ClassVar[str] = "entries"

    positive: bool = True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return _cost(A)

    def solve(self, A: Any, b: Array) -> Array:
        """``R x = Q^H b``: twice the work of LU, stable without pivoting."""
        be = A._concrete_backend()
        check_finite(A, b)
        Q, R = be.qr(dense_entries(A))
        _regular(be, A, R, False, "QR")
        return be.solve_triangular(R, be.matmul(be.adjoint(Q), be.astype(b, _common(be, b, R))), lower=False)

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

    gathers: ClassVar[str] = "entries"

    positive: bool = True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return _cost(A)

    def solve(self, A: Any, b: Array) -> Array:
        """``x = Q^H (L^{-1} b)``: twice the work of LU, stable without pivoting."""
        be = A._concrete_backend()
        check_finite(A, b)
        L, Q = be.lq(dense_entries(A))
        _regular(be, A, L, True, "LQ")
        return be.matmul(be.adjoint(Q), be.solve_triangular(L, be.astype(b, _common(be, b, L)), lower=True))

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
