"""Kronecker products and sums whose vectors are spread over devices, with two all-to-alls for a product.

``(A (x) B) vec(X) = vec(A X B^T)`` for X (n1, n2) in row-major order (Van Loan, "The ubiquitous Kronecker
product", J. Comput. Appl. Math. 123, 2000, sec. 2). With the rows of X spread, B multiplies locally; an
all-to-all exchanges blocks so that the columns are spread instead, A multiplies locally, and another one
brings the rows back. Each moves N / p numbers from every device; nothing of length N is ever on one device.
More than two factors are cut into two groups. The factors, small beside N, are on all devices.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax.sharding import PartitionSpec

from cola_core.ops import Identity, Kronecker, KronSum, LinearOperator, operator, static
from cola_core.pytree import map_leaves

from .placing import OnDevices, hidden, laid
from .rows import Place, exchange, fitted, over_rows
from .table import Layout, sharder

__all__ = ["SpreadKronSum", "SpreadKronecker"]

Array = Any  # of JAX


def _cut(A: Any, adjoint: bool, p: int) -> int:
    """Where the factors are cut in two groups: as little filling up as possible, then groups of like size."""
    filled = lambda n: -(-n // p) * p  # noqa: E731
    best: tuple[float, int] | None = None
    for c in range(1, len(A.Ms)):
        sizes = [math.prod(M.shape[side] for M in A.Ms[:c]) for side in (-2, -1)]
        right = [math.prod(M.shape[side] for M in A.Ms[c:]) for side in (-2, -1)]
        (m1, n1), (m2, n2) = (sizes[::-1], right[::-1]) if adjoint else (sizes, right)
        moved = filled(n1) * filled(m2) + filled(m1) * filled(m2) + filled(n1) * n2
        if best is None or moved < best[0]:
            best = (moved, c)
    assert best is not None  # two factors at least
    return best[1]


def _local(M: Any, X: Any, adjoint: bool) -> Any:
    """``M`` applied to the second axis of X (r, n, k)."""
    r, n, k = X.shape
    Y = jnp.reshape(jnp.swapaxes(X, 0, 1), (n, r * k))
    Y = (M.H if adjoint else M) @ Y
    return jnp.swapaxes(jnp.reshape(Y, (Y.shape[0], r, k)), 0, 1)


class _Spread(OnDevices):
    """What both share: the place, and a product of two groups of factors."""

    mesh: Any
    axes: tuple[str, ...]
    _group: Any

    @property
    def place(self) -> Place:
        """The devices that vectors are spread over."""
        return Place(self.mesh, self.axes)

    def _with_layout(self: Any) -> Any:
        def lay(x: Any) -> Any:
            seen = hidden(x, self.mesh, self.axes)
            return laid(x, self.mesh, self.axes, PartitionSpec()) if seen else x

        return map_leaves(lay, self)

    def _on_devices(self: Any, X: Array, adjoint: bool) -> Array:
        if len(self.Ms) < 2 or self.batch_shape or 0 in (*self.shape, *X.shape):
            return self._plainly(X, adjoint)
        return self._product(X, adjoint)

    def _kron(self, *Ms: LinearOperator, declared: frozenset[Any] = frozenset()) -> Kronecker:
        return SpreadKronecker(*Ms, mesh=self.mesh, axes=self.axes, declared=declared)

    def _kronsum(self, *Ms: LinearOperator, declared: frozenset[Any] = frozenset()) -> KronSum:
        return SpreadKronSum(*Ms, mesh=self.mesh, axes=self.axes, declared=declared)

    def _sent(self: Any, columns: float) -> float:
        p = self.place.pieces
        if len(self.Ms) < 2 or self.batch_shape or 0 in self.shape:
            return 0.0
        A, B = self._halves(False)
        if isinstance(A, Identity):
            return 0.0  # the blocks of the vector stay where they are
        (m1, n1), (m2, n2) = A.shape[-2:], B.shape[-2:]
        there = n1 * (n2 if isinstance(self, KronSum) else m2)
        return float(self.itemsize * columns * (there + m1 * m2) * (p - 1) / p**2)

    def _halves(self: Any, adjoint: bool) -> tuple[Any, Any]:
        c = _cut(self, adjoint, self.place.pieces)
        groups = []
        for Ms in (self.Ms[:c], self.Ms[c:]):
            groups.append(Ms[0] if len(Ms) == 1 else self._group(*Ms))
        return groups[0], groups[1]

    def _product(self: Any, X: Any, adjoint: bool) -> Any:
        """Rows spread, columns spread, rows spread."""
        place, (A, B) = self.place, self._halves(adjoint)
        p, sums = place.pieces, isinstance(self, KronSum)
        (m1, n1), (m2, n2) = A.shape[-2:], B.shape[-2:]
        if adjoint:
            (m1, n1), (m2, n2) = (n1, m1), (n2, m2)
        r, s = -(-n1 // p), -(-m1 // p)

        def body(x: Any, factors: Any, _: Any) -> Any:
            A, B = factors
            k = x.shape[-1]
            x = jnp.reshape(x, (r, n2, k))
            y = _local(B, x, adjoint)
            if isinstance(A, Identity):
                return jnp.reshape(x + y if sums else y, (s * m2, k))
            z = x if sums else y
            width = -(-z.shape[1] // p) * p
            z = exchange(place, fitted(z, 1, width), 1, 0)[:n1]
            z = jnp.reshape(z, (n1, -1))
            z = (A.H if adjoint else A) @ z
            z = fitted(jnp.reshape(z, (m1, width // p, k)), 0, p * s)
            z = exchange(place, z, 0, 1)[:, :m2]
            return jnp.reshape(z + y if sums else z, (s * m2, k))

        return over_rows(place, body, X, (n1 * n2, m1 * m2), (r * n2, s * m2), shared=(A, B))


@operator
class SpreadKronecker(_Spread, Kronecker):
    """``Kronecker`` of factors on all devices, for vectors whose rows are spread over axes of a mesh.

    Equal to ``Kronecker(*Ms)``, and answers every question as that does, by its factors; what those answers
    are made of (inverses, eigenvectors, functions) is spread alike. A product takes two all-to-alls, and two
    steps of neighbours more where the devices do not divide the first group of factors. Made by ``shard``.
    """

    Ms: tuple[LinearOperator, ...]
    mesh: Any = static(default=None)
    axes: tuple[str, ...] = static(default=())

    def __init__(self, *Ms: LinearOperator, mesh: Any, axes: Any, declared: frozenset[Any] = frozenset()):
        object.__setattr__(self, "mesh", mesh)
        object.__setattr__(self, "axes", (axes,) if isinstance(axes, str) else tuple(axes))
        super().__init__(*Ms, declared=declared)

    _group = staticmethod(Kronecker)

    def _unspread(self) -> Kronecker:
        return Kronecker(*self.Ms, declared=self.declared)


@operator
class SpreadKronSum(_Spread, KronSum):
    """``KronSum`` of factors on all devices, for vectors whose rows are spread; see ``SpreadKronecker``."""

    Ms: tuple[LinearOperator, ...]
    mesh: Any = static(default=None)
    axes: tuple[str, ...] = static(default=())

    def __init__(self, *Ms: LinearOperator, mesh: Any, axes: Any, declared: frozenset[Any] = frozenset()):
        object.__setattr__(self, "mesh", mesh)
        object.__setattr__(self, "axes", (axes,) if isinstance(axes, str) else tuple(axes))
        super().__init__(*Ms, declared=declared)

    _group = staticmethod(KronSum)

    def _unspread(self) -> KronSum:
        return KronSum(*self.Ms, declared=self.declared)


@sharder(Kronecker, KronSum)
def spread(A: Any, layout: Layout) -> Any:
    """Factors on every device; vectors in rows."""
    Ms = layout.keep_all(A, "each factor is small beside the product").Ms
    kind = SpreadKronSum if isinstance(A, KronSum) else SpreadKronecker
    if len(Ms) < 2 or A.batch_shape:
        layout.remark(f"a {type(A).__name__} of one factor or of a batch is left to JAX's compiler")
        return A.replace(Ms=Ms)
    return kind(*Ms, mesh=layout.mesh, axes=layout.axes, declared=A.declared)
