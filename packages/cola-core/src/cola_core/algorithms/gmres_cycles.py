"""The cycles of GMRES and of its flexible variant.
Saad & Schultz 1986; Saad 1993; Saad 2003, alg. 9.5 and 9.6.

An Arnoldi basis per column, kept by rows. The least-squares problem with the Hessenberg matrix is solved as
it grows: the product of the Givens rotations is one small matrix that is applied to each new column, and
its first column holds the residual norms. A lucky breakdown is the exact end; in a singular system a zero
may be left on the diagonal of the triangle, and that direction is left out.
"""

from __future__ import annotations

from typing import Any

from ..backends import backend_of
from ..backends.base import Array
from ..reasons import CONVERGED, NONFINITE, RUNNING, STAGNATED
from .columns import first_residual
from .orthogonal import normalize, sweep
from .progress import Watch, observe

__all__ = ["cycles"]

# a cycle ends a little below the target, so that the recomputed residual meets it
MARGIN = 0.95
INVERSE_STEPS = 2


def cycles(
    A: Any,
    P: Any,
    B: Array,
    X: Array | None,
    tol: Any,
    limit: Any,
    *,
    m: int,
    flexible: bool = False,
    watch: Watch | None = None,
) -> tuple[Array, Any, Any, Array, dict[str, Array]]:
    """Cycles of at most m steps: solution, steps, products, per column why it stopped, and estimates of the
    norm of A (A P) and its condition number, from the singular values of the Hessenberg matrices.

    flexible: P may be different at every step, so what it gave is kept.
    """
    be: Any = backend_of(B)
    xp = be.xp
    target = tol * be.norm(B)
    X, R, products = first_residual(A, B, X, be)
    rnorm = be.norm(R)
    code = xp.where(rnorm <= target, CONVERGED, RUNNING)
    *batch, n, k = B.shape
    device = be.device(B)
    V = be.zeros((*batch, k, m + 1, n), B.dtype, device)
    Z = be.zeros((*batch, k, m if flexible and P is not None else 0, n), B.dtype, device)
    sizes = 0 * rnorm, 0 * rnorm
    state = (0, products, X, R, rnorm, xp.zeros_like(code), V, Z, sizes, code)

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[-1] == RUNNING)

    def cycle(state: Any) -> Any:
        steps, products, X, R, before, slow, V, Z, sizes, code = state
        most = limit - steps
        most = xp.minimum(m, most) if be.name == "jax" else min(m, int(most))
        known = be.name == "jax" or be.is_concrete(code)
        started = code == RUNNING
        V, Z, Y, made, found, code = _cycle(be, A, P, R, before, target, most, V, Z, steps, code, watch)
        sizes = tuple(
            xp.where(started & xp.isfinite(new), xp.maximum(old, new), old)
            for old, new in zip(sizes, found, strict=True)
        )
        X_new = X + Y
        R_new = B - A @ X_new
        after = be.norm(R_new)
        improved = after < before
        if be.is_concrete(improved) and bool(xp.all(improved)):
            X, R = X_new, R_new
        else:
            X = xp.where(improved[..., None, :], X_new, X)
            R = xp.where(improved[..., None, :], R_new, R)
        live = code == RUNNING
        slow = xp.where(live & ~(after < 0.999 * before), slow + 1, xp.zeros_like(slow))
        rnorm = xp.where(improved, after, before)
        code = xp.where(live & ~xp.isfinite(after), NONFINITE, code)
        code = xp.where((code == RUNNING) & (rnorm <= target), CONVERGED, code)
        code = xp.where((code == RUNNING) & (slow >= 2), STAGNATED, code)
        # where PyTorch traces, the steps that a cycle may make bound the loop, not those it makes
        return steps + (made if known else most), products + made + 1, X, R, rnorm, slow, V, Z, sizes, code

    state = be.while_loop(running, cycle, state)
    norm, inverse = state[-2]
    nan = float("nan") * xp.ones_like(norm)
    told = {"norm": norm, "condition": xp.maximum(norm * inverse, xp.ones_like(norm))}
    told = {name: xp.where(norm > 0, fact, nan) for name, fact in told.items()}
    return state[2], state[0], state[1], state[-1], told


def _cycle(
    be: Any,
    A: Any,
    P: Any,
    R: Array,
    rnorm: Array,
    target: Array,
    most: Any,
    V: Array,
    Z: Array,
    done: Any,
    code: Array,
    watch: Watch | None,
) -> tuple[Array, Array, Array, Any, tuple[Array, Array], Array]:
    """At most ``most`` steps from the residual R: both bases, the correction, the steps made, lower bounds of
    the norms of the operator and of its inverse, the codes."""
    xp = be.xp
    fixed = be.name == "jax" or not be.is_concrete(code)
    m = V.shape[-2] - 1
    flexible = Z.shape[-2] > 0
    device = be.device(R)
    row = lambda X: xp.matrix_transpose(X)  # noqa: E731 - (*batch, n, k) and (*batch, k, n)
    safe = be.astype(xp.where(rnorm > 0, rnorm, xp.ones_like(rnorm)), R.dtype)
    V = be.put(V, (..., 0, slice(None)), row(R / safe[..., None, :]))
    lead = tuple(V.shape[:-2])
    rotations = be.eye(m + 1, R.dtype, device) + be.zeros((*lead, m + 1, m + 1), R.dtype, device)
    T = be.zeros((*lead, m + 1, m), R.dtype, device)
    start = xp.where(code == RUNNING, rnorm, xp.zeros_like(rnorm))

    def going(state: Any) -> Any:
        j, rest, code = state[0], state[-2], state[-1]
        return (j < most) & xp.any((code == RUNNING) & (rest > MARGIN * target))

    def step(state: Any) -> Any:
        j, V, Z, rotations, T, rest, code = state
        v = row(V[..., j, :])
        y = v if P is None else P @ v
        w, h, after, before = sweep(be, V, row(A @ y), j + 1)
        q, norm = normalize(be, w, after, before)
        norm = be.astype(norm, R.dtype)
        V = be.put(V, (..., j + 1, slice(None)), q)
        if flexible:
            Z = be.put(Z, (..., j, slice(None)), row(y))
        if be.name == "jax":
            column = be.put(h, (..., j + 1), norm)
        else:
            column = be.zeros((*lead, m + 1), R.dtype, device)
            column = be.put(column, (..., slice(0, j + 1)), h)
            column = be.put(column, (..., j + 1), norm)
        column = xp.matmul(rotations, column[..., None])[..., 0]
        a, b = column[..., j], column[..., j + 1]
        size = be.astype(xp.hypot(xp.abs(a), xp.abs(b)), R.dtype)
        one = xp.ones_like(size)
        c = xp.where(size == 0, one, a / xp.where(size == 0, one, size))
        s = b / xp.where(size == 0, one, size)
        upper, lower = rotations[..., j, :], rotations[..., j + 1, :]
        turned = be.conj(c)[..., None] * upper + be.conj(s)[..., None] * lower
        lower = c[..., None] * lower - s[..., None] * upper
        rotations = be.put(rotations, (..., j, slice(None)), turned)
        rotations = be.put(rotations, (..., j + 1, slice(None)), lower)
        column = be.put(column, (..., j), size)
        T = be.put(T, (..., slice(None), j), be.put(column, (..., j + 1), xp.zeros_like(size)))
        rest = start * xp.abs(lower[..., 0])
        code = observe(be, watch, done + j + 1, rest, code)
        return j + 1, V, Z, rotations, T, rest, code

    j, V, Z, rotations, T, _, code = be.while_loop(going, step, (0, V, Z, rotations, T, start, code))
    size = m if fixed else j
    g = be.astype(start, R.dtype)[..., None] * rotations[..., :size, 0]
    if fixed:
        g = xp.where(xp.arange(m, device=device) < j, g, xp.zeros_like(g))
    y, sizes = _triangular_solve(be, T[..., :size, :size], g)
    known = Z if flexible else V
    Y = row(xp.matmul(xp.matrix_transpose(known[..., :size, :]), y[..., None])[..., 0])
    return V, Z, (Y if flexible or P is None else P @ Y), j, sizes, code


def _triangular_solve(be: Any, T: Array, g: Array) -> tuple[Array, tuple[Array, Array]]:
    """``T y = g``, T upper triangular, leaving out what has a zero on the diagonal (to rounding); and lower
    bounds of ``|T|`` and ``|T^{-1}|``, by two steps of inverse iteration that begin with y."""
    xp = be.xp
    if not T.shape[-1]:
        none = be.norm(xp.real(g)[..., None])[..., 0]
        return g, (none, none)
    diagonal = xp.abs(xp.linalg.diagonal(T))
    eps = float(xp.finfo(diagonal.dtype).eps)
    out = ~(diagonal > eps * xp.max(diagonal, axis=-1, keepdims=True))
    norm = xp.max(be.norm(T), axis=-1)
    T = T + be.matrix_diag(be.astype(out, T.dtype) - be.astype(out, T.dtype) * xp.linalg.diagonal(T))
    g = xp.where(out, xp.zeros_like(g), g)
    y = be.solve_triangular(T, g[..., None], lower=False)
    x, inverse = y, []
    TH = be.adjoint(T)
    for step in range(2 * INVERSE_STEPS):
        size = be.norm(x)
        x = x / be.astype(xp.where(size > 0, size, xp.ones_like(size)), x.dtype)[..., None, :]
        x = be.solve_triangular(TH if step % 2 == 0 else T, x, lower=step % 2 == 0)
        x = xp.where(out[..., None], xp.zeros_like(x), x)
        inverse.append(be.norm(x)[..., 0])
    return y[..., 0], (norm, xp.maximum(inverse[-1], inverse[-2]))
