"""Log-determinant by stochastic Lanczos quadrature. Ubaru, Chen & Saad, SIMAX 38 (2017) 1075.

``log det A = tr log A``, estimated as the mean of Gauss quadratures over random signs. The reported error has
two parts: the Monte Carlo standard error, and the quadrature's own (truncation) error, estimated from the
change between ``m/2`` and ``m`` steps continued at its observed rate; at high condition numbers the second
dominates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import record
from ..errors import NotPositiveDefiniteError
from ..info import Info
from ..properties import PSD
from .base import Algorithm, question_memory, refuse_batches
from .krylov import Tridiagonal, lanczos
from .sketch import next_key

__all__ = ["SLQ"]


@dataclass(frozen=True)
class SLQ(Algorithm):
    """``log det A`` of a PSD operator from products only.

    tol: wanted total error relative to max(|log det|, n) (default 1e-2). samples: probes of the first round;
    more are added up to max_samples. max_iters: Lanczos steps (doubled from 32 while truncation dominates).
    key: seed.
    """

    tol: float = 1e-2
    samples: int = 16
    max_samples: int = 512
    max_iters: int = 256
    key: Any = 0

    kind: ClassVar[str] = "stochastic"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.isa(PSD):
            return "the operator is not declared PSD"
        return "batches of operators are not supported" if A.batch_shape else True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, m, s = A.shape[-1], min(64, A.shape[-1]), 4 * self.samples
        one = A.matvec_cost * s + Cost(8 * m * n * s, 4 * m * A.itemsize * n * s, 0, 0, 10)
        total = one * m
        return Cost(
            total.flops,
            total.bytes,
            question_memory(A, min(self.max_iters, n) * self.samples),
            m * s,
            total.calls,
        )

    def slogdet(self, A: Any) -> tuple[Array, Array]:
        refuse_batches(A, "SLQ", "Cholesky() or LU()")
        be = A._concrete_backend()
        xp = be.xp
        n = A.shape[-1]
        one = xp.ones_like(be.zeros((), be.real_dtype(A.dtype), A.device))
        if n == 0:
            return one, 0 * one
        concrete = be.is_concrete(A @ be.zeros((n, 1), A.dtype, A.device))
        m = min(n, 32 if concrete else min(self.max_iters, 128))
        values: list[Array] = []
        truncations: list[Array] = []
        products = rounds = 0
        while True:
            Z = be.rademacher(next_key(be, self.key, rounds), (n, self.samples), A.dtype, A.device)
            T = lanczos(A, Z, m)
            products += T.products * self.samples
            rounds += 1
            full = _quadrature(be, T, T.alpha.shape[0], A)
            half = _quadrature(be, T, max(T.alpha.shape[0] // 2, 1), A)
            quarter = _quadrature(be, T, max(T.alpha.shape[0] // 4, 1), A)
            step, previous = xp.mean(full - half), xp.mean(half - quarter)
            exact = T.alpha.shape[0] < m or m == n
            truncation = 0 * one if exact else _tail(be, xp.abs(step), xp.abs(previous))
            if concrete and not exact and m < min(n, self.max_iters):
                if be.number(truncation) > 0.3 * self.tol * max(abs(be.number(xp.mean(full))), n):
                    m = min(n, 2 * m, self.max_iters)
                    values, truncations = [], []
                    continue
            values.append(full)
            truncations.append(truncation)
            estimates = xp.concat(values, axis=0)
            count = estimates.shape[0]
            mean = xp.mean(estimates)
            spread = xp.sqrt(xp.sum((estimates - mean) ** 2) / (max(count - 1, 1) * count))
            error = xp.sqrt(spread**2 + truncations[-1] ** 2)
            if not concrete or count >= self.max_samples:
                break
            if be.number(error) <= self.tol * max(abs(be.number(mean)), n):
                break
        wanted = self.tol * xp.maximum(xp.abs(mean), n * one)
        met = bool(error <= wanted) if concrete else error <= wanted
        record(
            Info(
                method="SLQ",
                converged=met,
                reason="converged" if met is True else "sample or step limit reached",
                iterations=int(T.alpha.shape[0]),
                matvecs=products,
                tolerance=self.tol,
                error_estimate=be.number(truncations[-1]) if concrete else truncations[-1],
                standard_error=be.number(error) if concrete else error,
            )
        )
        return one, mean


def _quadrature(be: Any, T: Tridiagonal, m: int, A: Any) -> Array:
    """``|z|^2 e1^T log(T_m) e1`` for each probe, from the leading m steps."""
    xp = be.xp
    part = Tridiagonal(T.basis, T.alpha[:m], T.beta[:m], T.norm, m)
    theta, S = part.eigh(be)
    weight = xp.abs(S[..., 0, :]) ** 2
    eps = float(xp.finfo(be.real_dtype(A.dtype)).eps)
    top = xp.max(xp.abs(theta), axis=-1)[..., None]
    # zero-padded rows of a broken-down recurrence have zero weight; log must not see their zero eigenvalue
    present = weight > (10 * eps) ** 2
    if be.is_concrete(theta):
        low = xp.where(present, theta, top)
        if bool(xp.any(low < -1e3 * eps * top)):
            raise NotPositiveDefiniteError(
                f"log det of {A!r}: a Ritz value is {be.number(xp.min(low)):.3g}, so the operator is not "
                "positive definite. Remove the PSD declaration and use LU() or a dense method."
            )
    safe = xp.where(present & (theta > 0), theta, xp.maximum(top, xp.zeros_like(top) + 1e-300) * eps)
    logs = xp.where(present, xp.log(safe), xp.zeros_like(safe))
    return T.norm**2 * xp.sum(weight * logs, axis=-1)


def _tail(be: Any, step: Array, previous: Array) -> Array:
    """What further doublings would still add, if differences keep shrinking at the rate just observed."""
    xp = be.xp
    ratio = step / xp.where(previous > 0, previous, xp.ones_like(previous))
    ratio = xp.minimum(xp.maximum(ratio, 0.1 * xp.ones_like(ratio)), 0.9 * xp.ones_like(ratio))
    return step * ratio / (1 - ratio)
