"""Dense least squares with the rank revealed: QR where the matrix is well conditioned, else SVD.
Golub & Van Loan, 4th ed., sec. 5.3 and 5.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array, Backend, dtype_name
from ..cost import Cost
from ..dispatch.session import record
from ..errors import NonFiniteError
from ..info import Info
from ..pytree import tree_leaves
from .base import Algorithm
from .cholesky import check_finite
from .dense_cost import batch_size, dense_memory, with_entries
from .dense_pseudoinverse import dense_pseudo_solved
from .factor import EPS, dense_entries
from .iteration import prepare

__all__ = ["LSTSQ", "LeastSquaresFactor", "cutoff", "reciprocals", "refuse_nonfinite"]


def cutoff(be: Backend, s: Array, shape: tuple[int, ...], dtype: Any, rcond: Any = None) -> Array:
    """The largest singular value that counts as zero, batch shape: ``rcond`` (default ``max(m, n) eps``)
    times the largest of s."""
    if not s.shape[-1]:
        return be.zeros(s.shape[:-1], s.dtype, be.device(s))
    if rcond is None:
        rcond = max(shape[-2:]) * EPS.get(dtype_name(dtype), 1.2e-7)
    top = be.xp.max(s, axis=-1)
    refuse_nonfinite(be, top, shape)
    return rcond * top


def refuse_nonfinite(be: Backend, s: Array, shape: tuple[int, ...]) -> None:
    """Nothing compares with a singular value that is NaN: every rank would look like zero."""
    if not be.all_finite(s):
        raise NonFiniteError(
            f"the singular values of a matrix of shape {tuple(shape)} are not finite: its entries contain "
            "NaN or infinity, or overflow."
        )


def reciprocals(be: Backend, s: Array, limit: Array) -> Array:
    """``1 / s`` above the limit, zero below."""
    xp = be.xp
    keep = s > limit[..., None]
    return xp.where(keep, 1 / xp.where(keep, s, xp.ones_like(s)), xp.zeros_like(s))


@dataclass(frozen=True)
class LSTSQ(Algorithm):
    """The x of least norm that minimises ``|b - A x|``, for any shape and rank.

    rcond: singular values of at most ``rcond * s_max`` count as zero (default ``max(m, n) eps``). A matrix
    whose condition number is below ``eps^-1/2`` is answered by QR (LQ if wide), others by the SVD of the
    triangular factor; where values cannot be looked at (under a trace), always by the SVD. The numerical rank
    is reported in the Info.
    """

    gathers: ClassVar[str] = "entries"

    rcond: float | None = None

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        m, n = A.shape[-2:]
        b, k = batch_size(A), min(m, n)
        return with_entries(
            A,
            Cost(
                0.0,
                b * A.itemsize * m * n * 8,
                4 * dense_memory(A),
                0,
                20,
                factor=b * 4.0 * m * n * k,
                eigen=b * 8.0 * k**3,
                steps=b * 18.0 * k,
            ),
        )

    def factor(self, A: Any, rcond: Any = None) -> Any:
        """Factor once for several right-hand sides; what is differentiated, when it is solved with."""
        be = A._concrete_backend()
        if 0 not in A.shape and be.differentiating(*tree_leaves(A)):
            return DifferentiatedFactor(self, A, rcond)
        return self._factor(A, rcond)

    def _factor(self, A: Any, rcond: Any = None) -> LeastSquaresFactor:
        be = A._concrete_backend()
        M = dense_entries(A)
        rcond = self.rcond if rcond is None else rcond
        m, n = A.shape[-2:]
        wide = m < n
        Q, R = be.qr(be.adjoint(M) if wide else M)
        concrete = be.is_concrete(R)
        values = be.svdvals(R) if concrete else None
        if values is not None:
            limit = cutoff(be, values, A.shape, A.dtype, rcond)
            size = values.shape[-1]
            ranks = be.xp.sum(be.xp.astype(values > limit[..., None], values.dtype), axis=-1)
            rank = int(be.number(be.xp.min(ranks))) if 0 not in A.shape else 0
            eps = EPS.get(dtype_name(A.dtype), 1.2e-7)
            sound = size > 0 and bool(be.xp.all(values[..., -1] > eps**0.5 * values[..., 0]))
            if sound and rank == size:
                return LeastSquaresFactor(be, wide, Q, R, None, rank)
        else:
            rank = None
        U, s, V = be.svd(R)
        small = be.astype(reciprocals(be, s, cutoff(be, s, A.shape, A.dtype, rcond)), R.dtype)
        return LeastSquaresFactor(be, wide, Q, R, (U, small, V), rank)

    def lstsq(self, A: Any, b: Array, rcond: Any) -> Array:
        check_finite(A, b)
        be = A._concrete_backend()
        if 0 not in (*A.shape, *b.shape) and be.differentiating(b, *tree_leaves(A)):
            X, rank = DifferentiatedFactor(self, A, rcond).solved(b)
            record(Info(method="LSTSQ", rank=rank))
            return X
        factor = self.factor(A, rcond)
        method = "QR" if factor.parts is None else "SVD"
        record(Info(method=f"LSTSQ ({method})", rank=factor.rank))
        return factor.solve(b)


@dataclass(frozen=True)
class DifferentiatedFactor:
    """An operator that is factored inside of a solve, whose derivative is stated for the whole."""

    alg: LSTSQ
    A: Any
    rcond: Any

    def solved(self, B: Array) -> tuple[Array, int | None]:
        """``A^+ B`` and the numerical rank, None under a trace."""
        be, B, _ = prepare(self.A, B)
        B = be.astype(B, "float32") if dtype_name(B.dtype) in ("float16", "bfloat16") else B
        return dense_pseudo_solved(be, self.A, B, lambda A: self.alg._factor(A, self.rcond))

    def solve(self, B: Array) -> Array:
        """``A^+ B``."""
        return self.solved(B)[0]


@dataclass(frozen=True)
class LeastSquaresFactor:
    """``A = Q R`` (wide: ``A^H = Q R``), with the singular vectors and
    reciprocal singular values of R where needed."""

    be: Backend
    wide: bool
    Q: Array
    R: Array
    parts: Any
    rank: int | None

    def solve(self, B: Array) -> Array:
        """``A^+ B``."""
        be = self.be
        dtype = be.xp.result_type(self.R.dtype, B.dtype)
        Q, B = be.astype(self.Q, dtype), be.astype(B, dtype)
        if self.parts is None:
            if self.wide:  # x = Q R^-H b
                return be.matmul(Q, be.solve_triangular(be.adjoint(self.R), B, lower=True))
            return be.solve_triangular(self.R, be.matmul(be.adjoint(Q), B), lower=False)
        U, s, V = (be.astype(x, dtype) for x in self.parts)
        if self.wide:  # A = R^H Q^H, so that A^+ = Q (R^H)^+ = Q U s V^H
            return be.matmul(Q, be.matmul(U, s[..., :, None] * be.matmul(be.adjoint(V), B)))
        inner = be.matmul(be.adjoint(U), be.matmul(be.adjoint(Q), B))
        return be.matmul(V, s[..., :, None] * inner)
