"""``StochasticDualDescent``: random blocks of coordinates of the dual of kernel ridge regression, with
momentum and a running average.

Lin, Padhy, Antoran, Tripp, Terenin, Szepesvari, Hernandez-Lobato & Janz, ICLR 2024 (arXiv 2310.20581),
algorithm 1. The noise vanishes at the solution, so the steps need not shrink.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array, Backend
from ..cost import Cost
from ..operators.selection import has_cheap_rows, rows_times
from ..properties import PSD
from ..reasons import DIVERGED
from .iteration import CONVERGED, INDEFINITE, NONFINITE, RUNNING, observe
from .piecewise_solver import PiecewiseSolver, negative_curvature
from .progress import Watch
from .random_blocks import largest_eigenvalue, shuffled_blocks

__all__ = ["StochasticDualDescent"]

ROUNDS = 16  # random orders of all coordinates that are drawn; after them the first comes again
LOOK = 3  # passes over all coordinates between two looks at the whole residual
MOST_HALVINGS = 25


def _iterate(
    A: Any,
    data: Any,
    B: Array,
    X: Array | None,
    tol: Any,
    limit: Any,
    *,
    watch: Watch | None = None,
    momentum: float = 0.9,
    look: int = 1,
) -> tuple[Array, Any, Any, Array]:
    """Steps in groups of ``look``; after each the residual of the point and of the average is computed."""
    be: Any = backend_of(B)
    xp = be.xp
    batches, rate, average, share = data
    n, count = B.shape[-2], batches.shape[0]
    bnorm = be.norm(B)
    target = tol * bnorm
    X = xp.zeros_like(B) if X is None else X + 0
    R = B - A @ X
    rnorm = be.norm(R)
    code = xp.where(rnorm <= target, CONVERGED, RUNNING)
    code = xp.where(xp.isfinite(rnorm), code, NONFINITE)
    scale = 1 / xp.where(bnorm > 0, bnorm, xp.ones_like(bnorm))

    def step(state: Any) -> Any:
        t, end, X, V, mean, rate = state
        index = batches[t % count]
        gradient = rows_times(A, index, X + momentum * V) - B[index, :]
        V = momentum * V - be.index_add(index, gradient * be.astype(rate, B.dtype), n)
        X = X + V
        return t + 1, end, X, V, mean + average * (X - mean), rate

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[-1] == RUNNING)

    def body(state: Any) -> Any:
        t, X, V, mean, best, least, rate, halvings, looks, code = state
        end = xp.minimum(t + look, limit) if be.name == "jax" else min(t + look, limit)
        t, _, X, V, mean, _ = be.while_loop(lambda s: s[0] < s[1], step, (t, end, X, V, mean, rate))
        k = B.shape[-1]
        product = A @ xp.concat([X, mean], axis=-1)
        both = be.norm(xp.concat([B, B], axis=-1) - product)
        bent = negative_curvature(be, X, product[:, :k])
        own, averaged = both[:k], both[k:]
        # the better of the two in every column
        pick = averaged < own
        now = xp.where(pick, averaged, own)
        better = now < least
        best = xp.where(better, xp.where(pick, mean, X), best)
        least = xp.where(better, now, least)
        # far above what was reached before: back there, with half the rate and no momentum
        lost = xp.any(~(own * scale <= 10 * xp.max(least * scale) + 10 * tol))
        halvings = halvings + xp.where(lost, 1, 0)
        rate = xp.where(lost, rate / 2, rate)
        X = xp.where(lost, best, X)
        V = xp.where(lost, xp.zeros_like(V), V)
        mean = xp.where(lost, best, mean)
        code = xp.where((code == RUNNING) & (least <= target), CONVERGED, code)
        code = xp.where((code == RUNNING) & bent, INDEFINITE, code)
        code = xp.where((code == RUNNING) & (halvings > MOST_HALVINGS), DIVERGED, code)
        code = observe(be, watch, t, least, code)
        return t, X, V, mean, best, least, rate, halvings, looks + 1, code

    zero = xp.asarray(0)
    state = (0, X, xp.zeros_like(X), X + 0, X + 0, rnorm, rate, zero, zero, code)
    state = be.while_loop(running, body, state)
    t, best, looks, code = state[0], state[4], state[8], state[9]
    return best, t, 1 + 2 * looks + -(-t // share), code


@dataclass(frozen=True)
class StochasticDualDescent(PiecewiseSolver):
    """Solve ``(K + s I) x = b`` from a few random rows in each step: ``2 n batch`` flops, five vectors.

    max_iters: steps (default 500 passes over all rows). batch: rows of a step (default 512). momentum: of the
    Nesterov kind. rate: step size per coordinate; default: from an estimate of the norm of diagonal blocks.
    average: weight of the newest point in the average (default ``100 / max_iters``). key: seed. The residual
    is computed every few passes; where it has grown, the steps go back to the best point with half the rate.
    A budget that is used up is an ordinary end: the answer is the best point found, with its residual.

    >>> import numpy as np, cola_core as cola
    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> K = np.exp(-((x[:, None] - x) ** 2).sum(-1))
    >>> A = cola.PSD(cola.ops.Dense(K) + 1.0 * cola.ops.Identity(200))
    >>> alg = cola.StochasticDualDescent(tol=1e-4, batch=50)
    >>> y, info = cola.solve(A, np.ones(200), alg, return_info=True)
    >>> info.converged
    True
    """

    batch: int = 512
    momentum: float = 0.9
    rate: float | None = None
    average: float | None = None
    key: Any = 0

    _method: ClassVar[str] = "stochastic dual descent"
    _iterate: ClassVar[Any] = staticmethod(_iterate)

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.isa(PSD):
            return "the operator is not declared PSD"
        return True if has_cheap_rows(A) else "some rows cost as much as a product with the whole"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        passes = 200
        one = A.matmat_cost(k) + Cost(12.0 * n * k, 60.0 * A.itemsize * n * k, 0, 0, 10)
        steps = passes * -(-n // max(min(self.batch, n), 1))
        return Cost(
            one.flops * passes, one.bytes * passes, self._memory(A, 8, operands), passes, 20.0 * steps
        )

    def _size(self, n: int) -> int:
        return max(min(int(self.batch), n), 1)

    def _limit(self, n: int) -> int:
        return 500 * -(-n // self._size(n))

    def _static(self, n: int, limit: int) -> dict[str, Any]:
        return {"momentum": float(self.momentum), "look": LOOK * -(-n // self._size(n))}

    def _pieces(self, be: Backend, A: Any, B: Array, limit: int) -> tuple[Any, int]:
        n = A.shape[-1]
        size = self._size(n)
        device = be.device(B)
        host = shuffled_blocks(n, size, ROUNDS, self.key)
        batches = be.asarray(host, device=device)
        real = be.real_dtype(B.dtype)
        if self.rate is None:
            # momentum makes the blocks of the last 1 / (1 - momentum) steps act together
            together = min(-(-n // size), int(round(1 / max(1 - self.momentum, 0.01))))
            index = be.asarray(_unique(host[:together].ravel()), device=device)
            v = be.normal(1, (index.shape[0], 1), B.dtype, device)

            def product(v: Array) -> Array:
                return rows_times(A, index, be.index_add(index, v, n))

            rate = 1 / (1.3 * largest_eigenvalue(be, product, v))
        else:
            rate = be.asarray(float(self.rate), real, device)
        average = min(100.0 / max(limit, 1), 1.0) if self.average is None else float(self.average)
        # where single rows are not to be had, each step is a product
        share = -(-n // size) if has_cheap_rows(A) else 1
        data = (batches, be.astype(rate, real), be.asarray(average, real, device), share)
        return data, 8 if self.rate is None else 0


def _unique(x: Any) -> Any:
    import numpy as np

    return np.unique(x)
