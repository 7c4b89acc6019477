"""``LowRank``: ``U V^H`` kept as its two factors."""

from __future__ import annotations

from ..backends.base import Array
from ..backends.pieces import pieces
from ..cost import Cost
from ..errors import ShapeError
from ..properties import PSD, Property
from ..pytree import operator
from .base import LinearOperator
from .communication import all_reduce
from .dense import as_matrix_entries

__all__ = ["LowRank"]


@operator
class LowRank(LinearOperator):
    """``U @ V^H`` for U (*batch, m, k) and V (*batch, n, k); without V it is ``U @ U^H``, which is PSD.

    Product: ``2 (m + n) k`` flops.
    """

    U: Array
    V: Array | None = None

    def _check(self) -> None:
        object.__setattr__(self, "U", as_matrix_entries(self.U, "LowRank U"))
        if self.V is not None:
            object.__setattr__(self, "V", as_matrix_entries(self.V, "LowRank V"))
            if self.U.shape[-1] != self.V.shape[-1]:
                raise ShapeError(
                    f"LowRank factors need one number of columns: U {tuple(self.U.shape)}, V "
                    f"{tuple(self.V.shape)}."
                )

    @property
    def rank(self) -> int:
        """Number of columns of the factors (an upper bound on the rank)."""
        return int(self.U.shape[-1])

    @property
    def right(self) -> Array:
        """V, which is U for the one-factor form."""
        return self.U if self.V is None else self.V

    def _shape(self) -> tuple[int, ...]:
        be = self._concrete_backend()
        U, V = self.U, self.right
        batch = U.shape[:-2]
        if V.shape[:-2] != batch:
            batch = tuple(be.xp.broadcast_arrays(U[..., 0, 0], V[..., 0, 0])[0].shape)
        return (*batch, U.shape[-2], V.shape[-2])

    def _matmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        return be.matmul(self.U, be.matmul(be.adjoint(self.right), X))

    def _rmatmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        return be.matmul(self.right, be.matmul(be.adjoint(self.U), X))

    def _adjoint(self) -> LinearOperator:
        return LowRank(self.right, self.U)

    def _conj(self) -> LinearOperator:
        be = self._concrete_backend()
        return LowRank(be.conj(self.U), None if self.V is None else be.conj(self.V))

    def _transpose(self) -> LinearOperator:
        be = self._concrete_backend()
        return LowRank(be.conj(self.right), be.conj(self.U))

    def _properties(self) -> frozenset[Property]:
        return frozenset({PSD}) if self.V is None else frozenset()

    def _to_dense(self) -> Array:
        be = self._concrete_backend()
        return be.matmul(self.U, be.adjoint(self.right))

    def _matvec_cost(self) -> Cost:
        m, n = self.shape[-2:]
        k = self.rank
        return Cost(2.0 * (m + n) * k, self.itemsize * ((m + n) * k + m + n), self.itemsize * (m + n), 2)

    def _sent(self, columns: float) -> float:
        # V^H x is a sum over what the devices hold, as short as the rank
        return self.itemsize * all_reduce(self.rank * columns, pieces(self.right)[-2])

    def _dense_cost(self) -> Cost:
        m, n = self.shape[-2:]
        made = self.matmat_cost(n)
        return Cost(2.0 * m * n * self.rank, made.bytes, self.itemsize * m * n, 0, 2)

    def _short(self) -> str:
        m, n = self.shape[-2:]
        return f"{type(self).__name__}[{m}x{n}, rank {self.rank}]"
