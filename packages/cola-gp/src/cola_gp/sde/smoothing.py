r"""One vector of observations conditioned on: likelihood, its gradient, and the state at any time.

With ``m_k, P_k`` the predicted and ``r_k, N_k`` the adjoint quantities of :mod:`.filtering`, the state given
all observations has mean ``m_k + P_k r_k`` and covariance ``P_k - P_k N_k P_k``.  The same holds at a time
between two observations: its prediction comes from the filtered state on the left, its ``r`` and ``N`` from
the right, so a test time costs O(s^3), without another pass (Durbin & Koopman 2012, 4.4, 4.10).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

from ..arrays import Array, backend_for
from .filtering import Cotangent, Factor, Steps, factorise
from .recursions import forward, identity, mm, scan, symmetric, transpose


class Bridge(NamedTuple):
    """How m test times hang between the observations; time is the last axis, ``(s, s, m)`` and ``(s, m)``.

    left: index of the last observation at or before each, -1 if there is none; A, Q: the transition from
    there; A_next: the transition from each to the observation after ``left``; H: what is asked of the state.
    """

    left: Array
    A: Array
    Q: Array
    A_next: Array
    H: Array


class Smoothed:
    """A :class:`~.filtering.Factor` conditioned on ``y (n,)``; quantities are computed when first needed."""

    def __init__(self, factor: Factor, y: Array):
        self.factor = factor
        self.m, self.e, self.r_after, self._alpha = factor.be.jit(_condition)(factor, y)

    @property
    def alpha(self) -> Array:
        """``V^{-1} y``, ``(n,)``."""
        return self._join(self._alpha)

    @property
    def quadratic(self) -> Array:
        """``y^T V^{-1} y``: a sum of squares."""
        return self.factor.be.xp.sum(self.e * self.e * self.factor.weight)

    @cached_property
    def N_after(self) -> Array:
        return self.factor.information()

    @cached_property
    def _inverse_diagonal(self) -> Array:
        f = self.factor
        gN = f.be.xp.sum(f.g[:, None] * self.N_after, axis=0)
        return f.weight + f.be.xp.sum(gN * f.g, axis=0)

    def inverse_diagonal(self) -> Array:
        """``diag(V^{-1})``, ``(n,)``."""
        return self._join(self._inverse_diagonal)

    def _join(self, x: Array) -> Array:
        return self.factor.layout.join(self.factor.be, x)

    @cached_property
    def r(self) -> Array:
        """``r_k``, ``(s, L, C)``."""
        f = self.factor
        return f.h * (self.e * f.weight) + mm(f.be, transpose(f.be, f.F), self.r_after[:, None])[:, 0]

    @cached_property
    def filtered_mean(self) -> Array:
        """State means given the observations up to each, ``(s, L, C)``."""
        f = self.factor
        return self.m + mm(f.be, f.P, f.h[:, None])[:, 0] * (self.e * f.weight)

    def gradient(self) -> tuple[Cotangent, Array]:
        """Derivatives of ``-(y^T V^{-1} y + log |V|) / 2`` in the model's steps and in the noise ``(n,)``."""
        return self.factor.be.jit(_gradient)(  # type: ignore[no-any-return]
            self.factor, (self.m, self.e, self.r_after, self._alpha), self.N_after
        )

    def _gradient(self) -> tuple[Cotangent, Array]:
        f, be, xp = self.factor, self.factor.be, self.factor.be.xp
        r, N = self.r_after, self.N_after
        G = 0.5 * (r[:, None] * r[None] - N)
        A = r[:, None] * self.filtered_mean[None] + 2.0 * mm(be, G, mm(be, f.F, f.P))
        Ng = mm(be, N, f.g[:, None])
        c = mm(be, f.P, (f.h * f.weight)[:, None] - mm(be, transpose(be, f.F), Ng))[:, 0]
        mean = self.m + mm(be, f.P, self.r[:, None])[:, 0]
        H = self._alpha * mean - c

        def shifted(x: Array) -> Array:
            x = self._join(x)
            return xp.concat([xp.zeros_like(x[..., :1]), x[..., :-1]], axis=-1)

        F0, h0, r0 = f.F[..., 0, 0], f.h[:, 0, 0], self.r[:, 0, 0]
        N0 = F0.T @ (N[..., 0, 0] @ F0) + h0[:, None] * h0[None] * f.weight[0, 0]
        P = 0.5 * (r0[:, None] * r0[None] - N0)
        noise = 0.5 * (self._alpha**2 - self._inverse_diagonal)
        return Cotangent(shifted(A), shifted(G), symmetric(be, P), self._join(H)), self._join(noise)

    # -- test times -----------------------------------------------------------------------------------------
    @cached_property
    def _filtered(self) -> tuple[Array, Array]:
        """Filtered means ``(s, n)`` and covariances ``(s, s, n)``."""
        f, be = self.factor, self.factor.be
        k = mm(be, f.P, f.h[:, None])[:, 0] * f.weight
        eye = be.eye(f.P.shape[0], f.P.dtype, be.device(f.P))[..., None, None]
        keep = eye - k[:, None] * f.h[None]
        # r k k^T: the noise variance is what the innovation has beyond the predicted variance
        noise = f.S - be.xp.sum(f.h * mm(be, f.P, f.h[:, None])[:, 0], axis=0)
        P = mm(be, mm(be, keep, f.P), transpose(be, keep)) + (k[:, None] * k[None]) * noise
        return self._join(self.filtered_mean), self._join(symmetric(be, P))

    @cached_property
    def _adjoint(self) -> tuple[Array, Array]:
        """``r_k (s, n)`` and ``N_k (s, s, n)``."""
        f, be = self.factor, self.factor.be
        N = mm(be, transpose(be, f.F), mm(be, self.N_after, f.F)) + (f.h[:, None] * f.h[None]) * f.weight
        return self._join(self.r), self._join(symmetric(be, N))

    def covariances(self) -> tuple[Array, Array]:
        """Predicted covariances and ``N``, both ``(s, s, n)``: the state's are ``P - P N P``."""
        return self._join(self.factor.P), self._adjoint[1]

    def at(self, bridge: Bridge, prior: Array) -> tuple[Array, Array]:
        """Mean ``(m,)`` and variance ``(m,)`` of ``H^T x`` at test times; prior: ``(s, s)`` at any time."""
        given = self._filtered, self._adjoint
        return self.factor.be.jit(_at)(given, bridge, prior)  # type: ignore[no-any-return]

    @classmethod
    def _of(cls, factor: Factor, parts: tuple[Array, ...], N_after: Array) -> Smoothed:
        """With quantities that are known already."""
        made = object.__new__(cls)
        made.factor = factor
        made.m, made.e, made.r_after, made._alpha = parts
        made.__dict__["N_after"] = N_after
        return made


def _condition(factor: Factor, y: Array) -> tuple[Array, ...]:
    m, e = factor.predictions(factor.layout.split(factor.be, y)[None])
    after, alpha = factor.adjoints(e)
    return m[:, 0], e[0], after[:, 0], alpha[0]


def _gradient(factor: Factor, parts: tuple[Array, ...], N_after: Array) -> tuple[Cotangent, Array]:
    return Smoothed._of(factor, parts, N_after)._gradient()


def _at(given: Any, bridge: Bridge, prior: Array) -> tuple[Array, Array]:
    (mean, P), (r, N) = given
    be = backend_for(P)
    xp = be.xp
    n = mean.shape[-1]
    before = bridge.left < 0
    left, right = xp.where(before, 0 * bridge.left, bridge.left), bridge.left + 1
    beyond = right >= n
    right = xp.where(beyond, 0 * right, right)
    zero = xp.zeros_like
    mean, P = mean[..., left], P[..., left]
    mean = xp.where(before, zero(mean), mm(be, bridge.A, mean[:, None])[:, 0])
    moved = mm(be, mm(be, bridge.A, P), transpose(be, bridge.A)) + bridge.Q
    P = xp.where(before, prior[..., None] + zero(moved), moved)
    r, N = r[..., right], N[..., right]
    back = transpose(be, bridge.A_next)
    r = xp.where(beyond, zero(r), mm(be, back, r[:, None])[:, 0])
    N = xp.where(beyond, zero(N), mm(be, mm(be, back, N), bridge.A_next))
    Ph = mm(be, P, bridge.H[:, None])
    value = xp.sum(bridge.H * mean, axis=0) + xp.sum(Ph[:, 0] * r, axis=0)
    variance = xp.sum(bridge.H * Ph[:, 0], axis=0) - xp.sum(Ph[:, 0] * mm(be, N, Ph)[:, 0], axis=0)
    return value, xp.where(variance > 0, variance, zero(variance))


def joint_covariance(steps: Steps, noise: Array, seen: Array, places: Array) -> Array:
    """Covariance ``(m, m)`` of ``h^T x`` at m of the times, given the observations at others.

    steps, noise, seen: as in :func:`~.filtering.factorise`, test times included with ``seen = 0``; places:
    their ascending indices ``(m,)``.  With the filter's covariances ``P_j`` and the product ``T_ij`` of its
    closed-loop transitions from i to j, ``cov(x_j, x_i) = (I - P_j N_j) T_ij P_i`` for ``i <= j``; products
    between neighbouring test times come from one recursion that forgets at every test time.
    """
    factor = factorise(steps, noise, seen)
    return factor.be.jit(_joint_covariance)(factor, factor.information(), seen, places)  # type: ignore[no-any-return]


def _joint_covariance(factor: Factor, N_after: Array, seen: Array, places: Array) -> Array:
    be, layout = factor.be, factor.layout
    xp = be.xp
    s = factor.F.shape[0]
    mask = layout.split(be, 1.0 - seen)
    # the state before a step is the product of the transitions since the last test time
    moving = factor.F * (1.0 - mask)
    between = layout.join(be, forward(be, moving, factor.F * mask))[..., places]
    N = mm(be, transpose(be, factor.F), mm(be, N_after, factor.F))
    N = N + (factor.h[:, None] * factor.h[None]) * factor.weight
    P, N, h = (layout.join(be, x)[..., places] for x in (factor.P, N, factor.h))
    keep = identity(be, s, P, (1,)) - mm(be, P, N)
    rows = mm(be, transpose(be, keep), h[:, None])[:, 0]  # h_j^T (I - P_j N_j)
    m = P.shape[-1]
    each = identity(be, m, P)

    def step(R: Array, parts: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        E, Pj, row, mine = parts
        # R: T_ij P_i for all earlier i, (s, s, m); zero for later ones
        R = mm(be, E[..., :1], R) + Pj[..., :1] * mine
        return R, (xp.sum(row[:, :1] * xp.sum(R * h[None], axis=1), axis=0),)

    def column(x: Array) -> Array:  # (..., m) -> (..., m, 1), one step for every test time
        return x[..., None]

    zero = xp.zeros_like(P)
    _, (lower,) = scan(be, step, zero, (column(between), column(P), column(rows), each))
    diagonal = xp.linalg.diagonal(lower)
    diagonal = xp.where(diagonal > 0, diagonal, xp.zeros_like(diagonal))
    upper = xp.triu(lower.T, k=1)
    return upper + upper.T + be.matrix_diag(diagonal)
