"""What the algorithms for f(A) by products share: a lazy answer, and the Info of each of its products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array, Backend
from ..dispatch.session import record
from ..info import Info
from ..reasons import TRACED
from .base import Iterative
from .iteration import relative_to

__all__ = ["FunctionAlgorithm", "finish_product"]


@dataclass(frozen=True)
class FunctionAlgorithm(Iterative):
    """Base: ``apply_unary`` gives f(A) as an operator whose products are ``function_times(A, f, X)``."""

    def apply_unary(self, A: Any, f: Any) -> Any:
        from ..linalg.lazy_function import FunctionAction

        self.check(A, f)
        return FunctionAction(A, f, self, declared=f.properties(A))

    def check(self, A: Any, f: Any) -> None:
        """Refuse what static facts rule out."""

    def function_times(self, A: Any, f: Any, X: Array) -> Array:
        """``f(A) X`` for X (n, k) in A's dtype; reports an Info."""
        raise NotImplementedError(f"{type(self).__name__} must define function_times()")


def finish_product(
    be: Backend, method: str, Y: Array, error: Array, codes: Array, tol: float, steps: Any, products: Any
) -> Array:
    """Report a product. error: per column, absolute. What meets the tolerance relative to the answer's norm
    has converged, the rest has ended for the reason in ``codes``."""
    from ..reasons import CONVERGED, NONFINITE, RUNNING

    xp = be.xp
    size = be.constant(be.norm(Y))
    relative = relative_to(be, be.constant(error), size)
    good = (relative <= tol) & ((codes == CONVERGED) | (codes == RUNNING))
    codes = xp.where(good, CONVERGED, xp.where(codes == CONVERGED, RUNNING, codes))
    codes = xp.where(xp.isfinite(size), codes, NONFINITE)
    good = good & xp.isfinite(size)
    info = Info(
        method=method,
        converged=xp.all(good),
        reason=TRACED,
        codes=codes,
        iterations=steps,
        matvecs=products,
        tolerance=tol,
        error_estimate=xp.max(relative),
    )
    record(info.concrete(be) if be.is_concrete(relative, codes) else info)
    return Y
