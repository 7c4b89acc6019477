"""``KronSum``: A (+) B (+) ... = A (x) I (x) I + I (x) B (x) I + ...: separable operators on grids."""

from __future__ import annotations

import math

from ..backends.base import Array
from ..cost import Cost
from ..errors import NonSquareError, ShapeError
from ..properties import PSD, Property, SelfAdjoint
from ..pytree import operator
from .axes import exchange
from .base import LinearOperator
from .sum import broadcast_batches

__all__ = ["KronSum"]


@operator
class KronSum(LinearOperator):
    """Kronecker sum of square operators; the last factor's index runs fastest."""

    Ms: tuple[LinearOperator, ...]

    def __init__(self, *Ms: LinearOperator, declared: frozenset[Property] = frozenset()) -> None:
        object.__setattr__(self, "Ms", tuple(Ms))
        object.__setattr__(self, "declared", declared)
        self.__post_init__()

    def _check(self) -> None:
        if not self.Ms:
            raise ShapeError("KronSum needs at least one factor.")
        for M in self.Ms:
            if not M.is_square:
                raise NonSquareError(f"KronSum needs square factors; {M!r} has shape {M.shape}.")
        self.backend  # noqa: B018 - raises if the parts mix libraries
        broadcast_batches("KronSum", self.Ms)

    def _shape(self) -> tuple[int, ...]:
        n = math.prod([M.shape[-1] for M in self.Ms])
        return (*broadcast_batches("KronSum", self.Ms), n, n)

    def _kron(self, *Ms: LinearOperator, declared: frozenset[Property] = frozenset()) -> LinearOperator:
        """The product of other factors, laid out as this sum; see ``Kronecker``."""
        from .kronecker import Kronecker

        return Kronecker(*Ms, declared=declared)

    def _kronsum(self, *Ms: LinearOperator, declared: frozenset[Property] = frozenset()) -> KronSum:
        """The sum of other factors, laid out as this one."""
        return KronSum(*Ms, declared=declared)

    def _apply_terms(self, X: Array, adjoint: bool) -> Array:
        xp = self.xp if self.backend is not None else None
        if xp is None:
            from ..backends import backend_of_type

            xp = backend_of_type(type(X)).xp  # type: ignore[union-attr]
        k, N, batch = X.shape[-1], X.shape[-2], X.shape[:-2]
        if N == 0:
            return X
        out, left = None, 1
        for M in self.Ms:
            n = M.shape[-1]
            right = N // (left * n) * k
            if M.batch_shape or left > 1:
                # bring axis i to the front of the matrix axes: (left, n, right) -> (n, left * right)
                Y = xp.reshape(X, (*batch, left, n, right))
                Y = xp.reshape(exchange(xp, Y), (*batch, n, left * right))
                Y = M._rmatmat(Y) if adjoint else M._matmat(Y)
                Y = exchange(xp, xp.reshape(Y, (*Y.shape[:-1], left, right)))
            else:
                Y = xp.reshape(X, (*batch, n, right))
                Y = M._rmatmat(Y) if adjoint else M._matmat(Y)
            lead = Y.shape[: -3 if (M.batch_shape or left > 1) else -2]
            Y = xp.reshape(Y, (*lead, N, k))
            out = Y if out is None else out + Y
            left *= n
        return out

    def _matmat(self, X: Array) -> Array:
        return self._apply_terms(X, adjoint=False)

    def _rmatmat(self, X: Array) -> Array:
        return self._apply_terms(X, adjoint=True)

    def _adjoint(self) -> LinearOperator:
        return self._kronsum(*(M.H for M in self.Ms))

    def _transpose(self) -> LinearOperator:
        return self._kronsum(*(M.T for M in self.Ms))

    def _conj(self) -> LinearOperator:
        return self._kronsum(*(M.conj() for M in self.Ms))

    def _part(self, imaginary: bool) -> LinearOperator:
        return self._kronsum(*((M.imag if imaginary else M.real) for M in self.Ms))

    def _properties(self) -> frozenset[Property]:
        return frozenset(p for p in (PSD, SelfAdjoint) if all(M.isa(p) for M in self.Ms))

    def _declared_down(self, prop: Property) -> LinearOperator:
        # a real sum is symmetric only if all factors are; complex ones may differ by multiples of i I,
        # and a positive semi-definite sum may have one indefinite factor
        if prop not in (SelfAdjoint, PSD) or self._is_complex():
            return self
        return self.replace(Ms=tuple(SelfAdjoint(M) for M in self.Ms))  # type: ignore[no-any-return]

    def _sent(self, columns: float) -> float:
        N = self.shape[-1]
        return sum(M._sent(columns * (N // max(M.shape[-1], 1))) for M in self.Ms)

    def _matvec_cost(self) -> Cost:
        return self._columns_cost(1)

    def matmat_cost(self, k: float) -> Cost:
        """Every term along its axis, and their sum."""
        return self._placed(self._columns_cost(k), k)

    def _columns_cost(self, k: float) -> Cost:
        N = self.shape[-1] * k
        total = Cost(calls=0)
        for M in self.Ms:
            total = total + M.matmat_cost(N // max(M.shape[-1], 1)) + Cost(N, 3 * self.itemsize * N)
        return Cost(total.flops, total.bytes, 3 * self.itemsize * N, k, 4 * len(self.Ms))
