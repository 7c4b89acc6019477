"""LSMR for ``min |b - A x|``, several right-hand sides at once.
Fong & Saunders, SIAM J. Sci. Comput. 33 (2011) 2950, sec. 2-3.

MINRES on the normal equations without forming them: ``|A^H r|`` decreases monotonically, so that it may stop
earlier than LSQR. Norms of r, A^H r and A and the condition number come from the recurrence; the stopping
rules are those of the shared base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array
from ..reasons import RUNNING
from .columns import Single
from .golub_kahan import advance, begin, rotation
from .least_squares_solver import LeastSquaresSolver, Outcome, first_code, next_code
from .progress import Watch, observe

__all__ = ["LSMR"]


def _iterate(
    A: Any, B: Array, bnorm: Array, tol: Any, limit: Any, conlim: Any, *, watch: Watch | None = None
) -> Outcome:
    """The recurrence from zero."""
    be: Any = backend_of(B)
    xp = be.xp
    AH = A.H
    U, V, alpha, beta = begin(be, A, AH, B)
    one, zero = xp.ones_like(alpha), xp.zeros_like(alpha)
    code = first_code(be, bnorm, alpha, beta, tol)
    # one column of NumPy: Python's numbers, since fifty operations on arrays of length one cost more
    single = be.name == "numpy" and alpha.shape == (1,)
    ns = Single if single else xp
    first = (lambda x: float(x[0])) if single else (lambda x: x)
    column = (lambda x: xp.asarray([x], dtype=zero.dtype)) if single else (lambda x: x)
    a, b, units, nothing = first(alpha), first(beta), first(one), first(zero)
    scalars = {
        "zetabar": a * b, "alphabar": a, "rho": units, "rhobar": units, "cbar": units, "sbar": nothing,
        "zeta": nothing, "betadd": b, "betad": nothing, "rhodold": units, "tau": nothing, "theta": nothing,
        "square": a * a, "most": nothing, "least": units * float(xp.finfo(alpha.dtype).max),
    }  # fmt: skip
    X = be.zeros((*B.shape[:-2], A.shape[-1], B.shape[-1]), B.dtype, be.device(B))
    state = (0, X, U, V, V + 0, X + 0, alpha, scalars, first(one), code)

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[-1] == RUNNING)

    def body(state: Any) -> Any:
        step, X, U, V, H, Hbar, alpha, was, _, code = state
        U, V, alpha, beta = advance(be, A, AH, U, V, alpha)
        now, steps, norms, condition = _rotations(ns, was, first(alpha), first(beta))
        back, along, forth = map(column, steps)
        rnorm, snorm, norm = map(column, norms)
        live = code == RUNNING
        usual = be.is_concrete(alpha) and bool(xp.all(xp.isfinite(alpha)))
        along = be.astype(xp.where(live, along, zero), X.dtype)
        Hbar = be.xpay(H, be.astype(-back, X.dtype), Hbar)
        if usual:
            X = be.axpy(along, Hbar, X)
        else:  # 0 * NaN would spread to a column that has stopped
            good = (live & xp.isfinite(alpha))[..., None, :]
            X = X + xp.where(good, along[..., None, :] * Hbar, xp.zeros_like(X))
        H = be.xpay(V, be.astype(-forth, X.dtype), H)
        code = next_code(be, code, bnorm, rnorm, snorm, norm, column(condition), tol, conlim)
        code = observe(be, watch, step + 1, rnorm, code)
        return step + 1, X, U, V, H, Hbar, alpha, now, condition, code

    step, X, *_, last, condition, code = be.while_loop(running, body, state)
    norm = column(ns.sqrt(last["square"]))
    return Outcome(X, step, 2 * step + 1, code, norm, column(condition))


@dataclass(frozen=True)
class LSMR(LeastSquaresSolver):
    """The x of least norm that minimises ``|b - A x|``: a product with A and one with A^H per step.

    tol: ends when ``|r| <= tol |b|`` (the system is compatible) or ``|A^H r| <= tol |A| |r|`` (it is not). x
    then has an error of about tol times the condition number, times its square where r is not small.
    max_iters: default ``min(10 min(m, n), 10000)``. P: a right preconditioner: an operator Q with A Q well
    conditioned, or a function A -> operator (what is least is then ``|Q^-1 x|``). x0: first guess (the answer
    is of least norm from zero only). pbar: show progress. damp: minimise ``|b - A x|^2 + damp^2 |x|^2``.
    conlim: give up when the estimated condition number passes it (default 1/eps).

    Derivatives (PyTorch, JAX; of any order, in both modes) are those of the pseudoinverse, for every rank. In
    a direction that changes the rank there is none: SingularMatrixError where that is noticed (there is a
    residual), NaN in traced programs.

    >>> import numpy as np, cola_core as cola
    >>> A = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> np.round(cola.lstsq(A, np.array([1.0, 3.0, 5.0]), cola.LSMR()), 6).tolist()
    [1.0, 2.0]
    """

    _method: ClassVar[str] = "LSMR"
    _iterate = staticmethod(_iterate)


def _rotations(xp: Any, was: dict[str, Any], alpha: Any, beta: Any) -> Any:
    """One step of both QR factorisations: the new numbers; the coefficients of hbar, x and h; the norms of r,
    A^H r and A; the condition number."""
    c, s, rho = rotation(xp, was["alphabar"], beta)
    theta = s * alpha
    thetabar = was["sbar"] * rho
    reduced = was["cbar"] * rho
    cbar, sbar, rhobar = rotation(xp, reduced, theta)
    zeta, zetabar = cbar * was["zetabar"], -sbar * was["zetabar"]
    safe, safebar = _nonzero(xp, rho), _nonzero(xp, rhobar)
    steps = (thetabar / was["rho"]) * (rho / was["rhobar"]), zeta / safe / safebar, theta / safe
    # the norm of the residual: a QR factorisation one step behind (sec. 5 of the paper)
    betahat, betadd = c * was["betadd"], -s * was["betadd"]
    ctilde, stilde, rhotilde = rotation(xp, was["rhodold"], thetabar)
    thetatilde, rhod = stilde * rhobar, ctilde * rhobar
    betad = ctilde * betahat - stilde * was["betad"]
    tau = (was["zeta"] - was["theta"] * was["tau"]) / _nonzero(xp, rhotilde)
    taud = (zeta - thetatilde * tau) / _nonzero(xp, rhod)
    # Frobenius norm of the bidiagonal matrix, and the extreme diagonal entries of its second factor, the last
    # of which is not rotated yet
    square = was["square"] + beta * beta
    norms = xp.hypot(betad - taud, betadd), xp.abs(zetabar), xp.sqrt(square)
    last = xp.where(reduced > 0, reduced, rhobar)
    condition = xp.maximum(was["most"], last) / _nonzero(xp, xp.minimum(was["least"], last))
    now = {
        "zetabar": zetabar, "alphabar": c * alpha, "rho": safe, "rhobar": safebar, "cbar": cbar, "sbar": sbar,
        "zeta": zeta, "betadd": betadd, "betad": betad, "rhodold": rhod, "tau": tau, "theta": thetatilde,
        "square": square + alpha * alpha, "most": xp.maximum(was["most"], rhobar),
        "least": xp.minimum(was["least"], xp.where(rhobar > 0, rhobar, was["least"])),
    }  # fmt: skip
    return now, steps, norms, condition


def _nonzero(xp: Any, x: Any) -> Any:
    return xp.where(x != 0, x, xp.ones_like(x))
