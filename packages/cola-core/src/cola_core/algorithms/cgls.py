"""CGLS: conjugate gradients on ``A^H A x = A^H b`` without forming ``A^H A``, several right-hand sides at
once. Hestenes & Stiefel, J. Res. NBS 49 (1952) 409, sec. 10; Björck 1996, alg. 7.4.1.

The residual ``r = b - A x`` is what is updated, so that A^H A is never applied to a vector and half of the
accuracy is not lost. Equal to LSQR in exact arithmetic, and shorter. The norm and the condition number are
read from the same bidiagonal matrix as in LSQR, whose entries are quotients of the coefficients here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array
from ..reasons import RUNNING, STAGNATED
from .columns import quotient
from .golub_kahan import normalized
from .least_squares_solver import LeastSquaresSolver, Outcome, first_code, next_code
from .progress import Watch, observe

__all__ = ["CGLS"]


def _iterate(
    A: Any, B: Array, bnorm: Array, tol: Any, limit: Any, conlim: Any, *, watch: Watch | None = None
) -> Outcome:
    """The recurrence from zero."""
    be: Any = backend_of(B)
    xp = be.xp
    AH = A.H
    R = B + 0
    S = AH @ R
    snorm = be.norm(S)
    code = first_code(be, bnorm, snorm, be.norm(R), tol)
    zero = xp.zeros_like(snorm)
    X = be.zeros((*B.shape[:-2], A.shape[-1], B.shape[-1]), B.dtype, be.device(B))
    # directions are kept at the size of S / |S|: a product of theirs has no squares that underflow before A's
    state = (
        0,
        X,
        R,
        normalized(be, S + 0, snorm),
        snorm,
        be.norm(R),
        zero,
        zero,
        zero,
        xp.ones_like(zero),
        code,
    )

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[-1] == RUNNING)

    def body(state: Any) -> Any:
        step, X, R, D, snorm, before, carried, square, inverse, condition, code = state
        live = code == RUNNING
        Q = A @ D
        qnorm, dnorm = be.norm(Q), be.norm(D)
        alpha = be.astype(quotient(be, quotient(be, snorm, qnorm, live), qnorm, live), X.dtype)
        if be.is_concrete(qnorm) and bool(xp.all(xp.isfinite(qnorm))):
            X, R = be.axpy(alpha, D, X), be.axpy(-alpha, Q, R)
        else:  # 0 * NaN would spread to a column that has stopped
            good = (live & xp.isfinite(qnorm))[..., None, :]
            X = X + xp.where(good, alpha[..., None, :] * D, xp.zeros_like(X))
            R = R - xp.where(good, alpha[..., None, :] * Q, xp.zeros_like(R))
        S = AH @ R
        following = xp.where(xp.isfinite(qnorm), be.norm(S), qnorm)
        root = quotient(be, following, snorm, live)
        # 1/alpha_k + beta_k/alpha_(k-1): the diagonal of the tridiagonal matrix of A^H A
        square = square + qnorm * qnorm + carried
        inverse = inverse + quotient(be, dnorm, qnorm, live) ** 2
        condition = xp.sqrt(square * inverse)
        rnorm = be.norm(R)
        # it never grows but by rounding, in directions that A nearly annihilates
        code = xp.where((code == RUNNING) & (rnorm > 1.01 * before), STAGNATED, code)
        code = next_code(be, code, bnorm, rnorm, following, xp.sqrt(square), condition, tol, conlim)
        code = observe(be, watch, step + 1, following, code)
        D = be.xpay(normalized(be, S + 0, following), be.astype(root, X.dtype), D)
        carried = root * root * qnorm * qnorm
        return step + 1, X, R, D, following, rnorm, carried, square, inverse, condition, code

    step, X, *_, square, _, condition, code = be.while_loop(running, body, state)
    return Outcome(X, step, 2 * step + 1, code, xp.sqrt(square), condition)


@dataclass(frozen=True)
class CGLS(LeastSquaresSolver):
    """The x of least norm that minimises ``|b - A x|``: a product with A and one with A^H per step.

    Settings as for ``LSMR``. The shortest of the three; LSQR and LSMR are more accurate where the condition
    number is large.

    >>> import numpy as np, cola_core as cola
    >>> A = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> np.round(cola.lstsq(A, np.array([1.0, 3.0, 5.0]), cola.CGLS()), 6).tolist()
    [1.0, 2.0]
    """

    _method: ClassVar[str] = "CGLS"
    _iterate = staticmethod(_iterate)
