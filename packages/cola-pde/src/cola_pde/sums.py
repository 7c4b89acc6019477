"""The k smallest sums ``a_i + b_j + ...`` of sorted lists, without forming the grid of all sums.

This is how a Kronecker sum's lowest eigenvalues follow from its factors' spectra: best-first search over
index tuples, O(d k log k) time and O(d k) memory whatever the grid size. Source: the classical "X + Y"
frontier search (Johnson and Mizoguchi, SIAM J. Comput. 7, 1978).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np


def smallest_sums(spectra: Sequence[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums (k',) ascending and indices (k', d) into ``spectra``, k' = min(k, number of sums)."""
    orders = [np.argsort(np.asarray(w), kind="stable") for w in spectra]
    sorted_ = [np.asarray(w, dtype=np.float64)[o] for w, o in zip(spectra, orders, strict=True)]
    start = (0,) * len(sorted_)
    heap = [(sum(w[0] for w in sorted_), start)]
    sums: list[float] = []
    found: list[tuple[int, ...]] = []
    while heap and len(sums) < k:
        value, index = heapq.heappop(heap)
        sums.append(value)
        found.append(index)
        # Each tuple is reached from exactly one parent: the one with its last non-zero entry lowered by one.
        last = max((i for i, j in enumerate(index) if j), default=0)
        for axis in range(last, len(index)):
            j = index[axis] + 1
            if j < len(sorted_[axis]):
                child = index[:axis] + (j,) + index[axis + 1 :]
                heapq.heappush(heap, (sum(w[i] for w, i in zip(sorted_, child, strict=True)), child))
    indices = np.array(found, dtype=np.intp).reshape(len(found), len(sorted_))
    return np.array(sums), np.stack([o[indices[:, i]] for i, o in enumerate(orders)], axis=1)


def multiplicities(values: np.ndarray, rtol: float = 1e-10) -> list[tuple[float, int]]:
    """Runs of equal values (within ``rtol`` of the largest) in an ascending array: (value, how many)."""
    groups: list[tuple[float, int]] = []
    tolerance = rtol * float(np.max(np.abs(values), initial=0.0))
    for value in np.asarray(values, dtype=np.float64):
        if groups and value - groups[-1][0] <= tolerance:
            groups[-1] = (groups[-1][0], groups[-1][1] + 1)
        else:
            groups.append((float(value), 1))
    return groups
