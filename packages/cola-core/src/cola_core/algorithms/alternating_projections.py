"""``AlternatingProjections``: exact solves on one block of unknowns after the other, for kernel matrices
too large for anything else.

Wu, Wenger, Jones, Pleiss & Gardner, arXiv 2310.17137; as block coordinate descent with greedy choice also
Lin, Padhy, Mlodozeniec, Antoran & Hernandez-Lobato, arXiv 2405.18457. The A-norm of the error falls in every
step, whatever the order of the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..backends import backend_of
from ..backends.base import Array, Backend
from ..cost import Cost
from ..operators.selection import columns_times, diagonal_blocks, has_cheap_rows
from ..properties import PSD
from .iteration import CONVERGED, INDEFINITE, NONFINITE, RUNNING, observe
from .piecewise_solver import PiecewiseSolver, negative_curvature
from .progress import Watch

__all__ = ["AlternatingProjections"]


def _iterate(
    A: Any, data: Any, B: Array, X: Array | None, tol: Any, limit: Any, *, watch: Watch | None = None
) -> tuple[Array, Any, Any, Array]:
    """The block with the largest residual is solved for, and its columns of A update the residual."""
    be: Any = backend_of(B)
    xp = be.xp
    places, factors, share = data
    n = B.shape[-2]
    bnorm = be.norm(B)
    target = tol * bnorm
    if X is None:
        X, R, extra = xp.zeros_like(B), B + 0, 0
    else:
        X, extra = X + 0, 1
        R = B - A @ X
    rnorm = be.norm(R)
    weight = 1 / xp.where(bnorm > 0, bnorm, xp.ones_like(bnorm)) ** 2
    # a positive definite A keeps |r| below sqrt(cond) times its first value
    most = rnorm / float(xp.finfo(rnorm.dtype).eps)
    code = xp.where(rnorm <= target, CONVERGED, RUNNING)

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[-1] == RUNNING)

    def body(state: Any) -> Any:
        step, X, R, code = state
        live = be.astype(code == RUNNING, weight.dtype)
        score = xp.sum(xp.abs(R) ** 2 * (weight * live), axis=-1)
        j = xp.argmax(xp.sum(score[places], axis=-1))
        index = places[j]
        change = be.cholesky_solve(factors[j], R[index, :]) * be.astype(live, B.dtype)
        X = X + be.index_add(index, change, n)
        R = R - columns_times(A, index, change, self_adjoint=True)
        rnorm = be.norm(R)
        code = xp.where((code == RUNNING) & (rnorm <= target), CONVERGED, code)
        bent = negative_curvature(be, X, B - R) | (rnorm > most)
        code = xp.where((code == RUNNING) & bent, INDEFINITE, code)
        code = xp.where((code == RUNNING) & ~xp.isfinite(rnorm), NONFINITE, code)
        return step + 1, X, R, observe(be, watch, step + 1, rnorm, code)

    step, X, _, code = be.while_loop(running, body, (0, X, R, code))
    return X, step, extra + -(-step // share), code


@dataclass(frozen=True)
class AlternatingProjections(PiecewiseSolver):
    """Solve ``A x = b`` for A positive definite, ``block`` unknowns at a time: ``2 n block`` flops and
    entries of A in each step, and ``n block`` numbers of memory for Cholesky factors of the diagonal blocks.

    max_iters: steps (default 200 sweeps over all blocks). block: default 1000. Consecutive unknowns form a
    block, so points should be ordered by place. The largest residual decides which block is next. Best where
    a product with A takes long and few digits are wanted; ``Info.matvecs`` counts sweeps.

    >>> import numpy as np, cola_core as cola
    >>> x = np.linspace(0, 1, 60)
    >>> A = cola.PSD(cola.ops.Dense(np.exp(-9 * (x[:, None] - x) ** 2)) + 0.1 * cola.ops.Identity(60))
    >>> alg = cola.AlternatingProjections(tol=1e-6, block=20)
    >>> y, info = cola.solve(A, np.ones(60), alg, return_info=True)
    >>> info.converged
    True
    """

    block: int = 1000

    _method: ClassVar[str] = "alternating projections"
    _iterate: ClassVar[Any] = staticmethod(_iterate)

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.isa(PSD):
            return "the operator is not declared PSD"
        return True if has_cheap_rows(A) else "some columns cost as much as a product with the whole"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        size = max(min(self.block, n), 1)
        sweeps = min(30, n)
        one = A.matmat_cost(k)
        calls = 20.0 * sweeps * -(-n // size)
        flops = n * size**2 / 3 + sweeps * (one.flops + 2.0 * n * size * k)
        memory = A.itemsize * (float(n) * size + 6.0 * n * k)
        return Cost(flops, sweeps * one.bytes + memory, memory, sweeps, calls)

    def _limit(self, n: int) -> int:
        return 200 * -(-n // max(min(self.block, n), 1))

    def _pieces(self, be: Backend, A: Any, B: Array, limit: int) -> tuple[Any, int]:
        n = A.shape[-1]
        size = max(min(int(self.block), n), 1)
        starts = np.minimum(np.arange(0, n, size), n - size)
        places = starts[:, None] + np.arange(size)
        factors = be.cholesky(be.astype(diagonal_blocks(A, places), B.dtype))
        # where single columns are not to be had, each step is a product, and the blocks took n of them
        share = len(places) if has_cheap_rows(A) else 1
        return (be.asarray(places, device=be.device(B)), factors, share), 0 if share > 1 else n
