"""The matrix exponential by scaling and squaring with Padé approximants.
Al-Mohy & Higham, SIMAX 31 (2009) 970."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..cost import Cost
from .base import Algorithm
from .dense_cost import batch_size, dense_memory
from .factor import dense_entries

__all__ = ["ScalingSquaring"]


@dataclass(frozen=True)
class ScalingSquaring(Algorithm):
    """``exp(A)`` of any square matrix that fits, defective ones included: about ``30 n^3`` flops."""

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return True if operands[0].name == "exp" else f"computes exp only, not {operands[0].name}"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, b = A.shape[-1], batch_size(A)
        return Cost(b * 30.0 * n**3, b * A.itemsize * n * n * 30, 6 * dense_memory(A), 0, 12)

    def apply_unary(self, A: Any, f: Any) -> Any:
        from ..operators import Dense

        be = A._concrete_backend()
        return Dense(be.expm(dense_entries(A)), declared=f.properties(A))
