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
from typing import Any

from ..backends.base import Array, Backend, dtype_name
from ..errors import IllConditionedWarning, NonFiniteError, SingularMatrixError

__all__ = ["CholeskyFactor", "LUFactor", "dense_entries", "singular_raises", "warn_if_singular"]

_RAISE: ContextVar[bool] = ContextVar("cola_core_singular_raises", default=False)
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
    """A's matrix for a dense factorisation, refusing NaN and infinity by name."""
    be: Backend = A._concrete_backend()
    M = A.to_dense()
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


@dataclass(frozen=True)
class CholeskyFactor:
    """``A = L L^H``."""

    be: Backend
    L: Array

    def solve(self, B: Array) -> Array:
        """``A^{-1} B``: two triangular solves, ``2 n^2`` flops a column."""
        return self.be.cholesky_solve(self.L, B)

    def slogdet(self) -> tuple[Array, Array]:
        """Sign (one) and ``log det A = 2 sum log L_ii``."""
        xp = self.be.xp
        d = xp.linalg.diagonal(self.L)
        d = xp.real(d) if self.be.is_complex(d) else d
        value = 2 * xp.sum(xp.log(d), axis=-1)
        return 0 * value + 1, value  # ones of the same kind; ten times cheaper than ones_like for one number


@dataclass(frozen=True)
class LUFactor:
    """``P A = L U``."""

    be: Backend
    factors: Any

    def solve(self, B: Array) -> Array:
        """``A^{-1} B``, ``2 n^2`` flops a column."""
        return self.be.lu_solve(self.factors, B)

    def slogdet(self) -> tuple[Array, Array]:
        """Sign (or complex phase, with the parity of P) and log of the modulus of the determinant."""
        return self.be.lu_slogdet(self.factors)
