"""``Kronecker``: A (x) B (x) ..., applied axis by axis, never formed."""

from __future__ import annotations

import math
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..errors import ShapeError
from ..properties import PSD, Property, SelfAdjoint, Stiefel, Unitary
from ..pytree import operator
from .base import LinearOperator
from .sum import broadcast_batches

__all__ = ["Kronecker", "apply_along_axes"]

SHARED = frozenset(
    {PSD, SelfAdjoint, Unitary, Stiefel}
)  # what holds of a product if it holds of every factor


def apply_along_axes(Ms: tuple[LinearOperator, ...], X: Array, adjoint: bool = False) -> Array:
    """``(M1 (x) ... (x) Mp) @ X`` (or its adjoint) for X (*batch, N, k).

    One matrix product per factor: the operand is viewed as (n_i, everything else), multiplied, and rotated so
    that the next axis comes first; a factor that is the identity costs only the rotation. Cost:
    ``2 N sum(n_i) k`` flops.
    """
    be: Any = Ms[0].backend
    for M in Ms:
        if M.backend is not None:
            be = M.backend
    if be is None:
        from ..backends import backend_of_type

        be = backend_of_type(type(X))
    k = X.shape[-1]
    rows = [M.shape[-1] if adjoint else M.shape[-2] for M in Ms]
    batched = any(M.batch_shape for M in Ms)
    if not batched and X.ndim == 2:
        for M in Ms:
            n = M.shape[-2] if adjoint else M.shape[-1]
            X = be.reshape(X, (n, -1)) if n else be.reshape(X, (n, math.prod(X.shape)))
            X = M._rmatmat(X) if adjoint else M._matmat(X)
            X = X.T
        X = be.reshape(X, (k, math.prod(rows)))
        return X.T
    # batches: rotate within the last two axes only
    for M in Ms:
        n = M.shape[-2] if adjoint else M.shape[-1]
        rest = (X.shape[-1] * X.shape[-2] // n) if n else 0
        X = be.reshape(X, (*X.shape[:-2], n, rest))
        X = M._rmatmat(X) if adjoint else M._matmat(X)
        X = X.mT if hasattr(X, "mT") else X.swapaxes(-1, -2)
    X = be.reshape(X, (*X.shape[:-2], k, math.prod(rows)))
    return X.mT if hasattr(X, "mT") else X.swapaxes(-1, -2)


@operator
class Kronecker(LinearOperator):
    """``M1 (x) M2 (x) ...``; index of the last factor runs fastest, as in ``numpy.kron``."""

    Ms: tuple[LinearOperator, ...]

    def __init__(self, *Ms: LinearOperator, declared: frozenset[Property] = frozenset()) -> None:
        object.__setattr__(self, "Ms", tuple(Ms))
        object.__setattr__(self, "declared", declared)
        self.__post_init__()

    def _check(self) -> None:
        if not self.Ms:
            raise ShapeError("Kronecker needs at least one factor.")
        self.backend  # noqa: B018 - raises if the parts mix libraries
        self.shape  # noqa: B018 - raises if their batches do not broadcast

    def _shape(self) -> tuple[int, ...]:
        return (
            *broadcast_batches("Kronecker", self.Ms),
            math.prod([M.shape[-2] for M in self.Ms]),
            math.prod([M.shape[-1] for M in self.Ms]),
        )

    def _kron(self, *Ms: LinearOperator, declared: frozenset[Property] = frozenset()) -> Kronecker:
        """The product of other factors (inverses, eigenvectors, functions of these), laid out as this one: a
        subclass that spreads its vectors over devices gives its own kind."""
        return Kronecker(*Ms, declared=declared)

    def _kronsum(self, *Ms: LinearOperator, declared: frozenset[Property] = frozenset()) -> LinearOperator:
        """The sum of other factors, laid out as this product; see ``_kron``."""
        from .kronsum import KronSum

        return KronSum(*Ms, declared=declared)

    def _matmat(self, X: Array) -> Array:
        return apply_along_axes(self.Ms, X)

    def _rmatmat(self, X: Array) -> Array:
        return apply_along_axes(self.Ms, X, adjoint=True)

    def _adjoint(self) -> LinearOperator:
        return self._kron(*(M.H for M in self.Ms))

    def _transpose(self) -> LinearOperator:
        return self._kron(*(M.T for M in self.Ms))

    def _conj(self) -> LinearOperator:
        return self._kron(*(M.conj() for M in self.Ms))

    def _to_dense(self) -> Array:
        xp = self.xp
        out = self.Ms[0]._dense_like(self)
        for M in self.Ms[1:]:
            B = M._dense_like(self)
            (p, q), (r, s) = out.shape[-2:], B.shape[-2:]
            out = out[..., :, None, :, None] * B[..., None, :, None, :]
            out = xp.reshape(out, (*out.shape[:-4], p * r, q * s))
        out = out if out.dtype == self.dtype else self._concrete_backend().astype(out, self.dtype)
        return xp.broadcast_to(out, self.shape) if tuple(out.shape) != self.shape else out

    def _properties(self) -> frozenset[Property]:
        return SHARED.intersection(*(M.properties for M in self.Ms))

    def _compose(self, other: LinearOperator) -> object:
        """Mixed product: (A (x) B)(C (x) D) = AC (x) BD when the factors fit one by one."""
        if not isinstance(other, Kronecker) or len(self.Ms) != len(other.Ms):
            return NotImplemented
        if any(a.shape[-1] != b.shape[-2] for a, b in zip(self.Ms, other.Ms, strict=True)):
            return NotImplemented
        from .algebra import matmul

        keep = {PSD} if self._adjoint_pair(other) else set()
        return self._kron(
            *(matmul(a, b) for a, b in zip(self.Ms, other.Ms, strict=True)), declared=frozenset(keep)
        )

    def _sent(self, columns: float) -> float:
        total, left = 0.0, 1
        right = math.prod([M.shape[-1] for M in self.Ms])
        for M in self.Ms:
            right //= max(M.shape[-1], 1)
            total += M._sent(left * right * columns)
            left *= M.shape[-2]
        return total

    def _matvec_cost(self) -> Cost:
        return self._columns_cost(1)

    def matmat_cost(self, k: float) -> Cost:
        """One factor after the other, along its axis."""
        return self._placed(self._columns_cost(k), k)

    def _columns_cost(self, k: float) -> Cost:
        total, left = Cost(calls=0), 1
        right = math.prod([M.shape[-1] for M in self.Ms])
        for M in self.Ms:
            m, n = M.shape[-2:]
            right //= max(n, 1)
            rest = left * right * k
            total = total + M.matmat_cost(rest) + Cost(0, 2 * self.itemsize * m * rest, 0, 0, 2)
            left *= m
        size = self.itemsize * 2 * max(self.shape[-2:])
        return Cost(total.flops, total.bytes, size * k, k, 3 * len(self.Ms))
