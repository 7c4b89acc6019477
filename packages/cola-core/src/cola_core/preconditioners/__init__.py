"""Preconditioners: settings that make, of an operator A, an operator close to ``A^{-1}``.

``CG(P=Jacobi())`` builds one from the operator that is solved with; ``P = Jacobi()(A)`` gives it as an
operator, whose inverse, determinant and square root are questions like any other.

    matrix                                  preconditioner
    rows of very different size             Jacobi, BlockJacobi
    sparse, positive definite               IncompleteCholesky; AMG for elliptic problems
    sparse, general                         IncompleteLU
    kernel + noise, entries at hand         RPCholesky, PivotedCholesky
    positive semidefinite + multiple of I   Nystrom (products only)
    low rank + diagonal                     LowRankPlusDiagonal
    Toeplitz and nearly so                  Circulant
"""

from __future__ import annotations

from .amg import AMG
from .base import Preconditioner
from .block_jacobi import BlockJacobi
from .circulant import Circulant
from .incomplete_cholesky import IncompleteCholesky
from .incomplete_lu import IncompleteLU
from .jacobi import Jacobi
from .low_rank_diagonal import LowRankPlusDiagonal
from .nystrom import Nystrom
from .partial_cholesky import PartialCholesky
from .pivoted_cholesky import PivotedCholesky
from .rp_cholesky import RPCholesky

__all__ = [
    "AMG",
    "BlockJacobi",
    "Circulant",
    "IncompleteCholesky",
    "IncompleteLU",
    "Jacobi",
    "LowRankPlusDiagonal",
    "Nystrom",
    "PartialCholesky",
    "PivotedCholesky",
    "Preconditioner",
    "RPCholesky",
]
