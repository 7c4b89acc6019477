"""Iterative refinement: an exact answer from inexact solves.

``x <- x + S(b - A x)``, where S solves in a lower precision, or only roughly, while the residual is computed
in the working precision. Each step multiplies the error by about ``|I - S A|``: it converges where S has one
correct digit, and that the residual shrinks is checked at every step.
Source: Wilkinson 1963; Carson & Higham, SIAM J. Sci. Comput. 40 (2018) A817; Higham 2002, ch. 12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array, Backend, dtype_name
from ..cost import Cost
from ..dispatch.session import aside, record
from ..errors import DTypeError
from ..info import Info
from ..pytree import map_leaves, tree_leaves
from ..reasons import CONVERGED, NONFINITE, RUNNING, STAGNATED
from .base import Iterative, factorises
from .derivative_solve import solved
from .iteration import column_scale, differentiated, first_guess, observe, outcome, prepare
from .lu import LU

__all__ = ["IterativeRefinement"]

LOWER = {"float64": "float32", "complex128": "complex64"}
SLOW = 0.9  # a step that leaves more of the residual than this counts as none


@dataclass(frozen=True)
class IterativeRefinement(Iterative):
    """Solve ``A x = b`` by correcting an inexact solver until the residual in working precision is small.

    tol: relative residual; by default corrections go on until it stops decreasing, and the usual
    tolerance of the dtype is what counts as converged. max_iters: corrections
    (default 50). x0: first guess. inner: the solver, any algorithm that answers ``solve`` (default ``LU()``);
    one with a factorisation makes it once. precision: of the inner solver: "float32" (or "complex64", the
    same), or None for the working precision, as for ``CG(tol=1e-2)``; the default is the lower precision for
    direct inner solvers, and the working precision for iterative ones. pbar, callback, max_seconds: see
    ``Iterative``.

    >>> import numpy as np, cola_core as cola
    >>> A = np.array([[4.0, 1.0], [2.0, 3.0]])
    >>> x, info = cola.solve(A, np.array([1.0, 2.0]), cola.IterativeRefinement(), return_info=True)
    >>> bool(info.residual < 1e-14), bool(np.allclose(A @ x, [1, 2], atol=1e-14))
    (True, True)
    """

    x0: Any = None
    inner: Any = None
    precision: str | None = "auto"

    _method: ClassVar[str] = "iterative refinement"

    def __post_init__(self) -> None:
        if self.precision not in (None, "auto", "float32", "complex64"):
            raise DTypeError(f'IterativeRefinement(precision={self.precision!r}): "float32", "auto" or None.')

    @property
    def solver(self) -> Any:
        """The inner solver."""
        return LU() if self.inner is None else self.inner

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return self.solver.applicable(question, A, *operands)  # type: ignore[no-any-return]

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        return self.solver.cost(question, A, *operands) + A.matmat_cost(k) * 4

    def solve(self, A: Any, b: Array) -> Array:
        be, B, vector = prepare(A, b)
        if 0 in B.shape:
            return B[..., 0] if vector else B
        eps = float(be.xp.finfo(be.real_dtype(B.dtype)).eps)
        # where nothing is asked for, as far as it goes
        tol, stop = self.tolerance(B.dtype), 4 * eps if self.tol is None else float(self.tol)
        limit = 50 if self.max_iters is None else int(self.max_iters)
        X0 = first_guess(be, "IterativeRefinement", self.x0, B)

        def run(X0: Array | None) -> Any:
            def solve(operator: Any, rhs: Array) -> Any:
                X, *rest = self._run(be, operator, rhs, X0, stop, limit)
                return X, tuple(rest)

            return solve

        def told(A: Any, X: Array, B: Array, found: Any) -> Info:
            steps, codes = found
            return outcome(be, A, self._name, X, B, tol, steps, steps, codes)

        def again(operator: Any, rhs: Array) -> Any:
            X, found = run(None)(operator, rhs)
            return X, told(operator, X, rhs, found), found

        if differentiated(be, A, B):
            X0 = None if X0 is None else be.constant(X0)
            X = solved(be, A, B, run(X0), again, again, told)
        else:
            X, found = run(X0)(A, B)
            record(told(A, X, B, found))
        return X[..., 0] if vector else X

    @property
    def _name(self) -> str:
        return f"{self._method} of {type(self.solver).__name__}"

    def _correction(self, be: Backend, A: Any, dtype: Any) -> Any:
        """Residual -> correction, by the inner solver."""
        solver = self.solver
        name = dtype_name(dtype)
        lower = self.precision is not None and (self.precision != "auto" or solver.kind == "exact")
        small = LOWER.get(name, name) if lower and _fits(be, A) else name
        low = A if small == name else map_leaves(lambda x: _cast(be, x), A)
        factor = solver.factor(low) if factorises(solver) else None

        def correct(R: Array) -> Array:
            # to the range of the lower precision; each column has a scale of its own
            scale = column_scale(be, R, always=True)
            R = be.astype(R if scale is None else R / scale, small)
            D = be.astype(solver.solve(low, R) if factor is None else factor.solve(R), dtype)
            return D if scale is None else D * scale

        return correct

    def _run(
        self, be: Backend, A: Any, B: Array, X: Array | None, tol: float, limit: int
    ) -> tuple[Array, Any, Array]:
        xp = be.xp
        target = tol * be.frobenius(B, axis=-2)
        X = xp.zeros_like(B) if X is None else X + 0
        with aside(), self.watched(self._method, limit, be, B) as watch:
            correct = self._correction(be, A, B.dtype)
            R = B - A @ X
            rnorm = be.frobenius(R, axis=-2)
            codes = xp.where(rnorm <= target, CONVERGED, RUNNING)

            def running(state: Any) -> Any:
                return (state[0] < limit) & xp.any(state[-1] == RUNNING)

            def body(state: Any) -> Any:
                step, X, R, rnorm, codes = state
                X_new = X + correct(R)
                R_new = B - A @ X_new
                after = be.frobenius(R_new, axis=-2)
                live = codes == RUNNING
                better = live & (after < rnorm)
                codes = xp.where(live & ~(after <= SLOW * rnorm), STAGNATED, codes)
                codes = xp.where(live & ~xp.isfinite(after), NONFINITE, codes)
                X = xp.where(better[..., None, :], X_new, X)
                R = xp.where(better[..., None, :], R_new, R)
                rnorm = xp.where(better, after, rnorm)
                codes = xp.where(live & (rnorm <= target), CONVERGED, codes)
                codes = observe(be, watch, step + 1, rnorm, codes)
                return step + 1, X, R, rnorm, codes

            state: Any = (0, X, R, rnorm, codes)
            if be.is_concrete(B, rnorm):
                while bool(running(state)):
                    state = body(state)
            else:
                state = be.while_loop(running, body, state)
        return state[1], state[0], state[-1]


def _fits(be: Backend, A: Any) -> bool:
    """Whether the entries are far from the ends of single precision's range, where a cast would lose them."""
    for x in tree_leaves(A):
        if hasattr(x, "dtype") and dtype_name(x.dtype) in LOWER and be.is_concrete(x) and 0 not in x.shape:
            top = be.number(be.xp.max(be.xp.abs(x)))
            if top != 0 and not 1e-32 < top < 1e36:
                return False
    return True


def _cast(be: Backend, x: Any) -> Any:
    name = dtype_name(x.dtype) if hasattr(x, "dtype") else ""
    return be.astype(x, LOWER[name]) if name in LOWER else x
