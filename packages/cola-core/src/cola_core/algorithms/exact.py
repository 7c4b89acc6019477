"""Trace and diagonal exactly, from the entries or from n products, in blocks of bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from .base import Algorithm, question_memory

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
        row0, col0 = max(-k, 0), max(k, 0)
        pieces = []
        starts: Any = range(0, length, self.bs)
        if self.pbar or self.progress:
            from tqdm import tqdm

            starts = tqdm(starts, desc="Exact")
        for start in starts:
            stop = min(start + self.bs, length)
            columns = be.zeros((n, stop - start), A.dtype, A.device)
            eye = be.eye(stop - start, A.dtype, A.device)
            columns = be.put(columns, slice(col0 + start, col0 + stop), eye)
            block = (A @ columns)[..., row0 + start : row0 + stop, :]
            pieces.append(xp.linalg.diagonal(block))
        out = xp.concat(pieces, axis=-1) if len(pieces) > 1 else pieces[0]
        return xp.broadcast_to(out, (*A.batch_shape, length)) if out.shape[:-1] != A.batch_shape else out

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
