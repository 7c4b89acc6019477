"""Cases of the operators of this folder that run without a mesh, for `cola_core.testing`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core.testing import Case, data

from .stencil import Stencil

__all__ = ["sharding_cases"]

OFFSETS, GRID, BOUNDARY = ((-1, 0), (0, 0), (1, 1), (0, -1)), (3, 4), ("zero", "periodic")


def sharding_cases() -> list[Case]:
    """A stencil of coefficients that vary, on a plane."""
    return [Case("stencil", factory=_stencil, reference=_matrix)]


def _coefficients(dtype: str, seed: int) -> np.ndarray:
    return data.normal(seed, (len(OFFSETS), *GRID), dtype)


def _stencil(backend: Any, dtype: str, seed: int) -> Stencil:
    return Stencil(backend.asarray(_coefficients(dtype, seed)), OFFSETS, GRID, BOUNDARY)


def _matrix(dtype: str, seed: int) -> np.ndarray:
    c, (rows, columns) = _coefficients(dtype, seed), GRID
    out = np.zeros((rows * columns,) * 2, c.dtype)
    for s, (down, right) in enumerate(OFFSETS):
        for i in range(rows):
            for j in range(columns):
                if 0 <= i + down < rows:
                    out[i * columns + j, (i + down) * columns + (j + right) % columns] += c[s, i, j]
    return out
