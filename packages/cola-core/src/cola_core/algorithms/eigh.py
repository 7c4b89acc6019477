"""Dense eigendecompositions: ``Eigh`` for self-adjoint operators,
``Eig`` for general ones (LAPACK syevd, geev)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..errors import PropertyError
from ..properties import PSD, SelfAdjoint, Unitary
from .base import Algorithm
from .dense_cost import batch_size, dense_memory
from .dense_function import answer, real_if
from .eigenbasis import through_eigenvectors
from .factor import dense_entries
from .spectrum import order_by

__all__ = ["Eig", "Eigh"]


@dataclass(frozen=True)
class Eigh(Algorithm):
    """``A = V diag(w) V^H`` of a self-adjoint operator, w ascending: about ``9 n^3`` flops.
    Reads the lower triangle."""

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return True if A.isa(SelfAdjoint) else "the operator is not declared SelfAdjoint or PSD"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, b = A.shape[-1], batch_size(A)
        return Cost(b * 9.0 * n**3 * 2, b * A.itemsize * n * n * 12, 4 * dense_memory(A), 0, 6)

    def decompose(self, A: Any) -> tuple[Array, Array]:
        """Eigenvalues (ascending) and the matrix of eigenvectors, as arrays."""
        be = A._concrete_backend()
        M = dense_entries(A)
        w, V = be.eigh(M)
        return be.astype(w, be.real_dtype(A.dtype)), be.astype(V, A.dtype)

    def eigh(self, A: Any) -> tuple[Array, Any]:
        from ..operators import Dense

        w, V = self.decompose(A)
        return w, Dense(V, declared=frozenset({Unitary}))

    def eigsh(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        from ..operators import Dense
        from ..properties import Stiefel

        w, V = self.decompose(A)
        be = A._concrete_backend()
        index = order_by(be, w, k, which)
        xp = be.xp
        columns = xp.broadcast_to(index[..., None, :], (*V.shape[:-1], k))
        some = Dense(xp.take_along_axis(V, columns, axis=-1), declared=frozenset({Stiefel}))
        return xp.take_along_axis(w, index, axis=-1), some

    def eig(self, A: Any) -> tuple[Array, Any]:
        require_self_adjoint(A, "Eigh")
        return self.eigh(A)

    def root(self, A: Any) -> Any:
        """``V sqrt(w)``, for semidefinite operators too."""
        from ..linalg.sampling import roots_of_eigenvalues
        from ..operators import Dense

        w, V = self.decompose(A)
        return Dense(V * roots_of_eigenvalues(A, w)[..., None, :])

    def eigs(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        require_self_adjoint(A, "Eigh")
        return self.eigsh(A, k, which)

    def eigvals(self, A: Any) -> Array:
        """Eigenvalues only, ascending: a third of the work."""
        require_self_adjoint(A, "Eigh")
        be = A._concrete_backend()
        return be.astype(be.eigvalsh(dense_entries(A)), be.real_dtype(A.dtype))

    def apply_unary(self, A: Any, f: Any) -> Any:
        from ..operators import Dense, Diagonal, Product

        be = A._concrete_backend()
        w, V = self.decompose(A)
        if A.isa(PSD) and f.needs_positive:
            # rounding leaves eigenvalues of a PSD matrix slightly below zero;
            # sqrt must not turn that into NaN
            w = be.xp.maximum(w, be.xp.zeros_like(w))
        values = f.on(be, w)
        Vop = Dense(V, declared=frozenset({Unitary}))
        return Product(Vop, Diagonal(values), Vop.H, declared=f.properties(A, values))


@dataclass(frozen=True)
class Eig(Algorithm):
    """``A V = V diag(w)`` of a general operator: about ``25 n^3`` flops;
    eigenvalues are complex, in LAPACK's order."""

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, b = A.shape[-1], batch_size(A)
        return Cost(b * 25.0 * n**3 * 2, b * A.itemsize * n * n * 20, 6 * dense_memory(A), 0, 8)

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if question == "apply_unary" and operands[0].kind:
            return f"{operands[0].name} has a method that needs no eigenbasis, which may be ill-conditioned"
        return True

    def eig(self, A: Any) -> tuple[Array, Any]:
        from ..operators import Dense

        be = A._concrete_backend()
        w, V = be.eig(dense_entries(A))
        return w, Dense(V)

    def eigs(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        from ..operators import Dense

        w, V = self.eig(A)
        be = A._concrete_backend()
        xp = be.xp
        index = order_by(be, w, k, which)
        taken = xp.broadcast_to(index[..., None, :], (*V.shape[:-1], k))
        return xp.take_along_axis(w, index, axis=-1), Dense(xp.take_along_axis(V.array, taken, axis=-1))

    def eigvals(self, A: Any) -> Array:
        """Eigenvalues only: less than half the work."""
        return A._concrete_backend().eigvals(dense_entries(A))

    def apply_unary(self, A: Any, f: Any) -> Any:
        be = A._concrete_backend()
        M = dense_entries(A)
        out = through_eigenvectors(be, A, f.name, M, lambda w: f.on(be, w))
        # real or complex is a static fact: f of a real matrix is real if f is real on the reals
        slack = 1e3 * float(be.xp.finfo(be.real_dtype(M.dtype)).eps) ** 0.5
        return answer(A, f, real_if(be, A, f, out, f.real and not be.is_complex(M), slack))


def require_self_adjoint(A: Any, question: str) -> None:
    """Refuse instead of reading one triangle of a matrix nobody called self-adjoint."""
    if not A.isa(SelfAdjoint):
        raise PropertyError(
            f"{question}({A!r}): the operator is not known to be self-adjoint. Declare it with "
            "cola_core.SelfAdjoint(A) (or PSD(A)), or use eig for general matrices."
        )
