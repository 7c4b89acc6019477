"""``f(A) b`` from a Krylov space: ``|b| V f(H) e_1`` with an orthonormal basis V of it and ``H = V^H A V``.

Lanczos for self-adjoint A, Arnoldi else (Saad, SINUM 29 (1992) 209). Each column has its own space and stops
when its own estimate meets the tolerance. Breakdown, an invariant space, is the exact end.

Error estimate: for ``log`` and ``z^p`` with ``|p| < 1`` of a self-adjoint A, the integral of the residuals of
the shifted systems behind them (their Stieltjes representation; the residual norms follow from H: Frommer &
Simoncini 2008); else the last change of the coefficients ``f(H) e_1``, continued as a geometric series.

Memory: ``basis`` vectors a column. Beyond it, Lanczos goes on with a three-term recurrence and makes the
later vectors a second time when the coefficients are known (two passes); Arnoldi restarts, with the H of all
cycles kept (Eiermann & Ernst, SINUM 44 (2006) 2481).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backends.base import Array, Backend
from ..dispatch.session import record
from ..errors import ColaError, NonFiniteError
from ..info import Info
from ..pytree import tree_leaves
from ..reasons import CONVERGED, NONFINITE, REASONS, RUNNING
from .cholesky import check_finite
from .orthogonal import normalize, orthogonalize
from .progress import watching
from .small_function import hessenberg_function, name_negative, on_host, tridiagonal_function, undefined

__all__ = ["krylov_function", "krylov_times"]

EXACT = "the Krylov space is invariant: exact"
MEMORY = 2.0**30  # bytes for the basis of all columns, where no number of vectors is given


def krylov_function(
    A: Any, f: Any, X: Array, hermitian: bool, tol: float, limit: int, basis: int | None, bar: Any = None
) -> tuple[Array, Info]:
    """``f(A) X`` for X (n, k) of A's dtype whose values can be looked at, and how far it can be trusted."""
    be = A._concrete_backend()
    n, k = X.shape
    if basis is None:
        most = int(MEMORY // max(A.itemsize * n * k, 1))
        basis = max(most, 20)
    basis = max(int(basis), 2)
    if basis >= n:  # the whole space fits: n steps end it
        limit = min(limit, n)
    run = _Run(be, A, on_host(be, A, f), hermitian, tol, limit, basis, bar)
    Y = run.solve(X)
    worst = max((c.error for c in run.columns), default=0.0)
    exact = all(c.exact for c in run.columns)
    finite = be.xp.all(be.xp.isfinite(Y), axis=0).tolist()
    codes = [
        (CONVERGED if c.done else run.verdict) if good else NONFINITE
        for c, good in zip(run.columns, finite, strict=True)
    ]
    worst_code = max(codes, default=CONVERGED)
    return Y, Info(
        method=f"{'Lanczos' if hermitian else 'Arnoldi'} {f.name}",
        converged=worst_code == CONVERGED,
        reason=EXACT if exact and worst_code == CONVERGED else REASONS[worst_code],
        iterations=run.steps,
        matvecs=run.products,
        tolerance=tol,
        error_estimate=worst,
        codes=be.asarray(np.asarray(codes, np.int64), device=be.device(X)),
    )


def krylov_times(alg: Any, A: Any, f: Any, X: Array, hermitian: bool) -> Array:
    """``f(A) X`` for X (n, k) with the settings tol, max_iters, basis and pbar of an algorithm; reports."""
    from .krylov_traced import GENERAL_STEPS, STEPS, krylov_function_traced

    be = A._concrete_backend()
    n = A.shape[-1]
    eps = float(be.xp.finfo(be.real_dtype(A.dtype)).eps)
    tol = max(1e-10, 50 * eps) if alg.tol is None else float(alg.tol)
    leaves = tree_leaves(A)
    limit = 1000 if alg.max_iters is None else int(alg.max_iters)

    def value(A: Any, X: Array) -> tuple[Array, Info]:
        """Nothing of it is differentiated."""
        if not be.is_concrete(X, *tree_leaves(A)):
            usual = STEPS if hermitian else GENERAL_STEPS
            m = min(n, usual if alg.max_iters is None else int(alg.max_iters))
            return krylov_function_traced(A, f, X, hermitian, tol, m)
        check_finite(A, X)
        show = bool(alg.pbar) or getattr(alg, "progress", False)
        title = f"{'Lanczos' if hermitian else 'Arnoldi'} {f.name}"
        seconds = getattr(alg, "max_seconds", None)
        with watching(title, limit, show, getattr(alg, "callback", None), seconds) as bar:
            return krylov_function(A, f, X, hermitian, tol, limit, alg.basis, bar)

    if not be.differentiating(X, *leaves) or be.name == "abstract":
        Y, info = value(A, X)
    elif (be.name == "jax" and not f.kind) or (not f.real and not A._is_complex()):
        # the steps themselves are differentiated: functions that only traced code can evaluate
        Y, info = _recorded(be, A, f, X, hermitian, tol, limit)
    else:
        from .function_derivative import function_derivative
        from .krylov_derivative import krylov_derivative

        Y, info = function_derivative(krylov_derivative(hermitian, tol, limit), A, f, X, value)
        if be.is_concrete(Y, info.converged):
            info = info.concrete(be)
    record(info)
    return Y


def _recorded(
    be: Any, A: Any, f: Any, X: Array, hermitian: bool, tol: float, limit: int
) -> tuple[Array, Info]:
    """Every step in the graph; a breakdown has no derivative there (NaN)."""
    from .krylov_traced import GENERAL_STEPS, STEPS, krylov_function_traced

    n = A.shape[-1]
    if be.name == "jax" or not be.is_concrete(X, *tree_leaves(A)):
        return krylov_function_traced(
            A, f, X, hermitian, tol, min(n, limit, STEPS if hermitian else GENERAL_STEPS)
        )
    from ..autodiff.torch_tree import detached

    _, info = krylov_function(detached(A), f, X.detach(), hermitian, tol, limit, n)
    Y, again = krylov_function_traced(A, f, X, hermitian, tol, max(int(info.iterations), 1))
    return Y, info.replace(matvecs=info.matvecs + again.matvecs)


@dataclass
class _Column:
    """What is known of one column. H: of all cycles. done: its answer is final; error: relative."""

    norm: float
    H: Any
    size: int = 0
    coefficients: Any = field(default_factory=lambda: np.zeros(0))
    change: float | None = None
    length: int = 0
    error: float = float("inf")
    done: bool = False
    exact: bool = False
    failure: ColaError | None = None


class _Run:
    """One call: the basis on the device, everything small on the host."""

    def __init__(
        self, be: Backend, A: Any, f: Any, hermitian: bool, tol: float, limit: int, basis: int, bar: Any
    ) -> None:
        self.be, self.A, self.f, self.hermitian = be, A, f, hermitian
        self.tol, self.limit, self.basis, self.bar = tol, limit, basis, bar
        self.eps = float(be.xp.finfo(be.real_dtype(A.dtype)).eps)
        self.small = np.complex128 if A._is_complex() else np.float64
        self.columns: list[_Column] = []
        self.steps = self.products = 0
        self.verdict = RUNNING

    def solve(self, X: Array) -> Array:
        be, xp = self.be, self.be.xp
        norms = be.to_numpy(be.norm(X)).astype(np.float64)
        if not np.isfinite(norms).all():
            raise NonFiniteError(f"{self.f.name}({self.A!r}): the vector contains NaN or infinity.")
        self.columns = [_Column(float(b), np.zeros((0, 0), self.small)) for b in norms]
        for c in self.columns:
            if c.norm == 0:
                c.done, c.exact, c.error = True, True, 0.0
        Q = X.mT / xp.where(be.norm(X) > 0, be.norm(X), xp.ones_like(be.norm(X)))[:, None]
        Y: Array = None
        scale = be.zeros((X.shape[-1],), be.real_dtype(self.A.dtype), be.device(X))
        coupling = np.zeros(len(self.columns))
        while True:
            Q, scale, coupling, part = self._cycle(Q, scale, coupling)
            Y = part if Y is None else Y + part
            if self._ended():
                break
        for c in self.columns:
            if c.failure is not None and not c.done:
                raise c.failure
        return Y.mT

    # -- one basis -------------------------------------------------------------------------------------------
    def _cycle(self, start: Array, scale: Array, coupling: Any) -> tuple[Array, Array, Any, Array]:
        """Fill one basis from the unit vectors ``start`` (k, n): the next start, sizes of A met,
        couplings, and this cycle's part of the answer (k, n)."""
        be = self.be
        k, n = start.shape
        room = min(self.basis, self.limit - self.steps)
        offsets = [c.size for c in self.columns]
        for c, b in zip(self.columns, coupling, strict=True):
            c.H = _grown(c.H, c.size + room, self.small)
            if c.size:
                c.H[c.size, c.size - 1] = b
        capacity = min(room, 32)
        Q = be.zeros((k, capacity + 1, n), self.A.dtype, be.device(start))
        Q = be.put(Q, (slice(None), 0), start)
        # a restarted cycle adds to the answer as a whole: it is judged at its end
        j, target = 0, room if any(offsets) else 4
        lasts = coupling
        while True:
            target = min(target, room)
            if target > capacity:
                capacity = min(2 * capacity, room)
                more = be.zeros((k, capacity + 1 - Q.shape[1], n), self.A.dtype, be.device(start))
                Q = be.xp.concat([Q, more], axis=1)
                continue
            last = self.hermitian and self.steps + (target - j) < self.limit and target == room
            Q, scale, C, norms = self._extend(Q, scale, j, target)
            self._store(offsets, C, norms, j, target)
            self.steps += target - j
            self.products += (target - j) * k
            j = target
            lasts = norms[:, -1]
            self._judge(lasts)
            if self._finished():
                return Q[:, j], scale, lasts, self._combined(Q, offsets)
            if j == room:
                break
            target = j + max(2, j // 4)
        if last:
            return Q[:, j], scale, lasts, self._short(Q, scale, j, lasts, offsets)
        return Q[:, j], scale, lasts, self._combined(Q, offsets)

    def _extend(self, Q: Array, scale: Array, first: int, last: int) -> tuple[Array, Array, Any, Any]:
        """Steps first .. last - 1: the basis, the size of A met, and on the host the new columns of H."""
        be = self.be
        if be.name == "jax":
            Q, scale, C, norms = be.jit(_steps_jax, static=("hermitian",))(
                self.A, Q, scale, first, last, hermitian=self.hermitian
            )
            C, norms = be.to_numpy(C)[:, first:last], be.to_numpy(norms)[:, first:last]
        else:
            made, sizes = [], []
            for j in range(first, last):
                Q, scale, c, b = _step(be, self.A, Q, scale, j, self.hermitian)
                made.append(be.to_numpy(c))
                sizes.append(be.to_numpy(b))
            C = np.zeros((Q.shape[0], last - first, last), made[-1].dtype)
            for i, c in enumerate(made):
                C[:, i, : c.shape[-1]] = c[:, :last]
            norms = np.stack(sizes, axis=1)
        if not (np.isfinite(C).all() and np.isfinite(norms).all()):
            raise NonFiniteError(
                f"a product with {self.A!r} gave NaN or infinity in Krylov step {self.steps + 1} or later."
            )
        return Q, scale, C, norms.astype(np.float64)

    def _store(self, offsets: list[int], C: Any, norms: Any, first: int, last: int) -> None:
        for s, (c, o) in enumerate(zip(self.columns, offsets, strict=True)):
            if c.done:
                continue
            for i, j in enumerate(range(first, last)):
                if c.exact:
                    break
                c.H[o : o + j + 1, o + j] = C[s, i, : j + 1]
                c.size = o + j + 1
                if norms[s, i] == 0:
                    c.exact = True
                elif o + j + 1 < c.H.shape[0] and j + 1 < last:
                    c.H[o + j + 1, o + j] = norms[s, i]
            if not c.exact and c.size < c.H.shape[0] and last < c.H.shape[0] - o:
                c.H[c.size, c.size - 1] = norms[s, -1]

    def _ended(self) -> bool:
        return self.verdict != RUNNING or self.steps >= self.limit or all(c.done for c in self.columns)

    def _finished(self) -> bool:
        """Whether this was the last look; whoever watches is told, and may say so."""
        if self.bar is not None and self.verdict == RUNNING:
            self.verdict = self.bar(self.steps, max(c.error for c in self.columns))
        return self._ended()

    # -- estimates -------------------------------------------------------------------------------------------
    def _judge(self, lasts: Any) -> None:
        for c, b in zip(self.columns, lasts, strict=True):
            if not c.done:
                self._judge_one(c, float(b))

    def _judge_one(self, c: _Column, b: float) -> None:
        """New coefficients of a column, and whether they are good enough."""
        m = c.size
        H = c.H[:m, :m]
        restarted = m > self.basis and not self.hermitian
        bound = None
        try:
            if self.hermitian:
                alpha, beta = np.real(np.diag(H)).copy(), np.real(np.diag(H, -1)).copy()
                new, theta, weight = tridiagonal_function(self.A, self.f, alpha, beta, self.eps)
                if not c.exact:
                    bound = _residual_bound(self.f, theta, np.log(np.append(beta, b)).sum())
            else:
                new = hessenberg_function(self.A, self.f, H)
        except ColaError as error:
            if self.hermitian or c.exact:
                raise
            c.failure = name_negative(self.A, self.f, H, b) or error
            if c.failure is not error:
                raise c.failure from None
            c.change, c.length = None, m
            return
        c.failure = None
        size = float(np.linalg.norm(new))
        finite = bool(np.isfinite(new).all())
        old = np.zeros(m, new.dtype)
        old[: c.coefficients.size] = np.where(np.isfinite(c.coefficients), c.coefficients, 0)
        change, steps = float(np.linalg.norm(new - old)), m - c.coefficients.size
        previous, before = c.change, c.length
        c.coefficients, c.change, c.length = new, change if finite else None, steps
        if c.exact:
            if not finite:
                raise undefined(self.A, self.f)
            c.done, c.error = True, self.eps
            return
        estimate = float("inf")
        if finite and previous is not None:
            estimate = change
            if previous > 0 and change > 0:
                rate = min((change / previous) ** (2 / (before + steps)), 0.9999) ** steps
                estimate = max(change, change * rate / (1 - rate))
        if bound is not None and finite:
            reliable = self.f.needs_nonzero or not np.isfinite(estimate)
            estimate = bound if reliable else min(bound, estimate)
        if restarted:
            estimate *= 2
        # coefficients that are all zero have underflown, or not begun: no sign of convergence
        c.error = estimate / size if size > 0 else float("inf")
        c.done = finite and 0 < size < float("inf") and estimate <= self.tol * size

    # -- answers ---------------------------------------------------------------------------------------------
    def _combined(self, Q: Array, offsets: list[int]) -> Array:
        """This cycle's part of the answers: ``|b| Q^T c`` a column."""
        return self._sum(Q, [(c, o, c.coefficients.size) for c, o in zip(self.columns, offsets, strict=True)])

    def _sum(self, Q: Array, spans: list[tuple[_Column, int, int]]) -> Array:
        be = self.be
        width = Q.shape[1]
        dtype = np.result_type(*(c.coefficients for c, _, _ in spans), np.float32)
        table = np.zeros((len(spans), width), dtype)
        for row, (c, first, last) in zip(table, spans, strict=True):
            part = c.coefficients[first : min(last, first + width)]
            row[: part.size] = c.norm * part
        wanted = self.A.dtype
        if dtype.kind == "c" and not be.is_complex(Q):
            wanted = be.xp.result_type(wanted, be.xp.complex64)
        W = be.asarray(table, dtype=wanted, device=be.device(Q))
        return be.matmul(be.astype(Q, wanted).mT, W[..., None])[..., 0]

    def _short(self, Q: Array, scale: Array, j: int, lasts: Any, offsets: list[int]) -> Array:
        """Lanczos beyond its memory: three-term steps to find the coefficients, and again for the vectors."""
        be = self.be
        k = Q.shape[0]
        start = (
            Q[:, j - 1],
            Q[:, j],
            be.asarray(lasts, dtype=be.real_dtype(self.A.dtype), device=be.device(Q)),
        )
        alphas: list[Any] = []
        betas: list[Any] = []
        state, done = start, 0
        target = max(2, j // 4)
        while self.steps < self.limit:
            target = min(target, self.limit - self.steps)
            first = len(alphas)
            for _ in range(target):
                previous, q, b = state
                state, scale, a = _three_terms(be, self.A, previous, q, b, scale)
                alphas.append(be.to_numpy(a).astype(np.float64))
                betas.append(be.to_numpy(state[2]).astype(np.float64))
            self.steps, self.products = self.steps + target, self.products + target * k
            if not np.isfinite(betas[-1]).all():
                raise NonFiniteError(f"a product with {self.A!r} gave NaN or infinity in step {self.steps}.")
            for s, (c, o) in enumerate(zip(self.columns, offsets, strict=True)):
                if c.done:
                    continue
                c.H = _grown(c.H, o + j + len(alphas), self.small)
                for i in range(first, len(alphas)):
                    if c.exact:
                        break
                    row = o + j + i
                    c.H[row, row - 1] = lasts[s] if i == 0 else betas[i - 1][s]
                    c.H[row, row] = alphas[i][s]
                    c.size, c.exact = row + 1, bool(betas[i][s] == 0)
            self._judge(betas[-1])
            done = len(alphas)
            if self._finished():
                break
            target = max(2, (j + done) // 4)
        out = self._combined(Q[:, :j], offsets)
        previous, q, b = start
        for i in range(done):
            out = out + self._sum(
                q[:, None], [(c, o + j + i, c.size) for c, o in zip(self.columns, offsets, strict=True)]
            )
            if i + 1 < done:
                (previous, q, b), scale, _ = _three_terms(be, self.A, previous, q, b, scale)
                self.products += k
        return out


def _grown(H: Any, size: int, dtype: Any) -> Any:
    if H.shape[0] >= size:
        return H
    out = np.zeros((size, size), dtype)
    out[: H.shape[0], : H.shape[0]] = H
    return out


def _residual_bound(f: Any, theta: Any, logs: float) -> float | None:
    """A bound of the error of ``f(T) e_1`` for a Stieltjes function, but for the smallest Ritz value
    standing in for the smallest eigenvalue; None for other functions.

    ``z^p = c int t^p (z + t)^{-1} dt`` for -1 < p < 0, ``log z = int (1 + t)^{-1} - (z + t)^{-1} dt``, and
    ``z^p = z z^{p-1}`` for p > 0: the error is the same integral over ``(A + t)^{-1} r_m(t)``, with
    ``|r_m(t)| = prod beta_j / prod (theta_i + t)``.
    """
    p = {"log": 0.0, "sqrt": 0.5, "isqrt": -0.5, "power": f.exponent}.get(f.kind)
    if p is None or not -1 < p < 1 or not theta.size or theta.min() < 0:
        return None
    low, top = theta.min(), theta.max()
    if top == 0:
        return None
    low = max(low, 1e-16 * top)
    u = np.linspace(np.log(low) - 12, np.log(top) + 12, 241)
    t = np.exp(u)
    residual = logs - np.log(theta[:, None] + t).sum(axis=0)
    weight = 1.0 if p == 0 else abs(np.sin(p * np.pi)) / np.pi
    with np.errstate(over="ignore"):
        integrand = np.exp((p + 1) * u + residual - np.log(low + t)) * weight
    return float(integrand.sum() * (u[1] - u[0]))


# -- steps ---------------------------------------------------------------------------------------------------
def _step(
    be: Backend, A: Any, Q: Array, scale: Array, j: Any, hermitian: bool
) -> tuple[Array, Array, Array, Array]:
    """One vector more: the basis, the size of A met, the new column of H and the norm below it."""
    xp = be.xp
    traced = be.name == "jax"
    q = Q[:, j]
    w = A._matmat(q.mT).mT
    size = xp.linalg.vector_norm(w, axis=-1)
    scale = xp.maximum(scale, size)
    if hermitian:
        # the recurrence first, so that one pass against the rest is enough
        a = xp.sum(be.conj(q) * w, axis=-1)
        a = be.astype(xp.real(a), A.dtype) if be.is_complex(a) else a
        w = w - a[:, None] * q
        if traced or j > 0:
            before = Q[:, j - 1]
            b = xp.sum(be.conj(before) * w, axis=-1)
            b = xp.where(j > 0, b, xp.zeros_like(b)) if traced else b
            w = w - b[:, None] * before
        w, _, left, _ = orthogonalize(be, Q, w, j + 1)
        c = be.zeros((Q.shape[0], Q.shape[1]), A.dtype, be.device(Q))
        c = be.put(c, (slice(None), j), a)
    else:
        w, c, left, _ = orthogonalize(be, Q, w, j + 1)
    following, left = normalize(be, w, left, scale)
    Q = be.put(Q, (slice(None), j + 1), following)
    return Q, scale, c, left


def _steps_jax(A: Any, Q: Array, scale: Array, first: Any, last: Any, *, hermitian: bool) -> tuple[Any, ...]:
    """Steps first .. last - 1 of a basis whose shape does not change."""
    import jax

    be = A._concrete_backend()
    k, rows, _ = Q.shape
    C = be.zeros((k, rows - 1, rows), A.dtype)
    norms = be.zeros((k, rows - 1), be.real_dtype(A.dtype))

    def body(j: Any, state: Any) -> Any:
        Q, scale, C, norms = state
        Q, scale, c, b = _step(be, A, Q, scale, j, hermitian)
        return Q, scale, C.at[:, j].set(c), norms.at[:, j].set(b)

    return jax.lax.fori_loop(first, last, body, (Q, scale, C, norms))  # type: ignore[no-any-return]


def _three_terms(
    be: Backend, A: Any, previous: Array, q: Array, b: Array, scale: Array
) -> tuple[tuple[Array, Array, Array], Array, Array]:
    if be.name == "jax":
        return be.jit(_three_terms_plain)(A, previous, q, b, scale)  # type: ignore[no-any-return]
    return _three_terms_plain(A, previous, q, b, scale)


def _three_terms_plain(
    A: Any, previous: Array, q: Array, b: Array, scale: Array
) -> tuple[tuple[Array, Array, Array], Array, Array]:
    """A Lanczos step without memory: the next pair of vectors and what couples them; sizes met; alpha."""
    be = A._concrete_backend()
    xp = be.xp
    w = A._matmat(q.mT).mT
    scale = xp.maximum(scale, xp.linalg.vector_norm(w, axis=-1))
    w = w - be.astype(b, A.dtype)[:, None] * previous
    a = xp.sum(be.conj(q) * w, axis=-1)
    w = w - a[:, None] * q
    following, left = normalize(be, w, xp.linalg.vector_norm(w, axis=-1), scale)
    return (q, following, left), scale, xp.real(a) if be.is_complex(a) else a
