"""Equal blocks of a block-diagonal operator as one batched operator, so that LAPACK is called once for all.

Two hundred blocks of one shape cost two hundred dispatches and calls if asked one by one; stacked they cost
one. Only stored matrices are stacked (other blocks have rules of their own), and only for algorithms that
take batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..algorithms import LU, Cholesky
from ..algorithms.base import Auto
from ..backends.base import Array
from ..operators import BlockDiag, Dense, LinearOperator, adopted

__all__ = ["Group", "gather", "groups_of", "scatter"]

MINIMUM = 4  # below this a copy of the entries costs more than it saves


class Group:
    """Blocks asked together: the operator (batched if stacked), and which blocks of A they are."""

    __slots__ = ("index", "operator", "stacked")

    def __init__(self, operator: LinearOperator, index: list[int], stacked: bool) -> None:
        self.operator, self.index, self.stacked = operator, index, stacked


def groups_of(A: BlockDiag, alg: Any) -> list[Group]:
    """The blocks of A, with dense ones of one shape, dtype and set of properties gathered."""
    found: dict[Any, list[int]] = {}
    batches = isinstance(alg, (Auto, Cholesky, LU))
    for i, M in enumerate(A.Ms):
        plain = batches and type(M) is Dense and len(M.shape) == 2
        key = (M.shape, M.dtype, M.properties, A.multiplicities[i]) if plain else i
        found.setdefault(key, []).append(i)
    out = []
    for key, index in found.items():
        if len(index) < MINIMUM or isinstance(key, int):
            out += [Group(adopted(A.Ms[i], A), [i], False) for i in index]
            continue
        first: Any = A.Ms[index[0]]
        arrays = [A.Ms[i].__dict__["array"] for i in index]
        out.append(Group(Dense(A.xp.stack(arrays), declared=first.properties), index, True))
    return out


def _starts(A: BlockDiag) -> Any:
    """Where each block begins, repeats of a block counted with it."""
    lengths = [M.shape[-1] * t for M, t in zip(A.Ms, A.multiplicities, strict=True)]
    return np.concatenate([[0], np.cumsum(lengths)])


def _rows(A: BlockDiag, group: Group, start: Any) -> Any:
    """The rows of a right-hand side that belong to a group, block after block, repeat after repeat."""
    index = np.asarray(group.index)
    length = start[index[0] + 1] - start[index[0]]  # the same for all blocks of a group
    return (start[index][:, None] + np.arange(length)).reshape(-1)


def gather(A: BlockDiag, groups: list[Group], X: Array) -> list[Array]:
    """The rows of X for each group: (*batch, blocks, m, k), with repeats of a block as further columns."""
    be = A._concrete_backend()
    xp, start, k = be.xp, _starts(A), X.shape[-1]
    out = []
    for group in groups:
        m = group.operator.shape[-1]
        times = A.multiplicities[group.index[0]]
        rows = _rows(A, group, start)
        Y = X[..., be.asarray(rows, device=A.device), :]
        Y = xp.reshape(Y, (*X.shape[:-2], len(group.index), times, m, k))
        Y = xp.moveaxis(Y, -3, -2)
        Y = xp.reshape(Y, (*X.shape[:-2], len(group.index), m, times * k))
        out.append(Y if group.stacked else Y[..., 0, :, :])
    return out


def scatter(A: BlockDiag, groups: list[Group], parts: list[Array], k: int) -> Array:
    """The inverse of ``gather``: the parts' rows where they belong."""
    be = A._concrete_backend()
    xp, start = be.xp, _starts(A)
    flat, rows = [], []
    for group, Y in zip(groups, parts, strict=True):
        m = group.operator.shape[-1]
        times = A.multiplicities[group.index[0]]
        Y = Y if group.stacked else Y[..., None, :, :]
        lead = Y.shape[:-3]
        Y = xp.moveaxis(xp.reshape(Y, (*lead, len(group.index), m, times, k)), -2, -3)
        flat.append(xp.reshape(Y, (*lead, len(group.index) * times * m, k)))
        rows.append(_rows(A, group, start))
    lead = np.broadcast_shapes(*(tuple(Y.shape[:-2]) for Y in flat))
    flat = [xp.broadcast_to(Y, (*lead, *Y.shape[-2:])) for Y in flat]
    dtype = xp.result_type(*flat)
    joined = xp.concat([be.astype(Y, dtype) for Y in flat], axis=-2) if len(flat) > 1 else flat[0]
    order = np.argsort(np.concatenate(rows))
    if (np.diff(order) == 1).all():
        return joined
    return joined[..., be.asarray(order, device=A.device), :]
