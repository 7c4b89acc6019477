"""Reflections: ``Householder`` is one, ``HouseholderProduct`` several as LAPACK's geqrf leaves them."""

from __future__ import annotations

from typing import Any

from ..backends import backend_of_type
from ..backends.base import Array, dtype_name
from ..cost import Cost
from ..errors import ShapeError
from ..properties import Property, SelfAdjoint, Unitary
from ..pytree import operator, static
from .base import LinearOperator
from .dense import as_matrix_entries

__all__ = ["Householder", "HouseholderProduct"]


@operator
class Householder(LinearOperator):
    """``I - beta v v^H`` for v of shape (*batch, n); beta a number or an array of batch shape.

    Without beta it is ``2 / (v^H v)``: the reflection at the plane orthogonal to v, self-adjoint and unitary
    (the identity for v = 0). With a beta neither is assumed, except self-adjointness for a real one.
    Product: ``4 n`` flops. Source: Golub & Van Loan, 4th ed., sec. 5.1.

    >>> import numpy as np, cola_core as cola
    >>> H = cola.ops.Householder(np.array([1.0, 1.0]))
    >>> (H @ np.array([3.0, 5.0])).tolist()
    [-5.0, -3.0]
    """

    vec: Array
    beta: Any = None

    def _check(self) -> None:
        object.__setattr__(self, "vec", as_matrix_entries(self.vec, "Householder vec", ndim=1))
        if self.beta is not None and not isinstance(self.beta, (int, float, complex)):
            object.__setattr__(self, "beta", as_matrix_entries(self.beta, "Householder beta", ndim=0))

    @property
    def squared(self) -> Array:
        """``v^H v`` of ``direction``, real, of batch shape."""
        return self.xp.sum(self.xp.abs(self.direction) ** 2, axis=-1)

    @property
    def direction(self) -> Array:
        """v; without beta, which its length then does not matter to, scaled so that no square overflows."""
        return self.vec if self.beta is not None else _of_moderate_size(self.xp, self.vec, -1)

    @property
    def coefficient(self) -> Any:
        """beta, as it goes with ``direction``: a number, or an array of batch shape."""
        if self.beta is not None:
            return self.beta
        s = self.squared
        zero = s == 0
        return self.xp.where(zero, self.xp.zeros_like(s), 2 / self.xp.where(zero, self.xp.ones_like(s), s))

    def _shape(self) -> tuple[int, ...]:
        n = self.vec.shape[-1]
        lead = tuple(self.vec.shape[:-1])
        shape = tuple(getattr(self.beta, "shape", ()))
        if shape and shape != lead:
            lead = tuple(self.xp.broadcast_arrays(self.xp.sum(self.vec, axis=-1), self.beta)[0].shape)
        return (*lead, n, n)

    def _product(self, X: Array, beta: Any) -> Array:
        be = self._concrete_backend()
        v = self.direction[..., :, None]
        beta = beta[..., None, None] if getattr(beta, "shape", ()) else beta
        return X - v * (beta * be.matmul(be.adjoint(v), X))

    def _matmat(self, X: Array) -> Array:
        return self._product(X, self.coefficient)

    def _rmatmat(self, X: Array) -> Array:
        return self._product(X, _conj(self._concrete_backend(), self.coefficient))

    def _adjoint(self) -> LinearOperator:
        return Householder(self.vec, _conj(self._concrete_backend(), self.beta))

    def _transpose(self) -> LinearOperator:
        return Householder(self._concrete_backend().conj(self.vec), self.beta)

    def _conj(self) -> LinearOperator:
        be = self._concrete_backend()
        return Householder(be.conj(self.vec), _conj(be, self.beta))

    def _properties(self) -> frozenset[Property]:
        if self.beta is None:
            return frozenset({SelfAdjoint, Unitary})
        known = backend_of_type(type(self.beta)) is not None
        real = "complex" not in dtype_name(self.beta.dtype) if known else not isinstance(self.beta, complex)
        return frozenset({SelfAdjoint}) if real else frozenset()

    def _matvec_cost(self) -> Cost:
        n = self.shape[-1]
        return Cost(4.0 * n, 4 * self.itemsize * n, self.itemsize * n, 3)


@operator
class HouseholderProduct(LinearOperator):
    """``Q = H_1 H_2 ... H_k`` of size m with ``H_i = I - tau_i v_i v_i^H``, as LAPACK's geqrf leaves it.

    V: (*batch, m, k), of which the part below the diagonal is read: ``v_i`` is zero above row i, one there
    and V[i+1:, i] below, so that geqrf's result (``scipy.linalg.qr(A, mode="raw")``) can be given as it is.
    tau: (*batch, k); without it each is ``2 / (v^H v)`` and Q unitary. With tau nothing is assumed: declare
    ``Unitary(Q)`` for geqrf's. backwards: the adjoint. Products are blocked: ``4 m k`` flops a column.
    Source: Schreiber & Van Loan, SISSC 10 (1989) 53.
    """

    V: Array
    tau: Array | None = None
    backwards: bool = static(default=False)

    def _check(self) -> None:
        V = as_matrix_entries(self.V, "HouseholderProduct V")
        if V.shape[-1] > V.shape[-2]:
            raise ShapeError(f"HouseholderProduct takes at most m vectors of length m; got {tuple(V.shape)}.")
        object.__setattr__(self, "V", V)
        if self.tau is not None:
            tau = as_matrix_entries(self.tau, "HouseholderProduct tau", ndim=1)
            if tau.shape[-1] != V.shape[-1]:
                raise ShapeError(
                    f"HouseholderProduct needs one tau for each vector: V {tuple(V.shape)}, tau "
                    f"{tuple(tau.shape)}."
                )
            object.__setattr__(self, "tau", tau)

    @property
    def vectors(self) -> Array:
        """The v_i as columns (*batch, m, k), scaled where tau is not given."""
        be = self._concrete_backend()
        m, k = self.V.shape[-2:]
        unit = be.eye(m, self.V.dtype, be.device(self.V))[:, :k] if m <= 2 * k else _tall_eye(be, self.V)
        vectors = be.xp.tril(self.V, k=-1) + unit
        return vectors if self.tau is not None else _of_moderate_size(be.xp, vectors, -2)

    @property
    def coefficients(self) -> Array:
        """The tau_i (*batch, k), as they go with ``vectors``."""
        if self.tau is not None:
            return self.tau
        return 2 / self.xp.sum(self.xp.abs(self.vectors) ** 2, axis=-2)

    def compact(self) -> tuple[Array, Array]:
        """(V, T) with ``H_1 ... H_k = I - V T V^H``, T upper triangular."""
        be = self._concrete_backend()
        xp = be.xp
        V = self.vectors
        tau = be.astype(self.coefficients, self.dtype)
        # T^-1 = diag(1 / tau) + the part of V^H V above the diagonal; rearranged, so that tau may be zero
        S = xp.triu(be.matmul(be.adjoint(V), V), k=1)
        k = V.shape[-1]
        unit = be.eye(k, self.dtype, be.device(V)) + tau[..., :, None] * S
        return V, be.solve_triangular(unit, be.matrix_diag(tau), lower=False, unit=True)

    def _shape(self) -> tuple[int, ...]:
        m = self.V.shape[-2]
        lead = tuple(self.V.shape[:-2])
        if self.tau is not None and tuple(self.tau.shape[:-1]) != lead:
            xp = self.xp
            lead = tuple(
                xp.broadcast_arrays(xp.sum(self.V, axis=(-2, -1)), xp.sum(self.tau, axis=-1))[0].shape
            )
        return (*lead, m, m)

    def _product(self, X: Array, backwards: bool) -> Array:
        be = self._concrete_backend()
        if not self.V.shape[-1]:
            return X
        V, T = self.compact()
        T = be.adjoint(T) if backwards else T
        return X - be.matmul(V, be.matmul(T, be.matmul(be.adjoint(V), X)))

    def _matmat(self, X: Array) -> Array:
        return self._product(X, self.backwards)

    def _rmatmat(self, X: Array) -> Array:
        return self._product(X, not self.backwards)

    def _adjoint(self) -> LinearOperator:
        return self.replace(backwards=not self.backwards, declared=frozenset())

    def _conj(self) -> LinearOperator:
        be = self._concrete_backend()
        tau = None if self.tau is None else be.conj(self.tau)
        return HouseholderProduct(be.conj(self.V), tau, self.backwards)

    def _transpose(self) -> LinearOperator:
        return self._conj()._adjoint()

    def _properties(self) -> frozenset[Property]:
        return frozenset({Unitary}) if self.tau is None else frozenset()

    def _matvec_cost(self) -> Cost:
        m, k = self.V.shape[-2:]
        work = 4.0 * m * k + 2.0 * m * k * k
        return Cost(work, self.itemsize * (4 * m * k + 2 * m), self.itemsize * (2 * m * k + m), 6)


def _conj(be: Any, c: Any) -> Any:
    """The conjugate of None, a number or an array."""
    if c is None or isinstance(c, (int, float)):
        return c
    return c.conjugate() if isinstance(c, complex) else be.conj(c)


def _of_moderate_size(xp: Any, v: Array, axis: int) -> Array:
    """v divided by its largest modulus along an axis."""
    if not v.shape[axis]:
        return v
    top = xp.max(xp.abs(v), axis=axis, keepdims=True)
    return v / xp.where(top > 0, top, xp.ones_like(top))


def _tall_eye(be: Any, V: Array) -> Array:
    """The first k columns of the m x m identity, without it."""
    m, k = V.shape[-2:]
    rows = be.zeros((m - k, k), V.dtype, be.device(V))
    return be.xp.concat([be.eye(k, V.dtype, be.device(V)), rows], axis=0)
