"""Sparse tensors of PyTorch, in all layouts of two axes: COO, CSR, CSC, and the blocked ones through COO."""

from __future__ import annotations

from typing import Any

from ..backends.exchange import exchange
from ..errors import ShapeError
from ..operators import LinearOperator, Sparse
from .scipy_sparse import entries

__all__ = ["read", "write"]


def read(t: Any) -> LinearOperator:
    """A sparse tensor as ``Sparse``; gradients flow to its values."""
    import torch

    if t.ndim != 2:
        raise ShapeError(f"a sparse tensor must have two axes to be a matrix, not shape {tuple(t.shape)}.")
    if t.layout is torch.sparse_csr:
        counts = t.crow_indices().diff()
        rows = torch.repeat_interleave(torch.arange(t.shape[0], device=t.device), counts)
        return Sparse(t.values(), rows, t.col_indices(), tuple(t.shape))
    if t.layout is torch.sparse_csc:
        counts = t.ccol_indices().diff()
        cols = torch.repeat_interleave(torch.arange(t.shape[1], device=t.device), counts)
        return Sparse(t.values(), t.row_indices(), cols, tuple(t.shape))
    coo = (t if t.layout is torch.sparse_coo else t.to_sparse_coo()).coalesce()
    rows, cols = coo.indices()
    return Sparse(coo.values(), rows, cols, tuple(t.shape))


def write(A: LinearOperator, layout: str) -> Any:
    """The entries as a sparse tensor; values and indices of a PyTorch operator are shared."""
    import torch

    S = entries(A)
    library = S._concrete_backend().name
    data, rows, cols = (exchange(x, library, "torch") for x in (S.data, S.rows, S.cols))
    if bool((rows[1:] < rows[:-1]).any()):  # an adjoint taken under a transformation is not in order
        order = torch.argsort(rows * S.size[1] + cols)
        data, rows, cols = data[order], rows[order], cols[order]
    if layout == "coo":
        return torch.sparse_coo_tensor(
            torch.stack([rows, cols]), data, S.size, is_coalesced=True, check_invariants=False
        )
    if layout != "csr":
        raise ValueError(f'layout is "csr" or "coo", not {layout!r}.')
    starts = torch.searchsorted(rows, torch.arange(S.size[0] + 1, device=rows.device))
    return torch.sparse_csr_tensor(starts, cols, data, S.size, check_invariants=False)
