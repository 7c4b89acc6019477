"""``A^{1/2} b``, ``A^{-1/2} b``, ``log(A) b`` and other functions of positive operators by a rational
approximation: a contour integral, discretised where it converges geometrically, and a shifted system a node.

Hale, Higham & Trefethen, SINUM 46 (2008) 2505: method 3 for the roots (real shifts), method 1 for functions
that are analytic off the closed negative axis (complex ones). The shifted systems share one Krylov space
(``shifted_minres``; Pleiss et al. 2020), so memory is two vectors a node, whatever the number of steps. Nodes
grow with the logarithm of the condition number.

Error estimate: the difference between two orders of the quadrature, which is the error of the lower one, and
what the residuals of the shifted systems leave.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from ..backends.base import Array, Backend
from ..cost import Cost
from ..dispatch.choose import ask
from ..dispatch.session import SESSION, Session
from ..errors import NotPositiveDefiniteError, PropertyError
from ..properties import PSD, SelfAdjoint
from ..pytree import tree_leaves
from ..reasons import CONVERGED, OUTSIDE, RUNNING
from .base import question_memory, refuse_batches
from .cholesky import check_finite
from .elliptic import elliptic_functions, elliptic_functions_above, quarter_period
from .function_algorithm import FunctionAlgorithm, finish_product
from .shifted_minres import ritz_range, shifted_minres
from .small_function import on_host
from .spectral_bounds import spectral_bounds

__all__ = ["ContourQuadrature"]

ENTIRE = ("exp", "sin", "cos", "sign")
TRACED_CONDITION = 1e6  # of the interval that the number of nodes is made for where values are not known


@dataclass(frozen=True)
class ContourQuadrature(FunctionAlgorithm):
    """f(A) of a positive definite A: sqrt, isqrt, log, powers, and what is analytic off the negative axis.

    tol: of the answer (default 1e-8, 1e-5 in single). max_iters: steps (default ``min(10 n, 2000)``).
    bounds: ``(low, high)`` around all eigenvalues, low > 0; by default from a few Lanczos steps, and wider
    where the run itself finds Ritz values outside. order: nodes, instead of a number chosen from tol and
    bounds. solver: an algorithm for the shifted systems (``SparseLU()``, ``CG(P=...)``) instead of MINRES for
    all shifts at once; with bounds it need not be self-adjoint. key: seed of the steps for the bounds.
    Derivatives, and compiled code, solve shift by shift with CG (complex shifts: GMRES).

    >>> import numpy as np, cola_core as cola
    >>> A = cola.PSD(np.diag(np.logspace(-2, 2, 40)))
    >>> R = cola.isqrt(cola.no_dispatch(A), cola.ContourQuadrature())
    >>> bool(np.allclose(R @ np.ones(40), np.logspace(1, -1, 40)))
    True
    """

    bounds: tuple[float, float] | None = None
    order: int | None = None
    solver: Any = None
    key: Any = field(default=0, kw_only=True)

    kind: ClassVar[str] = "iterative"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        f = operands[0]
        if f.kind in ENTIRE:
            return f"takes functions with a cut along the negative axis, not {f.name}"
        if A.batch_shape:
            return "batches of operators are not supported"
        return True if A.isa(PSD) else "the operator is not declared PSD"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, steps, nodes = A.shape[-1], 100, 15 if self.order is None else self.order
        one = A.matvec_cost + Cost(10 * n * nodes, 6 * A.itemsize * n * nodes, 0, 0, 40)
        total = one * steps
        return Cost(total.flops, total.bytes, question_memory(A, 3 * nodes + 8), steps, total.calls)

    def check(self, A: Any, f: Any) -> None:
        refuse_batches(A, f"ContourQuadrature {f.name}", "Eigh()")
        if f.kind in ENTIRE:
            raise PropertyError(
                f"ContourQuadrature computes functions with a cut along the negative axis, not {f.name}: "
                "use Lanczos(), Arnoldi() or Chebyshev()."
            )
        if not A.isa(SelfAdjoint) and (self.solver is None or self.bounds is None):
            raise PropertyError(
                f"ContourQuadrature({f.name}) of {A!r}: declare the operator SelfAdjoint or PSD; or, if its "
                "eigenvalues are positive, give bounds= around them and a solver= for the shifted systems."
            )
        if self.bounds is not None and not 0 < self.bounds[0] < self.bounds[1]:
            raise ValueError(f"ContourQuadrature(bounds={self.bounds!r}): 0 < low < high is needed.")

    def function_times(self, A: Any, f: Any, X: Array) -> Array:
        be = A._concrete_backend()
        leaves = tree_leaves(A)
        traced = not be.is_concrete(X, *leaves)
        if not traced:
            check_finite(A, X)
        differentiated = traced or any(getattr(x, "requires_grad", False) for x in (X, *leaves))
        tol = self.tolerance(A.dtype)
        low, high, made = self._interval(be, A, f)
        n = A.shape[-1]
        limit = min(10 * n, 2000) if self.max_iters is None else int(self.max_iters)
        method = f"contour {f.name}"
        for _ in range(4):
            condition = TRACED_CONDITION if traced else be.number(high / low)
            orders = self._orders(f, condition, tol)
            if traced:
                rule = _Rule.make(be, A, f, low, high, orders)
            else:  # in double precision on the host
                least, most = np.asarray(be.number(low)), np.asarray(be.number(high))
                rule = _Rule.make(_numpy(), A, on_host(be, A, f), least, most, orders).on(be, A)
            if differentiated or self.solver is not None:
                sums, error, steps, codes, found, products = self._each(be, A, rule, X, tol)
            else:
                with self.watched(method, limit, be, X) as watch:
                    run = be.jit(shifted_minres, static=("steps", "judge", "real_part", "watch"))
                    rows, constant = rule.judged(be)
                    given = (rule.shifts, rows, rule.sizes(be, A), constant, 0.1 * tol, limit)
                    row, part = int(rows.shape[0]) - 1, rule.real
                    found = run(A, X, *given, steps=limit, judge=row, real_part=part, watch=watch)
                sums, error, steps, codes, alphas, betas = found
                steps = int(steps)
                products = steps * X.shape[-1]
                found = ritz_range(be, alphas, betas, steps)
            made = made + products
            outside = self._outside(be, A, f, low, high, found)
            if outside is None:
                break
            codes = be.xp.where(codes == CONVERGED, OUTSIDE, codes)
            if self.bounds is not None:
                break
            low, high = (be.asarray(x, dtype=be.real_dtype(A.dtype), device=A.device) for x in outside)
        Y, error = rule.answer(be, A, sums, error)
        made = made + (2 * X.shape[-1] if rule.times else 0)
        return finish_product(be, method, Y, error, codes, tol, steps, made)

    # -- the interval and the number of nodes ----------------------------------------------------------------
    def _interval(self, be: Backend, A: Any, f: Any) -> tuple[Array, Array, int]:
        real = be.real_dtype(A.dtype)
        if self.bounds is not None:
            return *(be.asarray(float(x), dtype=real, device=A.device) for x in self.bounds), 0
        low, high, made = spectral_bounds(A, True, self.key)
        if be.is_concrete(low):
            _refuse_negative(A, f, be.number(low))
        return low, high, made

    def _orders(self, f: Any, condition: float, tol: float) -> tuple[int, int]:
        """The order returned and the lower one it is compared with, which is to meet the tolerance."""
        if self.order is not None:
            most = max(int(self.order), 2)
            return most, max(most - max(most // 4, 1), 1)
        rate = 2 * math.pi**2 if f.kind in ("sqrt", "isqrt") else math.pi**2
        digits = math.log((10 if f.kind in ("sqrt", "isqrt") else 100) / max(tol, 1e-16))
        least = max(math.ceil((math.log(max(condition, 1.0)) + 3) * digits / rate), 3)
        return least + max(least // 4, 2), least

    def _outside(
        self, be: Backend, A: Any, f: Any, low: Array, high: Array, found: Any
    ) -> tuple[float, float] | None:
        """A wider interval where Ritz values lie outside of this one."""
        if found is None:
            return None
        least, most = found
        a, b = be.number(low), be.number(high)
        _refuse_negative(A, f, least)
        if least >= a * (1 - 1e-6) and most <= b * (1 + 1e-6):
            return None
        return (min(a, 0.5 * least), max(b, 1.1 * most))

    # -- one system after the other --------------------------------------------------------------------------
    def _each(
        self, be: Backend, A: Any, rule: _Rule, X: Array, tol: float
    ) -> tuple[Array, Array, Any, Array, None, Any]:
        """Every shifted system by ``solver``: for derivatives, which are further solves."""
        from ..linalg.solve import SOLVE
        from ..operators import Diagonal, Identity, scale
        from .cg import CG
        from .gmres import GMRES

        xp = be.xp
        wide = xp.result_type(X.dtype, rule.shifts.dtype)
        sizes = rule.sizes(be, A)
        B = be.astype(X, wide)
        error = 0 * be.norm(be.constant(X))
        code = xp.where(error == 0, CONVERGED, RUNNING)
        inner = Session()
        token = SESSION.set(inner)
        whole = A if not be.is_complex(B) or A._is_complex() else A.to(dtype=wide)
        try:
            if self.solver is None:
                given: Any = CG if not be.is_complex(rule.shifts) else GMRES
                shape = (rule.shifts.shape[0], A.shape[-1])
                t = rule.shifts[:, None] + be.zeros(shape, rule.shifts.dtype, be.device(X))
                S = whole + Diagonal(t)
                S = PSD(S) if given is CG else S
                solutions = ask(SOLVE, (S, xp.broadcast_to(B, (shape[0], *B.shape))), given(tol=0.01 * tol))
            else:
                solutions = []
                eye = Identity.like(whole)
                for q in range(rule.shifts.shape[0]):
                    S = whole + scale(rule.shifts[q], eye)
                    S = PSD(S) if A.isa(PSD) and not be.is_complex(rule.shifts) else S
                    solutions.append(ask(SOLVE, (S, B), self.solver))
                solutions = xp.stack(solutions)
        finally:
            SESSION.reset(token)
        sums = xp.stack([
            xp.sum(be.astype(rule.weights[p], solutions.dtype)[:, None, None] * solutions, axis=0)
            for p in (1, 0)
        ])  # fmt: skip
        norm = be.norm(be.constant(X))
        worst = [i.residual for i in inner.infos if i.residual is not None]
        for r in worst:
            error = error + r * norm * (xp.sum(sizes) if len(worst) == 1 else xp.max(sizes))
        steps = sum((i.iterations for i in inner.infos if i.iterations is not None), 0)
        made = sum((i.matvecs for i in inner.infos if i.matvecs is not None), 0)
        made = made * (X.shape[-1] * (rule.shifts.shape[0] if self.solver is None else 1))
        return sums, error, steps, code, None, made


def _numpy() -> Any:
    from ..backends import get_backend

    return get_backend("numpy")


def _refuse_negative(A: Any, f: Any, least: float) -> None:
    if least > 0:
        return
    kind = NotPositiveDefiniteError if A.isa(PSD) else PropertyError
    raise kind(
        f"{f.name} of {A!r}, which has a Ritz value of {least:.3g}: it must be positive definite to working "
        "precision. Add a multiple of the identity, or use Lanczos()."
    )


@dataclass(frozen=True)
class _Rule:
    """``f(A) = [A] Re sum_q weights[p, q] (A + shifts_q)^{-1}`` for two orders p, the one returned first.

    times: whether the sum is multiplied by A. real: whether only its real part is meant.
    """

    shifts: Array
    weights: Array
    low: Array
    high: Array
    times: bool
    real: bool

    @classmethod
    def make(cls, be: Backend, A: Any, f: Any, low: Array, high: Array, orders: tuple[int, int]) -> _Rule:
        xp = be.xp
        nodes = _root_nodes if f.kind in ("sqrt", "isqrt") else _general_nodes
        twice = nodes is _general_nodes and A._is_complex()
        shifts, weights = [], []
        for p, order in enumerate(orders):
            t, w = nodes(be, f, low, high, order)
            if twice:  # without a real answer to take, the other half of the contour
                t, w = xp.concat([t, be.conj(t)]), xp.concat([w, be.conj(w)]) / 2
            zero = xp.zeros_like(w)
            shifts.append(t)
            weights.append(xp.stack([w, zero] if p == 0 else [zero, w]))
        real = nodes is _general_nodes and not twice and f.real
        times = f.kind != "isqrt"
        return cls(xp.concat(shifts), xp.concat(weights, axis=-1), low, high, times, real)

    def on(self, be: Backend, A: Any) -> _Rule:
        """With arrays of A's library and precision."""
        real = be.real_dtype(A.dtype)
        wide = be.xp.result_type(real, be.xp.complex64)

        def array(x: Any) -> Array:
            return be.asarray(x, dtype=wide if np.iscomplexobj(x) else real, device=A.device)

        moved = {n: array(getattr(self, n)) for n in ("shifts", "weights", "low", "high")}
        return replace(self, **moved)

    def sizes(self, be: Backend, A: Any) -> Array:
        """What a unit of residual of each shift adds to the error of the answer at most, (Q,):
        ``|w| max |lambda^s / (lambda + t)|`` over the interval, s = 1 where the sum is multiplied by A."""
        xp = be.xp
        z = -self.shifts
        x = xp.real(z) if be.is_complex(z) else z
        if self.times:
            # the maximum of lambda / |lambda - z| is at |z|^2 / Re z, or at the end where Re z < 0
            worst = xp.where(x > 0, xp.abs(z) ** 2 / xp.where(x > 0, x, xp.ones_like(x)), self.high + 0 * x)
            at = xp.clip(worst, self.low, self.high)
            gain = at / xp.abs(z - at)
        else:
            gain = 1 / xp.abs(z - xp.clip(x, self.low, self.high))
        return be.constant(xp.sum(xp.abs(self.weights), axis=0) * gain)

    def judged(self, be: Backend) -> tuple[Array, Array]:
        """Weights with the answer itself as the last row, and the multiple of b that belongs to it:
        ``A (A + t)^{-1} = I - t (A + t)^{-1}``, which is enough for its norm."""
        xp = be.xp
        first = self.weights[0]
        if not self.times:
            return xp.stack([self.weights[1], first]), xp.sum(0 * first)
        return xp.stack([self.weights[1], first, -first * self.shifts]), xp.sum(first)

    def answer(self, be: Backend, A: Any, sums: Array, error: Array) -> tuple[Array, Array]:
        """``f(A) b`` and the estimate of its error per column; sums: of the lower order, and of the other."""
        xp = be.xp
        sums = xp.stack([sums[1], sums[0]])
        if self.real and be.is_complex(sums):
            sums = xp.real(sums)
        if self.times:
            k = sums.shape[-1]
            if be.is_complex(sums) and not A._is_complex():
                parts = [A._matmat(part(sums[0])) for part in (xp.real, xp.imag)]
                second = [A._matmat(part(sums[1])) for part in (xp.real, xp.imag)]
                sums = xp.stack([parts[0] + 1j * parts[1], second[0] + 1j * second[1]])
            else:
                both = A._matmat(xp.concat([sums[0], sums[1]], axis=-1))
                sums = xp.stack([both[:, :k], both[:, k:]])
        return sums[0], error + be.norm(be.constant(sums[0] - sums[1]))


def _root_nodes(be: Backend, f: Any, low: Array, high: Array, order: int) -> tuple[Array, Array]:
    """``A^{-1/2} = (2/pi) int (A + s^2)^{-1} ds`` with ``s = sqrt(low) sc(v | k')``: method 3."""
    xp = be.xp
    small = xp.sqrt(low / high)
    modulus = xp.sqrt((1 - small) * (1 + small))
    period = quarter_period(xp, small)
    v = be.asarray((np.arange(order) + 0.5) / order, dtype=low.dtype) * period
    sn, cn, dn = elliptic_functions(xp, v, modulus, small)
    shifts = low * (sn / cn) ** 2
    return shifts, 2 / math.pi * xp.sqrt(low) * period / order * dn / cn**2


def _general_nodes(be: Backend, f: Any, low: Array, high: Array, order: int) -> tuple[Array, Array]:
    """Method 1: ``f(A) = A Re sum_q w_q (A - z_q)^{-1}`` for nodes in the upper half plane."""
    xp = be.xp
    root = xp.sqrt(high / low)
    k = (root - 1) / (root + 1)
    complement = xp.sqrt(2 / (root + 1) * (1 + k))
    K, other = quarter_period(xp, complement), quarter_period(xp, k)
    x = -K + 2 * be.asarray((np.arange(order) + 0.5) / order, dtype=low.dtype) * K
    u, cn, dn = elliptic_functions_above(xp, x, other / 2 + 0 * x, k, complement)
    middle = xp.sqrt(low * high)
    z = middle * (1 / k + u) / (1 / k - u)
    factor = -4 * K * middle / (math.pi * order * k)
    w = factor * f.on(be, z) / z * cn * dn / (1 / k - u) ** 2
    # Im(w (z - A)^{-1}) = Re(i w (A - z)^{-1})
    return -z, 1j * w
