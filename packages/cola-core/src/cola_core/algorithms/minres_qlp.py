"""MINRES-QLP: the solution of least length of a singular or ill-conditioned self-adjoint system.
Choi, Paige & Saunders, SIAM J. Sci. Comput. 33 (2011) 1810, table 2; Choi & Saunders, ACM TOMS 40 (2014) 16.

MINRES applies the inverse of the triangular factor R of the tridiagonal matrix; here R is first made lower
triangular by rotations from the right, so that its small diagonal entries move to the end, where one of them
can be left out. What comes out is of least norm among the solutions, or among the least-squares solutions
where there is none; the condition number met on the way goes into the Info.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array
from ..cost import Cost
from ..properties import SelfAdjoint
from ..reasons import BAD_PRECONDITIONER, CONVERGED, INCONSISTENT, NONFINITE, RUNNING, SINGULAR
from .base import typical_steps, waits
from .inconsistency import Suspicion
from .krylov_solver import KrylovSolver
from .lanczos_step import lanczos_start, lanczos_step, positive, rotation
from .progress import Watch, observe

__all__ = ["MINRESQLP"]


def _iterate(
    A: Any,
    P: Any,
    B: Array,
    X: Array | None,
    tol: Any,
    limit: Any,
    *,
    watch: Watch | None = None,
    max_condition: float | None = None,
) -> tuple[Array, Any, Any, Array, dict[str, Array]]:
    """The recurrence: solution, steps, products, per column why it stopped, and estimates of ``|A|`` and its
    condition number (without the part that was left out)."""
    be: Any = backend_of(B)
    xp = be.xp
    target = tol * be.norm(B)
    if X is None:
        X, R, products = xp.zeros_like(B), B + 0, 0
    else:
        X, R, products = X + 0, B - A @ X, 1
    eps = float(xp.finfo(be.real_dtype(B.dtype)).eps)
    tiny = 10 * eps if max_condition is None else 1 / max_condition
    pair, bad = lanczos_start(be, P, R)
    rnorm = be.norm(R)
    code = xp.where(rnorm <= target, CONVERGED, RUNNING)
    code = xp.where((code == RUNNING) & (bad | (pair.beta == 0)), BAD_PRECONDITIONER, code)
    zero, one = xp.zeros_like(rnorm), xp.ones_like(rnorm)
    kept = None if P is None else R + 0
    names = "left cs sn dbar size cr1 sr1 cr2 sr2 gamma1 gamma theta1 theta eta1 eta tau1 tau u3 u2 u1 u most"
    s = dict.fromkeys(names.split(), zero)
    s |= {"left": pair.beta, "cs": -one, "cr1": -one, "cr2": -one}
    empty = xp.zeros_like(B)
    doubt = Suspicion.none(be, X, rnorm, code)
    state = (0, X, pair, empty, empty, kept, s, doubt, code)

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[-1] == RUNNING)

    def body(state: Any) -> Any:
        step, X, pair, W1, W, kept, s, doubt, code = state
        V, alpha, pair, bad = lanczos_step(be, A, P, pair)
        beta = pair.beta
        finite = xp.isfinite(alpha) & xp.isfinite(beta)
        code = xp.where((code == RUNNING) & ~finite, NONFINITE, code)
        code = xp.where((code == RUNNING) & bad, BAD_PRECONDITIONER, code)
        live = code == RUNNING
        t = dict(s)
        t["size"] = size = xp.maximum(s["size"], xp.hypot(xp.hypot(alpha, beta), pair.before * (step > 0)))
        # reflection from the left: the tridiagonal matrix becomes upper triangular
        delta, gbar = s["cs"] * s["dbar"] + s["sn"] * alpha, s["sn"] * s["dbar"] - s["cs"] * alpha
        epsilon, t["dbar"] = s["sn"] * beta, -s["cs"] * beta
        t["cs"], t["sn"], gamma = rotation(be, gbar, beta)
        t["tau1"], t["tau"], t["left"] = s["tau"], t["cs"] * s["left"], t["sn"] * s["left"]
        # |A r| / |A| |r| of the residual before this step
        ratio = xp.hypot(gbar, t["dbar"]) / positive(be, size)
        # reflections from the right: upper becomes lower triangular; rows are (eta, theta, gamma)
        theta1 = s["cr2"] * s["theta"] + s["sr2"] * delta
        delta = s["sr2"] * s["theta"] - s["cr2"] * delta
        t["eta1"], t["eta"], gamma = s["eta"], s["sr2"] * gamma, -s["cr2"] * gamma
        t["cr1"], t["sr1"], gamma1 = rotation(be, s["gamma"], delta)
        t["theta1"], t["theta"], t["gamma"] = theta1, t["sr1"] * gamma, -t["cr1"] * gamma
        # forward substitution; two entries of the solution may change until they are two steps old
        t["u3"] = s["u2"]
        t["u2"] = _quotient(be, s["tau1"] - s["eta1"] * s["u3"] - s["theta1"] * s["u2"], s["gamma1"])
        t["u1"] = _quotient(be, s["tau"] - s["eta"] * s["u2"] - theta1 * t["u2"], gamma1)
        drop = xp.abs(t["gamma"]) <= tiny * size
        u = _quotient(be, t["tau"] - t["eta"] * t["u2"] - t["theta"] * t["u1"], t["gamma"])
        t["u"] = xp.where(drop, zero, u)
        # the directions go through the same reflections
        W2 = _turn(be, s["cr2"], W1, s["sr2"], V)
        V = _turn(be, s["sr2"], W1, -s["cr2"], V)
        new1, new = _turn(be, t["cr1"], W, t["sr1"], V), _turn(be, t["sr1"], W, -t["cr1"], V)
        t["cr2"], t["sr2"], t["gamma1"] = rotation(be, gamma1, epsilon)
        # the least diagonal entry so far, the last one included if it is used
        for entry in (s["gamma1"], gamma1, xp.where(drop, zero, xp.abs(t["gamma"]))):
            t["most"] = xp.maximum(t["most"], _quotient(be, size, entry))
        if be.is_concrete(live) and bool(xp.all(live)):
            X, W1, W = be.axpy(be.astype(t["u2"], B.dtype), W2, X), new1, new
        else:
            column = live[..., None, :]
            X = xp.where(column, _sum(be, X, t["u2"], W2), X)
            W1, W = xp.where(column, new1, W1), xp.where(column, new, W)
            t = {name: xp.where(live, value, s[name]) for name, value in t.items()}
        if kept is None:
            rnorm = t["left"]
        else:
            turn = be.astype(-t["cs"] * t["left"] / positive(be, beta), B.dtype)
            kept = be.xpay(turn[..., None, :] * pair.U, be.astype(t["sn"] ** 2, B.dtype), kept)
            rnorm = be.norm(kept)
        code = xp.where(live & (rnorm <= target), CONVERGED, code)
        # without the last entry it is the solution of least length that belongs to the residual before
        known = X, W1
        doubt, code = doubt.look(
            be, tol, ratio, s["left"], code, lambda: _sum(be, known[0], t["u1"], known[1])
        )
        ended = xp.where(doubt.since >= 0, INCONSISTENT, SINGULAR)
        code = xp.where((code == RUNNING) & drop, ended, code)
        code = observe(be, watch, step + 1, rnorm, code)
        return step + 1, X, pair, W1, W, kept, t, doubt, code

    step, X, _, W1, W, _, s, doubt, code = be.while_loop(running, body, state)
    X = doubt.settle(be, _sum(be, _sum(be, X, s["u1"], W1), s["u"], W), code)
    return X, step, step + products, code, {"norm": s["size"], "condition": s["most"]}


def _sum(be: Any, X: Array, a: Array, Y: Array) -> Array:
    return X + be.astype(a, X.dtype)[..., None, :] * Y


def _quotient(be: Any, a: Array, b: Array) -> Array:
    """a / b; zero where b is, as before the first steps."""
    xp = be.xp
    return xp.where(b != 0, a / xp.where(b != 0, b, xp.ones_like(b)), xp.zeros_like(a))


def _turn(be: Any, a: Array, X: Array, b: Array, Y: Array) -> Array:
    """``a X + b Y`` with numbers per column."""
    return be.astype(a, X.dtype)[..., None, :] * X + be.astype(b, X.dtype)[..., None, :] * Y


@dataclass(frozen=True)
class MINRESQLP(KrylovSolver):
    """Solve ``A x = b`` for A self-adjoint and possibly singular: the x of least norm that minimises
    ``|b - A x|``. One product per step, ten vectors of memory, about half again the vector work of MINRES.

    tol, max_iters, pbar, x0, P: as ``MINRES``; with x0 it is ``x - x0`` that is of least norm, with P the
    norm is that of ``P^{-1}``. max_condition: a direction that makes the condition number larger is left out
    (default 0.1 / eps).

    >>> import numpy as np, cola_core as cola
    >>> A = cola.SelfAdjoint(np.array([[1.0, 1.0], [1.0, 1.0]]))
    >>> cola.solve(A, np.array([2.0, 2.0]), cola.MINRESQLP()).round(8)
    array([1., 1.])
    """

    max_condition: float | None = None

    _method: ClassVar[str] = "MINRES-QLP"
    _self_adjoint: ClassVar[bool] = True
    _iterate: ClassVar[Any] = staticmethod(_iterate)

    def _static(self, n: int, limit: int) -> dict[str, Any]:
        return {"max_condition": self.max_condition}

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return True if A.isa(SelfAdjoint) else "the operator is not declared SelfAdjoint"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        steps = typical_steps(n, self.tol, A.dtype)
        one = A.matmat_cost(k) + Cost(22 * n * k, 28 * A.itemsize * n * k, 0, 0, 80, syncs=waits(A, 3))
        total = one * steps
        return Cost(
            total.flops, total.bytes, self._memory(A, 11, operands), steps, total.calls, syncs=total.syncs
        )
