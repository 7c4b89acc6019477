"""``LeastSquaresSolver``: what LSQR, LSMR and CGLS do alike.

A method is a function ``_iterate(A, B, bnorm, tol, limit, conlim, *, watch) -> Outcome`` that runs from
zero. Around it stand the first guess and the right preconditioner (a shorter problem for the correction),
damping (the operator with ``damp I`` below it), the two stopping rules of Paige & Saunders 1982, sec. 6,
and the check at the end: the residual r and ``A^H r`` are recomputed, and where the recurrence had drifted
the method runs again on what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..backends.base import Array, Backend
from ..cost import Cost
from ..dispatch.session import aside, record
from ..info import Info
from ..operators import Concatenated, Product, ScalarMul
from ..pytree import map_leaves
from ..reasons import (
    CONVERGED,
    DRIFTED,
    ILL_CONDITIONED,
    INCONSISTENT,
    NONFINITE,
    RUNNING,
    TRACED,
)
from .base import Iterative, question_memory, typical_steps, waits
from .derivative_solve import Derivative, solved
from .iteration import (
    as_preconditioner,
    column_scale,
    differentiated,
    extreme_scale,
    finite_columns,
    first_guess,
    outcome,
    prepare,
    relative_to,
)
from .pseudoinverse import pseudo_solved

__all__ = ["LeastSquaresSolver", "Outcome", "first_code", "next_code"]

MOST_RESTARTS = 5
LEAST_ENTRIES = 4_000_000  # fewer are factorised in a second, and the factorisation finds the rank

LEAST_SQUARES = "least-squares solution: the residual is orthogonal to the range"


class Outcome(NamedTuple):
    """What a run gives: per column the code (INCONSISTENT: ended at a least-squares solution), and
    estimates of the norm of A (Frobenius) and of its condition number."""

    X: Array
    steps: Any
    products: Any
    codes: Array
    norm: Array
    condition: Array


def first_code(be: Backend, bnorm: Array, alpha: Array, beta: Array, tol: Any) -> Array:
    """Codes before the first step: beta the norm of the right-hand side, alpha that of A^H times it."""
    xp = be.xp
    code = xp.where(beta <= tol * bnorm, CONVERGED, RUNNING)
    code = xp.where((code == RUNNING) & (alpha == 0), INCONSISTENT, code)
    return xp.where((code == RUNNING) & ~xp.isfinite(alpha), NONFINITE, code)


def next_code(
    be: Backend,
    code: Array,
    bnorm: Array,
    rnorm: Array,
    snorm: Array,
    norm: Array,
    condition: Array,
    tol: Any,
    conlim: Any,
) -> Array:
    """Codes after a step, from the norms of r, A^H r and A and the condition number."""
    xp = be.xp
    if be.is_concrete(rnorm):
        going = (rnorm > tol * bnorm) & (snorm > tol * norm * rnorm) & (condition < conlim)
        if bool(xp.all(going)):
            return code
    live = code == RUNNING
    code = xp.where(live & ~(xp.isfinite(rnorm) & xp.isfinite(snorm)), NONFINITE, code)
    code = xp.where((code == RUNNING) & (rnorm <= tol * bnorm), CONVERGED, code)
    code = xp.where((code == RUNNING) & (snorm <= tol * norm * rnorm), INCONSISTENT, code)
    return xp.where((code == RUNNING) & (condition >= conlim), ILL_CONDITIONED, code)


@dataclass(frozen=True)
class LeastSquaresSolver(Iterative):
    """Base of the iterations for ``min |b - A x|``. ``_method``: the name in the Info.

    The Info of a least-squares answer has ``|b - A x| / |b|`` as residual and ``|A^H r| / (|A| |r|)`` (with
    A P in the place of A if there is a preconditioner) as normal_residual, both recomputed; it has
    converged if one of them meets the tolerance. As a solver of ``A x = b`` only the residual counts.
    """

    x0: Any = None
    P: Any = None
    damp: float = 0.0
    conlim: float | None = None

    _method: ClassVar[str] = ""
    _iterate: ClassVar[Callable[..., Outcome]]
    _vectors: ClassVar[int] = 4

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        m, n = A.shape[-2:]
        if question != "lstsq":
            return True
        if operands[1] is not None:
            return "it cannot tell which singular values count as zero (rcond)"
        if m * n < LEAST_ENTRIES or A.matvec_cost.flops > m * n / 8:
            return "a factorisation is affordable, and it finds the rank"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        m, n = A.shape[-2:]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        steps = typical_steps(min(m, n), self.tol, A.dtype)
        vectors = Cost(4 * (m + 2 * n) * k, 8 * A.itemsize * (m + 2 * n) * k, 0, 0, 25, syncs=waits(A, 3))
        total = (A.matmat_cost(k) * 2 + vectors) * steps
        return Cost(
            total.flops,
            total.bytes,
            question_memory(A, 2 * self._vectors * k),
            2 * steps,
            total.calls,
            syncs=total.syncs,
        )

    def solve(self, A: Any, b: Array) -> Array:
        """``A x = b`` for a square A."""
        if self.damp:
            raise ValueError(f"{self._method}(damp=...) does not solve A x = b; use lstsq.")
        be, B, vector = prepare(A, b)
        if 0 in B.shape:
            return B[..., 0] if vector else B
        tol = self.tolerance(B.dtype)
        P: Any = None
        limit = self._limit(A)
        X0 = self._first(be, A, B)

        def run(P: Any, X0: Array | None) -> Any:
            def solve(A: Any, rhs: Array) -> Any:
                X, out, (rnorm, _) = self._refined(be, A, P, rhs, X0, tol, limit, solving=True)
                return X, (out[1:], rnorm)

            return solve

        def told(A: Any, X: Array, B: Array, found: Any) -> Info:
            (steps, products, codes, norm, condition), rnorm = found
            return outcome(
                be, A, self._method, X, B, tol, steps, products, codes, rnorm,
                norm=be.xp.max(norm), condition=be.xp.max(condition), estimated=P is None,
            )  # fmt: skip

        def again(P: Any) -> Any:
            def solve(A: Any, rhs: Array) -> Any:
                X, found = run(P, None)(A, rhs)
                return X, told(A, X, rhs, found), found

            return solve

        if differentiated(be, A, B):
            P = as_preconditioner(self.P, map_leaves(be.constant, A))
            X0 = None if X0 is None else be.constant(X0)
            adjoint = None if P is None else P.H
            X = solved(be, A, B, run(P, X0), again(P), again(adjoint), told)
        else:
            P = as_preconditioner(self.P, A)
            X, found = run(P, X0)(A, B)
            record(told(A, X, B, found))
        return X[..., 0] if vector else X

    def lstsq(self, A: Any, b: Array, rcond: Any) -> Array:
        """The x of least norm that minimises ``|b - A x|`` (``|b - A x|^2 + damp^2 |x|^2``)."""
        if rcond is not None:
            raise ValueError(
                f"lstsq by {self._method}() does not know the singular values, so that rcond has no meaning; "
                "use LSTSQ()."
            )
        be, B, vector = prepare(A, b)
        n = A.shape[-1]
        if 0 in B.shape or 0 in A.shape:
            X = be.zeros((*B.shape[:-2], n, B.shape[-1]), B.dtype, be.device(B))
            return X[..., 0] if vector else X
        tol = self.tolerance(B.dtype)
        P = as_preconditioner(self.P, A)
        X0, limit = self._first(be, A, B), self._limit(A)
        if self.damp:
            A = Concatenated(A, ScalarMul(float(self.damp), n))
            B = be.xp.concat([B, be.zeros((*B.shape[:-2], n, B.shape[-1]), B.dtype, be.device(B))], axis=-2)
        if differentiated(be, A, B):
            X, info = self._differentiable(be, A, P, B, X0, tol, limit)
        else:
            X, out, norms = self._refined(be, A, P, B, X0, tol, limit)
            info = self._info(be, A, P, X, B, tol, out, norms)
        record(info)
        return X[..., 0] if vector else X

    # -- parts -----------------------------------------------------------------------------------------------
    def _limit(self, A: Any) -> int:
        return min(10 * min(A.shape[-2:]), 10_000) if self.max_iters is None else int(self.max_iters)

    def _first(self, be: Backend, A: Any, B: Array) -> Array | None:
        if self.x0 is None:
            return None
        shape = (*B.shape[:-2], A.shape[-1], B.shape[-1])
        return first_guess(be, type(self).__name__, self.x0, be.zeros(shape, B.dtype, be.device(B)))

    def _once(
        self, be: Backend, A: Any, P: Any, B: Array, X: Array | None, bnorm: Array, tol: float, limit: Any
    ) -> tuple[Array, Outcome]:
        """One run from X (None: zero), for a correction in the range of P."""
        rest = B if X is None else B - A @ X
        scale = column_scale(be, rest)
        if scale is not None:
            rest, bnorm = rest / scale, bnorm / be.xp.real(scale[..., 0, :])
        eps = float(be.xp.finfo(be.real_dtype(B.dtype)).eps)
        conlim = 1 / eps if self.conlim is None else float(self.conlim)
        M = A if P is None else Product(A, P)
        quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
        with aside(), quiet, self.watched(self._method, limit, be, B) as watch:
            iterate = be.jit(type(self)._iterate, static=("watch",))
            out = iterate(M, rest, bnorm, tol, limit, conlim, watch=watch)
            size = extreme_scale(be, M.H, rest, out.norm)
            if size is not None:
                out = iterate(M * (1 / size), rest, bnorm, tol, limit, conlim, watch=watch)
                out = out._replace(X=out.X / size, norm=out.norm * size)
            if watch is not None and be.name == "jax" and be.is_concrete(B):
                be.to_numpy(out.codes)  # the loop runs on its own: wait for it
        with aside(), np.errstate(over="ignore", invalid="ignore"):
            Y = out.X if scale is None else out.X * scale
            Y = Y if P is None else P @ Y
            Y, codes = finite_columns(be, Y, None, out.codes)
        out = out._replace(codes=codes)
        made = out.products + (0 if X is None else 1)
        return (Y if X is None else X + Y), out._replace(products=made)

    def _refined(
        self,
        be: Backend,
        A: Any,
        P: Any,
        B: Array,
        X: Array | None,
        tol: float,
        limit: int,
        solving: bool = False,
    ) -> tuple[Array, Outcome, Any]:
        """Run, recompute the residuals, and run again on what is left while the recurrence had drifted."""
        xp = be.xp
        bnorm = be.frobenius(B, axis=-2)
        X, out = self._once(be, A, P, B, X, bnorm, tol, limit)
        if not be.is_concrete(X):
            return X, out, (None, None)
        for restart in range(MOST_RESTARTS + 1):
            rnorm, snorm = _norms(be, A, P, X, B)
            out = out._replace(products=out.products + (1 if solving else 2))
            good = rnorm <= 1.1 * tol * bnorm
            if not solving:
                good = good | _orthogonal(be, X if P is None else None, bnorm, rnorm, snorm, out.norm, tol)
            ended = (out.codes == CONVERGED) | ((out.codes == INCONSISTENT) & (not solving))
            drifted = ended & ~good & xp.isfinite(rnorm)
            if restart == MOST_RESTARTS or out.steps >= limit or not bool(xp.any(drifted)):
                break
            again, more = self._once(be, A, P, B, X, bnorm, tol, limit - int(out.steps))
            new, _ = _norms(be, A, P, again, B)
            if not bool(xp.any(new < rnorm)) and solving:
                break
            X = xp.where(drifted[..., None, :], again, X)
            steps, products = out.steps + more.steps, out.products + more.products
            codes = xp.where(drifted, more.codes, out.codes)
            norm, condition = xp.maximum(out.norm, more.norm), xp.maximum(out.condition, more.condition)
            out = Outcome(X, steps, products, codes, norm, condition)
        return X, out, (rnorm, snorm)

    def _differentiable(
        self, be: Backend, A: Any, P: Any, B: Array, X0: Array | None, tol: float, limit: int
    ) -> tuple[Array, Info]:
        """``X0 + P (A P)^+ (B - A X0)`` with the derivatives of a pseudoinverse (see ``pseudoinverse``)."""
        rest = B if X0 is None else B - A @ X0
        M = A if P is None else Product(A, P)
        derivative = Derivative.here()

        def value(M: Any, rhs: Array) -> Any:
            Y, out, norms = self._refined(be, M, None, rhs, None, tol, limit)
            return Y, (out[1:], norms)

        def again(M: Any, rhs: Array) -> Any:
            Y, out, norms = self._refined(be, M, None, rhs, None, tol, limit)
            return Y, self._info(be, M, None, Y, rhs, tol, out, norms), None

        Y, (facts, norms) = pseudo_solved(be, M, rest, value, derivative.solves(be, again), tol, self._method)
        X = Y if P is None else P @ Y
        X = X if X0 is None else X0 + X
        fixed = map_leaves(be.constant, A), map_leaves(be.constant, P), be.constant(X), be.constant(B)
        norms = norms if X0 is None and P is None else None
        info = self._info(be, *fixed, tol, Outcome(fixed[2], *facts), norms)
        derivative.failed = info.converged is False
        return X, info

    def _info(
        self, be: Backend, A: Any, P: Any, X: Array, B: Array, tol: float, out: Outcome, norms: Any
    ) -> Info:
        """Convergence, decided from the recomputed norms."""
        xp = be.xp
        products = out.products
        bnorm = be.frobenius(B, axis=-2)
        if norms is None or norms[0] is None:
            norms, products = _norms(be, A, P, X, B), products + 2
        rnorm, snorm = norms
        relative = relative_to(be, rnorm, bnorm)
        normal = relative_to(be, snorm, out.norm)
        small = relative <= 1.1 * tol
        good = small | _orthogonal(be, None if P is not None else X, bnorm, rnorm, snorm, out.norm, tol)
        codes = xp.where((out.codes == CONVERGED) | (out.codes == INCONSISTENT), DRIFTED, out.codes)
        codes = xp.where(good, CONVERGED, xp.where(xp.isfinite(rnorm), codes, NONFINITE))
        info = Info(
            method=self._method,
            converged=xp.all(good),
            reason=TRACED,
            codes=codes,
            iterations=out.steps,
            matvecs=products,
            residual=xp.max(relative),
            residuals=relative,
            tolerance=tol,
            normal_residual=xp.max(normal),
            norm=xp.max(out.norm),
            condition=xp.max(out.condition),
        )
        if be.is_concrete(good, small, relative, out.steps):
            if bool(xp.all(good)) and not bool(xp.all(small)):
                info = info.replace(reason=LEAST_SQUARES)
            info = info.concrete(be)
        return info


def _norms(be: Backend, A: Any, P: Any, X: Array, B: Array) -> tuple[Array, Array]:
    """``|r|`` of ``r = b - A x``, and ``|(A P)^H r| / |r|``, however large or small r is."""
    R = B - A @ X
    rnorm = be.frobenius(R, axis=-2)
    power: Any = column_scale(be, R, always=True)  # exact, so that a zero stays one
    S = A.H @ (R / power)
    with aside():
        snorm = be.frobenius(S if P is None else P.H @ S, axis=-2)
    return rnorm, relative_to(be, snorm, rnorm / power[..., 0, :])


def _orthogonal(
    be: Backend, X: Array | None, bnorm: Array, rnorm: Array, snorm: Array, norm: Array, tol: float
) -> Array:
    """``|A^H r| <= tol |A| |r|`` (snorm is ``|A^H r| / |r|``), up to the rounding with which r itself is
    known."""
    xp = be.xp
    eps = float(xp.finfo(bnorm.dtype).eps)
    size = bnorm if X is None else bnorm + norm * be.frobenius(X, axis=-2)
    rounding = xp.where(rnorm > 0, size / xp.where(rnorm > 0, rnorm, xp.ones_like(rnorm)), size)
    return (snorm <= norm * (1.1 * tol + 4 * eps * rounding)) & xp.isfinite(rounding) & xp.isfinite(norm)
