"""``PivotedCholesky``: a partial Cholesky factorisation with greedy pivots plus the diagonal term of A.

Harbrecht, Peters & Schneider, Appl. Numer. Math. 62 (2012) 428; as a preconditioner of kernel matrices
Gardner, Pleiss, Bindel, Weinberger & Wilson, NeurIPS 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from ..operators import LinearOperator
from .base import Preconditioner
from .low_rank_diagonal import woodbury
from .partial_cholesky import PartialCholesky, partial_cholesky
from .shifted import split_diagonal

__all__ = ["PivotedCholesky"]

RANK = 100  # columns taken where nothing is said


@dataclass(frozen=True)
class PivotedCholesky(Preconditioner):
    """``(F F^H + D)^{-1}`` for ``A = K + D``, with F from at most ``rank`` columns of K.

    rank: default 100. tol: stop when the trace of ``K - F F^H`` is this part of K's (default: when it is
    below the smallest entry of D, beyond which nothing is gained). shift: D as a number or vector; default:
    the diagonal terms of A, and where it has none the mean of what is left of the diagonal. Takes the
    diagonal and ``rank`` columns, ``O(n rank^2)`` flops; of an operator given by products, one for a column.
    For kernels whose columns are much alike in size ``RPCholesky`` is the better choice.

    >>> import numpy as np, cola_core as cola
    >>> x = np.linspace(0, 1, 50)
    >>> K = cola.PSD(cola.ops.Dense(np.exp(-((x[:, None] - x) ** 2))))
    >>> fit = cola.PivotedCholesky(rank=8).approximate(K)
    >>> fit.factor.shape, bool(fit.trace_error < 1e-6)
    ((50, 8), True)
    """

    rank: int | None = None
    tol: float | None = None
    shift: Any = None

    def approximate(self, K: LinearOperator, shift: Array | None = None) -> PartialCholesky:
        """``K ~ F F^H`` with its exact error in the trace norm."""
        rank = min(RANK if self.rank is None else int(self.rank), K.shape[-1])
        enough = shift if self.tol is None and shift is not None and 0 not in shift.shape else None
        block, key = self._block(rank), getattr(self, "key", 0)
        return partial_cholesky(
            K, rank, self.tol, enough, self._uniforms(K, rank), type(self).__name__, block, key
        )

    def _block(self, rank: int) -> int:
        return 1

    def _uniforms(self, K: LinearOperator, rank: int) -> Array | None:
        return None

    def build(self, A: LinearOperator) -> LinearOperator:
        be = A._concrete_backend()
        K, d = split_diagonal(A)
        if self.shift is not None:
            d = be.asarray(self.shift, be.real_dtype(A.dtype), A.device)
        found = self.approximate(K, d)
        if d is None:
            xp, real = be.xp, be.real_dtype(A.dtype)
            n = max(A.shape[-1], 1)
            # never below rounding error of the part that is known
            floor = float(xp.finfo(real).eps) * xp.sum(xp.abs(found.factor) ** 2) / n
            d = xp.maximum(found.trace_error / n, floor)
        return woodbury(A, found.factor, d)
