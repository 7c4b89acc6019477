"""Preconditioned conjugate gradients for several right-hand sides at once.
Hestenes & Stiefel 1952; Saad 2003, alg. 9.1.

Every column has its own steps and its own stopping test ``|b - A x| <= tol |b|``; guards compare quantities
of one scale only (the sign of ``p^H A p``), so they mean the same for A, 1e-9 A, float32 and a million
unknowns. The residual is recomputed at exit; where the recurrence has drifted from it, the iteration
restarts from the current point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array, Backend
from ..cost import Cost
from ..properties import PSD
from ..pytree import tree_leaves
from .base import typical_steps, waits
from .columns import Best
from .iteration import BAD_PRECONDITIONER, CONVERGED, INDEFINITE, NONFINITE, RUNNING, SINGULAR, observe
from .krylov_solver import KrylovSolver
from .progress import Watch
from .ritz import Growth, cg_column, cg_facts, few, replayed

__all__ = ["CG"]

LEAST_FOR_NORMAL_EQUATIONS = 2000


def _iterate(
    A: Any,
    P: Any,
    B: Array,
    X: Array | None,
    tol: Any,
    limit: Any,
    *,
    watch: Watch | None = None,
    estimates: bool = True,
) -> tuple[Array, Any, Any, Array, dict[str, Any]]:
    """The recurrence: solution, steps, products, per column why it stopped, and estimates of ``|A|`` and its
    condition number (of ``P A`` if there is a P), which a compiled loop leaves out unless asked for."""
    be: Any = backend_of(B)
    xp = be.xp
    bnorm = be.norm(B)
    target = tol * bnorm
    eps = float(xp.finfo(bnorm.dtype).eps)
    if X is None:
        X, R, products = xp.zeros_like(B), B + 0, 0
    else:
        X, products = X + 0, 1
        R = B - A @ X
    Z = R if P is None else P @ R
    rho = _real(be, be.inner(R, Z))
    rnorm = be.norm(R)
    one, zero = xp.ones_like(rho), xp.zeros_like(rho)
    floor = xp.where(bnorm > 0, bnorm, float(xp.finfo(bnorm.dtype).smallest_normal) * one)
    code = xp.where(rnorm <= target, CONVERGED, RUNNING)
    if P is not None:
        code = xp.where((code == RUNNING) & ~(rho > 0), BAD_PRECONDITIONER, code)
    # where values can be looked at: whether every column still runs, so that none needs to be held back
    concrete, inf, single = be.is_concrete(code), float("inf"), tuple(rnorm.shape) == (1,)
    bound = target.item() if concrete and single else target
    everyone = concrete and bool(xp.all(code == RUNNING))
    # to within a factor of two, as the residual of an inconsistent system grows without bound
    best = Best(xp.zeros_like(X) if products == 0 else X + 0, rnorm, rnorm)
    made = xp.zeros_like(code)
    coefficients: list[Any] = []
    growth: Any = None
    if not concrete:  # the estimates, or the largest Rayleigh quotient alone
        growth = (Growth.none(zero), zero, zero) if estimates else zero
    state = (0, X, R, Z + 0, rho, rnorm, best, made, growth, code)

    def running(state: Any) -> Any:
        step, code = state[0], state[-1]
        return (step < limit) & (everyone or xp.any(code == RUNNING))

    def uneventful(rnorm: Array, best: Best) -> bool:
        """Neither converged nor so much better than what was put aside that it takes its place."""
        if single:
            return bool(bound < rnorm.item() and rnorm.item() >= 0.5 * best.norm.item())
        return bool(xp.all((rnorm > bound) & (rnorm >= 0.5 * best.norm)))

    def norm_of(growth: Any) -> Any:
        """``|A|`` as far as it is known: the Rayleigh quotient of the first residual, or the largest."""
        if growth is not None:
            return growth[0].norm ** 2 if estimates else growth
        first = coefficients[0][0] if coefficients else inf
        first = first if isinstance(first, float) else float(xp.max(first))
        return 1 / first if first > 0 else 0.0

    def runaway(X: Array, growth: Any) -> Array:
        """Grown in a direction that A annihilates, so far that its residual is rounding error."""
        if P is not None:  # the norm known is that of P A
            return xp.zeros_like(code, dtype=xp.bool)
        # one factor first: the square of |X| alone may overflow where A is tiny
        return be.norm(X * be.astype(norm_of(growth) * eps / floor, X.dtype)[..., None, :]) > 0.01

    def null(D: Array, Q: Array, curvature: Array, growth: Any) -> Array:
        """Whether ``Q = A D`` and the curvature vanish beside ``|A|``: D is a null direction, to what
        rounding leaves of one, and not one of negative curvature."""
        if P is not None:
            return xp.zeros_like(code, dtype=xp.bool)
        size, length = norm_of(growth), be.norm(D)
        flat = be.norm(Q) <= 100 * eps**0.5 * size * length
        return flat & (xp.abs(curvature) <= 100 * eps * size * length**2)

    def body(state: Any) -> Any:
        nonlocal everyone
        step, X, R, D, rho, _, best, made, growth, code = state
        old = code
        Q = A @ D
        curvature = _real(be, be.inner(D, Q))
        usual = concrete and _every(xp, curvature, single, lambda c: (c > 0) & (c < inf))
        if not usual:
            finite, positive, live = xp.isfinite(curvature), curvature > 0, code == RUNNING
            code = xp.where(live & ~finite, NONFINITE, code)
            why = xp.where(null(D, Q, curvature, growth), SINGULAR, INDEFINITE)
            code = xp.where(live & finite & ~positive, why, code)
        if usual and everyone:
            alpha = rho / curvature
        else:
            live = code == RUNNING
            alpha = xp.where(live, rho / xp.where(live, curvature, one), zero)
        length = alpha
        alpha = be.astype(alpha, B.dtype)
        if usual or not concrete or bool(xp.all(finite)):
            X = be.axpy(alpha, D, X)
            R = be.axpy(-alpha, Q, R)
        else:  # 0 * NaN would spread to the healthy part of a column that has already stopped
            X, R = X + alpha[..., None, :] * D, R
        if P is None:
            new = _real(be, be.inner(R, R))
            rnorm, Z = xp.sqrt(new), R
        else:
            Z = P @ R
            new, rnorm = _real(be, be.inner(R, Z)), be.norm(R)
            code = xp.where((code == RUNNING) & ~(new > 0) & (rnorm > target), BAD_PRECONDITIONER, code)
        if usual and everyone and P is None and watch is None and uneventful(rnorm, best):
            ratio = new / rho
        else:
            best = best.seen(be, X, rnorm, code == RUNNING, lambda: ~runaway(X, growth))[0]
            made = xp.where(old == RUNNING, step + 1, made)
            code = xp.where((code == RUNNING) & (rnorm <= target), CONVERGED, code)
            live = code == RUNNING
            ratio = xp.where(live, new / xp.where(rho != 0, rho, one), zero)
            new = xp.where(live, new, rho)
            code = observe(be, watch, step + 1, rnorm, code)
            everyone = concrete and bool(xp.all(code == RUNNING))
        if growth is None:
            coefficients.append((few(length), few(ratio)))
        elif not estimates:
            growth = xp.maximum(growth, xp.where(length > 0, 1 / xp.where(length > 0, length, one), zero))
        else:
            before = growth
            # a column that has just stopped has no ratio, and that step's coupling is left out
            found = cg_column(xp, before[0], length, before[1], before[2], ratio, length > 0)
            growth = found, length, ratio
        D = be.xpay(Z, be.astype(ratio, B.dtype), D)
        return step + 1, X, R, D, new, rnorm, best, made, growth, code

    step, X, _, _, _, rnorm, best, made, growth, code = be.while_loop(running, body, state)
    told = (
        replayed(be, coefficients, "cg") if growth is None else cg_facts(xp, growth[0]) if estimates else {}
    )
    told = {
        **told,
        "lengths": be.frobenius(X, axis=-2),
        "column_iterations": xp.where(code == RUNNING, step, made),
    }
    rnorm = xp.where(runaway(X, growth), inf * one, rnorm)
    return best.better(be, X, rnorm), step, step + products, code, told


def _every(xp: Any, x: Array, single: bool, test: Callable[[Any], Any]) -> bool:
    """Whether all entries pass a test; a single one is looked at as a number, which is cheaper."""
    return bool(test(x.item())) if single else bool(xp.all(test(x)))


def _real(be: Backend, x: Array) -> Array:
    return be.xp.real(x) if be.is_complex(x) else x


@dataclass(frozen=True)
class CG(KrylovSolver):
    """Solve ``A x = b`` for A self-adjoint positive definite: one product per step, four vectors of memory.

    tol: relative residual (default by dtype, 1e-8 in double). max_iters: default ``min(10 n, 10000)``. P: an
    operator close to A^{-1} (positive definite), or a function A -> operator. x0: first guess. pbar,
    callback, max_seconds: see ``Iterative``.
    """

    _method: ClassVar[str] = "CG"
    _self_adjoint: ClassVar[bool] = True
    _costly_facts: ClassVar[bool] = True
    _iterate: ClassVar[Any] = staticmethod(_iterate)

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if question == "lstsq":
            m, n = A.shape[-2:]
            if operands[1] is not None:
                return "it cannot tell which singular values count as zero (rcond)"
            if min(m, n) < LEAST_FOR_NORMAL_EQUATIONS or A.matvec_cost.flops > m * n / 8:
                return "the normal equations square the condition number, and a factorisation is affordable"
            return True
        return True if A.isa(PSD) else "the operator is not declared PSD"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        steps = typical_steps(n, self.tol, A.dtype)
        one = A.matmat_cost(k) + Cost(10 * n * k, 12 * A.itemsize * n * k, 0, 0, 8, syncs=waits(A, 3))
        total = one * steps
        return Cost(
            total.flops, total.bytes, self._memory(A, 6, operands), steps, total.calls, syncs=total.syncs
        )

    def lstsq(self, A: Any, b: Array, rcond: Any) -> Array:
        """``A^H A x = A^H b``: the least x that minimises ``|b - A x|``. The tolerance is on the normal
        equations, whose condition number is that of A squared."""
        if rcond is not None:
            raise ValueError(
                "lstsq by CG() does not know the singular values, so that rcond has no meaning; use LSTSQ()."
            )
        be = A._concrete_backend()
        if not be.differentiating(b, *tree_leaves(A)):
            return self._normal(A, b)
        # the derivative of the normal equations' own solve lacks what turns the null space
        from .derivative_solve import Derivative
        from .pseudoinverse import pseudo_solved

        derivative = Derivative.here()
        later = replace(self, x0=None, P=None)  # both are made for A^H A

        def again(A: Any, rhs: Array) -> Any:
            return derivative.asked(be, A, lambda: later._normal(A, rhs)), None

        tol = self.tolerance(b.dtype)
        return pseudo_solved(be, A, b, lambda A, b: (self._normal(A, b), None), again, tol, "CG")[0]

    def _normal(self, A: Any, b: Array) -> Array:
        from ..operators import Product

        AH = A.H
        return self.solve(Product(AH, A, declared=frozenset({PSD})), AH @ b)
