"""The order in which a chain of operators and an array are multiplied: dynamic programming over static costs.

Right to left is best for thin arrays. For many columns and a small inner dimension it pays to multiply
operators first: ``A (B X)`` with A 10 x n, B n x 10 and a thousand columns costs fifty times ``(A B) X``.
Source: Cormen, Leiserson, Rivest & Stein, Introduction to Algorithms, sec. 14.2.
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..cost import Cost

__all__ = ["multiply", "plan"]

LONGEST = 12  # the search takes the cube of the number of factors

Tree = Any  # an index, or a pair of trees: the left one is multiplied onto the right one


def plan(Ms: tuple[Any, ...], columns: int | None, itemsize: int) -> Tree | None:
    """The cheapest order for ``M0 ... Mp-1 X`` with X of so many columns (None: without X); None where it is
    from right to left. No intermediate array is larger than the largest one on the way from right to left."""
    p = len(Ms)
    if p < 2 or p > LONGEST:
        return None
    sizes = [M.shape[-2] for M in Ms] + [Ms[-1].shape[-1]]
    inner = min(sizes[:-1] if columns is not None else sizes[1:-1])
    last = p if columns is not None else p - 1
    if columns is not None:
        if columns <= inner:
            return None
        sizes.append(columns)
    largest = max(sizes[:-1]) * sizes[-1]

    def leaf(i: int) -> float:
        """Seconds for the entries of a factor."""
        if i == p or type(Ms[i]).__name__ in ("Dense", "Triangular"):
            return 0.0
        return float(Ms[i].matmat_cost(Ms[i].shape[-1]).seconds)

    best: dict[tuple[int, int], tuple[float, Tree]] = {(i, i): (leaf(i), i) for i in range(last + 1)}
    for width in range(1, last + 1):
        for i in range(last + 1 - width):
            j = i + width
            rows, k = sizes[i], sizes[j + 1]
            if j < last and rows * k > largest:
                continue
            options = []
            for s in range(i, j):
                if (s + 1, j) not in best:
                    continue
                right, tree = best[s + 1, j]
                if s == i:
                    options.append((right + Ms[i].matmat_cost(k).seconds, (i, tree)))
                elif (i, s) in best:
                    left, other = best[i, s]
                    product = Cost(2.0 * rows * sizes[s + 1] * k, itemsize * (rows + k) * sizes[s + 1])
                    options.append((left + right + product.seconds, (other, tree)))
            if options:
                best[i, j] = min(options, key=lambda option: option[0])
    tree = best[0, last][1]
    return None if _leftmost_first(tree) else tree


def _leftmost_first(tree: Tree) -> bool:
    """Whether the order is from right to left."""
    while isinstance(tree, tuple):
        if isinstance(tree[0], tuple):
            return False
        tree = tree[1]
    return True


def multiply(Ms: tuple[Any, ...], tree: Tree, X: Array | None, whole: Any) -> Array:
    """The product in the planned order, as an array."""
    if not isinstance(tree, tuple):
        return X if tree == len(Ms) else Ms[tree]._dense_like(whole)
    right = multiply(Ms, tree[1], X, whole)
    if not isinstance(tree[0], tuple):
        return Ms[tree[0]]._matmat(right)
    return whole._concrete_backend().matmul(multiply(Ms, tree[0], X, whole), right)
