"""``CirculantCG``: conjugate gradients with the circulant nearest to the operator as preconditioner.

For Toeplitz matrices of a positive generating function the preconditioned eigenvalues cluster at one, so the
number of steps does not grow with n. Sources: T. Chan, SIAM J. Sci. Stat. Comput. 9 (1988) 766; Chan & Ng,
SIAM Review 38 (1996) 427.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from cola_core.algorithms import CG, Algorithm
from cola_core.cost import Cost
from cola_core.operators import LinearOperator
from cola_core.properties import PSD

from .operator import Circulant

__all__ = ["CirculantCG", "optimal_circulant"]

Array = Any


def optimal_circulant(A: LinearOperator, toeplitz: bool = True) -> Circulant:
    """The circulant C that minimises ``|A - C|_F`` for a square operator A of shape (n, n).

    toeplitz=True takes A to be a self-adjoint Toeplitz matrix, for which one product with A tells everything:
    ``c_k = ((n - k) a_k + k conj(a_{n-k})) / n``. toeplitz=False averages the wrapped diagonals of the dense
    matrix, for any A (O(n^2) memory; refused by ``to_dense`` where that is too much).
    """
    be, xp = A._concrete_backend(), A.xp
    n = A.shape[-1]
    k = xp.arange(n, device=A.device)
    if not toeplitz:
        # row (i + k) mod n of column i, for all i, is the k-th wrapped diagonal
        M = A.to_dense()
        return Circulant(xp.sum(M[(k[None, :] + k[:, None]) % n, k[None, :]], axis=-1) / n)
    first = be.astype(k == 0, A.dtype)
    a = A @ first
    mirrored = be.conj(xp.flip(a, axis=-1))  # conj(a_{n-1}), ..., conj(a_0)
    mirrored = xp.concat([mirrored[-1:], mirrored[:-1]], axis=-1)  # entry k is conj(a_{n-k})
    share = be.astype(k, A.dtype) / n
    return Circulant((1 - share) * a + share * mirrored)


@dataclass(frozen=True)
class CirculantCG(Algorithm):
    """Solve ``A x = b`` for a PSD operator A that is nearly Toeplitz: one product and three FFTs a step.

    tol, max_iters, x0: as ``cola_core.CG``. toeplitz: how the preconditioner is found, see
    ``optimal_circulant``. A preconditioner changes the number of steps, never the answer: the residual
    reported is that of A.
    """

    tol: float | None = None
    max_iters: int | None = None
    toeplitz: bool = True
    x0: Any = None

    kind: ClassVar[str] = "iterative"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        """True, or the reason why ``Auto`` may not take it here."""
        if not A.isa(PSD):
            return "the operator is not declared PSD"
        return "batches of operators are not supported" if A.batch_shape else True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        """A tenth of plain CG's steps, each with a product with the preconditioner."""
        n = A.shape[-1]
        plain = CG(tol=self.tol, max_iters=self.max_iters).cost(question, A, *operands)
        return plain * 0.1 + Cost(30.0 * n, 12.0 * A.itemsize * n, 6.0 * A.itemsize * n, 0, 4) * (
            0.1 * plain.matvecs
        )

    def preconditioner(self, A: LinearOperator) -> Circulant:
        """The inverse of the optimal circulant, made positive where A is too far
        from Toeplitz for it to be."""
        xp = A.xp
        C = optimal_circulant(A, self.toeplitz)
        w = xp.real(C.spectrum)
        size = xp.abs(w)
        floor = 1e-8 * xp.max(size, axis=-1, keepdims=True)
        return Circulant.from_spectrum(1 / xp.where(size > floor, size, floor), C, declared=frozenset({PSD}))

    def solve(self, A: LinearOperator, b: Array) -> Array:
        """``A^{-1} b`` for b (n, k). The core's CG records the ``Info`` and recomputes the residual."""
        P = self.preconditioner(A) if A.shape[-1] else None
        return CG(tol=self.tol, max_iters=self.max_iters, P=P, x0=self.x0).solve(A, b)
