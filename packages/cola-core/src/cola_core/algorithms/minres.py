"""Minimal residuals for self-adjoint operators, indefinite and singular ones included.
Paige & Saunders, SIAM J. Numer. Anal. 12 (1975) 617, sec. 6; stopping as in Choi, Paige & Saunders,
SIAM J. Sci. Comput. 33 (2011) 1810, table 3.

The residual never grows. A system without a solution ends where ``|A r|`` is nothing beside ``|A| |r|``: x is
then a least-squares solution, and the Info says so instead of ``converged``. Every column has its own
recurrence and its own stopping test; tests compare quantities of one scale only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array
from ..cost import Cost
from ..properties import SelfAdjoint
from ..reasons import BAD_PRECONDITIONER, CONVERGED, NONFINITE, RUNNING
from .base import typical_steps, waits
from .inconsistency import Suspicion
from .krylov_solver import KrylovSolver
from .lanczos_step import lanczos_start, lanczos_step, positive
from .progress import Watch, observe
from .ritz import Growth, facts, few, replayed

__all__ = ["MINRES"]


def _iterate(
    A: Any, P: Any, B: Array, X: Array | None, tol: Any, limit: Any, *, watch: Watch | None = None
) -> tuple[Array, Any, Any, Array, dict[str, Any]]:
    """The recurrence: solution, steps, products, per column why it stopped, and estimates of ``|A|`` and its
    condition number (of ``P A`` if there is a P)."""
    be: Any = backend_of(B)
    xp = be.xp
    target = tol * be.norm(B)
    if X is None:
        X, R, products = xp.zeros_like(B), B + 0, 0
    else:
        X, R, products = X + 0, B - A @ X, 1
    pair, bad = lanczos_start(be, P, R)
    rnorm = be.norm(R)
    code = xp.where(rnorm <= target, CONVERGED, RUNNING)
    code = xp.where((code == RUNNING) & (bad | (pair.beta == 0)), BAD_PRECONDITIONER, code)
    zero, one = xp.zeros_like(rnorm), xp.ones_like(rnorm)
    # the residual itself is carried along only where its norm is not what the recurrence knows
    kept = None if P is None else R + 0
    scalars = (pair.beta, -one, zero, zero, zero, zero, one, one)
    doubt = Suspicion.none(be, X, rnorm, code)
    made = xp.zeros_like(code)
    columns: list[Any] = []
    growth = None if be.is_concrete(code) else Growth.none(zero)
    state = (0, X, pair, xp.zeros_like(B), xp.zeros_like(B), kept, scalars, growth, made, doubt, code)

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[-1] == RUNNING)

    def body(state: Any) -> Any:
        step, X, pair, W1, W2, kept, scalars, growth, made, doubt, code = state
        made = xp.where(code == RUNNING, step + 1, made)
        left, cs, sn, dbar, epsilon, size, gamma1, gamma2 = scalars
        V, alpha, pair, bad = lanczos_step(be, A, P, pair)
        beta = pair.beta
        finite = xp.isfinite(alpha) & xp.isfinite(beta)
        code = xp.where((code == RUNNING) & ~finite, NONFINITE, code)
        code = xp.where((code == RUNNING) & bad, BAD_PRECONDITIONER, code)
        # the next column of the triangular factor of the tridiagonal matrix
        delta, gbar = cs * dbar + sn * alpha, sn * dbar - cs * alpha
        coupling, dbar = sn * beta, -cs * beta
        column = xp.hypot(xp.hypot(alpha, beta), pair.before * (step > 0))
        size = xp.maximum(size, column)
        # |A r| / |A| |r| of the residual before this step
        at = X
        ratio = xp.hypot(gbar, dbar) / positive(be, size)
        doubt, code = doubt.look(be, tol, ratio, left, code, lambda: at, size)
        live = code == RUNNING
        gamma = positive(be, xp.hypot(gbar, beta))
        if growth is None:
            columns.append(tuple(map(few, (epsilon, delta, xp.where(live, gamma, zero), column))))
        else:
            growth = growth.step(xp, epsilon, delta, gamma, column, live)
        cs, sn = gbar / gamma, beta / gamma
        # directions stay unnormalised: gamma is applied to the numbers, not to the vectors
        W1 = be.xpay(V, be.astype(-epsilon / gamma1, B.dtype), W1)
        W1 = be.axpy(be.astype(-delta / gamma2, B.dtype), W2, W1)
        move = be.astype(xp.where(live, cs * left / gamma, zero), B.dtype)
        everywhere = be.is_concrete(live) and bool(xp.all(live))
        if everywhere:
            X = be.axpy(move, W1, X)
        else:  # 0 * NaN would spread to a column that has already stopped
            X = xp.where(live[..., None, :], X + move[..., None, :] * W1, X)
        if kept is None:
            rnorm = sn * left
        else:
            turn = be.astype(-cs * sn * left / positive(be, beta), B.dtype)
            kept = be.xpay(be.astype(turn, B.dtype)[..., None, :] * pair.U, be.astype(sn * sn, B.dtype), kept)
            rnorm = be.norm(kept)
        code = xp.where(live & (rnorm <= target), CONVERGED, code)
        code = observe(be, watch, step + 1, rnorm, code)
        scalars = (sn * left, cs, sn, dbar, coupling, size, gamma2, gamma)
        return step + 1, X, pair, W2, W1, kept, scalars, growth, made, doubt, code

    step, X, *_, growth, made, doubt, code = be.while_loop(running, body, state)
    told = replayed(be, columns, "minres") if growth is None else facts(xp, growth)
    return doubt.settle(be, X, code), step, step + products, code, {**told, "column_iterations": made}


@dataclass(frozen=True)
class MINRES(KrylovSolver):
    """Solve ``A x = b`` for A self-adjoint, definite or not: one product per step, seven vectors of memory.

    tol: relative residual (default by dtype, 1e-8 in double). max_iters: default ``min(10 n, 10000)``. P: an
    operator close to ``|A|^{-1}`` (positive definite), or a function A -> operator. x0: first guess. pbar:
    show progress.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.SelfAdjoint(cola.ops.Diagonal(np.array([3.0, -1.0, 2.0])))
    >>> cola.solve(cola.no_dispatch(A), np.array([3.0, 1.0, 4.0]), cola.MINRES()).round(8)
    array([ 1., -1.,  2.])
    """

    _method: ClassVar[str] = "MINRES"
    _self_adjoint: ClassVar[bool] = True
    _iterate: ClassVar[Any] = staticmethod(_iterate)

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return True if A.isa(SelfAdjoint) else "the operator is not declared SelfAdjoint"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        steps = typical_steps(n, self.tol, A.dtype)
        one = A.matmat_cost(k) + Cost(14 * n * k, 18 * A.itemsize * n * k, 0, 0, 40, syncs=waits(A, 3))
        total = one * steps
        return Cost(
            total.flops, total.bytes, self._memory(A, 8, operands), steps, total.calls, syncs=total.syncs
        )
