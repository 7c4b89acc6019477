"""An interval that holds the spectrum of a self-adjoint operator, from a few Lanczos steps.

The outermost Ritz values, moved outwards by their residuals (every Ritz value has an eigenvalue within its
residual; Zhou & Li 2011 use the same for filters) and by a margin. A random start misses an eigenvalue
outside of the interval with small probability only; who uses the interval watches for growth outside of it.
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..properties import PSD
from ..pytree import tree_leaves
from .krylov import lanczos

__all__ = ["spectral_bounds"]

MARGIN = 0.01  # of the width of the interval, on either side
FIRST, MOST = (
    20,
    320,
)  # steps: as many as the lower end of a positive spectrum needs to be known within a half


def spectral_bounds(A: Any, positive: bool, key: Any = 0) -> tuple[Array, Array, int]:
    """``(low, high, products)``, 0-d arrays of A's real dtype, constants.

    positive: the lower end is wanted relative to itself and must stay above zero where the Ritz values are; a
    negative one stays negative, for the caller to refuse.
    """
    be = A._concrete_backend()
    xp = be.xp
    n = A.shape[-1]
    if be.name == "torch" and be.is_concrete(*tree_leaves(A)):
        from ..autodiff.torch_implicit import detached

        A = detached(A)
    concrete = be.is_concrete(*tree_leaves(A))
    start = be.normal(key, (n, 1), A.dtype, A.device)
    m, products = min(n, FIRST if concrete else 2 * FIRST), 0
    while True:
        T = lanczos(A, start, m)
        products += T.products
        theta, S = T.eigh(be)
        theta, S, weight = theta[0], S[0], xp.abs(S[0, 0, :]) ** 2
        eps = float(xp.finfo(theta.dtype).eps)
        met = weight > (10 * eps) ** 2
        inf = xp.full_like(theta, float("inf"))
        left = xp.abs(T.beta[-1, 0] * S[-1, :])
        lowest = xp.min(xp.where(met, theta, inf))
        highest = -xp.min(xp.where(met, -theta, inf))
        low = lowest - xp.max(xp.where(theta == lowest, left, 0 * left))
        high = highest + xp.max(xp.where(theta == highest, left, 0 * left))
        complete = T.alpha.shape[0] < m or m == n
        if not concrete or not positive or complete or m >= MOST:
            break
        if bool(low > 0.5 * lowest) or bool(lowest < 0):
            break
        m = min(2 * m, n, MOST)
    margin = MARGIN * (high - low) + 10 * eps * xp.maximum(xp.abs(low), xp.abs(high))
    high = high + margin
    if positive:
        # a relative margin: an absolute one would cross zero
        below = xp.where(low > 0.5 * lowest, 0.9 * low, 0.1 * lowest)
        low = xp.where(lowest > 0, below, lowest)
    else:
        low = low - margin
        low = xp.maximum(low, 0 * low) if A.isa(PSD) else low
    return be.constant(low), be.constant(high), products
