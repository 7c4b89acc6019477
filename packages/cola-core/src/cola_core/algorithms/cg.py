"""Preconditioned conjugate gradients for several right-hand sides at once.
Hestenes & Stiefel 1952; Saad 2003, alg. 9.1.

Every column has its own steps and its own stopping test ``|b - A x| <= tol |b|``; guards compare quantities
of one scale only (the sign of ``p^H A p``), so they mean the same for A, 1e-9 A, float32 and a million
unknowns. The residual is recomputed at exit; where the recurrence has drifted from it, the iteration
restarts from the current point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array, Backend
from ..cost import Cost
from ..properties import PSD
from .base import Algorithm, default_tol, question_memory
from .iteration import (
    BAD_PRECONDITIONER,
    CONVERGED,
    INDEFINITE,
    NONFINITE,
    RUNNING,
    as_preconditioner,
    differentiated,
    finish,
    prepare,
    true_residual,
)
from .progress import ProgressBar, progress

__all__ = ["CG"]

# with the condition number unknown; sqrt(kappa) = 1e2 at tol 1e-8 needs about this many
TYPICAL_ITERATIONS = 300
LEAST_FOR_NORMAL_EQUATIONS = 2000


@dataclass(frozen=True)
class CG(Algorithm):
    """Solve ``A x = b`` for A self-adjoint positive definite: one product per step, four vectors of memory.

    tol: relative residual (default by dtype, 1e-8 in double). max_iters: default ``min(10 n, 10000)``. P: an
    operator close to A^{-1} (positive definite), or a function A -> operator. x0: first guess. pbar: show
    progress.
    """

    tol: float | None = None
    max_iters: int | None = None
    pbar: bool = False
    x0: Any = None
    P: Any = None

    kind: ClassVar[str] = "iterative"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if question == "lstsq":
            m, n = A.shape[-2:]
            if operands[1] is not None:
                return "it cannot tell which singular values count as zero (rcond)"
            if min(m, n) < LEAST_FOR_NORMAL_EQUATIONS or A.matvec_cost.flops > m * n / 8:
                return "the normal equations square the condition number, and a factorisation is affordable"
            return True
        return True if A.isa(PSD) else "the operator is not declared PSD"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        steps = min(n, TYPICAL_ITERATIONS)
        one = A.matmat_cost(k) + Cost(10 * n * k, 12 * A.itemsize * n * k, 0, 0, 8)
        total = one * steps
        return Cost(total.flops, total.bytes, question_memory(A, 6 * k), steps, total.calls)

    def solve(self, A: Any, b: Array) -> Array:
        be, B, vector = prepare(A, b)
        tol = default_tol(B.dtype) if self.tol is None else float(self.tol)
        n = A.shape[-1]
        limit = min(10 * n, 10_000) if self.max_iters is None else int(self.max_iters)
        P = as_preconditioner(self.P, A)
        X0 = self._first(be, A, B)
        if differentiated(be, A, B):
            return self._implicit(be, A, P, B, tol, limit, vector)
        X, steps, products, codes, rnorm = self._restarted(be, A, P, B, X0, tol, limit)
        return finish(be, A, "CG", X, B, vector, tol, steps, products, codes, rnorm)

    def lstsq(self, A: Any, b: Array, rcond: Any) -> Array:
        """``A^H A x = A^H b``: the least x that minimises ``|b - A x|``. The tolerance is on the normal
        equations, whose condition number is that of A squared."""
        from ..operators import Product

        if rcond is not None:
            raise ValueError(
                "lstsq by CG() does not know the singular values, so that rcond has no meaning; use LSTSQ()."
            )
        AH = A.H
        return self.solve(Product(AH, A, declared=frozenset({PSD})), AH @ b)

    def _first(self, be: Backend, A: Any, B: Array) -> Array | None:
        if self.x0 is None:
            return None
        from ..errors import ShapeError

        x0 = be.asarray(self.x0)
        x0 = x0[:, None] if x0.ndim == 1 else x0
        if tuple(x0.shape[-2:]) != tuple(B.shape[-2:]):
            raise ShapeError(f"CG(x0=...) has shape {tuple(x0.shape)}, the right-hand side {tuple(B.shape)}.")
        return be.xp.broadcast_to(be.astype(x0, B.dtype), B.shape)

    def _restarted(
        self, be: Backend, A: Any, P: Any, B: Array, X: Array | None, tol: float, limit: int
    ) -> tuple[Array, Any, Any, Array, Array | None]:
        """Run, recompute the residual, and run again from there while the recurrence had
        drifted (at most 5 times)."""
        X, steps, products, codes = self._run(be, A, P, B, X, tol, limit)
        if not be.is_concrete(X):
            return X, steps, products, codes, None
        rnorm = true_residual(be, A, X, B)
        bnorm = be.norm(B)
        for _ in range(5):
            claimed = (codes == CONVERGED) & (rnorm > 1.1 * tol * bnorm)
            if not bool(be.xp.any(claimed)) or steps >= limit:
                break
            again, more, made, codes = self._run(be, A, P, B, X, tol, limit - steps)
            new = true_residual(be, A, again, B)
            steps, products = steps + more, products + made + 1
            better = bool(be.xp.any(new < 0.5 * rnorm))
            X, rnorm = again, new
            if not better:
                break
        return X, steps, products, codes, rnorm

    def _run(
        self, be: Backend, A: Any, P: Any, B: Array, X: Array | None, tol: float, limit: int
    ) -> tuple[Array, Any, Any, Array]:
        with progress("CG", limit, self.pbar) as bar:
            return be.jit(_iterate, static=("bar",))(A, P, B, X, tol, limit, bar=bar)

    def _implicit(self, be: Backend, A: Any, P: Any, B: Array, tol: float, limit: int, vector: bool) -> Array:
        """The solve as one differentiable step: its derivative is another solve, so memory stays flat."""

        def run(operator: Any, rhs: Array) -> Any:
            # a cotangent can be tiny or huge; the stopping test is relative, so no scaling is needed
            X, steps, products, codes = self._run(be, operator, P, rhs, None, tol, limit)
            return X, (steps, products, codes)

        X, (steps, products, codes) = be.implicit_solve(A, run, B)
        return finish(be, A, "CG", X, B, vector, tol, steps, products, codes)


def _iterate(
    A: Any, P: Any, B: Array, X: Array | None, tol: Any, limit: Any, *, bar: ProgressBar | None = None
) -> tuple[Array, Any, Any, Array]:
    """The recurrence: solution, steps, products, and per column why it stopped."""
    be: Any = backend_of(B)
    xp = be.xp
    bnorm = be.norm(B)
    target = tol * bnorm
    if X is None:
        X, R, products = xp.zeros_like(B), B + 0, 0
    else:
        X, products = X + 0, 1
        R = B - A @ X
    Z = R if P is None else P @ R
    rho = _real(be, be.inner(R, Z))
    rnorm = be.norm(R)
    one, zero = xp.ones_like(rho), xp.zeros_like(rho)
    code = xp.where(rnorm <= target, CONVERGED, RUNNING)
    if P is not None:
        code = xp.where((code == RUNNING) & ~(rho > 0), BAD_PRECONDITIONER, code)
    state = (0, X, R, Z + 0, rho, code)

    def running(state: Any) -> Any:
        step, code = state[0], state[-1]
        return (step < limit) & xp.any(code == RUNNING)

    def body(state: Any) -> Any:
        step, X, R, D, rho, code = state
        Q = A @ D
        curvature = _real(be, be.inner(D, Q))
        finite, positive = xp.isfinite(curvature), curvature > 0
        concrete = be.is_concrete(Q)
        usual = concrete and bool(xp.all(finite & positive))
        if not usual:
            live = code == RUNNING
            code = xp.where(live & ~finite, NONFINITE, code)
            code = xp.where(live & finite & ~positive, INDEFINITE, code)
        live = code == RUNNING
        alpha = xp.where(live, rho / xp.where(live, curvature, one), zero)
        alpha = be.astype(alpha, B.dtype)
        if usual or not concrete or bool(xp.all(finite)):
            X = be.axpy(alpha, D, X)
            R = be.axpy(-alpha, Q, R)
        else:  # 0 * NaN would spread to the healthy part of a column that has already stopped
            X, R = X + alpha[..., None, :] * D, R
        if P is None:
            new = _real(be, be.inner(R, R))
            rnorm, Z = xp.sqrt(new), R
        else:
            Z = P @ R
            new, rnorm = _real(be, be.inner(R, Z)), be.norm(R)
            code = xp.where((code == RUNNING) & ~(new > 0) & (rnorm > target), BAD_PRECONDITIONER, code)
        code = xp.where((code == RUNNING) & (rnorm <= target), CONVERGED, code)
        live = code == RUNNING
        ratio = xp.where(live, new / xp.where(rho != 0, rho, one), zero)
        D = be.xpay(Z, be.astype(ratio, B.dtype), D)
        if bar is not None:
            be.report(bar, step + 1, xp.max(rnorm))
        return step + 1, X, R, D, xp.where(live, new, rho), code

    state = be.while_loop(running, body, state)
    return state[1], state[0], state[0] + products, state[-1]


def _real(be: Backend, x: Array) -> Array:
    return be.xp.real(x) if be.is_complex(x) else x
