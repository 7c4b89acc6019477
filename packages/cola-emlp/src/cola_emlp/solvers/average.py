"""Finite matrix groups: the mean of all elements projects onto the invariants (Serre, Linear Representations,
section 2.6).
"""

from __future__ import annotations

import numpy as np

from .tensor import group_action, orthonormal

MAX_FLOPS = 2e11


def average_flops(order: int, n: int, d: int, k: int, width: int) -> float:
    return 2.0 * order * n * d * k * width


def average_invariants(elements: np.ndarray, word: tuple[bool, ...], expected: int | None) -> np.ndarray:
    """Orthonormal basis (N, r) of the range of the mean of rho over all elements (order, d, d)."""
    n = elements.shape[1] ** len(word)
    rng = np.random.default_rng(0)
    width = min(n, (16 if expected is None else expected) + 4)

    def project(y: np.ndarray) -> np.ndarray:
        total = np.zeros(y.shape, np.result_type(elements, y))
        for h in elements:
            total += group_action(h, y, word)
        return total / len(elements)

    while True:
        q = orthonormal(project(rng.standard_normal((n, width))), 1e-6)
        if q.shape[1] < width or width == n:
            return orthonormal(project(q), 1e-6)
        width = min(n, 2 * width)
