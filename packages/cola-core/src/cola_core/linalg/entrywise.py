"""Diagonals and traces of operators whose single entries are cheap: kernels and interpolations of them."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..dispatch.choose import ask
from ..operators import Interpolated, Kernel, RealPart
from ..operators.entries import has_entries
from ..plugins.rulebook import RuleBook
from .diagonal import DIAG, exactly
from .trace import TRACE

__all__ = ["RULES"]

RULES = RuleBook()


@RULES.rule(
    DIAG, (Kernel,), id="diag/kernel", source="pairs of points", when=exactly, complexity="O(N) evaluations"
)
def diag_kernel(A: Any, k: int, *, alg: Any) -> Array:
    return A.diagonal(k)


def _entries(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: single entries of the base are at hand."""
    if A.base.batch_shape or not has_entries(A.base):
        return f"single entries of {A.base!r} are not at hand"
    return exactly(A, *operands, alg=alg)


@RULES.rule(
    DIAG,
    (Interpolated,),
    id="diag/interpolated",
    source="sum_jl w_ij K[l_ij, r_il] conj(v_il)",
    when=_entries,
    complexity="O(N w^2) entries of the base, w weights in a row",
)
def diag_interpolated(A: Any, k: int, *, alg: Any) -> Array:
    return A.diagonal(k)


@RULES.rule(DIAG, (RealPart,), id="diag/real-part", source="real linearity", complexity="that of A")
def diag_real_part(A: Any, k: int, *, alg: Any) -> Array:
    return A._part_of(ask(DIAG, (A.A, k), alg))


@RULES.rule(TRACE, (RealPart,), id="trace/real-part", source="real linearity", complexity="that of A")
def trace_real_part(A: Any, *, alg: Any) -> Array:
    return A._part_of(ask(TRACE, (A.A,), alg))


def _from_diagonal(A: Any, *, alg: Any) -> Array:
    return A.xp.sum(ask(DIAG, (A, 0), alg), axis=-1)


RULES.rule(
    TRACE, (Kernel,), id="trace/kernel", source="sum of the diagonal", when=exactly, complexity="that of diag"
)(_from_diagonal)
RULES.rule(
    TRACE,
    (Interpolated,),
    id="trace/interpolated",
    source="sum of the diagonal",
    when=_entries,
    complexity="that of diag",
)(_from_diagonal)
