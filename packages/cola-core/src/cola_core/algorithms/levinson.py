"""``Levinson``: Toeplitz systems in O(n^2), by the recursion of Levinson, Trench and Zohar.

Two vectors are grown with the leading minors, ``T f = e_1`` and ``T g = e_n``; they are the first and last
columns of the inverse, from which Gohberg and Semencul's formula applies the whole inverse by FFTs. Sources:
Golub & Van Loan, 4th ed., sec. 4.7; Zohar, J. ACM 21 (1974) 272; Gohberg & Semencul 1972; Cybenko, SIAM J.
Sci. Stat. Comput. 1 (1980) 303 (stable for positive definite matrices).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array, Backend
from ..cost import Cost
from ..errors import IllConditionedWarning, NotPositiveDefiniteError, SingularMatrixError
from ..operators import Hankel, LinearOperator, Toeplitz
from ..properties import PSD, SelfAdjoint
from .base import Algorithm
from .cholesky import check_finite
from .factor import warn_if_singular
from .iteration import differentiated

__all__ = ["Levinson", "ToeplitzFactor", "toeplitz_factor"]


@dataclass(frozen=True)
class ToeplitzFactor:
    """First and last column of ``T^{-1}`` and the ratios of consecutive leading minors."""

    T: Toeplitz
    f: Array
    g: Array
    ratios: Array

    def solve(self, B: Array) -> Array:
        """``T^{-1} B`` by Gohberg and Semencul's formula, refined by the residual: O(n log n) a column.

        NotImplemented where the backward error stays above rounding (a leading minor is nearly singular).
        """
        be = self.T._concrete_backend()
        X = self._apply(B)
        concrete = be.is_concrete(X)
        if be.name == "abstract" or 0 in X.shape:
            return X
        for _ in range(3):
            R = B - self.T._matmat(X)
            if concrete and self._error(B, X, R) <= 8 * _eps(be, X):
                return X
            X = X + self._apply(R)
        if concrete and not self._error(B, X, B - self.T._matmat(X)) <= _eps(be, X) ** 0.75:
            return NotImplemented
        return X

    def _apply(self, B: Array) -> Array:
        """``x_0 T^{-1} = L(f) U(g) - L(g shifted) U(f shifted)`` with triangular Toeplitz factors."""
        be = self.T._concrete_backend()
        xp, f, g = be.xp, self.f, self.g
        first_f, first_g = f / f[..., :1], g / f[..., :1]  # free of the scale of T, so that nothing overflows
        zero = xp.zeros_like(f[..., :1])
        shifted_g = xp.concat((zero, first_g[..., :-1]), axis=-1)
        back_f = xp.concat((zero, xp.flip(f[..., 1:], axis=-1)), axis=-1)
        first = _lower(xp, first_f)._matmat(_upper(xp, xp.flip(g, axis=-1))._matmat(B))
        return first - _lower(xp, shifted_g)._matmat(_upper(xp, back_f)._matmat(B))

    def _error(self, B: Array, X: Array, R: Array) -> float:
        """The normwise backward error, the worst over columns."""
        be = self.T._concrete_backend()
        xp = be.xp
        size = self.norm_bound()[..., None] * be.norm(X) + be.norm(B)
        return be.number(xp.max(be.norm(R) / xp.where(size > 0, size, xp.ones_like(size))))

    def norm_bound(self) -> Array:
        """The sum of the moduli of the diagonals, which bounds the 2-norm of T."""
        T, xp = self.T, self.T.xp
        return xp.sum(xp.abs(T.generator(2 * T.shape[-1] - 1)), axis=-1)

    def sound(self) -> bool:
        """Whether both columns are the inverse's to within the rounding that a well-behaved recursion
        leaves."""
        be = self.T._concrete_backend()
        xp = be.xp
        if not be.is_concrete(self.f) or 0 in self.f.shape:
            return True
        if not be.all_finite(self.f) or not be.all_finite(self.g):
            return False
        F = xp.stack((self.f, self.g), axis=-1)
        n = F.shape[-2]
        at = xp.arange(n, device=self.T.device)[:, None]
        E = be.astype(at == xp.asarray([0, n - 1], device=self.T.device)[None, :], F.dtype)
        return self._error(E + xp.zeros_like(F), F, E - self.T._matmat(F)) <= _eps(be, F) ** 0.75

    def rcond(self) -> float:
        """The reciprocal condition number, with the norm of the inverse from a few steps of power iteration.

        The transpose of a Toeplitz matrix is the matrix itself with rows and columns reversed, so the factor
        at hand applies the inverse's adjoint too.
        """
        be = self.T._concrete_backend()
        xp = be.xp
        n = self.f.shape[-1]
        k = be.astype(xp.arange(n, device=self.T.device), be.real_dtype(self.f.dtype))
        x = be.astype(xp.cos(k * k), self.f.dtype)[:, None] + xp.zeros_like(self.f)[..., None]
        norm: Any = None
        for _ in range(4):
            x = x / be.astype(be.norm(x), x.dtype)[..., None, :]
            y = self._apply(x)
            norm = be.norm(y)
            y = y / be.astype(norm, y.dtype)[..., None, :]
            x = be.conj(xp.flip(self._apply(xp.flip(be.conj(y), axis=-2)), axis=-2))
        worst = be.number(xp.min(1 / (self.norm_bound()[..., None] * norm)))
        return worst if worst == worst else 0.0

    def slogdet(self) -> tuple[Array, Array]:
        """The product of the ratios of leading minors."""
        from ..linalg.determinant import of_entries

        be = self.T._concrete_backend()
        sign, value = of_entries(be, self.ratios)
        return be.astype(sign, self.T.dtype), value


def _eps(be: Backend, x: Array) -> float:
    return float(be.xp.finfo(be.real_dtype(x.dtype)).eps)


def _lower(xp: Any, c: Array) -> Toeplitz:
    return Toeplitz(c, xp.zeros_like(c))


def _upper(xp: Any, r: Array) -> Toeplitz:
    column = xp.concat((r[..., :1], xp.zeros_like(r[..., 1:])), axis=-1)
    return Toeplitz(column, r)


def toeplitz_factor(T: Toeplitz) -> ToeplitzFactor:
    """The recursion over leading minors: n steps of two vector updates. Ratios of zero end in NaN or
    infinity."""
    be = T._concrete_backend()
    xp, n = be.xp, T.shape[-1]
    t = T.generator(2 * n - 1)  # t[k] on the k-th subdiagonal, t[-k] on the k-th superdiagonal
    lead = T.batch_shape
    if be.name == "abstract":
        v = be.zeros((*lead, n), T.dtype)
        return ToeplitzFactor(T, v, v, v)
    c = xp.broadcast_to(t[..., :n], (*lead, n))
    r = xp.concat((t[..., :1], xp.flip(t[..., n:], axis=-1)), axis=-1)
    r = xp.broadcast_to(r, (*lead, n))
    if be.name == "jax":
        return ToeplitzFactor(T, *_compiled(be, c, r))
    import numpy as np

    back_c = xp.flip(c, axis=-1)
    # monic vectors: T_k a = d_k e_1 and T_k b = d_k e_k, a starting and b ending with one
    a = b = xp.ones_like(c[..., :1])
    mirrored = T.isa(SelfAdjoint)
    d = xp.real(c[..., 0]) if mirrored and be.is_complex(c) else c[..., 0]
    ratios = [d]
    zero = xp.zeros_like(a)
    with np.errstate(all="ignore"):
        for k in range(1, n):
            low = xp.sum(back_c[..., n - 1 - k : n - 1] * a, axis=-1)  # row k of T times (a, 0)
            longer_a = xp.concat((a, zero), axis=-1)
            if mirrored:  # b is a conjugated and backwards
                b = be.conj(xp.flip(longer_a, axis=-1))
                a = longer_a - (low / d)[..., None] * b
                d = d - xp.abs(low) ** 2 / d
            else:
                high = xp.sum(r[..., 1 : k + 1] * b, axis=-1)  # row 0 of T times (0, b)
                longer_b = xp.concat((zero, b), axis=-1)
                a = longer_a - (low / d)[..., None] * longer_b
                b = longer_b - (high / d)[..., None] * longer_a
                d = d - low * high / d
            ratios.append(d)
        scale = d[..., None]
        b = be.conj(xp.flip(a, axis=-1)) if mirrored else b
        return ToeplitzFactor(T, a / scale, b / scale, xp.stack(ratios, axis=-1))


def _compiled(be: Any, c: Array, r: Array) -> tuple[Array, Array, Array]:
    """The recursion with vectors of full length, so that JAX compiles one step."""
    import jax
    import jax.numpy as jnp

    n = c.shape[-1]
    a0 = jnp.zeros_like(c).at[..., 0].set(1)

    def step(state: Any, k: Any) -> Any:
        a, b, d = state  # b starts at entry 0 and ends with a one at entry k - 1
        b = jnp.roll(b, 1, axis=-1)
        # row k of T is c[k], c[k-1], ..., c[0]: entries beyond a's k are zero
        at = jnp.arange(n)
        row = jnp.where(at <= k, jnp.take(c, jnp.abs(k - at), axis=-1), 0)
        low = jnp.sum(row * jnp.where(at < k, a, 0), axis=-1)
        high = jnp.sum(r * b, axis=-1)
        new_a = a - (low / d)[..., None] * b
        new_b = b - (high / d)[..., None] * a
        d = d - low * high / d
        return (new_a, new_b, d), d

    (a, b, d), rest = jax.lax.scan(step, (a0, a0, c[..., 0]), jnp.arange(1, n))
    ratios = jnp.concatenate((c[..., :1], jnp.moveaxis(rest, 0, -1)), axis=-1)
    return a / d[..., None], b / d[..., None], ratios


@dataclass(frozen=True)
class Levinson(Algorithm):
    """Solve ``T x = b`` and find ``det T`` of a square Toeplitz matrix: ``4 n^2`` flops once, then FFTs.

    Stable for positive definite matrices, where ``Auto`` may take it. Asked for explicitly it serves any
    Toeplitz matrix: it warns (``IllConditionedWarning``) where a nearly singular leading minor has cost
    accuracy, and raises SingularMatrixError where one is exactly singular, which does not mean that T is.
    """

    gathers: ClassVar[str] = "data"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not isinstance(A, Toeplitz):
            return "not a Toeplitz operator"
        return True if A.isa(PSD) else "not declared PSD: a leading minor may be singular"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        # eight array operations a step, about 1.5 us each
        recursion = Cost(8.0 * n * n, 8.0 * A.itemsize * n * n, 4.0 * A.itemsize * n, 0, 3.0 * n)
        return recursion + A.matmat_cost(k) * 8

    def factor(self, A: Any) -> ToeplitzFactor:
        """First and last column of the inverse, for several solves and the determinant."""
        T = _toeplitz(A)
        check_finite(T, T.column)
        if not T.shape[-1]:
            return ToeplitzFactor(T, T.column, T.column, T.column)
        found = toeplitz_factor(T)
        be = T._concrete_backend()
        if be.is_concrete(found.ratios):
            _require_regular(be, T, found)
        return found

    def solve(self, A: Any, b: Array) -> Array:
        check_finite(A, b)
        if 0 in (*A.shape, *b.shape):
            return A._matmat(b)
        be = A._concrete_backend()
        if differentiated(be, A, b):
            # one differentiable step: its derivative is another solve, so memory does not grow with n
            return be.implicit_solve(A, lambda T, rhs: (self._solved(be, T, rhs), ()), b)[0]
        return self._solved(be, A, b)

    def _solved(self, be: Backend, A: Any, b: Array) -> Array:
        factor = self.factor(A)
        if be.is_concrete(factor.f):
            warn_if_singular(factor.rcond(), A, "Levinson")
        x = factor.solve(b)
        if x is NotImplemented:
            warnings.warn(
                f"{A!r}: a leading minor is nearly singular, and Levinson's recursion has lost "
                f"accuracy with it. "
                "Use LU().",
                IllConditionedWarning,
                stacklevel=2,
            )
            x = factor._apply(b)
        return x

    def slogdet(self, A: Any) -> tuple[Array, Array]:
        be = A._concrete_backend()
        if not A.shape[-1]:
            return be.xp.ones(A.batch_shape, dtype=A.dtype), be.zeros(A.batch_shape, be.real_dtype(A.dtype))
        return self.factor(A).slogdet()


def _toeplitz(A: LinearOperator) -> Toeplitz:
    if not isinstance(A, Toeplitz):
        hint = (
            " Solve with its Toeplitz form A.toeplitz, and reverse the answer."
            if isinstance(A, Hankel)
            else ""
        )
        raise TypeError(f"Levinson() is for Toeplitz operators, not {A!r}.{hint}")
    return A


def _require_regular(be: Backend, T: Toeplitz, found: ToeplitzFactor) -> None:
    xp = be.xp
    ratios = found.ratios
    size = xp.abs(ratios)
    if T.isa(PSD):
        real = xp.real(ratios) if be.is_complex(ratios) else ratios
        if not bool(xp.all(real > 0)):
            raise NotPositiveDefiniteError(
                f"{T!r} is declared PSD, but a leading minor is not positive. The operator is not "
                f"positive definite "
                "to working precision; remove the PSD declaration to take the general path, or add a small "
                "multiple of the identity."
            )
    elif bool(xp.any((size == 0) | ~xp.isfinite(size))):
        raise SingularMatrixError(
            f"Levinson() on {T!r}: a leading minor is exactly singular (the whole matrix need not "
            f"be). Use LU()."
        )
