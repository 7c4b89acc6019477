"""``Circulant``: the inverse of a circulant near a Toeplitz matrix. T. Chan, SIAM J. Sci. Stat. Comput. 9
(1988) 766; Strang, Stud. Appl. Math. 74 (1986) 171."""

from __future__ import annotations

from dataclasses import dataclass

from ..algorithms.toeplitz_cg import circulant_preconditioner
from ..operators import LinearOperator
from .base import Preconditioner

__all__ = ["Circulant"]


@dataclass(frozen=True)
class Circulant(Preconditioner):
    """The inverse of a circulant near A, Toeplitz or nearly so: one FFT and one back for a product.

    kind: "chan" or "strang", see ``circulant_preconditioner``.
    """

    kind: str = "chan"

    def build(self, A: LinearOperator) -> LinearOperator:
        return circulant_preconditioner(A, self.kind)
