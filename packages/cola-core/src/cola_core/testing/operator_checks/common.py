"""What the checks of operators share: the operator and its reference, test vectors, and tolerances."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import data
from ..compare import eps_of

__all__ = ["make", "name_of", "rounding", "vectors"]


def make(case: Any, backend: Any, dtype: str, seed: int) -> tuple[Any, Any]:
    """The operator and its dense reference."""
    return case.build(backend, dtype, seed), case.dense(dtype, seed)


def vectors(backend: Any, dtype: str, shape: tuple[int, ...], seed: int) -> tuple[Any, Any]:
    """The same random numbers as an array of the backend and as a NumPy array."""
    x = data.normal(seed + 1000, shape, dtype)
    return backend.asarray(x), x


def rounding(case: Any, dtype: str, M: Any, factor: float = 30.0) -> float:
    """Relative error that rounding may cause in a product with M."""
    n = max(M.shape[-2:]) if M.ndim >= 2 else 1
    return float(case.tolerance * factor * eps_of(dtype) * np.sqrt(max(n, 1)))


def name_of(dtype: Any) -> str:
    """The dtype's name, whichever library it belongs to."""
    from ...backends.base import dtype_name

    return dtype_name(dtype)
