"""``SVRG``: stochastic gradients with variance reduction, for sums of many terms.

Systems: Johnson & Zhang, NeurIPS 2013; leading eigenvectors: Shamir, ICML 2015 (VR-PCA) and ICML 2016
(several at once). From an anchor whose whole product is known, steps use a few terms each, drawn in
proportion to their norms, of the difference to the anchor: their noise vanishes as the anchor becomes the
solution, so the step size is constant and the convergence linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..autodiff.eigenpairs import selfadjoint_pairs
from ..backends import backend_of
from ..backends.base import Array, Backend
from ..cost import Cost
from ..dispatch.session import record
from ..info import Info
from ..operators import Dense, Sum
from ..properties import PSD, Stiefel
from ..reasons import DIVERGED, TRACED
from .base import refuse_batches
from .iteration import CONVERGED, INDEFINITE, NONFINITE, RUNNING, observe
from .piecewise_solver import PiecewiseSolver, negative_curvature
from .progress import Watch
from .random_blocks import generator, largest_eigenvalue
from .sampled_sum import NORM_STEPS, sampled_sum

__all__ = ["SVRG"]

POOL = 16  # times the number of terms: so many draws are made before the loop; then they come again
MOST_HALVINGS = 40
# the step is 1 / (|A| + NOISE * norm of a sample): longer than the proofs allow (4), found to be faster on
# sums of dense terms, and taken back where a residual grows
NOISE = 2.0
MOST_PASSES = 8  # over all terms between two anchors
SLOW = 0.5  # a residual that falls by less than this asks for more steps between anchors
PATIENCE = 20  # anchors without a smaller residual, after which the step is halved


def _iterate(
    A: Any,
    data: Any,
    B: Array,
    X: Array | None,
    tol: Any,
    limit: Any,
    *,
    watch: Watch | None = None,
) -> tuple[Array, Any, Any, Array]:
    """Anchors, each followed by ``inner`` cheap steps, twice as many where that gained little. The residual
    is that of the anchor, so it is exact."""
    be: Any = backend_of(B)
    xp = be.xp
    terms, draws, weights, rate, inner, most = data
    pool, size = draws.shape
    bnorm = be.norm(B)
    target = tol * bnorm
    first = X is None
    X = xp.zeros_like(B) if X is None else X + 0
    G = -B if first else A @ X - B
    rnorm = be.norm(G)
    code = xp.where(rnorm <= target, CONVERGED, RUNNING)
    code = xp.where(xp.isfinite(rnorm + rate), code, NONFINITE)

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[8] == RUNNING)

    def body(state: Any) -> Any:
        step, anchor, G, best, least, rate, stalled, halvings, code, inner, made = state

        def cheap(inside: Any) -> Any:
            t, D = inside
            j = (made + t) % pool
            slope = terms.product(be, draws[j], weights[j], D) + G
            return t + 1, D - be.astype(rate, B.dtype) * slope

        _, D = be.while_loop(lambda s: s[0] < inner, cheap, (0, xp.zeros_like(anchor)))
        X = anchor + D
        new = A @ X - B
        rnorm, before = be.norm(new), be.norm(G)
        better = rnorm < least
        best = xp.where(better[None, :], X, best)
        least = xp.where(better, rnorm, least)
        stalled = xp.where(better, xp.zeros_like(stalled), stalled + 1)
        # a column that got worse, or nowhere for long, goes on from its anchor with half the step
        lost = ~(rnorm <= 2 * least) | (stalled > PATIENCE)
        stalled = xp.where(lost, xp.zeros_like(stalled), stalled)
        anchor = xp.where(lost[None, :], anchor, X)
        G = xp.where(lost[None, :], G, new)
        rate = xp.where(lost, rate / 2, rate)
        halvings = halvings + xp.where(lost, 1, 0)
        code = xp.where((code == RUNNING) & (least <= target), CONVERGED, code)
        code = xp.where((code == RUNNING) & negative_curvature(be, X, new + B), INDEFINITE, code)
        code = xp.where((code == RUNNING) & (halvings > MOST_HALVINGS), DIVERGED, code)
        code = observe(be, watch, step + 1, least, code)
        slow = xp.any((code == RUNNING) & ~lost & (rnorm > SLOW * before))
        longer = xp.where(slow & (2 * inner <= most), 2 * inner, inner)
        longer = longer if be.name == "jax" else int(longer)
        return step + 1, anchor, G, best, least, rate, stalled, halvings, code, longer, made + inner

    none = xp.zeros_like(code)
    state = (0, X, G, X + 0, rnorm, rate + xp.zeros_like(rnorm), none, none, code, inner, 0)
    state = be.while_loop(running, body, state)
    steps, X, code, made = state[0], state[3], state[8], state[10]
    sampled = -(-(made * size) // max(terms.count, 1))
    return X, steps, (0 if first else 1) + steps + sampled, code


def _leading(
    A: Any, data: Any, W: Array, tol: Any, limit: Any, *, watch: Watch | None = None
) -> tuple[Array, Array, Any, Array, Array]:
    """Orthonormal W (n, k) towards the leading eigenvectors: values, vectors, anchors, residuals, code."""
    be: Any = backend_of(W)
    xp = be.xp
    terms, draws, weights, rate, inner, _ = data
    pool = draws.shape[0]

    def measured(W: Array) -> tuple[Array, Array, Array, Array]:
        Y = A @ W
        T = be.matmul(be.adjoint(W), Y)
        w, S = be.eigh((T + be.adjoint(T)) / 2)
        W, Y = be.matmul(W, S), be.matmul(Y, S)
        gap = be.norm(Y - W * be.astype(w, W.dtype))
        return W, Y, w, gap

    def running(state: Any) -> Any:
        return (state[0] < limit) & (state[-1] == RUNNING)

    def body(state: Any) -> Any:
        step, anchor, Y, w, gap, rate, halvings, code = state

        def cheap(inside: Any) -> Any:
            t, W = inside
            j = (step * inner + t) % pool
            # the anchor turned within its span to lie closest to W
            U, _, V = be.svd(be.matmul(be.adjoint(anchor), W))
            turn = be.matmul(U, be.adjoint(V))
            slope = terms.product(be, draws[j], weights[j], W - be.matmul(anchor, turn))
            Q, _ = be.qr(W + be.astype(rate, W.dtype) * (slope + be.matmul(Y, turn)))
            return t + 1, Q

        _, W = be.while_loop(lambda s: s[0] < inner, cheap, (0, anchor))
        W, new_Y, new_w, new_gap = measured(W)
        lost = ~(xp.max(new_gap) <= 4 * xp.max(gap))
        anchor, Y, w, gap = (
            xp.where(lost, old, new) for old, new in ((anchor, W), (Y, new_Y), (w, new_w), (gap, new_gap))
        )
        rate = xp.where(lost, rate / 2, rate)
        halvings = halvings + xp.where(lost, 1, 0)
        code = xp.where(xp.max(gap) <= tol * xp.max(xp.abs(w)), CONVERGED, code)
        code = xp.where((code == RUNNING) & (halvings > MOST_HALVINGS), DIVERGED, code)
        return step + 1, anchor, Y, w, gap, rate, halvings, observe(be, watch, step + 1, gap, code)

    W, Y, w, gap = measured(W)
    code = xp.where(xp.max(gap) <= tol * xp.max(xp.abs(w)), CONVERGED, RUNNING)
    code = xp.where(xp.all(xp.isfinite(gap)), code, NONFINITE)
    state = (0, W, Y, w, gap, rate, xp.zeros_like(code), code)
    state = be.while_loop(running, body, state)
    return state[3], state[1], state[0], state[4], state[-1]


@dataclass(frozen=True)
class SVRG(PiecewiseSolver):
    """Solve ``A x = b``, or find leading eigenvectors, for a positive definite A that is a sum of many terms.

    A: an ``ops.Sum`` of many operators, or a Gram matrix (``LowRank(U)``, ``B.H @ B``) whose terms are its
    columns, with diagonal terms or without. max_iters: anchors (default 1000); each costs one product with A
    and ``inner`` steps. bs: terms in a step (default a tenth of all). inner: default so many that all
    terms are used once between anchors, and up to eight times where that is too few. rate: step size; default
    from estimates of the norms, and halved where the residual grows. key: seed. Between terms of very
    different condition CG needs fewer passes; SVRG is for terms too many or too large to go through often.
    ``Info.matvecs`` counts products with all terms.

    >>> import numpy as np, cola_core as cola
    >>> rng = np.random.default_rng(0)
    >>> Fs = [rng.standard_normal((20, 20)) for _ in range(30)]
    >>> A = cola.PSD(cola.ops.Sum(*(cola.PSD(cola.ops.Dense(F @ F.T)) for F in Fs)))
    >>> x, info = cola.solve(A, np.ones(20), cola.SVRG(tol=1e-6), return_info=True)
    >>> info.converged
    True
    """

    bs: int | None = None
    inner: int | None = None
    rate: float | None = None
    key: Any = 0

    _method: ClassVar[str] = "SVRG"
    _iterate: ClassVar[Any] = staticmethod(_iterate)

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.isa(PSD):
            return "the operator is not declared PSD"
        return True if isinstance(A, Sum) and len(A.Ms) > 2 else "not a sum of many terms"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = (
            operands[0].shape[-1]
            if operands and hasattr(operands[0], "shape") and operands[0].ndim > 1
            else 1
        )
        one = A.matmat_cost(k)
        anchors = 100
        return Cost(
            3 * anchors * one.flops,
            3 * anchors * one.bytes,
            A.itemsize * 8.0 * n * k,
            3 * anchors,
            anchors * (one.calls + 400),
        )

    def _limit(self, n: int) -> int:
        return 1000

    def _pieces(self, be: Backend, A: Any, B: Array, limit: int) -> tuple[Any, int]:
        return self._data(be, A, B.dtype, be.device(B)), self._made()

    def _made(self) -> int:
        """Products for the estimates of norms."""
        return NORM_STEPS + (12 if self.rate is None else 0)

    def _data(self, be: Backend, A: Any, dtype: Any, device: Any) -> Any:
        """Terms, draws, weights, step size, and the steps between anchors, at first and at most."""
        xp = be.xp
        n = A.shape[-1]
        real = be.real_dtype(dtype)
        terms = sampled_sum(A, "SVRG")
        N = terms.count
        size = max(min(N, -(-N // 10) if self.bs is None else int(self.bs)), 1)
        inner = -(-N // size) if self.inner is None else max(int(self.inner), 1)
        most = MOST_PASSES * inner if self.inner is None else inner
        norms = be.astype(terms.norms(be, n, dtype, device), real)
        total = xp.sum(norms)
        # no term is drawn less often than a tenth of its even share: its norm is an estimate
        even = xp.ones_like(norms) / N
        share = xp.where(total > 0, 0.9 * norms / xp.where(total > 0, total, xp.ones_like(total)), 0.9 * even)
        share = share + 0.1 * even
        rng = generator(self.key)
        count = max(-(-POOL * N // size), inner)
        places = (np.arange(count * size) + rng.random()) / (count * size)
        rng.shuffle(places)
        sums = xp.cumulative_sum(share) if hasattr(xp, "cumulative_sum") else xp.cumsum(share, axis=0)
        flat = xp.searchsorted(sums, be.asarray(places, real, device), side="right")
        flat = xp.where(flat < N, flat, xp.zeros_like(flat) + N - 1)
        draws = xp.reshape(flat, (count, size))
        weights = 1 / (size * share[draws])
        if self.rate is not None:
            rate = be.asarray(float(self.rate), real, device)
        else:
            whole = 1.1 * largest_eigenvalue(be, A._matmat, be.normal(3, (n, 1), dtype, device), 12)
            rate = 1 / (whole + NOISE * total / size)
        return terms, draws, be.astype(weights, real), be.astype(rate, real), inner, most

    def eigsh(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        """The k largest eigenvalues of a positive semidefinite A."""
        refuse_batches(A, "SVRG", "Eigh()")
        if which not in ("LM", "LA") or not A.isa(PSD):
            raise NotImplementedError(
                f"SVRG finds the largest eigenvalues (LM, LA) of operators declared PSD, not {which} "
                f"of {A!r}; use Lanczos()."
            )
        be = A._concrete_backend()
        xp = be.xp
        n = A.shape[-1]
        tol = self.tolerance(A.dtype)
        limit = self._limit(n) if self.max_iters is None else int(self.max_iters)

        def run(A: Any) -> Any:
            data = self._data(be, A, A.dtype, A.device)
            W, _ = be.qr(be.normal(self.key, (n, k), A.dtype, A.device))
            with self.watched("SVRG", limit, be, W) as watch:
                f = be.jit(_leading, static=("watch",))
                w, V, steps, gap, code = f(A, data, W, tol, limit, watch=watch)
            order = be.xp.flip(be.xp.arange(k, device=A.device), axis=0)
            return w[order], V[:, order], (steps, gap[order], code, data[4] * data[1].shape[1], data[0].count)

        w, V, (steps, gap, code, part, count) = selfadjoint_pairs(be, A, run, tol, "SVRG")
        top = xp.max(xp.abs(w))
        relative = gap / xp.where(top > 0, top, xp.ones_like(top))
        worst = xp.max(relative)
        info = Info(
            method="SVRG",
            converged=worst <= 1.1 * tol,
            reason=TRACED,
            codes=code,
            iterations=steps,
            matvecs=1 + self._made() + steps + -(-(steps * part) // count),
            residual=worst,
            residuals=relative,
            tolerance=tol,
            error_estimate=xp.max(gap),
        )
        record(info.concrete(be) if be.is_concrete(worst, code) else info)
        return w, Dense(V, declared=frozenset({Stiefel}))
