"""Golub-Kahan bidiagonalisation, the process behind LSQR and LSMR. Golub & Kahan, SIAM J. Numer. Anal. 2
(1965) 205; the form of Paige & Saunders, ACM Trans. Math. Softw. 8 (1982) 43, sec. 3 ("Bidiag 1").

``beta_1 u_1 = b``, ``alpha_1 v_1 = A^H u_1``; then ``beta u = A v - alpha u`` and ``alpha v = A^H u - beta
v``. Every column of b has its own process. It ends (a zero alpha or beta) when the space is exhausted,
which is an exact end: the vector is then zero.
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array, Backend

__all__ = ["advance", "begin", "normalized", "rotation"]


def begin(be: Backend, A: Any, AH: Any, B: Array) -> tuple[Array, Array, Array, Array]:
    """``u, v, alpha, beta`` of the first step; one product with A^H."""
    beta = be.norm(B)
    U = normalized(be, B + 0, beta)
    V = AH @ U + 0
    alpha = be.norm(V)
    return U, normalized(be, V, alpha), alpha, beta


def advance(
    be: Backend, A: Any, AH: Any, U: Array, V: Array, alpha: Array
) -> tuple[Array, Array, Array, Array]:
    """The next ``u, v, alpha, beta``; one product with A, one with A^H. U and V may be overwritten."""
    U = be.xpay(A @ V, be.astype(-alpha, U.dtype), U)
    beta = be.norm(U)
    U = normalized(be, U, beta)
    V = be.xpay(AH @ U, be.astype(-beta, V.dtype), V)
    alpha = be.norm(V)
    return U, normalized(be, V, alpha), alpha, beta


def rotation(xp: Any, a: Array, b: Array) -> tuple[Array, Array, Array]:
    """``c, s, r`` with ``c a + s b = r = sqrt(a^2 + b^2)``, real; ``c = 1`` where both are zero."""
    r = xp.hypot(a, b)
    safe = xp.where(r > 0, r, xp.ones_like(r))
    return xp.where(r > 0, a / safe, xp.ones_like(r)), b / safe, r


def normalized(be: Backend, X: Array, size: Array) -> Array:
    """``X / size``, zero where the size is zero; X may be overwritten."""
    xp = be.xp
    if be.name == "numpy" and size.shape == (1,):
        if size[0] != 0:
            X *= 1 / size[0]
        return X
    factor = 1 / xp.where(size > 0, size, xp.ones_like(size))
    factor = be.astype(xp.where(xp.isfinite(size), factor, size), X.dtype)
    if be.name == "numpy":
        X *= factor[..., None, :]
        return X
    return X * factor[..., None, :]
