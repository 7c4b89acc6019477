"""Derivatives of ``A V = V diag(w)``, A general, the columns of V of length one.

With ``C = V^-1 dA V``: ``dw = diag(C)``, ``dV = V (K - diag(h))``, ``K_ij = C_ij / (w_j - w_i)`` outside
groups of tied eigenvalues and zero inside (``quotients``), and ``h = Re diag(V^H V K)`` keeps the
lengths. Tied eigenvalues with vectors enough are treated as in the self-adjoint case; a matrix that is
defective to working precision has no such derivatives and is refused. Third output: B, the matrix of A in
that basis.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from ..errors import IllConditionedWarning
from .dense_eigh import MESSAGE
from .dense_rule import Tools, Values
from .quotients import depends_on_basis, inverse_gaps, size_of, tie_limit

__all__ = ["EIG", "EIGVALS"]


@dataclass(frozen=True)
class _Eig:
    name: str = "eig"
    keeps_input: bool = True  # only to know whether it is real
    constants: tuple[int, ...] = ()
    whole: None = None
    count: int = 3

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        w, V = be.plain_eig(A)
        return w, V, be.matrix_diag(w)

    def broken(self, be: Any, A: Array | None, out: tuple[Array, ...]) -> tuple[Array, str]:
        s = be.plain_svdvals(be.constant(out[1]))
        eps = float(be.xp.finfo(s.dtype).eps)
        # what is left of the digits: the derivative is made of V^-1 dA V
        left = s[..., -1] / s[..., 0]
        worst = float(be.xp.min(left)) if be.is_concrete(left, *out) and 0 not in left.shape else 1.0
        if 1e2 * eps < worst < eps**0.5:
            warnings.warn(
                f"the derivative of eig: the basis of eigenvectors has condition number {1 / worst:.1e}; "
                "the matrix is close to a defective one, and half of the digits or more are lost.",
                IllConditionedWarning,
                stacklevel=4,
            )
        return ~(left > 1e2 * eps), (
            f"the derivative of eig: the matrix of shape {tuple(out[1].shape)} is defective to working "
            "precision (too few eigenvectors), where eigenvalues and vectors have no derivative. Use "
            "functions of the matrix itself (cola_core.trace, logdet, exp, ...), or schur."
        )

    def _gaps(self, be: Any, w: Array) -> tuple[Array, Array]:
        gaps = w[..., None, :] - w[..., :, None]
        tied = be.xp.abs(gaps) <= tie_limit(be, w, w.shape[-1])[..., None]
        return tied, inverse_gaps(be, gaps, tied)

    def push(self, tools: Tools, A: Any, out: tuple[Array, ...], dA: Array) -> tuple[Array, ...]:
        be = tools.be
        w, V, B = out
        tied, E = self._gaps(be, w)
        C = be.xp.linalg.solve(V, be.matmul(be.astype(dA, V.dtype), V))
        K = tools.quotient(E, B, B, C)
        N = be.matmul(be.adjoint(V), V)
        h = be.xp.real(be.xp.linalg.diagonal(be.matmul(N, K)))
        K = K - be.matrix_diag(be.astype(h, K.dtype))

        def seen(both: Array) -> Array:
            X, gw = both[..., :-1], both[..., -1]
            return depends_on_basis(
                be, _numerators(be, N, X), X, gw, tied, size_of(be, (X,), be.xp.abs(w), gw)
            )

        dw = be.xp.linalg.diagonal(C)
        both = tools.watch(be.xp.concat([K, dw[..., None]], axis=-1), seen)
        return both[..., -1], be.matmul(V, both[..., :-1]), C * be.astype(tied, C.dtype)

    def pull(self, tools: Tools, A: Any, out: tuple[Array, ...], g: tuple[Array | None, ...]) -> Array | None:
        be = tools.be
        w, V, B = out
        gw, gV, gB = g
        adjoint = be.adjoint(V)
        inner = None if gw is None else be.matrix_diag(gw)
        bad = None
        if gV is not None or gB is not None:
            tied, E = self._gaps(be, w)
            if gB is not None:
                more = gB * be.astype(tied, gB.dtype)
                inner = more if inner is None else inner + more
            if gV is not None:
                X = be.matmul(adjoint, gV)
                X_ = _numerators(be, be.matmul(adjoint, V), X)
                size = size_of(be, (X,), be.xp.abs(w), gw, tools.noted)
                bad = depends_on_basis(be, X_, X, gw, tied, size)
                H = be.adjoint(B)
                more = tools.quotient(be.conj(E), H, H, X_)
                inner = more if inner is None else inner + more
        if inner is None:
            return None
        G = be.xp.linalg.solve(adjoint, be.matmul(inner, adjoint))
        if not be.is_complex(A):
            G = be.xp.real(G)
        if bad is None:
            return G
        return tools.refuse(G, bad, MESSAGE.format(name="eig", values="eigenvalues"))


def _numerators(be: Any, N: Array, X: Array) -> Array:
    """Cotangents of K from those of the turning of V, whose lengths stay one."""
    d = be.xp.real(be.xp.linalg.diagonal(X))
    return X - N * be.astype(d, X.dtype)[..., None, :]


EIG = _Eig()
EIGVALS = Values(EIG, lambda be, A: be.plain_eigvals(A))
