"""Quotients by gaps of eigenvalues, and what is done where there is no gap.

Perturbed eigenvectors are ``dV = V K`` with ``K_ij = C_ij / (w_j - w_i)``, ``C = V^-1 dA V``. Eigenvalues
that agree to rounding form a *group*: its vectors span a space that is a smooth function of A, but the
basis of that space is arbitrary. So K is zero inside groups (the basis is carried along without turning),
and beside w there is the matrix B of A in the basis V: the same numbers on its diagonal, zeros elsewhere,
but inside groups with the derivative ``dB_ij = C_ij``. Then ``C = K B - B K + dB`` holds exactly, V and B
are smooth to all orders, and so is every function of them that does not see the basis inside a group (a
projector, say), at exact ties too.

That is why the quotient is differentiated as the solution of ``K T - S K = C``, with S = T = B, and not by
differentiating ``1 / (w_j - w_i)``: inside a group S and T turn away from being diagonal.

Two kinds of loss have no such derivative, and are refused. One that depends on the basis of a group shows
by cotangents X of K that are not zero inside it (of a self-adjoint matrix: whose skew part is not zero).
One that weighs tied eigenvalues differently *and* sees their vectors may be a matrix function ``V f(w)
V^H``, whose derivative inside a group is not determined by what the loss says about w and V.

Sources: the masked rule is that of differentiable eigensolvers for degenerate spectra (e.g. Kasim & Vinko,
arXiv:2010.13311); to all orders by the parallel transport of Kato 1995, sec. II.4.2.
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array

__all__ = [
    "GAPS",
    "depends_on_basis",
    "groups",
    "inverse_gaps",
    "largest",
    "separate",
    "size_of",
    "tie_limit",
    "weighs_apart",
]

GAPS = 64.0
"""Eigenvalues closer than this many units of rounding of the largest are one group."""


def tie_limit(be: Any, w: Array, n: int, gap: float | None = None) -> Array:
    """The largest gap that counts as none, (..., 1): ``gap``, or ``max(64, n) eps max|w|``."""
    if gap is not None:
        return be.xp.zeros_like(w[..., :1]) + gap
    eps = float(be.xp.finfo(be.real_dtype(w.dtype)).eps)
    return max(GAPS, n) * eps * be.xp.max(be.xp.abs(w), axis=-1, keepdims=True)


def groups(be: Any, w: Array, limit: Array) -> Array:
    """Whether sorted real numbers (..., n) belong to one group: (..., n, n)."""
    xp = be.xp
    first = xp.zeros_like(w[..., :1], dtype=be.dtype("int32"))
    steps = xp.astype(xp.abs(w[..., 1:] - w[..., :-1]) > limit, be.dtype("int32"))
    label = xp.cumulative_sum(xp.concat([first, steps], axis=-1), axis=-1)
    return label[..., :, None] == label[..., None, :]


def separate(be: Any, w: Array, limit: Array, n: int = 2) -> bool:
    """Whether sorted numbers are seen to be all apart: no groups, and nothing to look for."""
    if not be.is_concrete(w) or w.shape[-1] < n:
        return False
    return bool(be.xp.all(be.xp.abs(w[..., 1:] - w[..., :-1]) > limit))


def inverse_gaps(be: Any, gaps: Array, masked: Array) -> Array:
    """``1 / gaps``, zero where masked (finite there for the derivative's sake, too)."""
    xp = be.xp
    return xp.where(masked, xp.zeros_like(gaps), 1 / xp.where(masked, xp.ones_like(gaps), gaps))


def depends_on_basis(
    be: Any, numerators: Array, X: Array, gw: Array | None, tied: Array, size: Array | None = None
) -> Array:
    """Whether a loss has no derivative at these ties, of batch shape: see the module.

    numerators: what must vanish inside groups, of the cotangents X of K; gw: the cotangents of w. size: of
    all cotangents (batch shape); below sqrt(eps) of it (default: of the largest of X) everything is rounding.
    """
    xp = be.xp
    if not be.is_concrete(X):
        # phases alone are let pass where values cannot be seen: where all cancels, as in second derivatives
        # of a sum of eigenvalues, cotangents are rounding errors, and NaN for them would be worse
        tied = tied & ~(be.eye(X.shape[-1], be.real_dtype(X.dtype), be.device(X)) > 0)
    eps = float(xp.finfo(be.real_dtype(X.dtype)).eps) ** 0.5
    most = eps * (largest(be, X) if size is None else size)[..., None, None]
    seen = xp.abs(numerators) > most
    if gw is not None:
        limit = eps * xp.max(xp.abs(gw), axis=-1)[..., None, None]
        uneven = xp.abs(gw[..., :, None] - gw[..., None, :]) > limit
        seen = seen | (uneven & (xp.abs(X) > most))
    return xp.any(xp.any(seen & tied, axis=-1), axis=-1)


def weighs_apart(be: Any, w: Array, gw: Array, tied: Array, noted: float) -> Array:
    """Whether cotangents gw of eigenvalues differ inside groups, of batch shape: each one's derivative is
    that of a vector of the group, whichever it is. noted: see ``size_of``."""
    xp = be.xp
    eps = float(xp.finfo(be.real_dtype(w.dtype)).eps) ** 0.5
    top = xp.max(xp.abs(w), axis=-1)
    size = xp.maximum(xp.max(xp.abs(gw), axis=-1), noted / xp.where(top > 0, top, xp.ones_like(top)))
    apart = xp.abs(gw[..., :, None] - gw[..., None, :]) > eps * size[..., None, None]
    return xp.any(xp.any(apart & tied, axis=-1), axis=-1)


def largest(be: Any, X: Array) -> Array:
    """The largest modulus of an entry, of batch shape."""
    xp = be.xp
    return xp.max(xp.max(xp.abs(X), axis=-1), axis=-1)


def size_of(be: Any, cotangents: Any, w: Array, gw: Array | None, noted: float = 0.0) -> Array:
    """The size of all cotangents together, of those of vectors and of w times w; at least ``noted``."""
    xp = be.xp
    total = 0 * xp.max(w, axis=-1) + noted
    if gw is not None:
        total = xp.max(xp.abs(w), axis=-1) * xp.max(xp.abs(gw), axis=-1)
    for g in cotangents:
        if g is not None and 0 not in g.shape:
            total = xp.maximum(total, largest(be, g))
    return total
