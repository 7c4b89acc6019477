"""IDR(s), right-preconditioned, several right-hand sides at once. Sonneveld & van Gijzen, SIAM J. Sci.
Comput. 31 (2008) 1035; the bi-orthogonal variant, van Gijzen & Sonneveld, ACM Trans. Math. Softw. 38 (2011)
no. 5.

Residuals are forced into a sequence of shrinking subspaces; each shrinks by s dimensions (with random
shadow vectors) at the price of s + 1 products, so that at most ``n + n/s`` products are needed in exact
arithmetic. A step is one product. The shadow vectors are random, fixed by ``key`` and shared by all
columns.
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

__all__ = ["IDR"]

PATIENCE = 1000  # products without a better iterate


def _iterate(
    A: Any,
    P: Any,
    B: Array,
    X: Array | None,
    tol: Any,
    limit: Any,
    *,
    s: int,
    key: Any,
    watch: Watch | None = None,
) -> tuple[Array, Any, Any, Array, dict[str, Array]]:
    """Cycles of s + 1 products: best iterate, products (twice), per column why it stopped, and what is known
    of the norm and condition number of A."""
    be: Any = backend_of(B)
    xp = be.xp
    n = B.shape[-2]
    s = min(s, n)
    target = tol * be.norm(B)
    first = X
    X, R, products = first_residual(A, B, X, be)
    began = rnorm = be.norm(R)
    code = xp.where(rnorm <= target, CONVERGED, RUNNING)
    shadow = be.adjoint(be.qr(be.normal(key, (n, s), B.dtype, be.device(B)))[0])  # (s, n)
    one, zero = xp.ones_like(rnorm), xp.zeros_like(rnorm)
    one, zero = be.astype(one, B.dtype), be.astype(zero, B.dtype)
    G = tuple(xp.zeros_like(B) for _ in range(s))
    U = tuple(xp.zeros_like(B) for _ in range(s))
    # M[j][i] = <shadow i, G[j]>, lower triangular in exact arithmetic
    M = tuple(tuple(one if i == j else zero for i in range(s)) for j in range(s))
    state = (
        0,
        X,
        R,
        G,
        U,
        M,
        one,
        Seen.none(rnorm),
        xp.zeros_like(code),
        Best(X + 0, rnorm, rnorm),
        rnorm,
        code,
    )

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[-1] == RUNNING)

    def combined(weights: Any, vectors: Any, start: Array) -> Array:
        """start, which may be overwritten, and a combination of vectors."""
        for w, v in zip(weights, vectors, strict=True):
            start = be.axpy(w, v, start)
        return start

    def after(step: Any, X: Array, R: Array, idle: Array, best: Best, code: Array) -> Any:
        """Bookkeeping after each product."""
        live = code == RUNNING
        rnorm = be.norm(R)
        best, new = best.seen(be, X, rnorm, live)
        code = xp.where(live & ~xp.isfinite(rnorm), NONFINITE, code)
        code = xp.where((code == RUNNING) & (rnorm <= target), CONVERGED, code)
        idle = xp.where(new, xp.zeros_like(idle), idle + 1)
        code = xp.where((code == RUNNING) & (idle > PATIENCE), STAGNATED, code)
        code = xp.where((code == RUNNING) & diverged(be, rnorm, best.least), BREAKDOWN, code)
        code = observe(be, watch, step, rnorm, code)
        return idle, best, rnorm, code

    def body(state: Any) -> Any:
        step, X, R, G, U, M, omega, seen, idle, best, rnorm, code = state
        G, U, M = list(G), list(U), [list(row) for row in M]
        f = _dots(be, shadow, R)
        for j in range(s):
            live = (code == RUNNING) & (step < limit)
            if be.is_concrete(live) and not bool(xp.any(live)):
                break
            c: list[Array] = []  # M[j:, j:] c = f[j:], forwards
            for i in range(j, s):
                rest = f[i]
                for p, weight in enumerate(c):
                    rest = rest - M[j + p][i] * weight
                c.append(quotient(be, rest, M[i][i], live))
            V = combined([-w for w in c], G[j:], R + 0)
            V = V if P is None else P @ V
            Y = combined(c, U[j:], omega[..., None, :] * V)
            W = A @ Y + 0
            m = _dots(be, shadow, W)
            size, length = be.norm(W), be.norm(Y)
            for i in range(j):  # bi-orthogonal: no component along the shadow vectors before this one
                weight = quotient(be, m[i], M[i][i], live)
                W = be.axpy(-weight, G[i], W)
                Y = be.axpy(-weight, U[i], Y)
                m = [a - weight * b for a, b in zip(m, M[i], strict=True)]
            G[j], U[j] = W, Y
            M[j] = [zero] * j + m[j:]
            failed = live & (negligible(be, m[j], size) | negligible(be, size, seen.most * length))
            seen = seen.product(be, length, size, live)
            code = xp.where(failed, BREAKDOWN, code)
            code = xp.where(live & ~xp.isfinite(size) & xp.isfinite(length), NONFINITE, code)
            beta = quotient(be, f[j], m[j], live & ~failed)
            X = be.axpy(beta, Y, X)
            R = be.axpy(-beta, W, R)
            f = [a - beta * b for a, b in zip(f, M[j], strict=True)]
            step = step + xp.any(live) if not be.is_concrete(live) else step + 1
            idle, best, rnorm, code = after(step, X, R, idle, best, code)
        live = (code == RUNNING) & (step < limit)
        if not be.is_concrete(live) or bool(xp.any(live)):
            V = R if P is None else P @ R
            T = A @ V
            omega = smoothing_step(be, T, R, live)
            X = be.axpy(omega, V, X)
            R = be.axpy(-omega, T, R)
            code = xp.where(live & (omega == 0), BREAKDOWN, code)
            step = step + xp.any(live) if not be.is_concrete(live) else step + 1
            idle, best, rnorm, code = after(step, X, R, idle, best, code)
        return step, X, R, tuple(G), tuple(U), tuple(map(tuple, M)), omega, seen, idle, best, rnorm, code

    step, X, *_, seen, _, best, rnorm, code = be.while_loop(running, body, state)
    X = best.answer(be, A, B, X, rnorm, first, began)
    return X, step, step + products + 1, code, seen.facts(be)


@dataclass(frozen=True)
class IDR(KrylovSolver):
    """Solve ``A x = b`` for any square A in a fixed amount of memory: one product per step, ``3 s + 6``
    vectors.

    tol: relative residual (default by dtype, 1e-8 in double). max_iters: products, default
    ``min(20 n, 20000)``. P: an operator close to A^{-1}, or a function A -> operator. x0: first guess. s:
    dimension of the shadow space; more is nearer to full GMRES. key: seed of the shadow vectors.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.ops.Tridiagonal(-np.ones(9), 3 * np.ones(10), -0.5 * np.ones(9))
    >>> x, info = cola.solve(A, np.ones(10), cola.IDR(s=2), return_info=True)
    >>> bool(info.converged and info.residual <= 1e-8)
    True
    """

    s: int = 4
    key: int = 0

    _method: ClassVar[str] = "IDR"
    _own_condition: ClassVar[bool] = True
    _iterate = staticmethod(_iterate)

    def __post_init__(self) -> None:
        if self.s < 1:
            raise ValueError(f"IDR(s={self.s}): the shadow space has at least one dimension.")

    def _limit(self, n: int) -> int:
        return min(20 * n, 20_000)

    def _static(self, n: int, limit: int) -> dict[str, Any]:
        return {"s": self.s, "key": self.key}

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, s = A.shape[-1], self.s
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        steps = 1.3 * typical_steps(n, self.tol, A.dtype)
        one = A.matmat_cost(k) + Cost(
            (6 * s + 8) * n * k, (4 * s + 12) * A.itemsize * n * k, 0, 0, 10 + 12 * s, syncs=waits(A, 3)
        )
        total = one * steps
        return Cost(
            total.flops,
            total.bytes,
            question_memory(A, (2 * s + 6) * k + s),
            steps,
            total.calls,
            syncs=total.syncs,
        )


def _dots(be: Any, shadow: Array, V: Array) -> list[Array]:
    """The inner products of the shadow vectors (s, n) with every column: s arrays of shape (*batch, k)."""
    products = be.matmul(shadow, V)
    return [products[..., i, :] for i in range(shadow.shape[0])]
