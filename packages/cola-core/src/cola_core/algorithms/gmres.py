"""Restarted GMRES, right-preconditioned, several right-hand sides at once.
Saad & Schultz 1986; Saad 2003, alg. 9.5.

Each column has its own Krylov space. Right preconditioning keeps the residual the true one. A lucky
breakdown is the exact end; a cycle that does not reduce the residual is reported as stagnation, never as
success.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..cost import Cost
from .base import typical_steps, waits
from .gmres_cycles import cycles
from .krylov_solver import KrylovSolver

__all__ = ["GMRES"]


@dataclass(frozen=True)
class GMRES(KrylovSolver):
    """Solve ``A x = b`` for any square A: one product per step, ``restart`` vectors of memory per column.

    tol: relative residual (default by dtype). max_iters: total steps, default ``min(10 n, 2000)``. restart:
    cycle length, default ``min(n, 50)``. P: an operator close to A^{-1}, or a function A -> operator. x0:
    first guess. pbar, callback, max_seconds: see ``Iterative``.
    """

    restart: int | None = None

    _method: ClassVar[str] = "GMRES"
    _iterate: ClassVar[Any] = staticmethod(cycles)
    _bases: ClassVar[int] = 1

    def _cycle_length(self, n: int) -> int:
        return max(1, min(n, 50 if self.restart is None else int(self.restart)))

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        steps, m = typical_steps(n, self.tol, A.dtype), self._cycle_length(n)
        # on average half of the basis is there, and it is read twice for each pass of Gram-Schmidt
        one = A.matmat_cost(k) + Cost(6 * m * n * k, 3 * m * A.itemsize * n * k, 0, 0, 30, syncs=waits(A, 3))
        total = one * steps
        vectors = self._bases * (m + 1) + 4
        return Cost(
            total.flops,
            total.bytes,
            self._memory(A, vectors, operands),
            steps,
            total.calls,
            syncs=total.syncs,
        )

    def _limit(self, n: int) -> int:
        return min(10 * n, 2000)

    def _static(self, n: int, limit: int) -> dict[str, Any]:
        return {"m": max(1, min(self._cycle_length(n), limit))}
