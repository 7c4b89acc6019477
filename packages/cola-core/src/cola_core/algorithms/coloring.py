"""Colours of a graph such that vertices within a distance of each other differ: greedy, in order of the
vertices.

The graph is that of a sparse matrix, without directions. Vertices of one colour are further apart than the
distance, so that one probe serves them all. Source: Gebremedhin, Manne & Pothen, SIAM Review 47 (2005) 629.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["band_colors", "graph_colors", "graph_of"]


def graph_of(A: Any) -> Any:
    """The graph behind an operator or a function of one: ("band", half width), ("sparse", SciPy matrix) or
    None.

    f(A) has the graph of A: entries decay with the distance in it. Found by static structure alone.
    """
    from ..operators import Banded, Diagonal, Identity, ScalarMul, Sparse, Sum, Tridiagonal

    while not isinstance(A, (Sparse, Banded, Tridiagonal, Sum)):
        if isinstance(A, (Diagonal, Identity, ScalarMul)):
            return "band", 0
        inner = getattr(A, "A", None)  # inverses, functions, transposes, hidden structure
        if inner is None or getattr(inner, "shape", (0, 1))[-2:] != A.shape[-2:]:
            return None
        A = inner
    if isinstance(A, Sum):
        found = [graph_of(M) for M in A.Ms]
        if any(g is None for g in found):
            return None
        if all(kind == "band" for kind, _ in found):
            return "band", max(width for _, width in found)
        total = sum(_matrix(g, A.shape[-1]) for g in found)
        return "sparse", total
    if isinstance(A, Sparse):
        return "sparse", A
    return "band", max((abs(k) for k in A._diagonals()), default=0)


def _matrix(graph: Any, n: int) -> Any:
    """The pattern of a graph as a SciPy matrix of ones."""
    import scipy.sparse as sp

    kind, what = graph
    if kind == "band":
        offsets = [k for k in range(-what, what + 1) if abs(k) < n]
        return sp.diags_array([np.ones(n - abs(k)) for k in offsets], offsets=offsets, shape=(n, n)).tocsr()
    if hasattr(what, "rows"):
        rows, cols = np.asarray(what.rows), np.asarray(what.cols)
        what = sp.coo_array((np.ones(len(rows)), (rows, cols)), shape=(n, n))
    return sp.csr_array(what)


def band_colors(n: int, width: int, distance: int) -> Any:
    """Colours of a band matrix with ``width`` diagonals on either side."""
    return np.arange(n) % (width * distance + 1)


def graph_colors(graph: Any, n: int, distance: int) -> Any:
    """A colour for each vertex, as an array of integers from zero."""
    kind, what = graph
    if kind == "band":
        return band_colors(n, what, distance)
    import scipy.sparse as sp

    P = _matrix(graph, n)
    P = sp.csr_array((np.ones(P.nnz, np.float32), P.indices, P.indptr), shape=(n, n))
    P = P + P.T + sp.eye_array(n, dtype=np.float32)
    near = sp.csr_array(P)
    for _ in range(distance - 1):
        near = sp.csr_array(near @ P)
        near.data[:] = 1
    start, neighbours = near.indptr.tolist(), near.indices.tolist()
    colors = [-1] * n
    for i in range(n):
        taken = {colors[j] for j in neighbours[start[i] : start[i + 1]]}
        c = 0
        while c in taken:
            c += 1
        colors[i] = c
    return np.asarray(colors, dtype=np.int64)
