"""`MixedPrecisionCG`: solve with a positive definite operator, most products in a low precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cola_core import PSD
from cola_core.algorithms import Algorithm, default_tol
from cola_core.backends import Backend, backend_of, get_backend
from cola_core.cost import Cost
from cola_core.dispatch import record
from cola_core.errors import (
    NonFiniteError,
    NotPositiveDefiniteError,
    ShapeError,
    UnknownNameError,
)
from cola_core.info import Info
from cola_core.ops import Diagonal, LinearOperator, as_operator, tree_leaves

from .precision import cast, choose, lowered, precision_of
from .refinement import CONVERGED, REASONS, Outcome, Phase, refine

__all__ = ["MixedPrecisionCG"]

Array = Any


@dataclass(frozen=True)
class MixedPrecisionCG(Algorithm):
    """Conjugate gradients with products in a low precision and residuals in the working precision of A and b.

    tol: bound on `|b - A x| / |b|` per column (default by dtype).
    max_iters: CG steps in all (default `min(10 n, 10000)`), at most half of them in a precision given up.
    precision: of the products: "auto" (single), "float32", "bfloat16", "float16", or "float64" for plain CG
        with residual replacement; half becomes single where it does not exist (NumPy, complex numbers).
    P: None, "jacobi", a positive definite operator close to the inverse of A, or a function A -> operator.
    x0: first guess.

    The answer has the residual it reports, measured in the working precision. Refinement converges if about
    `cond(A) * u < 1`, u the unit roundoff of the products (bfloat16 4e-3, float16 5e-4, float32 6e-8); beyond
    that the products are promoted to the working precision, once, and if that does not help either
    `Info.converged` is False and `Info.reason` says why. See `cola_gpu.refinement` for the method and its
    sources.
    """

    tol: float | None = None
    max_iters: int | None = None
    precision: str = "auto"
    P: Any = None
    x0: Any = None

    kind: ClassVar[str] = "iterative"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        """Operators declared PSD. (It is registered to run on request; `Auto` does not pick it.)"""
        return True if A.isa(PSD) else "the operator is not declared PSD"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        """Steps for a condition number of about 1e4, each at half the working precision's traffic."""
        n = A.shape[-1]
        b = operands[0] if operands else None
        columns = b.shape[-1] if b is not None and len(b.shape) > 1 else 1
        steps = min(n, 200, self.max_iters or 200)
        product = A.matvec_cost
        vectors = Cost(20.0 * n, 10.0 * A.itemsize * n, 6.0 * A.itemsize * n * columns, 0, 8)
        step = Cost(product.flops, product.bytes / 2, 0, 1, product.calls) + vectors * 0.5
        return step * (steps * columns)

    def solve(self, A: LinearOperator, b: Array) -> Array:
        """`A^{-1} b`; the Info is recorded with the running question. See `run`."""
        x, info = self.run(A, b)
        record(info)
        return x

    def run(self, A: LinearOperator, b: Array) -> tuple[Array, Info]:
        """`A^{-1} b` for b (n,) or (*batch, n, k), and its Info, ignoring the structural rules of `solve`.

        Errors: NonFiniteError for b; ShapeError; DTypeError for half or integer working precision;
        NotPositiveDefiniteError if a Jacobi preconditioner finds a diagonal that is not positive.
        """
        bk = backend_of(b) or get_backend("numpy")
        if len(b.shape) == 0 or b.shape[-2 if len(b.shape) > 1 else -1] != A.shape[-1]:
            raise ShapeError(
                f"MixedPrecisionCG: {A!r} of shape {A.shape} and b of shape {tuple(b.shape)} do not fit"
            )
        if not bk.all_finite(b):
            raise NonFiniteError(f"the right-hand side {tuple(b.shape)} of {A!r} contains NaN or infinity")
        columns, work = self._columns(bk, A, b)
        low = choose(self.precision, columns.dtype, bk)
        tol = default_tol(columns.dtype) if self.tol is None else float(self.tol)
        if 0 in columns.shape:
            return b if len(b.shape) == 1 else columns, Info(
                method="MixedPrecisionCG", reason="empty", residual=0.0
            )
        x0 = self._first_guess(bk, columns)

        def run(A: Any, rhs: Array, x: Array | None = None) -> tuple[Array, Outcome]:
            phases = self._phases(bk, A, low, work)
            return refine(bk, A, rhs, bk.xp.zeros_like(rhs) if x is None else x, phases, tol)

        with np.errstate(all="ignore"):  # overflow in a low precision is detected
            if bk.differentiating(columns, *tree_leaves(A)):
                # one implicit step: the derivative of a solve is another solve, whatever the iteration did
                x, outcome = bk.implicit_solve(A, run, columns)
            else:
                x, outcome = run(A, columns, x0)
        return x[..., 0] if len(b.shape) == 1 else x, self._info(bk, outcome, low, work, tol)

    def _columns(self, bk: Backend, A: Any, b: Array) -> tuple[Array, str]:
        """b as (*batch, n, k) in the working dtype, and the name of the working precision."""
        dtype = b.dtype if A.backend is None else bk.xp.result_type(b.dtype, A.dtype)
        columns = bk.astype(b if len(b.shape) > 1 else b[:, None], dtype)
        batch = np.broadcast_shapes(A.batch_shape, tuple(columns.shape[:-2]))
        return bk.xp.broadcast_to(columns, (*batch, *columns.shape[-2:])), precision_of(dtype)

    def _phases(self, bk: Backend, A: Any, low: str, work: str) -> list[Phase]:
        """The low precision first, if it is one, then the working precision."""
        steps = min(10 * A.shape[-1], 10_000) if self.max_iters is None else int(self.max_iters)
        make = self._preconditioner(bk, A)
        plain = Phase(A, 1.0, make(work), work, work, steps)
        if low == work:
            return [plain]
        A_low, scale = lowered(A, low, bk)
        vectors = "float32" if low in ("bfloat16", "float16") else low
        return [Phase(A_low, scale, make(vectors), low, vectors, steps // 2), plain]

    def _preconditioner(self, bk: Backend, A: Any) -> Callable[[str], Any]:
        """A function from the precision of the vectors to the preconditioner there, an operator or None."""
        if self.P is None:
            return lambda vectors: None
        if isinstance(self.P, str):
            if self.P != "jacobi":
                raise UnknownNameError(f'P is None, "jacobi", an operator or a function of A, not {self.P!r}')
            d = _positive_diagonal(bk, A)
            # relative to the smallest entry: the reciprocal of a tiny one would overflow in single precision
            inverse = bk.xp.min(d, axis=-1, keepdims=True) / d
            return lambda vectors: Diagonal(cast(inverse, vectors, bk))
        P = as_operator(self.P(A) if callable(self.P) else self.P)
        return lambda vectors: P.to(dtype=vectors)

    def _first_guess(self, bk: Backend, columns: Array) -> Array | None:
        if self.x0 is None:
            return None
        x0 = bk.asarray(self.x0)
        x0 = x0 if len(x0.shape) > 1 else x0[:, None]
        if tuple(x0.shape[-2:]) != tuple(columns.shape[-2:]):
            raise ShapeError(
                f"MixedPrecisionCG(x0=...) has shape {tuple(x0.shape)}, the right-hand side "
                f"{tuple(columns.shape)}"
            )
        return bk.xp.broadcast_to(bk.astype(x0, columns.dtype), columns.shape)

    def _info(self, bk: Backend, outcome: Outcome, low: str, work: str, tol: float) -> Info:
        xp = bk.xp
        converged, reason = xp.all(outcome.status == CONVERGED), "see converged"
        iterations, matvecs = outcome.steps, outcome.steps + outcome.refinements + 1
        residual = xp.max(outcome.residuals)
        if bk.is_concrete(outcome.status):
            converged = bool(converged)
            failed = outcome.status[outcome.status != CONVERGED]
            reason = REASONS[CONVERGED if converged else int(xp.min(failed))]
            if outcome.promoted:
                reason += f" (products promoted from {low} to {work})"
            iterations, matvecs, residual = int(iterations), int(matvecs), float(residual)
        return Info(
            method=f"MixedPrecisionCG[{low} in {work}]",
            converged=converged,
            reason=reason,
            iterations=iterations,
            matvecs=matvecs,
            residual=residual,
            residuals=outcome.residuals,
            tolerance=tol,
        )


def _positive_diagonal(bk: Backend, A: Any) -> Array:
    from cola_core.linalg import diag

    d = diag(A)
    d = bk.xp.real(d) if bk.is_complex(d) else d
    positive = bk.xp.all(d > 0)
    if bk.is_concrete(positive) and not bool(positive):
        raise NotPositiveDefiniteError(
            f"{A!r} has diagonal entries that are not positive, so it is not positive definite; use another "
            "algorithm, or P=None to see how far CG gets"
        )
    return d
