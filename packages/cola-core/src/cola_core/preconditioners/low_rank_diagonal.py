"""``LowRankPlusDiagonal``: the inverse of ``F F^H + D`` by Woodbury's identity (Woodbury 1950), in a form
that does not subtract large numbers.

With ``D^{-1/2} F = U S V^H`` it is ``D^{-1/2} (I - U diag(s^2 / (1 + s^2)) U^H) D^{-1/2}``: one SVD of an
n x k matrix, ``O(n k^2)``, and ``4 n k`` flops a product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from ..errors import NotPositiveDefiniteError, ShapeError
from ..operators import Diagonal, LinearOperator, LowRank, Product, ScalarMul, add
from ..properties import PSD
from .base import Preconditioner, finite
from .shifted import split_diagonal

__all__ = ["LowRankPlusDiagonal", "spiked", "woodbury"]


@dataclass(frozen=True)
class LowRankPlusDiagonal(Preconditioner):
    """``(F F^H + D)^{-1}`` for an operator near ``F F^H + D``.

    low_rank: F as an array (n, k), a ``LowRank`` of one factor, or settings that find one
    (``RPCholesky()``, ``PivotedCholesky()``); default: the low-rank term of A. diagonal: a positive number or
    vector (n,); default: the diagonal terms of A. Both positive, so that the result is positive definite.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.PSD(cola.ops.LowRank(np.ones((4, 1))) + 2.0 * cola.ops.Identity(4))
    >>> P = cola.LowRankPlusDiagonal()(A)
    >>> bool(np.allclose(P @ (A @ np.arange(4.0)), np.arange(4.0)))
    True
    """

    low_rank: Any = None
    diagonal: Any = None

    def build(self, A: LinearOperator) -> LinearOperator:
        K, d = split_diagonal(A)
        be = A._concrete_backend()
        if self.diagonal is not None:
            d = be.asarray(self.diagonal, be.real_dtype(A.dtype), A.device)
        if d is None:
            raise NotPositiveDefiniteError(
                f"LowRankPlusDiagonal()({A!r}): the operator is not written with a diagonal term; pass "
                "diagonal=, a positive number or vector."
            )
        low = K if self.low_rank is None else self.low_rank
        if hasattr(low, "approximate"):
            F = low.approximate(K).factor
        elif isinstance(low, LowRank) and low.V is None:
            F = low.U
        elif hasattr(low, "shape") and not isinstance(low, LinearOperator) and len(low.shape) == 2:
            F = be.asarray(low, A.dtype, A.device)
        else:
            raise ShapeError(
                f"LowRankPlusDiagonal()({A!r}): {low!r} is not F F^H. Pass low_rank= as an array F (n, k), "
                "as ops.LowRank(F), or as settings that find one, such as RPCholesky()."
            )
        if F.shape[-2] != A.shape[-1]:
            raise ShapeError(f"LowRankPlusDiagonal: F has {F.shape[-2]} rows, {A!r} has {A.shape[-1]}.")
        return woodbury(A, F, d)


def woodbury(A: LinearOperator, F: Array, d: Array) -> LinearOperator:
    """``(F F^H + diag(d))^{-1}`` as an operator for A of shape n; d of shape () or (n,), positive."""
    be = A._concrete_backend()
    xp = be.xp
    finite(A, d, "the diagonal term")
    if be.is_concrete(d) and not bool(xp.all(d > 0)):
        raise NotPositiveDefiniteError(
            f"the diagonal term beside the low-rank part of {A!r} has entries that are zero or negative: "
            f"the smallest is {be.number(xp.min(d)):.3g}."
        )
    if not d.shape:
        U, s = _left(be, F)
        return spiked(A, U, 1 / (s * s + d), 1 / d)
    scale = 1 / xp.sqrt(d)
    U, s = _left(be, be.astype(scale, F.dtype)[:, None] * F)
    middle = spiked(A, U, 1 / (1 + s * s), xp.ones_like(d[0]))
    outer = Diagonal(be.astype(scale, A.dtype), declared=frozenset({PSD}))
    return Product(outer, middle, outer, declared=frozenset({PSD}))


def _left(be: Any, F: Array) -> tuple[Array, Array]:
    """Left singular vectors and singular values."""
    U, s, _ = be.svd(F)
    return U, s


def spiked(A: LinearOperator, U: Array, inside: Array, outside: Array) -> LinearOperator:
    """``U diag(inside) U^H + outside (I - U U^H)`` for orthonormal columns U, declared PSD.

    Entries of ``inside`` that rounding of the second term would drown are lifted above it, so that the
    operator stays positive definite in floating point.
    """
    be = A._concrete_backend()
    xp = be.xp
    eps = float(xp.finfo(be.real_dtype(A.dtype)).eps)
    gain = xp.maximum(inside, 10 * eps * outside) - outside
    n = A.shape[-1]
    value = float(outside) if be.name == "numpy" else be.astype(outside, A.dtype)
    out: LinearOperator = ScalarMul(value, n, declared=frozenset({PSD}))
    if U.shape[-1]:
        out = add(out, LowRank(U * be.astype(gain, U.dtype), U))
    made: LinearOperator = out.replace(declared=out.declared | {PSD})
    return made
