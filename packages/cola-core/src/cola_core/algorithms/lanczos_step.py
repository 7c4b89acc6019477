"""One step of the Lanczos process that the solvers for self-adjoint operators share, preconditioned.

Paige & Saunders, SIAM J. Numer. Anal. 12 (1975) 617, sec. 2; with a positive definite P as in Choi, Paige &
Saunders, SIAM J. Sci. Comput. 33 (2011) 1810, sec. 4: the vectors ``Z_k / beta_k`` are orthonormal in the
inner product of ``P^{-1}``, and the matrix of A among them is tridiagonal with ``alpha_k`` on its diagonal
and ``beta_k`` beside it. Three vectors are held per column, none is orthogonalised again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..backends.base import Array, Backend

__all__ = ["LanczosPair", "lanczos_start", "lanczos_step", "positive", "real", "rotation"]


class LanczosPair(NamedTuple):
    """Two consecutive vectors, not normalised: ``older`` of norm ``before`` and ``U`` of norm ``beta`` with
    ``Z = P U`` (norms in P)."""

    older: Array
    U: Array
    Z: Array
    before: Array
    beta: Array


def lanczos_start(be: Backend, P: Any, R: Array) -> tuple[LanczosPair, Array]:
    """The first vector from a residual; and which columns show P to be not positive."""
    Z = R if P is None else P @ R
    beta, bad = _length(be, P, R, Z)
    return LanczosPair(be.xp.zeros_like(R), R, Z, be.xp.ones_like(beta), beta), bad


def lanczos_step(be: Backend, A: Any, P: Any, pair: LanczosPair) -> tuple[Array, Array, LanczosPair, Array]:
    """``(V, alpha, next pair, bad)``: the normalised vector of this step, ``V^H A V``, and where P failed."""
    older, U, Z, before, beta = pair
    V = Z * be.astype(1 / positive(be, beta), Z.dtype)[..., None, :]
    # older is ours to overwrite, a product is not: the identity returns its operand
    Y = be.xpay(A @ V, be.astype(-beta / before, Z.dtype), older)
    alpha = real(be, be.inner(V, Y))
    Y = be.axpy(be.astype(-alpha / positive(be, beta), Z.dtype), U, Y)
    Z = Y if P is None else P @ Y
    following, bad = _length(be, P, Y, Z)
    return V, alpha, LanczosPair(U, Y, Z, positive(be, beta), following), bad


def _length(be: Backend, P: Any, U: Array, Z: Array) -> tuple[Array, Array]:
    xp = be.xp
    if P is None:
        beta = be.norm(U)
        return beta, xp.zeros_like(beta, dtype=xp.bool)
    square = real(be, be.inner(U, Z))
    # a P that is not positive: compared with sizes of the same two vectors, so that no unit matters
    eps = float(xp.finfo(square.dtype).eps)
    bad = square < -10 * eps * be.norm(U) * be.norm(Z)
    return xp.sqrt(xp.where(square > 0, square, xp.where(xp.isfinite(square), 0 * square, square))), bad


def positive(be: Backend, x: Array) -> Array:
    """x, with one in the place of zero and NaN, to divide by."""
    return be.xp.where(x > 0, x, be.xp.ones_like(x))


def rotation(be: Backend, a: Array, b: Array) -> tuple[Array, Array, Array]:
    """``(c, s, r)`` of the reflection that takes (a, b) to (r, 0), r >= 0; c = 1 for (0, 0)."""
    xp = be.xp
    r = xp.hypot(a, b)
    safe = positive(be, r)
    return xp.where(r > 0, a / safe, xp.ones_like(r)), b / safe, r


def real(be: Backend, x: Array) -> Array:
    """The real part of numbers that are real in theory."""
    return be.xp.real(x) if be.is_complex(x) else x
