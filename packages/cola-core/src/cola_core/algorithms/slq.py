"""Traces of functions by stochastic Lanczos quadrature. Ubaru, Chen & Saad, SIMAX 38 (2017) 1075.

``tr f(A)``, log-determinants among them, as the mean of Gauss quadratures over random signs. The reported
error has two parts: the Monte Carlo standard error, and the quadrature's own (truncation) error, estimated
from the change between ``m/2`` and ``m`` steps continued at its observed rate; at high condition numbers the
second dominates. A preconditioner P, close to the inverse of A, is split off: ``log det A = tr log(R^H A R) -
log det P`` for ``P = R R^H``, which leaves fewer steps and less variance (Gardner et al., NeurIPS 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import record
from ..errors import NonFiniteError, NotPositiveDefiniteError
from ..info import Info
from ..properties import PSD, SelfAdjoint
from ..pytree import map_leaves, tree_leaves
from ..reasons import REASONS, RUNNING, SINGULAR
from .base import Iterative, question_memory, refuse_batches, waits
from .cg import CG
from .derivative_solve import Derivative
from .iteration import as_preconditioner
from .krylov import Tridiagonal, lanczos
from .lanczos import Lanczos
from .sketch import look, next_key, spread

__all__ = ["SLQ"]


@dataclass(frozen=True)
class SLQ(Iterative):
    """``log det A`` of a PSD operator, or the trace of a lazy f(A) of a self-adjoint one, from products only.

    tol: wanted total error relative to max(|log det|, n), or to the trace (default 1e-2). max_iters: Lanczos
    steps at most (default 256; doubled from 32 while truncation dominates). P: an operator (or function of A
    that makes one) close to the inverse of A, with a root and a determinant of its own; log-determinants
    only. samples: probes of the first round; more are added up to max_samples. key: seed. Watched between
    rounds. Derivatives: an estimate of them from the same probes, by one batched solve to ``tol / 10``.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.PSD(cola.no_dispatch(np.diag(np.linspace(1.0, 2.0, 400))))
    >>> value, info = cola.trace(cola.exp(A, cola.Lanczos()), cola.SLQ(tol=1e-3), return_info=True)
    >>> bool(abs(value - np.exp(np.linspace(1, 2, 400)).sum()) < 4 * info.standard_error)
    True
    """

    tol: float = 1e-2
    max_iters: int = 256
    P: Any = None
    samples: int = 16
    max_samples: int = 512
    key: Any = 0

    kind: ClassVar[str] = "stochastic"
    doubt: ClassVar[float | None] = 5.0  # rounds are added and recurrences doubled as the tolerance demands

    # For subclasses that make the steps in another way: the name in the Info, the solver of derivatives, and
    # after how many steps a sweep looks whether every recurrence has broken down.
    _method: ClassVar[str] = "SLQ"
    _solver: ClassVar[type] = CG
    _look_every: ClassVar[int] = 1

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if A.batch_shape:
            return "batches of operators are not supported"
        if question == "trace":
            found = _behind(A)
            return found if isinstance(found, str) else True
        return True if A.isa(PSD) else "the operator is not declared PSD"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        inside = _behind(A) if question == "trace" else (A, None)
        A = A if isinstance(inside, str) else inside[0]
        # a loose tolerance is met by the first round; a common one takes two, of longer recurrences.
        # Projecting twice on half the basis, its mean length, is 4 m^2 n flops and reads it four times
        loose = self.tol >= 3e-2
        n, m, s = A.shape[-1], min(32 if loose else 64, A.shape[-1]), self.samples * (1 if loose else 2)
        one = A.matmat_cost(s) + Cost(4 * m * n * s, 2 * m * A.itemsize * n * s, 0, 0, 10, syncs=waits(A, 2))
        total = one * m
        held = question_memory(A, min(self.max_iters, n) * self.samples)
        return Cost(total.flops, total.bytes, held, m * s, total.calls, syncs=total.syncs)

    def slogdet(self, A: Any) -> tuple[Array, Array]:
        refuse_batches(A, self._method, "Cholesky() or LU()")
        be = A._concrete_backend()
        one = be.xp.ones_like(be.zeros((), be.real_dtype(A.dtype), A.device))
        if A.shape[-1] == 0:
            return one, 0 * one
        n = float(A.shape[-1])
        if self.P is None:
            return one, self._answer(A, None, _logarithm, n, 0 * one)
        # the value does not depend on P, only its error does: no derivative goes there
        R, known = _preconditioning(A, as_preconditioner(self.P, map_leaves(be.constant, A)))
        return one, self._answer(A, R, _logarithm, n, -known)

    def trace(self, A: Any) -> Array:
        """The trace of a lazy f(A) or inverse."""
        refuse_batches(A, self._method, "XTrace()")
        be = A._concrete_backend()
        found = _behind(A)
        if isinstance(found, str):
            raise NotImplementedError(f"SLQ of the trace of {A!r}: {found}. Use XTrace() or Hutchinson().")
        if A.shape[-1] == 0:
            return be.zeros((), A.dtype, A.device)
        zero = be.zeros((), be.real_dtype(A.dtype), A.device)
        return be.astype(self._answer(found[0], None, found[1], 0.0, zero), A.dtype)

    def _answer(self, A: Any, R: Any, f: _Function, least: float, known: Array) -> Array:
        """``known + tr f(R^H A R)``, differentiated as ``E[z^H f'(A) dA z]`` with the probes of the value.
        (With R: the logarithm, whose derivative is the same for every R.)"""
        be = A._concrete_backend()
        leaves = tree_leaves(A)
        if not be.differentiating(*leaves):
            value, _, facts = self._estimate(A, R, f, least, known, False)
            self._tell(be, facts)
            return value

        derivative = Derivative.here()

        def run(A: Any, R: Any, known: Array) -> Any:
            value, kept, facts = self._estimate(A, R, f, least, known, True)
            return (value, *kept), facts

        def sides(inputs: Any, outputs: Any) -> tuple[Array, Array]:
            """``f'(A)^H Z`` and Z, in the space of A."""
            A, R, _ = inputs
            _, Z, guess = outputs
            W = f.weights(self, derivative, A, R, be.constant(Z), be.constant(guess))
            return (W, Z) if R is None else (R @ W, R @ Z)

        def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array, ...]:
            value, Z, guess = outputs
            W, V = sides(inputs, outputs)
            moved = be.xp.mean(be.inner(W, d.product(0, V)))
            return be.astype(_real(be, moved), value.dtype), 0 * Z, 0 * guess

        def cotangent(g: Any, inputs: Any, outputs: Any) -> tuple[Any, ...]:
            W, V = sides(inputs, outputs)
            return [(be.astype(g[0], W.dtype) / V.shape[-1] * W, V)], None, None

        fixed = map_leaves(be.constant, R)
        (value, _, _), facts = be.differentiable(
            run, tangent, A, fixed, be.constant(known), cotangent=cotangent
        )
        self._tell(be, facts)
        return value

    def _estimate(
        self, A: Any, R: Any, f: _Function, least: float, known: Array, keep: bool
    ) -> tuple[Array, tuple[Array, ...], tuple[Any, ...]]:
        """``known + tr f(R^H A R)``; tol is relative to the larger of it and ``least``. Also the probes and
        what Krylov space says of ``f'(A) z`` if they are to be kept, and the numbers of the Info."""
        A = A if R is None else PSD(R.H @ A @ R)
        be = A._concrete_backend()
        xp = be.xp
        n = A.shape[-1]
        one = xp.ones_like(be.zeros((), be.real_dtype(A.dtype), A.device))
        concrete = be.is_concrete(A @ be.zeros((n, 1), A.dtype, A.device))
        m = min(n, 32 if concrete else min(self.max_iters, 128), self.max_iters)
        values: list[Array] = []
        kept: list[tuple[Array, Array]] = []
        products = rounds = 0
        verdict = RUNNING
        with self.watched(self._method, self.max_samples, be, one) as watch:
            while True:
                Z = be.rademacher(next_key(be, self.key, rounds), (n, self.samples), A.dtype, A.device)
                T = lanczos(A, Z, m, look_every=self._look_every)
                products += T.products * self.samples
                rounds += 1
                steps = T.alpha.shape[0]
                if concrete and not bool(xp.all(xp.isfinite(T.alpha))):
                    raise NonFiniteError(
                        f"a product with {A!r} gave NaN or infinity within {steps} steps of {self._method}."
                    )
                full, singular = _quadrature(be, T, steps, A, f)
                half, _ = _quadrature(be, T, max(steps // 2, 1), A, f)
                quarter, _ = _quadrature(be, T, max(steps // 4, 1), A, f)
                exact = steps < m or m == n
                truncation = 0 * one
                if not exact:
                    truncation = _tail(be, *(xp.abs(xp.mean(x)) for x in (full - half, half - quarter)))
                size = xp.maximum(xp.abs(xp.mean(full) + known), least * one)
                if concrete and not exact and m < min(n, self.max_iters):
                    if verdict == RUNNING and be.number(truncation) > 0.3 * self.tol * be.number(size):
                        m = min(n, 2 * m, self.max_iters)
                        values, kept = [], []
                        verdict = look(be, watch, 0, truncation)
                        continue
                values.append(full)
                if keep:
                    kept.append((Z, f.guess(be, T, A)))
                estimates = xp.concat(values, axis=0)
                count = estimates.shape[0]
                mean, error = spread(be, estimates)
                mean = mean + known
                error = xp.sqrt(error**2 + truncation**2)
                wanted = self.tol * xp.maximum(xp.abs(mean), least * one)
                verdict = look(be, watch, count, error) if verdict == RUNNING else verdict
                met = (error <= wanted) & ~singular
                if concrete and verdict == RUNNING and bool(singular):
                    verdict = SINGULAR  # more probes would find the same
                if not concrete or count >= self.max_samples or bool(met) or verdict != RUNNING:
                    break
        joined = tuple(xp.concat(list(x), axis=-1) for x in zip(*kept, strict=True))
        return mean, joined, (met, steps, products, truncation, error, verdict)

    def _tell(self, be: Any, facts: tuple[Any, ...]) -> None:
        met, steps, products, truncation, error, verdict = facts
        truncation, error = be.constant(truncation), be.constant(error)
        concrete = be.is_concrete(error)
        met = bool(met) if concrete else met
        reason = "see converged"
        if concrete:
            limit = "sample or step limit reached" if int(verdict) == RUNNING else REASONS[int(verdict)]
            reason = "converged" if met else limit
        record(
            Info(
                method=self._method,
                converged=met,
                reason=reason,
                iterations=int(steps) if concrete else steps,
                matvecs=int(products) if concrete else products,
                tolerance=self.tol,
                error_estimate=be.number(truncation) if concrete else truncation,
                standard_error=be.number(error) if concrete else error,
            )
        )


@dataclass(frozen=True)
class _Function:
    """What quadrature needs of f: its values, whether it is meant for positive arguments only, and its
    derivative: that of ``scalar``, or ``-(-1)^k A^{-k}`` for ``solves = k``."""

    name: str
    fn: Any = field(hash=False, compare=False)
    positive: bool = False
    scalar: Any = field(default=None, hash=False, compare=False)
    solves: int = 0

    def guess(self, be: Any, T: Tridiagonal, A: Any) -> Array:
        """What the Krylov space of a probe says of ``A^{-1} z``, (n, s): the first guess of a solve. (Where
        there is none to be made, nothing is kept.)"""
        if not self.solves:
            return be.zeros((A.shape[-1], 0), A.dtype, A.device)
        return T.solve(be)

    def weights(self, alg: SLQ, derivative: Derivative, A: Any, R: Any, Z: Array, guess: Array) -> Array:
        """``f'(B)^H Z`` for ``B = R^H A R``: one batched solve, or the action of the derivative."""
        B = A if R is None else PSD(R.H @ A @ R)
        told = partial(derivative.asked, A._concrete_backend(), B)
        if not self.solves:
            slope = self.scalar.derivative().conjugate()
            return told(lambda: Lanczos(tol=0.1 * alg.tol).function_times(B, slope, Z))
        W = told(partial(alg._solver(tol=0.1 * alg.tol, x0=guess).solve, B, Z))
        for _ in range(1, self.solves):
            W = -told(partial(alg._solver(tol=0.1 * alg.tol).solve, B, W))
        return W


def _real(be: Any, x: Array) -> Array:
    return be.xp.real(x) if be.is_complex(x) else x


_reciprocal = _Function("the trace of the inverse", lambda be, w: 1 / w, True, solves=2)
_logarithm = _Function("log det", lambda be, w: be.xp.log(w), True, solves=1)


def _behind(A: Any) -> Any:
    """(B, f) with ``A = f(B)`` for a self-adjoint B, or a reason why not."""
    from ..linalg.inverse import Inverse
    from ..linalg.scalar_function import ScalarFunction
    from ..operators.opaque import NoDispatch

    while isinstance(A, NoDispatch):
        A = A.A
    if isinstance(A, Inverse):
        return (A.A, _reciprocal) if A.A.isa(PSD) else "the operator is the inverse of one not declared PSD"
    f, B = getattr(A, "f", None), getattr(A, "A", None)
    if not isinstance(f, ScalarFunction) or B is None:
        return "the operator is no lazy function of another"
    if not B.isa(SelfAdjoint):
        return "it is a function of an operator not declared self-adjoint"
    positive = f.needs_positive or f.needs_nonzero
    if positive and not B.isa(PSD):
        return f"{f.name} needs an operator declared PSD"
    return B, _Function(f"the trace of {f.name}", lambda be, w: f.fn(be.xp, w), positive, f)


def _quadrature(be: Any, T: Tridiagonal, m: int, A: Any, f: _Function) -> tuple[Array, Array]:
    """``|z|^2 e1^T f(T_m) e1`` for each probe, from the leading m steps; and whether f of positive arguments
    only met a Ritz value that is rounding error, so that the answer is no better."""
    xp = be.xp
    part = Tridiagonal(T.basis, T.alpha[:m], T.beta[:m], T.norm, m)
    theta, S = part.eigh(be)
    weight = xp.abs(S[..., 0, :]) ** 2
    eps = float(xp.finfo(be.real_dtype(A.dtype)).eps)
    top = xp.max(xp.abs(theta), axis=-1)[..., None]
    # zero-padded rows of a broken-down recurrence have zero weight; f must not see their zero eigenvalue
    present = weight > (10 * eps) ** 2
    singular = xp.any((weight > eps) & (theta <= 4 * eps * top)) & f.positive
    if f.positive:
        if be.is_concrete(theta):
            low = xp.where(present, theta, top)
            if bool(xp.any(low < -1e3 * eps * top)):
                raise NotPositiveDefiniteError(
                    f"{f.name} of {A!r}: a Ritz value is {be.number(xp.min(low)):.3g}, so the operator is "
                    "not positive definite. Remove the PSD declaration and use LU() or a dense method."
                )
        tiny = float(xp.finfo(theta.dtype).smallest_normal)
        theta = xp.where(present & (theta > 0), theta, xp.maximum(top * eps, xp.zeros_like(top) + tiny))
    else:
        theta = xp.where(present, theta, top)
    found = f.fn(be, theta)
    found = xp.where(present, found, xp.zeros_like(found))
    return T.norm**2 * xp.sum(weight * found, axis=-1), singular


def _tail(be: Any, step: Array, previous: Array) -> Array:
    """What further doublings would still add, if differences keep shrinking at the rate just observed."""
    xp = be.xp
    ratio = step / xp.where(previous > 0, previous, xp.ones_like(previous))
    ratio = xp.minimum(xp.maximum(ratio, 0.1 * xp.ones_like(ratio)), 0.9 * xp.ones_like(ratio))
    return step * ratio / (1 - ratio)


def _preconditioning(A: Any, P: Any) -> tuple[Any, Array]:
    """R for ``P = R R^H``, and ``log det P``."""
    from ..dispatch.choose import ask
    from ..linalg.determinant import SLOGDET
    from .base import Auto

    be = A._concrete_backend()
    P = P if P.isa(PSD) else PSD(P)
    R = _root(P)
    if R.shape[-1] != R.shape[-2]:
        raise NotImplementedError(f"SLQ(P=...): the root of {P!r} is not square, shape {R.shape}.")
    x = be.normal(next_key(be, 0, 1), (A.shape[-1], 1), A.dtype, A.device)
    want = P @ x
    if be.is_concrete(want):
        gap = be.number(be.xp.max(be.norm(R @ (R.H @ x) - want)))
        eps = float(be.xp.finfo(be.real_dtype(A.dtype)).eps)
        if not gap <= eps**0.5 * be.number(be.xp.max(be.norm(want))):
            raise NotImplementedError(
                f"SLQ(P=...): {P!r} has no root of its own that is accurate (a product is off by {gap:.2g}); "
                "use a preconditioner with a factor, such as Jacobi, Nystrom or RPCholesky."
            )
    known = ask(SLOGDET, (P,), Auto())[1]
    return R, known


def _root(P: Any) -> Any:
    """R with ``P = R R^H``: of ``c I + U W U^H``, also between diagonal scalings; else by the question."""
    from ..dispatch.choose import ask
    from ..linalg.sampling import ROOT
    from ..operators import Diagonal, Identity, LowRank, Product, ScalarMul, Sum, matmul
    from .base import Auto

    be = P._concrete_backend()
    if isinstance(P, Product) and len(P.Ms) == 3 and isinstance(P.Ms[0], Diagonal) and P.Ms[1].isa(PSD):
        return matmul(P.Ms[0], _root(P.Ms[1]))
    if isinstance(P, Sum) and len(P.Ms) == 2:
        flat = [M for M in P.Ms if isinstance(M, (ScalarMul, Identity))]
        low = [M for M in P.Ms if isinstance(M, LowRank)]
        if len(flat) == len(low) == 1 and 2 * low[0].U.shape[-1] < P.shape[-1]:
            Q = be.qr(low[0].U)[0]
            w, V = be.eigh(be.adjoint(Q) @ (P @ Q))
            c = be.xp.real(flat[0].value) if isinstance(flat[0], ScalarMul) else be.xp.ones_like(w[..., 0])
            c = be.xp.sqrt(be.asarray(c, dtype=w.dtype, device=P.device))
            gain = be.astype(be.xp.sqrt(be.xp.maximum(w, 0 * w)) - c, Q.dtype)
            U = Q @ V
            return ScalarMul(be.astype(c, Q.dtype), P.shape[-1]) + LowRank(U * gain, U)
    return ask(ROOT, (P,), Auto())
