"""Conjugate gradients on a block of right-hand sides that share one Krylov space.
O'Leary, Linear Algebra Appl. 29 (1980) 293; with the residuals orthonormalised in every step, which removes
the breakdowns: Dubrulle, ETNA 12 (2001) 216, and for dependent columns Ji & Li, BIT 57 (2017) 379.

Every step works with matrices of k columns, so it runs at the speed of matrix products, and the block finds
the k outlying eigenvalues at once: what is left decides the number of steps. The residuals are
``R = Q S`` with orthonormal Q; S, k by k, shows when a column has converged and when directions have become
dependent. Directions that no unfinished column needs are taken out of the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array
from ..cost import Cost
from ..errors import NotPositiveDefiniteError
from ..properties import PSD
from ..reasons import BAD_PRECONDITIONER, BREAKDOWN, CONVERGED, INDEFINITE, NONFINITE, RUNNING
from .base import typical_steps, waits
from .columns import Best, Seen
from .krylov_solver import KrylovSolver
from .progress import Watch, observe

__all__ = ["BlockCG"]

NEGLIGIBLE = 0.05  # directions below this part of every column's tolerance are left out
WELL_CONDITIONED = 0.5  # pivots of a Gram matrix that differ less need no new basis


def _iterate(
    A: Any, P: Any, B: Array, X: Array | None, tol: Any, limit: Any, *, watch: Watch | None = None
) -> tuple[Array, Any, Any, Array, dict[str, Array]]:
    """The recurrence: best iterate, steps, products, per column why it stopped, and what is known of the norm
    and condition number of A."""
    be: Any = backend_of(B)
    xp = be.xp
    target = tol * be.norm(B)
    if X is None:
        X, R, products = xp.zeros_like(B), B, 0
    else:
        X, products = X + 0, 1
        R = B - A @ X
    eps = float(xp.finfo(target.dtype).eps)
    rnorm = be.norm(R)
    code = xp.where(rnorm <= target, CONVERGED, RUNNING)
    code = xp.where(xp.isfinite(rnorm), code, NONFINITE)
    # in units of the columns' tolerances: a column has converged when its part of S has norm one
    unit = be.astype(xp.where(target > 0, target, xp.ones_like(target)), B.dtype)
    R = xp.where((code == RUNNING)[..., None, :], R / unit[..., None, :], xp.zeros_like(R))
    start = be.eye(B.shape[-1], B.dtype, be.device(B)) + xp.zeros_like(xp.sum(R, axis=-2, keepdims=True))
    Q, D, S, _, L, alive, bad = _accurate(be, P, R, start, code)
    code = xp.where((code == RUNNING) & bad, BAD_PRECONDITIONER, code)
    # residuals of an inconsistent system grow without bound; one solution serves all, so one pair does
    best = Best(X + 0, rnorm, rnorm)
    seen = Seen.none(xp.max(rnorm, axis=-1, keepdims=True))
    state = (0, X, Q, S, D + 0, L, alive, rnorm, best, seen, code)

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[-1] == RUNNING)

    def body(state: Any) -> Any:
        step, X, Q, S, D, L, alive, rnorm, best, seen, code = state
        V = A @ D
        if not be.is_concrete(code) or step % 8 == 0:  # norms of tall blocks cost as much as the products
            seen = seen.block(be, D, V, xp.any(code == RUNNING, axis=-1, keepdims=True))
        inverse, code = _curvature(be, be.gram(D, V), alive, code)
        live = code == RUNNING
        if be.is_concrete(live) and not bool(xp.any(live)):
            return step + 1, X, Q, S, D, L, alive, rnorm, best, seen, code
        stopped = ~xp.any(live, axis=-1)[..., None, None]  # of a batch; what it holds may be NaN
        inverse = be.matmul(inverse, be.matmul(L, be.adjoint(L)))
        share = be.matmul(inverse, xp.where(live, unit, 0 * unit)[..., None, :] * S)
        X = be.matmul_add(X, _masked(be, D, stopped), share)
        Q = be.matmul_add(Q, _masked(be, V, stopped), -inverse)
        Q, Z, S, K, after, alive, bad = _orthonormal(be, P, Q, S, alive, code)
        code = xp.where((code == RUNNING) & bad, BAD_PRECONDITIONER, code)
        before = rnorm
        if P is None:
            rnorm = be.norm(be.matmul(be.adjoint(after), S))
        else:
            lengths = be.inner(S, be.matmul(be.gram(Q, Q), S))
            rnorm = xp.sqrt(xp.abs(lengths))
        best, _ = best.seen(be, X, rnorm * xp.abs(unit), live)
        code = xp.where((code == RUNNING) & (rnorm <= 1), CONVERGED, code)
        # residuals may grow with the root of the condition number, not beyond all digits
        code = xp.where((code == RUNNING) & (rnorm * tol > 1 / eps), BREAKDOWN, code)
        D = be.add_matmul(Z, _masked(be, D, stopped), be.cholesky_solve(L, K))
        # of columns that have stopped S no longer knows the residual
        rnorm = xp.where(live, rnorm * xp.abs(unit), before)
        code = observe(be, watch, step + 1, rnorm, code)
        return step + 1, X, Q, S, D, after, alive, rnorm, best, seen, code

    step, X, *_, rnorm, best, seen, code = be.while_loop(running, body, state)
    return best.better(be, X, rnorm), step, step + products, code, {**seen.facts(be), "lengths": be.norm(X)}


def _masked(be: Any, X: Array, gone: Array) -> Array:
    if be.is_concrete(gone) and not bool(be.xp.any(gone)):
        return X
    return be.xp.where(gone, be.xp.zeros_like(X), X)


def _curvature(be: Any, G: Array, alive: Array, code: Array) -> tuple[Array, Array]:
    """The inverse of ``D^H A D``, and codes: of all columns, since they share the directions."""
    xp = be.xp
    d = xp.linalg.diagonal(G)
    d = xp.real(d) if be.is_complex(d) else d
    finite = xp.all(xp.isfinite(xp.sum(G, axis=-1)), axis=-1)[..., None]
    positive = xp.all((d > 0) | ~alive, axis=-1)[..., None]
    # scaled to a diagonal of ones, so that directions of all lengths count alike
    scale = be.astype(xp.where(alive & (d > 0), d, xp.ones_like(d)) ** -0.5, G.dtype)
    ones = be.matrix_diag(be.astype(xp.ones_like(d), G.dtype))
    G = scale[..., :, None] * G * scale[..., None, :]
    G = xp.where((finite & positive)[..., None], G, ones)
    G = xp.where(alive[..., :, None], G, ones)
    L, definite = _cholesky(be, G)
    inverse = scale[..., :, None] * be.cholesky_solve(L, ones) * scale[..., None, :]
    inverse = xp.where(alive[..., :, None] & definite[..., None], inverse, xp.zeros_like(inverse))
    if not be.is_concrete(definite) or not bool(xp.all(definite & finite & positive)):
        # an eigenvalue below zero by more than rounding is the operator's, otherwise it is the recurrence's
        eps = float(xp.finfo(d.dtype).eps)
        negative = xp.min(be.eigvalsh(G), axis=-1)[..., None] < -100 * eps * G.shape[-1]
        live = code == RUNNING
        code = xp.where(live & ~finite, NONFINITE, code)
        code = xp.where(live & finite & (~positive | (~definite & negative)), INDEFINITE, code)
        code = xp.where((code == RUNNING) & ~definite, BREAKDOWN, code)
    return inverse, code


def _orthonormal(be: Any, P: Any, Q: Array, S: Array, alive: Array, code: Array) -> tuple[Any, ...]:
    """``Q S`` again, with columns of Q that are far from dependent (in the inner product of P).

    As it is while its Gram matrix is well-conditioned, made orthonormal by that matrix's Cholesky factor when
    it is less so, by ``_accurate``, which says what comes back, when the Gram matrix has lost the digits.
    """
    xp = be.xp
    small = be.is_concrete(code) and len(Q.shape) == 2
    if small and 2 * int(xp.sum(code == RUNNING)) <= Q.shape[-1]:
        return _accurate(be, P, Q, S, code)  # most columns are done: a smaller block serves the rest
    Z = Q if P is None else P @ Q
    ones = be.eye(Q.shape[-1], Q.dtype, be.device(Q))
    M = be.gram(Q, Z)
    finite = xp.all(xp.isfinite(xp.sum(M, axis=-1)), axis=-1)[..., None, None]
    M = xp.where(alive[..., :, None] & finite, M, ones)
    L, definite = _cholesky(be, M)
    pivots = xp.abs(xp.linalg.diagonal(L))
    top = xp.max(xp.where(alive, pivots, xp.zeros_like(pivots)), axis=-1)[..., None]
    eps = float(xp.finfo(pivots.dtype).eps)
    # the error of a Gram matrix grows with the square of the condition number
    fine = xp.all(definite & ((pivots > WELL_CONDITIONED * top) | ~alive))
    good = xp.all(definite & ((pivots > eps**0.25 * top) | ~alive))
    none = xp.zeros_like(definite)

    def as_it_is() -> Any:
        return Q, Z, S, M, L, alive, none

    def normalised() -> Any:
        inverse = be.adjoint(be.solve_triangular(L, ones, lower=True))
        once = be.matmul(Q, inverse)
        after = once if P is None else be.matmul(Z, inverse)
        return once, after, be.matmul(be.adjoint(L), S), L, ones + xp.zeros_like(L), alive, none

    def accurate() -> Any:
        return _accurate(be, P, Q, S, code)

    if be.is_concrete(good):
        return as_it_is() if bool(fine) else normalised() if bool(good) else accurate()
    if be.name != "jax":  # a trace without branches: the way that is right for all
        return accurate()
    import jax

    return jax.lax.cond(fine, as_it_is, lambda: jax.lax.cond(good, normalised, accurate))


def _accurate(be: Any, P: Any, Q: Array, S: Array, code: Array) -> tuple[Any, ...]:
    """``Q S``, of which unfinished columns need only some directions, as a product of orthonormal columns and
    a new S: ``(Q', Z' = P Q', S', Q^H Z', L', alive, bad)``.

    L': the Cholesky factor of ``Q'^H Z'``. alive: which directions remain; the others are zero, or gone where
    shapes may change. bad: whether P is not positive.
    """
    xp = be.xp
    Q, T = be.qr(Q)
    S = be.matmul(T, S)
    S = xp.where((code == RUNNING)[..., None, :], S, xp.zeros_like(S))
    U, sigma, _ = be.svd(S)
    alive = sigma > NEGLIGIBLE
    if be.is_concrete(alive) and len(Q.shape) == 2:
        U, alive = U[:, alive], alive[alive]
    U = xp.where(alive[..., None, :], U, xp.zeros_like(U))
    K = be.matmul(be.adjoint(T), U)
    Q, S = be.matmul(Q, U), be.matmul(be.adjoint(U), S)
    ones = be.eye(Q.shape[-1], Q.dtype, be.device(Q)) + be.matmul(xp.zeros_like(be.adjoint(U)), U)
    none = xp.zeros_like(code[..., :1], dtype=xp.bool)
    if P is None or not Q.shape[-1]:
        return Q, Q, S, K, ones, alive, none
    Z = P @ Q
    L, definite = _cholesky(be, xp.where(alive[..., :, None], be.matmul(be.adjoint(Q), Z), ones))
    inverse = be.adjoint(be.solve_triangular(L, ones, lower=True))
    Q, Z = be.matmul(Q, inverse), be.matmul(Z, inverse)
    return Q, Z, be.matmul(be.adjoint(L), S), be.matmul(K, L), ones, alive, ~definite


def _cholesky(be: Any, M: Array) -> tuple[Array, Array]:
    """Cholesky factors and, as (..., 1), where they exist; the identity where not."""
    xp = be.xp
    ones = be.eye(M.shape[-1], M.dtype, be.device(M)) + xp.zeros_like(M)
    if be.is_concrete(M):
        fine = (
            xp.ones_like(M[..., 0, :1], dtype=xp.bool)
            if M.shape[-1]
            else xp.ones(M.shape[:-1], dtype=xp.bool)
        )
        try:
            return be.cholesky(M), fine
        except NotPositiveDefiniteError:
            eps = float(xp.finfo(be.real_dtype(M.dtype)).eps)
            w = be.eigvalsh(M)
            fine = (w[..., 0] > 10 * eps * M.shape[-1] * w[..., -1])[..., None]
            return be.cholesky(xp.where(fine[..., None], M, ones)), fine
    L = be.cholesky(M)
    fine = xp.all(xp.isfinite(xp.sum(L, axis=-1)), axis=-1)[..., None]
    return xp.where(fine[..., None], L, ones), fine


@dataclass(frozen=True)
class BlockCG(KrylovSolver):
    """Solve ``A X = B`` for A self-adjoint positive definite and several right-hand sides: one product with
    all columns and ``12 n k^2`` flops a step, six blocks of memory.

    The columns help one another, so that fewer steps are needed than by ``CG``, by a factor of two to ten for
    some dozens of columns; dependent columns cost nothing. tol, max_iters, pbar, x0, P: as ``CG``.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.no_dispatch(cola.PSD(cola.ops.Diagonal(np.arange(1.0, 101.0))))
    >>> B = np.random.default_rng(0).standard_normal((100, 8))
    >>> X, info = cola.solve(A, B, cola.BlockCG(), return_info=True)
    >>> one, alone = cola.solve(A, B, cola.CG(), return_info=True)
    >>> bool(np.allclose(X, one)), info.iterations < alone.iterations / 2
    (True, True)
    """

    _method: ClassVar[str] = "block CG"
    _self_adjoint: ClassVar[bool] = True
    _own_condition: ClassVar[bool] = True
    _iterate: ClassVar[Any] = staticmethod(_iterate)

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.isa(PSD):
            return "the operator is not declared PSD"
        if len(operands[0].shape) < 2 or operands[0].shape[-1] < 2:
            return "one right-hand side: CG is the same with less work"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        r = min(k, n)
        # a block finds k outlying eigenvalues at once; on a two-dimensional Laplacian they grow like k
        steps = max(1.0, min(n / max(r, 1), typical_steps(n, self.tol, A.dtype) / max(r, 1) ** 0.4))
        one = A.matmat_cost(r) + Cost(
            12 * n * r * r + 30 * r**3, 18 * A.itemsize * n * r, 0, 0, 40, syncs=waits(A, 3)
        )
        total = one * steps
        return Cost(
            total.flops, total.bytes, self._memory(A, 7, operands), steps, total.calls, syncs=total.syncs
        )
