"""Thick-restart block Lanczos whose steps look at no value: the iteration behind ``DeviceLanczos``.

Wu & Simon, SIAM J. Matrix Anal. Appl. 22 (2000) 602, for single vectors; blocks as in Zhou & Saad, Numer.
Algorithms 47 (2008) 341. A basis of m orthonormal rows is filled from row ``usual`` on, a block of b rows a
step, orthogonalised in full and twice; then the projected matrix, which is small, goes to the host, which
decides, and the basis is compressed to the wanted part. So every cycle but the first makes the same steps on
the same memory, and one graph serves all of them.

What a step finds dependent becomes rows of zeros, "dead" ones: they add nothing to later projections, and the
Rayleigh-Ritz step passes them by. After the cycle random directions take their place, so that an exhausted
Krylov space (multiples of the identity, low rank, few eigenvalues) goes on beside what was found.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from cola_core.backends import Backend
from cola_core.reasons import CONVERGED, NONFINITE, RUNNING

from .blocks import Block
from .settings import told

__all__ = ["block_restart"]

Array = Any
COLUMNS = 2**18  # of the basis that are compressed at a time


class Shape(NamedTuple):
    """n rows of A, k wanted pairs, m vectors in the basis, b of them a step, ``usual`` of them kept."""

    n: int
    k: int
    m: int
    b: int
    usual: int

    @classmethod
    def of(cls, n: int, k: int, m: int, b: int) -> Shape:
        """The nearest one in which whole blocks fit; single vectors where they do not."""
        for width in (b, 1):
            whole = m // width * width
            usual = -(-(k + max((whole - k) // 2, 1)) // width) * width
            if usual <= whole - width and whole + width <= n:
                return cls(n, k, whole, width, usual)
        return cls(n, k, m, 1, min(k + 1, m - 1))


def block_restart(
    A: Any,
    start: Array,
    tol: Any,
    limit: Any,
    *,
    k: int,
    m: int,
    which: str,
    hermitian: bool,
    watch: Any = None,
    eager: bool = False,
    width: int = 1,
) -> tuple[Array, Array, Any, Array, Any, Array]:
    """The contract of the core's ``thick_restart`` for self-adjoint A: eigenvalues (k,), vectors (n, k),
    products made, the largest modulus met, why it stopped, and ones."""
    be = A._concrete_backend()
    xp = be.xp
    n = A.shape[-1]
    device = None if be.name == "jax" else be.device(start)
    if k == 0 or m + 1 >= n:
        return _whole(be, A, k, which, device)
    shape = Shape.of(n, k, m, width)
    b, usual, m = shape.b, shape.usual, shape.m
    real = be.real_dtype(A.dtype)
    first = start[None, :]
    if b > 1:
        first = xp.concat([first, be.normal(7919, (b - 1, n), A.dtype, device)], axis=0)
    none = be.zeros((m + b, n), A.dtype, device)
    zero = be.zeros((), real, device)
    V = _put(be, none, 0, _orthonormal(be, none[:0], first, zero, None)[0])
    H = be.zeros((m, m), A.dtype, device)
    live = _put(be, be.zeros((m + b,), real, device), 0, be.zeros((b,), real, device) + 1)
    last = be.zeros((b, b), A.dtype, device)

    def step(j: Any, state: Any) -> Any:
        V, H, live, last, scale = state
        known = V if be.name == "jax" else V[: j + b]
        W = (A @ _rows(be, V, j, b).mT).mT
        scale = xp.maximum(scale, xp.max(xp.linalg.vector_norm(W, axis=-1)))
        Q, C, R, fine = _orthonormal(be, known, W, scale, n)
        if be.name == "jax":
            H = _put(be, H.mT, j, C[:, :m]).mT
        else:
            H = be.put(H, (slice(0, j + b), slice(j, j + b)), C.mT)
        return _put(be, V, j + b, Q), H, _put(be, live, j + b, fine), R, scale

    def filled(state: Any, begin: Any) -> Any:
        if be.name == "jax":
            import jax

            return jax.lax.fori_loop(begin // b, m // b, lambda i, s: step(i * b, s), state)
        for j in range(begin, m, b):
            state = step(j, state)
        return state

    expand = Block(be, lambda state: filled(state, usual), recorded=watch is None)

    def cycle(state: Any) -> Any:
        (V, H, live, last, scale), made, begin, found, *_ = state
        space = (V, H, live, last, scale)
        if be.name == "jax" or begin == 0:
            space = filled(space, begin)
        else:
            space = expand(space)
        V, H, live, last, scale = space
        made = made + (m - begin)
        small = _to_host(be, H, live, last, scale)
        keep, theta, S, done, code = _decision(be, shape, small, found, tol, which)
        code = told(be, watch, made, done.error, code)
        found = done.key
        V, H, live = _compressed(be, shape, V, H, keep, theta, S, live, done, made)
        return ((V, H, live, last, scale), made, usual, found, done.theta, done.largest, code)

    host = None if be.name == "jax" else "cpu"
    nothing = be.zeros((k,), real, host)
    running = be.astype(be.zeros((), real, host), "int32")
    state: Any = ((V, H, live, last, zero), 0, 0, nothing + float("inf"), nothing, nothing[0], running)
    if be.name == "jax":
        state = be.while_loop(lambda s: (s[6] == RUNNING) & (s[1] < limit), cycle, state)
    else:
        while int(state[6]) == RUNNING and state[1] < limit:
            state = cycle(state)
    (V, *_), made, _, _, theta, largest, code = state
    w, largest, code = (x if device is None else be.asarray(x, device=device) for x in (theta, largest, code))
    return w, V[:k].mT + 0, made, largest, code, xp.ones_like(w)


def _whole(be: Backend, A: Any, k: int, which: str, device: Any) -> tuple[Any, ...]:
    """A basis as large as the space: the matrix itself."""
    xp = be.xp
    n = A.shape[-1]
    M = A @ be.eye(n, A.dtype, device)
    fine = xp.all(xp.isfinite(M))
    M = xp.where(fine, (M + be.adjoint(M)) / 2, xp.zeros_like(M))
    w, V = be.eigh(M)
    order = xp.argsort(_key(be, w, which), stable=True)[:k]
    largest = xp.max(xp.abs(w)) if n else be.zeros((), be.real_dtype(A.dtype), device)
    code = be.astype(xp.where(fine, CONVERGED, NONFINITE), "int32")
    w, V = w[order], V[:, order]
    return w, V, n, largest, code, xp.ones_like(w)


class Found(NamedTuple):
    """What a cycle found: values and keys of the wanted pairs, the worst error, the largest modulus; whether
    the iteration starts again beside them, and whether directions are missing."""

    theta: Array
    key: Array
    error: Array
    largest: Array
    again: Array
    short: Array


def _decision(
    be: Backend, shape: Shape, small: tuple[Array, ...], found: Array, tol: Any, which: str
) -> tuple[Array, Array, Array, Found, Array]:
    """From the projected matrix: which columns of S are kept, Ritz values and vectors most wanted first, and
    whether the iteration is over. All of it is small and, but for JAX, on the host."""
    xp = be.xp
    H, live, last, scale = small
    k, m, b = shape.k, shape.m, shape.b
    finite = xp.all(xp.isfinite(H)) & xp.all(xp.isfinite(last))
    H = xp.where(finite, H, xp.zeros_like(H))
    last = xp.where(finite, last, xp.zeros_like(last))
    upper = xp.triu(H, k=1)
    d = xp.linalg.diagonal(H)
    d = xp.real(d) if be.is_complex(d) else d
    size = xp.max(xp.abs(d)) + xp.max(xp.sum(xp.abs(upper + be.adjoint(upper)), axis=-1))
    size = xp.where(size > 0, size, xp.ones_like(size))
    # dead rows have no coupling: an eigenvalue beyond all others makes theirs known
    here = live[:m] > 0
    d = xp.where(here, d, 4 * size)
    theta, S = be.eigh(upper + be.adjoint(upper) + be.matrix_diag(be.astype(d, H.dtype)))
    alive = theta < 2 * size
    order = xp.argsort(xp.where(alive, _key(be, theta, which), float("inf")), stable=True)
    theta, S, alive = theta[order], S[:, order], alive[order]
    error = xp.linalg.vector_norm(be.matmul(last, S[m - b :]), axis=-2)
    error = xp.where(alive, error, float("inf"))
    key = xp.where(alive, _key(be, theta, which), 4 * size)
    largest = xp.max(xp.where(alive, xp.abs(theta), xp.zeros_like(theta)))
    done = xp.all(error[:k] <= tol * largest)
    wobble = 10 * tol * largest
    known = xp.isfinite(found) & alive[:k]
    same = xp.all(known & (xp.abs(key[:k] - xp.where(known, found, xp.zeros_like(found))) <= wobble))
    # the next one is known well enough to be seen to stay behind
    behind = error[k] <= xp.maximum(0.01 * xp.abs(key[k] - key[k - 1]), tol * largest)
    over = done & same & behind
    code = xp.where(finite, xp.where(over, CONVERGED, RUNNING), NONFINITE)
    again = done & ~same & ~over
    index = xp.arange(m, device=None if be.name == "jax" else be.device(theta))
    keep = alive & (index < xp.where(again, k, shape.usual))
    worst = xp.max(xp.where(xp.isfinite(error[:k]), error[:k], scale))
    short = xp.any(live[m:] == 0) | again
    result = Found(
        xp.where(alive[:k], theta[:k], float("nan")),
        xp.where(again, key[:k], found),
        worst,
        largest,
        again,
        short,
    )
    return keep, theta, S, result, be.astype(code, "int32")


def _compressed(
    be: Backend,
    shape: Shape,
    V: Array,
    H: Array,
    keep: Array,
    theta: Array,
    S: Array,
    live: Array,
    done: Found,
    made: Any,
) -> tuple[Array, Array, Array]:
    """The basis turned to the kept Ritz vectors, and the block that follows; in place where possible."""
    xp = be.xp
    m, b, usual, n = shape.m, shape.b, shape.usual, shape.n
    device = None if be.name == "jax" else be.device(V)

    def there(x: Array) -> Array:
        return x if device is None else be.asarray(x, device=device)

    S = there(xp.where(keep, S, xp.zeros_like(S)))
    kept = be.astype(keep, live.dtype)
    diagonal = be.matrix_diag(be.astype(xp.where(keep, theta, xp.zeros_like(theta)), H.dtype))
    rest = V[m:] + 0
    turn = S[:, :usual].mT
    if be.name == "jax":
        # every row is projected on there, whatever the step, so that none may be left of the last cycle
        V = _put(be, xp.zeros_like(V), 0, be.matmul(turn, V[:m]))
    else:
        for at in range(0, n, COLUMNS):  # in place, with little beside it
            V = be.put(
                V, (slice(0, usual), slice(at, at + COLUMNS)), be.matmul(turn, V[:m, at : at + COLUMNS])
            )
    H = _put(be, H, 0, there(diagonal))
    live = _put(be, live, 0, there(kept))

    def refilled() -> tuple[Array, Array]:
        W = be.normal(made + 7919, (b, n), V.dtype, device)
        missing = (live[m:] == 0) | there(done.again)
        W = xp.where(missing[:, None], W, rest)
        for _ in range(2):  # a random direction may lie in the space found to rounding: then it is dead
            before = xp.linalg.vector_norm(W, axis=-1)
            W, _, _, fine = _orthonormal(be, V[:usual], W, before, n)
        return W, fine

    if be.name == "jax":
        import jax

        rest, fine = jax.lax.cond(done.short, refilled, lambda: (rest, live[m:]))
    elif bool(done.short):
        rest, fine = refilled()
    else:
        fine = live[m:] + 0
    V = _put(be, V, usual, rest)
    return V, H, _put(be, live, usual, fine)


def _key(be: Backend, w: Array, which: str) -> Array:
    """The smaller the more wanted."""
    key = be.xp.abs(w) if which[1] == "M" else w
    return -key if which[0] == "L" else key


def _orthonormal(
    be: Backend, V: Array, W: Array, scale: Array, n: int | None
) -> tuple[Array, Array, Array, Array]:
    """``W^T = V^T C^T + Q^T R``: rows Q orthonormal to each other and to V, coefficients C (b, rows of V), R
    (b, b), and 1 for each row of Q that is not dead. Rows of W (b, n); twice, against cancellation.

    scale: a number or one for each row, the size beside which what is left is rounding error. n: None for
    rows that need no comparison but with zero.
    """
    xp = be.xp
    eps = float(xp.finfo(be.real_dtype(W.dtype)).eps)
    C = be.matmul(W, be.adjoint(V))
    W = W - be.matmul(C, V)
    least = (0.0 if n is None else 10 * eps * n**0.5) * scale + xp.zeros_like(W[:, 0], dtype=scale.dtype)
    Q, R, _ = _within(be, W, least)
    more = be.matmul(Q, be.adjoint(V))
    Q = Q - be.matmul(more, V)
    # a unit vector that loses most of itself was rounding error: the space is full
    Q, again, fine = _within(be, Q, 0.5 + 0 * least)
    return Q, C + be.matmul(R.mT, more), be.matmul(again, R), be.astype(fine, scale.dtype)


def _within(be: Backend, W: Array, least: Array) -> tuple[Array, Array, Array]:
    """Gram-Schmidt among the rows of a block, each twice: Q, R with ``W^T = Q^T R``, and which rows live."""
    xp = be.xp
    b = W.shape[0]
    rows: list[Array] = []
    columns: list[Array] = []
    lives: list[Array] = []
    for i in range(b):
        w = W[i]
        c = be.zeros((b,), W.dtype, None if be.name == "jax" else be.device(W))
        if rows:
            before = xp.stack(rows)
            for _ in range(2):
                part = be.matmul(be.conj(before), w[:, None])[:, 0]
                w = w - be.matmul(part[None, :], before)[0]
                c = c + xp.concat([part, xp.zeros_like(c[i:])])
        size = xp.linalg.vector_norm(w)
        fine = size > least[i]
        safe = xp.where(fine, size, xp.ones_like(size))
        rows.append(xp.where(fine, w / be.astype(safe, w.dtype), xp.zeros_like(w)))
        here = xp.where(fine, size, xp.zeros_like(size))
        unit = be.eye(b, W.dtype, None if be.name == "jax" else be.device(W))[i]
        columns.append(c + be.astype(here, c.dtype) * unit)
        lives.append(fine)
    return xp.stack(rows), xp.stack(columns, axis=-1), xp.stack(lives)


def _rows(be: Backend, V: Array, j: Any, b: int) -> Array:
    if be.name == "jax":
        import jax

        return jax.lax.dynamic_slice_in_dim(V, j, b)
    return V[j : j + b]


def _put(be: Backend, x: Array, j: Any, rows: Array) -> Array:
    if be.name == "jax":
        import jax

        return jax.lax.dynamic_update_slice_in_dim(x, rows.astype(x.dtype), j, 0)
    return be.put(x, slice(j, j + rows.shape[0]), rows)


def _to_host(be: Backend, *arrays: Array) -> tuple[Array, ...]:
    """The same arrays where small problems are solved: the host, in one transfer; in JAX where they are."""
    if be.name != "torch" or arrays[0].device.type == "cpu":
        return arrays
    xp = be.xp
    flat = xp.concat([be.astype(x, arrays[0].dtype).reshape(-1) for x in arrays]).to("cpu")
    out, at = [], 0
    for x in arrays:
        part = flat[at : at + x.numel()].reshape(x.shape)
        out.append(part if be.is_complex(x) or not be.is_complex(part) else xp.real(part))
        at += x.numel()
    return tuple(out)
