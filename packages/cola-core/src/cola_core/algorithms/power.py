"""Power iteration for one extreme eigenvalue: Golub & Van Loan, 4th ed., sec. 7.3.1 and 8.2.1.

The stopping test compares the residual ``|A v - r v|`` with ``|r|`` (moduli both), so neither the sign nor
the scale of the spectrum matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..autodiff.eigenpairs import general_pairs, selfadjoint_pairs
from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import record
from ..errors import ShapeError
from ..info import Info
from ..properties import PSD, SelfAdjoint, Stiefel
from ..pytree import tree_leaves
from ..reasons import CONVERGED, NONFINITE, REASONS, RUNNING, TRACED
from .base import default_tol, question_memory, refuse_batches
from .eigenpairs import PairIteration
from .progress import observe

__all__ = ["PowerIteration"]


@dataclass(frozen=True)
class PowerIteration(PairIteration):
    """The eigenvalue of largest modulus (k = 1); of a self-adjoint operator also the largest or smallest.

    tol: of the residual, relative to the eigenvalue (default by dtype, 1e-8 in double). max_iter: products
    (default 10000). key: seed of the start vector. Slow where the next eigenvalue is close; two of equal
    modulus (a complex pair, +w and -w) do not converge, which is reported.
    """

    tol: float | None = None
    max_iter: int = 10_000
    pbar: bool = False
    key: Any = 0

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        total = (A.matvec_cost + Cost(6 * n, 8 * A.itemsize * n, 0, 0, 6)) * 1000
        return Cost(total.flops, total.bytes, question_memory(A, 4), 1000, total.calls)

    def eigsh(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        from ..operators import Dense, ScalarMul, add

        self._one(A, k)
        if which == "SM":
            raise NotImplementedError(
                "PowerIteration finds the eigenvalue of largest modulus or an extreme one; for the smallest "
                "modulus use ShiftInvert()."
            )
        be = A._concrete_backend()

        def run(A: Any) -> Any:
            r, v, facts = self._dominant(A)
            if which == "SA" or (which == "LA" and not A.isa(PSD)):
                # A + |r| I has no negative eigenvalues (A - |r| I no positive ones): its dominant one is
                # extreme
                shift = be.xp.abs(r) * (1 if which == "LA" else -1)
                moved, v, facts = self._dominant(add(A, ScalarMul(shift, A.shape[-1])))
                r = moved - shift
            return (be.xp.real(r) if be.is_complex(r) else r)[None], v[:, None], facts

        w, X, facts = selfadjoint_pairs(be, A, run, self._tol(A), "PowerIteration")
        self._report(be, A, facts)
        return w, Dense(X, declared=frozenset({Stiefel}))

    def eigs(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        from ..operators import Dense

        self._one(A, k)
        if which != "LM":
            raise NotImplementedError(f"PowerIteration finds the eigenvalue of largest modulus, not {which}.")
        be = A._concrete_backend()
        dtype = A.dtype if A.isa(SelfAdjoint) else be.xp.result_type(A.dtype, be.dtype("complex64"))

        def run(A: Any) -> Any:
            r, v, facts = self._dominant(A)
            return be.astype(r[None], dtype), be.astype(v[:, None], dtype), facts

        w, X, facts = general_pairs(be, A, run, self._tol(A), "PowerIteration")
        self._report(be, A, facts)
        return w, Dense(X)

    def _one(self, A: Any, k: int) -> None:
        refuse_batches(A, "PowerIteration", "Eigh() or Eig()")
        if k != 1:
            raise ShapeError(f"PowerIteration finds one eigenvalue, not {k}. Use Lanczos() or Arnoldi().")

    def _tol(self, A: Any) -> float:
        return default_tol(A.dtype) if self.tol is None else float(self.tol)

    def _dominant(self, A: Any) -> tuple[Array, Array, Any]:
        """Eigenvalue, vector, and what is to be reported."""
        be = A._concrete_backend()
        xp = be.xp
        tol = self._tol(A)
        v = be.normal(self.key, (A.shape[-1],), A.dtype, A.device)
        v = v / xp.linalg.vector_norm(v)
        with self.watched("PowerIteration", be, v, *tree_leaves(A)) as watch:
            i, r, v, gap, code = be.jit(_iterate, static=("watch",))(A, v, tol, self.max_iter, watch=watch)
        size = xp.abs(r)
        relative = xp.where(size > 0, gap / xp.where(size > 0, size, xp.ones_like(size)), gap)
        return r, v, (i, relative, gap, code)

    def _report(self, be: Any, A: Any, facts: Any) -> None:
        i, relative, gap, code = facts
        tol = self._tol(A)
        concrete = be.is_concrete(relative)
        good = bool(relative <= tol) if concrete else relative <= tol
        record(
            Info(
                method="power iteration",
                converged=good,
                reason=("converged" if good else REASONS[int(code)]) if concrete else TRACED,
                codes=code[None],
                iterations=int(i) if concrete else i,
                matvecs=int(i) + 1 if concrete else i + 1,
                residual=be.number(relative) if concrete else relative,
                tolerance=tol,
                error_estimate=be.number(gap) if concrete else gap,
            )
        )


def _iterate(A: Any, v: Array, tol: Any, limit: Any, *, watch: Any = None) -> Any:
    """Steps, Rayleigh quotient, unit vector, residual norm, and why it ended."""
    be = A._concrete_backend()
    xp = be.xp

    def measure(v: Array) -> tuple[Array, Array, Array]:
        y = A @ v
        r = xp.sum(be.conj(v) * y)
        return y, r, xp.linalg.vector_norm(y - r * v)

    def verdict(i: Any, r: Array, gap: Array) -> Array:
        code = xp.where(gap <= tol * xp.abs(r), CONVERGED, RUNNING)
        code = xp.where(xp.isfinite(gap), code, NONFINITE)
        return be.astype(observe(be, watch, i, gap, code), "int32")

    def running(state: Any) -> Any:
        return (state[0] < limit) & (state[-1] == RUNNING)

    def body(state: Any) -> Any:
        i, v, y, _, _, _ = state
        size = xp.linalg.vector_norm(y)
        v = y / xp.where(size > 0, size, xp.ones_like(size))
        y, r, gap = measure(v)
        return i + 1, v, y, r, gap, verdict(i + 1, r, gap)

    y, r, gap = measure(v)
    i, v, y, r, gap, code = be.while_loop(running, body, (0, v, y, r, gap, verdict(0, r, gap)))
    return i, r, v, gap, code
