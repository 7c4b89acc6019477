"""Derivatives of ``A = L L^H``, along self-adjoint perturbations: ``dL = L phi(L^-1 dA L^-H)``, where phi
keeps the lower triangle and half of the diagonal. Murray 2016 (arXiv:1602.07527)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from .dense_rule import Tools, hermitian

__all__ = ["CHOLESKY", "UNCHECKED"]


@dataclass(frozen=True)
class _Cholesky:
    name: str = "cholesky"
    keeps_input: bool = False
    constants: tuple[int, ...] = ()
    whole: None = None
    count: int = 1
    check: bool = True

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        return (be.plain_cholesky(A, self.check),)

    def broken(self, be: Any, A: Array | None, out: tuple[Array, ...]) -> None:
        return None

    def push(self, tools: Tools, A: Any, out: tuple[Array, ...], dA: Array) -> tuple[Array, ...]:
        be = tools.be
        (L,) = out
        X = be.solve_triangular(L, hermitian(be, dA), lower=True)
        X = be.solve_triangular(L, be.adjoint(X), lower=True)
        return (be.xp.tril(be.matmul(L, _phi(be, X))),)

    def pull(self, tools: Tools, A: Any, out: tuple[Array, ...], g: tuple[Array | None, ...]) -> Array | None:
        be = tools.be
        (L,), (gL,) = out, g
        if gL is None:
            return None
        # what stands above is not even to be multiplied by zero: it may be infinite
        M = _phi(be, be.matmul(be.adjoint(L), be.xp.tril(gL)))
        upper = be.adjoint(L)
        Y = be.solve_triangular(upper, hermitian(be, M), lower=False)
        return be.adjoint(be.solve_triangular(upper, be.adjoint(Y), lower=False))


def _phi(be: Any, X: Array) -> Array:
    lower = be.xp.tril(X, k=-1)
    return 0.5 * (be.xp.tril(X) + lower)


CHOLESKY = _Cholesky()
UNCHECKED = _Cholesky(check=False)
