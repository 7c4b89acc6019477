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
from .iteration import CONVERGED, NONFINITE, RUNNING, STAGNATED, observe
from .krylov_solver import KrylovSolver
from .progress import Watch

__all__ = ["GMRES"]


def _iterate(
    A: Any,
    P: Any,
    B: Array,
    X: Array | None,
    tol: Any,
    limit: Any,
    *,
    m: int,
    watch: Watch | None = None,
) -> tuple[Array, Any, Any, Array]:
    """Cycles of m steps: solution, steps made, products, and per column why it stopped."""
    be: Any = backend_of(B)
    xp = be.xp
    target = tol * be.norm(B)
    first = 0 if X is None else 1
    X, R = (xp.zeros_like(B), B + 0) if X is None else (X + 0, B - A @ X)
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
        code = observe(be, watch, steps + made, rnorm, code)
        return steps + made, X, R, rnorm, code, slow

    steps, X, R, rnorm, code, _ = be.while_loop(running, cycle, state)
    return X, steps, steps + first, code


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


@dataclass(frozen=True)
class GMRES(KrylovSolver):
    """Solve ``A x = b`` for any square A: one product per step, ``restart`` vectors of memory per column.

    tol: relative residual (default by dtype). max_iters: total steps, default ``min(10 n, 2000)``. restart:
    cycle length, default ``min(n, 50)``. P: an operator close to A^{-1}, or a function A -> operator. x0:
    first guess. pbar,
    callback, max_seconds: see ``Iterative``, a step being a cycle.
    """

    restart: int | None = None

    _method: ClassVar[str] = "GMRES"
    _iterate: ClassVar[Any] = staticmethod(_iterate)

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        steps, m = min(n, 300), min(n, self.restart or 50)
        one = A.matmat_cost(k) + Cost(4 * m * n * k, 4 * m * A.itemsize * n * k, 0, 0, 10)
        total = one * steps
        return Cost(total.flops, total.bytes, self._memory(A, m + 4, operands), steps, total.calls)

    def _limit(self, n: int) -> int:
        return min(10 * n, 2000)

    def _static(self, n: int, limit: int) -> dict[str, Any]:
        return {"m": max(1, min(n, limit, 50 if self.restart is None else int(self.restart)))}
