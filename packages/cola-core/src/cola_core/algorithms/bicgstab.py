"""BiCGStab, right-preconditioned, several right-hand sides at once.
van der Vorst, SIAM J. Sci. Stat. Comput. 13 (1992) 631; Saad 2003, alg. 9.7 (with a preconditioner).

Two products a step and a fixed number of vectors, whatever the number of steps; nothing decreases
monotonically, so the best iterate is what is returned. Breakdown (the shadow residual has become orthogonal
to what it must not be orthogonal to) is judged relative to the norms and answered by a new shadow residual;
twice in a row it is reported. The smoothing step is that of Sleijpen & van der Vorst 1995.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array
from ..cost import Cost
from ..reasons import BREAKDOWN, CONVERGED, NONFINITE, RUNNING, STAGNATED
from .base import question_memory, typical_steps, waits
from .columns import Best, Seen, diverged, first_residual, negligible, quotient, smoothing_step
from .krylov_solver import KrylovSolver
from .progress import Watch, observe

__all__ = ["BiCGStab"]

PATIENCE = 500  # steps without a better iterate


def _iterate(
    A: Any, P: Any, B: Array, X: Array | None, tol: Any, limit: Any, *, watch: Watch | None = None
) -> tuple[Array, Any, Any, Array, dict[str, Array]]:
    """The recurrence: best iterate, steps, products, per column why it stopped, and what is known of the
    norm and condition number of A."""
    be: Any = backend_of(B)
    xp = be.xp
    target = tol * be.norm(B)
    first = X
    X, R, products = first_residual(A, B, X, be)
    began = rnorm = be.norm(R)
    code = xp.where(rnorm <= target, CONVERGED, RUNNING)
    rho = be.inner(R, R)
    none = xp.zeros_like(code)
    state = (
        0,
        X,
        R,
        R + 0,
        R + 0,
        rho,
        Seen.none(rnorm),
        none,
        none,
        none,
        Best(X + 0, rnorm, rnorm),
        rnorm,
        code,
    )

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[-1] == RUNNING)

    def body(state: Any) -> Any:
        step, X, R, S, D, rho, seen, made, broken, idle, best, _, code = state
        live = code == RUNNING
        made = xp.where(live, step + 1, made)
        Y = D if P is None else P @ D
        V = A @ Y
        sv = be.inner(S, V)
        snorm = be.norm(S)
        vnorm, ynorm = be.norm(V), be.norm(Y)
        failed = negligible(be, sv, snorm * vnorm) | negligible(be, vnorm, seen.most * ynorm)  # A y is 0, too
        seen = seen.product(be, ynorm, vnorm, live)
        alpha = quotient(be, rho, sv, live & ~failed)
        X = be.axpy(alpha, Y, X)
        H = be.axpy(-alpha, V, R)
        Y = H if P is None else P @ H
        T = A @ Y
        omega = smoothing_step(be, T, H, live & (be.norm(H) > target))
        X = be.axpy(omega, Y, X)
        R = be.axpy(-omega, T, H)
        rnorm = be.norm(R)
        best, new = best.seen(be, X, rnorm, live)
        code = xp.where(live & ~xp.isfinite(rnorm), NONFINITE, code)
        code = xp.where((code == RUNNING) & (rnorm <= target), CONVERGED, code)
        following = be.inner(S, R)
        failed = failed | (omega == 0) | negligible(be, following, snorm * rnorm)
        broken = xp.where(failed, broken + 1, xp.zeros_like(broken))
        idle = xp.where(new, xp.zeros_like(idle), idle + 1)
        lost = (broken >= 2) | diverged(be, rnorm, best.least)
        code = xp.where((code == RUNNING) & lost, BREAKDOWN, code)
        code = xp.where((code == RUNNING) & (idle > PATIENCE), STAGNATED, code)
        live = (code == RUNNING) & ~failed
        beta = quotient(be, following * alpha, rho * omega, live)
        D = be.xpay(R, beta, be.axpy(-omega, V, D))
        again = failed[..., None, :]
        fresh = be.is_concrete(failed) and not bool(xp.any(failed))
        S, D = (S, D) if fresh else (xp.where(again, R, S), xp.where(again, R, D))
        rho = xp.where(failed, be.inner(R, R), following)
        code = observe(be, watch, step + 1, rnorm, code)
        return step + 1, X, R, S, D, rho, seen, made, broken, idle, best, rnorm, code

    step, X, _, _, _, _, seen, made, _, _, best, rnorm, code = be.while_loop(running, body, state)
    X = best.answer(be, A, B, X, rnorm, first, began)
    return X, step, 2 * step + products + 1, code, {**seen.facts(be), "column_iterations": made}


@dataclass(frozen=True)
class BiCGStab(KrylovSolver):
    """Solve ``A x = b`` for any square A in little memory: two products per step, nine vectors.

    tol: relative residual (default by dtype, 1e-8 in double). max_iters: default ``min(10 n, 10000)`` steps.
    P: an operator close to A^{-1}, or a function A -> operator. x0: first guess. pbar: show progress.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.ops.Tridiagonal(-np.ones(9), 3 * np.ones(10), -0.5 * np.ones(9))
    >>> x, info = cola.solve(A, np.ones(10), cola.BiCGStab(), return_info=True)
    >>> bool(info.converged and info.residual <= 1e-8)
    True
    """

    _method: ClassVar[str] = "BiCGStab"
    _own_condition: ClassVar[bool] = True
    _iterate = staticmethod(_iterate)

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        steps = typical_steps(n, self.tol, A.dtype)
        one = A.matmat_cost(k) * 2 + Cost(24 * n * k, 30 * A.itemsize * n * k, 0, 0, 20, syncs=waits(A, 3))
        total = one * steps
        return Cost(
            total.flops, total.bytes, question_memory(A, 9 * k), 2 * steps, total.calls, syncs=total.syncs
        )
