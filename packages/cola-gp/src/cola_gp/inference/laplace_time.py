r"""Laplace's approximation for kernels in time: O(n) per Newton step.

``B = I + S K S`` is itself the covariance of a state-space model, whose observations are multiplied by S and
have noise of variance one, so weights may be as small or large as they like.  Gradients are those of its
log-determinant (:meth:`~cola_gp.sde.smoothing.Smoothed.gradient`) and of quadratic forms ``v^T K v``, the
variance of ``sum_k v_k h_k^T x_k``: with ``l_k = h_k v_k + A_{k+1}^T l_{k+1}`` and ``c_k`` the covariance of
the state with that sum,

    d/dQ_k = l_k l_k^T,   d/dP_0 = l_0 l_0^T,   d/dA_k = 2 l_k c_{k-1}^T,   d/dh_k = 2 v_k c_k.
"""

from __future__ import annotations

from typing import Any

from ..arrays import Array, backend_for
from ..sde.between import bridge, covariance_at, together
from ..sde.filtering import Cotangent
from ..sde.operator import StateSpaceCovariance
from ..sde.recursions import backward, forward, mm, transpose
from ..sde.smoothing import Smoothed
from .laplace_forms import Form, Root


class StateSpaceForm(Form):
    """A prior in time, without a white part."""

    K: StateSpaceCovariance

    def constant(self) -> StateSpaceForm:
        be = self.K._concrete_backend()
        K = self.K
        return StateSpaceForm(
            StateSpaceCovariance(
                be.constant(K.transition),
                be.constant(K.disturbance),
                be.constant(K.initial),
                be.constant(K.observed),
                K.order,
            )
        )

    def arrays(self) -> tuple[Any, ...]:
        return (self.K.transition, self.K.disturbance, self.K.initial, self.K.observed)

    def root(self, s: Array) -> StateSpaceRoot:
        return StateSpaceRoot(self.K, s)

    def cotangent(self, a: Array, u: Array, curvature: Any) -> Any:
        """A pair: the cotangent of the model, and zeros for the white part that there is not."""
        xp = backend_for(a).xp
        K = self.K
        columns, weights = [a + u, u], [0.5, -0.5]
        root = curvature.root
        parts = [root.log_det_gradient()]
        out = curvature.outliers()
        if out is not None:  # R is less by G G^T
            columns = [*columns, *(out[:, j] for j in range(out.shape[1]))]
            weights = [*weights, *([0.5] * out.shape[1])]
        parts.append(quadratic_gradient(K, xp.stack(columns, axis=1), weights))
        total = Cotangent(*(x + y for x, y in zip(*parts, strict=True)))
        return total, xp.zeros_like(a)

    def mean_at(self, conditioned: Any, X: Array) -> Array:
        n = conditioned.data.n
        both = together(conditioned.model.kernel, conditioned.points[:, 0], X[:, 0])
        xp = backend_for(X).xp
        return (both @ xp.concat([conditioned.alpha, xp.zeros_like(X[:, 0])]))[n:]  # type: ignore[no-any-return]

    def variance_at(self, conditioned: Any, X: Array) -> Array | None:
        curvature = conditioned.curvature
        if curvature.P is not None:
            return None
        times = self.K.in_time(conditioned.points[:, 0])
        smoothed = curvature.root.smoothed
        return smoothed.at(bridge(conditioned.model.kernel, times, X[:, 0]), self.K.initial)[1]

    def covariance_at(self, conditioned: Any, X: Array) -> Array | None:
        curvature = conditioned.curvature
        if curvature.P is not None:
            return None
        xp = backend_for(X).xp
        times, scale = self.K.in_time(conditioned.points[:, 0]), self.K.in_time(curvature.s)
        return covariance_at(conditioned.model.kernel, times, X[:, 0], xp.ones_like(times), scale)


class StateSpaceRoot(Root):
    """``B = I + S K S`` by the Kalman filter."""

    def __init__(self, K: StateSpaceCovariance, s: Array):
        self.K = K
        self.scale = K.in_time(s)
        scaled = StateSpaceCovariance(
            K.transition,
            K.disturbance,
            K.initial,
            K.observed * self.scale,
            K.order,
            s * 0 + 1,
        )
        self.factor = scaled.factorise()
        self.log_det = self.factor.log_det()
        self._smoothed: Any = None

    @property
    def smoothed(self) -> Smoothed:
        """The state given targets of zero: its covariances are those of any targets."""
        if self._smoothed is None:
            self._smoothed = Smoothed(self.factor, 0 * self.scale)
        return self._smoothed  # type: ignore[no-any-return]

    def solve(self, V: Array) -> Array:
        columns = V if V.ndim == 2 else V[:, None]
        out = self.K.in_rows(self.factor.solve(self.K.in_time(columns)))
        return out.reshape(V.shape)

    def posterior_diagonal(self) -> Array:
        be = self.factor.be
        xp = be.xp
        P, N = self.smoothed.covariances()
        Ph = mm(be, P, xp.broadcast_to(self.K.observed, P.shape[1:])[:, None])
        value = xp.sum(self.K.observed * Ph[:, 0], axis=0)
        value = value - xp.sum(Ph[:, 0] * mm(be, N, Ph)[:, 0], axis=0)
        return self.K.in_rows(xp.where(value > 0, value, xp.zeros_like(value)))

    def log_det_gradient(self) -> Cotangent:
        """Of ``-log|B| / 2`` in the prior's model."""
        found, _ = self.smoothed.gradient()
        return found._replace(H=self.scale * found.H)


def quadratic_gradient(K: StateSpaceCovariance, V: Array, weights: list[float]) -> Cotangent:
    """Of ``sum_j w_j v_j^T K v_j`` for the columns of ``V (n, k)``."""
    be, layout, M, h, P = K.laid()
    xp = be.xp
    Ph = mm(be, P, h[:, None])[:, 0]
    v = layout.split(be, xp.moveaxis(K.in_time(V), -1, 0))
    g = mm(be, M, Ph[:, None])[:, 0]
    after = backward(be, M, h[:, None] * v[None])
    # forwards, the covariance of the state with what came before; then with now, and with what follows
    earlier = forward(be, M, g[:, None] * v[None])
    later = mm(be, P, mm(be, transpose(be, M), after))
    c = earlier + Ph[:, None] * v[None] + later
    here = h[:, None] * v[None] + mm(be, transpose(be, M), after)
    after, c, here, v = (layout.join(be, x) for x in (after, c, here, v))
    w = be.asarray(weights, dtype=V.dtype, device=be.device(V))[:, None]

    def outer(x: Array, y: Array) -> Array:
        return xp.sum(x[:, None] * y[None] * w, axis=2)

    A = 2.0 * outer(after, c)  # of the transition that leaves time k
    Q = outer(after, after)
    zero = xp.zeros_like(A[..., :1])
    first = here[..., :1]
    return Cotangent(
        xp.concat([zero, A[..., :-1]], axis=-1),
        xp.concat([zero, Q[..., :-1]], axis=-1),
        outer(first, first)[..., 0],
        2.0 * xp.sum(c * v * w, axis=1),
    )
