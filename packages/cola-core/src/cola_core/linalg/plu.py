"""``lu`` (``plu``): row permutation, unit lower and upper triangular factors, part by part."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..operators import (
    BlockDiag,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    Permutation,
    Product,
    ScalarMul,
    Triangular,
    Zero,
    as_operator,
    matmul,
    parts,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from .inverse import all_square
from .operands import as_algorithm
from .structure import structural

__all__ = ["PLU", "lu", "plu"]

RULES = RuleBook()


def _abstract(A: Any) -> Any:
    from ..backends.abstract import AbstractArray

    *batch, m, n = A.shape
    k = min(m, n)
    shapes = ((m, m), (m, k), (k, n))
    return tuple(Dense(AbstractArray((*batch, *s), A.dtype)) for s in shapes)


PLU = Question("lu", abstract=_abstract, doc="A = P L U")


def lu(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """``A = P @ L @ U`` with a permutation P, L unit lower and U upper triangular (trapezoid if not square).

    For any shape (*batch, m, n), L (m, k) and U (k, n) with k = min(m, n), singular operators included
    (zeros on U's diagonal). Dense matrices are pivoted by columns; structured factors stay structured:
    those of a Kronecker product are Kronecker products. ``plu`` is the same function.

    >>> import numpy as np, cola_core as cola
    >>> P, L, U = cola.lu(np.array([[0.0, 2.0], [4.0, 2.0]]))
    >>> U.to_dense().tolist()
    [[4.0, 2.0], [0.0, 2.0]]
    """
    A = as_operator(A)
    return PLU.run(A, alg=as_algorithm(alg, "lu"), return_info=return_info, on_failure=on_failure)


lu.question = PLU  # type: ignore[attr-defined]
plu = lu


def _eyes(A: Any) -> Any:
    return Identity.like(A)


def _already(A: Any, *, alg: Any) -> Any:
    return _eyes(A), _eyes(A), A


for _cls in (Identity, ScalarMul, Diagonal):
    RULES.rule(PLU, (_cls,), id=f"lu/{_cls.__name__.lower()}", source="definition", complexity="O(1)")(
        _already
    )


@RULES.rule(PLU, (Zero,), id="lu/zero", source="P = I, L = I, U = 0", complexity="O(N)")
def lu_zero(A: Any, *, alg: Any) -> Any:
    from .qr import leading_columns

    m, n = A.shape[-2:]
    k = min(m, n)
    return Identity.like(A, m), leading_columns(A, k), Zero.like(A, k, n)


@RULES.rule(PLU, (Permutation,), id="lu/permutation", source="definition", complexity="O(1)")
def lu_permutation(A: Any, *, alg: Any) -> Any:
    return A, _eyes(A), _eyes(A)


def _done(A: Any, *, alg: Any) -> bool | str:
    """Guard: an upper triangle, or a lower one with unit diagonal."""
    return True if A.unit or not A.lower else "a lower triangle without unit diagonal may need pivoting"


@RULES.rule(PLU, (Triangular,), id="lu/triangular", source="definition", when=_done, complexity="O(1)")
def lu_triangular(A: Any, *, alg: Any) -> Any:
    return (_eyes(A), A, _eyes(A)) if A.lower else (_eyes(A), _eyes(A), A)


@RULES.rule(
    PLU,
    (Kronecker,),
    id="lu/kronecker",
    source="Van Loan 2000, sec. 1",
    when=all_square,
    complexity="that of the factors; O(sum n_i^3) for dense ones",
)
def lu_kronecker(A: Any, *, alg: Any) -> Any:
    found = [ask(PLU, (M,), alg) for M in parts(A)]
    return tuple(Kronecker(*factors) for factors in zip(*found, strict=True))


@RULES.rule(
    PLU,
    (BlockDiag,),
    id="lu/blockdiag",
    source="definition",
    when=all_square,
    complexity="that of the blocks; O(sum n_i^3) for dense ones",
)
def lu_blockdiag(A: Any, *, alg: Any) -> Any:
    found = [ask(PLU, (M,), alg) for M in parts(A)]
    return tuple(A.with_blocks(*factors) for factors in zip(*found, strict=True))


def _scaled(A: Any, *, alg: Any) -> bool | str:
    """Guard: a number times an operator with LU factors by rule."""
    s, rest = split_scalar(A)
    return "no number in front" if s is None else structural("lu", rest, alg)


@RULES.rule(
    PLU,
    (Product,),
    id="lu/scaled",
    source="c A = P L (c U)",
    when=_scaled,
    precedence=2,
    complexity="that of the operator",
)
def lu_scaled(A: Any, *, alg: Any) -> Any:
    s, rest = split_scalar(A)
    P, L, U = ask(PLU, (rest,), alg)
    return P, L, matmul(ScalarMul(s.c, U.shape[-2], declared=s.declared), U)  # type: ignore[union-attr]


def _permuted(A: Any, *, alg: Any) -> bool | str:
    """Guard: a permutation in front."""
    return True if len(A.Ms) > 1 and isinstance(A.Ms[0], Permutation) else "no permutation in front"


@RULES.rule(
    PLU,
    (Product,),
    id="lu/permuted",
    source="Q (P L U) = (Q P) L U",
    when=_permuted,
    precedence=1,
    complexity="that of the other factors",
)
def lu_permuted(A: Any, *, alg: Any) -> Any:
    Q, *rest = parts(A)
    P, L, U = ask(PLU, (rest[0] if len(rest) == 1 else Product(*rest),), alg)
    return matmul(Q, P), L, U
