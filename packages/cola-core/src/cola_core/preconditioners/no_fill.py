"""Incomplete Cholesky factors of SciPy matrices: without fill, and by drop tolerance.

Without fill, the entries that depend on nothing still unknown are computed together (level scheduling;
Saad 2003, sec. 12.4), so that the work is done in as many array operations as there are levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Breakdown", "no_fill", "with_drops"]


class Breakdown(ArithmeticError):
    """A pivot was not positive."""


def no_fill(S: Any) -> Any:
    """Lower L (CSR) with the pattern of S's lower triangle and ``(L L^H)[i, j] = S[i, j]`` on it.

    ``L[i, j] = (S[i, j] - sum_k L[i, k] conj(L[j, k])) / L[j, j]``: every term is a triple of stored entries.
    """
    from scipy.sparse import csr_array, tril

    T = csr_array(tril(S))
    T.sort_indices()
    n, nnz = T.shape[0], T.nnz
    rows, cols = np.repeat(np.arange(n), np.diff(T.indptr)), T.indices.astype(np.int64)
    pivot = T.indptr[1:] - 1  # the last entry of a row is on the diagonal
    if (cols[pivot] != np.arange(n)).any():
        raise Breakdown
    target, left, right = _triples(n, rows, cols)
    values = T.data.astype(np.result_type(T.data, np.float32), copy=True)
    # what each entry waits for: its terms, and the pivot of its column
    waits = np.bincount(target, minlength=nnz)
    off = rows != cols
    waits[off] += 1
    uses, terms = _grouped(np.concatenate([left, right[right != left]]), nnz), np.arange(target.size)
    terms = np.concatenate([terms, terms[right != left]])[uses[1]]
    starts = uses[0]
    term_waits = np.where(left == right, 1, 2)
    below_start, below = _grouped(cols[off], n)
    below = np.flatnonzero(off)[below]
    ready = np.flatnonzero(waits == 0)
    done = 0
    while ready.size:
        done += ready.size
        diagonal = ready[~off[ready]]
        real = values[diagonal].real
        if not (real > 0).all():
            raise Breakdown
        values[diagonal] = np.sqrt(real)
        beside = ready[off[ready]]
        values[beside] = values[beside] / values[pivot[cols[beside]]].real
        # terms that are complete now
        touched = _gather(starts, terms, ready)
        touched, times = np.unique(touched, return_counts=True)
        term_waits[touched] -= times
        full = touched[term_waits[touched] == 0]
        goals = target[full]
        np.subtract.at(values, goals, values[left[full]] * values[right[full]].conj())
        freed = np.concatenate([goals, _gather(below_start, below, cols[diagonal])])
        freed, times = np.unique(freed, return_counts=True)
        waits[freed] -= times
        ready = freed[waits[freed] == 0]
    if done < nnz or not np.isfinite(values).all():
        raise Breakdown
    return csr_array((values, T.indices, T.indptr), shape=T.shape)


def _triples(n: int, rows: Any, cols: Any) -> tuple[Any, Any, Any]:
    """Positions (i, j), (i, k), (j, k) of stored entries with k < j <= i."""
    order = np.lexsort((rows, cols))  # by column, then row
    inner = order[rows[order] != cols[order]]
    start = np.searchsorted(cols[inner], np.arange(n + 1))
    place = np.arange(inner.size)
    # entry p of column k pairs with those above it and itself
    count = place - start[cols[inner]] + 1
    second = np.repeat(place, count)
    offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    first = start[cols[inner[second]]] + offset
    i, j = rows[inner[second]], rows[inner[first]]
    stored, wanted = rows * n + cols, i * n + j
    slot = np.minimum(np.searchsorted(stored, wanted), stored.size - 1)
    hit = stored[slot] == wanted
    return slot[hit], inner[second[hit]], inner[first[hit]]


def _grouped(keys: Any, n: int) -> tuple[Any, Any]:
    """Where the positions with each key start in the order that sorts the keys, and that order."""
    order = np.argsort(keys, kind="stable")
    return np.searchsorted(keys[order], np.arange(n + 1)), order


def _gather(start: Any, items: Any, keys: Any) -> Any:
    """All items of several groups."""
    count = start[keys + 1] - start[keys]
    total = int(count.sum())
    offset = np.arange(total) - np.repeat(np.cumsum(count) - count, count)
    return items[np.repeat(start[keys], count) + offset]


def with_drops(S: Any, tol: float) -> Any:
    """Lower L (CSR), column by column, without entries below ``tol`` times the norm of their column of S."""
    from scipy.sparse import csc_array, tril

    T = csc_array(tril(S))
    T.sort_indices()
    whole = csc_array(S)
    n = T.shape[0]
    limits = tol * np.sqrt(np.asarray(abs(whole).power(2).sum(axis=0)).ravel())
    work = np.zeros(n, T.dtype)
    marked = np.zeros(n, bool)
    columns: list[tuple[Any, Any]] = []
    place = np.zeros(n, np.int64)  # the first entry of a finished column that is not yet above the diagonal
    waiting: list[list[int]] = [[] for _ in range(n)]  # by the row of that entry
    for j in range(n):
        found = T.indices[T.indptr[j] : T.indptr[j + 1]]
        work[found] = T.data[T.indptr[j] : T.indptr[j + 1]]
        marked[found] = True
        pieces = [found]
        for k in waiting[j]:
            index, data = columns[k]
            p = place[k]
            below = index[p:]
            work[below] -= data[p:] * np.conj(data[p])
            new = below[~marked[below]]
            if new.size:
                marked[new] = True
                pieces.append(new)
            if p + 1 < index.size:
                place[k] = p + 1
                waiting[int(index[p + 1])].append(k)
        waiting[j] = []
        index = np.sort(np.concatenate(pieces)) if len(pieces) > 1 else found
        value = work[j].real
        if not (index.size and index[0] == j and value > 0 and np.isfinite(value)):
            raise Breakdown
        rest = index[1:]
        rest = rest[np.abs(work[rest]) > limits[j]]
        root = np.sqrt(value)
        data = np.concatenate([np.asarray([root], T.dtype), work[rest] / root])
        columns.append((np.concatenate([index[:1], rest]), data))
        if rest.size:
            place[j] = 1
            waiting[int(rest[0])].append(j)
        work[index] = 0
        marked[index] = False
    counts = np.asarray([c[0].size for c in columns])
    indptr = np.concatenate([[0], np.cumsum(counts)])
    rows = np.concatenate([c[0] for c in columns])
    return csc_array((np.concatenate([c[1] for c in columns]), rows, indptr), shape=T.shape).tocsr()
