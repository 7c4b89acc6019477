"""``DeviceCG``: preconditioned conjugate gradients whose steps look at no value.

The recurrence of Hestenes & Stiefel 1952 (Saad 2003, alg. 9.1), every column by itself. A column that has
converged, met a curvature that is not positive or a number that is not finite gets steps of length zero. The
best iterate is put aside once a block of ``check_every`` steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from cola_core.algorithms import CG
from cola_core.backends import backend_of
from cola_core.cost import Cost
from cola_core.reasons import (
    BAD_PRECONDITIONER,
    CONVERGED,
    INDEFINITE,
    NONFINITE,
    RUNNING,
    SINGULAR,
)

from .blocks import drive, repeated
from .settings import CHECK_EVERY, check_positive, launched, on_accelerator, resident, told

__all__ = ["DeviceCG"]

Array = Any


def _iterate(
    A: Any,
    P: Any,
    B: Array,
    X: Array | None,
    tol: Any,
    limit: Any,
    *,
    watch: Any = None,
    check_every: int = CHECK_EVERY,
) -> tuple[Array, Any, Any, Array, dict[str, Any]]:
    """The contract of ``cola_core.algorithms.KrylovSolver``."""
    be: Any = backend_of(B)
    xp = be.xp
    device = None if be.name == "jax" else be.device(B)
    bnorm = be.norm(B)
    target = tol * bnorm
    eps = float(xp.finfo(bnorm.dtype).eps)
    if X is None:
        X, R, products = xp.zeros_like(B), B + 0, 0
    else:
        X, R, products = X + 0, B - A @ X, 1

    def real(x: Array) -> Array:
        return xp.real(x) if be.is_complex(x) else x

    Z = R if P is None else P @ R
    rho, rnorm = real(be.inner(R, Z)), be.norm(R)
    one, zero = xp.ones_like(rho), xp.zeros_like(rho)
    floor = xp.where(bnorm > 0, bnorm, float(xp.finfo(bnorm.dtype).smallest_normal) * one)
    code = be.astype(xp.where(rnorm <= target, CONVERGED, RUNNING), "int32")
    if P is not None:
        code = xp.where((code == RUNNING) & ~(rho > 0), BAD_PRECONDITIONER, code)
    step0 = be.zeros((), "int32", device)
    state: Any = (step0, X, R, Z + 0, rho + 0, rnorm + 0, code, xp.zeros_like(code), zero + 0, rho + 0)

    def step(state: Any) -> Any:
        count, X, R, D, rho, rnorm, code, made, top, square = state
        live = (code == RUNNING) & (count < limit)
        Q = A @ D
        curvature = real(be.inner(D, Q))
        finite = xp.isfinite(curvature)
        good = live & finite & (curvature > 0)
        alpha = xp.where(good, rho / xp.where(good, curvature, one), zero)
        flat = xp.zeros_like(good)
        if P is None:  # the norm known is that of A: is D a null direction, to what rounding leaves of one?
            flat = be.norm(Q) <= 100 * eps**0.5 * top * xp.sqrt(square)
            flat = flat & (xp.abs(curvature) <= 100 * eps * top * square)
        why = xp.where(finite, xp.where(flat, SINGULAR, INDEFINITE), NONFINITE)
        code = be.astype(xp.where(live & ~good, why, code), code.dtype)
        top = xp.maximum(top, xp.where(good, 1 / xp.where(good, alpha, one), zero))
        alpha = be.astype(alpha, B.dtype)
        X = be.axpy(alpha, D, X)
        R = be.axpy(-alpha, Q, R)
        if P is None:
            Z, new = R, real(be.inner(R, R))
            size = xp.sqrt(new)
        else:
            Z = P @ R
            new, size = real(be.inner(R, Z)), be.norm(R)
            bad = good & ~(new > 0) & (size > target)
            code = xp.where(bad, BAD_PRECONDITIONER, code)
        rnorm = xp.where(good, size, rnorm)
        code = xp.where(good & (code == RUNNING) & (rnorm <= target), CONVERGED, code)
        on = good & (code == RUNNING)
        ratio = xp.where(on, new / xp.where(rho != 0, rho, one), zero)
        rho = xp.where(on, new, rho)
        square = rho + ratio * ratio * square  # |D|^2, as R is orthogonal to the directions before
        made = xp.where(live, count + 1, made)
        code = told(be, watch, count + 1, xp.max(rnorm), code)
        D = be.xpay(Z, be.astype(ratio, B.dtype), D)
        return count + 1, X, R, D, rho, rnorm, code, made, top, square

    def runaway(X: Array, top: Array) -> Array:
        """Grown in a direction that A annihilates until its residual is rounding error; or not finite."""
        if P is not None:  # the norm known is that of P A
            return ~xp.isfinite(be.norm(X * 0))
        # one factor first: the square of |X| alone may overflow where A is tiny
        return ~(be.norm(X * be.astype(top * eps / floor, X.dtype)[..., None, :]) <= 0.01)

    traced = be.name != "jax" and not be.is_concrete(B, X)
    inner = repeated(be, step, 1 if watch is not None or traced else check_every)

    def block(state: Any) -> Any:
        *state, best, least = state
        state = inner(tuple(state))
        keep = (state[5] < least) & ~runaway(state[1], state[8])
        best = xp.where(keep[..., None, :], state[1], best)
        return (*state, best, xp.where(keep, state[5], least))

    def going(state: Any) -> Any:
        return xp.any(state[6] == RUNNING) & (state[0] < limit)

    state = drive(be, going, block, (*state, X + 0, rnorm + 0), recorded=watch is None)
    count, X, _, _, _, rnorm, code, made, top, _, best, least = state
    doubtful = runaway(X, top)
    meets, claimed = doubtful & False, doubtful & (code == CONVERGED)
    if be.is_concrete(claimed) and bool(xp.any(claimed)):  # what A is badly scaled for looks the same
        meets, count = claimed & (be.norm(B - A @ X) <= target), count + 1
    rnorm = xp.where(doubtful & ~meets, float("inf") * one, rnorm)
    fine = (rnorm <= least) & xp.all(xp.isfinite(X), axis=-2)
    facts = {"lengths": be.frobenius(X, axis=-2), "column_iterations": made}
    return xp.where(fine[..., None, :], X, best), xp.max(made), count + products, code, facts


@dataclass(frozen=True)
class DeviceCG(CG):
    """``A x = b`` for A self-adjoint positive definite, without a wait for the device in any step.

    tol, max_iters, P, x0, pbar, callback, max_seconds: as of ``CG``; whatever watches looks at every step.
    check_every: steps between two looks of the host. Up to that many are made after the last column has
    converged; they change nothing, and ``Info.matvecs`` counts them. b: (n,) or (*batch, n, k), every column
    with steps of its own. The residual is recomputed at exit. Seven vectors for each column are held.

    In PyTorch on CUDA the steps between two looks are one CUDA graph; where the operator cannot be captured
    (a product that waits for a value, or a function that computes on the host), steps are launched one by one
    and ``Info.method`` says so. Derivatives are those of ``CG``.
    """

    check_every: int = field(default=CHECK_EVERY, kw_only=True)

    _method: ClassVar[str] = "DeviceCG"
    _costly_facts: ClassVar[bool] = False
    _iterate: ClassVar[Any] = staticmethod(_iterate)

    def __post_init__(self) -> None:
        check_positive("DeviceCG(check_every=...)", self.check_every)

    def _static(self, n: int, limit: int) -> dict[str, Any]:
        return {"check_every": int(self.check_every)}

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return on_accelerator(A, lambda: CG.applicable(self, question, A, *operands))

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        found = CG.cost(self, question, A, *operands)
        found = replace(found, memory=self._memory(A, 7, operands))
        return resident(found, found.matvecs / self.check_every + 5)

    def solve(self, A: Any, b: Array) -> Array:
        with launched():
            return CG.solve(self, A, b)
