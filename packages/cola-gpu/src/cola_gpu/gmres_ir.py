"""`MixedPrecisionGMRES`: solve with any square operator, corrections by GMRES in low precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from cola_core.backends import Backend
from cola_core.cost import Cost
from cola_core.errors import SingularMatrixError, UnknownNameError

from .low_factors import low_lu
from .mixed import MixedPrecisionSolver
from .precision import UNIT_ROUNDOFF, choose, escalation, lowered, vectors_of, working
from .refinement import Phase

__all__ = ["MixedPrecisionGMRES"]

Array = Any

FACTORS = ("bfloat16", "float16", "float32", "float64")


@dataclass(frozen=True)
class MixedPrecisionGMRES(MixedPrecisionSolver):
    """GMRES iterative refinement for any square operator: residuals and updates in the working precision of A
    and b, corrections by restarted GMRES with products in a low precision.

    tol: bound on `|b - A x| / |b|` per column (default by dtype).
    max_iters: GMRES steps in all, shared as in `MixedPrecisionCG` (default: `min(10 n, 2000)` for each
        precision).
    precision: of the products, as in `MixedPrecisionCG`; with factors "auto" is the working precision, as the
        method's convergence demands.
    P: None, an operator close to the inverse of A, a function A -> such an operator, or "lu", which is
        `factor="float32"`.
    x0: first guess.
    restart: steps of a cycle (default `min(n, 50)`); a column's basis has so many vectors and one more.
    factor: None, or the precision of LU factors of the dense matrix of A that serve as the preconditioner
        (GMRES-IR): "float32", "float16" or "bfloat16" (these two are emulated: the matrix is scaled from both
        sides and rounded to half, then factored in float32), or "float64".

    Without factors refinement converges if about `cond(A) * u < 1`, u the unit roundoff of the products, and
    GMRES solves with the rounded operator within its restarts; with them if `cond(A)^3 * u_f^2 * u < 1`, u_f
    of the factors and u of the working precision, of which far more is usually enough. If it does not, the
    products (the factors) are taken in single precision, then in the working one; if that does not help
    either `Info.converged` is False and `Info.reason` says why. See docs/mixed-precision.md.

    Cost per step: a product in the low precision and two passes of Gram-Schmidt, with factors two triangular
    solves; per cycle a product in the working precision. Factors cost 2 n^3 / 3 flops and n^2 numbers of the
    precision of the vectors, and once more for a derivative.
    """

    restart: int | None = None
    factor: str | None = None

    _known_preconditioners: ClassVar[tuple[str, ...]] = ("lu",)

    @property
    def _promoted(self) -> str:  # type: ignore[override]
        return "products" if self._factor is None else "factors"

    @property
    def gathers(self) -> str:  # type: ignore[override]
        """What of a spread operand every device gets: all entries for factors, nothing for products."""
        return "" if self._factor is None else "entries"

    @property
    def _lu(self) -> bool:
        return isinstance(self.P, str) and self.P == "lu"

    @property
    def _factor(self) -> str | None:
        if self.factor is not None and self.factor not in FACTORS:
            known = ", ".join(f'"{p}"' for p in FACTORS)
            raise UnknownNameError(f"unknown precision of factors {self.factor!r}; known are None, {known}")
        return "float32" if self.factor is None and self._lu else self.factor

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        """Square operators. (It is registered to run on request; `Auto` does not pick it.)"""
        return True if A.shape[-2] == A.shape[-1] else "the operator is not square"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        """With factors two cycles of a few steps; else as many steps as for a condition number of about 1e4,
        at half the working precision's traffic."""
        n = A.shape[-1]
        b = operands[0] if operands else None
        k = b.shape[-1] if b is not None and len(b.shape) > 1 else 1
        m, product = self._cycle(n), A.matmat_cost(k)
        if self._factor is not None:
            bytes_ = 4.0 * n * n
            factors = Cost(2 / 3 * n**3, 3 * bytes_, 2 * A.itemsize * n * n, 0, 4)
            step = product + Cost(4.0 * n * n * k, 2 * bytes_, 0, 0, 20)
            return factors + step * 10
        steps = min(n, 200, self.max_iters or 200)
        basis = Cost(6.0 * m * n * k, 1.5 * m * A.itemsize * n * k, 0, 0, 30)
        one = Cost(product.flops, product.bytes / 2, 0, 1, product.calls) + basis
        total = one * steps
        return Cost(total.flops, total.bytes, A.itemsize * n * k * (m / 2 + 6), steps, total.calls)

    def _cycle(self, n: int) -> int:
        return max(1, min(n, 50 if self.restart is None else int(self.restart)))

    def _phases(
        self, bk: Backend, A: Any, columns: Array, work: str, adjoint: bool
    ) -> tuple[list[Callable[[], Phase]], list[str]]:
        choose(self.precision, columns.dtype, bk)
        n = A.shape[-1]
        if self._factor is not None:
            return self._factored(bk, A, columns, work)
        low = choose(self.precision, columns.dtype, bk)
        # a preconditioner undoes the scale of A itself
        high = working if self.P is None else lambda A, work, bk: (A, 1.0, work)
        first = (high if low == work else lowered)(A, low, bk)
        names = escalation(first[2], work)
        make = self._preconditioner(bk, A, adjoint)
        limits = self._limits(n, len(names), min(10 * n, 2000))

        def phase(name: str, limit: int) -> Phase:
            made = first if name == first[2] else (high if name == work else lowered)(A, name, bk)
            vectors = vectors_of(name)
            return Phase(made[0], made[1], make(vectors), name, vectors, limit, self._cycle(n))

        return [
            lambda name=name, limit=limit: phase(name, limit)  # type: ignore[misc]
            for name, limit in zip(names, limits, strict=True)
        ], names

    def _factored(
        self, bk: Backend, A: Any, columns: Array, work: str
    ) -> tuple[list[Callable[[], Phase]], list[str]]:
        """Phases that differ in the precision of the factors: that asked for, then the higher ones."""
        n, factor = A.shape[-1], self._factor
        assert factor is not None
        if self.P is not None and not self._lu:
            raise UnknownNameError(
                f'factor={factor!r} is the preconditioner: P is None or "lu", not {self.P!r}'
            )
        names = escalation(work if UNIT_ROUNDOFF[factor] < UNIT_ROUNDOFF[work] else factor, work)
        limits = self._limits(n, len(names), min(10 * n, 2000))
        low = work if self.precision == "auto" else choose(self.precision, columns.dtype, bk)
        dense = A.to_dense()

        def phase(name: str, limit: int) -> Phase:
            # the last phase has products in the working precision, whatever was asked for
            products = work if name == names[-1] else low
            made = (A, 1.0, work) if products == work else lowered(A, products, bk)
            vectors = vectors_of(made[2])
            try:
                P = low_lu(bk, dense, name, vectors)
            except (
                SingularMatrixError
            ):  # rounded, or in truth: this phase shows which, without a preconditioner
                P = None
            return Phase(made[0], made[1], P, made[2], vectors, limit, self._cycle(n))

        return [
            lambda name=name, limit=limit: phase(name, limit)  # type: ignore[misc]
            for name, limit in zip(names, limits, strict=True)
        ], names
