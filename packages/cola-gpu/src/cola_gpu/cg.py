"""`MixedPrecisionCG`: solve with a positive definite operator, most products in a low precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cola_core import PSD
from cola_core.backends import Backend
from cola_core.cost import Cost

from .mixed import MixedPrecisionSolver
from .precision import choose, escalation, lowered, vectors_of
from .refinement import Phase

__all__ = ["MixedPrecisionCG"]

Array = Any


@dataclass(frozen=True)
class MixedPrecisionCG(MixedPrecisionSolver):
    """Conjugate gradients with products in a low precision and residuals in the working precision of A and b.

    tol: bound on `|b - A x| / |b|` per column (default by dtype).
    max_iters: CG steps in all; of two precisions that are tried the first may use half of them, of three the
        first a third and the second as many (default: `min(10 n, 10000)` for each precision).
    precision: of the products: "auto" (single), "bfloat16", "float16", "tfloat32", "float32", or "float64"
        for plain CG with residual replacement; half becomes single where it does not exist (NumPy, complex
        numbers). What becomes of which operator: `cola_gpu.precision`.
    P: None, "jacobi", a positive definite operator close to the inverse of A, or a function A -> operator.
    x0: first guess.

    The answer has the residual it reports, measured in the working precision. Refinement converges if about
    `cond(A) * u < 1`, u the unit roundoff of the products (bfloat16 4e-3, float16 and tfloat32 5e-4, float32
    6e-8); beyond that the products are promoted to single precision, then to the working one, and if that
    does not help either `Info.converged` is False and `Info.reason` says why. See `cola_gpu.refinement` for
    the method and its sources, docs/mixed-precision.md for the conditions and what was measured.
    """

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        """Operators declared PSD. (It is registered to run on request; `Auto` does not pick it.)"""
        return True if A.isa(PSD) else "the operator is not declared PSD"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        """Steps for a condition number of about 1e4, each at half the working precision's traffic."""
        n = A.shape[-1]
        b = operands[0] if operands else None
        columns = b.shape[-1] if b is not None and len(b.shape) > 1 else 1
        steps = min(n, 200, self.max_iters or 200)
        product = A.matvec_cost
        vectors = Cost(20.0 * n, 10.0 * A.itemsize * n, 6.0 * A.itemsize * n * columns, 0, 8)
        step = Cost(product.flops, product.bytes / 2, 0, 1, product.calls) + vectors * 0.5
        return step * (steps * columns)

    def _phases(
        self, bk: Backend, A: Any, columns: Array, work: str, adjoint: bool
    ) -> tuple[list[Callable[[], Phase]], list[str]]:
        """The precision asked for, if A can have it, and the higher ones."""
        low = choose(self.precision, columns.dtype, bk)
        first = (A, 1.0, low) if low == work else lowered(A, low, bk)
        names = escalation(first[2], work)
        make = self._preconditioner(bk, A)
        limits = self._limits(A.shape[-1], len(names), min(10 * A.shape[-1], 10_000))

        def phase(name: str, limit: int) -> Phase:
            made = (A, 1.0, work) if name == work else first if name == first[2] else lowered(A, name, bk)
            vectors = vectors_of(name)
            return Phase(made[0], made[1], make(vectors), name, vectors, limit)

        return [
            lambda name=name, limit=limit: phase(name, limit)  # type: ignore[misc]
            for name, limit in zip(names, limits, strict=True)
        ], names
