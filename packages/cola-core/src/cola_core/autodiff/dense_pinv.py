"""Derivatives of the pseudoinverse ``P = A^+`` among matrices of the same rank: ``dP = -P dA P
+ P P^H dA^H (I - A P) + (I - P A) dA^H P^H P``. Golub & Pereyra, SIAM J. Numer. Anal. 10 (1973) 413.

Equal singular values do not matter to it. Of a matrix of lower rank it is the derivative along perturbations
that keep the rank; along others the pseudoinverse jumps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from .dense_rule import Tools

__all__ = ["Pinv"]


@dataclass(frozen=True)
class Pinv:
    """rcond: as in ``algorithms.lstsq.cutoff``; shape: of the matrix that decides it."""

    rcond: float | None
    shape: tuple[int, ...]
    name: str = "pinv"
    keeps_input: bool = True
    constants: tuple[int, ...] = ()
    whole: None = None
    count: int = 1

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        from ..algorithms.lstsq import cutoff, reciprocals

        U, s, V = be.plain_svd(A, False)
        small = be.astype(reciprocals(be, s, cutoff(be, s, self.shape, A.dtype, self.rcond)), A.dtype)
        return (be.matmul(V * small[..., None, :], be.adjoint(U)),)

    def broken(self, be: Any, A: Array | None, out: tuple[Array, ...]) -> None:
        return None

    def push(self, tools: Tools, A: Any, out: tuple[Array, ...], dA: Array) -> tuple[Array, ...]:
        be, (P,) = tools.be, out
        H, dH = be.adjoint(P), be.adjoint(dA)
        left = be.matmul(P, be.matmul(H, dH))
        right = be.matmul(dH, be.matmul(H, P))
        inner = be.matmul(be.matmul(P, dA), P)
        left = left - be.matmul(be.matmul(left, A), P)
        right = right - be.matmul(P, be.matmul(A, right))
        return (left + right - inner,)

    def pull(self, tools: Tools, A: Any, out: tuple[Array, ...], g: tuple[Array | None, ...]) -> Array | None:
        be, (P,), (G,) = tools.be, out, g
        if G is None:
            return None
        H, GH = be.adjoint(P), be.adjoint(G)
        left = be.matmul(be.matmul(GH, P), H)
        left = left - be.matmul(A, be.matmul(P, left))
        right = be.matmul(H, be.matmul(P, GH))
        right = right - be.matmul(be.matmul(right, P), A)
        return left + right - be.matmul(H, be.matmul(G, H))
