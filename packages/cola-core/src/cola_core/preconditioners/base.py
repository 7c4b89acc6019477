"""``Preconditioner``: settings that make, of an operator A, an operator close to ``A^{-1}``.

``P = Jacobi()(A)`` is an ordinary operator: its inverse (an approximation of A), determinant, square root and
adjoint come from the rules of its structure. ``CG(P=Jacobi())`` keeps the settings and makes P of the
operator that is solved with, so that P is never older than the operator. P is declared PSD where A is, and
derivatives do not flow through it: a solution does not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..algorithms.base import refuse_batches
from ..backends.base import Array
from ..errors import NonFiniteError, NonSquareError
from ..operators import LinearOperator, as_operator
from ..pytree import map_leaves

__all__ = ["Preconditioner", "finite", "on_host"]


@dataclass(frozen=True)
class Preconditioner:
    """Base of all: a frozen dataclass of settings with ``build(A)``."""

    def __call__(self, A: Any) -> LinearOperator:
        A = as_operator(A)
        name = type(self).__name__
        if not A.is_square:
            m, n = A.shape[-2:]
            raise NonSquareError(f"{name}()({A!r}): the operator is {m}x{n}; preconditioners are square.")
        refuse_batches(A, name, "Jacobi()")
        return self.build(_constant(A))

    def build(self, A: LinearOperator) -> LinearOperator:
        """The operator close to the inverse of a square A."""
        raise NotImplementedError(f"{type(self).__name__} must define build(A)")


def _constant(A: LinearOperator) -> LinearOperator:
    """A without derivatives."""
    be = A.backend
    if be is None or be.name == "numpy":
        return A
    made: LinearOperator = map_leaves(lambda x: be.constant(x) if hasattr(x, "dtype") else x, A)
    return made


def finite(A: LinearOperator, x: Array, what: str) -> Array:
    """x, refused by name where it holds NaN or infinity."""
    if not A._concrete_backend().all_finite(x):
        raise NonFiniteError(f"{what} of {A!r} has NaN or infinite entries.")
    return x


def on_host(A: LinearOperator, name: str) -> None:
    """Refuse JAX: what is factored on the host would be so again at every product of a compiled loop."""
    be = A._concrete_backend()
    if be.name == "jax":
        raise NotImplementedError(
            f"{name} is computed and applied on the host, and a compiled loop cannot leave the device for it "
            f'at every step: solve with {A!r}.to(backend="numpy"), or use Jacobi(), BlockJacobi() or '
            "Nystrom(), which run where the arrays are."
        )
