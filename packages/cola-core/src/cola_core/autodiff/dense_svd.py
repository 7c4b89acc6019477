"""Derivatives of ``A = U S V^H``, S = diag(s), of any shape.

With ``C = U^H dA V``: ``dU = U (P + M)``, ``dV = V (P - M)`` with skew P and M, and ``C = (P + M) S + dS
- S (P - M)``. Its self-adjoint part gives ``P_ij = C_ij / (s_j - s_i)``, its skew part ``M_ij = C_ij /
(s_i + s_j)``: they are blocks of the turning K = [[P, M], [M, P]] of the eigenvectors (u, +-v) of [[0,
A], [A^H, 0]], eigenvalues +-s, and everything said in ``quotients`` holds. So P is zero within groups of
equal singular values while M is not: U V^H of a group is differentiated exactly. Singular values that are
zero to rounding are one group, in which M is zero too. Columns of a tall U
move out of its range by ``N S = (I - U U^H) (dA V + L (P - M))``, zero for zero singular values. The leak
``L = A V - U S`` (in the columns of zeros) is nothing but its derivative: with it, and N^H L beside C, second
derivatives are exact at matrices of lower rank, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from ..backends.base import Array
from .dense_eigh import MESSAGE, watched
from .dense_rule import Tools, Values, hermitian, skew
from .quotients import depends_on_basis, groups, inverse_gaps, largest, separate, size_of, tie_limit

__all__ = ["FULL", "SVD", "SVDVALS"]


@dataclass(frozen=True)
class _SVD:
    """Outputs s, U, V and S; full: U and V square."""

    full: bool
    name: str = "svd"
    keeps_input: bool = True
    constants: tuple[int, ...] = ()
    whole: None = None
    count: int = 4

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        U, s, V = be.plain_svd(A, self.full)
        return s, U, V, be.matrix_diag(be.astype(s, U.dtype))

    def broken(self, be: Any, A: Array | None, out: tuple[Array, ...]) -> None:
        return None

    def push(self, tools: Tools, A: Any, out: tuple[Array, ...], dA: Array) -> tuple[Array, ...]:
        be = tools.be
        s, U, V, S = out
        k = s.shape[-1]
        g = _Gaps.of(be, s, max(A.shape[-2:]))
        U1, U0, V1, V0 = U[..., :k], U[..., k:], V[..., :k], V[..., k:]
        right, left = be.matmul(dA, V1), be.matmul(be.adjoint(dA), U1)
        C = be.matmul(be.adjoint(U1), right)
        sides = _Side(A, U1, V1, S, g), _Side(be.adjoint(A), V1, U1, be.adjoint(S), g)
        leaks = [x.leak(tools) for x in sides]
        if leaks[0] is not None:
            C = C + be.matmul(be.adjoint(sides[0].outside(tools, right)), leaks[0])
        if leaks[1] is not None:
            C = C + be.matmul(be.adjoint(leaks[1]), sides[1].outside(tools, left))
        even, odd = hermitian(be, C), skew(be, C)
        ds = be.xp.linalg.diagonal(even)
        ds = be.xp.real(ds) if be.is_complex(ds) else ds
        P, M = g.turn(tools, S, even, odd)
        P, ds = watched(tools, P, ds, s, g.tied)
        M = tools.watch(M, lambda X: depends_on_basis(be, X - be.adjoint(X), X, None, g.zeros))
        dS = even * be.astype(g.tied, C.dtype) + odd * be.astype(g.zeros, C.dtype)
        moved = []
        for side, Y, own, other, L in zip(
            sides, (right, left), (P + M, P - M), (P - M, P + M), leaks, strict=True
        ):
            dW = be.matmul(side.W, own)
            if side.tall:
                N = side.outside(tools, Y if L is None else Y + be.matmul(L, other))
                # the vectors of zero singular values may be any of those outside the range
                dW = dW + tools.watch(N, partial(_zero_columns, be, g, side.W))
            moved.append(dW)
        dU, dV = moved
        if self.full:
            dU = _with_rest(tools, U1, U0, dU) if U0.shape[-1] else dU
            dV = _with_rest(tools, V1, V0, dV) if V0.shape[-1] else dV
        return ds, dU, dV, dS

    def pull(self, tools: Tools, A: Any, out: tuple[Array, ...], g: tuple[Array | None, ...]) -> Array | None:
        be = tools.be
        s, U, V, S = out
        gs, gU, gV, gS = g
        k = s.shape[-1]
        U1, V1 = U[..., :k], V[..., :k]
        if gU is None and gV is None and gS is None:
            if gs is None:
                return None
            return be.matmul(U1 * be.astype(gs, U.dtype)[..., None, :], be.adjoint(V1))
        gaps = _Gaps.of(be, s, max(A.shape[-2:]))
        even = odd = bad = sides = None
        if gU is not None or gV is not None:
            parts = []
            size = size_of(be, (gU, gV), s, gs, tools.noted)
            for g_, W, W1 in ((gU, U, U1), (gV, V, V1)):
                if g_ is not None and self.full and W.shape[-1] > k:
                    W0, g1, g0 = W[..., k:], g_[..., :k], g_[..., k:]
                    bad = _either(bad, _rest_seen(be, W0, g0, size))
                    g_ = g1 - be.matmul(W0, be.matmul(be.adjoint(g0), W1))
                parts.append((g_, None if g_ is None else be.matmul(be.adjoint(W1), g_)))
            (gU, XU), (gV, XV) = parts
            gP = XU if XV is None else XV if XU is None else XU + XV
            gM = XU if XV is None else -XV if XU is None else XU - XV
            looks = ((gP, gaps.tied, gs), (gM, gaps.zeros, None))
            for X, where, w in () if gaps.apart and not be.is_complex(U) else looks:
                bad = _either(bad, depends_on_basis(be, X - be.adjoint(X), X, w, where, size))
            sides = _Side(A, U1, V1, S, gaps), _Side(be.adjoint(A), V1, U1, be.adjoint(S), gaps)
            leaks = [x.leak(tools) for x in sides]
            outer: list[Any] = [None, None]
            for i, (side, L, g_, X) in enumerate(zip(sides, leaks, (gU, gV), (XU, XV), strict=True)):
                if g_ is None or not side.tall:
                    continue
                rest = g_ - be.matmul(side.W, X)
                if not gaps.apart:
                    bad = _either(bad, gaps.zero_columns_seen(be, rest, side.W, size))
                outer[i] = side.outside_adjoint(tools, rest)
                if L is not None:
                    turned = be.matmul(be.adjoint(L), outer[i])
                    gP, gM = gP + turned, gM + (turned if i else -turned)
            even, odd = gaps.turn_adjoint(tools, S, gP, gM)
        if gS is not None:
            one, two = gS * be.astype(gaps.tied, gS.dtype), gS * be.astype(gaps.zeros, gS.dtype)
            even, odd = (one, two) if even is None else (even + one, odd + two)
        inner = hermitian(be, even) + skew(be, odd)
        if gs is not None:
            inner = inner + be.matrix_diag(be.astype(gs, inner.dtype))
        G = be.matmul(U1, be.matmul(inner, be.adjoint(V1)))
        if sides is None:
            return G
        for i, (side, L) in enumerate(zip(sides, leaks, strict=True)):
            Y = outer[i]
            if L is not None:
                more = side.outside_adjoint(tools, be.matmul(L, inner if i else be.adjoint(inner)))
                Y = more if Y is None else Y + more
            if Y is not None:
                G = G + (be.matmul(U1, be.adjoint(Y)) if i else be.matmul(Y, be.adjoint(V1)))
        if bad is None:
            return G
        return tools.refuse(G, bad, MESSAGE.format(name="svd", values="singular values"))


@dataclass(frozen=True)
class _Side:
    """The left vectors W of A, with ``A Z = W T + L`` (or the right ones, of A^H), and how they leave their
    range."""

    A: Array
    W: Array
    Z: Array
    T: Array
    gaps: _Gaps

    @property
    def tall(self) -> bool:
        return self.W.shape[-2] > self.W.shape[-1]

    def leak(self, tools: Tools) -> Array | None:
        """L: nothing but its derivative, in the columns of zeros."""
        if not self.tall or not tools.differentiated_again(self.A, self.T):
            return None
        be = tools.be
        L = be.matmul(self.A, self.Z) - be.matmul(self.W, self.T)
        return L * be.astype(self.gaps.zero, L.dtype)[..., None, :]

    def outside(self, tools: Tools, Y: Array) -> Array:
        """N of ``N T = (I - W W^H) Y``."""
        return tools.quotient(self.gaps.inverses, None, self.T, self._projected(tools.be, Y))

    def outside_adjoint(self, tools: Tools, G: Array) -> Array:
        return self._projected(
            tools.be, tools.quotient(self.gaps.inverses, None, tools.be.adjoint(self.T), G)
        )

    def _projected(self, be: Any, Y: Array) -> Array:
        return Y - be.matmul(self.W, be.matmul(be.adjoint(self.W), Y))


@dataclass(frozen=True)
class _Gaps:
    """tied, zeros: pairs in one group, pairs of zeros; difference, total, inverses: masked reciprocals.
    apart: seen to have no groups and no zeros."""

    s: Array
    tied: Array
    zero: Array
    zeros: Array
    difference: Array
    total: Array
    inverses: Array
    apart: bool

    @classmethod
    def of(cls, be: Any, s: Array, n: int) -> _Gaps:
        limit = tie_limit(be, s, n)
        tied = groups(be, s, limit)
        zero = tied[..., -1, :] & (s[..., -1:] <= limit)
        zeros = zero[..., :, None] & zero[..., None, :]
        difference = inverse_gaps(be, s[..., None, :] - s[..., :, None], tied)
        total = inverse_gaps(be, s[..., None, :] + s[..., :, None], zeros)
        apart = separate(be, s, limit, 1) and bool(be.xp.all(s[..., -1:] > limit))
        inverses = inverse_gaps(be, s, zero)[..., None, :]
        return cls(s, tied, zero, zeros, difference, total, inverses, apart)

    def _whole(self, be: Any, S: Array) -> tuple[Array, Array]:
        """Reciprocal gaps of the eigenvalues +-s, and the matrix they are the eigenvalues of."""
        even, odd = hermitian(be, S), skew(be, S)
        E = _blocks(be, self.difference, -self.total, self.total, -self.difference)
        return E, _blocks(be, even, -odd, odd, -even)

    def turn(self, tools: Tools, S: Array, even: Array, odd: Array) -> tuple[Array, Array]:
        """P and M of C's self-adjoint and skew parts."""
        be = tools.be
        if not tools.differentiated_again(S, even, odd):
            return self.difference * even, self.total * odd
        E, H = self._whole(be, S)
        K = tools.quotient(E, H, H, _blocks(be, even, -odd, odd, -even))
        k = S.shape[-1]
        return K[..., :k, :k], K[..., :k, k:]

    def turn_adjoint(self, tools: Tools, S: Array, gP: Array, gM: Array) -> tuple[Array, Array]:
        """Cotangents of C's parts from those of P and M."""
        be = tools.be
        if not tools.differentiated_again(S, gP, gM):
            return self.difference * gP, self.total * gM
        E, H = self._whole(be, S)
        none = be.xp.zeros_like(gP)
        G = tools.quotient(E, H, H, _blocks(be, gP, gM, none, none))
        k = S.shape[-1]
        return G[..., :k, :k] - G[..., k:, k:], G[..., k:, :k] - G[..., :k, k:]

    def zero_columns_seen(self, be: Any, X: Array, U1: Array, size: Array) -> Array:
        """Whether cotangents X have columns outside the range of U1 that belong to zeros."""
        xp = be.xp
        outside = xp.abs(X - be.matmul(U1, be.matmul(be.adjoint(U1), X)))
        eps = float(xp.finfo(outside.dtype).eps) ** 0.5
        seen = (outside > eps * size[..., None, None]) & self.zero[..., None, :]
        return xp.any(xp.any(seen, axis=-1), axis=-1)


def _blocks(be: Any, a: Array, b: Array, c: Array, d: Array) -> Array:
    xp = be.xp
    return xp.concat([xp.concat([a, b], axis=-1), xp.concat([c, d], axis=-1)], axis=-2)


def _either(a: Array | None, b: Array) -> Array:
    return b if a is None else a | b


def _zero_columns(be: Any, g: _Gaps, W: Array, X: Array) -> Array:
    return g.zero_columns_seen(be, X, W, largest(be, X))


def _with_rest(tools: Tools, U1: Array, U0: Array, dU: Array) -> Array:
    """The orthogonal complement follows: ``dU0 = -U1 dU1^H U0``, its own basis not turning."""
    be, k = tools.be, U1.shape[-1]
    rest = -be.matmul(U1, be.matmul(be.adjoint(dU), U0))
    whole = be.xp.concat([dU, rest], axis=-1)
    return tools.watch(whole, lambda g: _rest_seen(be, U0, g[..., k:], largest(be, g)))


def _rest_seen(be: Any, U0: Array, g0: Array, size: Array) -> Array:
    """Whether cotangents of a complement see its basis."""
    X = be.matmul(be.adjoint(U0), g0)
    everywhere = be.xp.ones_like(be.xp.abs(X)) > 0
    return depends_on_basis(be, X - be.adjoint(X), X, None, everywhere, size)


SVD, FULL = _SVD(False), _SVD(True)
SVDVALS = Values(SVD, lambda be, A: be.plain_svdvals(A))
