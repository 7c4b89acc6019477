"""Diagonals of ``L diag(d) R`` with structured L and R: of inverses and functions through eigenvectors too.

``diag(L diag(d) R) = (L o R^T) d`` with o entrywise, and ``(A x B) o (C x D) = (A o C) x (B o D)``: nothing
of the whole size is formed (Horn & Johnson 1991, sec. 4.2 and 5.1).
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..dispatch.choose import ask
from ..operators import (
    BlockDiag,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    LinearOperator,
    Product,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from .diagonal import DIAG
from .eigen import EIGH
from .inverse import Inverse, _nonzero
from .solve import SOLVE
from .structure import spectral
from .tied_function import diagonal_by_basis, tied

__all__ = ["RULES"]

RULES = RuleBook()


def _alike(L: LinearOperator, R: LinearOperator) -> bool:
    """Whether L and R^T are made of parts of equal sizes that can be multiplied entry by entry."""
    if L.shape[-2:] != R.shape[-2:][::-1]:
        return False
    if isinstance(L, Kronecker) and isinstance(R, Kronecker):
        return len(L.Ms) == len(R.Ms) and all(map(_alike, L.Ms, R.Ms))
    if isinstance(L, BlockDiag) and isinstance(R, BlockDiag):
        same = L.multiplicities == R.multiplicities and len(L.Ms) == len(R.Ms)
        return same and all(map(_alike, L.Ms, R.Ms))
    plain = (Dense, Diagonal, Identity)
    return isinstance(L, plain) and isinstance(R, plain)


def _entrywise(L: Any, R: Any) -> LinearOperator:
    """``L o R^T``."""
    if isinstance(L, Kronecker):
        return Kronecker(*map(_entrywise, L.Ms, R.Ms))
    if isinstance(L, BlockDiag):
        return L.with_blocks(*map(_entrywise, L.Ms, R.Ms))
    if isinstance(L, Identity) and isinstance(R, Identity):
        return L
    if isinstance(L, (Diagonal, Identity)) or isinstance(R, (Diagonal, Identity)):
        # at least one is diagonal, so the entrywise product is
        be = (L if L.backend is not None else R)._concrete_backend()
        d: Any = 1
        for M in (L, R):
            if isinstance(M, Diagonal):
                d = d * M.diag
            elif isinstance(M, Dense):
                d = d * be.xp.linalg.diagonal(M.array)
        return Diagonal(d)
    return Dense(L.array * L._concrete_backend().xp.matrix_transpose(R.array))


def _sandwich(A: Any, k: int, *, alg: Any) -> bool | str:
    """Guard: the main diagonal of L diag(d) R, with L and R of Kronecker products or blocks of one shape."""
    if k != 0:
        return f"composes only the main diagonal, not k={k}"
    middle = split_scalar(A)[1]
    if not isinstance(middle, Product) or len(middle.Ms) != 3 or not isinstance(middle.Ms[1], Diagonal):
        return "not L diag(d) R"
    L, _, R = middle.Ms
    if not isinstance(L, (Kronecker, BlockDiag)):
        return f"{L!r} is neither a Kronecker product nor block-diagonal"
    return True if _alike(L, R) else f"{L!r} and {R!r} are not made of parts of equal sizes"


@RULES.rule(
    DIAG,
    (Product,),
    id="diag/sandwich",
    source="diag(L diag(d) R) = (L o R^T) d; Horn & Johnson 1991, lemma 5.1.4",
    when=_sandwich,
    precedence=1,
    complexity="O(sum n_i^2 + N sum n_i)",
)
def diag_sandwich(A: Any, k: int, *, alg: Any) -> Array:
    scalar, middle = split_scalar(A)
    L, D, R = middle.Ms  # type: ignore[attr-defined]
    out = _entrywise(L, R)._matmat(D.diag[..., :, None])[..., 0]
    if scalar is None:
        return out
    c = scalar.c
    return (c[..., None] if getattr(c, "shape", ()) else c) * out


def _inverse_by_spectrum(A: Any, k: int, *, alg: Any) -> bool | str:
    """Guard: the main diagonal; the operator has an orthonormal eigenbasis by rule."""
    if k != 0:
        return f"composes only the main diagonal, not k={k}"
    return spectral(A.A, alg)


@RULES.rule(
    DIAG,
    (Inverse,),
    id="diag/inverse-spectral",
    source="A^-1 = V W^-1 V^H",
    when=_inverse_by_spectrum,
    complexity="eigh of A, O(N sum n_i) for dense factors",
)
def diag_inverse_spectral(A: Any, k: int, *, alg: Any) -> Array:
    w, V = ask(EIGH, (A.A,), alg)
    be = A._concrete_backend()
    d = be.astype(1 / _nonzero(A.A, w, "an eigenvalue"), A.dtype)
    whole = Product(V, Diagonal(d), V.H)
    if be.name in ("numpy", "abstract") or not tied(be, w, V):
        return ask(DIAG, (whole, 0), alg)

    def tangent(moves: Any, M: Any, I: Array) -> Array:
        S = ask(SOLVE, (M, I), alg)
        return -be.xp.sum(be.conj(S) * moves.product(0, S), axis=-2)

    return diagonal_by_basis(be, A.A, whole, tangent)
