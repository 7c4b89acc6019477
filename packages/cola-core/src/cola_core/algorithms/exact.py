"""Trace and diagonal exactly, from the entries or from n products, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from .base import Algorithm, question_memory
from .linear_estimate import Block, linear_estimate

__all__ = ["Exact"]


@dataclass(frozen=True)
class Exact(Algorithm):
    """``e_i^H A e_i`` for every i: n products, ``bs`` columns at a time. pbar, or ``progress``: show a
    progress bar."""

    bs: int = 128
    pbar: bool = False
    progress: bool = field(default=False, kw_only=True)

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if question == "norm" and operands and operands[0] in (2, "nuc"):
            return f"the norm of order {operands[0]!r} needs singular values"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        columns = min(self.bs, max(n, 1))
        total = A.matmat_cost(columns) * max(n / columns, 1)
        return Cost(total.flops, total.bytes, question_memory(A, columns * 3), n, total.calls)

    def diag(self, A: Any, k: int) -> Array:
        be = A._concrete_backend()
        xp = be.xp
        m, n = A.shape[-2:]
        length = max(min(m, n - k) if k >= 0 else min(m + k, n), 0)
        if hasattr(A, "array") and type(A)._to_dense is not None and type(A).__name__ == "Dense":
            return xp.linalg.diagonal(A.array, offset=k)
        if length == 0:
            return be.zeros((*A.batch_shape, 0), A.dtype, A.device)

        def run(A: Any) -> Any:
            pieces = []
            starts: Any = range(0, length, self.bs)
            if self.pbar or self.progress:
                from tqdm import tqdm

                starts = tqdm(starts, desc="Exact")
            for start in starts:
                stop = min(start + self.bs, length)
                Y = A @ _units(A, start, stop, n, max(k, 0))
                pieces.append(_entries(be, Y, start, max(-k, 0)))
            out = xp.concat(pieces, axis=-1) if len(pieces) > 1 else pieces[0]
            if out.shape[:-1] != A.batch_shape:
                out = xp.broadcast_to(out, (*A.batch_shape, length))
            return out, (), (), None

        return linear_estimate(be, A, run, partial(self.terms, A, k))[0]

    def terms(self, A: Any, k: int) -> Iterator[Block]:
        """What the k-th diagonal is the sum of."""
        be = A._concrete_backend()
        xp = be.xp
        m, n = A.shape[-2:]
        length = max(min(m, n - k) if k >= 0 else min(m + k, n), 0)
        for start in range(0, length, self.bs):
            stop = min(start + self.bs, length)

            def value(V: Array, Y: Array, start: int = start, stop: int = stop) -> Array:
                d = _entries(be, Y, start, max(-k, 0))
                before = be.zeros((*d.shape[:-1], start), d.dtype, A.device)
                after = be.zeros((*d.shape[:-1], length - stop), d.dtype, A.device)
                return xp.concat([before, d, after], axis=-1)

            def pull(V: Array, g: Array, start: int = start, stop: int = stop) -> Array:
                return _units(A, start, stop, m, max(-k, 0)) * g[..., None, start:stop]

            yield Block(partial(_units, A, start, stop, n, max(k, 0)), value, pull)

    def norm(self, A: Any, ord: Any) -> Array:
        """The Frobenius norm, largest column sum (1) or largest row sum (inf) of the moduli."""
        from ..errors import UnknownNameError
        from .factor import dense_entries

        if ord not in ("fro", 1, float("inf")):
            raise UnknownNameError(f"Exact answers norms of order 'fro', 1 and inf, not {ord!r}; use SVD().")
        be = A._concrete_backend()
        xp = be.xp
        n = A.shape[-1]
        real = be.real_dtype(A.dtype)
        if 0 in A.shape[-2:]:
            return be.zeros(A.batch_shape, real, A.device)
        stored = type(A).__name__ in ("Dense", "Triangular")
        pieces: list[Array] = []
        for start in range(0, n, n if stored else self.bs):
            if stored:
                block = dense_entries(A)
            else:
                stop = min(start + self.bs, n)
                columns = be.zeros((n, stop - start), A.dtype, A.device)
                eye = be.eye(stop - start, A.dtype, A.device)
                block = A @ be.put(columns, slice(start, stop), eye)
            size = xp.abs(block)
            if ord == "fro":
                pieces.append(be.frobenius(block, axis=(-2, -1)))
            else:
                pieces.append(xp.sum(size, axis=-2 if ord == 1 else -1))
        if ord == "fro":
            out = be.frobenius(xp.stack(pieces, axis=-1)) if len(pieces) > 1 else pieces[0]
        elif ord == 1:
            out = xp.max(xp.concat(pieces, axis=-1), axis=-1)
        else:
            out = xp.max(sum(pieces[1:], pieces[0]), axis=-1)
        out = be.astype(out, real)
        return xp.broadcast_to(out, A.batch_shape) if out.shape != A.batch_shape else out

    def trace(self, A: Any) -> Array:
        return A._concrete_backend().xp.sum(self.diag(A, 0), axis=-1)


def _units(A: Any, start: int, stop: int, size: int, at: int) -> Array:
    """Unit vectors ``e_{at + i}`` for i from start to stop, as columns."""
    be = A._concrete_backend()
    columns = be.zeros((size, stop - start), A.dtype, A.device)
    return be.put(columns, slice(at + start, at + stop), be.eye(stop - start, A.dtype, A.device))  # type: ignore[no-any-return]


def _entries(be: Any, Y: Array, start: int, row: int) -> Array:
    """What columns with these numbers have on the diagonal that begins in this row."""
    return be.diagonal(Y, -(row + start))  # type: ignore[no-any-return]
