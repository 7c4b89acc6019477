"""The span of past solutions, and the best first guess in it. Fischer, CMAME 163 (1998) 193, sec. 2.

Pairs ``A X = Y`` with the columns of Y orthonormal: of all vectors in the span of X, ``X Y^H b`` has the
least residual ``b - Y Y^H b``. One product per vector that is added; when the operator changes, one per
vector kept.
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array, Backend

__all__ = ["SolutionSpace"]

WORTH_IT = 0.7  # a guess that leaves more of b than this is not worth the product that it costs


class SolutionSpace:
    """At most ``size`` vectors; the oldest leave first."""

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"prepare(space={size}): the number of solutions to keep must not be negative.")
        self.size = size
        self.pairs: list[tuple[Array, Array]] = []  # (x, A x) of shape (n,), newest first

    def __len__(self) -> int:
        return len(self.pairs)

    def clear(self) -> None:
        """Forget all."""
        self.pairs = []

    def guess(self, be: Backend, B: Array) -> Array | None:
        """The vector of the span with the least residual for each column of B; None where that is no gain."""
        if not self.pairs:
            return None
        xp = be.xp
        X = xp.stack([x for x, _ in self.pairs], axis=-1)
        Y = xp.stack([y for _, y in self.pairs], axis=-1)
        c = be.adjoint(Y) @ B
        left, size = be.norm(B - Y @ c), be.norm(B)
        if not bool(xp.any(left < WORTH_IT * size)):
            return None
        return X @ c

    def add(self, be: Backend, A: Any, X: Array) -> None:
        """Remember the columns of X."""
        if self.size == 0 or 0 in X.shape:
            return
        X = X[:, : self.size]
        self._gather(be, X, A @ X, self.pairs)

    def move(self, be: Backend, A: Any) -> None:
        """The same solutions, seen by another operator."""
        if self.pairs:
            X = be.xp.stack([x for x, _ in self.pairs], axis=-1)
            self._gather(be, X, A @ X, [])

    def _gather(self, be: Backend, X: Array, Y: Array, old: list[tuple[Array, Array]]) -> None:
        """Gram-Schmidt on the images, newest first; what adds nothing new is left out."""
        xp = be.xp
        eps = float(xp.finfo(be.real_dtype(Y.dtype)).eps)
        pairs: list[tuple[Array, Array]] = []
        for x, y in [(X[:, j], Y[:, j]) for j in range(X.shape[1])] + old:
            before = be.number(xp.linalg.vector_norm(y))
            for _ in range(2):
                for known_x, known_y in pairs:
                    c = xp.sum(be.conj(known_y) * y)
                    x, y = x - c * known_x, y - c * known_y
            after = be.number(xp.linalg.vector_norm(y))
            if not after > 10 * eps**0.5 * before or not after < float("inf"):
                continue
            pairs.append((x / after, y / after))
            if len(pairs) == self.size:
                break
        self.pairs = pairs
