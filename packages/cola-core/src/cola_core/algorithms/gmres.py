"""Restarted GMRES, right-preconditioned, several right-hand sides at once.
Saad & Schultz 1986; Saad 2003, alg. 9.5.

Each column has its own Krylov space; orthogonalisation is classical Gram-Schmidt done twice. Right
preconditioning keeps the residual the true one. A lucky breakdown is the exact end; a cycle that does not
reduce the residual is reported as stagnation, never as success.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array, Backend
from ..cost import Cost
from .base import Algorithm, default_tol, question_memory
from .iteration import (
    CONVERGED,
    NONFINITE,
    RUNNING,
    STAGNATED,
    as_preconditioner,
    differentiated,
    finish,
    prepare,
)
from .progress import ProgressBar, progress

__all__ = ["GMRES"]


@dataclass(frozen=True)
class GMRES(Algorithm):
    """Solve ``A x = b`` for any square A: one product per step, ``restart`` vectors of memory per column.

    tol: relative residual (default by dtype). max_iters: total steps, default ``min(10 n, 2000)``. restart:
    cycle length, default ``min(n, 50)``. P: an operator close to A^{-1}, or a function A -> operator. x0:
    first guess. pbar: show progress.
    """

    tol: float | None = None
    max_iters: int | None = None
    pbar: bool = False
    x0: Any = None
    P: Any = None
    restart: int | None = None

    kind: ClassVar[str] = "iterative"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        steps, m = min(n, 300), min(n, self.restart or 50)
        one = A.matmat_cost(k) + Cost(4 * m * n * k, 4 * m * A.itemsize * n * k, 0, 0, 10)
        total = one * steps
        return Cost(total.flops, total.bytes, question_memory(A, (m + 4) * k), steps, total.calls)

    def solve(self, A: Any, b: Array) -> Array:
        be, B, vector = prepare(A, b)
        xp = be.xp
        if 0 in B.shape:
            return B[..., 0] if vector else B
        tol = default_tol(B.dtype) if self.tol is None else float(self.tol)
        n = A.shape[-1]
        limit = min(10 * n, 2000) if self.max_iters is None else int(self.max_iters)
        m = max(1, min(n, limit, 50 if self.restart is None else int(self.restart)))
        P = as_preconditioner(self.P, A)
        if differentiated(be, A, B):
            return _implicit(be, A, P, B, tol, limit, m, vector, self.pbar)
        X = xp.zeros_like(B)
        if self.x0 is not None:
            x0 = be.asarray(self.x0)
            X = xp.broadcast_to(be.astype(x0[:, None] if x0.ndim == 1 else x0, B.dtype), B.shape) + 0
        R = B - A @ X if self.x0 is not None else B + 0
        steps, X, rnorm, code = _run(be, A, P, B, X, R, tol, limit, m, self.pbar)
        return finish(be, A, "GMRES", X, B, vector, tol, steps, steps, code, rnorm)


def _run(be: Backend, *operands: Any) -> tuple[Any, Array, Array, Array]:
    *arrays, limit, m, pbar = operands
    with progress("GMRES", limit, pbar) as bar:
        return be.jit(_iterate, static=("m", "bar"))(*arrays, limit, m=m, bar=bar)


def _implicit(
    be: Backend, A: Any, P: Any, B: Array, tol: float, limit: int, m: int, vector: bool, pbar: bool
) -> Array:
    """The solve as one differentiable step:
    its derivative is a solve with the adjoint, so memory stays flat."""

    def run(preconditioner: Any) -> Any:
        def solve(operator: Any, rhs: Array) -> Any:
            zero = be.xp.zeros_like(rhs)
            steps, X, _, code = _run(be, operator, preconditioner, rhs, zero, rhs + 0, tol, limit, m, pbar)
            return X, (steps, code)

        return solve

    X, (steps, code) = be.implicit_solve(A, run(P), B, run(None if P is None else P.H))
    return finish(be, A, "GMRES", X, B, vector, tol, steps, steps, code)


def _iterate(
    A: Any,
    P: Any,
    B: Array,
    X: Array,
    R: Array,
    tol: Any,
    limit: Any,
    *,
    m: int,
    bar: ProgressBar | None = None,
) -> tuple[Any, Array, Array, Array]:
    """Cycles of m steps: steps made, solution, residual norms, and per column why it stopped."""
    be: Any = backend_of(B)
    xp = be.xp
    target = tol * be.norm(B)
    rnorm = be.norm(R)
    code = xp.where(rnorm <= target, CONVERGED, RUNNING)
    state = (0, X, R, rnorm, code, xp.zeros_like(code))

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[4] == RUNNING)

    def cycle(state: Any) -> Any:
        steps, X, R, before, code, slow = state
        Y, made = _cycle(be, A, P, R, before, m if be.name == "jax" else min(m, limit - steps), target)
        X_new = X + Y
        R_new = B - A @ X_new
        after = be.norm(R_new)
        live = code == RUNNING
        improved = live & (after < before)
        X = xp.where(improved[..., None, :], X_new, X)
        R = xp.where(improved[..., None, :], R_new, R)
        slow = xp.where(live & ~(after < 0.999 * before), slow + 1, xp.zeros_like(slow))
        rnorm = xp.where(improved, after, before)
        code = xp.where(live & ~xp.isfinite(after), NONFINITE, code)
        code = xp.where((code == RUNNING) & (rnorm <= target), CONVERGED, code)
        code = xp.where((code == RUNNING) & (slow >= 2), STAGNATED, code)
        if bar is not None:
            be.report(bar, steps + made, xp.max(rnorm))
        return steps + made, X, R, rnorm, code, slow

    steps, X, R, rnorm, code, _ = be.while_loop(running, cycle, state)
    return steps, X, rnorm, code


def _cycle(be: Backend, A: Any, P: Any, R: Array, rnorm: Array, m: int, target: Array) -> tuple[Array, Any]:
    """One Arnoldi cycle of at most m steps from residual R; returns the correction and the steps made."""
    xp = be.xp
    *batch, n, k = R.shape
    device = be.device(R)
    eps = float(xp.finfo(be.real_dtype(R.dtype)).eps)
    V = be.zeros((m + 1, *batch, n, k), R.dtype, device)
    H = be.zeros((*batch, k, m + 1, m), R.dtype, device)
    safe = xp.where(rnorm > 0, rnorm, xp.ones_like(rnorm))
    V = be.put(V, 0, R / safe[..., None, :])
    e1 = be.put(be.zeros((m + 1,), R.dtype, device), 0, 1)

    def step(j: Any, V: Array, H: Array) -> tuple[Array, Array]:
        v = V[j]
        w = A @ (v if P is None else P @ v)
        size = be.norm(w)
        known = V if be.name == "jax" else V[: j + 1]
        h = 0
        for _ in range(2):
            c = xp.sum(be.conj(known) * w[None], axis=-2)
            w = w - xp.sum(known * c[..., None, :], axis=0)
            h = h + c
        b = be.norm(w)
        b = xp.where(b > 10 * eps * n**0.5 * size, b, xp.zeros_like(b))  # lucky breakdown
        w = w / xp.where(b > 0, b, xp.ones_like(b))[..., None, :] * (b > 0)[..., None, :]
        column = xp.moveaxis(h, 0, -1)  # (*batch, k, steps)
        V = be.put(V, j + 1, w)
        if be.name == "jax":
            H = H.at[..., :, j].set(column)
            return V, H.at[..., j + 1, j].set(b.astype(H.dtype))
        H = be.put(H, (..., slice(0, j + 1), j), column)
        return V, be.put(H, (..., j + 1, j), be.astype(b, H.dtype))

    made: Any = m
    if be.name == "jax":
        import jax

        V, H = jax.lax.fori_loop(0, m, lambda j, s: step(j, *s), (V, H))
    else:
        for j in range(m):
            V, H = step(j, V, H)
            small = H[..., : j + 2, : j + 1]
            y = _least_squares(be, small, e1[: j + 2], rnorm)
            left = xp.linalg.vector_norm(
                e1[: j + 2] * be.astype(rnorm, R.dtype)[..., None] - (small @ y[..., None])[..., 0],
                axis=-1,
            )
            if not bool(xp.any(left > 0.5 * target)) or not bool(xp.all(xp.isfinite(left))):
                made = j + 1
                V, H, e1 = V[: j + 2], small, e1[: j + 2]
                break
    y = _least_squares(be, H, e1, rnorm)  # (*batch, k, m)
    Y = xp.sum(V[:-1] * xp.moveaxis(y, -1, 0)[..., None, :], axis=0)
    return (Y if P is None else P @ Y), made


def _least_squares(be: Backend, H: Array, e1: Array, rnorm: Array) -> Array:
    """``argmin |beta e1 - H y|`` per column, zero columns of a broken-down basis included."""
    xp = be.xp
    if be.is_concrete(H) and not be.all_finite(H):
        return be.zeros((*H.shape[:-2], H.shape[-1]), H.dtype) * float("nan")
    rhs = e1 * be.astype(rnorm, H.dtype)[..., None]
    return (xp.linalg.pinv(H) @ rhs[..., None])[..., 0]
