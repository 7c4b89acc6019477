"""``BlockJacobi``: the inverses of blocks on the diagonal. Saad 2003, sec. 12.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.base import Array
from ..errors import NotPositiveDefiniteError, ShapeError, SingularMatrixError
from ..operators import BlockDiag, Dense, Identity, LinearOperator, Sparse
from ..operators.selection import diagonal_blocks
from ..properties import PSD
from .base import Preconditioner, finite

__all__ = ["BlockJacobi"]

FEW = 32  # so many blocks are kept as one operator each; more go into one sparse matrix


@dataclass(frozen=True)
class BlockJacobi(Preconditioner):
    """Inverses of diagonal blocks of A, for unknowns that belong together.

    size: of consecutive blocks (the last may be smaller). blocks: instead of it, index sequences that contain
    every index once. Entries are read off where the operator has them, else n products are made, a strip at a
    time. A few consecutive blocks give a ``BlockDiag``, otherwise the blocks lie in one ``Sparse`` operator.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.PSD(np.kron(np.eye(3), np.array([[2.0, 1.0], [1.0, 2.0]])))
    >>> P = cola.BlockJacobi(2)(A)
    >>> bool(np.allclose((P @ A).to_dense(), np.eye(6)))
    True
    """

    size: int | None = None
    blocks: Any = None

    def build(self, A: LinearOperator) -> LinearOperator:
        n = A.shape[-1]
        if not n:
            return Identity.like(A)
        psd = A.isa(PSD)
        groups = self._groups(A)
        inverses: list[tuple[Any, Array]] = []
        for size in sorted({len(g) for g in groups}):
            places = np.stack([g for g in groups if len(g) == size])
            inverses.append((places, self._inverted(A, diagonal_blocks(A, places), psd)))
        declared = frozenset({PSD} if psd else ())
        order = np.concatenate(groups)
        consecutive = bool((order == np.arange(n)).all())
        if consecutive and len(groups) <= FEW:
            found = {int(p[0]): B[i] for places, B in inverses for i, p in enumerate(places)}
            parts = [Dense(found[int(g[0])], declared=declared) for g in groups]
            return parts[0] if len(parts) == 1 else BlockDiag(*parts)
        be = A._concrete_backend()
        rows = np.concatenate([np.repeat(p, p.shape[1], axis=1).ravel() for p, _ in inverses])
        cols = np.concatenate([np.tile(p, (1, p.shape[1])).ravel() for p, _ in inverses])
        data = be.xp.concat([be.xp.reshape(B, (-1,)) for _, B in inverses])
        return Sparse(data, rows, cols, (n, n), declared=declared)

    def _groups(self, A: LinearOperator) -> list[Any]:
        n = A.shape[-1]
        if (self.size is None) == (self.blocks is None):
            raise ShapeError("BlockJacobi(size) or BlockJacobi(blocks=[...]): give one of the two.")
        if self.size is not None:
            if int(self.size) < 1:
                raise ShapeError(f"BlockJacobi(size={self.size}): blocks have at least one row.")
            return [np.arange(i, min(i + int(self.size), n)) for i in range(0, n, int(self.size))]
        groups = [np.asarray(g, dtype=np.int64).ravel() for g in self.blocks]
        groups = [g for g in groups if g.size]
        seen = np.sort(np.concatenate(groups)) if groups else np.zeros(0, np.int64)
        if seen.shape != (n,) or (seen != np.arange(n)).any():
            raise ShapeError(f"BlockJacobi(blocks=...): the blocks must contain each of {n} indices once.")
        return groups

    def _inverted(self, A: LinearOperator, B: Array, psd: bool) -> Array:
        be = A._concrete_backend()
        xp = be.xp
        finite(A, B, "a diagonal block")
        eye = be.eye(B.shape[-1], B.dtype, A.device) + xp.zeros_like(B)
        if psd:
            try:
                L = be.cholesky(B)
            except NotPositiveDefiniteError:
                raise NotPositiveDefiniteError(
                    f"BlockJacobi: {A!r} is declared PSD and has a diagonal block that is not definite."
                ) from None
            half = be.solve_triangular(L, eye, lower=True)
            return be.matmul(be.adjoint(half), half)
        try:
            out = xp.linalg.inv(B)
        except Exception as error:
            if "LinAlg" not in type(error).__name__:
                raise
            out = None
        if out is None or not be.all_finite(out):
            raise SingularMatrixError(f"BlockJacobi: a diagonal block of {A!r} is singular.")
        return out
