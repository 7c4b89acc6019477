"""XDiag: a diagonal from a low-rank approximation and its residual, every test vector serving both.

Source: Epperly, Tropp & Webber, SIMAX 45 (2024) 1 (arXiv 2301.07825).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array, Backend
from ..properties import SelfAdjoint
from .sketch import Sketch, Sketching, grow, left_out, next_key, spread

__all__ = ["XDiag"]


@dataclass(frozen=True)
class XDiag(Sketching):
    """A diagonal of any square operator from s products with A and s with its adjoint (A where self-adjoint).

    The standard error is the norm of those of the entries; exact, up to rounding, once s exceeds the rank,
    and exact by n products where ``2 s >= n``.

    tol: standard error relative to the norm of the diagonal (default 1e-2). Other settings as in ``XTrace``.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.no_dispatch(np.outer(np.arange(300.0), np.ones(300)))
    >>> bool(np.allclose(cola.diag(A, 0, cola.XDiag()), np.arange(300.0)))
    True
    """

    tol: float = 1e-2

    turned: ClassVar[bool] = True

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        known = super().applicable(question, A, *operands)
        if known is not True:
            return known
        try:
            _ = A if A.isa(SelfAdjoint) else A.H
        except NotImplementedError:
            return "the operator has no adjoint product"
        return True

    def diag(self, A: Any, k: int) -> Array:
        n = A.shape[-1]
        if n <= abs(k):
            return A._concrete_backend().zeros((*A.batch_shape, 0), A.dtype, A.device)
        return self._run(A, "diag", k)

    def _grow(self, A: Any, old: Any, stage: int, new: int) -> Sketch:
        be = A._concrete_backend()
        signs = be.rademacher(next_key(be, self.key, stage), (A.shape[-1], new), A.dtype, A.device)
        return grow(A, old, signs, A if A.isa(SelfAdjoint) else A.H)

    def _estimate(self, be: Backend, sketch: Sketch, k: int) -> Any:  # type: ignore[override]
        return be.jit(_leave_one_out, static=("k",))(*sketch, k=k)


def _leave_one_out(
    omega: Array, Y: Array, Q: Array, Z: Array, *, k: int
) -> tuple[Array, Array, Array, Array]:
    """Entries ``A[j, j + k]``: rows of Q and Y from ``row``, of Z and omega from ``col``. ``Z = A^H Q``."""
    be: Any = backend_of(Y)
    xp = be.xp
    size = Q.shape[-2] - abs(k)
    row, col = max(-k, 0), max(k, 0)
    QH = be.adjoint(Q)
    R = QH @ Y
    S = left_out(be, be.constant(R))
    QS, ZS = Q @ S, Z @ S
    low = xp.sum(Q[..., row : row + size, :] * be.conj(Z[..., col : col + size, :]), axis=-1)[..., None]
    low = low - QS[..., row : row + size, :] * be.conj(ZS[..., col : col + size, :])
    rest = Y - Q @ (R - S * be.inner(S, R)[..., None, :])
    rest = be.conj(omega[col : col + size, :]) * rest[..., row : row + size, :]
    mean, errors = spread(be, low + rest)
    eps = float(xp.finfo(errors.dtype).eps)
    norm = xp.linalg.vector_norm
    rounding = 4 * eps * norm(be.norm(Z), axis=-1)
    # a contribution of two test vectors is in two estimates: twice the variance of independent ones
    error = xp.hypot(2**0.5 * be.frobenius(errors, axis=-1), rounding)
    return mean, error, rounding, norm(mean, axis=-1)
