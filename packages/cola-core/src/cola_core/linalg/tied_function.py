"""``TiedFunction``: f(A) of a composition whose eigenbasis has no derivative, as a part of it has equal
eigenvalues."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.choose import ask
from ..operators import Kronecker, LinearOperator, operator
from ..plugins.rulebook import RuleBook
from ..pytree import tree_leaves
from .trace import TRACE

__all__ = ["TiedFunction", "tied"]

RULES = RuleBook()


@operator
class TiedFunction(LinearOperator):
    """``f(A)`` by its eigenbasis (``spectral``) for what does not depend on the basis, the trace; and by its
    products (``products``), whose derivatives are right, for everything else."""

    spectral: LinearOperator
    products: LinearOperator

    def _shape(self) -> tuple[int, ...]:
        return self.products.shape

    def _dtype(self) -> Any:
        return self.products._dtype()

    def _adjoint(self) -> LinearOperator:
        return TiedFunction(self.spectral.H, self.products.H)

    def _transpose(self) -> LinearOperator:
        return TiedFunction(self.spectral.T, self.products.T)

    def _conj(self) -> LinearOperator:
        return TiedFunction(self.spectral.conj(), self.products.conj())

    def _matvec_cost(self) -> Cost:
        return self.products.matvec_cost

    def _matmat(self, X: Array) -> Array:
        return self.products._matmat(X)

    def _rmatmat(self, X: Array) -> Array:
        return self.products._rmatmat(X)


@RULES.rule(
    TRACE,
    (TiedFunction,),
    id="trace/tied-function",
    source="tr f(A) = sum f(w)",
    complexity="O(N)",
)
def trace_of_tied(A: Any, *, alg: Any) -> Array:
    return ask(TRACE, (A.spectral,), alg)  # type: ignore[no-any-return]


def _plain(be: Any, w: Array) -> Array:
    """The numbers behind torch.func's derivatives (a batch hides them)."""
    if be.name == "torch":
        from torch._C import _functorch as hidden

        while hidden.is_gradtrackingtensor(w):
            w = hidden.get_unwrapped(w)
    return w


def tied(be: Any, w: Array, V: LinearOperator) -> bool:
    """Whether a factor of the eigenbasis V has equal eigenvalues (to rounding) and is differentiated, as far
    as that can be looked at. w: eigenvalues in the order of V's columns."""
    w = _plain(be, w)
    if w.ndim != 1 or not be.is_concrete(w) or not w.shape[0]:
        return False
    parts = V.Ms if isinstance(V, Kronecker) else (V,)
    W = be.to_numpy(w).reshape([M.shape[-1] for M in parts])
    slack = 100 * float(be.xp.finfo(w.dtype).eps) * abs(W).max() * W.size**0.5
    for axis, M in enumerate(parts):
        if be.differentiating(*tree_leaves(M)):
            slices = W.swapaxes(0, axis).reshape(W.shape[axis], -1)
            order = slices[:, 0].argsort()
            gaps = abs(slices[order[1:]] - slices[order[:-1]]).max(axis=1, initial=0.0)
            if (gaps <= slack).any():
                return True
    return False
