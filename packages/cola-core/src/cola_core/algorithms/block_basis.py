"""Orthonormal blocks of fixed width for block eigenvalue methods.

A block that is dependent keeps its width: what is lost becomes zero columns, "dead" ones, that the
Rayleigh-Ritz step passes by. The basis of a block comes from the eigenvectors of its scaled Gram matrix,
twice (SVQB: Stathopoulos & Wu, SISC 23 (2002) 2165; Duersch, Shao, Yang & Gu, SISC 40 (2018) C655).
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array, Backend

__all__ = ["against", "alive", "extend", "finite", "independent", "ritz"]


def independent(be: Backend, W: Array, M: Any = None) -> Array:
    """An orthonormal basis of the columns of W, (n, b), zero columns where they are dependent.

    M: an operator; orthonormal then in its inner product, ``X^H M X = I``.
    """
    xp = be.xp
    real = be.real_dtype(W.dtype)
    eps = float(xp.finfo(real).eps)
    b = W.shape[-1]
    # a common power of two first, so that squares neither vanish nor overflow
    top = xp.max(xp.abs(W), axis=-2) if W.shape[0] else be.zeros((b,), real, be.device(W))
    W = W / be.astype(xp.where((top > 0) & xp.isfinite(top), top, xp.ones_like(top)), W.dtype)
    for _ in range(2):
        G = be.matmul(be.adjoint(W), W if M is None else M @ W)
        d = xp.linalg.diagonal(G)
        d = xp.real(d) if be.is_complex(d) else d
        s = xp.where(d > 0, 1 / xp.sqrt(xp.where(d > 0, d, xp.ones_like(d))), xp.zeros_like(d))
        s = be.astype(s, W.dtype)
        G = s[:, None] * G * s
        w, U = be.eigh(finite(be, (G + be.adjoint(G)) / 2))
        keep = w > 10 * eps * b * xp.max(xp.abs(w))
        scale = xp.where(keep, 1 / xp.sqrt(xp.where(keep, w, xp.ones_like(w))), xp.zeros_like(w))
        W = be.matmul(W, s[:, None] * U * be.astype(scale, W.dtype))
    return W


def against(be: Backend, basis: Array, W: Array, image: Array | None = None) -> Array:
    """W without its part in an orthonormal basis (n, m), twice; image: M @ basis where M is the metric."""
    image = basis if image is None else image
    for _ in range(2):
        W = W - be.matmul(basis, be.matmul(be.adjoint(image), W))
    return W


def extend(be: Backend, basis: Array, W: Array, image: Array | None = None, M: Any = None) -> Array:
    """An orthonormal block of what W adds to an orthonormal basis; zero columns for what it does not."""
    eps = float(be.xp.finfo(be.real_dtype(W.dtype)).eps)
    before = be.norm(W)
    W = against(be, basis, W, image)
    W = independent(be, _without(be, W, be.norm(W) > 10 * eps * before), M)
    before = be.norm(W)
    W = against(be, basis, W, image)
    # a unit vector that loses most of itself was rounding error: the space is full
    return independent(be, _without(be, W, be.norm(W) > 0.5 * before), M)


def _without(be: Backend, W: Array, keep: Array) -> Array:
    return be.xp.where(keep, W, be.xp.zeros_like(W))


def finite(be: Backend, G: Array) -> Array:
    """G, or zeros where it has NaN: LAPACK would fail on that, and residuals show it all the same."""
    return be.xp.where(be.xp.all(be.xp.isfinite(G)), G, be.xp.zeros_like(G))


def alive(be: Backend, S: Array) -> Array:
    """Which columns are not dead."""
    return be.norm(S) > 0


def ritz(be: Backend, S: Array, AS: Array, live: Array, largest: bool) -> tuple[Array, Array]:
    """Ritz values and coefficients in a basis with dead columns, most wanted first, the dead last."""
    xp = be.xp
    G = be.matmul(be.adjoint(S), AS)
    G = (G + be.adjoint(G)) / 2
    size = xp.max(xp.sum(xp.abs(G), axis=-1))
    size = xp.where(size > 0, size, xp.ones_like(size))
    # beyond every eigenvalue, at the unwanted end
    beyond = xp.where(live, xp.zeros_like(size), 4 * size * (-1 if largest else 1))
    mask = be.astype(live, G.dtype)
    G = mask[:, None] * G * mask + be.matrix_diag(be.astype(beyond, G.dtype))
    w, C = be.eigh(finite(be, G))
    order = xp.arange(w.shape[-1], device=None if be.name == "jax" else be.device(w))
    order = xp.flip(order) if largest else order
    return w[order], C[:, order]
