"""Dense singular value decomposition (LAPACK gesdd) of an operator of any shape.
Golub & Van Loan, 4th ed., sec. 8.6."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..errors import SingularMatrixError
from ..properties import Stiefel, Unitary
from ..pytree import tree_leaves
from .base import Algorithm
from .cholesky import check_finite
from .dense_cost import batch_size, dense_memory, with_entries
from .factor import dense_entries, warn_if_singular
from .spectrum import singular_order

__all__ = ["SVD"]


@dataclass(frozen=True)
class SVD(Algorithm):
    """``A = U diag(s) V^H``, s descending and non-negative: about ``14 m n min(m, n)`` flops with vectors,
    a quarter of that without. Derivatives leave out pairs of equal singular values: exact for what does not
    see the basis of their vectors, refused for what does.
    """

    gathers: ClassVar[str] = "entries"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        m, n = A.shape[-2:]
        b, k = batch_size(A), min(m, n)
        work = 8.0 if question in ("svdvals", "norm") else 24.0
        return with_entries(
            A,
            Cost(
                0.0,
                b * A.itemsize * m * n * 6,
                4 * dense_memory(A),
                0,
                8,
                eigen=b * work * m * n * k,
                steps=b * 16.0 * k,
            ),
        )

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if question == "norm" and operands and operands[0] not in (2, "nuc"):
            return f"the norm of order {operands[0]!r} needs no singular values"
        return True

    def solve(self, A: Any, b: Array) -> Array:
        """``x = V (U^H b / s)``; the condition number is known exactly."""
        be = A._concrete_backend()
        check_finite(A, b)
        if be.name != "abstract" and be.differentiating(b, *tree_leaves(A)):
            # the solution's own derivative: that of singular vectors does not exist where values are equal
            return be.implicit_solve(A, lambda M, rhs: (self._solve(M, rhs), None), b)[0]
        return self._solve(A, b)

    def _solve(self, A: Any, b: Array) -> Array:
        be = A._concrete_backend()
        U, s, V = be.svd(be.constant(dense_entries(A)))
        if be.is_concrete(s) and 0 not in s.shape:
            top = s[..., :1]
            if bool(be.xp.any(s == 0)):
                raise SingularMatrixError(
                    f"{A!r} is singular: a singular value is exactly zero. Regularise it (A + s*I), or use "
                    "lstsq."
                )
            warn_if_singular(be.number(be.xp.min(s / be.xp.where(top > 0, top, 1 + top))), A, "SVD")
        inner = be.matmul(be.adjoint(U), be.astype(b, be.xp.result_type(b.dtype, U.dtype)))
        return be.matmul(V, inner / s[..., :, None])

    def svd(self, A: Any) -> tuple[Any, Array, Any]:
        from ..operators import Dense

        be = A._concrete_backend()
        U, s, V = be.svd(dense_entries(A))
        m, n = A.shape[-2:]
        s = be.astype(s, be.real_dtype(A.dtype))
        left = frozenset({Unitary if m <= n else Stiefel})
        right = frozenset({Unitary if n <= m else Stiefel})
        return Dense(be.astype(U, A.dtype), declared=left), s, Dense(be.astype(V, A.dtype), declared=right)

    def svds(self, A: Any, k: int, which: str) -> tuple[Any, Array, Any]:
        from ..operators import Dense

        be = A._concrete_backend()
        U, s, V = be.svd(dense_entries(A))
        s = be.astype(s, be.real_dtype(A.dtype))
        at = singular_order(s.shape[-1], k, which)
        some = frozenset({Stiefel})
        U, V = be.astype(U[..., :, at], A.dtype), be.astype(V[..., :, at], A.dtype)
        return Dense(U, declared=some), s[..., at], Dense(V, declared=some)

    def svdvals(self, A: Any) -> Array:
        be = A._concrete_backend()
        return be.astype(be.svdvals(dense_entries(A)), be.real_dtype(A.dtype))

    def right_singular(self, A: Any) -> tuple[Array, Any]:
        from ..operators import Dense

        be = A._concrete_backend()
        m, n = A.shape[-2:]
        _, s, V = be.svd(dense_entries(A), full=m < n)
        s = be.astype(s, be.real_dtype(A.dtype))
        if m < n:
            s = be.xp.concat([s, be.zeros((*s.shape[:-1], n - m), s.dtype, be.device(s))], axis=-1)
        return s, Dense(be.astype(V, A.dtype), declared=frozenset({Unitary}))

    def norm(self, A: Any, ord: Any) -> Array:
        from ..errors import UnknownNameError

        if ord not in (2, "nuc"):
            raise UnknownNameError(f"SVD answers norms of order 2 and 'nuc', not {ord!r}; use Exact().")
        be = A._concrete_backend()
        s = self.svdvals(A)
        if not s.shape[-1]:
            return be.zeros(A.batch_shape, s.dtype, A.device)
        return s[..., 0] if ord == 2 else be.xp.sum(s, axis=-1)
