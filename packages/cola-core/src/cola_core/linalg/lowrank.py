"""What follows from a rank below n, known from shapes alone: a determinant of zero, and no inverse."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.base import Array
from ..errors import SingularMatrixError
from ..operators import LowRank, Product
from ..plugins.rulebook import RuleBook
from ..pytree import tree_leaves
from .determinant import SLOGDET
from .solve import SOLVE

__all__: list[str] = []

RULES = RuleBook()


def _rank(A: Any) -> int:
    """A bound on the rank from the sizes of the factors."""
    if isinstance(A, LowRank):
        return A.U.shape[-1]
    return min(min(M.shape[-2:]) for M in A.Ms)


def _deficient(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: the factors are thinner than the whole."""
    n = A.shape[-1]
    return True if _rank(A) < n else f"nothing in its factors is thinner than {n}"


for _cls, _name in ((LowRank, "low-rank"), (Product, "thin-product")):

    @RULES.rule(
        SLOGDET,
        (_cls,),
        id=f"slogdet/{_name}",
        source="rank(AB) <= min(rank A, rank B)",
        when=_deficient,
        precedence=1,
        complexity="O(1)",
    )
    def slogdet_deficient(A: Any, *, alg: Any) -> tuple[Array, Array]:
        be = A._concrete_backend()
        real = be.real_dtype(A.dtype)
        zero = be.zeros(A.batch_shape, real, A.device)
        for x in tree_leaves(A):
            # log(0 * data) has the derivative NaN, where a constant -inf would have the derivative zero
            if hasattr(x, "dtype") and be.xp.isdtype(x.dtype, ("real floating", "complex floating")):
                zero = zero + be.astype(0 * be.xp.sum(be.xp.abs(x)), real)
        with np.errstate(divide="ignore"):
            return be.zeros(A.batch_shape, A.dtype, A.device), be.xp.log(zero)

    @RULES.rule(
        SOLVE,
        (_cls,),
        id=f"solve/{_name}",
        source="rank(AB) <= min(rank A, rank B)",
        when=_deficient,
        precedence=2,
        complexity="O(1)",
    )
    def solve_deficient(A: Any, b: Array, *, alg: Any) -> Array:
        raise SingularMatrixError(
            f"{A!r} is singular: its factors have rank {_rank(A)} at most, it has {A.shape[-1]} rows. Least "
            "squares solutions come from lstsq; with a multiple of the identity added it can be solved."
        )
