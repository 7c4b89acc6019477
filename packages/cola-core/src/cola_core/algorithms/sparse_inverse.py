"""Derivatives of a sparse determinant in PyTorch: ``d log det A = sum_k (A^{-1})_{j_k i_k} da_k``,
the entries of the inverse where A has entries, and no others.

They come from solves with blocks of columns of the identity: n solves with factors at hand, of which a block
at a time is in memory. Second derivatives are further such solves, and keep their blocks.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from ..backends.base import Array
from ..dispatch.choose import ask

__all__ = ["entries_of_inverse", "slogdet"]

COLUMNS = 256  # of the inverse in memory at once


def slogdet(A: Any) -> tuple[Array, Array]:
    """Phase and log-modulus of the determinant of a sparse operator, or one plus diagonal ones."""
    from ..operators import Sum
    from ..operators.algebra import add

    S: Any = reduce(add, A.Ms) if isinstance(A, Sum) else A
    be = S._concrete_backend()

    def run(data: Array) -> Any:
        return _host(S, data).slogdet(), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> Any:
        change = be.xp.sum(entries_of_inverse(S.replace(data=inputs[0])) * d[0], axis=-1)
        sign = outputs[0]
        if not be.is_complex(change):
            return be.xp.zeros_like(sign), change
        return 1j * be.xp.imag(change) * sign, be.xp.real(change)

    def on_device(data: Array) -> Any:
        (sign, value), none = run(data)
        real = be.real_dtype(S.dtype)
        return (be.asarray(sign, S.dtype, S.device), be.asarray(value, real, S.device)), none

    return be.differentiable(on_device, tangent, S.data)[0]  # type: ignore[no-any-return]


def entries_of_inverse(S: Any) -> Array:
    """``(S^{-1})[cols[k], rows[k]]`` for every entry k of S."""
    import numpy as np

    from ..linalg.solve import SOLVE
    from .base import Auto

    be, n = S._concrete_backend(), S.shape[-1]
    rows, cols = be.to_numpy(S.rows), be.to_numpy(S.cols)
    blocks = [(at, np.nonzero((rows >= at) & (rows < at + COLUMNS))[0]) for at in range(0, n, COLUMNS)]

    def run(data: Array) -> Any:
        factor = _host(S, data)
        out = np.empty(rows.size, factor.dtype)
        for at, here in blocks:
            unit = np.zeros((n, min(COLUMNS, n - at)), factor.dtype)
            unit[at + np.arange(unit.shape[1]), np.arange(unit.shape[1])] = 1
            out[here] = factor.solve(unit)[cols[here], rows[here] - at]
        return (be.asarray(out, S.dtype, S.device),), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> Any:
        A, moved = S.replace(data=inputs[0]), S.replace(data=d[0])
        found = []
        for at, here in blocks:
            columns = be.asarray(np.eye(n, min(COLUMNS, n - at), -at), S.dtype, S.device)
            X = ask(SOLVE, (A, columns), Auto())
            Y = ask(SOLVE, (A, moved @ X), Auto())
            found.append(
                -Y[be.asarray(cols[here], device=S.device), be.asarray(rows[here] - at, device=S.device)]
            )
        # the blocks take the entries in order of rows, which is how they are stored
        return (be.xp.concat(found),)

    return be.differentiable(run, tangent, S.data)[0][0]  # type: ignore[no-any-return]


def _host(S: Any, data: Array) -> Any:
    """SuperLU's factors of the matrix with these entries."""
    from .sparse_lu import SparseLU

    return SparseLU()._factor(S.replace(data=data))
