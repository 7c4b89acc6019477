"""``FunctionAction``: f(A) known by its products, which take products with A only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.question import reporting
from ..dispatch.session import SESSION
from ..operators import LinearOperator, operator, static
from ..properties import SelfAdjoint
from .scalar_function import ScalarFunction

__all__ = ["FunctionAction", "announced", "as_columns"]


@operator
class FunctionAction(LinearOperator):
    """``f(A)`` applied to each right-hand side by ``alg.function_times(A, f, X)``.

    A product reports how far it can be trusted; outside of a question a miss is a warning. Adjoint, transpose
    and conjugate are functions of A's: ``f(A)^H = g(A^H)`` with ``g(z) = conj(f(conj(z)))``.

    chosen: nobody asked for this algorithm. It was taken because it is best for a few products; where all of
    the matrix is wanted, a self-adjoint operator takes one eigendecomposition and not n runs.
    """

    A: LinearOperator
    f: ScalarFunction = static()
    alg: Any = static()
    chosen: bool = static(default=False, kw_only=True)

    def _shape(self) -> tuple[int, ...]:
        return self.A.shape

    def _dtype(self) -> Any:
        dtype = self.A._dtype()
        return dtype if self.f.real or dtype is None else self.A.xp.result_type(dtype, self.A.xp.complex64)

    def _reflected(self) -> ScalarFunction:
        """``z -> conj(f(conj(z)))``; the functions known by name are their own, but on their cuts."""
        if self.f.kind or (self.f.real and self.A.isa(SelfAdjoint)):
            return self.f
        return reflected(self.f)

    def _adjoint(self) -> LinearOperator:
        return self.replace(A=self.A.H, f=self._reflected())

    def _conj(self) -> LinearOperator:
        return self.replace(A=self.A.conj(), f=self._reflected())

    def _transpose(self) -> LinearOperator:
        return self.replace(A=self.A.T)

    def _rmatmat(self, X: Array) -> Array:
        # not by a claim of self-adjointness of the whole, which a check has to be able to disprove
        return self._adjoint()._matmat(X)

    def _matvec_cost(self) -> Cost:
        return self.alg.cost("apply_unary", self.A, self.f)

    def _to_dense(self) -> Array:
        if not (self.chosen and self.A.isa(SelfAdjoint)) or self._concrete_backend().name == "abstract":
            return super()._to_dense()
        from ..algorithms.eigh import Eigh
        from .matrix_function import apply_unary

        return apply_unary(self.f, self.A, Eigh()).to_dense()

    def _matmat(self, X: Array) -> Array:
        return announced(self.f.name, self.A, lambda: self._run(X))

    def _run(self, X: Array) -> Array:
        A = self.A
        be = A._concrete_backend()
        if 0 in X.shape or be.name == "abstract":
            return X
        return as_columns(A, X, lambda columns: self.alg.function_times(A, self.f, columns))


@lru_cache(maxsize=256)  # functions are static data of operators: one object per function
def reflected(f: ScalarFunction) -> ScalarFunction:
    """``z -> conj(f(conj(z)))``."""
    return replace(f, fn=lambda xp, w: xp.conj(f.fn(xp, xp.conj(w))), slope=lambda: reflected(f.derivative()))


def announced(name: str, A: Any, run: Callable[[], Array]) -> Array:
    """``run()``, with a warning where it says that it failed and no question is there to say so."""
    if SESSION.get() is not None:
        return run()
    return reporting(name, A, run)


def as_columns(A: Any, X: Array, run: Callable[[Array], Array]) -> Array:
    """``run`` of the columns of X (*batch, n, k) as one (n, columns) array of A's dtype; complex vectors of a
    real operator as their real and imaginary parts."""
    be = A._concrete_backend()
    xp = be.xp
    *batch, n, k = X.shape
    wide = be.is_complex(X) and not A._is_complex()
    if wide:
        X = xp.concat([xp.real(X), xp.imag(X)], axis=-1)
    X = be.astype(X, A.dtype)
    if batch:
        count = X.shape[-1]
        X = xp.reshape(xp.moveaxis(X, -2, 0), (n, -1))
    Y = run(X)
    if batch:
        Y = xp.moveaxis(xp.reshape(Y, (n, *batch, count)), 0, -2)
    return Y[..., :k] + 1j * Y[..., k:] if wide else Y
