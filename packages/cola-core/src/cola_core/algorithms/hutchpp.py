"""Hutch++: the trace of a low-rank part exactly, and random probes for the rest.

Source: Meyer, Musco, Musco & Woodruff, SOSA 2021, alg. 1. How many products go into the low-rank part is
found as Persson, Cortinovis & Kressner, SIMAX 43 (2022) 1162, sec. 3, do: grow it while that lowers the
predicted total. The variance that remains is measured here with the next block of test vectors, which holds
for operators that are not self-adjoint too; the probes of the answer are drawn afterwards, so that the choice
does not bias them. In derivatives the basis of the low-rank part counts as fixed; the estimate is then linear
in A, and its derivative an estimate of the derivative from the same probes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import record
from ..info import Info
from ..pytree import tree_leaves
from ..reasons import NONFINITE, REASONS, RUNNING
from .base import question_memory
from .linear_estimate import Block, linear_estimate
from .random_probes import RandomProbes
from .sketch import FEWEST, look, next_key, spread

__all__ = ["HutchPP"]

EXACT = -1  # the answer is the sum of the diagonal


@dataclass(frozen=True)
class HutchPP(RandomProbes):
    """The trace of any square operator: of a low-rank part exactly, of the rest by Hutchinson's estimate.

    tol: standard error relative to the estimate (default 3e-2). max_iters: products at most (default 10,000).
    bs: test vectors and probes per product. rand: "rademacher" or "normal". pbar: show progress. key: seed.
    At a fixed number of products ``XTrace`` is the more accurate; this one needs no more memory when it goes
    on.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.no_dispatch(np.diag(0.5 ** np.arange(300.0)))
    >>> t, info = cola.trace(A, cola.HutchPP(tol=1e-3), return_info=True)
    >>> bool(abs(t - 2) < 1e-2), info.converged
    (True, True)
    """

    bs: int = 16

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return True if A.is_square else "the operator is not square"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        products = min(float(self.max_iters), float(n), 4 * self.bs + 3 / max(self.tol, 1e-6))
        basis = products / 3
        work = A.matmat_cost(products)
        return Cost(
            work.flops + 8 * n * basis * products,
            work.bytes + 16 * A.itemsize * n * products,
            question_memory(A, int(3 * basis + 4 * self.bs)),
            products,
            max(work.calls, work.calls * products / self.bs) + 20,
        )

    def trace(self, A: Any) -> Array:
        be = A._concrete_backend()
        xp = be.xp
        n = A.shape[-1]
        if n == 0:
            return be.zeros(A.batch_shape, A.dtype, A.device)

        def blocks(Q: Array, first: int, probes: int) -> Iterator[Block]:
            """With Q fixed, ``tr(Q^H A Q)`` and the mean of ``w^H A w`` for probes w orthogonal to Q."""

            def rest(batch: int, b: int) -> Array:
                omega = self._draw(be, A, batch, b)
                return omega - Q @ (be.adjoint(Q) @ omega)

            def total(V: Array, AV: Array) -> Array:
                return xp.sum(be.inner(V, AV), axis=-1)

            yield Block(lambda: Q, total, lambda V, g: V * g[..., None, None])
            done, batch = 0, first
            while done < probes:
                b = min(self.bs if done else max(self.bs, 2), probes - done)
                yield Block(
                    partial(rest, batch, b),
                    lambda V, AV: total(V, AV) / probes,
                    lambda V, g: V * g[..., None, None] / probes,
                )
                done, batch = done + b, batch + 1

        mean, (met, verdict, made, error) = linear_estimate(be, A, self._sample, blocks)
        error = be.constant(error)
        if be.is_concrete(error):
            met, verdict, made = bool(met), int(verdict), int(made)
            error = be.number(error)
            verdict = verdict if be.all_finite(be.constant(mean)) else NONFINITE
            reason = REASONS.get(verdict, "") if verdict != RUNNING else "product limit reached"
            reason = "exact" if verdict == EXACT else "converged" if met else reason
        else:
            reason = "exact" if isinstance(verdict, int) and verdict == EXACT else "see converged"
        self._tell(met, reason, made, error)
        return mean

    def _sample(self, A: Any) -> tuple[Array, tuple[Array], tuple[int, int], tuple[Any, ...]]:
        """The estimate; Q; the number of the first batch of probes, and of probes; whether the tolerance is
        met, why it ended, products and error."""
        be = A._concrete_backend()
        xp = be.xp
        n = A.shape[-1]
        concrete = be.is_concrete(*tree_leaves(A))
        with self.watched("HutchPP", self.max_iters, be, *tree_leaves(A)) as watch:
            low, Q, Z, made, drawn, verdict = self._basis(A, concrete, watch)
            first, values = drawn, None
            if Q.shape[-1] >= n:
                Q = xp.broadcast_to(Q, (*A.batch_shape, n, n))
                return low, (Q,), (first, 0), (True, EXACT, made, xp.max(0 * xp.abs(low)))
            met: Any = False
            mean, error = low, xp.abs(low) * 0 + float("inf")
            while verdict != NONFINITE and (made < self.max_iters or values is None):
                # two probes at least: one has no spread
                b = max(min(self.bs, self.max_iters - made), 1 if values is not None else 2)
                omega = self._draw(be, A, drawn, b)
                omega = omega - Q @ (be.adjoint(Q) @ omega)
                image = A @ omega
                made, drawn = made + b, drawn + 1
                found = be.inner(omega, image - Q @ (be.adjoint(Q) @ image))
                values = found if values is None else xp.concat([values, found], axis=-1)
                mean, error = spread(be, values)
                mean = low + mean
                eps = float(xp.finfo(error.dtype).eps)
                error = xp.hypot(error, 4 * eps * xp.sum(be.norm(Z), axis=-1))
                enough = values.shape[-1] >= FEWEST
                met = xp.all(error <= self.tol * xp.abs(mean)) & enough
                concrete = be.is_concrete(error)
                verdict = look(be, watch, made, error) if verdict == RUNNING else verdict
                if not concrete:
                    if values.shape[-1] >= min(64, self.max_iters // 3):
                        break
                elif bool(met) or verdict != RUNNING or not be.all_finite(mean):
                    break
        probes = 0 if values is None else int(values.shape[-1])
        return mean, (Q,), (first, probes), (met, verdict, made, xp.max(error))

    def _basis(self, A: Any, concrete: bool, watch: Any) -> tuple[Array, Array, Array, int, int, int]:
        """``tr(Q^H A Q)``, Q, A Q, and how many products and blocks of test vectors it took."""
        be = A._concrete_backend()
        xp = be.xp
        n = A.shape[-1]
        limit = max(self.max_iters // 3, 1)
        first = min(self.bs if concrete else min(64, limit), limit)
        low = be.zeros(A.batch_shape, A.dtype, A.device)
        Q = Z = be.zeros((*A.batch_shape, n, 0), A.dtype, A.device)
        made = drawn = 0
        cheapest = float("inf")
        while True:
            b = first
            if Q.shape[-1] + b >= n:
                Q = be.eye(n, A.dtype, A.device)
                Z = A @ Q
                return xp.sum(xp.linalg.diagonal(Z), axis=-1), Q, Z, made + n, drawn, RUNNING
            omega = self._draw(be, A, drawn, b)
            rest = omega - Q @ (be.adjoint(Q) @ omega)
            Y = A @ rest
            made, drawn = made + b, drawn + 1
            Yc = be.constant(Y)
            concrete = be.is_concrete(Yc)
            if concrete and not be.all_finite(Yc):
                return low + float("nan"), Q, Z, made, drawn, NONFINITE
            Yc = Yc - Q @ (be.adjoint(Q) @ Yc)
            if concrete and Q.shape[-1]:
                # |E|_F^2 of what is left, E = (I - QQ^H) A (I - QQ^H); a probe's variance is at most twice it
                left = 2 * xp.sum(xp.abs(Yc) ** 2, axis=(-2, -1)) / b
                whole = low + xp.mean(be.inner(rest, Yc), axis=-1)
                wanted = xp.maximum((self.tol * xp.abs(whole)) ** 2, be.norm(Yc)[..., 0] * 0 + 1e-300)
                predicted = 2 * Q.shape[-1] + be.number(xp.max(left / wanted))
                if predicted >= cheapest or predicted - 2 * Q.shape[-1] <= b or made + 3 * b > self.max_iters:
                    return low, Q, Z, made, drawn, RUNNING
                cheapest = predicted
            known = Q.shape[-1]
            if known:
                Q2 = be.qr(xp.concat([Q, Yc], axis=-1))[0]
                Z = xp.concat([Z * be.inner(Q, Q2[..., :known])[..., None, :], A @ Q2[..., known:]], axis=-1)
                Q = Q2
            else:
                Q = be.qr(Yc)[0]
                Z = A @ Q
            made += b
            low = xp.sum(be.inner(Q, Z), axis=-1)
            verdict = look(be, watch, made, xp.abs(low) * 0 + float("inf"))
            if verdict != RUNNING or not concrete or made + 3 * b > self.max_iters or Q.shape[-1] >= 512:
                return low, Q, Z, made, drawn, verdict

    def _draw(self, be: Any, A: Any, i: int, b: int) -> Array:
        shape = (A.shape[-1], b)
        out: Array = getattr(be, self.rand)(next_key(be, self.key, i), shape, A.dtype, A.device)
        return out

    def _tell(self, met: Any, reason: str, made: int, error: Any) -> None:
        record(
            Info(
                method="HutchPP",
                converged=met,
                reason=reason,
                iterations=made,
                matvecs=made,
                tolerance=self.tol,
                standard_error=error,
            )
        )
