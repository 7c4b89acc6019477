"""Cost helpers shared by the dense algorithms."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["batch_size", "dense_memory"]


def batch_size(A: Any) -> int:
    """Number of matrices in the batch."""
    return math.prod(A.batch_shape)


def dense_memory(A: Any) -> float:
    """Bytes of the operator as a dense matrix."""
    return float(A.itemsize) * math.prod(A.shape)
