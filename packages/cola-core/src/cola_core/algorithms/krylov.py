"""Lanczos tridiagonalisation for a block of independent start vectors, shared by every method built on it.

Full reorthogonalisation (classical Gram-Schmidt twice: Giraud, Langou, Rozložník 2005). Breakdown, an
invariant subspace found early, is the normal end for c*I, few distinct eigenvalues or low rank: the
recurrence then continues with zeros, which carry zero weight in every quantity read off later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from ..errors import ShapeError
from .orthogonal import orthogonalize

__all__ = ["Tridiagonal", "first_vector", "lanczos"]

FIRST_STEPS = 32  # that room is made for where the recurrence may stop early


def first_vector(A: Any, given: Any, key: Any, n: int, method: str) -> Array:
    """The start of a Krylov space: the vector given, of shape (n,) and not zero, or normal numbers."""
    be = A._concrete_backend()
    if given is None:
        return be.normal(key, (n,), A.dtype, A.device)
    v = be.astype(be.asarray(given), A.dtype)
    if tuple(v.shape) != (n,) or not be.number(be.xp.linalg.vector_norm(v)) > 0:
        raise ShapeError(
            f"{method}(start_vector=...) must be a non-zero vector of shape ({n},) for {A!r}, "
            f"its shape is {tuple(v.shape)}."
        )
    return v


@dataclass(frozen=True)
class Tridiagonal:
    """``A Q_s = Q_s T_s + beta_s q e_m^H`` for each start vector s.

    basis: (m, n, s); alpha: (m, s) real; beta: (m, s), beta[j] couples j and j+1, the last is the residual's
    norm; norm: (s,) norms of the start vectors; products: products made (each with s columns).
    """

    basis: Array
    alpha: Array
    beta: Array
    norm: Array
    products: int

    def residuals(self, be: Any) -> Array:
        """``|b - A x| / |b|`` of the Galerkin solution x of ``A x = b`` for each start vector b, (s,), of a
        positive definite A; the last entry of ``T^{-1} e_1`` by elimination (Saad 2003, alg. 6.16)."""
        xp = be.xp
        made, pivot = xp.ones_like(self.norm), xp.ones_like(self.norm)
        for j in range(self.alpha.shape[0]):
            before = self.beta[j - 1] ** 2 / pivot if j else xp.zeros_like(pivot)
            pivot = self.alpha[j] - before
            fine = pivot > 0  # not past a breakdown, where the solution is exact
            made = xp.where(fine, made * self.beta[j] / xp.where(fine, pivot, xp.ones_like(pivot)), 0 * made)
            pivot = xp.where(fine, pivot, xp.ones_like(pivot))
        return made

    def solve(self, be: Any) -> Array:
        """The Galerkin solutions x, (n, s), of ``A x = b`` for the start vectors b: those of conjugate
        gradients after m steps. Directions past a breakdown count for nothing."""
        return self.apply(be, lambda theta: 1 / theta)

    def apply(self, be: Any, f: Any) -> Array:
        """``f(A) b``, (n, s), for the start vectors b, from the Krylov space; f as in ``quadrature``."""
        xp = be.xp
        theta, S = self.eigh(be)
        top = xp.max(xp.abs(theta), axis=-1)[..., None]
        eps = float(xp.finfo(theta.dtype).eps)
        present = (xp.abs(S[..., 0, :]) > 10 * eps) & (theta > eps * top)
        small = xp.where(present, f(xp.where(present, theta, xp.ones_like(theta))), xp.zeros_like(theta))
        c = xp.sum(S * (small * S[..., 0, :])[..., None, :], axis=-1) * self.norm[..., None]
        return xp.sum(self.basis * be.astype(c.T, self.basis.dtype)[:, None, :], axis=0)

    def quadrature(self, be: Any, f: Any) -> Array:
        """``b^H f(A) b`` for each start vector b, (s,), by Gauss quadrature; f maps arrays of Ritz values,
        which are positive, elementwise."""
        xp = be.xp
        theta, S = self.eigh(be)
        weight = xp.abs(S[..., 0, :]) ** 2
        eps = float(xp.finfo(theta.dtype).eps)
        present = (weight > (10 * eps) ** 2) & (theta > 0)
        found = f(xp.where(present, theta, xp.ones_like(theta)))
        return self.norm**2 * xp.sum(xp.where(present, weight * found, xp.zeros_like(weight)), axis=-1)

    def eigh(self, be: Any) -> tuple[Array, Array]:
        """Ritz values (s, m) and the eigenvectors of each T (s, m, m)."""
        xp = be.xp
        m = self.alpha.shape[0]
        T = be.matrix_diag(self.alpha.T)
        if m > 1:
            off = be.matrix_diag(self.beta[:-1].T)
            pad = be.zeros((off.shape[0], m - 1, 1), off.dtype, be.device(off))
            row = be.zeros((off.shape[0], 1, m), off.dtype, be.device(off))
            upper = xp.concat([xp.concat([pad, off], axis=-1), row], axis=-2)
            T = T + upper + upper.mT if hasattr(upper, "mT") else T + upper + xp.matrix_transpose(upper)
        return be.eigh(T)


def lanczos(A: Any, start: Array, m: int, look_every: int = 1, tol: float | None = None) -> Tridiagonal:
    """m steps from each column of ``start`` (n, s). Cost:
    m products with s columns, ``4 m^2 n s`` flops besides.

    tol: stop earlier, once ``|b - A x| <= tol |b|`` for the Galerkin solution of every ``A x = b`` with a
    column b of ``start``, for a positive definite A (where steps are compiled, on JAX, all are made).

    look_every: after how many steps it looks at values, for a device that the host had to wait for: more than
    one leaves out looks that save work (whether a second pass of Gram-Schmidt is needed: it is made).
    """
    be = A._concrete_backend()
    if be.name == "jax":
        basis, alpha, beta, norm = be.jit(_sweep, static=("m",))(A, start, m=m)
        return Tridiagonal(basis, alpha, beta, norm, m)
    return Tridiagonal(*_sweep(A, start, m=m, look_every=look_every, tol=tol))


def _sweep(A: Any, start: Array, *, m: int, look_every: int = 1, tol: float | None = None) -> tuple[Any, ...]:
    """basis, alpha, beta, norm (and, where steps are not compiled,
    the steps made before every column broke down)."""
    be = A._concrete_backend()
    xp = be.xp
    n, s = start.shape
    real = be.real_dtype(A.dtype)
    eps = float(xp.finfo(real).eps)
    start = be.astype(start, A.dtype) if not be.is_complex(start) or be.is_complex(A) else start
    norm = be.norm(start)
    safe = xp.where(norm > 0, norm, xp.ones_like(norm))
    device = be.device(start)
    # one basis per start vector, by rows: projections are then products of matrix and vector
    held = m if tol is None else min(m, FIRST_STEPS)  # more as they are needed
    Q = be.zeros((s, held, n), A.dtype, device)
    Q = be.put(Q, (slice(None), 0), (start / safe).T)
    alpha = be.zeros((m, s), real, device)
    beta = be.zeros((m, s), real, device)
    scale = be.zeros((s,), real, device)

    def step(state: Any) -> Any:
        j, Q, alpha, beta, scale = state
        q = Q[:, j]
        w = (A @ q.T).T
        a = xp.sum(be.conj(q) * w, axis=-1)
        a = xp.real(a) if be.is_complex(a) else a
        # rows not yet filled are zero, so using all of them (where shapes are fixed) is exact
        count = None if be.name == "jax" else j + 1
        w, _, b, _ = orthogonalize(be, Q, w, count, always_twice=look_every > 1)
        scale = xp.maximum(scale, xp.abs(a) + b)
        # relative to |T|, so that A and 1e-9 A break down alike
        b = xp.where(b > 10 * eps * n**0.5 * scale, b, xp.zeros_like(b))
        following = w / xp.where(b > 0, b, xp.ones_like(b))[:, None] * (b > 0)[:, None]
        following = following + _no_derivative(be, w, ((b > 0) | (j + 1 >= m))[:, None])
        alpha = be.put(alpha, j, a)
        beta = be.put(beta, j, b)
        if be.name == "jax":
            import jax

            Q = jax.lax.cond(j + 1 < m, lambda Q: Q.at[:, j + 1].set(following), lambda Q: Q, Q)
        elif j + 1 < m:
            Q = be.put(Q, (slice(None), j + 1), following)
        return j + 1, Q, alpha, beta, scale

    if be.name == "jax":
        import jax

        _, Q, alpha, beta, _ = jax.lax.fori_loop(0, m, lambda _, st: step(st), (0, Q, alpha, beta, scale))
        return xp.moveaxis(Q, 0, -1), alpha, beta, norm
    state: Any = (0, Q, alpha, beta, scale)
    made = m
    pivot = left = xp.ones_like(norm)
    for j in range(m):
        if tol is not None and j + 1 == state[1].shape[1] < m:
            more = be.zeros((s, min(state[1].shape[1], m - j - 1), n), A.dtype, device)
            state = (j, xp.concat([state[1], more], axis=1), *state[2:])
        state = step(state)
        if tol is not None:
            _, _, alpha, beta, _ = state
            pivot = alpha[j] - (beta[j - 1] ** 2 / pivot if j else xp.zeros_like(pivot))
            pivot = xp.where(pivot > 0, pivot, xp.ones_like(pivot))
            left = left * beta[j] / pivot
            if be.is_concrete(left) and bool(xp.all(left <= tol)):
                made = j + 1
                break
        due = j + 1 < m and (j + 1) % look_every == 0
        if due and be.is_concrete(state[3]) and not bool(xp.any(state[3][j] > 0)):
            # every column has found an invariant subspace: nothing is left to add
            made = j + 1
            break
    _, Q, alpha, beta, _ = state
    return xp.moveaxis(Q, 0, -1)[:made], alpha[:made], beta[:made], norm, made


def _no_derivative(be: Any, w: Array, fine: Any) -> Array:
    """Zero; where not ``fine`` its derivative is NaN.

    After a breakdown the basis stops inside an invariant subspace, but a perturbation of A leads out of it:
    what the recurrence's derivative then misses is of first order, so it must not pass for a number.
    """
    xp = be.xp
    return xp.where(fine, xp.zeros_like(w), xp.sqrt(xp.where(fine, xp.ones_like(w), 0 * w)))
