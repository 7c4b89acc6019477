"""``KrylovSolver``: what all iterative solvers of ``A x = b`` do alike.

A solver is its settings, a name and ``_iterate``, a function of the module that makes the steps. Around it
stand: operands in one form, default tolerance and budget by dtype and size, a right-hand side scaled so that
no square under- or overflows (the answer is the same: steps and guards do not see the scale of b), the first
guess, the preconditioner, one differentiable step in place of a recorded iteration, a second run where
rounding had spoiled what a recurrence says of its residual, and a residual recomputed at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..backends.base import Array, Backend
from ..dispatch.session import aside, record, wanted
from ..info import Info
from ..operators.sparse_rows import loop_form
from ..pytree import map_leaves, tree_leaves
from ..reasons import CONVERGED
from .base import Iterative, question_memory
from .derivative_solve import solved
from .iteration import (
    as_preconditioner,
    column_scale,
    diagnosed,
    differentiated,
    finite_columns,
    first_guess,
    outcome,
    prepare,
    true_residual,
)

__all__ = ["KrylovSolver"]

MOST_RESTARTS = 5
PER_COLUMN = ("lengths", "column_iterations")  # facts that are not reduced to the largest


@dataclass(frozen=True)
class KrylovSolver(Iterative):
    """Base of the solvers. ``_method``: the name in the Info.

    ``_iterate(A, P, B, X, tol, limit, *, watch, **static) -> (X, steps, products, codes)``: the steps from
    the guess X (None: zero) for B of shape (*batch, n, k) until ``|B - A X| <= tol |B|`` in every column or
    ``limit`` steps are made. It is compiled on JAX, so it uses ``be.while_loop``; codes, (*batch, k), are
    those of ``reasons``; a product with all columns counts as one. ``_static(n, limit)`` gives settings that
    fix shapes. ``_self_adjoint``: made for self-adjoint operators, so that it also solves with the adjoint.

    A fifth result may name facts for the Info, one number per column, of which the largest is told. From
    ``norm`` and ``condition``, lower bounds for A (with a preconditioner for A with it, unless
    ``_own_condition``), follows ``error_estimate``. ``column_iterations`` are told per column; ``lengths``,
    the norms of the last iterates where better ones are returned, serve the diagnosis of failures.
    ``_costly_facts``: it takes ``estimates``, which is False in a compiled program where nobody will look at
    norm and condition number: they are a third of what XLA compiles.

    x0: first guess. P: an operator close to A^{-1}, or a function A -> such an operator.
    """

    x0: Any = None
    P: Any = None

    _method: ClassVar[str] = ""
    _iterate: ClassVar[Callable[..., Any]]
    _self_adjoint: ClassVar[bool] = False
    _own_condition: ClassVar[bool] = False
    _costly_facts: ClassVar[bool] = False

    def _limit(self, n: int) -> int:
        """Steps if none are given."""
        return min(10 * n, 10_000)

    def _static(self, n: int, limit: int) -> dict[str, Any]:
        """Further arguments of ``_iterate`` that are settings, not data."""
        return {}

    def _memory(self, A: Any, vectors: int, operands: tuple[Any, ...]) -> float:
        """Bytes of so many vectors for each right-hand side."""
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        return question_memory(A, vectors * k)

    def solve(self, A: Any, b: Array) -> Array:
        be, B, vector = prepare(A, b)
        if 0 in B.shape:
            return B[..., 0] if vector else B
        tol = self.tolerance(B.dtype)
        n = A.shape[-1]
        limit = self._limit(n) if self.max_iters is None else int(self.max_iters)
        X0 = first_guess(be, type(self).__name__, self.x0, B)
        if differentiated(be, A, B):
            X0 = None if X0 is None or be.mapped(X0) else be.constant(X0)
            return self._implicit(be, A, B, X0, tol, limit, vector)
        P = as_preconditioner(self.P, A)
        found = self._restarted(be, A, P, B, X0, tol, limit, estimates=wanted())
        X, info = self._told(be, A, P, B, tol, found)
        record(info)
        return X[..., 0] if vector else X

    def _told(self, be: Backend, A: Any, P: Any, B: Array, tol: float, found: Any) -> tuple[Array, Info]:
        """The answer of ``_restarted`` with its Info; failures are examined where values can be."""
        X, steps, products, codes, rnorm, facts = found
        if rnorm is not None and be.is_concrete(rnorm, codes):
            lengths = facts.get("lengths")
            codes, made = diagnosed(be, A, X, B, rnorm, codes, tol, self._self_adjoint, lengths)
            products = products + made
        facts = {name: fact for name, fact in facts.items() if name != "lengths"}
        facts = {"estimated": P is None or self._own_condition, **facts}
        return X, outcome(be, A, self._method, X, B, tol, steps, products, codes, rnorm, **facts)

    def _restarted(
        self,
        be: Backend,
        A: Any,
        P: Any,
        B: Array,
        X: Array | None,
        tol: float,
        limit: int,
        estimates: bool,
    ) -> tuple[Array, Any, Any, Array, Array | None, dict[str, Array]]:
        """Run, recompute the residual, and run again from there while the recurrence had drifted."""
        X, steps, products, codes, facts = self._run(be, A, P, B, X, tol, limit, estimates)
        if not be.is_concrete(X):
            return X, steps, products, codes, None, facts
        rnorm, target = true_residual(be, A, X, B), 1.1 * tol * be.frobenius(B, axis=-2)
        for _ in range(MOST_RESTARTS):
            claimed = (codes == CONVERGED) & (rnorm > target)
            if not bool(be.xp.any(claimed)) or steps >= limit:
                break
            again, more, made, codes, found = self._run(be, A, P, B, X, tol, limit - int(steps), estimates)
            facts = {name: _joined(name, fact, found.get(name)) for name, fact in facts.items()}
            new = true_residual(be, A, again, B)
            steps, products = steps + more, products + made + 1
            better = bool(be.xp.any(new < 0.5 * rnorm))
            kept = new <= rnorm
            X = be.xp.where(kept[..., None, :], again, X)
            rnorm = be.xp.where(kept, new, rnorm)
            if not better:
                break
        return X, steps, products, codes, rnorm, facts

    def _run(
        self,
        be: Backend,
        A: Any,
        P: Any,
        B: Array,
        X: Array | None,
        tol: float,
        limit: Any,
        estimates: bool = True,
    ) -> tuple[Array, Any, Any, Array, dict[str, Array]]:
        scale = column_scale(be, B)
        if scale is not None:
            B = B / scale
            X = None if X is None else X / scale
        static = self._static(A.shape[-1], limit)
        if self._costly_facts:
            static = {**static, "estimates": estimates or be.is_concrete(B, *tree_leaves(A))}
        if be.name == "jax":
            A = loop_form(A)
        # the products of the iteration, those with a preconditioner that solves too, are not the answer
        # numbers that overflow on the way are found and reported; NumPy need not warn of each
        quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
        with aside(), quiet, self.watched(self._method, limit, be, B) as watch:
            run = be.jit(type(self)._iterate, static=("watch", *static))
            first = X
            X, steps, products, codes, *facts = run(A, P, B, X, tol, limit, watch=watch, **static)
            if watch is not None and be.name == "jax" and be.is_concrete(B):
                be.to_numpy(codes)  # the loop runs on its own: wait for it
            if scale is not None:
                X, first = X * scale, None if first is None else first * scale
            X, codes = finite_columns(be, X, first, codes)
        told = {
            name: fact if name in PER_COLUMN else _largest(be, fact)
            for name, fact in (facts[0] if facts else {}).items()
        }
        if scale is not None and "lengths" in told:
            told["lengths"] = told["lengths"] * be.xp.real(scale[..., 0, :])
        return X, steps, products, codes, told

    def _implicit(
        self, be: Backend, A: Any, B: Array, X0: Array | None, tol: float, limit: int, vector: bool
    ) -> Array:
        """The solve as one differentiable step: its derivative is another solve, so memory stays flat."""
        # what only speeds the solve up has no part in its derivative
        fixed = map_leaves(be.constant, A)
        estimates = wanted() or be.name != "jax"  # JAX wants the same of value and derivative
        # tensors of torch.func's transformations are known inside of the step by other names
        inside = be.name == "torch" and not be.is_concrete(*tree_leaves(A)) and not hasattr(self.P, "_matmat")
        made = None if inside else as_preconditioner(self.P, fixed)

        def preconditioner(operator: Any, adjoint: bool) -> Any:
            if not inside:
                P = made
            else:
                P = as_preconditioner(self.P, operator.H if adjoint else operator)
            return P.H if adjoint and P is not None and not self._self_adjoint else P

        if hasattr(made, "_matmat") and be.mapped(*tree_leaves(made)):
            raise NotImplementedError(
                f"{type(self).__name__}(P=operator) under torch.func.vmap: the preconditioner has examples "
                "of its own. Give what makes one of each operator instead, such as P=Jacobi()."
            )

        def value(operator: Any, rhs: Array) -> Any:
            P = preconditioner(operator, False)
            X, *rest = self._restarted(be, operator, P, rhs, X0, tol, limit, estimates)
            return X, tuple(rest)

        def again(adjoint: bool) -> Any:
            def solve(operator: Any, rhs: Array) -> Any:
                P = preconditioner(operator, adjoint)
                found = self._restarted(be, operator, P, rhs, None, tol, limit, estimates)
                return (*self._told(be, operator, P, rhs, tol, found), found[1:])

            return solve

        def told(A: Any, X: Array, B: Array, found: Any) -> Info:
            return self._told(be, A, self.P, B, tol, (X, *found))[1]

        X = solved(be, A, B, value, again(False), again(True), told)
        return X[..., 0] if vector else X


def _largest(be: Backend, fact: Any) -> Any:
    """The largest, of numbers that are on the host already or of the backend."""
    if isinstance(fact, np.ndarray) and be.name != "numpy":
        return float(fact.max())
    return be.xp.max(be.constant(fact))


def _joined(name: str, a: Any, b: Any) -> Any:
    """A fact of two runs: what is told per column is added, of estimates the larger one is taken."""
    if name in PER_COLUMN:
        return a + b
    return b if b is not None and bool(b > a) else a
