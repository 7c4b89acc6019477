"""LU factorisation with partial pivoting of an operator that fits as a dense matrix.
Golub & Van Loan, sec. 3.4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import wanted
from ..errors import SingularMatrixError
from .base import Algorithm
from .cholesky import check_finite
from .condition import inverse_norm1
from .dense_cost import batch_size, dense_memory, with_entries
from .factor import LUFactor, dense_entries, record_direct, refined, warn_if_singular
from .kept_factor import keeps

__all__ = ["LU"]


@dataclass(frozen=True)
class LU(Algorithm):
    """``P A = L U``: ``2/3 n^3`` flops once, ``2 n^2`` per right-hand side;
    a condition estimate costs ``O(n^2)``."""

    gathers: ClassVar[str] = "entries"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, b = max(A.shape[-2:]), batch_size(A)
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        return with_entries(
            A,
            Cost(
                0.0,
                b * A.itemsize * n * n * 4,
                2 * dense_memory(A),
                0,
                10,
                factor=b * (2.0 * n**3 / 3 + 2.0 * n**2 * k),  # triangular solves are as fast
                steps=b * n,
            ),
        )

    def factor(self, A: Any, singular_ok: bool = False) -> LUFactor:
        """Factor once for several solves and the determinant."""
        return self._factor(A, dense_entries(A), singular_ok)

    def _factor(self, A: Any, M: Array, singular_ok: bool = False) -> LUFactor:
        be = A._concrete_backend()
        kept = M if keeps(be, M) else None
        factors = be.lu_factor(M if kept is None else be.constant(M))
        if M.ndim != 2 or not M.shape[-1] or singular_ok:
            return LUFactor(be, factors, M=kept)
        look = wanted()
        if not be.is_concrete(M) and not look:
            return LUFactor(be, factors, M=kept)
        norm1 = be.constant(be.norm1(be.constant(M)))
        rcond = be.lu_rcond(factors, norm1)
        condition: Any = None
        if rcond is not None:
            condition = 1 / rcond if rcond > 0 else float("inf")
        elif look:
            found = LUFactor(be, factors)
            condition = be.constant(
                norm1
                * inverse_norm1(be, found.solve, found.solve_adjoint, M.shape[-1], M.dtype, be.device(M))
            )
            if be.is_concrete(condition):
                condition = be.number(condition)
                rcond = 1 / condition
        warn_if_singular(rcond, A, "LU")
        return LUFactor(be, factors, condition, norm1, kept)

    def solve(self, A: Any, b: Array) -> Array:
        check_finite(A, b)
        if A.batch_shape:
            return _solve_all(self, A, b)
        M = dense_entries(A)
        factor = self._factor(A, M)
        X = factor.solve(b)
        if len(X.shape) == 2:
            X = refined(factor.be, A, M, b, X, factor)
            if wanted():
                record_direct(A, X, b, factor, M)
        return X

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
        be = A._concrete_backend()
        if be.name == "numpy" and A.batch_shape:
            sign, value = be.xp.linalg.slogdet(dense_entries(A))
            return be.astype(sign, A.dtype), value
        try:
            # a determinant is well defined however ill-conditioned the matrix:
            # only a solve needs the estimate
            return self.factor(A, singular_ok=True).slogdet()
        except SingularMatrixError:
            return _singular(A)


def _singular(A: Any) -> tuple[Array, Array]:
    """The determinant of a matrix (of some of a batch) that is exactly singular, without a derivative."""
    be = A._concrete_backend()
    M = dense_entries(A)

    def run(M: Array) -> Any:
        sign, value = be.xp.linalg.slogdet(M)
        return (be.astype(sign, A.dtype), be.astype(value, be.real_dtype(A.dtype))), None

    def tangent(*_: Any) -> Any:
        raise SingularMatrixError(
            f"{A!r} is exactly singular, where the logarithm of its determinant is -inf and has no "
            "derivative. Regularise it (A + s*I), or take the derivative of det, or of the other matrices of "
            "a batch."
        )

    if not be.differentiating(M):
        return run(M)[0]  # type: ignore[no-any-return]
    return be.differentiable(run, tangent, M)[0]  # type: ignore[no-any-return]


def _solve_all(alg: LU, A: Any, b: Array) -> Array:
    """A batch at once. One more column, of random signs, shows what the inverses do to a typical vector:
    ``|A| |A^-1 z| / |z|`` is a lower bound on the condition number that is seldom far below it.
    """
    be = A._concrete_backend()
    xp = be.xp
    M = dense_entries(A)
    dtype = xp.result_type(M, b)
    M, B = be.astype(M, dtype), be.astype(b, dtype)
    concrete = be.is_concrete(M, B) and M.shape[-1] > 0
    if concrete:
        probe = xp.broadcast_to(be.rademacher(0, (M.shape[-1], 1), dtype, A.device), (*B.shape[:-1], 1))
        B = xp.concat([B, probe], axis=-1)
    if be.name == "numpy":
        # SciPy's LU takes one matrix at a time, NumPy's solve a stack of them
        try:
            X = xp.linalg.solve(M, B)
        except np.linalg.LinAlgError as error:
            raise SingularMatrixError(
                f"a matrix of the batch {A!r} of shape {A.shape} is exactly singular. For a least-squares "
                "answer use pinv or lstsq."
            ) from error
    else:
        X = alg.factor(A).solve(B)
    if not concrete:
        return X
    n = M.shape[-1]
    growth = xp.linalg.vector_norm(X[..., -1], axis=-1) / n**0.5
    size = xp.linalg.vector_norm(M, axis=(-2, -1))
    worst = be.number(xp.max(growth * size)) * n**0.5 if 0 not in growth.shape else 0.0
    warn_if_singular(1 / worst if worst > 0 else 1.0, A, "LU")
    return X[..., :-1]
