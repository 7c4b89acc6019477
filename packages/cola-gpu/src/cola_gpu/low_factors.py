"""LU factors of a matrix rounded to a low precision, as a preconditioner.

A matrix is squeezed into half precision by two-sided scaling (Higham, Pranesh, Zounon, SIAM J. Sci. Comput.
41 (2019) A2536): rows, then columns, are divided by powers of two so that each has a largest entry between
one half and one, and the whole is multiplied by what uses the range of float16 up to a safety factor. Powers
of two add no rounding of their own.

Half precision is emulated: the scaled matrix is rounded to it, and factored in float32, because neither
LAPACK nor the array libraries have LU in half. What this models is a factorisation with products in half and
sums in float32; what it saves is the accuracy, not the memory, of float32. The factors are then kept in the
precision in which they are applied.
"""

from __future__ import annotations

from typing import Any

from cola_core.backends import Backend
from cola_core.operators import LinearOperator, operator, static

from .low_operators import cast, round_bits

__all__ = ["LowLU", "low_lu", "squeezed"]

Array = Any

TOP = {"float16": 2.0**12}  # times the growth of LU, at most a tenth of the largest float16


@operator
class LowLU(LinearOperator):
    """`diag(columns) (L U)^{-1} diag(rows)`, of the shape of the matrix.

    factors, settings: arrays and the rest of what the backend's `lu_factor` gave.
    """

    factors: tuple[Array, ...]
    rows: Array
    columns: Array
    settings: tuple[Any, ...] = static(default=())

    def _shape(self) -> tuple[int, ...]:
        return tuple(self.factors[0].shape)

    def _dtype(self) -> Any:
        return self.factors[0].dtype

    def _matmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        Y = be.lu_solve((*self.factors, *self.settings), self.rows[..., None] * X)
        return self.columns[..., None] * Y


def squeezed(bk: Backend, M: Array, precision: str) -> tuple[Array, Array, Array]:
    """`round(diag(rows) M diag(columns))`, numbers of the precision held in float32, and the scalings, in
    M's precision."""
    xp = bk.xp
    rows = _reciprocal(xp, xp.max(xp.abs(M), axis=-1))
    M = rows[..., :, None] * M
    columns = _reciprocal(xp, xp.max(xp.abs(M), axis=-2))
    M = M * columns[..., None, :]
    top = TOP.get(precision, 1.0)
    return round_bits(cast(top * M, "float32", bk), precision, bk), top * rows, columns


def low_lu(bk: Backend, M: Array, precision: str, vectors: str) -> LowLU:
    """Factors of the matrix M (*batch, n, n) in `precision`, to be applied to `vectors`.

    SingularMatrixError where the rounded matrix has an exact zero for a pivot (and values can be looked at).
    Cost: 2 n^3 / 3 flops in float32 (float64, if that is the precision asked for).
    """
    if precision == "float64":
        xp = bk.xp
        rows = columns = xp.ones_like(xp.abs(M[..., 0]))
        factors = bk.lu_factor(M)
    else:
        low, rows, columns = squeezed(bk, M, precision)
        factors = bk.lu_factor(low)
    kept = tuple(cast(x, vectors, bk) if _inexact(bk, x) else x for x in factors if hasattr(x, "shape"))
    settings = tuple(x for x in factors if not hasattr(x, "shape"))
    return LowLU(kept, cast(rows, vectors, bk), cast(columns, vectors, bk), settings)


def _inexact(bk: Backend, x: Array) -> bool:
    return bool(bk.xp.isdtype(x.dtype, ("real floating", "complex floating")))


def _reciprocal(xp: Any, top: Array) -> Array:
    """One over the power of two next above, one for zeros and what is not finite."""
    usable = (top > 0) & xp.isfinite(top)
    return xp.exp2(-xp.ceil(xp.log2(xp.where(usable, top, xp.ones_like(top)))))
