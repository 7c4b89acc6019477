"""Derivatives of ``A[rows] = L U`` (L unit lower, U upper) where the leading square block is regular.

The rows stay. With ``X = L1^-1 dA1 U1^-1`` of the leading blocks: ``dL1 = L1 tril(X, -1)``,
``dU1 = triu(X) U1``, and what remains of a tall L or a wide U follows from ``dA = dL U + L dU``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from .dense_qr import right_divided
from .dense_rule import Tools

__all__ = ["LU"]


@dataclass(frozen=True)
class _LU:
    name: str = "lu"
    keeps_input: bool = False
    constants: tuple[int, ...] = (0,)
    whole: None = None
    count: int = 3

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        rows, L, U = be.plain_lu(A)
        return rows, L, U

    def broken(self, be: Any, A: Array | None, out: tuple[Array, ...]) -> tuple[Array, str]:
        xp = be.xp
        pivots = xp.abs(xp.linalg.diagonal(be.constant(out[2])))
        limit = float(xp.finfo(pivots.dtype).eps) * xp.max(pivots, axis=-1, keepdims=True)
        m, n = out[1].shape[-2], out[2].shape[-1]
        return xp.any(pivots <= limit, axis=-1), (
            f"the derivative of lu: a pivot of a matrix of shape {(m, n)} is zero to working precision, so "
            "that its factors are not unique and have no derivative. Use qr or svd."
        )

    def push(self, tools: Tools, A: Any, out: tuple[Array, ...], dA: Array) -> tuple[Array, ...]:
        be, xp = tools.be, tools.be.xp
        rows, L, U = out
        k = L.shape[-1]
        dA = xp.take_along_axis(dA, xp.broadcast_to(rows[..., :, None], dA.shape), axis=-2)
        if U.shape[-1] <= k:
            W = right_divided(be, dA, U)
            X = xp.triu(be.solve_triangular(L[..., :k, :], W[..., :k, :], lower=True, unit=True))
            return rows, W - be.matmul(L, X), be.matmul(X, U)
        Y = be.solve_triangular(L, dA, lower=True, unit=True)
        X = xp.tril(right_divided(be, Y[..., :k], U[..., :k]), k=-1)
        return rows, be.matmul(L, X), Y - be.matmul(X, U)

    def pull(self, tools: Tools, A: Any, out: tuple[Array, ...], g: tuple[Array | None, ...]) -> Array | None:
        be, xp = tools.be, tools.be.xp
        rows, L, U = out
        _, gL, gU = g
        if gL is None and gU is None:
            return None
        k = L.shape[-1]
        gL = xp.zeros_like(L) if gL is None else gL
        gU = xp.zeros_like(U) if gU is None else gU
        M = be.matmul(gU, be.adjoint(U)) - be.matmul(be.adjoint(L), gL)
        if U.shape[-1] <= k:
            top = be.solve_triangular(be.adjoint(L[..., :k, :]), xp.triu(M), lower=False, unit=True)
            gW = xp.concat([gL[..., :k, :] + top, gL[..., k:, :]], axis=-2)
            G = be.adjoint(be.solve_triangular(U, be.adjoint(gW), lower=False))
        else:
            X = be.adjoint(be.solve_triangular(U[..., :k], -be.adjoint(xp.tril(M, k=-1)), lower=False))
            gY = xp.concat([gU[..., :k] + X, gU[..., k:]], axis=-1)
            G = be.solve_triangular(be.adjoint(L), gY, lower=False, unit=True)
        back = xp.argsort(rows, axis=-1)
        return xp.take_along_axis(G, xp.broadcast_to(back[..., :, None], G.shape), axis=-2)


LU = _LU()
