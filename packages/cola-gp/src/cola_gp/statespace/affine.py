r"""Chains of affine maps with noise, backwards in time: ``x_k = F_k x_{k+1} + g_k + N(0, D_k)``.

The smoother is one (the state given the next), and so is the adjoint of the filter (the derivative of the
likelihood by a prediction, given that by the next).  Two neighbouring maps compose into one, which is
associative, so that the recursion is done through time or by a tree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arrays import Array
from .linear import mv
from .scans import Tree, parallel, sequential

Join = Callable[[Any, Array, Array], Array]


def compose(be: Any, one: Tree, two: Tree, join: Join | None = None) -> Tree:
    """``x = F1 (F2 z + g2 + N(0, D2)) + g1 + N(0, D1)`` as one map.

    join: the factor of a sum from factors, where D are given by factors; None where D are covariances.
    """
    F1, g1, D1 = one
    F2, g2, D2 = two
    D = F1 @ D2 @ F1.mT + D1 if join is None else join(be, F1 @ D2, D1)
    return (None if F2 is None else F1 @ F2), mv(F1, g2) + g1, D


def backwards(be: Any, maps: Tree, method: str, join: Join | None = None) -> tuple[Array, Array]:
    """Means and covariances (or their factors) of all ``x_k``; maps ``F, g, D`` with n entries, the last
    ``F = 0``.
    """
    if method == "parallel":
        return parallel(be, lambda a, b: compose(be, a, b, join), maps, reverse=True)[1:]  # type: ignore[return-value]

    def step(carry: Tree, inputs: Tree) -> tuple[Tree, Tree]:
        out = compose(be, inputs, (None, *carry), join)[1:]
        return out, out

    _, g, D = maps
    start = (be.xp.zeros_like(g[0]), be.xp.zeros_like(D[0]))
    return sequential(be, step, start, maps, int(g.shape[0]), reverse=True)  # type: ignore[return-value]
