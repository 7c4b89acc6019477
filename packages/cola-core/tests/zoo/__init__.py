"""Operators of every family, with the dense matrix each must equal, built independently with NumPy/SciPy.

``ZOO[name](rng, complex)`` returns (build, dense): ``build(asarray)`` makes the operator from arrays
converted by ``asarray``, so that one entry serves every backend and dtype. One file per family, each with
``ENTRIES`` (functions) and ``SINGULAR`` (names of square, rank-deficient ones).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import basic, gridded, leaves, points, spectral, transforms
from .common import DTYPES, Build, installed, tolerance

__all__ = ["DTYPES", "SINGULAR", "ZOO", "installed", "tolerance"]

FAMILIES = (basic, leaves, gridded, points, spectral, transforms)

ZOO: dict[str, Callable[[Any, bool], tuple[Build, Any]]] = {
    f.__name__.rstrip("_"): f for family in FAMILIES for f in family.ENTRIES
}
SINGULAR: set[str] = {name for family in FAMILIES for name in family.SINGULAR}
