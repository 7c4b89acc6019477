"""Randomised subspace iteration for the largest singular triples. Halko, Martinsson & Tropp, SIREV 53 (2011)
217, algorithms 4.4 and 5.1.

A random block, sharpened by products with A and its adjoint (orthonormalised in between), spans the dominant
singular space where the spectrum decays. All work is products with blocks, and the number of passes is small.
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
from .eigenpairs import PairIteration
from .progress import observe
from .triples import PROBES, probed_error, refuse, report_triples, triple_residuals

__all__ = ["RandomizedSVD"]


@dataclass(frozen=True)
class RandomizedSVD(PairIteration):
    """The k largest singular triples, to moderate accuracy, from ``2 (power_iterations + 1)`` or more passes
    over A.

    tol: of the residuals ``|A v - s u|`` and ``|A^H u - s v|`` relative to the largest singular value
    (default 1e-2: what is asked of an approximation). max_iters: power iterations at most, while the
    tolerance is missed (default 30). power_iterations: at least so many (default 2). oversampling: vectors
    beside the k (default 10). key: seed. ``Info.error_estimate`` bounds the spectral norm of
    ``A - U S V^H`` with probability ``1 - 1e-6``, from six random probes.

    >>> import numpy as np, cola_core as cola
    >>> A = np.outer(np.ones(60), np.arange(50.0)) + np.eye(60, 50)
    >>> (U, S, V), info = cola.svd(A, 1, alg=cola.RandomizedSVD(tol=1e-6), return_info=True)
    >>> bool(np.isclose(S.diag[0], np.linalg.norm(A, 2))), bool(info.converged)
    (True, True)
    """

    tol: float | None = None
    max_iters: int | None = None
    pbar: bool = False
    key: Any = 0
    power_iterations: int = 2
    oversampling: int = 10

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if A.batch_shape:
            return "batches of operators are not supported"
        k, which = operands
        if which != "LM":
            return "the smallest singular values are out of reach of products alone"
        if 2 * (k + self.oversampling) >= min(A.shape[-2:]):
            return f"{k} of {min(A.shape[-2:])} singular values is a large part of them"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        m, n = A.shape[-2:]
        b = min(operands[0] + self.oversampling, m, n)
        passes = 2 * (self.power_iterations + 1)
        one = A.matmat_cost(b) + Cost(4.0 * max(m, n) * b * b, 4 * A.itemsize * max(m, n) * b, 0, 0, 10)
        total = one * passes
        return Cost(total.flops, total.bytes, question_memory(A, 6 * b), passes * b, total.calls)

    def svds(self, A: Any, k: int, which: str) -> tuple[Any, Array, Any]:
        refuse_batches(A, "RandomizedSVD", "SVD()")
        be = A._concrete_backend()
        refuse(which, "RandomizedSVD")
        tol = 1e-2 if self.tol is None else float(self.tol)
        least = int(self.power_iterations)
        limit = max(least, 30 if self.max_iters is None else int(self.max_iters))
        b = min(k + int(self.oversampling), *A.shape[-2:])

        def run(A: Any) -> Any:
            Z = be.normal(self.key, (A.shape[-1], b), A.dtype, A.device)
            concrete = be.is_concrete(*tree_leaves(A))
            with self.watched("RandomizedSVD", be, Z, *tree_leaves(A)) as watch:
                f = be.jit(_iterate, static=("k", "least", "watch")) if concrete else be.automatic(_iterate)
                U, s, V, steps, code = f(A, Z, tol, limit, k=k, least=least, watch=watch)
            error = probed_error(be, A, U, s, V, _other(be, self.key))
            return U, s, V, (steps, code, triple_residuals(be, A, U, s, V), error)

        U, s, V, (steps, code, residuals, error) = singular_triples(be, A, run, tol, "RandomizedSVD")
        made = 2 * b * (steps + 1) + 2 * k + PROBES
        report_triples(be, A, "RandomizedSVD", residuals, s, tol, steps, made, code, error)
        return wrapped(U, s, V)


def wrapped(U: Array, s: Array, V: Array) -> tuple[Any, Array, Any]:
    """The answer to ``svds``."""
    from ..operators import Dense
    from ..properties import Stiefel

    some = frozenset({Stiefel})
    return Dense(U, declared=some), s, Dense(V, declared=some)


def _other(be: Any, key: Any) -> Any:
    """A key for probes that know nothing of the first block."""
    if isinstance(key, int):
        return key + 7919
    if be.name == "jax":
        import jax

        return jax.random.fold_in(key, 7919)
    return key


def _iterate(
    A: Any, Z: Array, tol: Any, limit: Any, *, k: int, least: int, watch: Any = None
) -> tuple[Array, Array, Array, Any, Array]:
    """U, s, V of the k wanted triples, power iterations made, and why they ended."""
    be = A._concrete_backend()
    xp = be.xp
    AH = A.H
    first, _ = be.qr(A @ Z)

    def measured(Q: Array) -> tuple[Array, Array, Array, Array]:
        """The triples in the span of Q: those of ``(A^H Q)^H``; their residuals on the left are zero."""
        W = AH @ Q
        V, s, C = be.svd(W)
        return be.matmul(Q, C)[:, :k], s, V, W

    def running(state: Any) -> Any:
        going = (state[-1] == RUNNING) | ((state[-1] == CONVERGED) & (state[0] < least))
        return going & (state[0] < limit)

    def body(state: Any) -> Any:
        step, U, s, V, _ = state
        AV = A @ V
        gap = be.norm(AV[:, :k] - U * be.astype(s[:k], U.dtype))
        code = xp.where(xp.max(gap) <= tol * s[0], CONVERGED, RUNNING)
        code = xp.where(xp.isfinite(xp.max(gap)), code, NONFINITE)
        code = observe(be, watch, step + 1, xp.max(gap), code)
        Q, _ = be.qr(AV)
        U, s, V, _ = measured(Q)
        return step + 1, U, s, V, be.astype(code, "int32")

    U, s, V, _ = measured(first)
    code = be.astype(xp.where(xp.isfinite(s[0]), RUNNING, NONFINITE), "int32")
    steps, U, s, V, code = be.while_loop(running, body, (0, U, s, V, code))
    return U, s[:k], V[:, :k], steps, code
