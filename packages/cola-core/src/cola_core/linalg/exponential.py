"""``ExponentialAction``: exp(A) known by its products, which only take products with A."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Algorithm
from ..algorithms.exp_action import ExpAction
from ..algorithms.factor import dense_entries
from ..backends.base import Array
from ..cost import Cost
from ..dispatch.choose import ask
from ..operators import LinearOperator, operator, scale, static
from ..plugins.rulebook import RuleBook
from .determinant import SLOGDET
from .inverse import INV
from .lazy_function import announced
from .trace import TRACE

__all__ = ["ExponentialAction"]

RULES = RuleBook()


@operator
class ExponentialAction(LinearOperator):
    """``exp(A)`` of a square operator; ``exp(A) @ b`` by ``ExpAction``, with a warning where it fails.

    Its adjoint and transpose are exponentials too, its inverse is ``exp(-A)`` and its determinant ``e^tr A``.
    """

    A: LinearOperator
    alg: Algorithm = static(default=ExpAction())

    def _shape(self) -> tuple[int, ...]:
        return self.A.shape

    def _dtype(self) -> Any:
        return self.A._dtype()

    def _adjoint(self) -> LinearOperator:
        return ExponentialAction(self.A.H, self.alg)

    def _transpose(self) -> LinearOperator:
        return ExponentialAction(self.A.T, self.alg)

    def _conj(self) -> LinearOperator:
        return ExponentialAction(self.A.conj(), self.alg)

    def _matvec_cost(self) -> Cost:
        return self.alg.cost("apply_unary", self.A)

    def _matmat(self, X: Array) -> Array:
        return announced("exp", self.A, lambda: self._run(X))

    def _rmatmat(self, X: Array) -> Array:
        # not by a claim of self-adjointness, which a check has to be able to disprove
        return self._adjoint()._matmat(X)

    def _run(self, X: Array) -> Array:
        A = self.A
        be = A._concrete_backend()
        xp = be.xp
        if not xp.isdtype(X.dtype, ("real floating", "complex floating")):
            X = be.astype(X, self.dtype)
        alg: Any = self.alg
        if be.is_complex(X) and not A._is_complex():
            k = X.shape[-1]  # functions and kernels of a real operator may know real vectors only
            Y = alg.expmv(A, xp.concat([xp.real(X), xp.imag(X)], axis=-1))
            return Y[..., :k] + 1j * Y[..., k:]
        return alg.expmv(A, X)

    def _to_dense(self) -> Array:
        be = self.A._concrete_backend()
        return be.astype(be.expm(dense_entries(self.A)), self.A.dtype)


@RULES.rule(INV, (ExponentialAction,), id="inv/exponential", source="exp(A)^-1 = exp(-A)", complexity="O(1)")
def inv_exponential(A: Any, *, alg: Any) -> LinearOperator:
    return ExponentialAction(scale(-1, A.A), A.alg)


@RULES.rule(
    SLOGDET,
    (ExponentialAction,),
    id="slogdet/exponential",
    source="det exp(A) = e^tr(A)",
    complexity="that of the trace",
)
def slogdet_exponential(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    xp = be.xp
    value = ask(TRACE, (A.A,), alg if hasattr(alg, "trace") else _auto())
    if be.is_complex(value):
        return xp.exp(1j * xp.imag(value)), xp.real(value)
    return xp.ones_like(value), value


def _auto() -> Algorithm:
    from ..algorithms.base import Auto

    return Auto()
