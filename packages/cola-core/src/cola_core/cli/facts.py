"""Facts about the entries of a matrix from a file, computed without making a sparse matrix dense."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..operators import Dense, LinearOperator, Sparse

__all__ = ["MAX_ROWS", "asymmetry", "bandwidth", "diagonal_of", "dominance", "entries", "norm1", "stored"]

MAX_ROWS = 2048  # operators that store no entries are made dense up to here


def stored(A: LinearOperator) -> bool:
    """Whether the file held entries, and not a composition."""
    return type(A) in (Sparse, Dense)


def entries(A: LinearOperator) -> tuple[Any, Any, Any]:
    """Values, rows and columns of the stored (sparse) or all (dense) entries."""
    if isinstance(A, Sparse):
        return A.data, A.rows, A.cols
    M = _host(A)
    rows, cols = np.nonzero(M)
    return M[rows, cols], rows, cols


def _host(A: LinearOperator) -> Any:
    return np.asarray(A._concrete_backend().to_numpy(A.to_dense()))


def asymmetry(A: LinearOperator, conjugate: bool = True) -> tuple[float, tuple[int, int]]:
    """The largest ``|A - A^H|`` (or ``|A - A^T|``) and where it is."""
    if isinstance(A, Sparse):
        M = A.to_scipy()
        D = abs(M - (M.conj().T if conjugate else M.T)).tocoo()
        if D.nnz == 0:
            return 0.0, (0, 0)
        k = int(np.argmax(D.data))
        return float(D.data[k]), (int(D.row[k]), int(D.col[k]))
    M = _host(A)
    D = np.abs(M - (M.conj().T if conjugate else M.T))
    if D.size == 0:
        return 0.0, (0, 0)
    i, j = np.unravel_index(int(np.argmax(D)), D.shape)
    return float(D[i, j]), (int(i), int(j))


def bandwidth(A: LinearOperator) -> tuple[int, int]:
    """How far entries lie below and above the diagonal."""
    _, rows, cols = entries(A)
    if not len(rows):
        return 0, 0
    offset = cols - rows
    return max(int(-offset.min()), 0), max(int(offset.max()), 0)


def diagonal_of(A: LinearOperator) -> Any:
    """The main diagonal, zeros included."""
    return A.to_scipy().diagonal() if isinstance(A, Sparse) else np.diagonal(_host(A))


def dominance(A: LinearOperator) -> tuple[int, float]:
    """How many rows have ``|a_ii| >= sum of the other |a_ij|`` (to rounding), and the smallest ratio of the
    two."""
    data, rows, _ = entries(A)
    total = np.zeros(A.shape[-2])
    np.add.at(total, rows, np.abs(data))
    d = np.zeros(A.shape[-2])
    main = np.abs(diagonal_of(A))
    d[: main.size] = main
    off = np.maximum(total - d, 0)
    dominant = d >= off * (1 - 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(off > 0, d / off, np.inf)
    return int(dominant.sum()), float(ratio.min(initial=np.inf))


def norm1(A: LinearOperator) -> float:
    """The largest column sum of absolute values."""
    data, _, cols = entries(A)
    total = np.zeros(A.shape[-1])
    np.add.at(total, cols, np.abs(data))
    return float(total.max(initial=0.0))
