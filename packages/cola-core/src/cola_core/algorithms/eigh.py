"""Dense eigendecompositions: ``Eigh`` for self-adjoint operators,
``Eig`` for general ones (LAPACK syevd, geev)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..errors import PropertyError, SingularMatrixError
from ..properties import PSD, SelfAdjoint, Unitary
from ..pytree import tree_leaves
from .base import Algorithm
from .dense_cost import batch_size, dense_memory, with_entries
from .dense_function import answer, not_real, real_if
from .eigenbasis import through_eigenvectors
from .factor import dense_entries
from .spectral_form import spectral_form
from .spectrum import nonnegative, order_by

__all__ = ["Eig", "Eigh"]


@dataclass(frozen=True)
class Eigh(Algorithm):
    """``A = V diag(w) V^H`` of a self-adjoint operator, w ascending: about ``9 n^3`` flops.
    Reads the lower triangle."""

    gathers: ClassVar[str] = "entries"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return True if A.isa(SelfAdjoint) else "the operator is not declared SelfAdjoint or PSD"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, b = A.shape[-1], batch_size(A)
        work = 4.0 if question == "eigvals" else 9.0
        return with_entries(
            A,
            Cost(
                0.0,
                b * A.itemsize * n * n * 6,
                4 * dense_memory(A),
                0,
                8,
                eigen=b * work * n**3,
                steps=b * 12.0 * n,
            ),
        )

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
        """``V sqrt(w) V^H``, for semidefinite operators too: the root that does not depend on the choice of
        eigenvectors, and is differentiable where eigenvalues repeat."""
        from ..linalg.sampling import roots_of_eigenvalues
        from ..linalg.scalar_function import SQRT
        from ..operators import Dense

        be = A._concrete_backend()
        if be.name != "abstract" and be.differentiating(*tree_leaves(A)):
            return self.apply_unary(A, SQRT)
        w, V = self.decompose(A)
        return Dense((V * roots_of_eigenvalues(A, w)[..., None, :]) @ be.adjoint(V))

    def eigs(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        require_self_adjoint(A, "Eigh")
        return self.eigsh(A, k, which)

    def eigvals(self, A: Any) -> Array:
        """Eigenvalues only, ascending: a third of the work."""
        require_self_adjoint(A, "Eigh")
        be = A._concrete_backend()
        return be.astype(be.eigvalsh(dense_entries(A)), be.real_dtype(A.dtype))

    def geigh(self, A: Any, B: Any) -> tuple[Array, Any]:
        """``A v = w B v`` by the Cholesky factor of B: Golub & Van Loan, 4th ed., alg. 8.7.1."""
        from ..operators import Dense

        require_self_adjoint(A, "Eigh")
        be = A._concrete_backend() if A.backend is not None else B._concrete_backend()
        M, L = dense_entries(A), be.cholesky(dense_entries(B))
        dtype = be.xp.result_type(M.dtype, L.dtype)
        M, L = be.astype(M, dtype), be.astype(L, dtype)
        C = be.solve_triangular(L, be.adjoint(be.solve_triangular(L, M)))
        w, V = be.eigh((C + be.adjoint(C)) / 2)
        return w, Dense(be.solve_triangular(be.adjoint(L), V, lower=False))

    def geigsh(self, A: Any, B: Any, k: int, which: str) -> tuple[Array, Any]:
        w, V = self.geigh(A, B)
        return _taken(w, V, k, which)

    def apply_unary(self, A: Any, f: Any) -> Any:
        from ..operators import Dense, Diagonal, Product

        be = A._concrete_backend()
        differentiated = be.name != "abstract" and be.differentiating(*tree_leaves(A))
        M = dense_entries(A)
        w, V = be.eigh(be.constant(M) if differentiated else M)
        w, V = be.astype(w, be.real_dtype(A.dtype)), be.astype(V, A.dtype)
        if A.isa(PSD) and f.needs_positive:
            # rounding leaves eigenvalues of a PSD matrix slightly below zero;
            # sqrt must not turn that into NaN
            w = nonnegative(A, w)
        if differentiated:
            F = spectral_form(be, f, M, w, V, be.adjoint(V))
            return Dense(F, declared=f.properties(A, F))
        values = f.on(be, w)
        Vop = Dense(V, declared=frozenset({Unitary}))
        return Product(Vop, Diagonal(values), Vop.H, declared=f.properties(A, values))


@dataclass(frozen=True)
class Eig(Algorithm):
    """``A V = V diag(w)`` of a general operator: about ``25 n^3`` flops;
    eigenvalues are complex, in LAPACK's order."""

    gathers: ClassVar[str] = "entries"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, b = A.shape[-1], batch_size(A)
        # QR steps on a Hessenberg matrix run at half the speed of those on a tridiagonal one
        work = 20.0 if question == "eigvals" else 50.0
        return with_entries(
            A,
            Cost(
                0.0,
                b * A.itemsize * n * n * 10,
                6 * dense_memory(A),
                0,
                8,
                eigen=b * work * n**3,
                steps=b * 80.0 * n,
            ),
        )

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
        w, V = self.eig(A)
        return _taken(w, V, k, which)

    def geig(self, A: Any, B: Any) -> tuple[Array, Any]:
        """``A v = w B v`` for any B: by QZ (SciPy, on the host), infinite eigenvalues where B is singular;
        where derivatives or compiled code are wanted, of ``B^-1 A``."""
        from ..operators import Dense

        be = A._concrete_backend() if A.backend is not None else B._concrete_backend()
        M, N = dense_entries(A), dense_entries(B)
        wanted = any(getattr(x, "requires_grad", False) for x in (M, N))
        if wanted or be.name == "abstract" or not be.is_concrete(M, N):
            w, V = be.eig(be.lu_solve(be.lu_factor(N), M))
            return w, Dense(V)
        w, V = _qz(be.to_numpy(M), be.to_numpy(N))
        return be.asarray(w, device=A.device), Dense(be.asarray(V, device=A.device))

    def geigs(self, A: Any, B: Any, k: int, which: str) -> tuple[Array, Any]:
        w, V = self.geig(A, B)
        return _taken(w, V, k, which)

    def eigvals(self, A: Any) -> Array:
        """Eigenvalues only: less than half the work."""
        return A._concrete_backend().eigvals(dense_entries(A))

    def apply_unary(self, A: Any, f: Any) -> Any:
        be = A._concrete_backend()
        M = dense_entries(A)
        real = f.real and not be.is_complex(M)

        def values(w: Array) -> Array:
            found = f.on(be, w)
            if real and be.is_concrete(found) and be.is_complex(found) and 0 not in found.shape:
                # eigenvalues of a real matrix that are no pairs are real exactly, and so f of them has to be
                alone = be.xp.where(be.xp.imag(w) == 0, be.xp.abs(be.xp.imag(found)), 0)
                limit = 100 * float(be.xp.finfo(alone.dtype).eps) * be.xp.abs(found)
                if bool(be.xp.any(alone > limit)):
                    raise not_real(A, f)
            return found

        out = through_eigenvectors(be, A, f, M, values)
        # real or complex is a static fact: f of a real matrix is real if f is real on the reals
        slack = 1e3 * float(be.xp.finfo(be.real_dtype(M.dtype)).eps) ** 0.5
        return answer(A, f, real_if(be, A, f, out, real, slack))


def _taken(w: Array, V: Any, k: int, which: str) -> tuple[Array, Any]:
    """The wanted ones of all pairs."""
    from ..backends import backend_of
    from ..operators import Dense

    be: Any = backend_of(w)
    xp = be.xp
    index = order_by(be, w, k, which)
    columns = xp.broadcast_to(index[..., None, :], (*V.shape[:-1], k))
    return xp.take_along_axis(w, index, axis=-1), Dense(xp.take_along_axis(V.array, columns, axis=-1))


def _qz(M: Any, N: Any) -> tuple[Any, Any]:
    """Generalised eigenpairs of NumPy arrays, matrix by matrix."""
    import numpy as np
    from scipy.linalg import eig

    batch, n = np.broadcast_shapes(M.shape[:-2], N.shape[:-2]), M.shape[-1]
    dtype = np.result_type(M, N, np.complex64)
    w, V = np.empty((*batch, n), dtype), np.empty((*batch, n, n), dtype)
    M, N = np.broadcast_to(M, V.shape), np.broadcast_to(N, V.shape)
    for i in np.ndindex(*batch) if n else ():
        (alpha, beta), V[i] = eig(M[i], N[i], homogeneous_eigvals=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            w[i] = np.where(beta == 0, np.where(alpha == 0, np.nan, np.inf), alpha / beta)
        if np.isnan(w[i]).any():
            raise SingularMatrixError(
                "the pencil A - w B is singular for every w: A and B have a null vector in common, and any "
                "number is an eigenvalue."
            )
    return w, V


def require_self_adjoint(A: Any, question: str) -> None:
    """Refuse instead of reading one triangle of a matrix nobody called self-adjoint."""
    if not A.isa(SelfAdjoint):
        raise PropertyError(
            f"{question}({A!r}): the operator is not known to be self-adjoint. Declare it with "
            "cola_core.SelfAdjoint(A) (or PSD(A)), or use eig for general matrices."
        )
