"""Derivatives of ``A = V diag(w) V^H``, A self-adjoint, along self-adjoint perturbations.

With ``C = V^H dA V``: ``dw = diag(C)``, ``dV = V K``, ``K_ij = C_ij / (w_j - w_i)`` outside groups of tied
eigenvalues and zero inside (``quotients``). Third output: B, the matrix of A in that basis.
gap: eigenvalues no further apart are tied, instead of those that agree to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from .dense_rule import Tools, Values, hermitian
from .quotients import depends_on_basis, groups, inverse_gaps, separate, size_of, tie_limit, weighs_apart

__all__ = ["EIGH", "EIGHVALS", "MESSAGE", "eigh_rule", "watched"]

MESSAGE = (
    "the derivative of this function of {name} does not exist, or is not determined: it depends on the basis "
    "of eigenvectors of equal {values} (or on their phases), which is arbitrary, or weighs equal {values} "
    "and their vectors differently. Write it by what does not depend on them: projectors of whole groups, or "
    "functions of the matrix itself (cola_core.sqrt, exp, apply_unary, logdet, trace, solve)."
)


@dataclass(frozen=True)
class _Eigh:
    name: str = "eigh"
    keeps_input: bool = False
    constants: tuple[int, ...] = ()
    whole: None = None
    count: int = 3
    gap: float | None = None

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        w, V = be.plain_eigh(A)
        return w, V, be.matrix_diag(be.astype(w, V.dtype))

    def broken(self, be: Any, A: Array | None, out: tuple[Array, ...]) -> None:
        return None

    def _limit(self, be: Any, w: Array) -> Array:
        return tie_limit(be, w, w.shape[-1], self.gap)

    def _gaps(self, be: Any, w: Array) -> tuple[Array, Array]:
        tied = groups(be, w, self._limit(be, w))
        return tied, inverse_gaps(be, w[..., None, :] - w[..., :, None], tied)

    def push(self, tools: Tools, A: Array | None, out: tuple[Array, ...], dA: Array) -> tuple[Array, ...]:
        be = tools.be
        w, V, B = out
        tied, E = self._gaps(be, w)
        C = be.matmul(be.adjoint(V), be.matmul(hermitian(be, dA), V))
        K = tools.quotient(E, B, B, C)
        dw = be.xp.linalg.diagonal(C)
        K, dw = watched(tools, K, be.xp.real(dw) if be.is_complex(dw) else dw, w, tied)
        return dw, be.matmul(V, K), C * be.astype(tied, C.dtype)

    def pull(
        self, tools: Tools, A: Array | None, out: tuple[Array, ...], g: tuple[Array | None, ...]
    ) -> Array | None:
        be = tools.be
        w, V, B = out
        gw, gV, gB = g
        adjoint = be.adjoint(V)
        if gw is not None and be.is_concrete(gw, w) and gw.shape[-1] > 1:
            limit = self._limit(be, w)
            if not separate(be, w, limit):
                uneven = weighs_apart(be, w, gw, groups(be, w, limit), tools.noted)
                gw = tools.refuse(gw[..., None], uneven, MESSAGE.format(name=self.name, values="eigenvalues"))
                gw = gw[..., 0]
        if gV is None and gB is None:
            return None if gw is None else be.matmul(V * be.astype(gw, V.dtype)[..., None, :], adjoint)
        if gB is None and not be.is_complex(V) and separate(be, w, self._limit(be, w)):
            # nothing to mask and no phases: fewer passes over the matrix
            X = be.matmul(adjoint, gV)
            inner = tools.divided_by_gaps(w, X, gw)
            if inner is None:
                fixed = be.constant(w)
                here = be.eye(w.shape[-1], w.dtype, be.device(w)) > 0
                gaps = fixed[..., None, :] - fixed[..., :, None]
                E = 1 / be.xp.where(here, be.xp.full_like(gaps, float("inf")), gaps)
                inner = hermitian(be, tools.quotient(E, B, B, X))
                inner = inner if gw is None else inner + be.matrix_diag(gw)
            return be.matmul(V, be.matmul(inner, adjoint))
        tied, E = self._gaps(be, w)
        inner = None if gB is None else gB * be.astype(tied, gB.dtype)
        bad = None
        if gV is not None:
            X = be.matmul(adjoint, gV)
            bad = depends_on_basis(be, X - be.adjoint(X), X, gw, tied, size_of(be, (X,), w, gw, tools.noted))
            part = tools.quotient(E, B, B, X)
            inner = part if inner is None else inner + part
        inner = hermitian(be, inner)
        if gw is not None:
            inner = inner + be.matrix_diag(be.astype(gw, inner.dtype))
        G = be.matmul(V, be.matmul(inner, adjoint))
        if bad is None:
            return G
        return tools.refuse(G, bad, MESSAGE.format(name=self.name, values="eigenvalues"))


def watched(tools: Tools, K: Array, dw: Array, w: Array, tied: Array) -> tuple[Array, Array]:
    """K and dw, whose cotangents are looked at together."""
    be = tools.be

    def seen(both: Array) -> Array:
        X, gw = both[..., :-1], both[..., -1]
        numerators = X - be.adjoint(X)
        return depends_on_basis(be, numerators, X, gw, tied, size_of(be, (X,), be.xp.abs(w), gw))

    column = be.astype(dw, K.dtype)[..., None]
    both = tools.watch(be.xp.concat([K, column], axis=-1), seen)
    dw_ = both[..., -1]
    return both[..., :-1], be.xp.real(dw_) if be.is_complex(dw_) and not be.is_complex(dw) else dw_


def eigh_rule(gap: float | None) -> _Eigh:
    """The rule with ties as asked for."""
    return EIGH if gap is None else _Eigh(gap=float(gap))


EIGH = _Eigh()
EIGHVALS = Values(EIGH, lambda be, A: be.plain_eigvalsh(A))
