"""``RPCholesky``: a partial Cholesky factorisation with pivots drawn in proportion to what is left.

Chen, Epperly, Tropp & Webber, Comm. Pure Appl. Math. 78 (2025) 995 (arXiv 2207.06503), algorithm 2.1: in
expectation within a factor of the best approximation of rank r in the trace norm, with a few times r columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from ..operators import LinearOperator
from .pivoted_cholesky import PivotedCholesky

__all__ = ["RPCholesky"]


@dataclass(frozen=True)
class RPCholesky(PivotedCholesky):
    """``(F F^H + D)^{-1}`` for ``A = K + D``, with F from at most ``rank`` random columns of K.

    rank, tol, shift: as ``PivotedCholesky``. key: seed of the pivots. block: how many of them are proposed at
    a time (default: a tenth of a rank of 100 and more; 1 on JAX), which turns the work into matrix products.

    >>> import numpy as np, cola_core as cola
    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> K = np.exp(-((x[:, None] - x) ** 2).sum(-1))
    >>> A = cola.PSD(cola.ops.Dense(K) + 1e-3 * cola.ops.Identity(200))
    >>> b = np.ones(200)
    >>> _, plain = cola.solve(A, b, cola.CG(), return_info=True)
    >>> _, better = cola.solve(A, b, cola.CG(P=cola.RPCholesky(rank=60)), return_info=True)
    >>> better.iterations < plain.iterations / 4
    True
    """

    key: Any = 0
    block: int | None = None

    def _block(self, rank: int) -> int:
        return max(1, rank // 10 if rank >= 100 else 1) if self.block is None else int(self.block)

    def _uniforms(self, K: LinearOperator, rank: int) -> Array | None:
        be = K._concrete_backend()
        z = be.normal(self.key, (2, rank), be.real_dtype(K.dtype), K.device)
        # half the sum of two squared normal numbers is exponential
        return be.xp.exp(-(z[0] ** 2 + z[1] ** 2) / 2)
