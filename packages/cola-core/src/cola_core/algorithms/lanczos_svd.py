"""The largest singular triples of an operator known by its products: Golub-Kahan-Lanczos bidiagonalisation
with thick restart. Golub & Kahan 1965; Baglama & Reichel, SISC 27 (2005) 19; Hernández, Román & Tomás,
Electron. Trans. Numer. Anal. 31 (2008) 68. On JAX the iteration is one compiled loop of fixed shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..autodiff.eigenpairs import singular_triples, values_only
from ..backends.base import Array
from ..cost import Cost
from ..errors import UnknownNameError
from ..pytree import tree_leaves
from ..reasons import CONVERGED, NONFINITE, RUNNING
from .base import question_memory, refuse_batches, waits
from .eigenpairs import PairIteration, basis_size, pair_tolerance
from .iteration import extreme_scale
from .krylov import first_vector
from .orthogonal import orthogonalize, project
from .progress import observe
from .randomized_svd import wrapped
from .triples import refuse, report_triples, triple_residuals

__all__ = ["LanczosSVD"]


@dataclass(frozen=True)
class LanczosSVD(PairIteration):
    """The k largest singular triples by products with A and its adjoint, fully reorthogonalised. Works on A
    itself, not on ``A^H A``, so that singular values far below the largest keep their digits.

    tol: of the residuals ``|A v - s u|`` and ``|A^H u - s v|`` relative to the largest singular value
    (default 1e-10 in double, 1e-5 in single); they are recomputed at exit. max_iters: products with A
    (default ``max(20 k, 1000)``). basis: vectors kept on each side (default ``max(2 k + 1, 30)``). key: seed
    of the start vector. start_vector: (min(m, n),) to use instead. pbar: show progress. Copies of a multiple
    value are looked for by starting again beside those found.
    """

    start_vector: Any = None
    max_iters: int | None = None
    tol: float | None = None
    pbar: bool = False
    key: Any = 0
    basis: int | None = None

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if A.batch_shape:
            return "batches of operators are not supported"
        least = min(A.shape[-2:])
        if question == "norm":
            if operands[0] != 2:
                return f"the norm of order {operands[0]!r} needs more than the largest singular value"
            k = 1
        else:
            k, which = operands
            if which != "LM":
                return "the smallest singular values are out of reach of products alone"
        if 4 * k >= least:
            return f"{k} of {least} singular values is a large part of them"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        m, n = A.shape[-2:]
        k = 1 if question == "norm" else operands[0]
        width = basis_size(k, min(m, n), self.basis)
        steps = min(min(m, n), 10 * width)
        one = 2 * A.matvec_cost + Cost(
            4 * width * (m + n), 2 * width * A.itemsize * (m + n), 0, 0, 20, syncs=waits(A, 4)
        )
        total = one * steps
        return Cost(
            total.flops,
            total.bytes,
            2 * question_memory(A, width + 2),
            2 * steps,
            total.calls,
            syncs=total.syncs,
        )

    def norm(self, A: Any, ord: Any) -> Array:
        if ord != 2:
            raise UnknownNameError(f"LanczosSVD answers the norm of order 2, not {ord!r}.")
        with values_only():
            return self.svds(A, 1, "LM")[1][0]

    def svds(self, A: Any, k: int, which: str) -> tuple[Any, Array, Any]:
        refuse_batches(A, "LanczosSVD", "SVD()")
        be = A._concrete_backend()
        refuse(which, "LanczosSVD")
        m, n = A.shape[-2:]
        tol = pair_tolerance(be, A.dtype, self.tol)
        limit = max(20 * k, 1000) if self.max_iters is None else int(self.max_iters)
        least = min(m, n)
        width = basis_size(k, least, self.basis)
        if k < least and width > limit:
            width = max(limit, k + 2)
        width = min(width, least)

        def run(A: Any) -> Any:
            start = first_vector(A, self.start_vector, self.key, least, "LanczosSVD")
            tall, settled = A if m >= n else A.H, {"k": k, "width": width}
            concrete = be.is_concrete(*tree_leaves(A))
            f = be.jit(_iterate, static=("k", "width", "watch")) if concrete else _iterate
            with self.watched("LanczosSVD", be, start, *tree_leaves(A)) as watch:
                U, s, V, made, code = f(tall, start, tol, limit, watch=watch, **settled)
                size = extreme_scale(be, tall, start[:, None], s)
                if size is not None:
                    U, s, V, made, code = f(tall * (1 / size), start, tol, limit, watch=watch, **settled)
                    s = s * size
            U, V = (U, V) if m >= n else (V, U)
            return U, s, V, (made, code, triple_residuals(be, A, U, s, V))

        U, s, V, (made, code, residuals) = singular_triples(be, A, run, tol, "LanczosSVD")
        # the iteration's own bound was met with the tolerance; what rounding adds is allowed for
        report_triples(be, A, "LanczosSVD", residuals, s, tol, made, 2 * made + 2 * k, code)
        return wrapped(U, s, V)


def _iterate(
    A: Any, start: Array, tol: Any, limit: Any, *, k: int, width: int, watch: Any = None
) -> tuple[Array, Array, Array, Any, Array]:
    """U, s, V of the k largest triples, steps made, and why they ended; at least as many rows as columns."""
    be = A._concrete_backend()
    xp = be.xp
    m, n = A.shape[-2:]
    real = be.real_dtype(A.dtype)
    eps = float(xp.finfo(real).eps)
    fixed = be.name == "jax"
    device = be.device(start)
    AH = A.H
    usual = min(k + max((width - k) // 2, 1), width)
    zero = be.zeros((), real, device)
    U = be.zeros((width, m), start.dtype, device)
    V = be.zeros((width + 1, n), start.dtype, device)
    V = be.put(V, 0, start / xp.linalg.vector_norm(start))
    B = be.zeros((width, width), start.dtype, device)

    def fresh(basis: Array, count: Any, seed: Any) -> Array:
        w = be.normal(seed, (basis.shape[-1],), start.dtype, device)
        for _ in range(3):
            w, _ = project(be, basis, w, count)
            w = w / xp.linalg.vector_norm(w)
        return w

    def following(basis: Array, count: Any, w: Array, norm: Array, lost: Any, room: Any, seed: Any) -> Array:
        """``w / norm``, or a fresh direction where w is lost and there is room for one."""
        if fixed:
            import jax

            return jax.lax.cond(
                lost & room,
                lambda: fresh(basis, count, seed),
                lambda: xp.where(lost, 0 * w, w / xp.where(lost, xp.ones_like(norm), norm)),
            )
        if bool(lost):
            return fresh(basis, count, seed) if room else xp.zeros_like(w)
        return w / norm

    def step(state: Any) -> Any:
        j, U, V, B, scale, _, made = state
        u, c, a, _ = orthogonalize(be, U, A @ V[j], j)
        scale = xp.maximum(scale, a)
        if fixed:
            B = be.put(B, (slice(None), j), c)
        elif j:
            B = be.put(B, (slice(0, j), j), c)
            scale = xp.maximum(scale, xp.max(xp.abs(c)))
        # A v_j lies in the span of what there is: go on with a direction that A V does not need
        lost = a <= 10 * eps * m**0.5 * scale
        U = be.put(U, j, following(U, j, u, a, lost, True, made + 7))
        B = be.put(B, (j, j), be.astype(xp.where(lost, zero, a), B.dtype))
        w, _, b, _ = orthogonalize(be, V, AH @ U[j], j + 1)
        scale = xp.maximum(scale, b)
        lost = b <= 10 * eps * m**0.5 * scale
        V = be.put(V, j + 1, following(V, j + 1, w, b, lost, j + 1 < n, made + 3))
        return j + 1, U, V, B, scale, xp.where(lost, zero, b), made + 1

    def cycle(state: Any) -> Any:
        U, V, B, kept, made, scale, found, *_ = state
        _, U, V, B, scale, last, made = be.while_loop(
            lambda s: s[0] < width, step, (kept, U, V, B, scale, zero, made)
        )
        finite = xp.all(xp.isfinite(xp.abs(B))) & xp.isfinite(last)
        P, s, Q = be.svd(xp.where(finite, B, xp.zeros_like(B)))
        error = last * xp.abs(P[-1])
        done = xp.all(error[:k] <= tol * s[0])
        same = xp.all(xp.abs(s[:k] - found) <= 10 * tol * s[0])
        behind = error[k] <= xp.maximum(0.01 * (s[k - 1] - s[k]), tol * s[0]) if k < width else done
        over = done & ((same & behind) if width < n else True)
        code = xp.where(finite, xp.where(over, CONVERGED, RUNNING), NONFINITE)
        # one start vector meets one vector of each singular space: start again beside those found, until
        # nothing new is wanted and the next value is known well enough to stay behind
        again = done & ~same
        found = xp.where(again, s[:k], found)
        code = be.astype(observe(be, watch, made, xp.max(error[:k]), code), "int32")
        if fixed:
            import jax

            keep = xp.where(again, k, usual)
            rest = jax.lax.cond(again, lambda: fresh(Q.T @ V[:width], k, made + 11), lambda: V[width] + 0)
            V = be.put(V, slice(0, width), Q.T @ V[:width])
            U = P.T @ U
        else:
            keep = k if bool(again) else usual
            V = be.put(V, slice(0, keep), Q[:, :keep].T @ V[:width])
            U = be.put(U, slice(0, keep), P[:, :keep].T @ U)
            rest = fresh(V, keep, made + 11) if bool(again) and keep < n else V[width] + 0
        V = be.put(V, keep, rest)
        inside = xp.arange(width, device=None if fixed else device) < keep
        B = be.matrix_diag(be.astype(xp.where(inside, s, xp.zeros_like(s)), B.dtype))
        return U, V, B, keep, made, scale, found, s[:k], code

    def running(state: Any) -> Any:
        return (state[8] == RUNNING) & (state[4] < limit)

    nothing = be.zeros((k,), real, device)
    code = be.astype(zero, "int32") + RUNNING
    state: Any = (U, V, B, 0, 0, zero, nothing + float("inf"), nothing, be.astype(code, "int32"))
    U, V, _, _, made, _, _, s, code = be.while_loop(running, cycle, state)
    return U[:k].T, s, V[:k].T, made, code
