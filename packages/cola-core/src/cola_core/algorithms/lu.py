"""LU factorisation with partial pivoting of an operator that fits as a dense matrix.
Golub & Van Loan, sec. 3.4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from .base import Algorithm
from .cholesky import check_finite
from .dense_cost import batch_size, dense_memory
from .factor import LUFactor, dense_entries, warn_if_singular

__all__ = ["LU"]


@dataclass(frozen=True)
class LU(Algorithm):
    """``P A = L U``: ``2/3 n^3`` flops once, ``2 n^2`` per right-hand side;
    a condition estimate costs ``O(n^2)``."""

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, b = max(A.shape[-2:]), batch_size(A)
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        flops = b * (2 * n**3 / 3 + 2 * n**2 * k)
        return Cost(flops, b * A.itemsize * n * n * 4, 3 * dense_memory(A), 0, 5)

    def factor(self, A: Any, singular_ok: bool = False) -> LUFactor:
        """Factor once for several solves and the determinant."""
        be = A._concrete_backend()
        M = dense_entries(A)
        factors = be.lu_factor(M)
        if M.ndim == 2 and M.shape[-1] and be.is_concrete(M) and not singular_ok:
            norm1 = be.xp.max(be.xp.sum(be.xp.abs(M), axis=-2))
            warn_if_singular(be.lu_rcond(factors, norm1), A, "LU")
        return LUFactor(be, factors)

    def solve(self, A: Any, b: Array) -> Array:
        check_finite(A, b)
        return self.factor(A).solve(b)

    def lu(self, A: Any) -> tuple[Any, Any, Any]:
        """``P, L, U`` with ``A = P L U``, for any shape and rank: reduced, L with ones on its diagonal."""
        from ..operators import Dense, Permutation, Triangular
        from ..properties import Unitary

        be = A._concrete_backend()
        rows, L, U = be.lu(dense_entries(A))
        L, U = be.astype(L, A.dtype), be.astype(U, A.dtype)
        m, n = A.shape[-2:]
        if A.batch_shape:
            eye = be.eye(m, A.dtype, A.device)
            P: Any = Dense(be.adjoint(eye[rows]), declared=frozenset({Unitary}))
        else:
            P = Permutation(rows, A.dtype).H
        lower = Triangular(L, lower=True, unit=True) if m <= n else Dense(L)
        return P, lower, Triangular(U, lower=False) if n <= m else Dense(U)

    def slogdet(self, A: Any) -> tuple[Array, Array]:
        from ..errors import SingularMatrixError

        try:
            # a determinant is well defined however ill-conditioned the matrix:
            # only a solve needs the estimate
            return self.factor(A, singular_ok=True).slogdet()
        except SingularMatrixError:
            be = A._concrete_backend()
            return be.zeros(A.batch_shape, A.dtype), be.zeros(A.batch_shape, be.real_dtype(A.dtype)) - float(
                "inf"
            )
