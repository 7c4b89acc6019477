"""Sparse arrays of JAX (``jax.experimental.sparse``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.exchange import exchange
from ..errors import ShapeError
from ..operators import LinearOperator, Sparse
from .scipy_sparse import entries

__all__ = ["read", "write"]


def read(M: Any) -> LinearOperator:
    """A BCOO, BCSR, COO, CSR or CSC array of two axes as ``Sparse``; no batch or dense axes.

    The positions must be concrete (not traced); the entries may be.
    """
    kind = type(M).__name__
    extra = [int(getattr(M, name, 0)) for name in ("n_batch", "n_dense")]
    if len(M.shape) != 2 or any(extra):
        raise ShapeError(
            f"a {kind} of shape {tuple(M.shape)} with {extra[0]} batch and {extra[1]} dense axes is not one "
            "sparse matrix."
        )
    m, n = M.shape
    if kind == "BCOO":
        rows, cols = np.asarray(M.indices).T
        stored = (rows < m) & (cols < n)  # JAX pads with positions outside the matrix
        data = M.data if stored.all() else M.data[np.flatnonzero(stored)]
        return Sparse(data, rows[stored], cols[stored], (m, n))
    if kind in ("BCSR", "CSR"):
        rows = np.repeat(np.arange(m), np.diff(np.asarray(M.indptr)))
        return Sparse(M.data[: rows.size], rows, np.asarray(M.indices)[: rows.size], (m, n))
    if kind == "CSC":
        cols = np.repeat(np.arange(n), np.diff(np.asarray(M.indptr)))
        return Sparse(M.data[: cols.size], np.asarray(M.indices)[: cols.size], cols, (m, n))
    if kind == "COO":
        return Sparse(M.data, np.asarray(M.row), np.asarray(M.col), (m, n))
    raise TypeError(f"no counterpart for {kind} of jax.experimental.sparse; convert it to BCOO.")


def write(A: LinearOperator, layout: str) -> Any:
    """The entries as a sorted BCOO or BCSR without duplicates; the values are shared."""
    import jax.numpy as jnp
    from jax.experimental import sparse

    S = entries(A)
    library = S._concrete_backend().name
    data, rows, cols = (exchange(x, library, "jax") for x in (S.data, S.rows, S.cols))
    marks = {"indices_sorted": True, "unique_indices": True}
    if layout == "bcoo":
        return sparse.BCOO((data, jnp.stack([rows, cols], axis=-1)), shape=S.size, **marks)
    if layout != "bcsr":
        raise ValueError(f'layout is "bcoo" or "bcsr", not {layout!r}.')
    starts = jnp.searchsorted(rows, jnp.arange(S.size[0] + 1))
    return sparse.BCSR((data, cols, starts), shape=S.size, **marks)
