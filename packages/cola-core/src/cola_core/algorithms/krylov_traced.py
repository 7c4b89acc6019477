"""``f(A) b`` from a Krylov space where values cannot be looked at, and what its derivative needs there.

The same method as ``krylov_function``, in a program of fixed shape: a fixed basis, filled in chunks that are
skipped once every column has met the tolerance (JAX), or a given number of steps (PyTorch). Where a function
of the user is differentiated in JAX, that goes through the steps: what breaks down has no derivative there,
NaN, never a wrong number.
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array, Backend
from ..dispatch.choose import ask
from ..errors import DTypeError
from ..info import Info
from ..properties import PSD
from .base import Auto
from .krylov import _no_derivative
from .krylov_function import _step
from .orthogonal import orthogonalize

__all__ = ["STEPS", "krylov_function_traced"]

STEPS = 128  # vectors of the basis where their number cannot depend on values
GENERAL_STEPS = 64  # the same for general operators, whose small problems cost more
CHUNK = 16


def krylov_function_traced(
    A: Any, f: Any, X: Array, hermitian: bool, tol: float, m: int
) -> tuple[Array, Info]:
    """``f(A) X`` in at most m steps; the Info's numbers are arrays of the trace."""
    be = A._concrete_backend()
    xp = be.xp
    norms = be.norm(X)
    safe = xp.where(norms > 0, norms, xp.ones_like(norms))
    start = X.mT / be.astype(safe, X.dtype)[:, None]
    if be.name == "jax":
        fill = be.automatic(lambda A, start: _filled(be, A, f, start, hermitian, tol, m))
        Q, H, steps, error = fill(A, start)
    else:
        Q, H = _listed(be, A, start, hermitian, m)
        steps, error = m, None
    count = Q.shape[1] if not hermitian or be.name != "jax" else steps
    c = _coefficients(be, A, f, H, count, hermitian)
    size = xp.linalg.vector_norm(be.constant(c), axis=-1)
    if error is None:
        short = max(3 * H.shape[-1] // 4, 1)
        if short < H.shape[-1] and H.shape[-1] < A.shape[-1]:
            less = _coefficients(be, A, f, be.constant(H)[:, :short, :short], short, hermitian)
            pad = be.zeros((c.shape[0], c.shape[1] - short), c.dtype, be.device(c))
            change = be.constant(c) - xp.concat([less, be.astype(pad, less.dtype)], axis=-1)
            error = xp.linalg.vector_norm(change, axis=-1)
        else:
            error = 0 * size
    relative = error / xp.where(size > 0, size, xp.ones_like(size))
    relative = xp.max(xp.where(norms > 0, relative, xp.zeros_like(relative)))
    Y = xp.matmul(be.astype(Q, c.dtype).mT, c[..., None])[..., 0]
    Y = xp.where((norms > 0)[:, None], Y, xp.zeros_like(Y)) * be.astype(norms, Y.dtype)[:, None]
    concrete = be.is_concrete(relative)
    met = bool(relative <= tol) if concrete else relative <= tol
    info = Info(
        method=f"{'Lanczos' if hermitian else 'Arnoldi'} {f.name}",
        converged=met,
        reason=("converged" if met else "step limit reached") if concrete else "see converged",
        iterations=steps,
        matvecs=steps * X.shape[-1],
        tolerance=tol,
        error_estimate=be.number(relative) if concrete else relative,
    )
    return Y.mT, info


def _filled(
    be: Backend, A: Any, f: Any, start: Array, hermitian: bool, tol: float, m: int
) -> tuple[Array, Array, Any, Array | None]:
    """JAX: the basis (k, m, n), H (k, m, m), steps made, and the error where chunks were watched."""
    import jax

    xp = be.xp
    k, n = start.shape
    Q = be.put(be.zeros((k, m + 1, n), A.dtype), (slice(None), 0), start)
    H = be.zeros((k, m + 1, m), A.dtype)
    real = be.real_dtype(A.dtype)
    scale = be.zeros((k,), real)

    def one(j: Any, state: Any) -> Any:
        Q, H, scale = state
        Q, scale, c, b = _step(be, A, Q, scale, j, hermitian)
        alive = (b > 0) | (j + 1 >= m)
        Q = Q.at[:, jax.numpy.minimum(j + 1, m)].add(_no_derivative(be, Q[:, j], alive[:, None]))
        column = c.at[:, j + 1].set(be.astype(b, c.dtype))
        return Q, H.at[:, :, j].set(column), scale

    if not hermitian:
        Q, H, _ = jax.lax.fori_loop(0, m, one, (Q, H, scale))
        return Q[:, :m], H[:, :m], m, None
    error = xp.full((k,), float("inf"), dtype=real)
    blank = be.zeros((k, m), A.dtype if f.real else xp.result_type(A.dtype, xp.complex64))

    def chunk(first: Any, count: int, state: Any) -> Any:
        basis, steps, error, old, change = state
        basis = jax.lax.fori_loop(0, count, lambda i, s: one(first + i, s), basis)
        quiet = jax.lax.stop_gradient(basis[1])[:, :m]
        c = jax.lax.stop_gradient(_coefficients(be, A, f, quiet, first + count, True)).astype(old.dtype)
        new = xp.linalg.vector_norm(c - old, axis=-1)
        rate = xp.minimum(new / xp.where(change > 0, change, xp.ones_like(change)), 0.999)
        tail = xp.where(xp.isfinite(change), xp.maximum(new, new * rate / (1 - rate)), float("inf"))
        ended = (first + count >= n) | (xp.min(_below(quiet, first + count), axis=-1) == 0)
        error = xp.where(ended, xp.zeros_like(tail), tail).astype(real)
        return basis, first + count, error, c, new.astype(real)

    def turn(state: Any, i: Any, count: int = CHUNK) -> Any:
        size = xp.linalg.vector_norm(state[3], axis=-1)
        zero = xp.linalg.vector_norm(start, axis=-1) == 0
        done = xp.all((state[2] <= tol * size) | zero)
        return jax.lax.cond(done, lambda s: s, lambda s: chunk(i * CHUNK, count, s), state)

    state = ((Q, H, scale), xp.asarray(0), error, blank, error)
    whole, rest = divmod(m, CHUNK)
    body = jax.checkpoint(lambda s, i: (turn(s, i), None))
    state, _ = jax.lax.scan(body, state, xp.arange(whole))
    if rest:
        state = turn(state, xp.asarray(whole), rest)
    (Q, H, _), steps, error, _, _ = state
    return Q[:, :m], H[:, :m], steps, jax.lax.stop_gradient(error)


def traced_pairs(A: Any, f: Any, G: Array, X: Array, hermitian: bool, m: int) -> tuple[Array, Array]:
    """``krylov_derivative``'s pairs for X, G (n, k) from m steps each."""
    from ..linalg.lazy_function import reflected
    from ..operators import Dense
    from .divided_differences import divided

    be = A._concrete_backend()
    xp = be.xp
    spaces = []
    for B, start in ((A if hermitian else _Turned(A), G), (A, X)):
        norms = be.norm(start)
        safe = xp.where(norms > 0, norms, xp.ones_like(norms))
        Q, H = _basis(be, B, start.mT / be.astype(safe, start.dtype)[:, None], hermitian, m)
        spaces.append((Q, H, norms))
    (U, Hg, g), (V, Hb, b) = spaces
    if hermitian:
        a, S = _unreduced(be, A, f, Hg)
        c, R = _unreduced(be, A, f, Hb)
        F = be.conj(divided(be, f, [a[:, :, None], c[:, None, :]]))
        seen = S[:, 0, :, None] * R[:, 0, None, :]
        C = xp.matmul(
            xp.matmul(be.astype(S, A.dtype), be.astype(F * seen, A.dtype)), be.astype(R, A.dtype).mT
        )
    else:
        Hg, Hb = _filled_in(be, f, Hg), _filled_in(be, f, Hb)
        first = be.eye(m, A.dtype)[:, :1] * be.eye(m, A.dtype)[:1, :] + 0 * Hg
        top = xp.concat([Hg, first], axis=-1)
        whole = xp.concat([top, xp.concat([0 * Hg, be.adjoint(Hb)], axis=-1)], axis=-2)
        C = ask_dense(f if f.kind else reflected(f), Dense(whole))[..., :m, m:]
    size = be.astype(g * b, A.dtype)[:, None, None]
    left = xp.matmul(U.mT, xp.where(size == 0, 0 * C, C * size))
    return tuple(xp.reshape(xp.moveaxis(W, 0, 1), (W.shape[1], -1)) for W in (left, V.mT))


class _Turned:
    """A^H by its products."""

    def __init__(self, A: Any) -> None:
        self.dtype, self._matmat = A.dtype, A._rmatmat


def _basis(be: Backend, A: Any, start: Array, hermitian: bool, m: int) -> tuple[Array, Array]:
    """m steps: the basis (k, m, n) and H (k, m, m), zero behind a breakdown."""
    xp = be.xp
    k, n = start.shape
    Q = be.put(be.zeros((k, m + 1, n), A.dtype, be.device(start)), (slice(None), 0), start)
    H = be.zeros((k, m + 1, m), A.dtype, be.device(start))
    state = (Q, H, be.zeros((k,), be.real_dtype(A.dtype), be.device(start)))

    def one(j: Any, state: Any) -> Any:
        Q, H, scale = state
        Q, scale, c, left = _step(be, A, Q, scale, j, hermitian)
        if be.name == "jax":
            return Q, H.at[:, :, j].set(c.at[:, j + 1].set(be.astype(left, c.dtype))), scale
        pad = be.zeros((k, m - j), c.dtype, be.device(c))
        column = xp.concat([c[:, : j + 1], be.astype(left, c.dtype)[:, None], pad[:, 1:]], axis=-1)
        return Q, be.put(H, (slice(None), slice(None), j), column), scale

    if be.name == "jax":
        import jax

        Q, H, _ = jax.lax.fori_loop(0, m, one, state)
    else:
        for j in range(m):
            state = one(j, state)
        Q, H, _ = state
    return Q[:, :m], H[:, :m]


def _unreduced(be: Backend, A: Any, f: Any, H: Array) -> tuple[Array, Array]:
    """Ritz values (k, m) and vectors of tridiagonal H; rows behind a breakdown are of no weight, and their
    values that of the first row, where f is defined."""
    xp = be.xp
    m = H.shape[-1]
    alpha = xp.real(xp.linalg.diagonal(H)) if be.is_complex(H) else xp.linalg.diagonal(H)
    beta = xp.abs(xp.linalg.diagonal(H, offset=-1))
    used = _used(be, beta, xp.arange(m, device=be.device(H)), m)
    T = be.matrix_diag(xp.where(used, alpha, alpha[:, :1] + 0 * alpha))
    if m > 1:
        side = be.matrix_diag(xp.where(used[:, 1:], beta, xp.zeros_like(beta)))
        zero = xp.zeros_like(side[:, :, :1])
        row = xp.zeros_like(T[:, :1, :])
        upper = xp.concat([xp.concat([zero, side], axis=-1), row], axis=-2)
        T = T + upper + upper.mT
    theta, S = be.eigh(T)
    eps = float(xp.finfo(theta.dtype).eps)
    present = S[:, 0, :] ** 2 > (10 * eps) ** 2
    if f.needs_positive and A.isa(PSD):
        theta = xp.maximum(theta, xp.zeros_like(theta))
    # values without weight may lie where f has no derivative
    return xp.where(present, theta, alpha[:, :1] + 0 * theta), xp.where(
        present[:, None, :], S, xp.zeros_like(S)
    )


def _below(H: Array, count: Any) -> Array:
    """Norms below the diagonal of the first ``count`` columns (1 behind them), (k, m - 1)."""
    import jax.numpy as jnp

    b = jnp.abs(jnp.diagonal(H, -1, axis1=-2, axis2=-1))
    return (
        jnp.where(jnp.arange(b.shape[-1]) < count - 1, b, 1) if b.shape[-1] else jnp.ones((*b.shape[:-1], 1))
    )


def _listed(be: Backend, A: Any, start: Array, hermitian: bool, m: int) -> tuple[Array, Array]:
    """m steps with nothing overwritten: the basis (k, m, n) and H (k, m, m)."""
    xp = be.xp
    vectors, columns = [start], []
    size = 0.0
    eps = float(xp.finfo(be.real_dtype(A.dtype)).eps)
    for j in range(m):
        known = xp.stack(vectors, axis=1)
        w = A._matmat(vectors[j].mT).mT
        size = xp.maximum(
            xp.linalg.vector_norm(be.constant(w), axis=-1), size + 0 * be.constant(w[:, 0].real)
        )
        w, c, left, _ = orthogonalize(be, known, w)
        alive = be.constant(left) > 10 * eps * w.shape[-1] ** 0.5 * size
        norm = xp.where(alive, left, xp.zeros_like(left))
        q = xp.where(
            alive[:, None], w / be.astype(xp.where(alive, left, xp.ones_like(left)), w.dtype)[:, None], 0 * w
        )
        column = [c, be.astype(norm, c.dtype)[:, None]]
        if j + 1 < m:
            column.append(be.zeros((c.shape[0], m - j - 2), c.dtype, be.device(c)))
            q = q + _no_derivative(be, w, alive[:, None])
        columns.append(xp.concat(column, axis=-1)[:, :m])
        vectors.append(q)
    return xp.stack(vectors[:m], axis=1), xp.stack(columns, axis=-1)


def _coefficients(be: Backend, A: Any, f: Any, H: Array, count: Any, hermitian: bool) -> Array:
    """``f(H) e_1`` (k, m), for the leading ``count`` columns of H."""
    from ..operators import Dense

    xp = be.xp
    m = H.shape[-1]
    if not hermitian:
        F = ask_dense(f, Dense(_filled_in(be, f, H)))
        return F[..., :, 0]
    alpha = xp.linalg.diagonal(H)
    alpha = xp.real(alpha) if be.is_complex(alpha) else alpha
    beta = xp.abs(xp.linalg.diagonal(H, offset=-1)) if m > 1 else alpha[:, :0]
    if be.is_complex(H) and m > 1:
        beta = xp.real(xp.linalg.diagonal(H, offset=-1))
    scale = be.constant(xp.max(xp.abs(alpha), axis=-1) + (xp.max(beta, axis=-1) if m > 1 else 0))
    scale = xp.where(scale > 0, scale, xp.ones_like(scale))[:, None]
    place = xp.arange(m, device=be.device(H))
    used = _used(be, beta, place, count)
    # rows without a step: eigenvalues of their own, away from the others and from each other
    alpha = xp.where(used, alpha, scale * (2 + be.astype(place, alpha.dtype) / m))
    T = be.matrix_diag(alpha)
    if m > 1:
        off = xp.where(used[:, 1:], beta, xp.zeros_like(beta))
        side = be.matrix_diag(off)
        zero = xp.zeros_like(side[:, :, :1])
        row = xp.zeros_like(alpha)[:, None, :]
        upper = xp.concat([xp.concat([zero, side], axis=-1), row], axis=-2)
        T = T + upper + upper.mT
    theta, S = be.eigh(T)
    first = S[..., 0, :]
    weight = be.constant(first) ** 2
    eps = float(xp.finfo(theta.dtype).eps)
    present = weight > (10 * eps) ** 2
    top = xp.max(xp.where(present, theta, xp.full_like(theta, -float("inf"))), axis=-1)[..., None]
    if f.needs_positive and A.isa(PSD):
        theta = xp.maximum(theta, xp.zeros_like(theta))
    theta = xp.where(present, theta, be.constant(top) + xp.zeros_like(theta))
    argument = be.astype(theta, A.dtype) if f.needs_positive and A._is_complex() else theta
    values = f.on(be, argument)
    if be.is_complex(values) and f.real and not A._is_complex():
        raise DTypeError(
            f"{f.name} gave complex values at eigenvalues of {A!r} although it is real "
            "at 1. Let it return a complex dtype always."
        )
    values = xp.where(present, values, xp.zeros_like(values))
    c = xp.sum(be.astype(S, values.dtype) * (values * first)[..., None, :], axis=-1)
    return c if be.is_complex(c) else be.astype(c, A.dtype)


def _filled_in(be: Backend, f: Any, H: Array) -> Array:
    """Behind a breakdown H is zero: what stands there must be in the domain of f, and counts for nothing."""
    xp = be.xp
    if H.shape[-1] == 1:
        return H
    below = xp.abs(xp.linalg.diagonal(be.constant(H), offset=-1))
    dead = xp.concat([xp.zeros_like(below[:, :1]), xp.cumsum(1.0 * (below == 0), axis=-1)], axis=-1) > 0
    fill = be.constant(H[:, 0, 0])
    if f.needs_positive or f.needs_nonzero:
        fill = be.astype(xp.linalg.vector_norm(be.constant(H[:, :, 0]), axis=-1), H.dtype)
    return H + be.matrix_diag(xp.where(dead, fill[:, None] + 0 * H[:, 0], 0 * H[:, 0]))


def _used(be: Backend, beta: Array, place: Array, count: Any) -> Array:
    """Which rows belong to the leading unreduced block, (k, m)."""
    xp = be.xp
    steady = place[None, :] < count
    if not beta.shape[-1]:
        return steady & xp.ones_like(steady)
    whole = xp.cumsum(1.0 * (be.constant(beta) == 0), axis=-1) == 0
    return steady & xp.concat([xp.ones_like(whole[:, :1]), whole], axis=-1)


def ask_dense(f: Any, small: Any) -> Array:
    """``f`` of a batch of small dense matrices, by whatever the library has for it."""
    from ..linalg.matrix_function import APPLY_UNARY

    return ask(APPLY_UNARY, (small, f), Auto()).to_dense()
