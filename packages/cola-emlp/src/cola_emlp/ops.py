"""Structured operators of this package: bases and projectors of invariants.

`OrbitBasis(labels, weights)` (N x r): column j is constant on orbit j and zero elsewhere, of unit norm. A
product is a gather, its adjoint a segment sum. `OrbitProjector` is its Q Q^T: the mean over each orbit.
`EquivariantProjector(Q)` is Q Q^H for any Q with orthonormal columns. Projectors are self-adjoint and
positive semidefinite by construction.
"""

from __future__ import annotations

from typing import Any

from cola_core.errors import ShapeError
from cola_core.operators import LinearOperator, operator, static
from cola_core.properties import PSD, Property, Stiefel


def _check_orbits(A: Any) -> None:
    if len(getattr(A.labels, "shape", ())) != 1 or len(getattr(A.weights, "shape", ())) != 1:
        raise ShapeError(
            f"{type(A).__name__}(labels, weights) takes two one-dimensional arrays; got shapes "
            f"{getattr(A.labels, 'shape', None)} and {getattr(A.weights, 'shape', None)}"
        )


def _segment_sum(A: Any, X: Any) -> Any:
    """Sums of the rows of X (..., N, k) over orbits -> (..., r, k)."""
    return A._concrete_backend().index_add(A.labels, X, A.weights.shape[0])


@operator
class OrbitBasis(LinearOperator):
    """Orthonormal indicator vectors of orbits.

    labels: integers (N,), the orbit of each coordinate, covering 0..r-1; weights: (r,), 1/sqrt(orbit size).
    """

    labels: Any
    weights: Any

    def _check(self) -> None:
        _check_orbits(self)

    def _shape(self) -> tuple[int, ...]:
        return (self.labels.shape[0], self.weights.shape[0])

    def _matmat(self, X: Any) -> Any:
        return self.xp.take(self.weights[:, None] * X, self.labels, axis=-2)

    def _rmatmat(self, X: Any) -> Any:
        return self.weights[:, None] * _segment_sum(self, X)

    def _properties(self) -> frozenset[Property]:
        return frozenset({Stiefel})


@operator
class OrbitProjector(LinearOperator):
    """The orthogonal projector onto vectors that are constant on orbits. Fields as in `OrbitBasis`."""

    labels: Any
    weights: Any

    def _check(self) -> None:
        _check_orbits(self)

    def _shape(self) -> tuple[int, ...]:
        return (self.labels.shape[0], self.labels.shape[0])

    @property
    def rank(self) -> int:
        return int(self.weights.shape[0])

    @property
    def Q(self) -> OrbitBasis:
        return OrbitBasis(self.labels, self.weights)

    def _matmat(self, X: Any) -> Any:
        means = (self.weights**2)[:, None] * _segment_sum(self, X)
        return self.xp.take(means, self.labels, axis=-2)

    def _adjoint(self) -> LinearOperator:
        return self

    _transpose = _conj = _adjoint

    def _properties(self) -> frozenset[Property]:
        return frozenset({PSD})

    def _compose(self, other: Any) -> Any:
        return self if other is self else NotImplemented


@operator
class EquivariantProjector(LinearOperator):
    """Q Q^H for an operator Q (N x r) with orthonormal columns; Q must be declared `Stiefel` (or be so by
    structure).
    """

    Q: Any
    rank: int = static()

    def _check(self) -> None:
        if not isinstance(self.Q, LinearOperator) or not self.Q.isa(Stiefel):
            raise ShapeError(
                "EquivariantProjector(Q, rank) needs an operator Q declared to have orthonormal columns: "
                "cola.Stiefel(Q)"
            )
        if self.Q.shape[-1] != self.rank:
            raise ShapeError(f"EquivariantProjector: Q has {self.Q.shape[-1]} columns, but rank={self.rank}")

    def _shape(self) -> tuple[int, ...]:
        return (*self.Q.shape[:-2], self.Q.shape[-2], self.Q.shape[-2])

    def _matmat(self, X: Any) -> Any:
        return self.Q._matmat(self.Q._rmatmat(X))

    def _adjoint(self) -> LinearOperator:
        return self

    def _properties(self) -> frozenset[Property]:
        return frozenset({PSD})

    def _compose(self, other: Any) -> Any:
        return self if other is self else NotImplemented
