"""Davidson's method with blocks and thick restart. Davidson, J. Comput. Phys. 17 (1975) 87; Crouzeix,
Philippe & Sadkane, SISC 15 (1994) 62.

The space grows by preconditioned residuals instead of products, so that with a matrix close to its diagonal
(or another approximate inverse) few are needed. When it is full it starts again from the best Ritz vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..autodiff.eigenpairs import selfadjoint_pairs
from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import SESSION, Session
from ..properties import Stiefel
from ..pytree import tree_leaves
from ..reasons import CONVERGED, NONFINITE, RUNNING
from .base import Auto, question_memory, refuse_batches, waits
from .block_basis import alive, extend, independent, ritz
from .block_pairs import BlockPairIteration, constant_preconditioner, extreme, first_block, ready
from .eigenpairs import pair_tolerance, quietly, report_pairs
from .iteration import extreme_scale
from .progress import observe

__all__ = ["Davidson"]

BLOCKS = 8  # blocks in the basis before it starts again from the first two


@dataclass(frozen=True)
class Davidson(BlockPairIteration):
    """The k largest ("LA") or smallest ("SA") eigenpairs of a self-adjoint operator by preconditioned
    residuals.

    tol: of the residuals, relative to the largest stretch of A met (default 1e-8 in double, 1e-5 in single).
    max_iters: steps, each with a block of products (default 1000). x0: (n, j) first vectors. P: an operator
    close to ``A^{-1}``, or a function A -> operator; without it ``(diag(A) - w)^{-1}`` is used, whose
    diagonal is asked of A once. guard: vectors beside the k wanted ones (default ``max(k // 2, 3)``). key:
    seed.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.SelfAdjoint(np.diag(np.arange(1.0, 201)) + 0.01)
    >>> w, V = cola.eigh(A, 2, "SA", cola.Davidson())
    >>> bool(np.allclose(w, np.linalg.eigvalsh(A.to_dense())[:2]))
    True
    """

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        b = self._width(operands[0], n)
        one = A.matmat_cost(b) + Cost(
            8.0 * BLOCKS * n * b * b, 4 * BLOCKS * A.itemsize * n * b, 0, 0, 60, syncs=waits(A, 6)
        )
        total = one * 100
        return Cost(
            total.flops,
            total.bytes,
            question_memory(A, 2 * BLOCKS * b),
            100 * b,
            total.calls,
            syncs=total.syncs,
        )

    def eigsh(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        from ..operators import Dense

        refuse_batches(A, "Davidson", "Eigh()")
        be = A._concrete_backend()
        largest = extreme(A, which, "Davidson")
        tol = pair_tolerance(be, A.dtype, self.tol, 1e-8)
        limit = 1000 if self.max_iters is None else int(self.max_iters)
        b = self._width(k, A.shape[-1])

        def precondition(operator: Any) -> Any:
            return constant_preconditioner(be, self.P, operator)

        def run(operator: Any) -> Any:
            X = first_block(be, operator, self.x0, self.key, b, "Davidson")
            P = precondition(operator)
            plain = be.is_concrete(*tree_leaves(operator)) and P is None
            with quietly(be):
                ready(be, P, X)
            d, asked = None, 0
            if P is None:
                d, asked = _diagonal(operator)
            f = be.jit(_iterate, static=("k", "largest", "watch")) if plain else _iterate
            with self.watched("Davidson", be, X, *tree_leaves(operator)) as watch, quietly(be):
                w, Y, steps, scale, code = f(operator, P, d, X, tol, limit, k=k, largest=largest, watch=watch)
                size = extreme_scale(be, operator, X, scale[None])
                if size is not None:
                    scaled, d = operator * (1 / size), None if d is None else d / size
                    w, Y, steps, scale, code = f(
                        scaled, P, d, X, tol, limit, k=k, largest=largest, watch=watch
                    )
                    w, scale = w * size, scale * size
            gap = be.frobenius(operator @ Y - Y * be.astype(w, Y.dtype), axis=-2)
            return w, Y, (gap, steps, scale, code, asked)

        w, Y, (gap, steps, scale, code, asked) = selfadjoint_pairs(
            be, A, run, tol, "Davidson", preconditioner=precondition
        )
        report_pairs(be, A, "Davidson", gap, scale, tol, steps, steps * b + b + k + asked, code)
        return w, Dense(Y, declared=frozenset({Stiefel}))


def _diagonal(A: Any) -> tuple[Array, int]:
    """The real diagonal of A, and the products that took."""
    from ..dispatch.choose import ask
    from ..linalg.diagonal import DIAG

    be = A._concrete_backend()
    quiet = Session(question="diag")
    token = SESSION.set(quiet)
    try:
        d = ask(DIAG, (A, 0), Auto())
    finally:
        SESSION.reset(token)
    # without a rule for it, the diagonal is read off products with the columns of the identity
    products = 0 if quiet.rule else A.shape[-1]
    return (be.xp.real(d) if be.is_complex(d) else d), products


def _iterate(
    A: Any,
    P: Any,
    d: Array | None,
    X: Array,
    tol: Any,
    limit: Any,
    *,
    k: int,
    largest: bool,
    watch: Any = None,
) -> tuple[Array, Array, Any, Array, Array]:
    """Ritz values and vectors, steps, the largest stretch met, and why it ended."""
    be = A._concrete_backend()
    xp = be.xp
    n, b = X.shape
    blocks = max(min(BLOCKS, n // b), 3)
    width = blocks * b
    eps = float(xp.finfo(be.real_dtype(A.dtype)).eps)
    X = independent(be, X)
    AX = A @ X
    scale = xp.max(be.norm(AX))
    rest = be.zeros((n, width - b), X.dtype, be.device(X))
    S, AS = xp.concat([X, rest], axis=-1), xp.concat([AX, rest], axis=-1)

    def measured(S: Array, AS: Array) -> tuple[Array, Array, Array, Array]:
        w, C = ritz(be, S, AS, alive(be, S), largest)
        X = be.matmul(S, C[:, :b])
        R = be.matmul(AS, C[:, :b]) - X * be.astype(w[:b], X.dtype)
        return w[:b], C, R, be.norm(R)

    def verdict(norms: Array, scale: Array) -> Array:
        code = xp.where(xp.max(norms[:k]) <= tol * scale, CONVERGED, RUNNING)
        return be.astype(xp.where(xp.isfinite(xp.max(norms)), code, NONFINITE), "int32")

    def corrected(R: Array, w: Array) -> Array:
        if P is not None:
            return P @ R
        gap = d[:, None] - w  # type: ignore[index]
        least = eps**0.5 * scale
        gap = xp.where(xp.abs(gap) < least, xp.where(gap < 0, -least, least), gap)
        return R / be.astype(xp.where(gap == 0, xp.ones_like(gap), gap), R.dtype)

    def running(state: Any) -> Any:
        return (state[-1] == RUNNING) & (state[0] < limit)

    def restarted(S: Array, AS: Array, C: Array) -> tuple[Array, Array]:
        zero = xp.zeros_like(S[:, 2 * b :])
        keep = C[:, : 2 * b]
        return xp.concat([be.matmul(S, keep), zero], axis=-1), xp.concat([be.matmul(AS, keep), zero], axis=-1)

    def body(state: Any) -> Any:
        step, filled, S, AS, w, C, R, norms, scale, _ = state
        full = filled + b > width
        if be.name == "jax":
            import jax

            S, AS = jax.lax.cond(full, restarted, lambda S, AS, C: (S, AS), S, AS, C)
            filled = xp.where(full, 2 * b, filled)
        elif full:
            S, AS = restarted(S, AS, C)
            filled = 2 * b
        active = be.astype(norms > 0.1 * tol * scale, S.dtype)
        W = extend(be, S, corrected(R, w) * active)
        AW = A @ W
        scale = xp.maximum(scale, xp.max(be.norm(AW)))
        if be.name == "jax":
            S = jax.lax.dynamic_update_slice(S, W, (0, filled))
            AS = jax.lax.dynamic_update_slice(AS, AW, (0, filled))
        else:
            S, AS = (be.put(M, (slice(None), slice(filled, filled + b)), N) for M, N in ((S, W), (AS, AW)))
        w, C, R, norms = measured(S, AS)
        code = observe(be, watch, step + 1, xp.max(norms[:k]), verdict(norms, scale))
        return step + 1, filled + b, S, AS, w, C, R, norms, scale, be.astype(code, "int32")

    w, C, R, norms = measured(S, AS)
    state = be.while_loop(running, body, (0, b, S, AS, w, C, R, norms, scale, verdict(norms, scale)))
    return state[4][:k], be.matmul(state[2], state[5][:, :k]), state[0], state[8], state[-1]
