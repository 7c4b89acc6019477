"""Operators laid out on a grid of blocks: what ``Block``, ``BlockDiag`` and ``Concatenated`` share.

A grid is (heights, widths, cells) with cells ``{(i, j): operator}``; a position that is absent is a zero
block.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np

from ..backends.base import Array
from .base import LinearOperator
from .zero import is_zero

__all__ = ["Grid", "concat_rows", "grid_of", "multiply", "offsets"]

Grid = tuple[tuple[int, ...], tuple[int, ...], dict[tuple[int, int], LinearOperator]]


def grid_of(A: LinearOperator) -> Grid | None:
    """The grid of an operator that is made of blocks, or None."""
    make = getattr(A, "_grid", None)
    return None if make is None else make()


def offsets(sizes: tuple[int, ...]) -> list[int]:
    """Where each block begins, and where the last one ends."""
    return [0, *accumulate(sizes)]


def concat_rows(xp: Any, pieces: list[Array], axis: int = -2) -> Array:
    """Arrays below one another (or, with axis -1, beside one another), broadcast and promoted."""
    if len(pieces) == 1:
        return pieces[0]
    batches = {tuple(p.shape[:-2]) for p in pieces}
    if len(batches) > 1:
        full = np.broadcast_shapes(*batches)
        pieces = [xp.broadcast_to(p, (*full, *p.shape[-2:])) for p in pieces]
    if len({p.dtype for p in pieces}) > 1:
        common = xp.result_type(*pieces)
        pieces = [xp.astype(p, common) for p in pieces]
    return xp.concat(pieces, axis=axis)


def multiply(a: Grid, b: Grid) -> Grid | None:
    """The grid of the product, where it costs little more products than the two factors one after the
    other."""
    from .algebra import add, matmul

    (heights, inner, A), (outer, widths, B) = a, b
    if inner != outer:
        return None
    rows: dict[int, list[int]] = {}
    for k, j in B:
        rows.setdefault(k, []).append(j)
    pairs = [(i, k, j) for i, k in A for j in rows.get(k, ())]
    if not pairs or len(pairs) > 2 * (len(A) + len(B)):
        return None
    cells: dict[tuple[int, int], LinearOperator] = {}
    for i, k, j in pairs:
        term = matmul(A[i, k], B[k, j])
        if not is_zero(term):
            cells[i, j] = add(cells[i, j], term) if (i, j) in cells else term
    if not cells:
        return None
    return heights, widths, cells
