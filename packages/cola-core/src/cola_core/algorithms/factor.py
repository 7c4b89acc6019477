"""Direct factorisations as objects: factor once, then solve many times and read off the determinant.

Every factor checks what it is given (finite, not too large to densify) and estimates its condition number, so
that an answer without correct digits is announced (``IllConditionedWarning``) instead of returned in silence.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from ..backends.base import Array, Backend, dtype_name
from ..dispatch.gathering import report_gathering
from ..dispatch.placement import shards
from ..dispatch.session import record
from ..errors import IllConditionedWarning, NonFiniteError, SingularMatrixError
from ..info import Info
from ..reasons import REASONS, SINGULAR
from .kept_factor import CHOLESKY, LU, log_determinant, quadratic, solution

__all__ = [
    "CholeskyFactor",
    "LUFactor",
    "backward_error",
    "dense_entries",
    "record_direct",
    "refined",
    "singular_raises",
    "warn_if_singular",
    "with_columns",
]

_RAISE: ContextVar[bool] = ContextVar("cola_core_singular_raises", default=False)
LEAST_CHECKED = 32
EPS = {"float64": 2.2e-16, "complex128": 2.2e-16, "float32": 1.2e-7, "complex64": 1.2e-7}


@contextmanager
def singular_raises() -> Iterator[None]:
    """Within, a part that is singular to working precision is an error rather than a warning:
    for rules that have another way when a part of theirs is singular, as the whole need not be."""
    token = _RAISE.set(True)
    try:
        yield
    finally:
        _RAISE.reset(token)


def dense_entries(A: Any) -> Array:
    """A's matrix for a dense factorisation, refusing NaN and infinity by name. Of an operator spread over
    devices every one gets a copy, or none if that is too large (``dispatch.gathering``)."""
    be: Backend = A._concrete_backend()
    spread = shards(A) > 1
    if spread:
        report_gathering(A)
    M = A.to_dense()
    if spread or be.name == "jax":  # an explicit axis of one device is part of a type there, too
        M = be.gather(M)
    if not be.all_finite(M):
        raise NonFiniteError(
            f"{A!r} contains NaN or infinity; a factorisation would spread it to every entry."
        )
    if dtype_name(M.dtype) in ("float16", "bfloat16"):
        M = be.astype(M, "float32")  # LAPACK and cuSOLVER have no half precision; the caller casts back
    return M


def warn_if_singular(rcond: Any, A: Any, method: str) -> None:
    """Warn if a reciprocal condition estimate says that no digit of a solution is reliable."""
    eps = EPS.get(dtype_name(A.dtype), 1.2e-7)
    if rcond is not None and not rcond >= eps:
        if _RAISE.get():
            raise SingularMatrixError(f"{A!r} is singular to working precision.")
        estimate = "infinite" if not rcond > 0 else f"about {1 / rcond:.1e}"
        warnings.warn(
            f"{A!r} is singular to working precision (condition number {estimate}); its {method} solution "
            "may have no correct digit. Regularise it (A + s*I), use higher precision, or use "
            "lstsq.",
            IllConditionedWarning,
            stacklevel=3,
        )


def record_direct(A: Any, X: Array, B: Array, factor: Any, M: Array | None = None) -> None:
    """Report how well a direct solution did: residual, condition number, and what both say of its error.

    error_estimate: ``cond(A) (eta + eps)`` with the backward error
    ``eta = max |B - A X| / (|A| |X| + |B|)``, all in the 1-norm: a bound on the relative error but for the
    slack of the condition estimate (Higham 2002, sec. 7.1). condition, error_estimate: None where the factors
    do not tell the condition. M: the entries of A, if they are at hand.
    """
    be: Any = A.backend
    if be is None or X.shape != B.shape or 0 in X.shape:
        return
    xp = be.xp
    X, B = be.constant(X), be.constant(B)
    R = be.constant(B - (A @ X if M is None else be.matmul(M, X)))
    size = be.frobenius(B, axis=-2)
    length = be.frobenius(R, axis=-2)
    relative = xp.where(size > 0, length / xp.where(size > 0, size, xp.ones_like(size)), length)
    condition, norm = getattr(factor, "condition", None), getattr(factor, "norm1", None)
    estimate = None
    if condition is not None and norm is not None:
        error = backward_error(be, R, X, B, norm)
        estimate = condition * (error + EPS.get(dtype_name(A.dtype), 1.2e-7))
    info = Info(
        method=getattr(factor, "method", "direct"),
        reason="direct",
        residual=xp.max(relative),
        residuals=relative,
        condition=condition,
        error_estimate=estimate,
    )
    if be.is_concrete(relative):
        if not bool(xp.all(xp.isfinite(relative))):
            info = info.replace(converged=False, reason=REASONS[SINGULAR])
        info = info.concrete(be)
    record(info)


def backward_error(be: Any, R: Array, X: Array, B: Array, norm1: Any) -> Array:
    """``max |R| / (|A| |X| + |B|)`` over the columns, in the 1-norm (Rigal & Gaches 1967)."""
    xp = be.xp
    total = norm1 * _norm1(xp, X) + _norm1(xp, B)
    return xp.max(_norm1(xp, R) / xp.where(total > 0, total, xp.ones_like(total)))


def refined(be: Any, A: Any, M: Array, B: Array, X: Array, factor: Any) -> Array:
    """X, or a better one where its backward error shows that the factorisation was unstable: one step of
    iterative refinement, and if that is not enough, a solution by QR, which is stable always.

    Looked at where the residual is cheap against the factorisation: from LEAST_CHECKED unknowns on (below,
    partial pivoting can lose no more than a few digits), and while right-hand sides are few.
    Source: Skeel, Math. Comp. 35 (1980) 817; Higham 2002, sec. 9.3 and 12.2.
    """
    n, k = B.shape[-2:]
    if n < LEAST_CHECKED or 16 * k > n or factor.norm1 is None or not be.is_concrete(X, B):
        return X
    limit = n * EPS.get(dtype_name(X.dtype), 1.2e-7)
    B = be.astype(B, X.dtype)

    def error(X: Array) -> tuple[Array, float]:
        R = B - be.matmul(M, X)
        return R, be.number(backward_error(be, R, X, B, factor.norm1))

    if k == 1 and be.name == "numpy":  # the same with half of the calls
        R = B - M @ X
        total = factor.norm1 * abs(X).sum() + abs(B).sum()
        eta = float(abs(R).sum() / total) if total > 0 else 0.0
    else:
        R, eta = error(X)
    if not limit < eta < float("inf"):
        return X
    better = X + factor.solve(R)
    _, now = error(better)
    if now < eta:
        X, eta = better, now
    if eta > limit:
        Q, T = be.qr(M)
        stable = be.solve_triangular(T, be.matmul(be.adjoint(Q), B), lower=False)
        if error(stable)[1] < eta:
            X = stable
    return X


def _norm1(xp: Any, X: Array) -> Array:
    return xp.sum(xp.abs(X), axis=-2)


@dataclass(frozen=True)
class CholeskyFactor:
    """``A = L L^H``. condition, norm1: as in ``LUFactor``. M: the entries, where derivatives are taken in
    them (``kept_factor``); L then is a constant."""

    be: Backend
    L: Array
    condition: Any = None
    norm1: Any = None
    M: Array | None = None
    method: ClassVar[str] = "Cholesky"

    def solve(self, B: Array) -> Array:
        """``A^{-1} B``: two triangular solves, ``2 n^2`` flops a column."""
        if self.M is None:
            return self.be.cholesky_solve(self.L, B)
        solve = partial(solution, self.be, CHOLESKY, self.M, (self.L,))
        return with_columns(self.be, self.M, solve, B)

    def slogdet(self) -> tuple[Array, Array]:
        """Sign (one) and ``log det A = 2 sum log L_ii``."""
        if self.M is None:
            return cholesky_slogdet(self.be, self.L)
        return log_determinant(self.be, CHOLESKY, self.M, (self.L,))

    def quadratic(self, B: Array, X: Array) -> tuple[Array, Array, Array]:
        """``b^H A^{-1} b`` for every column of B, where ``X = A^{-1} B``; sign and logarithm of the
        determinant."""
        if self.M is None:
            return self.be.inner(B, X), *self.slogdet()
        B = self.be.astype(B, X.dtype)
        return quadratic(self.be, CHOLESKY, self.M, (self.L,), B, self.be.constant(X))


def cholesky_slogdet(be: Backend, L: Array) -> tuple[Array, Array]:
    """Sign (one) and logarithm of the determinant of ``L L^H``."""
    d = be.xp.linalg.diagonal(L)
    d = be.xp.real(d) if be.is_complex(d) else d
    value = 2 * be.xp.sum(be.xp.log(d), axis=-1)
    return 0 * value + 1, value  # ones of the same kind; ten times cheaper than ones_like for one number


@dataclass(frozen=True)
class LUFactor:
    """``P A = L U``. condition: an estimate in the 1-norm, norm1: that of A; None where not known. M: the
    entries, where derivatives are taken in them; the factors then are constants."""

    be: Backend
    factors: Any
    condition: Any = None
    norm1: Any = None
    M: Array | None = None
    method: ClassVar[str] = "LU"

    def solve(self, B: Array) -> Array:
        """``A^{-1} B``, ``2 n^2`` flops a column."""
        if self.M is None:
            return self.be.lu_solve(self.factors, B)
        solve = partial(solution, self.be, LU, self.M, tuple(self.factors))
        return with_columns(self.be, self.M, solve, B)

    def solve_adjoint(self, B: Array) -> Array:
        """``A^{-H} B``, from the same factors."""
        return self.be.lu_solve(self.factors, B, adjoint=True)

    def slogdet(self) -> tuple[Array, Array]:
        """Sign (or complex phase, with the parity of P) and log of the modulus of the determinant."""
        if self.M is None:
            return self.be.lu_slogdet(self.factors)
        return log_determinant(self.be, LU, self.M, tuple(self.factors))

    def quadratic(self, B: Array, X: Array) -> tuple[Array, Array, Array]:
        """``b^H A^{-1} b`` for every column of B, where ``X = A^{-1} B``; sign and logarithm of the
        determinant."""
        if self.M is None:
            return self.be.inner(B, X), *self.slogdet()
        B = self.be.astype(B, X.dtype)
        return quadratic(self.be, LU, self.M, tuple(self.factors), B, self.be.constant(X))


def with_columns(be: Backend, M: Array, solve: Any, B: Array) -> Array:
    """``solve`` of a vector or of columns, in the common dtype with M."""
    B = be.astype(B, be.xp.result_type(B.dtype, M.dtype))
    return solve(B[:, None])[..., 0] if len(B.shape) == 1 else solve(B)  # type: ignore[no-any-return]
