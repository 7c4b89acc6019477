"""What leave-one-out estimators share: a growing sketch, directions that leave one test vector out, errors.

Source: Epperly, Tropp & Webber, SIMAX 45 (2024) 1 (arXiv 2301.07825). A basis Q of ``range(A Omega)`` serves
all s estimates: the basis without test vector i is ``Q (I - s_i s_i^H)``, where the unit vector s_i is
orthogonal to every other column of ``R = Q^H A Omega``, a column of ``R^{-H}`` up to its length. Singular
values of R below rounding are lifted to it, so that an exhausted range (low rank, zero, multiples of a
projector) is exact rather than NaN. Q counts as a constant in derivatives: with it fixed the estimate is
linear in A and stays unbiased. The derivative of XTrace and XDiag is so an estimate of the derivative, from
the same test vectors; that of XNysTrace, whose test vectors do not depend on A, is the estimate's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from ..backends.base import Array, Backend
from ..cost import Cost
from ..dispatch.session import record
from ..info import Info
from ..properties import SelfAdjoint
from ..pytree import tree_leaves
from ..reasons import NONFINITE, REASONS, RUNNING
from .base import Iterative, question_memory
from .exact import Exact

__all__ = ["Sketch", "Sketching", "believable", "grow", "left_out", "look", "next_key", "spread"]

FEWEST = 8  # probes before their spread is believed


class Sketch(NamedTuple):
    """omega: (n, s) test vectors; Y: A omega; Q: (*batch, n, s) orthonormal, spans Y; Z: A Q, or A^H Q."""

    omega: Array
    Y: Array
    Q: Array
    Z: Array


def next_key(be: Backend, key: Any, i: int) -> Any:
    """A different key for every batch of probes."""
    if hasattr(type(key), "__index__") and not hasattr(key, "at"):  # any library's integer, but no JAX key
        return int(key) * 1_000_003 + i
    import jax

    return jax.random.fold_in(key, i)


def look(be: Backend, watch: Any, done: int, error: Array) -> int:
    """RUNNING, or why the watch of a run ends it (``progress.Watch``); under a trace it is only told."""
    if watch is None:
        return RUNNING
    worst = be.xp.max(error)
    if be.is_concrete(worst):
        return int(watch(done, be.number(worst)))
    be.report(watch, done, worst)
    return RUNNING


def grow(A: Any, old: Sketch | None, omega: Array, right: Any) -> Sketch:
    """The sketch with more test vectors. right: the operator that gives Z from Q (A or A^H)."""
    be = A._concrete_backend()
    xp = be.xp
    Y = A @ omega
    if old is None:
        Q = be.qr(be.constant(Y))[0]
        return Sketch(omega, Y, Q, right @ Q)
    known = old.Q.shape[-1]
    Q = be.qr(xp.concat([old.Q, be.constant(Y)], axis=-1))[0]
    # the first columns come back up to a sign
    phase = be.inner(old.Q, Q[..., :known])[..., None, :]
    Z = xp.concat([old.Z * phase, right @ Q[..., known:]], axis=-1)
    return Sketch(xp.concat([old.omega, omega], axis=-1), xp.concat([old.Y, Y], axis=-1), Q, Z)


def left_out(be: Backend, R: Array) -> Array:
    """Unit vectors (columns) that are orthogonal to all columns of R (..., s, s) but their own."""
    xp = be.xp
    U, sizes, V = be.svd(R)
    top = sizes[..., :1]
    eps = float(xp.finfo(sizes.dtype).eps)
    top = xp.where(top > 0, top, xp.ones_like(top))
    weight = top / xp.maximum(sizes, 4 * eps * R.shape[-1] * top)
    S = (U * be.astype(weight, U.dtype)[..., None, :]) @ be.adjoint(V)
    return S / be.astype(be.norm(S), S.dtype)[..., None, :]


def spread(be: Backend, values: Array) -> tuple[Array, Array]:
    """Mean over the last axis and its standard error, widened as Student's t is for few values."""
    xp = be.xp
    s = values.shape[-1]
    mean = xp.mean(values, axis=-1)
    if s < 2:
        return mean, xp.abs(mean) * 0 + float("inf")
    # the variance of t with s - 1 degrees of freedom is (s - 1) / (s - 3)
    return mean, be.frobenius(values - mean[..., None], axis=-1) / (s * max(s - 3, 0.5)) ** 0.5


def believable(be: Backend, error: Array, pairs: Array) -> Array:
    """The standard error of the mean of estimates that share their test vectors.

    error: as if they were independent. pairs: (..., s, s), entry [i, j] is estimate i made without test
    vector j too. A contribution of k vectors at once appears in k estimates: ``error**2`` counts it 1/k times
    and the jackknife over vectors (Efron & Stein 1981) k times, so that the geometric mean of both is right
    for every k, and too large for a mixture rather than too small (Cauchy-Schwarz).
    """
    xp = be.xp
    s = pairs.shape[-1]
    if s < 3:
        return error
    off = 1 - be.eye(s, pairs.dtype, be.device(pairs))
    without = xp.sum(pairs * off, axis=-2) / (s - 1)
    center = xp.mean(without, axis=-1)[..., None]
    jackknife = ((s - 1) / s) ** 0.5 * be.frobenius(without - center, axis=-1)
    return xp.sqrt(error) * xp.sqrt(jackknife)


@dataclass(frozen=True)
class Sketching(Iterative):
    """Base of XTrace, XNysTrace and XDiag: double the sketch until the error meets the tolerance.

    Under a trace (``jax.jit``) the size cannot depend on values: there it is 64, or what ``samples`` asks for
    if that is more.
    """

    tol: float = 1e-3
    max_iters: int = 512
    key: Any = 0
    samples: int = 16

    kind: ClassVar[str] = "stochastic"
    passes: ClassVar[int] = 2  # products per test vector
    turned: ClassVar[bool] = False  # the second one is with the adjoint
    compiled: ClassVar[int] = 64  # test vectors where the error cannot be looked at

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.is_square:
            return "the operator is not square"
        return True if self._expected() < A.shape[-1] else "as many products give the exact answer"

    def _expected(self) -> float:
        """Products to be expected of spectra that decay."""
        return self.passes * float(min(self.max_iters, max(4 * self.samples, 0.1 / max(self.tol, 1e-6))))

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        products = min(self._expected(), float(n))
        s = products / self.passes
        work = A.matmat_cost(products)
        batch = 1
        for b in A.batch_shape:
            batch *= b
        dense = 0.0 if products >= n else 12.0 * batch * n * s * s
        return Cost(
            work.flops + dense,
            work.bytes + (0.0 if products >= n else 20.0 * batch * A.itemsize * n * s),
            question_memory(A, int(8 * s)),
            products,
            work.calls + 30,
        )

    # -- what differs ----------------------------------------------------------------------------------------
    def _grow(self, A: Any, old: Any, stage: int, new: int) -> Any:
        """The sketch with ``new`` more test vectors."""
        raise NotImplementedError(f"{type(self).__name__} must define _grow()")

    def _estimate(self, be: Backend, sketch: Any, k: int) -> tuple[Array, Array, Array, Array]:
        """Value, standard error (rounding included), rounding error, and the size they are relative to."""
        raise NotImplementedError(f"{type(self).__name__} must define _estimate()")

    # -- what is shared --------------------------------------------------------------------------------------
    def _run(self, A: Any, question: str, *k: int) -> Array:
        """Grow the sketch until the error meets the tolerance; answer exactly where that costs no more.

        Where derivatives may be wanted, the sketch is what has them: for fixed test vectors and basis it is
        linear in A, so that no growth is recorded.
        """
        be = A._concrete_backend()
        xp = be.xp
        n = A.shape[-1]
        leaves = tree_leaves(A)
        if be.differentiating(*leaves):

            def run(A: Any) -> Any:
                sketch, verdict = self._grown(A, *k)
                return tuple(sketch), verdict

            def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array, ...]:
                omega, Y, Q, Z = outputs
                if self.passes == 1:
                    Y = Z = d.product(0, omega)
                elif self.turned and not A.isa(SelfAdjoint):
                    Y, Z = d.product(0, omega), d.adjoint(0, Q)
                else:
                    both = xp.broadcast_to(omega, (*Q.shape[:-2], *omega.shape[-2:]))
                    both = d.product(0, xp.concat([both, Q], axis=-1))
                    Y, Z = both[..., : omega.shape[-1]], both[..., omega.shape[-1] :]
                return xp.zeros_like(omega), Y, xp.zeros_like(Q), Z

            arrays, verdict = be.differentiable(run, tangent, A)
            sketch = Sketch(*arrays)
        else:
            sketch, verdict = self._grown(A, *k)
        s = sketch.omega.shape[-1]
        if not s:
            spent = int(verdict) if be.is_concrete(verdict) else verdict
            self._tell(be, True, "exact", spent * self.passes + n, 0.0, 0.0)
            return getattr(Exact(), question)(A, *k)  # type: ignore[no-any-return]
        concrete = be.is_concrete(be.constant(sketch.Y))
        if concrete and not be.all_finite(be.constant(sketch.Y)):
            nan = float("nan")
            self._tell(be, False, REASONS[NONFINITE], self.passes * s, nan, nan)
            spoiled = xp.sum(sketch.Y, axis=(-2, -1)) * nan
            if question == "diag":
                spoiled = spoiled[..., None] + be.zeros((max(n - abs(k[0]), 0),), A.dtype, A.device)
            return spoiled
        value, error, rounding, size = self._estimate(be, sketch, *k)
        error, rounding = be.constant(error), be.constant(rounding)
        met = xp.all(error <= self.tol * be.constant(size))
        reason = "see converged"
        if concrete:
            met, verdict = bool(met), int(verdict)
            reason = "sketch limit reached" if verdict == RUNNING else REASONS[verdict]
            reason = "converged" if met else reason
        self._tell(be, met, reason, self.passes * s, xp.max(error), xp.max(rounding))
        return value

    def _grown(self, A: Any, *k: int) -> tuple[Sketch, int]:
        """The sketch that meets the tolerance (or the limit), and why it stopped. Where as many products as
        rows would be needed it is one without columns, and the number is that of the test vectors spent."""
        be = A._concrete_backend()
        xp = be.xp
        n = A.shape[-1]
        s = max(1, min(self.samples, self.max_iters))
        if not be.is_concrete(*tree_leaves(A)):
            s = max(s, min(self.compiled, self.max_iters))
        known = stage = 0
        verdict = RUNNING
        sketch: Any = None
        with self.watched(type(self).__name__, self.passes * self.max_iters, be, *tree_leaves(A)) as watch:
            while True:
                if self.passes * s >= n:
                    none = be.zeros((n, 0), A.dtype, A.device)
                    whole = be.zeros((*A.batch_shape, n, 0), A.dtype, A.device)
                    return Sketch(none, whole, none if self.passes == 1 else whole, whole), known
                sketch = self._grow(A, sketch, stage, s - known)
                known = s
                concrete = be.is_concrete(sketch.Y)
                if concrete and not be.all_finite(sketch.Y):
                    break
                _, error, _, size = self._estimate(be, sketch, *k)
                verdict = look(be, watch, self.passes * s, error)
                met = xp.all(error <= self.tol * size)
                if not concrete or bool(met) or s >= self.max_iters or verdict != RUNNING:
                    break
                s, stage = min(2 * s, self.max_iters), stage + 1
        return sketch, verdict

    def _tell(self, be: Backend, met: Any, reason: str, made: int, error: Any, rounding: Any) -> None:
        def plain(x: Any) -> Any:
            return x if isinstance(x, float) or not be.is_concrete(x) else be.number(x)

        record(
            Info(
                method=type(self).__name__,
                converged=met,
                reason=reason,
                iterations=made,
                matvecs=made,
                tolerance=self.tol,
                error_estimate=plain(rounding),
                standard_error=plain(error),
            )
        )
