"""Factorisations that follow from structure:
what ``inv(A)`` keeps of an eigenbasis or of a low-rank correction.

Same protocol as the direct factors of ``algorithms.factor``: ``solve(B)`` and ``slogdet()``. ``solve`` may
return NotImplemented after looking at its own residual; the next rule or algorithm then answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..algorithms.base import Auto
from ..algorithms.factor import singular_raises, warn_if_singular
from ..algorithms.iteration import differentiated
from ..backends.base import Array
from ..dispatch.choose import ask
from ..errors import NotPositiveDefiniteError, SingularMatrixError
from ..operators import Dense, LinearOperator
from ..properties import PSD, SelfAdjoint
from ..pytree import map_leaves
from .inverse import INV
from .structure import low_rank_split

__all__ = ["SpectralFactor", "WoodburyFactor", "refined", "spectral_factor", "woodbury_factor"]


@dataclass(frozen=True)
class SpectralFactor:
    """``A = V diag(w) V^H`` with V structured."""

    A: LinearOperator
    w: Array
    V: LinearOperator

    def solve(self, B: Array) -> Array:
        """``V (V^H B / w)``.

        Eigenvectors have no derivative where eigenvalues repeat, the solution has: it is that of the solve.
        """
        be = self.A._concrete_backend()
        if be.name != "abstract" and self.A.isa(SelfAdjoint) and differentiated(be, self.A, B):
            if be.name == "torch" and not be.is_concrete(self.w):
                # vmap solves with its examples one by one: each has its own basis
                return be.implicit_solve(
                    self.A, lambda M, rhs: (spectral_factor(M, alg=Auto())._apply(rhs), None), B
                )[0]
            # A^H = A: one serves both ways
            fixed = SpectralFactor(self.A, be.constant(self.w), map_leaves(be.constant, self.V))
            return be.implicit_solve(self.A, lambda _, rhs: (fixed._apply(rhs), None), B)[0]
        return self._apply(B)

    def _apply(self, B: Array) -> Array:
        return self.V._matmat(self.V._rmatmat(B) / self.w[..., :, None])

    def slogdet(self) -> tuple[Array, Array]:
        """Product of the eigenvalues."""
        from .determinant import of_entries

        be = self.A._concrete_backend()
        sign, value = of_entries(be, self.w)
        return be.astype(sign, self.A.dtype), value


def spectral_factor(A: Any, *, alg: Any) -> SpectralFactor:
    """The eigendecomposition of A, checked for zero and tiny eigenvalues."""
    from .eigen import EIGH

    w, V = ask(EIGH, (A,), alg)
    be = A._concrete_backend()
    xp = be.xp
    if be.is_concrete(w) and w.shape[-1]:
        smallest, largest = be.number(xp.min(xp.abs(w))), be.number(xp.max(xp.abs(w)))
        if smallest == 0.0:
            raise SingularMatrixError(
                f"{A!r} is singular: an eigenvalue is exactly zero. Add a multiple of the identity or "
                "project out the null space."
            )
        warn_if_singular(smallest / largest, A, "eigenvalue")
    return SpectralFactor(A, w, V)


def refined(A: LinearOperator, B: Array, solve: Callable[[Array], Array]) -> Any:
    """``solve(B)``, judged by the residual of the whole system A and refined once where that pays.

    NotImplemented where it stays poor: the next rule or algorithm then answers. Under a trace nothing can be
    judged.
    """
    x = solve(B)
    be = A._concrete_backend()
    if not be.is_concrete(x) or 0 in B.shape:
        return x
    eps = float(be.xp.finfo(be.real_dtype(x.dtype)).eps)
    limit = eps**0.65  # 7e-11 in double, 3e-5 in single: past it one refinement pays
    r, bad = _residual(A, B, x)
    if bad > limit:
        x = x + solve(r)
        _, bad = _residual(A, B, x)
    return x if bad <= 1e3 * limit else NotImplemented


def _residual(A: LinearOperator, B: Array, x: Array) -> tuple[Array, float]:
    be = A._concrete_backend()
    xp = be.xp
    bnorm = be.norm(B)
    r = B - A._matmat(x)
    return r, be.number(xp.max(be.norm(r) / xp.where(bnorm > 0, bnorm, xp.ones_like(bnorm))))


@dataclass(frozen=True)
class WoodburyFactor:
    """``(B + U V^H)^{-1} = B^{-1} - Z C^{-1} V^H B^{-1}`` with ``Z = B^{-1} U`` and ``C = I + V^H Z``."""

    A: LinearOperator
    V: Array
    kept: LinearOperator
    Z: Array
    C: LinearOperator
    Cinv: LinearOperator

    def _correct(self, rhs: Array) -> Array:
        be = self.A._concrete_backend()
        x = self.kept._matmat(rhs)
        return x - be.matmul(self.Z, self.Cinv._matmat(be.matmul(be.adjoint(self.V), x)))

    def solve(self, B: Array) -> Array:
        """Woodbury's formula, judged by the residual of the whole system:
        it cancels when B is much smaller than U V^H."""
        return refined(self.A, B, self._correct)

    def slogdet(self, alg: Any = Auto()) -> tuple[Array, Array]:
        """``det A = det B det C``: Harville 1997, thm 18.1.1. ``alg`` answers for B.

        A determinant has no residual, so the factor is first tried on a system with a known answer.
        """
        from .determinant import SLOGDET

        be = self.A._concrete_backend()
        known = be.xp.ones_like(self.Z[..., :1])
        error = be.norm(self._correct(self.A._matmat(known)) - known)
        if be.is_concrete(error) and 0 not in known.shape:
            eps = float(be.xp.finfo(be.real_dtype(known.dtype)).eps)
            if not be.number(be.xp.max(error)) <= eps**0.5 * known.shape[-2] ** 0.5:
                return NotImplemented  # type: ignore[return-value]
        s1, v1 = ask(SLOGDET, (self.kept,), alg)
        s2, v2 = ask(SLOGDET, (self.Cinv,), Auto())
        return be.conj(s1 * s2), -v1 - v2


def woodbury_factor(A: Any, *, alg: Any) -> Any:
    """Solve with the base for all columns of U at once and set up the small capacitance system.

    NotImplemented where the base is singular, or only semidefinite (A itself need not be).
    """
    U, V, base = low_rank_split(A)  # type: ignore[misc]
    be = A._concrete_backend()
    try:
        with singular_raises():
            kept = ask(INV, (base,), alg)
            Z = kept._matmat(U)
    except (SingularMatrixError, NotPositiveDefiniteError):
        return NotImplemented
    C = be.matmul(be.adjoint(V), Z) + be.eye(U.shape[-1], A.dtype, A.device)
    small = Dense(C, declared=frozenset({PSD}) if base.isa(PSD) and U is V else frozenset())
    return WoodburyFactor(A, V, kept, Z, small, ask(INV, (small,), Auto()))
