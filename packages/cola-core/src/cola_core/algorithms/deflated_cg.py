"""Conjugate gradients that hand a subspace on from one system to the next.
Deflation: Saad, Yeung, Erhel & Guyomarc'h, SIAM J. Sci. Comput. 21 (2000) 1909, alg. 4.1. Gathering the
subspace while solving: Stathopoulos & Orginos, SIAM J. Sci. Comput. 32 (2010) 439 (eigCG).

The residuals of CG are Lanczos vectors, and its coefficients are their tridiagonal matrix; so a window of
them, restarted thickly, yields the lowest eigenvectors without a further product. In the next system the
directions are kept conjugate to these, which takes the lowest eigenvalues out of the spectrum that decides
the number of steps. The subspace need not be exact: the operator may have changed since.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array, Backend
from ..cost import Cost
from ..dispatch.session import aside
from ..errors import ShapeError
from ..operators.sparse_rows import loop_form
from ..properties import PSD
from ..reasons import BAD_PRECONDITIONER, CONVERGED, INDEFINITE, NONFINITE, RUNNING
from .base import refuse_batches, typical_steps, waits
from .iteration import column_scale
from .krylov_solver import KrylovSolver
from .lanczos_step import real
from .progress import Watch, observe

__all__ = ["DeflatedCG", "Recycle"]


class Recycle:
    """What is handed on: ``basis``, at most ``size`` orthonormal vectors (n, k), or None before the first
    solve. It changes with every solve that it is given to; ``clear`` forgets."""

    def __init__(self, size: int = 8, basis: Array | None = None) -> None:
        if size < 1:
            raise ShapeError(f"Recycle(size=...) must be at least 1, not {size}.")
        self.size = int(size)
        self.basis = basis

    def clear(self) -> None:
        """Start anew."""
        self.basis = None

    def __repr__(self) -> str:
        held = 0 if self.basis is None else self.basis.shape[-1]
        return f"Recycle(size={self.size}, holds {held} vectors)"


def _iterate(
    A: Any,
    P: Any,
    W: Array | None,
    B: Array,
    X: Array | None,
    tol: Any,
    limit: Any,
    *,
    size: int,
    watch: Watch | None = None,
) -> tuple[Any, ...]:
    """The recurrence: solution, steps, products, why each column stopped, and approximate eigenvectors (n,
    2 size), zeros where there are none."""
    be: Any = backend_of(B)
    xp = be.xp
    target = tol * be.norm(B)
    products: Any = 0
    X = xp.zeros_like(B) if X is None else X + 0
    if W is not None:
        AW = A @ W
        E = be.matmul(be.adjoint(W), AW)
        E = (E + be.adjoint(E)) / 2

        def inside(Y: Array) -> Array:
            return be.matmul(W, xp.linalg.solve(E, Y))

        X = X + inside(be.matmul(be.adjoint(W), B - A @ X))
        products += 3

        def conjugate(Z: Array) -> Array:
            return Z - inside(be.matmul(be.adjoint(AW), Z))
    else:
        products += 1

        def conjugate(Z: Array) -> Array:
            return Z + 0

    R = B - A @ X
    Z = R if P is None else P @ R
    rho = real(be, be.inner(R, Z))
    one, zero = xp.ones_like(rho), xp.zeros_like(rho)
    rnorm = be.norm(R)
    code = xp.where(rnorm <= target, CONVERGED, RUNNING)
    code = xp.where((code == RUNNING) & ~(rho > 0), BAD_PRECONDITIONER, code)
    n, width = B.shape[-2], _width(size)
    V, T = be.zeros((n, width), B.dtype, be.device(B)), be.zeros((width, width), rho.dtype, be.device(B))
    window = (V, T, 0, be.zeros((width,), rho.dtype, be.device(B)))
    state = (0, X, R, Z, conjugate(Z), rho, one, zero, window, code)

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[-1] == RUNNING)

    def body(state: Any) -> Any:
        step, X, R, Z, D, rho, alpha, ratio, window, code = state
        Q = A @ D
        curvature = real(be, be.inner(D, Q))
        finite = xp.isfinite(curvature)
        code = xp.where((code == RUNNING) & ~finite, NONFINITE, code)
        code = xp.where((code == RUNNING) & ~(curvature > 0), INDEFINITE, code)
        live = code == RUNNING
        step_of = xp.where(live, rho / xp.where(live, curvature, one), zero)
        if size:
            window = _with_step(be, window, Z, rho, step_of, alpha, ratio, live, size)
        move = be.astype(step_of, B.dtype)[..., None, :]
        X = xp.where(live[None, :], X + move * D, X)
        R = xp.where(live[None, :], R - move * Q, R)
        Z = R if P is None else P @ R
        new, rnorm = real(be, be.inner(R, Z)), be.norm(R)
        code = xp.where((code == RUNNING) & (rnorm <= target), CONVERGED, code)
        code = xp.where((code == RUNNING) & ~(new > 0), BAD_PRECONDITIONER, code)
        live = code == RUNNING
        after = xp.where(live, new / xp.where(rho > 0, rho, one), zero)
        D = conjugate(Z) + be.astype(after, B.dtype)[..., None, :] * D
        if size:  # how this vector is coupled to the next one
            off = -xp.sqrt(after[0]) / xp.where(step_of[0] > 0, step_of[0], 1)
            window = _coupled(be, window, off, size)
        code = observe(be, watch, step + 1, rnorm, code)
        return step + 1, X, R, Z, D, xp.where(live, new, rho), step_of, after, window, code

    step, X, *_, window, code = be.while_loop(running, body, state)
    return X, step, step + products, code, (_lowest(be, window, size) if size else None)


def _width(size: int) -> int:
    return max(4 * size, 2 * size + 12)


def _with_step(
    be: Any,
    window: Any,
    Z: Array,
    rho: Array,
    step_of: Array,
    before: Array,
    ratio: Array,
    live: Array,
    size: int,
) -> Any:
    """The window with the Lanczos vector of a step, and its row of the tridiagonal matrix."""
    xp = be.xp
    going = live[0] & (step_of[0] > 0)
    entry = 1 / xp.where(going, step_of[0], 1) + ratio[0] / xp.where(before[0] > 0, before[0], 1)
    vector = Z[:, 0] / be.astype(xp.sqrt(xp.where(rho[0] > 0, rho[0], 1)), Z.dtype)
    return _added(be, window, vector, entry, going, size)


def _added(be: Any, window: Any, vector: Array, entry: Array, going: Array, size: int) -> Any:
    """The window with one more vector, its diagonal entry and its coupling to those before."""
    V, T, j, coupling = window
    xp = be.xp
    if be.is_concrete(going):
        if not bool(going):
            return window
        V = be.put(V, (slice(None), j), vector)
        T = be.put(be.put(T, (j, slice(None)), coupling), (slice(None), j), coupling)
        return V, be.put(T, (j, j), entry), j + 1, coupling
    grown = T.at[j, :].set(coupling).at[:, j].set(coupling).at[j, j].set(entry)
    V = xp.where(going, V.at[:, j].set(vector), V)
    return V, xp.where(going, grown, T), j + going, coupling


def _coupled(be: Any, window: Any, off: Array, size: int) -> Any:
    """What the next vector is coupled to: the last one; or all that remain, where the window was full."""
    V, T, j, _ = window
    width = V.shape[1]
    xp = be.xp
    positions = xp.arange(width, device=be.device(V))

    def last() -> Any:
        return V, T, j, off * be.astype(positions == j - 1, T.dtype)

    def restarted() -> Any:
        w, Y = _compressed(be, T, size)
        kept = be.matmul(V, be.astype(Y, V.dtype))
        pad = be.zeros((V.shape[0], width - 2 * size), V.dtype, be.device(V))
        zeros = be.zeros((width - 2 * size,), T.dtype, be.device(V))
        coupling = xp.concat([off * Y[-1], zeros], axis=0)
        return (
            xp.concat([kept, pad], axis=1),
            be.matrix_diag(xp.concat([w, zeros], axis=0)),
            2 * size,
            coupling,
        )

    if be.is_concrete(off):
        return restarted() if int(j) == width else last()
    import jax

    def whole(made: Any) -> Any:
        V, T, j, coupling = made
        return V, T, xp.asarray(j, dtype=xp.int32), coupling

    return jax.lax.cond(j == width, lambda: whole(restarted()), lambda: whole(last()))


def _compressed(be: Any, T: Array, size: int) -> tuple[Array, Array]:
    """The lowest eigenvectors of T and of T without its last row, combined: ``2 size`` Ritz values and
    orthonormal vectors."""
    xp = be.xp
    U = be.eigh(T)[1][:, :size]
    before = be.eigh(T[:-1, :-1])[1][:, :size]
    before = xp.concat([before, be.zeros((1, size), T.dtype, be.device(T))], axis=0)
    Q, _ = be.qr(xp.concat([U, before], axis=1))
    w, Z = be.eigh(be.matmul(be.adjoint(Q), be.matmul(T, Q)))
    return w, be.matmul(Q, Z)


def _lowest(be: Any, window: Any, size: int) -> Array:
    """The lowest Ritz vectors that the window holds now."""
    V, T, j, _ = window
    xp = be.xp
    width = V.shape[1]
    d = xp.linalg.diagonal(T)
    held = xp.arange(width, device=be.device(V)) < j
    # what is not held goes to the other end of the spectrum
    far = 4 * xp.max(xp.sum(xp.abs(T), axis=-1)) + 1
    T = T + be.matrix_diag(xp.where(held, xp.zeros_like(d), far))
    return be.matmul(V, be.astype(be.eigh(T)[1][:, : 2 * size], V.dtype))


@dataclass(frozen=True)
class DeflatedCG(KrylovSolver):
    """Solve ``A x = b`` for A self-adjoint positive definite, and make the next such system cheaper.

    recycle: a ``Recycle``, whose subspace is used and then replaced by a better one; None gathers nothing.
    A step costs ``4 n size`` flops more than one of ``CG`` and the gathering, from the first column, about
    ``16 n size``; memory is ``4 size`` vectors. In a traced program the subspace is used, not replaced. tol,
    max_iters, pbar, x0, P: as ``CG``.

    >>> import numpy as np, cola_core as cola
    >>> values = np.r_[np.logspace(-4, -1, 8), np.linspace(1, 2, 192)]
    >>> A = cola.no_dispatch(cola.PSD(cola.ops.Diagonal(values)))
    >>> rng, space = np.random.default_rng(0), cola.Recycle(8)
    >>> steps = []
    >>> for _ in range(3):
    ...     b = rng.standard_normal(200)
    ...     x, info = cola.solve(A, b, cola.DeflatedCG(recycle=space), return_info=True)
    ...     steps.append(info.iterations)
    >>> steps[-1] < steps[0] / 2
    True
    """

    recycle: Recycle | None = None

    _method: ClassVar[str] = "deflated CG"
    _self_adjoint: ClassVar[bool] = True
    _iterate: ClassVar[Any] = staticmethod(_iterate)

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return True if A.isa(PSD) else "the operator is not declared PSD"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        size = 0 if self.recycle is None else self.recycle.size
        steps = typical_steps(n, self.tol, A.dtype)
        work = Cost(
            n * k * (10 + 20 * size), (12 + 6 * size) * A.itemsize * n * k, 0, 0, 30, syncs=waits(A, 3)
        )
        total = (A.matmat_cost(k) + work) * steps
        return Cost(
            total.flops,
            total.bytes,
            self._memory(A, 6 + 5 * size, operands),
            steps,
            total.calls,
            syncs=total.syncs,
        )

    def _run(
        self,
        be: Backend,
        A: Any,
        P: Any,
        B: Array,
        X: Array | None,
        tol: float,
        limit: Any,
        estimates: bool = True,
    ) -> tuple[Array, Any, Any, Array, dict[str, Array]]:
        refuse_batches(A, "DeflatedCG", "CG()")
        if len(B.shape) > 2:  # one operator: a batch of right-hand sides is so many columns
            lead, (n, k), xp = B.shape[:-2], B.shape[-2:], be.xp

            def flat(Y: Array) -> Array:
                return xp.reshape(xp.moveaxis(xp.reshape(Y, (-1, n, k)), 0, 1), (n, -1))

            X, steps, products, codes, facts = self._run(
                be, A, P, flat(B), None if X is None else flat(X), tol, limit
            )
            X = xp.reshape(xp.moveaxis(xp.reshape(X, (n, -1, k)), 1, 0), (*lead, n, k))
            return X, steps, products, xp.reshape(codes, (*lead, k)), facts
        scale = column_scale(be, B)
        if scale is not None:
            B = B / scale
            X = None if X is None else X / scale
        W = self._basis(be, B)
        size = 0 if self.recycle is None else min(self.recycle.size, max(B.shape[-2] // 4, 1))
        if be.name == "jax":
            A = loop_form(A)
        with aside(), self.watched(self._method, limit, be, B) as watch:
            run = be.jit(_iterate, static=("watch", "size"))
            X, steps, products, codes, found = run(A, P, W, B, X, tol, limit, size=size, watch=watch)
        if self.recycle is not None and found is not None and be.is_concrete(X, found):
            self.recycle.basis = _best(be, A, W, found, self.recycle.size)
            products = products + 1
        return (X if scale is None else X * scale), steps, products, codes, {}

    def _basis(self, be: Backend, B: Array) -> Array | None:
        W = None if self.recycle is None else self.recycle.basis
        if W is None:
            return None
        if W.shape[-2] != B.shape[-2]:
            raise ShapeError(
                f"DeflatedCG(recycle=...) holds vectors of length {W.shape[-2]}, the right-hand side has "
                f"{B.shape[-2]}; give each size its own Recycle, or clear() it."
            )
        return be.astype(be.asarray(W), B.dtype)


def _best(be: Any, A: Any, W: Array | None, found: Array, size: int) -> Array | None:
    """The lowest Ritz vectors of A in the old subspace and the new one together: one product with a block."""
    xp = be.xp
    both = found if W is None else xp.concat([W, found], axis=1)
    if not be.all_finite(both):
        return W
    Q, s, _ = be.svd(both)
    Q = Q[:, s > 1e-6]  # columns are of norm one, or zero
    if not Q.shape[-1]:
        return W
    H = be.matmul(be.adjoint(Q), A @ Q)
    if not be.all_finite(H):
        return W
    w, U = be.eigh((H + be.adjoint(H)) / 2)
    return be.matmul(Q, U[:, w > 0][:, :size]) if bool(xp.any(w > 0)) else W
