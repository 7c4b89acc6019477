"""Cases of the operators of this folder that run without a mesh, for `cola_core.testing`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core import PSD, ops
from cola_core.testing import Case, data

from .stack import BlockStack
from .stencil import Stencil

__all__ = ["sharding_cases"]

OFFSETS, GRID, BOUNDARY = ((-1, 0), (0, 0), (1, 1), (0, -1)), (3, 4), ("zero", "periodic")


def sharding_cases() -> list[Case]:
    """A stencil of coefficients that vary, on a plane; definite blocks of one batch."""
    return [
        Case("stencil", factory=_stencil, reference=_matrix),
        Case("block-stack", factory=_stack, reference=_block_diagonal),
    ]


def _blocks(dtype: str, seed: int) -> np.ndarray:
    return np.stack([data.psd(seed + i, 3, dtype) for i in range(2)])


def _stack(backend: Any, dtype: str, seed: int) -> BlockStack:
    return BlockStack(PSD(ops.Dense(backend.asarray(_blocks(dtype, seed)))))


def _block_diagonal(dtype: str, seed: int) -> np.ndarray:
    first, second = _blocks(dtype, seed)
    zero = np.zeros_like(first)
    return np.block([[first, zero], [zero, second]])


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
