"""``ToeplitzCG``: conjugate gradients on a Toeplitz matrix with a circulant preconditioner.

For generating functions that are continuous and positive the eigenvalues of the preconditioned matrix
cluster at one, so the number of steps does not grow with n. Sources: Strang, Stud. Appl. Math. 74 (1986)
171; T. Chan, SIAM J. Sci. Stat. Comput. 9 (1988) 766; Chan & Ng, SIAM Review 38 (1996) 427.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..errors import NonSquareError, UnknownNameError
from ..operators import Circulant, LinearOperator, Toeplitz
from ..properties import PSD, SelfAdjoint
from .base import Iterative, waits
from .cg import CG

__all__ = ["ToeplitzCG", "circulant_preconditioner"]

FLOOR = 1e-10  # eigenvalues of the preconditioner below this part of the largest are lifted to it


def circulant_preconditioner(T: LinearOperator, kind: str = "chan") -> LinearOperator:
    """The inverse of a circulant near a square Toeplitz matrix, as an operator; for ``CG(P=...)``,
    ``GMRES(P=...)``.

    kind: "chan", the circulant nearest in the Frobenius norm (positive definite where T is), or "strang",
    which copies the central diagonals (nearer for smooth generating functions, not always positive).
    Eigenvalues that are tiny against the largest are lifted, so the result is always finite. O(n log n). Of
    an operator that is not Toeplitz but nearly so, the first column and row are taken.
    """
    if not T.is_square:
        raise NonSquareError(f"circulant_preconditioner needs a square operator, got {T!r}.")
    if kind not in ("chan", "strang"):
        raise UnknownNameError(f'kind={kind!r}; choose "chan" or "strang".')
    be, xp, n = T._concrete_backend(), T.xp, T.shape[-1]
    if not n:
        return Circulant(be.zeros(T.shape[:-1], T.dtype, T.device))
    psd = T.isa(PSD)
    if not isinstance(T, Toeplitz):
        T = _border(T)
    t = T.generator(2 * n - 1)
    below, k = t[..., :n], xp.arange(n, device=T.device)
    above = xp.concat(
        (xp.zeros_like(t[..., :1]), t[..., n:]), axis=-1
    )  # entry k: the (n - k)-th superdiagonal
    if kind == "chan":
        share = be.astype(k, be.real_dtype(T.dtype)) / n
        column = below - share * below + share * above
    else:
        column = xp.where(2 * k <= n, below, above)
        if n % 2 == 0 and n > 1:
            column = xp.where(2 * k == n, (below + above) / 2, column)  # both diagonals are as far
    C = Circulant(column)
    w = C.eigenvalues()
    if psd:
        w = xp.abs(xp.real(w))
    size = xp.abs(w)
    largest = xp.max(size, axis=-1, keepdims=True)
    floor = FLOOR * xp.where(largest > 0, largest, xp.ones_like(largest))
    w = xp.where(size > floor, w, be.astype(floor, w.dtype))
    return C.with_eigenvalues(1 / w, not C._is_complex(), frozenset({PSD}) if psd else frozenset())


def _border(A: LinearOperator) -> Toeplitz:
    """The Toeplitz matrix that has A's first column and row: two products."""
    be, xp = A._concrete_backend(), A.xp
    first = be.astype(xp.arange(A.shape[-1], device=A.device) == 0, A.dtype)[:, None]
    column = A._matmat(first)[..., 0]
    return Toeplitz(column, None if A.isa(SelfAdjoint) else be.conj(A._rmatmat(first)[..., 0]))


@dataclass(frozen=True)
class ToeplitzCG(Iterative):
    """Solve ``T x = b`` for a Toeplitz operator declared PSD: four FFTs a step, six vectors of memory.

    Asked for explicitly it also solves with operators that are nearly Toeplitz.

    tol, max_iters, pbar, x0, callback, max_seconds: as ``CG``. preconditioner: its kind, see
    ``circulant_preconditioner``.
    """

    x0: Any = None
    preconditioner: str = "chan"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not isinstance(A, Toeplitz):
            return "not a Toeplitz operator"
        return True if A.isa(PSD) else "the operator is not declared PSD"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        steps = min(n, 30)
        plain = CG(tol=self.tol, max_iters=self.max_iters).cost(question, A, *operands)
        one = A.matmat_cost(k) * 2 + Cost(10 * n * k, 12 * A.itemsize * n * k, 0, 0, 8, syncs=waits(A, 3))
        total = one * steps
        return Cost(total.flops, total.bytes, plain.memory, steps, total.calls, syncs=total.syncs)

    def solve(self, A: Any, b: Array) -> Array:
        def P(A: Any) -> LinearOperator:
            return circulant_preconditioner(A, self.preconditioner)

        settings = {f.name: getattr(self, f.name) for f in fields(Iterative)}
        return CG(**settings, P=P, x0=self.x0).solve(A, b)
