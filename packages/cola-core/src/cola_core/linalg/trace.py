"""``trace(A)``: from the diagonal where that is read off, from the parts where it composes,
else by products."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..algorithms.base import Auto
from ..backends.base import Array
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..dispatch.session import product_errors, reported, weighted
from ..operators import (
    Adjoint,
    Banded,
    BlockDiag,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    KronSum,
    LowRank,
    Permutation,
    Product,
    ScalarMul,
    Sparse,
    Sum,
    Transpose,
    Triangular,
    Tridiagonal,
    parts,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from .diagonal import DIAG, exactly, magnitude
from .inverse import all_square
from .operands import as_algorithm, as_promised, square

__all__ = ["TRACE", "trace"]

RULES = RuleBook()


def _abstract(A: Any) -> Any:
    from ..backends.abstract import AbstractArray

    return AbstractArray(A.batch_shape, A.dtype)


TRACE = Question("trace", abstract=_abstract, doc="sum of the diagonal", axes=0)


def trace(
    A: Any,
    alg: Any = Auto(),
    *,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """The trace of a square operator, of batch shape.
    ``Hutchinson()`` estimates it, with its standard error."""
    A = square(A, "trace")
    out = TRACE.run(A, alg=as_algorithm(alg, "trace"), return_info=return_info, on_failure=on_failure)
    value, info = out if return_info else (out, None)
    value = as_promised(A, value)
    return (value, info) if return_info else value


trace.question = TRACE  # type: ignore[attr-defined]


def _from_diagonal(A: Any, *, alg: Any) -> Array:
    return A.xp.sum(ask(DIAG, (A, 0), alg), axis=-1)


for _cls in (
    Dense,
    Diagonal,
    ScalarMul,
    Identity,
    Triangular,
    Sparse,
    Permutation,
    LowRank,
    Banded,
    Tridiagonal,
):
    RULES.rule(
        TRACE,
        (_cls,),
        id=f"trace/{_cls.__name__.lower()}",
        source="sum of the diagonal",
        when=exactly,
        complexity="that of diag",
    )(_from_diagonal)


@RULES.rule(TRACE, (Sum,), id="trace/sum", source="linearity", complexity="that of the terms")
def trace_sum(A: Any, *, alg: Any) -> Array:
    first, *rest = parts(A)
    out = ask(TRACE, (first,), alg)
    for M in rest:
        out = out + ask(TRACE, (M,), alg)
    return out


def _scaled(A: Any, *, alg: Any) -> bool | str:
    """Guard: a number in front."""
    return True if split_scalar(A)[0] is not None else "no number in front"


@RULES.rule(
    TRACE,
    (Product,),
    id="trace/scaled",
    source="linearity",
    when=_scaled,
    precedence=1,
    complexity="that of the operator",
)
def trace_scaled(A: Any, *, alg: Any) -> Array:
    s, rest = split_scalar(A)
    be = A._concrete_backend()
    return s.c * weighted(lambda: ask(TRACE, (rest,), alg), magnitude(be, s))  # type: ignore[union-attr]


def _rotates(A: Any, *, alg: Any) -> bool | str:
    """Guard: an inner dimension is at most half of the outer one."""
    small = min(A.Ms, key=lambda M: M.shape[-2]).shape[-2]
    if 2 * small > A.shape[-1]:
        return "no inner dimension is much smaller than the outer one"
    return True


@RULES.rule(
    TRACE,
    (Product,),
    id="trace/cyclic",
    source="tr(AB) = tr(BA)",
    when=_rotates,
    complexity="that of the rotated product",
)
def trace_cyclic(A: Any, *, alg: Any) -> Array:
    at = min(range(len(A.Ms)), key=lambda i: A.Ms[i].shape[-2])
    return ask(TRACE, (Product(*A.Ms[at:], *A.Ms[:at]),), alg)


@RULES.rule(
    TRACE,
    (Kronecker,),
    id="trace/kronecker",
    source="Van Loan 2000, sec. 1",
    when=all_square,
    complexity="that of the factors",
)
def trace_kronecker(A: Any, *, alg: Any) -> Array:
    be = A._concrete_backend()
    out, sizes = None, []
    for M in parts(A):
        start = reported()
        part = ask(TRACE, (M,), alg)
        sizes.append((start, reported(), be.xp.max(be.xp.abs(part))))
        out = part if out is None else out * part
    product_errors(be, sizes)
    return out


@RULES.rule(
    TRACE,
    (KronSum,),
    id="trace/kronsum",
    source="tr(A (+) B) = n_B tr A + n_A tr B",
    complexity="that of the factors",
)
def trace_kronsum(A: Any, *, alg: Any) -> Array:
    N = A.shape[-1]
    out = None
    for M in parts(A):
        times = N // max(M.shape[-1], 1)
        part = times * weighted(partial(ask, TRACE, (M,), alg), times)
        out = part if out is None else out + part
    return out


@RULES.rule(
    TRACE,
    (BlockDiag,),
    id="trace/blockdiag",
    source="definition",
    when=all_square,
    complexity="that of the blocks",
)
def trace_blockdiag(A: Any, *, alg: Any) -> Array:
    out = None
    for M, t in zip(parts(A), A.multiplicities, strict=True):
        part = t * weighted(partial(ask, TRACE, (M,), alg), t)
        out = part if out is None else out + part
    return out


@RULES.rule(TRACE, (Adjoint,), id="trace/adjoint", source="tr(A^H) = conj(tr A)", complexity="that of A")
def trace_adjoint(A: Any, *, alg: Any) -> Array:
    return A._concrete_backend().conj(ask(TRACE, (A.A,), alg))


@RULES.rule(TRACE, (Transpose,), id="trace/transpose", source="tr(A^T) = tr A", complexity="that of A")
def trace_transpose(A: Any, *, alg: Any) -> Array:
    return ask(TRACE, (A.A,), alg)
