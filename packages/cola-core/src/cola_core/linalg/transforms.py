"""Rules of the orthonormal transforms: determinants, diagonals and traces in closed form.

Solves and inverses are adjoints, by the rules of unitary operators.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.base import Array
from ..operators.transforms import OrthonormalTransform
from ..plugins.rulebook import RuleBook
from .determinant import SLOGDET
from .diagonal import DIAG, exactly, length
from .trace import TRACE

__all__ = ["RULES"]

RULES = RuleBook()


@RULES.rule(
    SLOGDET,
    (OrthonormalTransform,),
    id="slogdet/transform",
    source="McClellan & Parks 1972 (Fourier); Vandermonde determinants (cosine, sine); involutions",
    complexity="O(1)",
)
def slogdet_transform(A: Any, *, alg: Any) -> tuple[Array, Array]:
    """A number of modulus one, in closed form."""
    be = A._concrete_backend()
    sign = be.asarray(A.determinant(), dtype=A.dtype, device=A.device)
    return sign, be.zeros((), be.real_dtype(A.dtype), A.device)


@RULES.rule(
    DIAG, (OrthonormalTransform,), id="diag/transform", source="definition", when=exactly, complexity="O(N)"
)
def diag_transform(A: Any, k: int, *, alg: Any) -> Array:
    """The entries of the k-th diagonal, O(n)."""
    i = np.arange(length(A, k))
    return A.entry_array(i + max(-k, 0), i + max(k, 0))


@RULES.rule(
    TRACE,
    (OrthonormalTransform,),
    id="trace/transform",
    source="sum of the diagonal",
    when=exactly,
    complexity="O(N)",
)
def trace_transform(A: Any, *, alg: Any) -> Array:
    i = np.arange(A.shape[-1])
    be = A._concrete_backend()
    return be.asarray(np.sum(A.entries(i, i)), dtype=A.dtype, device=A.device)
