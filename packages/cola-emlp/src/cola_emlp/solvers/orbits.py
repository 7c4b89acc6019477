"""Permutation groups: a tensor is invariant iff it is constant on the orbits of its index tuples.

One graph with an edge i -> h(i) per generator h; its connected components are the orbits. Exact, O(N *
generators).
"""

from __future__ import annotations

import numpy as np

from ..groups import PermutationGroup


def orbit_labels(group: PermutationGroup, k: int) -> tuple[int, np.ndarray]:
    """(number of orbits, label of each of the d^k index tuples in row-major order, in order of first
    appearance).
    """
    d, n = group.d, group.d**k
    if k == 0 or not len(group.generators):
        return n, np.arange(n)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    node = np.arange(n, dtype=np.int32 if n * len(group.generators) < 2**31 else np.int64)
    heads = []
    for p in group.generators:
        image = np.zeros(1, np.int64)
        for _ in range(k):
            image = (image[:, None] * d + p).reshape(-1)
        heads.append(image.astype(node.dtype))
    tails = np.tile(node, len(heads))
    graph = coo_array((np.ones(len(tails), np.int8), (tails, np.concatenate(heads))), shape=(n, n)).tocsr()
    count, labels = connected_components(graph, directed=False)
    return int(count), labels.astype(np.int64)
