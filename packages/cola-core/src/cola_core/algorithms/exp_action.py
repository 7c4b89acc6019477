"""``exp(A) b`` by products with A only. Al-Mohy & Higham, SISC 33 (2011) 488.

``exp(A) b = (T_m(A / s))^s b`` with ``T_m`` the truncated Taylor series, m and s chosen so that the backward
error stays below the tolerance for the 1-norms of (powers of) A at least cost. Norms are estimated from
products (Higham & Tisseur, SIMAX 21 (2000) 1185), or read off stored entries, and may be too small: every
step watches its last terms, and the number of steps doubles where they have not died out, or where terms much
larger than their sum cancel. Where the norm is large and products dear, a Krylov space needs fewer of them
(``krylov_function``); which is cheaper is estimated from the norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..backends.base import Array, Backend
from ..cost import Cost
from ..dispatch.session import aside, record
from ..info import Info
from ..properties import SelfAdjoint
from ..pytree import tree_leaves
from ..reasons import CONVERGED, REASONS, RUNNING, TRACED
from .base import Iterative, question_memory
from .cholesky import check_finite
from .dense_function import only_for
from .progress import Watch, observe

__all__ = ["ExpAction"]

# largest 1-norm of A / s for which the series to degree m has a backward error of 2^-53 (2^-24): the first
# zero of the power series bound (3.6) of the paper minus the unit roundoff
DOUBLE = {
    5: 2.40e-3, 10: 0.144, 15: 0.641, 20: 1.44, 25: 2.43, 30: 3.54, 35: 4.73, 40: 5.97, 45: 7.25, 50: 8.55,
    55: 9.87,
}  # fmt: skip
SINGLE = {
    5: 0.131, 10: 0.995, 15: 2.22, 20: 3.55, 25: 4.93, 30: 6.32, 35: 7.72, 40: 9.13, 45: 10.5, 50: 11.9,
    55: 13.4,
}  # fmt: skip
POWERS_FROM = 63.0  # below it norms of powers cost more products than they save (eq. 3.13)
LETTERS = {"f": "s", "d": "d", "F": "c", "D": "z"}  # BLAS's for NumPy's
TYPICAL_PRODUCTS = 60  # the norm is unknown when the cost is estimated
LARGEST_PEAK = 100.0  # terms beyond it times their sum cancel: take smaller steps
TRACED_DEGREE, TRACED_STEPS = 40, 1024  # under a trace: enough for 1-norms up to 6000


@dataclass(frozen=True)
class ExpAction(Iterative):
    """``exp(A)`` as a lazy operator whose products cost about ``6 |A - mu I|_1`` products with A, at least
    some tens, where mu is about the mean of A's diagonal.

    tol: backward error (default: unit roundoff). max_iters: products with A at most. steps: the number s,
    instead of one chosen from norms; needed where values cannot be looked at (``torch.func``
    transformations). krylov: whether to use a Krylov space instead of the Taylor series; None chooses by
    cost. A callback is told of each of the s steps; where a budget or a callback ends them early, the answer
    is ``exp(A t / s) b`` after t of them, and ``Info.converged`` is False.
    """

    steps: int | None = None
    krylov: bool | None = None

    kind: ClassVar[str] = "iterative"
    # its error is bounded beforehand: only the number of products is a guess
    doubt: ClassVar[float | None] = 2.0

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if operands[0].kind != "exp":
            return f"computes exp only, not {operands[0].name}"
        if A.isa(SelfAdjoint) and not A.batch_shape:
            return "Lanczos needs fewer products for a self-adjoint operator"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        total = (A.matvec_cost + Cost(3 * n, 6 * A.itemsize * n, 0, 0, 6)) * TYPICAL_PRODUCTS
        return Cost(total.flops, total.bytes, question_memory(A, 4), TYPICAL_PRODUCTS, total.calls)

    def apply_unary(self, A: Any, f: Any) -> Any:
        only_for(self, A, f, "exp")
        from ..linalg.exponential import ExponentialAction

        return ExponentialAction(A, self)

    # -- products with exp(A) --------------------------------------------------------------------------------
    def expmv(self, A: Any, X: Array, times: Sequence[float] | None = None) -> Any:
        """``exp(A) X`` for X of shape (*batch, n, k) in A's dtype or the complex one of its precision.

        times: the list of ``exp(t A) X`` for these t instead, from one to the next, norms estimated once.
        """
        be = A._concrete_backend()
        xp = be.xp
        if 0 in X.shape or be.name == "abstract":
            return X if times is None else [X for _ in times]
        leaves = tree_leaves(A)
        if be.name == "torch" and not A.batch_shape and X.ndim == 2 and be.differentiating(X, *leaves):
            if be.is_complex(X) == A._is_complex() and (self.steps is None or be.is_concrete(X, *leaves)):
                return self._differentiated(be, A, X, times)
        check_finite(A, X)
        real = be.real_dtype(X.dtype)
        unit = float(xp.finfo(real).eps) / 2
        tol = unit if self.tol is None else max(float(self.tol), unit)
        norms = _Norms(be, A)
        if times is None:
            return self._advance(be, A, X, norms, 1.0, tol, unit)
        answers: dict[float, Array] = {0.0: X}
        for side in (1, -1):
            here, Y = 0.0, X
            for t in sorted({float(t) for t in times if side * t > 0}, key=abs):
                Y = self._advance(be, A, Y, norms, t - here, tol, unit)
                here, answers[t] = t, Y
        return [answers[float(t)] for t in times]

    def _differentiated(self, be: Backend, A: Any, X: Array, times: Sequence[float] | None) -> Any:
        """The same with derivatives that record none of the steps."""
        from ..linalg.scalar_function import EXP
        from ..operators import scale
        from .function_derivative import FunctionTimes, function_derivative
        from .krylov_derivative import krylov_derivative

        eps = float(be.xp.finfo(be.real_dtype(A.dtype)).eps)
        tol = max(1e-12, 50 * eps) if self.tol is None else max(float(self.tol), 50 * eps)
        krylov = krylov_derivative(bool(A.isa(SelfAdjoint)), tol, 1000)
        quiet = replace(self, callback=None, progress=False, max_iters=None, steps=None)

        def product(B: Any, f: Any, X: Array, adjoint: bool) -> Array:
            with aside():
                return quiet.expmv(B.H if adjoint else B, X)  # type: ignore[no-any-return]

        def value(A: Any, X: Array) -> tuple[Array, None]:
            return self.expmv(A, X), None

        how = FunctionTimes(product, krylov.pairs)

        def advance(Y: Array, t: float) -> Array:
            return function_derivative(how, A if t == 1.0 else scale(t, A), EXP, Y, value)[0]

        if times is None:
            return advance(X, 1.0)
        answers: dict[float, Array] = {0.0: X}
        for side in (1, -1):
            here, Y = 0.0, X
            for t in sorted({float(t) for t in times if side * t > 0}, key=abs):
                Y = advance(Y, t - here)
                here, answers[t] = t, Y
        return [answers[float(t)] for t in times]

    def _advance(
        self, be: Backend, A: Any, X: Array, norms: _Norms, t: float, tol: float, unit: float
    ) -> Array:
        """``exp(t A) X``, reported."""
        table = DOUBLE if unit < 1e-10 else SINGLE
        m: int
        s: Any
        if be.is_concrete(*tree_leaves(A)):
            m, s = self._plan(norms, abs(t), table)
            if self._by_krylov(be, A, X, norms, abs(t), m * s):
                Y = self._krylov(be, A, X, norms, t, tol, unit, m * s)
                if Y is not None:
                    return Y
            made, doublings = norms.spent(), 0
            out, tail, peak, products, code = self._watched_steps(be, A, X, norms.mu, t, m, s, tol)
            while self.steps is None and be.is_concrete(tail, peak) and int(code) == CONVERGED:
                unfinished = 10 * tol < be.number(tail) < float("inf")
                cancelling = LARGEST_PEAK < be.number(peak) < float("inf") and doublings < 6
                if not (unfinished or cancelling):
                    break
                s, made, doublings = 2 * s, made + products, doublings + 1
                out, tail, peak, products, code = self._watched_steps(be, A, X, norms.mu, t, 55, s, tol)
            products = (products + made) * X.shape[-1]
        elif self.steps is not None:
            m, s = 55, int(self.steps)
            out, tail, peak, products, code = self._watched_steps(be, A, X, norms.mu, t, m, s, tol)
        elif be.name == "jax":
            m, norm = TRACED_DEGREE, 2 * abs(t) * _norm_estimate(be, A, norms.mu, 1)[0]
            s, products = be.xp.ceil(norm / table[m]), None
            most = self._most(TRACED_STEPS, m)
            with self.watched("Taylor exp", most, be, X, *tree_leaves(A)) as watch:
                out, tail, peak, code = _traced(A, X, norms.mu, t, s, m, most, watch)
        else:
            raise NotImplementedError(
                f"the number of Taylor steps for exp({A!r}) depends on values, which this transformation "
                "does not show. Give it: exp(A, ExpAction(steps=...)), about the 1-norm of A divided by 10."
            )
        concrete = be.is_concrete(tail, peak)
        lost = unit * s * peak  # what cancellation costs
        error = be.number(tail + lost) if concrete else tail + lost
        met = (be.number(tail) if concrete else tail) <= 10 * tol
        reason = TRACED
        if concrete and be.is_concrete(code):
            ended = int(code)
            if ended != CONVERGED:
                met, reason = False, REASONS[ended]
            else:
                reason = "converged" if met else "the series has not converged: the norm is too large"
        else:
            met = met & (code == CONVERGED)
        record(
            Info(
                method="Taylor exp",
                converged=met,
                reason=reason,
                iterations=int(s) if isinstance(s, int) else s,
                matvecs=products,
                tolerance=tol,
                error_estimate=error,
            )
        )
        return out

    def _most(self, s: int, m: int) -> int:
        """Steps of m products that the budget allows of s."""
        return s if self.max_iters is None else min(s, max(int(self.max_iters) // m, 1))

    def _watched_steps(
        self, be: Backend, A: Any, X: Array, mu: Any, t: float, m: int, s: int, tol: float
    ) -> tuple[Array, Array, Array, int, Any]:
        most = self._most(s, m)
        with self.watched("Taylor exp", most, be, X, *tree_leaves(A)) as watch:
            return _steps(be, A, X, mu, t, m, s, tol, most, watch)

    def _plan(self, norms: _Norms, t: float, table: dict[int, float]) -> tuple[int, int]:
        """Degree and steps. Fragment 3.1 of the paper."""
        if self.steps is not None:
            return 55, max(int(self.steps), 1)
        m, s = _cheapest(t * norms.of_power(1), table, 1)
        if t * norms.of_power(1) > POWERS_FROM and norms.power_helps():
            # norms of powers are smaller for non-normal A: eq. 3.13
            for p in range(2, 5):
                alpha = t * max(norms.of_power(p), norms.of_power(p + 1))
                found = _cheapest(alpha, table, max(p * (p - 1) - 1, 1))
                m, s = min((m, s), found, key=lambda x: x[0] * x[1])
        return m, s

    # -- Krylov ----------------------------------------------------------------------------------------------
    def _by_krylov(self, be: Backend, A: Any, X: Array, norms: _Norms, t: float, taylor: int) -> bool:
        """Whether a Krylov space is expected to be the cheaper way, and possible."""
        if self.krylov is False or A.batch_shape or self.steps is not None or X.ndim != 2:
            return False
        if be.is_complex(X) != A._is_complex() or not be.is_concrete(X):
            return False
        if be.name == "torch" and any(getattr(x, "requires_grad", False) for x in (X, *tree_leaves(A))):
            return False
        if self.krylov:
            return True
        n, k = X.shape
        m = _krylov_steps(A, t * norms.of_power(1))
        if taylor < 150 or m > min(n, 400):
            return False
        one = A.matmat_cost(k)
        terms = (one + Cost(4 * n * k, 6 * A.itemsize * n * k, 0, 0, 6)) * taylor
        basis = one * m + Cost(2 * m * m * n * k, m * m * A.itemsize * n * k, 0, 0, 15 * m)
        small = Cost(k * 100.0 * m**3, 0, 0, 0, 100 * k)
        return (basis + small).seconds * 1.5 < terms.seconds

    def _krylov(
        self, be: Backend, A: Any, X: Array, norms: _Norms, t: float, tol: float, unit: float, taylor: int
    ) -> Array | None:
        """``exp(t A) X`` from a Krylov space; None where it took longer than expected."""
        from ..linalg.scalar_function import EXP
        from ..operators import scale
        from .krylov_function import krylov_function

        size = abs(t) * norms.of_power(1)
        limit = X.shape[-2] if self.krylov else 2 * _krylov_steps(A, size)
        tol = max(tol, 4 * unit * max(size, 10.0))
        S = A if t == 1.0 else scale(t, A)
        if self.max_iters is not None:
            limit = min(limit, int(self.max_iters))
        with self.watched("Krylov exp", limit) as watch:
            Y, info = krylov_function(S, EXP, X, A.isa(SelfAdjoint), tol, limit, None, watch)
        if info.reason == REASONS[RUNNING] and not self.krylov:
            norms.made += int(info.matvecs) // X.shape[-1]
            return None
        record(info.replace(method=f"{info.method} (for its Taylor series: {taylor} products)"))
        return Y


def _krylov_steps(A: Any, size: float) -> int:
    """About how many steps exp takes: the radius of the spectrum, or for self-adjoint A its root."""
    if A.isa(SelfAdjoint):
        return int(min(size, 6 * size**0.5) + 30)
    return int(size + 30)


class _Norms:
    """What is known of ``A - mu I``: mu, norms of powers, and the products spent on them."""

    def __init__(self, be: Backend, A: Any) -> None:
        from ..operators import Dense, Sparse

        self.be, self.A, self.made = be, A, 0
        self.found: dict[int, float] = {}
        concrete = be.is_concrete(*tree_leaves(A)) and not A.batch_shape
        if concrete and isinstance(A, Dense):
            self.mu = be.constant(be.xp.sum(be.xp.linalg.diagonal(A.array)) / A.shape[-1])
        elif concrete and isinstance(A, Sparse):
            data = be.constant(A.data)
            on = A.rows == A.cols
            self.mu = be.xp.sum(be.xp.where(on, data, be.xp.zeros_like(data))) / A.shape[-1]
            if be.name == "numpy":  # entries that are not stored move by mu, too: a bound of those
                sizes = np.bincount(A.cols, np.abs(data - on * self.mu), minlength=A.shape[-1])
                missing = np.bincount(A.cols[on], minlength=A.shape[-1]) == 0
                self.found[1] = float((sizes + missing * abs(self.mu)).max(initial=0.0))
        else:
            self.mu = _mean_diagonal(be, A)
            self.made = 4

    def of_power(self, p: int) -> float:
        """``|(A - mu I)^p|_1^(1/p)``, about."""
        if p not in self.found:
            norm, made = _norm_estimate(self.be, self.A, self.mu, p)
            self.made += made
            value = self.be.number(norm)
            if not value < float("inf"):
                from ..errors import NonFiniteError

                raise NonFiniteError(f"exp({self.A!r}): a product with the operator is NaN or infinite.")
            self.found[p] = value ** (1 / p)
        return self.found[p]

    def power_helps(self) -> bool:
        """Whether norms of powers promise to be smaller than powers of the norm, from a first look."""
        if 2 in self.found:
            return self.found[2] < 0.7 * self.found[1]
        norm, made = _norm_estimate(self.be, self.A, self.mu, 2, rounds=2)
        self.made += made
        return self.be.number(norm) ** 0.5 < 0.7 * self.of_power(1)

    def spent(self) -> int:
        """Products since the last time this was asked."""
        made, self.made = self.made, 0
        return made


def _cheapest(norm: float, table: dict[int, float], least: int) -> tuple[int, int]:
    if norm == 0:
        return 5, 1
    options = [(m, max(math.ceil(norm / theta), 1)) for m, theta in table.items() if m >= least]
    return min(options, key=lambda x: (x[0] * x[1], x[0]))


def _mean_diagonal(be: Any, A: Any) -> Any:
    """About the mean of the diagonal, a constant.

    ``exp(A) = e^mu exp(A - mu I)`` holds for any mu; this one makes the norm, and what cancels, smaller.
    """
    n = A.shape[-1]
    Z = _signs(be, A, 4)
    return be.constant(be.xp.mean(be.inner(Z, A._matmat(Z)), axis=-1) / n)


def _signs(be: Any, A: Any, k: int) -> Array:
    """Fixed signs: an answer must not depend on a key that nobody gave."""
    signs = 2.0 * np.random.default_rng(k).integers(0, 2, size=(A.shape[-1], k)) - 1
    return be.asarray(signs, dtype=A.dtype, device=A.device)


def _shifted(be: Any, A: Any, mu: Any, X: Array) -> Array:
    return A._matmat(X) - mu[..., None, None] * X


def _norm_estimate(be: Any, A: Any, mu: Any, p: int, rounds: int = 5) -> tuple[Array, int]:
    """About ``|(A - mu I)^p|_1``, from below, and the products made: exact for stored entries, else up to
    five products with two columns and their adjoints (or, where there is no adjoint, the growth of random
    vectors)."""
    from ..operators import Dense

    xp, n = be.xp, A.shape[-1]
    if isinstance(A, Dense) and p == 1:
        M = A.array - mu[..., None, None] * be.eye(n, A.dtype, A.device)
        return be.constant(xp.max(xp.sum(xp.abs(M), axis=-2))), 0

    def forward(X: Array) -> Array:
        for _ in range(p):
            X = _shifted(be, A, mu, X)
        return X

    def backward(X: Array) -> Array:
        for _ in range(p):
            X = A._rmatmat(X) - be.conj(mu)[..., None, None] * X
        return X

    start = _signs(be, A, 2)
    best: Any = None
    try:
        if A.batch_shape:
            raise NotImplementedError
        X = xp.concat([xp.ones_like(start[:, :1]), start[:, 1:]], axis=-1) / n
        made = 0
        for _ in range(rounds):
            Y = forward(X)
            made += p
            size = xp.max(xp.sum(xp.abs(Y), axis=-2))
            grown = best is None or not be.is_concrete(size, best) or bool(size > best)
            best = size if best is None else xp.maximum(best, size)
            if not grown:
                break
            magnitude = xp.abs(Y)
            S = xp.where(magnitude > 0, Y / xp.where(magnitude > 0, magnitude, 1 + 0 * magnitude), 1 + 0 * Y)
            rows = xp.max(xp.abs(backward(S)), axis=-1)
            made += p
            top = xp.argsort(-rows)[: min(2, n)]
            X = be.astype(xp.arange(n, device=be.device(start))[:, None] == top[None, :], A.dtype)
        return be.constant(best), 2 * made
    except NotImplementedError:
        X, best = start, None
        for _ in range(2 * rounds):
            X = X / xp.max(xp.sum(xp.abs(X), axis=-2))
            X = forward(X)
            size = xp.max(xp.sum(xp.abs(X), axis=-2))
            best = size if best is None else xp.maximum(best, size)
        return be.constant(2 * best), 4 * rounds * p


def _largest(be: Any, X: Array) -> Array:
    return be.xp.max(be.xp.abs(be.constant(X)))


def _steps(
    be: Any, A: Any, X: Array, mu: Any, t: float, m: int, s: int, tol: float, most: int, watch: Watch | None
) -> tuple[Array, Array, Array, int, Any]:
    """The first ``most`` of s steps with degree m: the answer; the sizes of the last and the largest terms
    relative to their sum; products made; CONVERGED, or why the steps ended early."""
    xp = be.xp
    if be.name == "jax":
        run = be.jit(_compiled, static=("m", "s", "most", "watch"))
        *found, code = run(A, X, mu, t, m=m, s=s, most=most, watch=watch)
        return *found, m * most, code
    if be.name == "numpy" and X.ndim == 2 and not A.batch_shape:
        return _steps_in_place(A, X, complex(mu), t, m, s, tol, most, watch)
    tail, products = 0 * _largest(be, X), 0
    peak = tail
    code = CONVERGED if most == s else RUNNING
    for step in range(1, most + 1):
        term = X
        before = _largest(be, term)
        last = top = before
        for j in range(1, m + 1):
            term = _shifted(be, A, mu, term) * (t / (s * j))
            products += 1
            X = X + term
            now = _largest(be, term)
            last, before, top = before + now, now, xp.maximum(top, now)
            if be.is_concrete(last) and not bool(last > tol * _largest(be, X)):
                break
        size = _safe(be, _largest(be, X))
        tail, peak = xp.maximum(tail, last / size), xp.maximum(peak, top / size)
        X = X * xp.exp(mu * (t / s))[..., None, None]
        verdict = RUNNING if watch is None else watch(step, be.number(tail) if be.is_concrete(tail) else 0.0)
        if verdict != RUNNING and step < s:
            code = verdict
            break
    return X, tail, peak, products, code


def _steps_in_place(
    A: Any, X: Array, mu: complex, t: float, m: int, s: int, tol: float, most: int, watch: Watch | None
) -> tuple[Array, Any, Any, int, int]:
    """The same with NumPy, in three passes over memory a term."""
    from scipy.linalg import blas

    from ..backends.numpy_backend import _blas

    single = X.shape[-1] == 1
    dtype = np.result_type(X.dtype, A.dtype)
    total = np.array(X[:, 0] if single else X, dtype=dtype, order="C")
    flat = total.reshape(-1)
    if dtype.kind != "c":
        mu = mu.real
    axpy, scal = (_blas(name, flat) for name in ("axpy", "scal"))
    amax = getattr(blas, f"i{LETTERS[dtype.char]}amax")
    product = A._matvec if single else A._matmat
    tail = peak = 0.0
    products = 0

    def largest(x: Any) -> float:
        return float(abs(x[amax(x)]))

    growth = np.exp(mu * (t / s))
    code = CONVERGED if most == s else RUNNING
    for step in range(1, most + 1):
        term: Any = total
        before = last = top = largest(flat)
        for j in range(1, m + 1):
            following = product(term)
            if following is term or following.dtype != dtype or not following.flags.c_contiguous:
                following = np.array(following, dtype=dtype, order="C")
            w = following.reshape(-1)
            if mu != 0:
                axpy(term.reshape(-1), w, a=-mu)
            scal(t / (s * j), w)
            axpy(w, flat)
            products += 1
            now = largest(w)
            last, before, top, term = before + now, now, max(top, now), following
            if not last > tol * largest(flat):
                break
        size = largest(flat) or 1.0
        tail, peak = max(tail, last / size), max(peak, top / size)
        if growth != 1:
            scal(growth, flat)
        verdict = RUNNING if watch is None else watch(step, tail)
        if verdict != RUNNING and step < s:
            code = verdict
            break
    if not np.isfinite(np.vdot(flat, flat)) and not np.isfinite(flat).all():
        tail = float("nan")
    out = total[:, None] if single else total
    return out, np.asarray(tail), np.asarray(peak), products, code


def _safe(be: Any, size: Array) -> Array:
    return be.xp.where(size > 0, size, 1 + 0 * size)


def _taylor(be: Any, A: Any, state: Any, mu: Any, t: Any, s: Any, m: int) -> tuple[Array, Array, Array]:
    """One step, with a fixed number of terms."""
    import jax

    xp = be.xp
    start, tail, peak = state

    def add(j: Any, state: Any) -> Any:
        X, term, top = state
        term = _shifted(be, A, mu, term) * (t / (s * (j + 1)))
        return X + term, term, xp.maximum(top, _largest(be, term))

    X, last, top = jax.lax.fori_loop(0, m, add, (start, start, _largest(be, start)))
    size = _safe(be, _largest(be, X))
    tail, peak = xp.maximum(tail, _largest(be, last) / size), xp.maximum(peak, top / size)
    return X * xp.exp(mu * (t / s))[..., None, None], tail, peak


def _start(be: Any, A: Any, X: Array, mu: Any) -> Array:
    """X with the batch and dtype that the answer has, so that loops keep their types."""
    return X + 0 * _shifted(be, A, mu, X)


def _compiled(
    A: Any, X: Array, mu: Any, t: Any, *, m: int, s: int, most: int, watch: Watch | None
) -> tuple[Array, Array, Array, Array]:
    import jax

    be: Any = A._concrete_backend()
    xp = be.xp
    X = _start(be, A, X, mu)
    none = 0 * _largest(be, X)
    whole = xp.asarray(CONVERGED if most == s else RUNNING)
    step = jax.checkpoint(lambda state: _taylor(be, A, state, mu, t, s, m))
    if watch is None:
        return *jax.lax.fori_loop(0, most, lambda _, state: step(state), (X, none, none)), whole

    def turn(i: Any, state: Any) -> Any:
        def made(state: Any) -> Any:
            Y, tail, peak = step(state[:3])
            return Y, tail, peak, observe(be, watch, i + 1, tail, state[3])

        return jax.lax.cond(state[3] == RUNNING, made, lambda state: state, state)

    *found, code = jax.lax.fori_loop(0, most, turn, (X, none, none, xp.asarray(RUNNING)))
    return *found, xp.where(code == RUNNING, whole, code)


def _traced(
    A: Any, X: Array, mu: Any, t: float, s: Array, m: int, most: int, watch: Watch | None
) -> tuple[Array, Array, Array, Array]:
    """A number of steps that is itself traced: a fixed number of turns, most of them skipped, so that
    reverse-mode differentiation works; NaN where they do not suffice."""
    import jax

    be: Any = A._concrete_backend()
    xp = be.xp
    s = xp.maximum(s, 1)
    X = _start(be, A, X, mu)
    none = 0 * _largest(be, X)
    step = jax.checkpoint(lambda state: _taylor(be, A, state, mu, t, s, m))

    def turn(i: Any, state: Any) -> Any:
        def made(state: Any) -> Any:
            Y, tail, peak = step(state[:3])
            return Y, tail, peak, observe(be, watch, i + 1, tail, state[3])

        return jax.lax.cond((i < s) & (state[3] == RUNNING), made, lambda state: state, state)

    out, tail, peak, code = jax.lax.fori_loop(0, most, turn, (X, none, none, xp.asarray(RUNNING)))
    code = xp.where((code == RUNNING) & (s <= most), CONVERGED, code)
    enough = s <= TRACED_STEPS
    tail = xp.where(enough, tail, float("inf"))
    return xp.where(enough, out, xp.full_like(out, float("nan"))), tail, peak, code
