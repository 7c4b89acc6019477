"""Derivatives of the reduced ``A = Q R`` of any shape, the diagonal of R real, where its leading square
block R1 is regular.


With ``W = dA R1^-1`` (of the leading columns) and ``C = Q^H W``: ``C = O + S`` where ``O = Q^H dQ`` is
skew and ``S = dR1 R1^-1`` upper triangular with a real diagonal, which determines both. ``dQ = W - Q S``,
``dR1 = S R1``; for the other columns of a wide A, ``dR2 = Q^H dA2 - O R2``. Walter & Lehmann 2012
(arXiv:1001.1654), sec. 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from .dense_rule import Tools

__all__ = ["QR", "right_divided"]


@dataclass(frozen=True)
class _QR:
    name: str = "qr"
    keeps_input: bool = False
    constants: tuple[int, ...] = ()
    whole: None = None
    count: int = 2

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        Q, R = be.plain_qr(A)
        return Q, R

    def broken(self, be: Any, A: Array | None, out: tuple[Array, ...]) -> tuple[Array, str]:
        xp = be.xp
        R1 = be.constant(_leading(out[1]))
        pivots, columns = xp.abs(xp.linalg.diagonal(R1)), xp.linalg.vector_norm(R1, axis=-2)
        limit = 4 * out[0].shape[-2] ** 0.5 * float(xp.finfo(pivots.dtype).eps)
        return xp.any(pivots <= limit * columns, axis=-1), (
            f"the derivative of qr (or lq): of a matrix with Q of shape {tuple(out[0].shape)}, a column "
            "(row) among the leading ones depends on those before it, so that the factors are not unique "
            "and have no derivative. Use svd, lstsq or pinv, or drop the dependent ones."
        )

    def push(self, tools: Tools, A: Any, out: tuple[Array, ...], dA: Array) -> tuple[Array, ...]:
        be, xp = tools.be, tools.be.xp
        Q, R = out
        k = Q.shape[-1]
        R1 = _leading(R)
        W = right_divided(be, dA[..., :k], R1)
        C = be.matmul(be.adjoint(Q), W)
        S = xp.triu(C, k=1) + be.adjoint(xp.tril(C, k=-1)) + _real_diagonal(be, C)
        dR = be.matmul(S, R1)
        if R.shape[-1] > k:
            dR2 = be.matmul(be.adjoint(Q), dA[..., k:]) - be.matmul(C - S, R[..., k:])
            dR = xp.concat([dR, dR2], axis=-1)
        return W - be.matmul(Q, S), dR

    def pull(self, tools: Tools, A: Any, out: tuple[Array, ...], g: tuple[Array | None, ...]) -> Array | None:
        be, xp = tools.be, tools.be.xp
        Q, R = out
        gQ, gR = g
        if gQ is None and gR is None:
            return None
        k = Q.shape[-1]
        R1 = _leading(R)
        wide = R.shape[-1] > k
        gO = -be.matmul(gR[..., k:], be.adjoint(R[..., k:])) if wide and gR is not None else None
        M = None if gR is None else be.matmul(gR[..., :k], be.adjoint(R1))
        if gQ is not None:
            X = be.matmul(be.adjoint(Q), gQ)
            M = -X if M is None else M - X
        if gO is not None:
            M = M - gO
        upper = xp.triu(M, k=1)
        inner = upper + be.adjoint(upper) + _real_diagonal(be, M)
        gW = be.matmul(Q, inner if gO is None else inner + gO)
        if gQ is not None:
            gW = gW + gQ
        G = be.adjoint(be.solve_triangular(R1, be.adjoint(gW), lower=False))
        if wide:
            rest = xp.zeros_like(R[..., k:]) if gR is None else be.matmul(Q, gR[..., k:])
            G = xp.concat([G, rest], axis=-1)
        return G


def right_divided(be: Any, X: Array, R: Array) -> Array:
    """``X R^-1`` for an upper triangular R."""
    return be.adjoint(be.solve_triangular(be.adjoint(R), be.adjoint(X), lower=True))


def _leading(R: Array) -> Array:
    return R[..., :, : R.shape[-2]]


def _real_diagonal(be: Any, X: Array) -> Array:
    d = be.xp.linalg.diagonal(X)
    return be.matrix_diag(be.astype(be.xp.real(d), X.dtype) if be.is_complex(d) else d)


QR = _QR()
