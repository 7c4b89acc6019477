"""Algorithms for symmetric tridiagonal operators through LAPACK, for `Diffusion1D` on NumPy arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cola_core import ops as core_ops
from cola_core.algorithms import Algorithm
from cola_core.cost import Cost
from cola_core.errors import SingularMatrixError
from cola_core.properties import Unitary

from .ops import Diffusion1D

__all__ = ["Tridiagonal"]


@dataclass(frozen=True)
class Tridiagonal(Algorithm):
    """Symmetric tridiagonal matrices: eigenpairs by relatively robust representations, O(n^2); solve in O(n).

    Source: Dhillon, Parlett and Voemel, ACM TOMS 32 (2006) (LAPACK stemr); LAPACK ptsv.
    """

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not isinstance(A, Diffusion1D):
            return "reads the bands of a Diffusion1D"
        if A.library != "numpy":
            return "LAPACK's tridiagonal routines work on NumPy arrays"
        if A.kind == "P" and A.n > 2:
            return "a periodic operator has corners and is not tridiagonal"
        if question == "solve" and A.kind in ("NN", "P"):
            return "without a Dirichlet side the operator is singular"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, size = A.shape[-1], A.itemsize
        if question == "solve":
            columns = math.prod(operands[0].shape) / max(n, 1) if operands else 1
            return Cost(8.0 * n * columns, 4 * size * n * columns, 3 * size * n * columns, 0, 4)
        return Cost(12.0 * n * n, 4 * size * n * n, 2 * size * n * n, 0, 4)

    def eigh(self, A: Any) -> tuple[Any, Any]:
        from scipy.linalg import eigh_tridiagonal

        d, e, _ = A.bands()
        w, V = eigh_tridiagonal(d, e)
        return w.astype(A.dtype, copy=False), Unitary(core_ops.Dense(V.astype(A.dtype, copy=False)))

    def solve(self, A: Any, b: Any) -> Any:
        import numpy as np
        from scipy.linalg import LinAlgError, solveh_banded

        d, e, _ = A.bands()
        try:
            return solveh_banded(np.stack([d, np.append(e, 0.0)]), b, lower=True, check_finite=False)
        except LinAlgError as error:
            raise SingularMatrixError(f"{A!r} is singular or not positive definite: {error}") from error
