"""Bytes that a device receives from the others in a product, where an operator is spread over them.

The counts are those of the collectives: of an all-gather of N bytes over p devices each receives
``(p - 1) / p N``, of an all-reduce (a reduce-scatter, then an all-gather) twice that, of an all-to-all of the
N/p bytes it holds ``(p - 1) / p^2 N``. (Thakur, Rabenseifner & Gropp, IJHPCA 19 (2005) 49, sec. 3 and 4.)
Vectors are taken to be spread like the rows of the operator.
"""

from __future__ import annotations

import math
from typing import Any

from ..backends.pieces import pieces

__all__ = ["all_gather", "all_reduce", "all_to_all", "devices_of", "leaf_product"]


def all_gather(size: float, p: int) -> float:
    """Of ``size`` bytes in all, spread over p devices."""
    return size * (p - 1) / p


def all_reduce(size: float, p: int) -> float:
    """Of ``size`` bytes that every one of p devices holds its own summand of."""
    return 2 * size * (p - 1) / p


def all_to_all(size: float, p: int) -> float:
    """Of ``size`` bytes in all, spread over p devices one way and wanted the other."""
    return size * (p - 1) / p**2


def devices_of(arrays: Any) -> int:
    """The number of parts of the array that is cut most."""
    return max((math.prod(pieces(x)) for x in arrays if hasattr(x, "shape")), default=1)


def leaf_product(A: Any, columns: float) -> float:
    """Of an operator of which no more is known than that its arrays are spread: every device needs all of the
    vectors."""
    return all_gather(A.itemsize * A.shape[-1] * columns, devices_of(A._parts()))
