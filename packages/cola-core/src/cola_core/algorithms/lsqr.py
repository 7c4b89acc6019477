"""LSQR for ``min |b - A x|``, several right-hand sides at once.
Paige & Saunders, ACM Trans. Math. Softw. 8 (1982) 43, sec. 4-6.

Conjugate gradients on the normal equations in a form that keeps its accuracy: ``|r|`` decreases
monotonically. The stopping rules are those of the shared base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array
from ..reasons import RUNNING
from .golub_kahan import advance, begin, rotation
from .least_squares_solver import LeastSquaresSolver, Outcome, first_code, next_code
from .progress import Watch, observe

__all__ = ["LSQR"]


def _iterate(
    A: Any, B: Array, bnorm: Array, tol: Any, limit: Any, conlim: Any, *, watch: Watch | None = None
) -> Outcome:
    """The recurrence from zero."""
    be: Any = backend_of(B)
    xp = be.xp
    AH = A.H
    U, V, alpha, beta = begin(be, A, AH, B)
    zero, one = xp.zeros_like(alpha), xp.ones_like(alpha)
    code = first_code(be, bnorm, alpha, beta, tol)
    X = be.zeros((*B.shape[:-2], A.shape[-1], B.shape[-1]), B.dtype, be.device(B))
    # alpha, rhobar, phibar; squares of the norms of A and of its pseudoinverse, as far as they have been seen
    state = (0, X, U, V, V + 0, alpha, alpha, beta, alpha * alpha, zero, one, code)

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[-1] == RUNNING)

    def body(state: Any) -> Any:
        step, X, U, V, W, alpha, rhobar, phibar, square, inverse, condition, code = state
        U, V, alpha, beta = advance(be, A, AH, U, V, alpha)
        c, s, rho = rotation(xp, rhobar, beta)
        safe = xp.where(rho > 0, rho, xp.ones_like(rho))
        theta, rhobar = s * alpha, -c * alpha
        phi, phibar = c * phibar, s * phibar
        live = code == RUNNING
        inverse = inverse + (be.norm(W) / safe) ** 2
        square = square + beta * beta
        condition = xp.sqrt(square * inverse)
        along = be.astype(xp.where(live, phi / safe, zero), X.dtype)
        if be.is_concrete(alpha) and bool(xp.all(xp.isfinite(alpha))):
            X = be.axpy(along, W, X)
        else:  # 0 * NaN would spread to a column that has stopped
            good = (live & xp.isfinite(alpha))[..., None, :]
            X = X + xp.where(good, along[..., None, :] * W, xp.zeros_like(X))
        W = be.xpay(V, be.astype(-theta / safe, X.dtype), W)
        rnorm, snorm = xp.abs(phibar), xp.abs(phibar * alpha * c)
        code = next_code(be, code, bnorm, rnorm, snorm, xp.sqrt(square), condition, tol, conlim)
        code = observe(be, watch, step + 1, rnorm, code)
        square = square + alpha * alpha
        return step + 1, X, U, V, W, alpha, rhobar, phibar, square, inverse, condition, code

    step, X, *_, square, _, condition, code = be.while_loop(running, body, state)
    return Outcome(X, step, 2 * step + 1, code, xp.sqrt(square), condition)


@dataclass(frozen=True)
class LSQR(LeastSquaresSolver):
    """The x of least norm that minimises ``|b - A x|``: a product with A and one with A^H per step.

    Settings as for ``LSMR``, which usually stops earlier at the same tolerance.

    >>> import numpy as np, cola_core as cola
    >>> A = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> np.round(cola.lstsq(A, np.array([1.0, 3.0, 5.0]), cola.LSQR()), 6).tolist()
    [1.0, 2.0]
    """

    _method: ClassVar[str] = "LSQR"
    _iterate = staticmethod(_iterate)
