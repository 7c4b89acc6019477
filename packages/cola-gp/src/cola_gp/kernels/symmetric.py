r"""``k(X)`` in tiles: every pair of points is evaluated once, and what is between stays in cache.

``k(X)`` is made of the symmetric ``k(X_I)`` on its diagonal and of ``k(X_I, X_J)`` below it; what is above is
its mirror image. :func:`symmetric` gives the matrix, :func:`times` its products without storing it, and
:func:`pull_low_rank` derivatives for weights that are of low rank plus diagonal. The contract of pullbacks is
that of :meth:`Kernel.evaluate`, for symmetric weights: tiles are evaluated again, so that no intermediate of
the size of the matrix is kept.

JAX arrays take the kernel's own ``evaluate``; tensors that are differentiated get the blocks' derivative in
place of the graph of their steps (:mod:`~cola_gp.kernels.recorded`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from cola_core.backends import backend_of

from .._struct import leaves
from ..arrays import backend_for
from .base import Array, Kernel, Pullback, points
from .derivatives import point_gradient
from .distances import overwritable
from .recorded import recorded

BLOCK_ENTRIES = 2**18  # 2 MiB in double precision, the size of a core's second-level cache
LEAST = 512  # points of which the whole matrix is no larger than a block
TILE_ENTRIES = 2**16


def _own(kernel: Kernel, backend: Any) -> list[Array]:
    return [leaf for leaf in leaves(kernel) if backend_of(leaf) is backend]


def symmetric(kernel: Kernel, X: Array, mirrored: bool = True) -> tuple[Array, Pullback]:
    """``k(X)``, ``X (n, d)``, and the map of a *symmetric* W to the derivatives of ``sum(W * k(X))``.

    mirrored: pass False for a map that takes any W.

    Cost: half of the evaluations of ``kernel.evaluate(X)``, once here and once in the pullback.
    """
    points(X)
    backend = backend_for(X)
    if X.shape[0] <= LEAST or not kernel.blockwise:
        return kernel.evaluate(X)
    if not overwritable(X, *_own(kernel, backend)):
        plain = backend.name != "torch" or backend.mapped(X, *_own(kernel, backend))
        return kernel.evaluate(X) if plain else recorded(kernel, X, _in_blocks)
    K, pull = _in_blocks(kernel, X)
    return K, lambda W: pull(W, mirrored)


def _in_blocks(kernel: Kernel, X: Array) -> tuple[Array, Callable[..., tuple[Array, ...]]]:
    """``k(X)`` for what is not differentiated, and its pullback, told whether the weights are symmetric."""
    backend = backend_for(X)
    if not overwritable(X, *_own(kernel, backend)):
        value, back = kernel.evaluate(X)
        return value, lambda W, mirrored=False: back(W)
    n = X.shape[0]
    size = max(16, BLOCK_ENTRIES // n)
    starts = range(0, n, size)
    K = backend.zeros((n, n), X.dtype, backend.device(X))
    for i in starts:
        rows = slice(i, min(i + size, n))
        K[rows, rows] = kernel(X[rows])
        if i:
            block = kernel(X[rows], X[:i])
            K[rows, :i] = block
            K[:i, rows] = block.T

    def pull(W: Array, mirrored: bool = False) -> tuple[Array, ...]:
        total: tuple[Array, ...] = ()
        for i in starts:
            rows = slice(i, min(i + size, n))
            parts = [kernel.evaluate(X[rows])[1](W[rows, rows])]
            if i:
                _, back = kernel.evaluate(X[rows], X[:i])
                left = W[rows, :i]
                parts.append(back(2.0 * left if mirrored else left + W[:i, rows].T))
            for part in parts:
                total = part if not total else tuple(a + b for a, b in zip(total, part, strict=True))
        return total

    return K, pull


def by_points(kernel: Kernel, X: Array, W: Array) -> Array:
    """Derivative ``(n, d)`` of ``sum(W * k(X))`` with respect to the points, for any ``W (n, n)``."""
    backend = backend_for(X)
    n = X.shape[0]
    if n <= LEAST or not kernel.blockwise or not overwritable(X, W, *_own(kernel, backend)):
        return point_gradient(kernel, X, X, W + W.T)
    size = max(16, BLOCK_ENTRIES // n)
    parts = []
    for i in range(0, n, size):
        rows = slice(i, min(i + size, n))
        parts.append(point_gradient(kernel, X[rows], X, W[rows] + W[:, rows].T))
    return backend.xp.concat(parts, axis=0)


def tile_sizes(entries: int = TILE_ENTRIES) -> tuple[int, int]:
    """Rows and columns of a tile with about that many entries."""
    rows = max(1, math.isqrt(max(1, entries // 2)))
    return rows, max(1, entries // rows)


def _tiles(n: int, entries: int) -> Iterator[tuple[slice, list[slice]]]:
    """Rows of the diagonal blocks, each with the columns of the tiles to its left."""
    rows, columns = tile_sizes(entries)
    for i in range(0, n, rows):
        left = [slice(j, min(j + columns, i)) for j in range(0, i, columns)]
        yield slice(i, min(i + rows, n)), left


def times(kernel: Kernel, X: Array, V: Array, entries: int = TILE_ENTRIES) -> Array:
    """``k(X) @ V`` for ``V (n, k)``, every pair of points evaluated once; NumPy and torch, no derivatives.

    Cost: ``n^2 / 2`` evaluations and ``2 k n^2`` flops, memory O(n k + entries).
    """
    backend = backend_for(X)
    out = backend.xp.zeros_like(V)
    for rows, left in _tiles(X.shape[0], entries):
        A, top = X[rows], V[rows]
        total = kernel(A) @ top
        for columns in left:
            tile = kernel(A, X[columns])
            total += tile @ V[columns]
            out[columns] += tile.T @ top
        out[rows] += total
    return out


def pull_low_rank(kernel: Kernel, X: Array, *cotangents: tuple[Any, ...]) -> list[tuple[Array, ...]]:
    """Derivatives of ``sum(W * k(X))`` by the leaves, for each symmetric ``W = L R^T + diag(d)``.

    cotangents: ``(L, R)`` or ``(L, R, d)`` with arrays ``(n, k)``, ``(n, k)``, ``(n,)``.  Cost: ``n^2 / 2``
    evaluations with derivatives for all together, ``k n^2`` flops for each.
    """
    points(X)
    backend = backend_for(X)
    totals: list[list[Array]] = [[] for _ in cotangents]

    def add(index: int, part: tuple[Array, ...]) -> None:
        known = totals[index]
        totals[index] = [a + b for a, b in zip(known, part, strict=True)] if known else list(part)

    for rows, left in _tiles(X.shape[0], TILE_ENTRIES):
        A = X[rows]
        _, back = kernel.evaluate(A)
        for index, (L, R, *d) in enumerate(cotangents):
            W = L[rows] @ R[rows].T
            add(index, back(backend.add_diagonal(W, d[0][rows]) if d else W))
        for columns in left:
            _, back = kernel.evaluate(A, X[columns])
            for index, (L, R, *_) in enumerate(cotangents):
                add(index, back(2.0 * (L[rows] @ R[columns].T)))
    return [tuple(total) for total in totals]
