"""Some eigenpairs of a general operator from products alone: Krylov-Schur. Stewart, SIMAX 23 (2001) 601.

The arithmetic is complex, the basis lives on the operator's own device, and only the projected matrix goes to
the host for its ordered Schur form. The residual of a non-normal operator is not the error of the eigenvalue:
the report has condition numbers of the eigenvalues (of the projected matrix), and the product of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..properties import SelfAdjoint
from .base import question_memory, refuse_batches, waits
from .eigenpairs import PairIteration, basis_size, complex_dtype, krylov_pairs

__all__ = ["KrylovSchur"]


@dataclass(frozen=True)
class KrylovSchur(PairIteration):
    """k eigenpairs of a square operator, LM, LR, SR, LI or SI, on any library, also inside ``jax.jit``.

    tol: of the residuals ``|A v - w v|``, relative to the largest Ritz value (default 1e-10 in double, 1e-5
    in single). max_iters: products in all (default ``max(100 basis, 3000)``). basis: vectors kept (default
    ``max(2 k + 1, 30)``). key: seed of the start vector. start_vector: (n,) to use instead. pbar: show
    progress. Copies of a multiple eigenvalue are looked for by starting again beside those found.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.no_dispatch(cola.ops.Dense(np.diag(np.arange(50.0)) + np.eye(50, k=1)))
    >>> w, V = cola.eig(A, 2, "LM", cola.KrylovSchur())
    >>> [round(float(x.real), 6) for x in w]
    [49.0, 48.0]
    """

    start_vector: Any = None
    max_iters: int | None = None
    tol: float | None = None
    pbar: bool = False
    key: Any = 0
    basis: int | None = None

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if A.batch_shape:
            return "batches of operators are not supported"
        k, n = operands[0], A.shape[-1]
        if 4 * k >= n or n < 20:
            return f"{k} of {n} eigenpairs is a large part of the spectrum"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        m = basis_size(operands[0], n, self.basis)
        steps = 20 * m
        one = A.matvec_cost * (1 if A._is_complex() else 2) + Cost(
            16 * m * n, 8 * m * A.itemsize * n, 0, 0, 10, syncs=waits(A, 3)
        )
        total = one * steps
        return Cost(
            total.flops, total.bytes, question_memory(A, 2 * m + 8), steps, total.calls, syncs=total.syncs
        )

    def eigs(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        return self.pairs(A, k, which, "KrylovSchur")

    def pairs(self, A: Any, k: int, which: str, method: str, spent: int = 0) -> tuple[Array, Any]:
        """``eigs`` under the name it is to report, with the products spent before."""
        from ..operators import Dense

        refuse_batches(A, method, "Eig()")
        be = A._concrete_backend()
        w, X = krylov_pairs(A, self, k, which, hermitian=False, method=method, spent=spent)
        if A.isa(SelfAdjoint):
            w = be.xp.real(w)
        else:
            w = be.astype(w, complex_dtype(A))
        return w, Dense(X)
