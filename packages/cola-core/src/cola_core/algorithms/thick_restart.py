"""The restarted Krylov iteration behind some eigenpairs: one loop for self-adjoint operators (thick-restart
Lanczos: Wu & Simon, SIMAX 22 (2000) 602) and for general ones (Krylov-Schur: Stewart, SIMAX 23 (2001) 601).

A basis of m orthonormal rows is filled by products, orthogonalised in full, and compressed to the wanted
part of the space; shapes are fixed, so on JAX the whole iteration is one compiled loop. One start vector
meets one vector of each eigenspace only: when the wanted pairs have converged, the iteration starts again
beside them from a random vector until nothing new is wanted and the next eigenvalue stays behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from .block_basis import finite
from .iteration import CONVERGED, NONFINITE, RUNNING
from .orthogonal import orthogonalize, project
from .progress import observe
from .schur_order import ordered_schur
from .spectrum import order_by, rank_key

__all__ = ["Pairs", "product", "thick_restart"]


@dataclass(frozen=True)
class Pairs:
    """What an eigenvalue iteration hands back: eigenvalues w (k,), unit vectors X (n, k), products made, the
    largest modulus met, why it stopped (a code of ``iteration``), and condition numbers of the eigenvalues of
    the projected matrix (1 where self-adjoint)."""

    w: Array
    X: Array
    products: Any
    largest: Array
    code: Any
    condition: Array


def product(be: Any, A: Any, v: Array) -> Array:
    """``A v`` for a vector or block that may be complex although A is real."""
    if not be.is_complex(v) or A._is_complex():
        return A @ v
    xp = be.xp
    if v.ndim == 1:
        Y = A @ xp.stack([xp.real(v), xp.imag(v)], axis=-1)
        return Y[:, 0] + 1j * Y[:, 1]
    k = v.shape[-1]
    Y = A @ xp.concat([xp.real(v), xp.imag(v)], axis=-1)
    return Y[..., :k] + 1j * Y[..., k:]


def thick_restart(
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
) -> tuple[Array, Array, Any, Array, Any, Array]:
    """The fields of ``Pairs``, most wanted first, for a basis of m vectors (m = n, or m >= k + 2).

    tol: of the residual bound, relative to the largest Ritz value. limit: products. eager: run the loop step
    by step on JAX too, for operators that keep what cannot be compiled (a factorisation on the host).
    """
    be = A._concrete_backend()
    xp = be.xp
    n = A.shape[-1]
    real = be.real_dtype(A.dtype)
    eps = float(xp.finfo(real).eps)
    fixed = be.name == "jax"
    loop = _python_loop if eager else be.while_loop
    device = be.device(start)
    usual = min(k + max((m - k) // 2, 1), m)
    V = be.zeros((m + 1, n), start.dtype, device)
    V = be.put(V, 0, start / xp.linalg.vector_norm(start))
    H = be.zeros((m + 1, m), start.dtype, device)
    zero = be.zeros((), real, device)

    def fresh(V: Array, count: Any, seed: Any) -> Array:
        w = be.normal(seed, (n,), start.dtype, device)
        for _ in range(3):
            w, _ = project(be, V, w, count)
            w = w / xp.linalg.vector_norm(w)
        return w

    def step(state: Any) -> Any:
        j, V, H, scale, _, made = state
        w, c, b, _ = orthogonalize(be, V, product(be, A, V[j]), j + 1)
        if fixed:
            H = be.put(H, (slice(None), j), c)
        else:
            H = be.put(H, (slice(0, j + 1), j), c)
        scale = xp.maximum(scale, xp.maximum(b, xp.abs(H[j, j])))
        # an invariant subspace: the Ritz pairs are exact, and the space goes on with a fresh direction
        lost = b <= 10 * eps * n**0.5 * scale
        seed = made + 1
        if fixed and not eager:
            import jax

            following = jax.lax.cond(
                lost & (j + 1 < n),
                lambda: fresh(V, j + 1, seed),
                lambda: xp.where(lost, 0 * w, w / xp.where(lost, xp.ones_like(b), b)),
            )
        elif bool(lost):
            following = fresh(V, j + 1, seed) if j + 1 < n else xp.zeros_like(w)
        else:
            following = w / b
        b = xp.where(lost, zero, b)
        V = be.put(V, j + 1, following)
        H = be.put(H, (j + 1, j), be.astype(b, H.dtype))
        return j + 1, V, H, scale, b, made + 1

    def cycle(state: Any) -> Any:
        V, H, kept, made, scale, found, *_ = state
        _, V, H, scale, last, made = loop(lambda s: s[0] < m, step, (kept, V, H, scale, zero, made))
        if hermitian:
            theta, S = be.eigh(finite(be, be.adjoint(H[:m])))
            order = order_by(be, theta, m, which)
            theta, S = theta[order], S[:, order]
            T, weight, small, condition = None, xp.abs(S[m - 1]), None, None
        else:
            T, S, weight, small, condition = ordered_schur(be, H[:m], k, which)
            theta = xp.linalg.diagonal(T)
        error = last * weight
        largest = xp.max(xp.abs(theta))
        key = rank_key(be, theta, which)
        done = xp.all(error[:k] <= tol * largest)
        # what a residual says of an eigenvalue: as much less as its condition number is larger
        wobble = 10 * tol * largest + 0 * error[:k]
        if condition is not None:
            wobble = xp.maximum(wobble, xp.minimum(wobble * condition, 1e-3 * largest + 0 * wobble))
        same = xp.all(xp.isfinite(found) & (xp.abs(key[:k] - found) <= wobble))
        if k < m:
            behind = error[k] <= xp.maximum(0.01 * xp.abs(key[k] - key[k - 1]), tol * largest)
        else:
            behind = done
        over = done & ((same & behind) if m < n else True)
        if usual == m:  # nothing would be left to make another step for
            over = xp.ones_like(over)
        code = xp.where(
            xp.all(xp.isfinite(H)) & xp.isfinite(largest), xp.where(over, CONVERGED, RUNNING), NONFINITE
        )
        again = done & ~same
        found = xp.where(again, key[:k], found)
        if k:
            code = observe(be, watch, made, xp.max(error[:k]), code)
        # compress to the wanted part; beside the found pairs alone where copies are looked for
        if fixed and not eager:
            import jax

            keep = xp.where(again, k, usual)
            rest = jax.lax.cond(again, lambda: fresh(S.T @ V[:m], k, made + 7919), lambda: V[m] + 0)
            V = be.put(V, slice(0, m), S.T @ V[:m])
        else:
            keep = k if bool(again) else usual
            V = be.put(V, slice(0, keep), S[:, :keep].T @ V[:m])
            rest = fresh(V, keep, made + 7919) if bool(again) and k < n else V[m] + 0
        V = be.put(V, keep, rest)
        inside = xp.arange(m, device=None if fixed else device) < keep
        D = be.matrix_diag(be.astype(theta, H.dtype)) if T is None else T
        H = 0 * H if fixed else xp.zeros_like(H)
        H = be.put(H, slice(0, m), xp.where(inside[:, None] & inside, D, xp.zeros_like(D)))
        spike = xp.where(inside & ~again, last * S[m - 1], xp.zeros_like(S[m - 1]))
        H = be.put(H, keep, spike)
        small = be.eye(k, H.dtype, device) if small is None else small
        condition = xp.ones_like(error[:k]) if condition is None else condition
        return V, H, keep, made, scale, found, theta[:k], largest, code, small, condition

    def running(state: Any) -> Any:
        return (state[8] == RUNNING) & (state[3] < limit)

    nothing = be.zeros((k,), real, device)
    state: Any = (
        V,
        H,
        0,
        0,
        zero,
        nothing + float("inf"),
        be.astype(nothing, real if hermitian else H.dtype),
        zero,
        xp.asarray(RUNNING) + be.astype(zero, "int64" if not fixed else xp.asarray(RUNNING).dtype),
        be.eye(k, H.dtype, device),
        nothing,
    )
    V, _, _, made, _, _, theta, largest, code, small, condition = loop(running, cycle, state)
    X = V[:k].T if hermitian else V[:k].T @ small
    return theta, X, made, largest, code, condition


def _python_loop(cond: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
    while bool(cond(state)):
        state = body(state)
    return state
