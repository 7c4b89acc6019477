"""``PiecewiseSolver``: what solvers that take the operator piece by piece do alike: batches of right-hand
sides become columns, and there is no place for a preconditioner."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..backends.base import Array, Backend
from .base import refuse_batches
from .krylov_solver import KrylovSolver

__all__ = ["PiecewiseSolver", "negative_curvature"]


@dataclass(frozen=True)
class PiecewiseSolver(KrylovSolver):
    """Base: ``_pieces(be, A, B, limit)`` is what ``_iterate`` is given in place of a preconditioner, and how
    many products with A it took to find."""

    _self_adjoint: ClassVar[bool] = True

    def _pieces(self, be: Backend, A: Any, B: Array, limit: int) -> tuple[Any, int]:
        raise NotImplementedError(f"{type(self).__name__} must define _pieces")

    def solve(self, A: Any, b: Array) -> Array:
        name = type(self).__name__
        refuse_batches(A, name, "CG()")
        if self.P is not None:
            raise NotImplementedError(f"{name} takes no preconditioner (P=); use CG(P=...), or leave it out.")
        return super().solve(A, b)

    def _run(
        self,
        be: Backend,
        A: Any,
        P: Any,
        B: Array,
        X: Array | None,
        tol: float,
        limit: Any,
        estimates: bool = True,
    ) -> tuple[Array, Any, Any, Array, dict[str, Any]]:
        batch, (n, k) = B.shape[:-2], B.shape[-2:]
        if batch:
            B = _as_columns(be, B)
            X = None if X is None else _as_columns(be, X)
        data, made = self._pieces(be, A, B, limit)
        with np.errstate(over="ignore", invalid="ignore"):  # steps that are too long are taken back
            X, steps, products, codes, facts = super()._run(be, A, data, B, X, tol, limit, estimates)
        if batch:
            X = be.xp.moveaxis(be.xp.reshape(X, (n, math.prod(batch), k)), 1, 0)
            X = be.xp.reshape(X, (*batch, n, k))
            codes = be.xp.reshape(codes, (*batch, k))
        return X, steps, products + made, codes, facts


def _as_columns(be: Backend, B: Array) -> Array:
    """(*batch, n, k) as (n, batch * k)."""
    n, k = B.shape[-2:]
    count = math.prod(B.shape[:-2])
    return be.xp.reshape(be.xp.moveaxis(be.xp.reshape(B, (count, n, k)), 0, 1), (n, count * k))


def negative_curvature(be: Backend, X: Array, AX: Array) -> Array:
    """Per column, whether ``x^H A x`` is below zero by more than rounding."""
    xp = be.xp
    c = be.inner(X, AX)
    c = xp.real(c) if be.is_complex(c) else c
    eps = float(xp.finfo(c.dtype).eps)
    return c < -1000 * eps * be.norm(X) * be.norm(AX)
