"""``Projection``: onto the columns of a matrix, orthogonal or oblique, and what it leaves."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..errors import PropertyError, ShapeError
from ..properties import PSD, Property, Stiefel
from ..pytree import operator, static
from .base import LinearOperator
from .dense import Dense
from .diagonal import Identity
from .sum import broadcast_batches
from .zero import Zero

__all__ = ["Projection"]


@operator
class Projection(LinearOperator):
    """``Q Q^H`` for Q (*batch, n, k) with orthonormal columns, or ``I - Q Q^H`` with ``complement=True``.

    Q must be declared: ``Projection(cola_core.Stiefel(Q))``; ``check_properties(P.Q)`` tests the claim.
    ``Projection.onto(A)`` orthonormalises the columns of any A of full column rank. With W (n, k), for which
    ``W^H Q = I`` is taken on trust, it is the oblique projection ``Q W^H`` onto the columns of Q along the
    orthogonal complement of W; ``Projection.oblique(U, V)`` makes W from ``U (V^H U)^{-1} V^H``.

    ``P @ P`` is P, ``I - P`` the complement, and ``f(P) = f(0) I + (f(1) - f(0)) P``. Product: ``4 n k``
    flops.

    >>> import numpy as np, cola_core as cola
    >>> P = cola.ops.Projection.onto(np.array([[1.0], [1.0]]))
    >>> [round(float(x), 6) for x in P @ np.array([2.0, 0.0])], P @ P is P
    ([1.0, 1.0], True)
    """

    Q: LinearOperator
    W: LinearOperator | None = None
    complement: bool = static(default=False)

    def __init__(
        self,
        Q: Any,
        W: Any = None,
        complement: bool = False,
        *,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        from .algebra import as_operator

        Q = as_operator(Q)
        W = None if W is None else as_operator(W)
        if W is None and not Q.isa(Stiefel):
            raise PropertyError(
                f"Projection({Q!r}): the columns are not known to be orthonormal. Declare them, "
                "Projection(cola_core.Stiefel(Q)), or orthonormalise them with Projection.onto(Q)."
            )
        if W is not None and W.shape[-2:] != Q.shape[-2:]:
            raise ShapeError(
                f"Projection: {Q!r} of shape {Q.shape} and {W!r} of shape {W.shape} need one shape."
            )
        object.__setattr__(self, "Q", Q)
        object.__setattr__(self, "W", W)
        object.__setattr__(self, "complement", bool(complement))
        object.__setattr__(self, "declared", declared)
        self.__post_init__()

    def _check(self) -> None:
        self.backend  # noqa: B018 - raises if the parts mix libraries
        if self.W is not None:
            broadcast_batches("Projection", (self.Q, self.W))

    @classmethod
    def onto(cls, A: Any, complement: bool = False) -> Projection:
        """The orthogonal projection onto the columns of A (n, k), k <= n, which must be independent."""
        from .algebra import as_operator

        A = as_operator(A)
        m, k = A.shape[-2:]
        if k > m:
            raise ShapeError(f"Projection.onto({A!r}): {k} columns of length {m} are not independent.")
        Q, _ = A.xp.linalg.qr(A.to_dense())
        return cls(Dense(Q, declared=frozenset({Stiefel})), complement=complement)

    @classmethod
    def oblique(cls, U: Any, V: Any, complement: bool = False) -> Projection:
        """``U (V^H U)^{-1} V^H``: onto the columns of U (n, k) along what is orthogonal to V (n, k).

        Raises SingularMatrixError where ``V^H U`` is singular.
        """
        from .algebra import as_operator

        U, V = as_operator(U), as_operator(V)
        if U.shape[-2:] != V.shape[-2:]:
            raise ShapeError(
                f"Projection.oblique: {U!r} of shape {U.shape} and {V!r} of shape {V.shape} need one shape."
            )
        be = U._concrete_backend()
        left, right = U.to_dense(), V.to_dense()
        small = be.matmul(be.adjoint(left), right)  # U^H V, so that W = V (U^H V)^{-1} has W^H U = I
        W = be.adjoint(be.lu_solve(be.lu_factor(be.adjoint(small)), be.adjoint(right)))
        return cls(U, Dense(W), complement)

    @property
    def rank(self) -> int:
        """Number of eigenvalues one."""
        n, k = self.Q.shape[-2:]
        return int(n - k if self.complement else k)

    @property
    def left(self) -> LinearOperator:
        """W, which is Q for an orthogonal projection."""
        return self.Q if self.W is None else self.W

    def _shape(self) -> tuple[int, ...]:
        n = self.Q.shape[-2]
        return (*broadcast_batches("Projection", (self.Q, self.left)), n, n)

    def _matmat(self, X: Array) -> Array:
        Y = self.Q._matmat(self.left._rmatmat(X))
        return X - Y if self.complement else Y

    def _rmatmat(self, X: Array) -> Array:
        Y = self.left._matmat(self.Q._rmatmat(X))
        return X - Y if self.complement else Y

    def _to_dense(self) -> Array:
        be = self._concrete_backend()
        out = be.matmul(self.Q._dense_like(self), be.adjoint(self.left._dense_like(self)))
        if self.complement:
            out = be.eye(self.shape[-1], self.dtype, self.device) - out
        return be.xp.broadcast_to(out, self.shape) if tuple(out.shape) != self.shape else out

    def _adjoint(self) -> LinearOperator:
        return self if self.W is None else Projection(self.W, self.Q, self.complement)

    def _conj(self) -> LinearOperator:
        W = None if self.W is None else self.W.conj()
        Q = self.Q.conj()
        if W is None and not Q.isa(Stiefel):
            Q = Stiefel(Q)
        return Projection(Q, W, self.complement)

    def _transpose(self) -> LinearOperator:
        return self._conj()._adjoint()

    def _properties(self) -> frozenset[Property]:
        return frozenset({PSD}) if self.W is None else frozenset()

    def other(self) -> Projection:
        """``I - P``."""
        return self.replace(complement=not self.complement, declared=frozenset())

    def _same_space(self, other: LinearOperator) -> bool:
        return isinstance(other, Projection) and other.Q is self.Q and other.W is self.W

    def _compose(self, other: LinearOperator) -> Any:
        if self._same_space(other):
            return self if other.complement == self.complement else Zero.like(self)  # type: ignore[attr-defined]
        if other is self.Q and not self.complement:
            return other
        return NotImplemented

    def _rminus(self, other: LinearOperator) -> Any:
        return self.other() if isinstance(other, Identity) else NotImplemented

    def _plus(self, other: LinearOperator) -> Any:
        if self._same_space(other) and other.complement != self.complement:  # type: ignore[attr-defined]
            return Identity.like(self)
        return NotImplemented

    def _matvec_cost(self) -> Cost:
        n = self.shape[-1]
        total = self.Q.matvec_cost + self.left.matvec_cost
        return total + Cost(n, 2 * self.itemsize * n, 0, 0, 1) if self.complement else total
