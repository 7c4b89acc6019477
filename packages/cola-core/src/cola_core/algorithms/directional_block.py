"""``[[A, dA], [0, A]]`` for a direction dA of A's arrays, by products: f of it holds the derivative of f(A).

It is itself an operator with arrays (A's, and the direction), so that its blocks, and theirs, give
derivatives of every order (Mathias 1996), in whatever way A's arrays enter its products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..operators import LinearOperator, operator, static
from ..properties import SelfAdjoint
from ..pytree import map_leaves, tree_leaves

__all__ = ["DirectionalBlock", "moving_leaves", "pulled", "pushed", "with_leaves"]


def moving_leaves(A: Any) -> list[Array]:
    """The arrays of A that a derivative can be taken in: those of real or complex numbers."""
    return [x for x in tree_leaves(A) if _moves(x)]


def _moves(x: Any) -> bool:
    dtype = str(getattr(x, "dtype", ""))
    return "float" in dtype or "complex" in dtype


def with_leaves(A: Any, arrays: Sequence[Array]) -> Any:
    """A with these arrays in the places of ``moving_leaves``."""
    supply = iter(arrays)
    return map_leaves(lambda x: next(supply) if _moves(x) else x, A)


def pushed(be: Any, f: Callable[..., Array], arrays: Sequence[Array], tangents: Sequence[Array]) -> Array:
    """The derivative of ``f(*arrays)`` along ``tangents``."""
    if be.name == "torch":
        from ..autodiff.torch_tree import push_forward

        return push_forward(f, list(arrays), list(tangents))
    return be.jvp(f, tuple(arrays), tuple(tangents))[1]  # type: ignore[no-any-return]


def pulled(
    be: Any, f: Callable[..., tuple[Array, ...]], arrays: Sequence[Array], cotangents: Any
) -> list[Any]:
    """The gradient of ``Re sum <cotangents, f(*arrays)>`` in each of arrays."""
    if be.name == "torch":
        from ..autodiff.torch_tree import pull_back

        found = pull_back(f, list(arrays), tuple(cotangents), *cotangents)
        return [be.xp.zeros_like(x) if g is None else g for x, g in zip(arrays, found, strict=True)]
    import jax

    values, back = jax.vjp(f, *arrays)
    given = tuple(be.astype(be.conj(g), y.dtype) for g, y in zip(cotangents, values, strict=True))
    return [be.conj(x) for x in back(given)]


@operator
class DirectionalBlock(LinearOperator):
    """See above. E: a direction for each of ``moving_leaves(A)``. turned: of A^H instead."""

    A: LinearOperator
    E: tuple[Array, ...]
    turned: bool = static(default=False)

    @property
    def inner(self) -> LinearOperator:
        """The operator all blocks are made of."""
        return self.A.inner if isinstance(self.A, DirectionalBlock) else self.A

    @property
    def real_spectrum(self) -> bool:
        return self.inner.isa(SelfAdjoint)

    def _shape(self) -> tuple[int, ...]:
        n = self.A.shape[-1]
        return (2 * n, 2 * n)

    def _dtype(self) -> Any:
        return self.A._dtype()

    def _matvec_cost(self) -> Cost:
        return self.A.matvec_cost * 4

    def _adjoint(self) -> LinearOperator:
        raise NotImplementedError("the adjoint of DirectionalBlock is known by its products only")

    def _halves(self, X: Array, adjoint: bool) -> tuple[Array, Array, Callable[[Array], Array]]:
        n = self.A.shape[-1]
        be = self.A._concrete_backend()
        arrays = moving_leaves(self.A)

        def times(V: Array, *parts: Array) -> Array:
            A = with_leaves(self.A, parts)
            return A._rmatmat(V) if adjoint else A._matmat(V)

        def moved(V: Array) -> Array:
            return pushed(be, lambda *parts: times(V, *parts), arrays, self.E)

        return X[:n], X[n:], moved

    def _matmat(self, X: Array) -> Array:
        top, bottom, moved = self._halves(X, self.turned)
        times = self.A._rmatmat if self.turned else self.A._matmat
        return self.A.xp.concat([times(top) + moved(bottom), times(bottom)], axis=-2)

    def _rmatmat(self, X: Array) -> Array:
        top, bottom, moved = self._halves(X, not self.turned)
        times = self.A._matmat if self.turned else self.A._rmatmat
        return self.A.xp.concat([times(top), moved(top) + times(bottom)], axis=-2)
