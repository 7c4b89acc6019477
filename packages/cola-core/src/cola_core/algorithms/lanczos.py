"""Lanczos methods for self-adjoint operators:
some eigenpairs by thick restart, and f(A)b without eigenvectors.

Eigenpairs: Wu & Simon, SIMAX 22 (2000) 602. f(A)b: Saad, SINUM 29 (1992) 209; the error estimate is the
change over the last steps. Residuals ``|A v - w v|`` bound the eigenvalue errors and are recomputed at exit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..properties import SelfAdjoint, Stiefel
from .base import question_memory, refuse_batches, waits
from .eigenpairs import PairIteration, basis_size, krylov_pairs
from .krylov_function import krylov_times
from .thick_restart import thick_restart

__all__ = ["Lanczos"]


@dataclass(frozen=True)
class Lanczos(PairIteration):
    """Thick-restart Lanczos with full reorthogonalisation.

    tol: relative to the largest Ritz value found (default 1e-10 in double, 1e-5 in single). max_iters:
    products in all (default ``max(100 basis, 3000)``). basis: vectors kept (default ``max(2 k + 1, 30)``).
    key: seed of the start vector. start_vector: (n,) to use instead of a random one. pbar: show progress.
    Copies of a multiple eigenvalue are looked for by starting again beside the vectors found, which can
    double the products; behind a tight cluster one may still be missed.
    """

    # For subclasses that make the steps of ``eigsh`` in another way (on a device, say): ``_method`` is the
    # name in the Info, ``_iterate`` has the contract of ``thick_restart`` and takes what ``_static`` adds.
    _method: ClassVar[str] = "Lanczos"
    _iterate: ClassVar[Callable[..., Any]] = staticmethod(thick_restart)

    start_vector: Any = None
    max_iters: int | None = None
    tol: float | None = None
    pbar: bool = False
    key: Any = 0
    basis: int | None = None

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.isa(SelfAdjoint):
            return "the operator is not declared SelfAdjoint or PSD"
        if A.batch_shape:
            return "batches of operators are not supported"
        if question == "eigsh":
            k, n = operands[0], A.shape[-1]
            if 4 * k >= n:
                return f"{k} of {n} eigenpairs is a large part of the spectrum"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        m = basis_size(operands[0], n, self.basis) if question == "eigsh" else 50
        # gaps at the edge of a spectrum shrink as it fills up
        steps = min(n, max(10 * m, int(8 * n**0.5))) if question == "eigsh" else min(n, m)
        one = A.matvec_cost + Cost(4 * m * n, 2 * m * A.itemsize * n, 0, 0, 10, syncs=waits(A, 3))
        total = one * steps
        return Cost(
            total.flops, total.bytes, question_memory(A, m + 4), steps, total.calls, syncs=total.syncs
        )

    def eigsh(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        from ..operators import Dense

        refuse_batches(A, self._method, "Eigh()")
        w, X = krylov_pairs(A, self, k, which, hermitian=True, method=self._method)
        return w, Dense(X, declared=frozenset({Stiefel}))

    def _static(self) -> dict[str, Any]:
        """Further arguments of ``_iterate`` that are settings, not data."""
        return {}

    def root(self, A: Any) -> Any:
        """The square root itself, which is self-adjoint."""
        from ..linalg.scalar_function import SQRT

        return self.apply_unary(A, SQRT)

    def apply_unary(self, A: Any, f: Any) -> Any:
        from ..linalg.lazy_function import FunctionAction

        refuse_batches(A, f"Lanczos {f.name}", "Eigh()")
        return FunctionAction(A, f, self, declared=f.properties(A))

    def function_times(self, A: Any, f: Any, X: Array) -> Array:
        """``f(A) X``; ``basis`` bounds the vectors kept, beyond which they are made twice."""
        return krylov_times(self, A, f, X, hermitian=True)
