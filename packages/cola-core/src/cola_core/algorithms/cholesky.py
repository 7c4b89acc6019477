"""Cholesky factorisation of a PSD operator that fits as a dense matrix.
Golub & Van Loan, 4th ed., sec. 4.2."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import record, wanted
from ..errors import NonFiniteError, NotPositiveDefiniteError
from ..info import Info
from ..properties import PSD, SelfAdjoint
from .base import Algorithm
from .condition import inverse_norm1
from .dense_cost import batch_size, dense_memory, with_entries
from .factor import CholeskyFactor, dense_entries, record_direct, warn_if_singular
from .kept_factor import keeps

__all__ = ["Cholesky"]


@dataclass(frozen=True)
class Cholesky(Algorithm):
    """``A = L L^H``: ``n^3/3`` flops once, ``2 n^2`` per right-hand side. Reads the lower triangle.

    An operator that is not positive definite raises ``NotPositiveDefiniteError``: nothing is added to it
    unless jitter asks for it. jitter: relative to the mean of the diagonal (of each matrix of a batch); the
    factors are then those of ``A + s I`` with ``s = jitter mean(diag A)``, and ``Info.jitter`` says so.
    """

    gathers: ClassVar[str] = "entries"

    jitter: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.jitter, bool) or (self.jitter is not None and not self.jitter >= 0):
            raise ValueError(
                f"Cholesky(jitter={self.jitter!r}): a number relative to the mean diagonal, such as 1e-8."
            )

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return True if A.isa(PSD) else "the operator is not declared PSD"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, b = A.shape[-1], batch_size(A)
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        return with_entries(
            A,
            Cost(
                0.0,
                b * A.itemsize * n * n * 3,
                2 * dense_memory(A),
                0,
                10,
                factor=b * (n**3 / 3.0 + 2.0 * n**2 * k),  # triangular solves are as fast
                steps=b * n,
            ),
        )

    def factor(self, A: Any, look: bool = False) -> CholeskyFactor:
        """Factor once for several solves and the determinant; look: estimate a doubtful condition number."""
        be = A._concrete_backend()
        M = self._entries(be, A)
        kept = keeps(be, M)
        L = be.cholesky(be.constant(M) if kept else M)
        factor = CholeskyFactor(be, L, M=M if kept else None)
        if M.ndim != 2 or not M.shape[0]:
            return factor
        doubtful = False
        if be.is_concrete(M):
            d = be.xp.abs(be.xp.linalg.diagonal(L))
            # (min L_ii / max L_ii)^2 bounds the reciprocal condition number from above (Higham 2002, sec.
            # 8.3), usually within a factor of the size
            bound = be.number(be.xp.min(d) / be.xp.max(d)) ** 2
            doubtful = look and not bound > 10 * M.shape[-1] * float(be.xp.finfo(M.dtype).eps)
            if not doubtful:
                warn_if_singular(bound, A, "Cholesky")
        if not wanted() and not doubtful:
            return factor
        norm1 = be.constant(be.norm1(be.constant(M)))
        solve = CholeskyFactor(be, L).solve
        inverse = inverse_norm1(be, solve, solve, M.shape[-1], M.dtype, be.device(M))
        condition: Any = be.constant(norm1 * inverse)
        if be.is_concrete(condition):
            condition = be.number(condition)
        if doubtful:
            warn_if_singular(1 / condition, A, "Cholesky")
        return replace(factor, condition=condition, norm1=norm1)

    def _entries(self, be: Any, A: Any) -> Array:
        """What is factored."""
        M = dense_entries(A)
        look_for_asymmetry(be, A, M)
        return M if self.jitter is None or not M.shape[-1] else self._lifted(be, A, M)

    def _lifted(self, be: Any, A: Any, M: Array) -> Array:
        xp = be.xp
        d = xp.linalg.diagonal(M)
        d = xp.real(d) if be.is_complex(d) else d
        s = float(self.jitter) * xp.mean(d, axis=-1)  # type: ignore[arg-type]
        if be.is_concrete(s) and bool(xp.any(s < 0)):
            raise NotPositiveDefiniteError(f"Cholesky of {A!r}: the mean of its diagonal is negative.")
        added = be.constant(xp.max(s))
        record(Info(method="Cholesky", jitter=be.number(added) if be.is_concrete(added) else added))
        eye = be.eye(M.shape[-1], M.dtype, be.device(M))
        return M + be.astype(s, M.dtype)[..., None, None] * eye

    def solve(self, A: Any, b: Array) -> Array:
        check_finite(A, b)
        factor = self.factor(A, look=True)
        X = factor.solve(b)
        if wanted() and not A.batch_shape:
            record_direct(A, X, b, factor)
        return X

    def slogdet(self, A: Any) -> tuple[Array, Array]:
        return self.factor(A).slogdet()

    def cholesky(self, A: Any) -> Any:
        from ..operators import Triangular

        be = A._concrete_backend()
        return Triangular(be.cholesky(self._entries(be, A)), lower=True)

    def root(self, A: Any) -> Any:
        """L; a semidefinite operator, which has none to working precision, goes through its eigenvalues."""
        from .eigh import Eigh

        try:
            return self.cholesky(A)
        except NotPositiveDefiniteError:
            return Eigh().root(A)


def check_finite(A: Any, b: Array) -> None:
    """Refuse a right-hand side with NaN or infinity, by name."""
    be = A.backend
    if be is None:
        from ..backends import backend_of

        be = backend_of(b)
    if be is not None and not be.all_finite(b):
        raise NonFiniteError(f"the right-hand side {tuple(b.shape)} of {A!r} contains NaN or infinity.")


def look_for_asymmetry(be: Any, A: Any, M: Array) -> None:
    """Refuse entries that differ across the diagonal, where nothing declares that they agree.

    The factorisation reads one triangle, and would answer for another matrix in silence.
    """
    if A.isa(SelfAdjoint) or not be.is_concrete(M) or 0 in M.shape:
        return
    gap = asymmetry(be, M)
    if gap is not None:
        raise NotPositiveDefiniteError(
            f"Cholesky of {A!r}: the matrix is not self-adjoint (|A - A^H| reaches {gap:.3g}, entries "
            f"{be.number(be.xp.max(be.xp.abs(M))):.3g}), so it is not positive definite. Use LU(), or "
            "symmetrise it."
        )


def asymmetry(be: Any, M: Array) -> float | None:
    """The largest entry of ``M - M^H`` if it is more than rounding, else None."""
    xp = be.xp
    if 0 in M.shape:
        return None
    gap, size = be.number(xp.max(xp.abs(M - be.adjoint(M)))), be.number(xp.max(xp.abs(M)))
    return gap if gap > 100 * float(xp.finfo(M.dtype).eps) * size else None
