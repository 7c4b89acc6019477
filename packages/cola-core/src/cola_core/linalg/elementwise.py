"""``hadamard(A, B)``: the elementwise product in its simplest form; diagonals of it and of Khatri-Rao
products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends.base import Array
from ..dispatch.choose import ask
from ..errors import ShapeError
from ..operators import (
    Dense,
    Diagonal,
    HadamardProduct,
    Identity,
    KhatriRao,
    Kronecker,
    LinearOperator,
    LowRank,
    ScalarMul,
    Sparse,
    adopted,
    as_operator,
    matmul,
    split_scalar,
)
from ..operators.entries import STRIP_BYTES, at_positions
from ..plugins.rulebook import RuleBook
from ..properties import PSD, SelfAdjoint
from .diagonal import DIAG, exactly, length
from .trace import TRACE

__all__ = ["hadamard"]

RULES = RuleBook()


def hadamard(A: Any, B: Any) -> LinearOperator:
    """``A_ij B_ij`` as an operator (the Schur product; PSD where both are).

    With a diagonal operator it is diagonal; with a sparse one sparse, where the other's entries are at hand;
    Kronecker products of equal cut multiply factor by factor; low-rank ones have low rank. Else
    ``HadamardProduct``. Raises ShapeError.

    >>> import numpy as np, cola_core as cola
    >>> cola.hadamard(cola.ops.Identity(3), np.arange(9.0).reshape(3, 3)) @ np.ones(3)
    array([0., 4., 8.])
    """
    A, B = as_operator(A), as_operator(B)
    if A.shape[-2:] != B.shape[-2:]:
        raise ShapeError(
            f"hadamard({A!r}, {B!r}): shapes {A.shape} and {B.shape}; elementwise products need one shape."
        )
    out = _simplest(A, B)
    facts = frozenset(p for p in (PSD, SelfAdjoint) if A.isa(p) and B.isa(p))
    return out if facts <= out.properties else out.replace(declared=out.declared | facts)


def _simplest(A: LinearOperator, B: LinearOperator) -> LinearOperator:
    front = [split_scalar(M) for M in (A, B)]
    if any(s is not None for s, _ in front):
        out = _simplest(front[0][1], front[1][1])
        for s, _ in front:
            out = out if s is None else matmul(ScalarMul(s.c, out.shape[-2], declared=s.declared), out)
        return out
    for D, M in ((A, B), (B, A)):
        if isinstance(D, (Diagonal, ScalarMul, Identity)):
            d = ask(DIAG, (adopted(M, D), 0), _auto())
            return matmul(D, Diagonal(d))
    for S, M in ((A, B), (B, A)):
        if isinstance(S, Sparse):
            entries = at_positions(M, S.rows, S.cols)
            if entries is not None and entries.ndim == 1:
                return Sparse(S.data * entries, S.rows, S.cols, S.size)
    if isinstance(A, Kronecker) and isinstance(B, Kronecker):
        if [M.shape[-2:] for M in A.Ms] == [M.shape[-2:] for M in B.Ms]:
            return Kronecker(*(hadamard(a, b) for a, b in zip(A.Ms, B.Ms, strict=True)))
    if isinstance(A, LowRank) and isinstance(B, LowRank) and A.rank * B.rank <= min(A.shape[-2:]):
        U = KhatriRao(A.U, B.U, rowwise=True).to_dense()
        V = None if A.V is None and B.V is None else KhatriRao(A.right, B.right, rowwise=True).to_dense()
        return LowRank(U, V)
    if isinstance(A, Dense) and isinstance(B, Dense):
        if math.prod(A.shape) * A.itemsize <= STRIP_BYTES:
            return Dense(A.array * B.array)
    return HadamardProduct(A, B)


def _auto() -> Any:
    from ..algorithms.base import Auto

    return Auto()


# -- rules ---------------------------------------------------------------------------------------------------
@RULES.rule(
    DIAG,
    (HadamardProduct,),
    id="diag/hadamard",
    source="entries multiply",
    when=exactly,
    complexity="that of both parts, O(N)",
)
def diag_hadamard(A: Any, k: int, *, alg: Any) -> Array:
    return ask(DIAG, (adopted(A.A, A), k), alg) * ask(DIAG, (adopted(A.B, A), k), alg)


@RULES.rule(
    DIAG,
    (KhatriRao,),
    id="diag/khatri-rao",
    source="entries are products of the factors'",
    when=exactly,
    complexity="O(N), besides the entries of both parts",
)
def diag_khatri_rao(A: Any, k: int, *, alg: Any) -> Array:
    i = np.arange(length(A, k)) + max(-k, 0)
    j = i + k
    L, R = A.A._dense_like(A), A.B._dense_like(A)
    if A.rowwise:
        q = max(A.B.shape[-1], 1)
        return L[..., i, j // q] * R[..., i, j % q]
    p = max(A.B.shape[-2], 1)
    return L[..., i // p, j] * R[..., i % p, j]


def _sum_of_diagonal(A: Any, *, alg: Any) -> Array:
    return A.xp.sum(ask(DIAG, (A, 0), alg), axis=-1)


for _cls, _name in ((HadamardProduct, "hadamard"), (KhatriRao, "khatri-rao")):
    RULES.rule(
        TRACE,
        (_cls,),
        id=f"trace/{_name}",
        source="sum of the diagonal",
        when=exactly,
        complexity="that of diag",
    )(_sum_of_diagonal)
