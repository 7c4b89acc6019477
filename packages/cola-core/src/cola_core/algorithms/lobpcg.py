"""Locally optimal block preconditioned conjugate gradients. Knyazev, SISC 23 (2001) 517, with the stable
choice of the basis of Duersch, Shao, Yang & Gu, SISC 40 (2018) C655.

Every step is a Rayleigh-Ritz step in the span of the iterates, the preconditioned residuals and the last
directions, all orthonormal, so that near convergence nothing is lost to an ill-conditioned Gram matrix.
Inner products conjugate: complex self-adjoint operators are right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ..autodiff.eigenpairs import selfadjoint_pairs
from ..backends.base import Array
from ..cost import Cost
from ..properties import Stiefel
from ..pytree import tree_leaves
from ..reasons import CONVERGED, NONFINITE, RUNNING
from .base import question_memory, refuse_batches, waits
from .block_basis import against, alive, extend, independent, ritz
from .block_pairs import BlockPairIteration, constant_preconditioner, extreme, first_block, ready
from .eigenpairs import pair_tolerance, quietly, report_pairs
from .iteration import extreme_scale
from .progress import observe

__all__ = ["LOBPCG"]


def _iterate(
    A: Any,
    B: Any,
    P: Any,
    X: Array,
    tol: Any,
    limit: Any,
    *,
    k: int,
    largest: bool,
    watch: Any = None,
    be: Any = None,
) -> tuple[Array, Array, Any, Array, Array]:
    """Ritz values and vectors, steps, the largest stretch met, and why it ended.

    be: a backend to use instead of A's, whose ``while_loop`` and ``eigh`` may be others (without watch, no
    value is looked at but by these two).
    """
    be = A._concrete_backend() if be is None else be
    xp = be.xp
    b = X.shape[-1]
    metric = (lambda Y: Y) if B is None else (lambda Y: B @ Y)

    X = independent(be, X, B)
    AX = A @ X
    scale = xp.max(be.norm(AX) / _safe(be, be.norm(X)))
    w, C = ritz(be, X, AX, alive(be, X), largest)
    X, AX = be.matmul(X, C), be.matmul(AX, C)
    D, AD = xp.zeros_like(X), xp.zeros_like(X)

    def residual(X: Array, AX: Array, w: Array) -> tuple[Array, Array]:
        R = AX - metric(X) * be.astype(w, X.dtype)
        return R, be.norm(R) / _safe(be, be.norm(X))

    def judged(X: Array, norms: Array, scale: Array) -> Array:
        # a dead column has no residual, and is no vector
        met = (xp.max(norms[:k]) <= tol * scale) & xp.all(alive(be, X)[:k])
        code = xp.where(met, CONVERGED, RUNNING)
        return be.astype(xp.where(xp.isfinite(xp.max(norms)), code, NONFINITE), "int32")

    def verdict(step: Any, X: Array, norms: Array, scale: Array) -> Array:
        code = judged(X, norms, scale)
        return be.astype(observe(be, watch, step, xp.max(norms[:k]), code), "int32")

    def running(state: Any) -> Any:
        return (state[-1] == RUNNING) & (state[0] < limit)

    def body(state: Any) -> Any:
        step, X, AX, D, AD, R, w, norms, scale, _ = state
        # converged columns make no new directions (soft locking); their vectors stay in the basis
        active = be.astype(norms > 0.1 * tol * scale, X.dtype)
        W = (R if P is None else P @ R) * active
        S = xp.concat([X, D], axis=-1)
        image = None if B is None else metric(S)
        W = extend(be, S, W, image, B)
        AW = A @ W
        scale = xp.maximum(scale, xp.max(be.norm(AW) / _safe(be, be.norm(W))))
        S, AS = xp.concat([X, D, W], axis=-1), xp.concat([AX, AD, AW], axis=-1)
        w, C = ritz(be, S, AS, alive(be, S), largest)
        C = C[:, :b]
        # the new directions: what the step adds to the old iterates, orthogonal to the new ones
        outside = xp.concat([xp.zeros_like(C[:b]), C[b:]], axis=0)
        E = independent(be, against(be, C, outside))
        E = against(be, C, E)
        X, AX, D, AD = (be.matmul(M, N) for M, N in ((S, C), (AS, C), (S, E), (AS, E)))
        w = w[:b]
        R, norms = residual(X, AX, w)
        return step + 1, X, AX, D, AD, R, w, norms, scale, verdict(step + 1, X, norms, scale)

    R, norms = residual(X, AX, w)
    code = judged(X, norms, scale)
    state = be.while_loop(running, body, (0, X, AX, D, AD, R, w, norms, scale, code))
    return state[6][:k], state[1][:, :k], state[0], state[8], state[9]


@dataclass(frozen=True)
class LOBPCG(BlockPairIteration):
    """The k largest ("LA") or smallest ("SA") eigenpairs of a self-adjoint operator by blocks; also of
    ``A v = w B v`` with a definite B, by products with both.

    tol: of the residuals, relative to the largest stretch of A met (default 1e-8 in double, 1e-5 in single).
    max_iters: steps (default 1000). x0: (n, j) first vectors. P: an operator close to ``A^{-1}``, positive
    definite, or a function A -> operator; it makes the smallest eigenvalues converge fast. guard: vectors
    beside the k wanted ones (default ``max(k // 2, 3)``). key: seed.

    >>> import numpy as np, cola_core as cola
    >>> T = cola.PSD(cola.ops.Tridiagonal(-np.ones(99), 2 * np.ones(100)))
    >>> w, V = cola.eigh(T, 2, "SA", cola.LOBPCG(P=cola.inv))
    >>> bool(np.allclose(w, 2 - 2 * np.cos(np.pi * np.array([1, 2]) / 101)))
    True
    """

    # as of ``Lanczos``: for subclasses that make the steps in another way
    _method: ClassVar[str] = "LOBPCG"
    _iterate: ClassVar[Callable[..., Any]] = staticmethod(_iterate)

    def _static(self) -> dict[str, Any]:
        """Further arguments of ``_iterate`` that are settings, not data."""
        return {}

    def _made(self, steps: Any) -> Any:
        """How many steps the products were made for, of so many that count."""
        return steps

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        b = self._width(next(x for x in operands if isinstance(x, int)), n)
        steps = 40 if self.P is not None else 200
        one = A.matmat_cost(b) + Cost(60.0 * n * b * b, 20 * A.itemsize * n * b, 0, 0, 60, syncs=waits(A, 6))
        total = one * steps
        return Cost(
            total.flops, total.bytes, question_memory(A, 12 * b), steps * b, total.calls, syncs=total.syncs
        )

    def eigsh(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        return self._pairs(A, None, k, which)

    def geigsh(self, A: Any, B: Any, k: int, which: str) -> tuple[Array, Any]:
        """k pairs of ``A v = w B v``, ``V^H B V = I``."""
        return self._pairs(A, B, k, which)

    def _pairs(self, A: Any, B: Any, k: int, which: str) -> tuple[Array, Any]:
        from ..operators import Dense

        refuse_batches(A, self._method, "Eigh()")
        be = A._concrete_backend()
        largest = extreme(A, which, self._method)
        tol = pair_tolerance(be, A.dtype, self.tol, 1e-8)
        limit = 1000 if self.max_iters is None else int(self.max_iters)
        b = self._width(k, A.shape[-1])

        def precondition(operator: Any) -> Any:
            return constant_preconditioner(be, self.P, operator)

        def run(operator: Any, B: Any = None) -> Any:
            X = first_block(be, operator, self.x0, self.key, b, self._method)
            P = precondition(operator)
            plain = be.is_concrete(*tree_leaves((operator, B))) and P is None
            with quietly(be):
                ready(be, P, X)
            # a preconditioner may hold what cannot be compiled as an argument; inside the loop it is constant
            iterate, own = type(self)._iterate, self._static()
            f = be.jit(iterate, static=("k", "largest", "watch", *own)) if plain else iterate
            with self.watched(self._method, be, X, *tree_leaves(operator)) as watch, quietly(be):
                settled = {"k": k, "largest": largest, "watch": watch, **own}
                w, Y, steps, scale, code = f(operator, B, P, X, tol, limit, **settled)
                size = extreme_scale(be, operator, X, scale[None]) if B is None else None
                if size is not None:
                    scaled = operator * (1 / size)
                    w, Y, steps, scale, code = f(scaled, B, P, X, tol, limit, **settled)
                    w, scale = w * size, scale * size
            if B is None:
                gap = be.frobenius(operator @ Y - Y * be.astype(w, Y.dtype), axis=-2)
            else:
                gap = be.norm(operator @ Y - (B @ Y) * be.astype(w, Y.dtype)) / be.norm(Y)
            return w, Y, (gap, steps, scale, code)

        w, Y, (gap, steps, scale, code) = selfadjoint_pairs(
            be, A, run, tol, self._method, B=B, preconditioner=precondition
        )
        report_pairs(be, A, self._method, gap, scale, tol, steps, self._made(steps) * b + b + k, code)
        return w, Dense(Y, declared=frozenset({Stiefel}) if B is None else frozenset())


def _safe(be: Any, x: Array) -> Array:
    return be.xp.where(x > 0, x, be.xp.ones_like(x))
