"""Structured operators of this package: bases and projectors of invariants.

`OrbitBasis(labels, weights)` (N x r): column j is constant on orbit j and zero elsewhere, of unit norm. A
product is a gather, its adjoint a segment sum. `OrbitProjector` is its Q Q^T: the mean over each orbit.
`EquivariantProjector(Q)` is Q Q^H for any Q with orthonormal columns. Projectors are self-adjoint and
positive semidefinite by construction.
"""

from __future__ import annotations

from typing import Any

from cola_core import ops
from cola_core.errors import ShapeError
from cola_core.operators import LinearOperator, operator, static
from cola_core.properties import PSD, Property, SelfAdjoint, Stiefel, Unitary


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
        return (self.weights[:, None] * X)[..., self.labels, :]

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
        return means[..., self.labels, :]

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


@operator
class OrbitFrame(LinearOperator):
    """Orthonormal eigenvectors of an orbit projector: one Householder reflection per orbit, all at once.

    V = 1 - R R^T, where column j of R holds `reflector` on orbit j and zeros elsewhere. On each orbit V maps
    the first coordinate to the normalised indicator and the others to vectors of zero sum. O(N) memory and
    time.
    """

    labels: Any
    reflector: Any
    count: int = static()

    def _shape(self) -> tuple[int, ...]:
        return (self.labels.shape[0], self.labels.shape[0])

    def _matmat(self, X: Any) -> Any:
        sums = self._concrete_backend().index_add(self.labels, self.reflector[:, None] * X, self.count)
        return X - self.reflector[:, None] * sums[..., self.labels, :]

    def _adjoint(self) -> LinearOperator:
        return self

    _transpose = _conj = _adjoint

    def _properties(self) -> frozenset[Property]:
        return frozenset({Unitary, SelfAdjoint})


def orbit_frame(P: OrbitProjector) -> tuple[Any, OrbitFrame]:
    """(eigenvalues, eigenvectors) of P: 1 at the first coordinate of each orbit, 0 elsewhere. O(N log N)."""
    be = P._concrete_backend()
    xp = be.xp
    order = xp.argsort(P.labels, stable=True)
    grouped = P.labels[order]
    starts = xp.concat([grouped[:1] == grouped[:1], grouped[1:] != grouped[:-1]])
    real = be.real_dtype(P.dtype)
    values = be.astype(starts[xp.argsort(order)], real)
    # The reflection takes e_first to the normalised indicator w: along u = e_first - w, with |u|^2 = 2 - 2 w.
    w = xp.take(xp.real(P.weights) if P._is_complex() else P.weights, P.labels, axis=0)
    norm2 = 2.0 - 2.0 * w
    alone = norm2 <= 0.0  # an orbit of one point needs no reflection
    factor = xp.where(alone, xp.zeros_like(w), (2.0 / xp.where(alone, xp.ones_like(w), norm2)) ** 0.5)
    return values, OrbitFrame(P.labels, be.astype((values - w) * factor, P.dtype), P.rank)


def row_norms_squared(Q: LinearOperator) -> Any:
    """The diagonal of Q Q^H, through the structure of Q; a Q without structure is made dense."""
    xp = Q.xp
    if isinstance(Q, OrbitBasis):
        return (Q.weights**2)[Q.labels]
    if isinstance(Q, ops.Kronecker):
        out = row_norms_squared(Q.Ms[0])
        for M in Q.Ms[1:]:
            out = xp.reshape(out[:, None] * row_norms_squared(M)[None, :], (-1,))
        return out
    if isinstance(Q, ops.BlockDiag):
        parts = [(row_norms_squared(M), t) for M, t in zip(Q.Ms, Q.multiplicities, strict=True)]
        return xp.concat([xp.reshape(xp.broadcast_to(d[None], (t, d.shape[0])), (-1,)) for d, t in parts])
    if isinstance(Q, ops.Product) and isinstance(Q.Ms[0], ops.Permutation) and len(Q.Ms) == 2:
        return row_norms_squared(Q.Ms[1])[Q.Ms[0].perm]
    dense = Q.to_dense()
    return xp.sum(
        xp.real(dense * xp.conj(dense)) if "complex" in str(dense.dtype) else dense * dense, axis=-1
    )


@operator
class RangeFrame(LinearOperator):
    """A unitary N x N operator whose first r columns span the range of Q: ``1 - W K W^H``, ``W = Q - [S;
    0]``.

    With S unitary (r x r), Q1 the first r rows of Q and ``K = (1 - Q1^H S)^-1`` this is unitary and maps
    ``[S; 0]`` to Q (a block reflector in the sense of Schreiber and Parlett, SIAM J. Numer. Anal. 25 (1988)
    189). O(N r) per product.
    """

    Q: LinearOperator
    S: Any
    K: Any

    def _shape(self) -> tuple[int, ...]:
        return (self.Q.shape[-2], self.Q.shape[-2])

    def _reflect(self, X: Any, K: Any) -> Any:
        be, r = self._concrete_backend(), self.Q.shape[-1]
        Y = be.matmul(K, self.Q._rmatmat(X) - be.matmul(be.adjoint(self.S), X[..., :r, :]))
        QY, SY = self.Q._matmat(Y), be.matmul(self.S, Y)
        top = X[..., :r, :] - QY[..., :r, :] + SY
        return be.xp.concat([top, X[..., r:, :] - QY[..., r:, :]], axis=-2)

    def _matmat(self, X: Any) -> Any:
        return self._reflect(X, self.K)

    def _rmatmat(self, X: Any) -> Any:
        return self._reflect(X, self._concrete_backend().adjoint(self.K))

    def _properties(self) -> frozenset[Property]:
        return frozenset({Unitary})


def range_frame(P: EquivariantProjector) -> tuple[Any, RangeFrame]:
    """(eigenvalues, eigenvectors) of P: 1 for the first r vectors, 0 for the rest. O(N r^2)."""
    be = P._concrete_backend()
    xp, (n, r) = be.xp, P.Q.shape
    rest = be.zeros((n - r, r), P.dtype, P.device)
    first = xp.concat([be.eye(r, P.dtype, P.device), rest], axis=-2)
    Q1h = P.Q._rmatmat(first)  # conjugate transpose of the first r rows
    # With Q1 = U s V^H take S = -U V^H: then 1 - Q1^H S = V (1 + s) V^H, as well conditioned as can be.
    U, s, Vh = xp.linalg.svd(be.adjoint(Q1h), full_matrices=False)
    S = -be.matmul(U, Vh)
    K = be.matmul(be.adjoint(Vh) / (1.0 + s), Vh)
    values = xp.concat(
        [
            xp.ones((r,), dtype=be.real_dtype(P.dtype)),
            be.zeros((n - r,), be.real_dtype(P.dtype), P.device),
        ]
    )
    return values, RangeFrame(P.Q, S, K)
