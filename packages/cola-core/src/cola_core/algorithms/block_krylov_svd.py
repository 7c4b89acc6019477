"""Randomised block Krylov iteration for the largest singular triples. Musco & Musco, NeurIPS 2015,
algorithm 2.

The whole space ``[A Z, (A A^H) A Z, ...]`` of a random block is kept and orthonormalised as it grows, so that
after q passes the approximation is as good as subspace iteration is after about q^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..autodiff.eigenpairs import singular_triples
from ..backends.base import Array
from ..cost import Cost
from ..pytree import tree_leaves
from ..reasons import CONVERGED, NONFINITE, RUNNING
from .base import question_memory, refuse_batches
from .block_basis import against, extend, independent
from .eigenpairs import PairIteration
from .progress import observe
from .randomized_svd import _other, wrapped
from .triples import PROBES, probed_error, refuse, report_triples, triple_residuals

__all__ = ["BlockKrylovSVD"]

FIRST_DEPTH = 4


@dataclass(frozen=True)
class BlockKrylovSVD(PairIteration):
    """The k largest singular triples from the block Krylov space of a random block.

    tol: of the residuals ``|A v - s u|`` and ``|A^H u - s v|`` relative to the largest singular value
    (default 1e-6 in double, 1e-4 in single). max_iters: blocks in the space at most (default 64; compiled
    code cannot let the space grow with the error and takes 16 at most). oversampling: columns of a block
    beside k (default ``max(4, k // 4)``). key: seed. ``Info.error_estimate`` bounds the spectral norm of
    ``A - U S V^H`` with probability ``1 - 1e-6``, from six random probes.

    >>> import numpy as np, cola_core as cola
    >>> A = np.diag(1.0 / np.arange(1, 201))
    >>> (U, S, V), info = cola.svd(cola.no_dispatch(cola.ops.Dense(A)), 3, alg=cola.BlockKrylovSVD(),
    ...                            return_info=True)
    >>> bool(np.allclose(S.diag, [1, 1 / 2, 1 / 3])), bool(info.converged)
    (True, True)
    """

    tol: float | None = None
    max_iters: int | None = None
    pbar: bool = False
    key: Any = 0
    oversampling: int | None = None

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if A.batch_shape:
            return "batches of operators are not supported"
        k, which = operands
        if which != "LM":
            return "the smallest singular values are out of reach of products alone"
        if FIRST_DEPTH * self._width(k, A) >= min(A.shape[-2:]):
            return f"{k} of {min(A.shape[-2:])} singular values is a large part of them"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        m, n = A.shape[-2:]
        b = self._width(operands[0], A)
        depth = 2 * FIRST_DEPTH
        one = 2 * A.matmat_cost(b) + Cost(12.0 * depth * m * b * b, 8 * depth * A.itemsize * m * b, 0, 0, 30)
        total = one * depth
        return Cost(total.flops, total.bytes, question_memory(A, 3 * depth * b), 2 * depth * b, total.calls)

    def _width(self, k: int, A: Any) -> int:
        extra = max(4, k // 4) if self.oversampling is None else int(self.oversampling)
        return min(k + extra, *A.shape[-2:])

    def svds(self, A: Any, k: int, which: str) -> tuple[Any, Array, Any]:
        refuse_batches(A, "BlockKrylovSVD", "SVD()")
        be = A._concrete_backend()
        refuse(which, "BlockKrylovSVD")
        eps = float(be.xp.finfo(be.real_dtype(A.dtype)).eps)
        tol = max(1e-6, 1e3 * eps) if self.tol is None else float(self.tol)
        b = self._width(k, A)
        most = -(-min(A.shape[-2:]) // b)
        limit = min(64 if self.max_iters is None else max(int(self.max_iters), 1), most)

        def run(A: Any) -> Any:
            Z = be.normal(self.key, (A.shape[-1], b), A.dtype, A.device)
            concrete = be.is_concrete(*tree_leaves(A))
            depth = min(limit, FIRST_DEPTH if concrete else 4 * FIRST_DEPTH)
            products = 0
            f = be.jit(_space, static=("depth", "k")) if concrete else _space
            with self.watched("BlockKrylovSVD", be, Z, *tree_leaves(A)) as watch:
                while True:
                    U, s, V = f(A, Z, k=k, depth=depth)
                    residuals = triple_residuals(be, A, U, s, V)
                    products += (3 * depth - 1) * b + 2 * k if depth > 1 else 2 * b + 2 * k
                    worst = be.xp.max(residuals)
                    code = be.xp.where(worst <= tol * s[0], CONVERGED, RUNNING)
                    code = be.xp.where(be.xp.isfinite(worst), code, NONFINITE)
                    code = observe(be, watch, depth, worst, code)
                    if not concrete or int(code) != RUNNING or depth >= limit:
                        break
                    depth = min(2 * depth, limit)
            error = probed_error(be, A, U, s, V, _other(be, self.key))
            return U, s, V, (residuals, depth, products, code, error)

        U, s, V, told = singular_triples(be, A, run, tol, "BlockKrylovSVD")
        residuals, depth, products, code, error = told
        report_triples(be, A, "BlockKrylovSVD", residuals, s, tol, depth, products + PROBES, code, error)
        return wrapped(U, s, V)


def _space(A: Any, Z: Array, *, k: int, depth: int) -> tuple[Array, Array, Array]:
    """The k largest triples of A compressed to a Krylov space of this many blocks."""
    be = A._concrete_backend()
    xp = be.xp
    AH = A.H
    m, b = A.shape[-2], Z.shape[-1]
    basis = be.zeros((m, depth * b), A.dtype, be.device(Z))
    W = independent(be, A @ Z)

    def put(basis: Array, j: Any, W: Array) -> Array:
        if be.name == "jax":
            import jax

            return jax.lax.dynamic_update_slice(basis, W, (0, j * b))
        return be.put(basis, (slice(None), slice(j * b, (j + 1) * b)), W)

    def body(state: Any) -> Any:
        j, basis, W = state
        W = extend(be, basis, A @ (AH @ W))
        return j + 1, put(basis, j, W), W

    basis = put(basis, 0, W)
    _, basis, _ = be.while_loop(lambda s: s[0] < depth, body, (1, basis, W))
    # dead columns of the basis give rows of zeros here, whose singular values are zero and come last
    V, s, C = be.svd(AH @ basis)
    U = be.matmul(basis, C)[:, :k]
    V, s = V[:, :k], s[:k]
    if s.shape[0] < k:
        raise AssertionError(f"{k} triples from a space of {s.shape[0]}")
    lost = be.norm(U) < 0.5
    # where A has fewer than k singular values that are not zero, any orthonormal vectors serve on the left
    free = independent(be, against(be, U, xp.where(lost, 1, 0) * be.normal(1, (m, k), A.dtype, A.device)))
    return _filled(be, U, free, lost), s, V


def _filled(be: Any, U: Array, free: Array, lost: Array) -> Array:
    """U with its lost columns replaced by those of ``free`` that are not dead, in order."""
    xp = be.xp
    U = U * be.astype(~lost, U.dtype)
    # the columns of ``free`` span as many directions as are lost; an orthonormal completion keeps both
    k = U.shape[-1]
    order = xp.argsort(be.astype(be.norm(free) > 0, "int32"), stable=True)
    slots = xp.argsort(be.astype(lost, "int32"), stable=True)
    where = xp.argsort(slots, stable=True)
    return U + (free[:, order][:, where] if k else U)
