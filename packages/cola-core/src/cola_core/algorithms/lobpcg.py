"""Locally optimal block preconditioned conjugate gradients. Knyazev, SISC 23 (2001) 517, with the stable
choice of the basis of Duersch, Shao, Yang & Gu, SISC 40 (2018) C655.

Every step is a Rayleigh-Ritz step in the span of the iterates, the preconditioned residuals and the last
directions, all orthonormal, so that near convergence nothing is lost to an ill-conditioned Gram matrix.
Inner products conjugate: complex self-adjoint operators are right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..errors import ShapeError
from ..properties import PSD, SelfAdjoint, Stiefel
from ..pytree import tree_leaves
from ..reasons import CONVERGED, NONFINITE, RUNNING
from .base import question_memory, refuse_batches
from .block_basis import against, alive, extend, independent, ritz
from .eigenpairs import PairIteration, pair_tolerance, quietly, refuse_function_transforms, report_pairs
from .iteration import as_preconditioner, extreme_scale
from .progress import observe

__all__ = ["LOBPCG", "extreme", "first_block", "ready"]


@dataclass(frozen=True)
class LOBPCG(PairIteration):
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

    tol: float | None = None
    max_iters: int | None = None
    pbar: bool = False
    x0: Any = None
    P: Any = None
    key: Any = 0
    guard: int | None = None

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.isa(SelfAdjoint):
            return "the operator is not declared SelfAdjoint or PSD"
        if A.batch_shape:
            return "batches of operators are not supported"
        k = next(x for x in operands if isinstance(x, int))
        if 4 * k >= A.shape[-1]:
            return f"{k} of {A.shape[-1]} eigenpairs is a large part of the spectrum"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        b = self._width(next(x for x in operands if isinstance(x, int)), n)
        steps = 40 if self.P is not None else 200
        one = A.matmat_cost(b) + Cost(60.0 * n * b * b, 20 * A.itemsize * n * b, 0, 0, 60)
        total = one * steps
        return Cost(total.flops, total.bytes, question_memory(A, 12 * b), steps * b, total.calls)

    def _width(self, k: int, n: int) -> int:
        return min(n, k + (max(k // 2, 3) if self.guard is None else int(self.guard)))

    def eigsh(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        return self._pairs(A, None, k, which)

    def geigsh(self, A: Any, B: Any, k: int, which: str) -> tuple[Array, Any]:
        """k pairs of ``A v = w B v``, ``V^H B V = I``."""
        return self._pairs(A, B, k, which)

    def _pairs(self, A: Any, B: Any, k: int, which: str) -> tuple[Array, Any]:
        from ..operators import Dense

        refuse_batches(A, "LOBPCG", "Eigh()")
        be = A._concrete_backend()
        refuse_function_transforms(be, A, "LOBPCG", "Eigh()")
        largest = extreme(A, which, "LOBPCG")
        tol = pair_tolerance(be, A.dtype, self.tol, 1e-8)
        limit = 1000 if self.max_iters is None else int(self.max_iters)
        X = first_block(be, A, self.x0, self.key, self._width(k, A.shape[-1]), "LOBPCG")
        P = as_preconditioner(self.P, A)
        plain = be.is_concrete(*tree_leaves((A, B))) and P is None
        with quietly(be):
            ready(be, P, X)

        def run(operator: Any) -> Any:
            # a preconditioner may hold what cannot be compiled as an argument; inside the loop it is constant
            f = be.jit(_iterate, static=("k", "largest", "watch")) if plain else _iterate
            with self.watched("LOBPCG", be, X, *tree_leaves(operator)) as watch, quietly(be):
                w, Y, steps, scale, code = f(operator, B, P, X, tol, limit, k=k, largest=largest, watch=watch)
                size = extreme_scale(be, operator, X, scale[None]) if B is None else None
                if size is not None:
                    scaled = operator * (1 / size)
                    w, Y, steps, scale, code = f(
                        scaled, B, P, X, tol, limit, k=k, largest=largest, watch=watch
                    )
                    w, scale = w * size, scale * size
            if B is None:
                gap = be.frobenius(operator @ Y - Y * be.astype(w, Y.dtype), axis=-2)
            else:
                gap = be.norm(operator @ Y - (B @ Y) * be.astype(w, Y.dtype)) / be.norm(Y)
            return w, Y, (gap, steps, scale, code)

        if B is not None and any(getattr(x, "requires_grad", False) for x in tree_leaves((A, B))):
            raise NotImplementedError("LOBPCG of a pencil has no derivatives; use alg=Eigh(), or detach it.")
        w, Y, (gap, steps, scale, code) = be.eigenpairs(A, run) if B is None else run(A)
        b = X.shape[-1]
        report_pairs(be, A, "LOBPCG", gap, scale, tol, steps, steps * b + b + k, code)
        return w, Dense(Y, declared=frozenset({Stiefel}) if B is None else frozenset())


def extreme(A: Any, which: str, method: str) -> bool:
    """Whether the largest eigenvalues are wanted; interior ones are refused."""
    if which == "LA" or (which == "LM" and A.isa(PSD)):
        return True
    if which == "SA" or (which == "SM" and A.isa(PSD)):
        return False
    raise NotImplementedError(
        f"{method} finds eigenvalues at one end of the spectrum (LA, SA), not which={which!r} of {A!r}; use "
        "Lanczos() for LM, ShiftInvert() for SM and sigma."
    )


def first_block(be: Any, A: Any, x0: Any, key: Any, width: int, method: str) -> Array:
    """The vectors given, filled up with random ones, to (n, width)."""
    n = A.shape[-1]
    X = be.normal(key, (n, width), A.dtype, A.device)
    if x0 is None:
        return X
    given = be.asarray(x0.to_dense() if hasattr(x0, "to_dense") else x0)
    given = given[:, None] if given.ndim == 1 else given
    if given.ndim != 2 or given.shape[0] != n:
        raise ShapeError(f"{method}(x0=...) has shape {tuple(given.shape)}; {n} rows are needed for {A!r}.")
    given = be.astype(given, A.dtype)[:, :width]
    return be.xp.concat([given, X[:, given.shape[1] :]], axis=-1)


def ready(be: Any, P: Any, X: Array) -> None:
    """Let a preconditioner that solves make its factorisation before the compiled loop, not inside."""
    if P is None or be.name != "jax":
        return
    from ..linalg.inverse import KEEP_FACTORS

    token = KEEP_FACTORS.set(True)
    try:
        P @ X
    finally:
        KEEP_FACTORS.reset(token)


def _iterate(
    A: Any, B: Any, P: Any, X: Array, tol: Any, limit: Any, *, k: int, largest: bool, watch: Any = None
) -> tuple[Array, Array, Any, Array, Array]:
    """Ritz values and vectors, steps, the largest stretch met, and why it ended."""
    be = A._concrete_backend()
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

    def verdict(step: Any, norms: Array, scale: Array) -> Array:
        worst = xp.max(norms[:k])
        code = xp.where(worst <= tol * scale, CONVERGED, RUNNING)
        code = xp.where(xp.isfinite(xp.max(norms)), code, NONFINITE)
        return be.astype(observe(be, watch, step, worst, code), "int32")

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
        return step + 1, X, AX, D, AD, R, w, norms, scale, verdict(step + 1, norms, scale)

    R, norms = residual(X, AX, w)
    code = xp.where(xp.max(norms[:k]) <= tol * scale, CONVERGED, RUNNING)
    code = be.astype(xp.where(xp.isfinite(xp.max(norms)), code, NONFINITE), "int32")
    state = be.while_loop(running, body, (0, X, AX, D, AD, R, w, norms, scale, code))
    return state[6][:k], state[1][:, :k], state[0], state[8], state[9]


def _safe(be: Any, x: Array) -> Array:
    return be.xp.where(x > 0, x, be.xp.ones_like(x))
