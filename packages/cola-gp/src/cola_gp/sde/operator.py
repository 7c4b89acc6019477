r"""``StateSpaceCovariance``: the covariance of a linear Gaussian state-space model, with O(n) algebra.

Entry (i, j), ``t_i >= t_j``, is ``h_i^T A_i A_{i-1} ... A_{j+1} P_j h_j`` with the covariance
``P_j = A_j P_{j-1} A_j^T + Q_j`` of the state at time j: a semiseparable matrix, of which O(n s^2) numbers
are stored.  A product is one recursion forwards and one backwards in time; solutions and determinants are the
Kalman filter and smoother (:mod:`.filtering`).
"""

from __future__ import annotations

from typing import Any

from cola_core import PSD, ops
from cola_core.cost import Cost
from cola_core.errors import NotPositiveDefiniteError, ShapeError
from cola_core.operators import LinearOperator, operator

from ..arrays import Array, backend_for
from .filtering import Factor, Steps, factorise
from .recursions import EINSUM, Layout, backward, congruences, forward, identity, mm


def recursion_cost(n: int, s: int, itemsize: int, columns: float = 1.0) -> Cost:
    """About ten recursions of ``sqrt(n)`` array steps, with s x s products at every time."""
    steps = min(n, 2.0 * n**0.5)
    work = n * (40.0 * s**3 + 8.0 * s * s * columns)
    held = itemsize * n * (8.0 * s * s + 4.0 * s * columns)
    # products of larger matrices take three array operations instead of one
    return Cost(flops=work, bytes=8.0 * held, memory=held, calls=(270.0 if s > EINSUM else 90.0) * steps)


@operator
class StateSpaceCovariance(LinearOperator):
    """The symmetric PSD matrix of a linear Gaussian state-space model at n times, and a diagonal.

    transition, disturbance: the transitions ``A`` into every time and the covariances ``Q`` of their noise,
    ``(s, s, n)``, time last and ascending; the first are not used.  initial: covariance ``P (s, s)`` of the
    first state.  observed: combinations ``h`` of the state, ``(s, n)``, or ``(s, 1)`` if they do not move.
    order: ``(n,)`` integers, the row of every time, or None where rows ascend in time.
    white: ``(n,)`` what is added to the diagonal, by row, or None; adding a diagonal PSD operator lands here.
    """

    transition: Array
    disturbance: Array
    initial: Array
    observed: Array
    order: Any = None
    white: Any = None

    def _check(self) -> None:
        s, n = self.initial.shape[-1], self.transition.shape[-1]
        expected = {"transition": (s, s, n), "disturbance": (s, s, n), "initial": (s, s)}
        for name, shape in expected.items():
            found = tuple(getattr(self, name).shape)
            if found != shape:
                raise ShapeError(f"StateSpaceCovariance: {name} has shape {found}, expected {shape}.")
        found = tuple(self.observed.shape)
        if found not in ((s, n), (s, 1)):
            raise ShapeError(
                f"StateSpaceCovariance: observed has shape {found}, expected {(s, n)} or {(s, 1)}."
            )
        for name in ("order", "white"):
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != (n,):
                raise ShapeError(
                    f"StateSpaceCovariance: {name} has shape {tuple(value.shape)}, expected {(n,)}."
                )
        if n == 0:
            raise ShapeError("StateSpaceCovariance needs at least one time.")

    @property
    def steps(self) -> Steps:
        """The model as the recursions take it."""
        return Steps(self.transition, self.disturbance, self.initial, self.observed)

    @property
    def states(self) -> int:
        """Size s of the state."""
        return int(self.initial.shape[-1])

    def _shape(self) -> tuple[int, ...]:
        n = self.transition.shape[-1]
        return (n, n)

    def _properties(self) -> frozenset[Any]:
        return frozenset({PSD})  # a covariance, by construction

    def _matvec_cost(self) -> Cost:
        n, s = self.shape[0], self.states
        return Cost(8.0 * n * s * s, self.itemsize * n * (3 * s * s + 4 * s), calls=8.0 * min(n, 2 * n**0.5))

    # -- rows and times ---------------------------------------------------------------------------------
    def in_time(self, x: Array) -> Array:
        """Entries ``(n, ...)`` by row as entries by time."""
        return x if self.order is None else x[self.order]

    def in_rows(self, x: Array) -> Array:
        """Entries ``(n, ...)`` by time as entries by row."""
        if self.order is None:
            return x
        return x[self.xp.argsort(self.order)]

    def marginal(self) -> Array:
        """``h^T P h``, the diagonal without ``white``, by time."""
        be = self._concrete_backend()
        return be.jit(StateSpaceCovariance._marginal)(self)  # type: ignore[no-any-return]

    def laid(self) -> tuple[Any, Layout, Array, Array, Array]:
        """Backend, layout, transitions out of every time, what is observed, and covariances of the state."""
        be = self._concrete_backend()
        s, n = self.states, self.shape[0]
        layout = Layout.of(n)
        eye = identity(be, s, self.transition)
        last = eye[..., None]
        M = layout.split(be, be.xp.concat([self.transition[..., 1:], last], axis=-1), eye)
        Q = layout.split(be, be.xp.concat([self.disturbance[..., 1:], 0 * last], axis=-1))
        h = layout.split(be, be.xp.broadcast_to(self.observed, (s, n)))
        P = congruences(be, M, Q, self.initial)
        return be, layout, M, h, P

    def _marginal(self) -> Array:
        be, layout, _, h, P = self.laid()
        return layout.join(be, be.xp.sum(h * mm(be, P, h[:, None])[:, 0], axis=0))

    def diagonal(self) -> Array:
        """The diagonal ``(n,)``, at O(n s^2)."""
        values = self.in_rows(self.marginal())
        return values if self.white is None else values + self.white

    # -- algebra ----------------------------------------------------------------------------------------
    def _plus(self, other: Any) -> Any:
        if not other.isa(PSD):
            return NotImplemented
        n = self.shape[0]
        ones = self.transition[0, 0] * 0 + 1
        if isinstance(other, ops.Identity):
            more = ones
        elif isinstance(other, ops.ScalarMul) and not getattr(other.c, "shape", ()):
            more = other.c * ones
        elif isinstance(other, ops.Diagonal) and tuple(other.diag.shape) == (n,):
            more = other.diag
        else:
            return NotImplemented
        return StateSpaceCovariance(
            self.transition,
            self.disturbance,
            self.initial,
            self.observed,
            self.order,
            more if self.white is None else self.white + more,
        )

    def _times(self, c: Any) -> Any:
        if getattr(c, "shape", ()) or isinstance(c, complex):
            return NotImplemented
        if isinstance(c, (int, float)) and c < 0:
            return NotImplemented
        if not isinstance(c, (int, float)):
            return NotImplemented  # the sign of an array is not known from its class
        white = None if self.white is None else c * self.white
        return StateSpaceCovariance(
            self.transition, c * self.disturbance, c * self.initial, self.observed, self.order, white
        )

    def _matmat(self, X: Array) -> Array:
        be = backend_for(X)
        if be.is_complex(X):
            xp = be.xp
            real, imaginary = self._matmat(xp.real(X)), self._matmat(xp.imag(X))
            return be.astype(real, X.dtype) + 1j * imaginary
        xp = be.xp
        n = self.shape[0]
        lead, k = tuple(X.shape[:-2]), X.shape[-1]
        columns = xp.reshape(xp.moveaxis(X, -2, 0), (n, -1))
        out = self.in_rows(be.jit(StateSpaceCovariance._product)(self, self.in_time(columns)))
        out = xp.moveaxis(xp.reshape(out, (n, *lead, k)), 0, -2)
        return out if self.white is None else out + self.white[:, None] * X

    _rmatmat = _matmat

    def _product(self, X: Array) -> Array:
        """The product without ``white`` for ``X (n, m)``, by time."""
        be, layout, M, h, P = self.laid()
        xp = be.xp
        Ph = mm(be, P, h[:, None])[:, 0]
        x = layout.split(be, xp.moveaxis(X, -1, 0))
        g = mm(be, M, Ph[:, None])[:, 0]
        earlier = forward(be, M, g[:, None] * x[None])
        # v_k = M_k^T v_{k+1} + h_k x_k, of which the product needs M_k^T v_{k+1}
        later = backward(be, M, h[:, None] * x[None])
        out = xp.sum(h[:, None] * earlier, axis=0) + xp.sum(g[:, None] * later, axis=0)
        out = out + xp.sum(h * Ph, axis=0) * x
        return xp.moveaxis(layout.join(be, out), 0, -1)

    def _adjoint(self) -> LinearOperator:
        return self

    def _transpose(self) -> LinearOperator:
        return self

    def _conj(self) -> LinearOperator:
        return self

    def noise(self) -> Array:
        """``white`` by time, zeros if there is none."""
        return self.transition[0, 0] * 0 if self.white is None else self.in_time(self.white)

    def factorise(self) -> Factor:
        """The Kalman filter as a factorisation, by time.  Raises NotPositiveDefiniteError."""
        be = self._concrete_backend()
        found = factorise(self.steps, self.noise(), serial=self.white is None)
        if be.is_concrete(found.S) and not bool(be.xp.all(found.S > 0)):
            raise NotPositiveDefiniteError(
                f"the {self.shape[0]}x{self.shape[0]} covariance of the state-space model is singular to "
                f"working precision ({self.dtype}): times that coincide, or a prior too wide for the noise; "
                "add noise to the diagonal or raise its variance."
            )
        return found

    def draw(self, key: Any, count: int) -> Array:
        """``count`` independent draws with this covariance, ``(count, n)``, at O(n s^3 + n s^2 count)."""
        be = self._concrete_backend()
        xp = be.xp
        s, n = self.states, self.shape[0]
        layout = Layout.of(n)
        eye = identity(be, s, self.transition)
        M = layout.split(be, xp.concat([self.transition[..., 1:], eye[..., None]], axis=-1), eye)
        normal = be.normal(key, (s + 1, count, n), self.dtype, self.device)
        roots = xp.concat([_root(be, self.initial[..., None]), _root(be, self.disturbance[..., 1:])], axis=-1)
        drawn = mm(be, roots, normal[:s])
        first, moves = drawn[..., :1], drawn[..., 1:]
        # forward() starts from zero, so the first state enters through its own transition
        moves = xp.concat(
            [mm(be, self.transition[..., 1:2], first) + moves[..., :1], moves[..., 1:], 0 * first], axis=-1
        )
        x = layout.join(be, forward(be, M, layout.split(be, moves if n > 1 else 0 * first)))
        x = xp.concat([first, x[..., 1:]], axis=-1)
        out = xp.sum(xp.broadcast_to(self.observed, (s, n))[:, None] * x, axis=0)
        out = xp.moveaxis(self.in_rows(xp.moveaxis(out, -1, 0)), 0, -1)
        return out if self.white is None else out + xp.sqrt(self.white) * normal[s]


def _root(be: Any, Q: Array) -> Array:
    """``R R^T = Q`` for PSD ``(s, s, n)``, by eigenvalues: noise is singular where times coincide."""
    xp = be.xp
    front = xp.moveaxis(xp.moveaxis(Q, 0, -1), 0, -1)
    values, vectors = be.eigh(0.5 * (front + xp.moveaxis(front, -1, -2)))
    values = xp.where(values > 0, values, xp.zeros_like(values))
    roots = vectors * xp.sqrt(values)[..., None, :]
    return xp.moveaxis(xp.moveaxis(roots, -1, 0), -1, 0)


__all__ = ["StateSpaceCovariance", "recursion_cost"]
