"""Cost helpers shared by the dense algorithms."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ..cost import Cost

__all__ = ["batch_size", "dense_memory", "with_entries"]


def batch_size(A: Any) -> int:
    """Number of matrices in the batch."""
    return math.prod(A.batch_shape)


def dense_memory(A: Any) -> float:
    """Bytes of the operator as a dense matrix."""
    return float(A.itemsize) * math.prod(A.shape)


def with_entries(A: Any, cost: Cost) -> Cost:
    """The cost of working on A's entries, and of having them in the first place."""
    made = A.dense_cost
    if not made.memory:
        return cost
    return replace(cost + made, memory=cost.memory + made.memory, matvecs=made.matvecs)
