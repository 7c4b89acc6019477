"""Derivatives of what a dense factorisation answers, from the factors it left.

With ``A = F`` factored once, ``dx = A^{-1} (db - dA x)`` and ``d log det A = tr(A^{-1} dA)`` need no second
factorisation and no derivative of the factors: solves come from the factors, and the inverse, which is the
gradient of the determinant, is made from them once (Seeger et al. 2017, arXiv 1710.08717; Giles 2008). A
quadratic form ``b^H A^{-1} b`` of a self-adjoint A has the gradient ``-x x^H`` in A, without a solve. All of
it is stated in terms of the same answers, so that higher derivatives follow.

Cholesky and LDL read one triangle; their derivatives are those of the self-adjoint matrix it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array, Backend

__all__ = ["CHOLESKY", "LDL", "LU", "Kind", "keeps", "log_determinant", "quadratic", "solution", "still"]

Factors = tuple[Array, ...]


@dataclass(frozen=True)
class Kind:
    """What can be asked of the arrays of one kind of factors."""

    name: str
    self_adjoint: bool

    def solve(self, be: Backend, F: Factors, B: Array, adjoint: bool = False) -> Array:
        if self.name == "Cholesky":
            return be.cholesky_solve(F[0], B)
        if self.name == "LDL":
            return be.ldl_solve(F, B)
        return be.lu_solve(F, B, adjoint=adjoint)

    def inverse(self, be: Backend, F: Factors) -> Array:
        if self.name == "Cholesky":
            return be.cholesky_inverse(F[0])
        n = F[0].shape[-1]
        eye = be.eye(n, F[0].dtype, be.device(F[0]))
        return self.solve(be, F, be.xp.broadcast_to(eye, F[0].shape))

    def slogdet(self, be: Backend, F: Factors) -> tuple[Array, Array]:
        from .factor import cholesky_slogdet
        from .ldl import ldl_slogdet

        if self.name == "Cholesky":
            return cholesky_slogdet(be, F[0])
        return ldl_slogdet(be, F) if self.name == "LDL" else be.lu_slogdet(F)


CHOLESKY = Kind("Cholesky", True)
LDL = Kind("LDL", True)
LU = Kind("LU", False)


def keeps(be: Backend, M: Array) -> bool:
    """Whether derivatives of what is asked of factors of M are taken as here. PyTorch's own, which
    its transformations and compilation go through, serve where those are at work."""
    return be.differentiating(M) and (be.name == "jax" or be.is_concrete(M))


def still(be: Backend, g: Array) -> bool:
    """Whether the gradient of an answer is zero because nothing was asked of it."""
    return be.is_concrete(g) and not be.differentiating(g) and not bool(be.xp.any(g != 0))


def solution(be: Backend, kind: Kind, M: Array, F: Factors, B: Array, adjoint: bool = False) -> Array:
    """``A^{-1} B``, or ``A^{-H} B``."""
    from ..operators import Dense, Sum, scale

    A: Any = Dense(M)
    if kind.self_adjoint:
        A = scale(0.5, Sum(A, Dense(be.adjoint(M))))  # multiplied with in derivatives only: no matrix is made

    def solve(adjoint: bool) -> Any:
        return lambda _, rhs: (kind.solve(be, F, rhs, adjoint), None)

    whole = A.H if adjoint and not kind.self_adjoint else A
    return be.implicit_solve(whole, solve(adjoint), B, solve(not adjoint))[0]


def quadratic(
    be: Backend, kind: Kind, M: Array, F: Factors, B: Array, known: Array | None = None
) -> tuple[Array, Array, Array]:
    """``b^H A^{-1} b`` for every column of B, and sign and logarithm of the determinant. known: ``A^{-1} B``,
    where it is at hand."""
    xp = be.xp

    def run(M: Array, F: Factors, B: Array, known: Array | None) -> Any:
        X = kind.solve(be, F, B) if known is None else known
        return (be.inner(B, X), *kind.slogdet(be, F), X), None

    def other(M: Array, F: Factors, B: Array, X: Array) -> Array:
        return X if kind.self_adjoint else solution(be, kind, M, F, B, adjoint=True)

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array, ...]:
        M, F, B, _ = inputs
        _, sign, value, X = outputs
        moved = _right_side(be, kind, d, M, B, X, False)
        quad = be.inner(other(M, F, B, X), moved)
        if d.moves(2):
            quad = quad + be.inner(d[2], X)
        if d.moves(0):
            turned, grown = _moved_determinant(be, kind, M, F, d[0], sign, value)
        else:
            turned, grown = xp.zeros_like(sign), xp.zeros_like(value)
        return quad, turned, grown, solution(be, kind, M, F, moved)

    def cotangent(g: Any, inputs: Any, outputs: Any) -> Any:
        M, F, B, _ = inputs
        X = outputs[3]
        gq = g[0][..., None, :]
        U = other(M, F, B, X) * gq
        again = not still(be, g[3])
        if again:
            U = U + solution(be, kind, M, F, g[3], adjoint=True)
        gB = U + X * be.conj(gq)
        if still(be, g[1]) and still(be, g[2]):
            return _outer(be, kind, M, U, X), None, gB, None
        G = _determinant_gradient(be, kind, M, F, g[1], g[2], outputs[1])
        if again or not kind.self_adjoint or X.ndim != M.ndim or G.dtype != X.dtype:
            return G + _outer(be, kind, M, U, X), None, gB, None
        # x x^H is self-adjoint already
        return be.matmul_add(G, -X * be.astype(_real(be, gq), X.dtype), be.adjoint(X)), None, gB, None

    (quad, sign, value, _), _ = be.differentiable(run, tangent, M, F, B, known, cotangent=cotangent)
    return quad, sign, value


def log_determinant(be: Backend, kind: Kind, M: Array, F: Factors) -> tuple[Array, Array]:
    """Sign (or phase) and logarithm of the modulus of the determinant."""

    def run(M: Array, F: Factors) -> Any:
        return kind.slogdet(be, F), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array, Array]:
        (M, F), (sign, value) = inputs, outputs
        return _moved_determinant(be, kind, M, F, d[0], sign, value)

    def cotangent(g: Any, inputs: Any, outputs: Any) -> Any:
        (M, F), (gs, gv) = inputs, g
        return _determinant_gradient(be, kind, M, F, gs, gv, outputs[0]), None

    (sign, value), _ = be.differentiable(run, tangent, M, F, cotangent=cotangent)
    return sign, value


def _moved_determinant(
    be: Backend, kind: Kind, M: Array, F: Factors, dM: Array, sign: Array, value: Array
) -> tuple[Array, Array]:
    """``d log det A = tr(A^{-1} dA)``: its real part is of the modulus, its imaginary part of the phase."""
    xp = be.xp
    t = xp.sum(_inverse(be, kind, M, F).mT * _symmetric(be, kind, dM), axis=(-2, -1))
    if not be.is_complex(M):
        return xp.zeros_like(sign), be.astype(t, value.dtype)
    return sign * (1j * xp.imag(t)), be.astype(xp.real(t), value.dtype)


def _determinant_gradient(
    be: Backend, kind: Kind, M: Array, F: Factors, gs: Array, gv: Array, sign: Array
) -> Array:
    """The transpose of that, of PyTorch's convention: a new array."""
    weight: Any = be.astype(gv, M.dtype)
    if be.is_complex(M) and not kind.self_adjoint:
        weight = weight - 1j * be.xp.imag(be.conj(gs) * sign)
    return be.adjoint(_inverse(be, kind, M, F)) * weight[..., None, None]


def _inverse(be: Backend, kind: Kind, M: Array, F: Factors) -> Array:
    """``A^{-1}`` with ``dX = -X dA X``."""

    def run(M: Array, F: Factors) -> Any:
        return (kind.inverse(be, F),), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array]:
        X = outputs[0]
        return (-be.matmul(be.matmul(X, _symmetric(be, kind, d[0])), X),)

    def cotangent(g: Any, inputs: Any, outputs: Any) -> Any:
        XH = be.adjoint(outputs[0])
        return -_symmetric(be, kind, be.matmul(be.matmul(XH, g[0]), XH)), None

    (X,), _ = be.differentiable(run, tangent, M, F, cotangent=cotangent)
    return X


def _real(be: Backend, x: Array) -> Array:
    return be.xp.real(x) if be.is_complex(x) else x


def _symmetric(be: Backend, kind: Kind, G: Array) -> Array:
    return (G + be.adjoint(G)) / 2 if kind.self_adjoint else G


def _right_side(be: Backend, kind: Kind, d: Any, M: Array, B: Array, X: Array, adjoint: bool) -> Array:
    """``dB - dA X`` (``dB - dA^H X``)."""
    out: Any = d[2] if d.moves(2) else None
    if d.moves(0):
        dA = _symmetric(be, kind, d[0])
        product = be.matmul(be.adjoint(dA) if adjoint else dA, X)
        out = -product if out is None else out - product
    return be.xp.zeros_like(X) if out is None else be.astype(out, X.dtype)


def _outer(be: Backend, kind: Kind, M: Array, U: Array, X: Array) -> Array:
    """``-U X^H`` in the shape of M, which one solution with many columns or batches may have used often."""
    G = be.matmul(U, be.adjoint(X))
    extra = G.ndim - M.ndim
    if extra:
        G = be.xp.sum(G, axis=tuple(range(extra)))
    if not be.is_complex(M) and be.is_complex(G):
        G = be.xp.real(G)
    return -_symmetric(be, kind, G)
