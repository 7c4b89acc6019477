"""Derivatives of a dense ``A^+ b``: those of ``pseudoinverse``, by products with the array of ``A^+``.

The array ``P = A^+`` costs as much as the factorisation and serves the derivatives of every order: nothing is
factorised twice. It is an output beside x, with a derivative of its own,
``dP = -P dA P + P P^H dA^H (I - A P) + (I - P A) dA^H P^H P``; nothing as large as m by m or a derivative of
singular vectors appears. Of the rank and its changes: see ``rank_change``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backends.base import Array, Backend
from ..pytree import tree_leaves
from .factor import dense_entries
from .rank_change import guarded, refuse_rank_change

__all__ = ["dense_pseudo_solved"]


def dense_pseudo_solved(
    be: Backend, A: Any, B: Array, factor: Callable[[Any], Any]
) -> tuple[Array, int | None]:
    """``factor(A).solve(B)`` with its derivatives, and the numerical rank."""
    mm, adjoint = be.matmul, be.adjoint
    m, n = A.shape[-2:]
    moving = [be.differentiating(x) for x in tree_leaves(A) if hasattr(x, "shape")]
    eps = float(be.xp.finfo(be.real_dtype(B.dtype)).eps)
    tol, ranks = eps**0.75, []

    def identity(size: int) -> Array:
        return be.eye(size, B.dtype, be.device(B))

    def run(A: Any, B: Array) -> Any:
        found = factor(A)
        ranks.append(found.rank)
        return (found.solve(B), found.solve(identity(m))), None

    def inverse(P: Array) -> Any:
        P = be.constant(P)

        def solve(A: Any, V: Array) -> tuple[Array, None]:
            return mm(P, V), None

        return solve

    def tangent(d: Any, inputs: Any, outputs: Any) -> Any:
        (A, B), (X, P) = inputs, outputs
        if not d.moves(0):
            return mm(P, d[1]), be.xp.zeros_like(P)
        M, PH = be.astype(dense_entries(A), B.dtype), adjoint(P)
        E, EH = d.product(0, identity(n)), d.adjoint(0, identity(m))
        E, EH = be.astype(E, B.dtype), be.astype(EH, B.dtype)
        R = B - mm(M, X)
        turned = mm(EH, mm(PH, X))
        rhs = mm(PH, mm(EH, R)) - mm(E, X) - mm(M, turned)
        rhs = rhs + d[1] if d.moves(1) else rhs
        moved = guarded(be, A, B, R, d, mm(P, rhs) + turned, inverse(P), tol, "LSTSQ")
        turned = mm(mm(EH, PH), P)
        dP = mm(P, mm(PH, EH - mm(mm(EH, M), P))) + turned - mm(mm(P, M), turned) - mm(mm(P, E), P)
        return moved, dP

    def cotangent(grads: Any, inputs: Any, outputs: Any) -> Any:
        (A, B), (X, P), (G, GP) = inputs, outputs, grads
        PH = adjoint(P)
        U = mm(PH, G)
        if not any(moving):
            return None, U
        M = be.astype(dense_entries(A), B.dtype)
        R, N = B - mm(M, X), G - mm(adjoint(M), U)
        U = refuse_rank_change(be, A, B, R, G, N, moving, U, tol, "LSTSQ")
        W = mm(PH, X)
        pairs = [(-U, X), (R, mm(P, U)), (W, N)]
        if not be.is_concrete(GP) or bool(be.xp.any(GP != 0)):
            GH = adjoint(GP)
            once, other = mm(GH, mm(P, PH)), mm(PH, mm(P, GH))
            once = once - mm(M, mm(P, once))
            whole = once + other - mm(other, mm(P, M)) - mm(PH, mm(GP, PH))
            pairs.append((whole, identity(n)))
        return pairs, U

    (X, _), _ = be.differentiable(run, tangent, A, B, cotangent=cotangent)
    return X, ranks[-1] if ranks else None
