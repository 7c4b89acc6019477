"""What the mixed-precision solvers of `A x = b` do alike: operands in one form, the precisions to try in
their order, one differentiable step in place of the iteration, and an Info that says what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cola_core.algorithms import Algorithm, default_tol, differentiable_solve
from cola_core.backends import Backend, backend_of, get_backend
from cola_core.dispatch import record
from cola_core.errors import NonFiniteError, NotPositiveDefiniteError, ShapeError, UnknownNameError
from cola_core.info import Info
from cola_core.ops import Diagonal, as_operator, tree_leaves

from .low_operators import full_precision
from .precision import cast, choose, precision_of
from .refinement import CONVERGED, Outcome, Phase, core_codes, reason_of, refine

__all__ = ["MixedPrecisionSolver"]

Array = Any
Make = Callable[[], Phase]


@dataclass(frozen=True)
class MixedPrecisionSolver(Algorithm):
    """Base: `_phases` says which precisions are tried, and how."""

    tol: float | None = None
    max_iters: int | None = None
    precision: str = "auto"
    P: Any = None
    x0: Any = None

    kind: ClassVar[str] = "iterative"
    _promoted: ClassVar[str] = "products"
    _known_preconditioners: ClassVar[tuple[str, ...]] = ("jacobi",)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _phases(
        self, bk: Backend, A: Any, columns: Array, work: str, adjoint: bool
    ) -> tuple[list[Make], list[str]]:
        """Makers of the phases in the order in which they are tried, and the names of their precisions."""
        raise NotImplementedError(f"{type(self).__name__} must define _phases")

    def solve(self, A: Any, b: Array) -> Array:
        """`A^{-1} b`; the Info is recorded with the running question. See `run`."""
        bk, columns, work, x0 = self._prepared(A, b)
        if 0 in columns.shape or not bk.differentiating(columns, *tree_leaves(A)):
            x, info = self.run(A, b)
            record(info)
            return x
        tol = self._tolerance(columns)
        x0 = None if x0 is None or bk.mapped(x0) else bk.constant(x0)

        names: list[str] = []  # of the value's precisions: words cannot travel with the arrays of an Outcome

        def value(operator: Any, rhs: Array) -> tuple[Array, Outcome]:
            x, outcome, names[:] = self._refined(bk, operator, rhs, x0, work, tol)
            return x, outcome

        def again(adjoint: bool) -> Callable[[Any, Array], Any]:
            def inner(operator: Any, rhs: Array) -> Any:
                x, outcome, own = self._refined(bk, operator, rhs, None, work, tol, adjoint)
                return x, self._info(bk, outcome, own, work, tol), outcome

            return inner

        def told(A: Any, X: Array, B: Array, outcome: Outcome) -> Info:
            return self._info(bk, outcome, names, work, tol)

        # one implicit step: the derivative of a solve is another solve, whatever the iteration did
        x = differentiable_solve(bk, A, columns, value, again(False), again(True), told)
        return x[..., 0] if len(b.shape) == 1 else x

    def run(self, A: Any, b: Array) -> tuple[Array, Info]:
        """`A^{-1} b` for b (n,) or (*batch, n, k), and its Info, ignoring the structural rules of `solve`.

        Errors: NonFiniteError for b; ShapeError; DTypeError for half or integer working precision;
        UnknownNameError for a precision or a preconditioner; NotPositiveDefiniteError if a Jacobi
        preconditioner of CG finds a diagonal that is not positive.
        """
        bk, columns, work, x0 = self._prepared(A, b)
        vector = len(b.shape) == 1
        if 0 in columns.shape:
            return b if vector else columns, Info(method=self._name, reason="empty", residual=0.0)
        tol = self._tolerance(columns)
        if bk.differentiating(columns, *tree_leaves(A)):
            names: list[str] = []

            def solve(operator: Any, rhs: Array, adjoint: bool = False) -> tuple[Array, Outcome]:
                x, outcome, own = self._refined(bk, operator, rhs, None, work, tol, adjoint)
                names[:] = names or own
                return x, outcome

            x, outcome = bk.implicit_solve(A, solve, columns, lambda M, rhs: solve(M, rhs, True))
        else:
            x, outcome, names = self._refined(bk, A, columns, x0, work, tol)
        return x[..., 0] if vector else x, self._info(bk, outcome, names, work, tol)

    def _prepared(self, A: Any, b: Array) -> tuple[Backend, Array, str, Array | None]:
        """Backend, b as (*batch, n, k) in the working dtype, the working precision and the first guess."""
        bk = backend_of(b) or get_backend("numpy")
        if len(b.shape) == 0 or b.shape[-2 if len(b.shape) > 1 else -1] != A.shape[-1]:
            raise ShapeError(
                f"{self._name}: {A!r} of shape {A.shape} and b of shape {tuple(b.shape)} do not fit"
            )
        if A.shape[-2] != A.shape[-1]:
            raise ShapeError(f"{self._name}: {A!r} of shape {A.shape} is not square; use lstsq")
        if not bk.all_finite(b):
            raise NonFiniteError(f"the right-hand side {tuple(b.shape)} of {A!r} contains NaN or infinity")
        dtype = b.dtype if A.backend is None else bk.xp.result_type(b.dtype, A.dtype)
        columns = bk.astype(b if len(b.shape) > 1 else b[:, None], dtype)
        batch = np.broadcast_shapes(A.batch_shape, tuple(columns.shape[:-2]))
        columns = bk.xp.broadcast_to(columns, (*batch, *columns.shape[-2:]))
        choose(
            self.precision, dtype, bk
        )  # an unknown or unfit precision is an error even if nothing is to do
        return bk, columns, precision_of(dtype), self._first_guess(bk, columns)

    def _tolerance(self, columns: Array) -> float:
        return default_tol(columns.dtype) if self.tol is None else float(self.tol)

    def _refined(
        self,
        bk: Backend,
        A: Any,
        rhs: Array,
        x0: Array | None,
        work: str,
        tol: float,
        adjoint: bool = False,
    ) -> tuple[Array, Outcome, list[str]]:
        """The answer, how it went, and the names of the precisions there were to try."""
        # overflow in a low precision is detected
        with np.errstate(all="ignore"), full_precision(bk):
            phases, names = self._phases(bk, A, rhs, work, adjoint)
            x = bk.xp.zeros_like(rhs) if x0 is None else x0
            return (*refine(bk, A, rhs, x, phases, tol, x0 is not None), names)

    def _limits(self, n: int, phases: int, default: int) -> list[int]:
        """Steps after which each phase ends: it may take an equal share of all, and what the ones before have
        left."""
        steps = default * phases if self.max_iters is None else int(self.max_iters)
        return [steps * (i + 1) // phases for i in range(phases)]

    def _preconditioner(self, bk: Backend, A: Any, adjoint: bool = False) -> Callable[[str], Any]:
        """A function from the precision of the vectors to the preconditioner there, an operator or None."""
        if self.P is None:
            return lambda vectors: None
        if isinstance(self.P, str):
            if self.P not in self._known_preconditioners:
                known = ", ".join(f'"{name}"' for name in self._known_preconditioners)
                raise UnknownNameError(f"P is None, {known}, an operator or a function of A, not {self.P!r}")
            inverse = self._jacobi(bk, A)
            return lambda vectors: Diagonal(cast(inverse, vectors, bk))
        P = as_operator(self.P(A) if callable(self.P) else self.P.H if adjoint else self.P)
        if tuple(P.shape[-2:]) != tuple(A.shape[-2:]):
            raise ShapeError(f"{self._name}(P=...): {P!r} has shape {P.shape}, {A!r} has {A.shape}")
        return lambda vectors: P.to(dtype=vectors)

    def _jacobi(self, bk: Backend, A: Any) -> Array:
        from cola_core.linalg import diag

        d = diag(A)
        d = bk.xp.real(d) if bk.is_complex(d) else d
        positive = bk.xp.all(d > 0)
        if bk.is_concrete(positive) and not bool(positive):
            raise NotPositiveDefiniteError(
                f"{A!r} has diagonal entries that are not positive, so it is not positive definite; use "
                "another algorithm, or P=None to see how far CG gets"
            )
        # relative to the smallest entry: the reciprocal of a tiny one would overflow in single precision
        return bk.xp.min(d, axis=-1, keepdims=True) / d

    def _first_guess(self, bk: Backend, columns: Array) -> Array | None:
        if self.x0 is None:
            return None
        x0 = bk.asarray(self.x0)
        x0 = x0 if len(x0.shape) > 1 else x0[:, None]
        if x0.shape[-2] != columns.shape[-2] or x0.shape[-1] not in (1, columns.shape[-1]):
            raise ShapeError(
                f"{self._name}(x0=...) has shape {tuple(x0.shape)}, the right-hand side "
                f"{tuple(columns.shape)}"
            )
        return bk.xp.broadcast_to(bk.astype(x0, columns.dtype), columns.shape)

    def _info(self, bk: Backend, outcome: Outcome, names: list[str], work: str, tol: float) -> Info:
        xp, status = bk.xp, outcome.status
        info = Info(
            method=f"{self._name}[{names[0]} in {work}]",
            converged=xp.all(status == CONVERGED),
            reason=reason_of(bk, status),
            iterations=outcome.steps,
            matvecs=outcome.steps + outcome.refinements + 1,
            residual=xp.max(bk.constant(outcome.residuals)),
            residuals=bk.constant(outcome.residuals),
            codes=core_codes(bk, status),
            tolerance=tol,
        )
        if not bk.is_concrete(status):
            return info
        tried = names[: 1 + int(outcome.promotions)]
        if len(tried) > 1:
            info = info.replace(reason=f"{info.reason} ({self._promoted} promoted from {' to '.join(tried)})")
        return info.concrete(bk)
