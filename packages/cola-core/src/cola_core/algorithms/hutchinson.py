"""Trace and diagonal by random probes, with their standard error. Girard 1989;
Hutchinson 1990; Bekas et al. 2007."""

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
from ..reasons import CONVERGED, REASONS, RUNNING
from .base import question_memory
from .linear_estimate import Block, linear_estimate
from .random_probes import RandomProbes
from .sketch import FEWEST, look, next_key

__all__ = ["Hutchinson"]


@dataclass(frozen=True)
class Hutchinson(RandomProbes):
    """``tr A = E[z^H A z]`` with random z of unit variance:
    probes are added until the standard error meets the tolerance.

    tol: standard error relative to the estimate (default 3e-2). max_iters: probes at most (default 10,000).
    bs: probes per product. rand: "rademacher" (random signs: the least variance) or "normal". pbar: show
    progress. key: seed. For the diagonal, ``tol`` is the norm of the standard errors relative
    to that of the diagonal. Cost grows as ``tol**-2``.
    """

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.is_square:
            return "the operator is not square"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        probes = min(self.max_iters, 2 / self.tol**2)
        one = A.matvec_cost
        return Cost(
            one.flops * probes,
            one.bytes * probes,
            question_memory(A, 3 * self.bs),
            probes,
            one.calls * probes / self.bs,
        )

    def _sample(self, A: Any, per_probe: Any, size: Any) -> tuple[Array, Array, int, int]:
        """Running mean and standard error of ``per_probe(Z, A Z)`` (last axis:
        probes) until ``tol`` is met."""
        be = A._concrete_backend()
        xp = be.xp
        count, total, squares = 0, 0, 0
        mean = error = origin = unit = None
        batches = 0
        with self.watched("Hutchinson", self.max_iters, be, *tree_leaves(A)) as watch:
            while count < self.max_iters:
                Z = self._probes(A, batches)
                s = Z.shape[-1]
                values = per_probe(Z, A @ Z)
                batches += 1
                count += s
                if unit is None:  # a power of two, so that squares of deviations neither under- nor overflow
                    top = xp.max(xp.abs(values))
                    known = (top > 0) & xp.isfinite(top)
                    unit = xp.exp2(xp.floor(xp.log2(xp.where(known, top, xp.ones_like(top)))))
                    unit = be.constant(be.astype(unit, top.dtype))
                values = values / unit
                # deviations from the first mean: squares of the values themselves cancel to a false zero
                origin = xp.mean(values, axis=-1) if origin is None else origin
                values = values - origin[..., None]
                total = total + xp.sum(values, axis=-1)
                squares = squares + xp.sum(xp.abs(values) ** 2, axis=-1)
                mean = origin + total / count
                variance = xp.maximum(
                    squares / count - xp.abs(total / count) ** 2, xp.zeros_like(squares)
                ) * (count / max(count - 1, 1))
                # one probe has no spread
                error = xp.sqrt(variance / count) if count > 1 else variance + float("inf")
                verdict = look(be, watch, count, size(error * unit))
                if not be.is_concrete(mean):
                    # under a trace the number of probes cannot depend on values: what the tolerance asks for
                    if count >= min(self.max_iters, int(1 / self.tol**2)):
                        return mean * unit, error * unit, count, RUNNING
                    continue
                if count >= FEWEST and bool(size(error) <= self.tol * size(xp.abs(mean))):
                    return mean * unit, error * unit, count, CONVERGED
                if verdict != RUNNING:
                    return mean * unit, error * unit, count, verdict
        assert mean is not None and error is not None and unit is not None
        return mean * unit, error * unit, count, RUNNING

    def _probes(self, A: Any, batch: int) -> Array:
        """The probes (n, s) of a batch."""
        be = A._concrete_backend()
        s = min(self.bs, self.max_iters - batch * self.bs)
        key = next_key(be, self.key, batch)
        return getattr(be, self.rand)(key, (A.shape[-1], s), A.dtype, A.device)  # type: ignore[no-any-return]

    def _answer(self, A: Any, per_probe: Any, pull: Any, size: Any) -> Array:
        """The mean of ``per_probe(Z, A Z)`` over probes, reported, with its derivative: the same mean for dA.

        pull(Z, g): U with ``Re <g, sum per_probe(Z, Y)> = Re <U, Y>`` for all Y."""
        be = A._concrete_backend()

        def run(A: Any) -> Any:
            mean, error, count, code = self._sample(A, per_probe, size)
            return mean, (), (count,), (size(error), count, code, size(be.xp.abs(mean)))

        def blocks(count: int) -> Iterator[Block]:
            for batch in range(-(-count // self.bs)):
                yield Block(
                    partial(self._probes, A, batch),
                    lambda Z, AZ: be.xp.sum(per_probe(Z, AZ), axis=-1) / count,
                    lambda Z, g: pull(Z, g) / count,
                )

        mean, (error, count, code, length) = linear_estimate(be, A, run, blocks)
        self._report(be, be.constant(error), count, code, be.constant(length))
        return mean

    def trace(self, A: Any) -> Array:
        be = A._concrete_backend()
        xp = be.xp
        if A.shape[-1] == 0:
            return be.zeros(A.batch_shape, A.dtype, A.device)
        return self._answer(
            A, lambda Z, AZ: be.inner(Z, AZ), lambda Z, g: Z * g[..., None, None], lambda x: xp.max(x)
        )

    def diag(self, A: Any, k: int) -> Array:
        be = A._concrete_backend()
        xp = be.xp
        n = A.shape[-1]
        size, row, col = max(n - abs(k), 0), max(-k, 0), max(k, 0)
        if size == 0:
            return be.zeros((*A.batch_shape, 0), A.dtype, A.device)

        def norm(x: Array) -> Array:
            return be.frobenius(xp.reshape(x, (-1,)))

        def products(Z: Array, AZ: Array) -> Array:
            # E[(A z)_i conj(z_j)] = A_ij
            return be.conj(Z[..., col : col + size, :]) * AZ[..., row : row + size, :]

        def pull(Z: Array, g: Array) -> Array:
            part = Z[col : col + size, :] * g[..., :, None]
            above = be.zeros((*part.shape[:-2], row, part.shape[-1]), part.dtype, A.device)
            below = be.zeros((*part.shape[:-2], n - row - size, part.shape[-1]), part.dtype, A.device)
            return xp.concat([above, part, below], axis=-2)

        return self._answer(A, products, pull, norm)

    def _report(self, be: Any, error: Array, count: Any, code: Any, size: Array) -> None:
        concrete = be.is_concrete(error)
        if concrete:
            count, code = int(count), int(code)
        reason = "probe limit reached" if code == RUNNING else REASONS[code]
        record(
            Info(
                method="Hutchinson",
                converged=code == CONVERGED if concrete else error <= self.tol * size,
                reason=reason if concrete else "see converged",
                iterations=count,
                matvecs=count,
                tolerance=self.tol,
                standard_error=be.number(error) if concrete else error,
            )
        )
