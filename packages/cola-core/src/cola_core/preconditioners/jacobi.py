"""``Jacobi``: the inverse of the diagonal. Saad 2003, sec. 10.2; nearly the best diagonal scaling of a
positive definite matrix (van der Sluis, Numer. Math. 14 (1969) 14)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..algorithms import Exact
from ..errors import NonSquareError, NotPositiveDefiniteError, SingularMatrixError
from ..operators import Diagonal, LinearOperator, as_operator
from ..properties import PSD
from .base import Preconditioner, _constant, finite

__all__ = ["Jacobi"]


@dataclass(frozen=True)
class Jacobi(Preconditioner):
    """``diag(A)^{-1}``, for rows and columns of very different size.

    absolute: the inverse of ``|diag(A)|``, which is positive definite for indefinite A too (as MINRES
    needs). The diagonal is read off where the operator has one; of an operator known by products only it
    takes n of them. Batches of operators are fine.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.PSD(np.array([[1.0, 0.5], [0.5, 1e6]]))
    >>> cola.Jacobi()(A).diag.tolist()
    [1.0, 1e-06]
    """

    absolute: bool = False

    def __call__(self, A: Any) -> LinearOperator:
        A = as_operator(A)
        if not A.is_square:
            raise NonSquareError(f"Jacobi()({A!r}): the operator is {A.shape[-2]}x{A.shape[-1]}, not square.")
        return self.build(_constant(A))

    def build(self, A: LinearOperator) -> LinearOperator:
        from ..linalg import diag

        be = A._concrete_backend()
        xp = be.xp
        d = finite(A, diag(A, alg=Exact()), "the diagonal")
        psd = A.isa(PSD)
        if psd or self.absolute:
            real = xp.real(d) if be.is_complex(d) else d
            if psd and be.is_concrete(d) and 0 not in d.shape and not bool(xp.all(real > 0)):
                raise NotPositiveDefiniteError(
                    f"Jacobi: {A!r} is declared PSD and has the diagonal entry "
                    f"{be.number(xp.min(real)):.3g}; remove the declaration, or the rows of zeros."
                )
            d = be.astype(xp.abs(d) if self.absolute else real, A.dtype)
        if be.is_concrete(d) and bool(xp.any(d == 0)):
            raise SingularMatrixError(
                f"Jacobi: {A!r} has a zero on the diagonal; take another preconditioner."
            )
        return Diagonal(1 / d, declared=frozenset({PSD} if psd or self.absolute else ()))
