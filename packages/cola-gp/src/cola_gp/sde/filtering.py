r"""The covariance of a linear Gaussian state-space model as a matrix: factorised, solved, differentiated.

Observations ``y_k = h_k^T x_k + e_k`` with ``x_0 ~ N(0, P)``, ``x_k = A_k x_{k-1} + w_k``,
``w_k ~ N(0, Q_k)`` and ``e_k ~ N(0, r_k)`` have a covariance ``V``.  The Kalman filter is its factorisation
``V = L diag(S) L^T``: innovations are ``L^{-1} y``, their variances are S (Kailath, Sayed & Hassibi 2000, ch.
9).  Backwards in time run the vector ``r_k`` and the matrix ``N_k`` of the disturbance smoother (de Jong
1989; Durbin & Koopman 2012, 4.4), which need no inverse of a state covariance:

    r_k = h_k e_k / S_k + F_k^T r_{k+1},   N_k = h_k h_k^T / S_k + F_k^T N_{k+1} F_k,
    F_k = A_{k+1} - g_k h_k^T,             g_k = A_{k+1} P_k h_k / S_k.

They are the derivatives of the log likelihood with respect to the predicted mean ``m_k`` and, as ``G_k = (r_k
r_k^T - N_k) / 2``, to the predicted covariance ``P_k``, from which all others follow (Koopman & Shephard
1992; :meth:`Factor.gradient`).

The covariance recursion is advanced in chunks of time: a chunk that is entered with covariance P is left
with ``E + F P (I + J P)^{-1} F^T``, where E, F and J come from a pass that starts at P = 0 (the associative
element of Sarkka & Garcia-Fernandez 2021).  Covariances are sums of congruences (Joseph's form), so rounding
leaves them positive semidefinite.  Cost O(n s^3), memory O(n s^2), in about ``5 sqrt(n)`` array steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .._struct import Struct, static, struct
from ..arrays import Array, backend_for
from .recursions import Layout, backward, chunk_products, forward, identity, mm, scan, symmetric, transpose


class Steps(NamedTuple):
    """A state-space model at n times; time is the last axis.

    A, Q: transitions into every time and their noise, ``(s, s, n)``; the first of them are not used.
    P: prior covariance ``(s, s)`` of the first state.  H: observed combinations, ``(s, n)`` or ``(s, 1)``.
    """

    A: Array
    Q: Array
    P: Array
    H: Array


class Cotangent(NamedTuple):
    """Derivatives of a number with respect to :class:`Steps`, shaped like its fields (H as ``(s, n)``)."""

    A: Array
    Q: Array
    P: Array
    H: Array


@struct
class Factor(Struct):
    """``V = L diag(S) L^T`` by the Kalman filter; arrays ``(..., L, C)`` (see :mod:`.recursions`).

    next: transitions out of every time; h: observed combinations; P: predicted
    covariances; S: innovation variances (one in the padding); weight: 1/S, zero in the padding; g: gains
    moved to the next time; F: closed-loop transitions; products: those of F over every chunk.
    """

    next: Array
    h: Array
    P: Array
    S: Array
    weight: Array
    g: Array
    F: Array
    products: Array
    layout: Layout = static()

    @property
    def be(self) -> Any:
        """The backend of the arrays."""
        return backend_for(self.S)

    def log_det(self) -> Array:
        """``log |V|``."""
        return self.be.xp.sum(self.be.xp.log(self.S))

    def _columns(self, B: Array) -> Array:
        """``(n, m)`` as ``(m, L, C)``."""
        return self.layout.split(self.be, self.be.xp.moveaxis(B, -1, 0))

    def _rows(self, X: Array) -> Array:
        return self.be.xp.moveaxis(self.layout.join(self.be, X), 0, -1)

    def predictions(self, Y: Array) -> tuple[Array, Array]:
        """Predicted means ``(s, m, L, C)`` and innovations ``(m, L, C)`` of columns ``Y (m, L, C)``."""
        m = forward(self.be, self.F, self.g[:, None] * Y[None], self.products)
        e = Y - self.be.xp.sum(self.h[:, None] * m, axis=0)
        return m, e

    def adjoints(self, e: Array) -> tuple[Array, Array]:
        """``r_{k+1} (s, m, L, C)`` and ``V^{-1} y (m, L, C)`` from innovations."""
        scaled = e * self.weight
        after = backward(self.be, self.F, self.h[:, None] * scaled[None], self.products)
        return after, scaled - self.be.xp.sum(self.g[:, None] * after, axis=0)

    def solve(self, B: Array) -> Array:
        """``V^{-1} B`` for ``B (n, m)``: O(n s^2 m)."""
        return self.be.jit(_solve)(self, B)  # type: ignore[no-any-return]

    def innovations(self, B: Array) -> Array:
        """``diag(S)^{-1/2} L^{-1} B`` for ``B (n, m)``: whitened columns."""
        return self.be.jit(_whiten)(self, B)  # type: ignore[no-any-return]

    def information(self) -> Array:
        """``N_{k+1} (s, s, L, C)``: minus the expected second derivative of what follows in ``m_{k+1}``."""
        return self.be.jit(Factor._information)(self)  # type: ignore[no-any-return]

    def _information(self) -> Array:
        be, xp = self.be, self.be.xp

        def step(N: Array, parts: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
            F, h, weight = parts
            before = mm(be, transpose(be, F), mm(be, N, F)) + (h[:, None] * h[None]) * weight
            return symmetric(be, before), (N,)

        zero = xp.zeros_like(self.F[..., 0, :])
        start = zero
        if self.layout.chunks > 1:
            ends, _ = scan(
                be, lambda N, p: (step(N, p)[0], ()), zero, (self.F, self.h, self.weight), reverse=True
            )

            def over(N: Array, parts: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
                F, own = parts
                return symmetric(be, mm(be, transpose(be, F), mm(be, N, F)) + own), (N,)

            _, (start,) = scan(
                be, over, zero[..., :1], (self.products[..., None], ends[..., None]), reverse=True
            )
            start = start[..., 0]
        return scan(be, step, start, (self.F, self.h, self.weight), reverse=True)[1][0]


def _solve(factor: Factor, B: Array) -> Array:
    _, e = factor.predictions(factor._columns(B))
    return factor._rows(factor.adjoints(e)[1])


def _whiten(factor: Factor, B: Array) -> Array:
    _, e = factor.predictions(factor._columns(B))
    return factor._rows(e * factor.be.xp.sqrt(factor.weight))


def factorise(steps: Steps, noise: Array, seen: Array | None = None, serial: bool = False) -> Factor:
    """The factorisation for noise variances ``noise (n,)``.

    seen: one at observations and zero at times without one, default all ones.  serial: one step after the
    other, which is what noise of zero needs.  Where entering a chunk lost more than half of the digits (a
    prior much wider than the noise in directions that the data hardly tell apart), the steps are done one
    after the other; inside a compiled function, where that cannot be decided, the answer is NaN.  Where V is
    not positive definite, S has entries that are not positive.
    """
    be = backend_for(steps.A)
    layout = Layout.of(steps.A.shape[-1], serial)
    found, lost = be.jit(_factorise, static=("layout",))(steps, noise, seen, layout=layout)
    if lost is None:
        return found
    limit = float(be.xp.finfo(noise.dtype).eps) ** 0.5
    if be.is_concrete(lost):
        return found if float(lost) <= limit else factorise(steps, noise, seen, serial=True)
    nan = be.xp.zeros_like(lost) + float("nan")
    return found.replace(S=be.xp.where(lost <= limit, found.S, nan))


def _factorise(steps: Steps, noise: Array, seen: Array | None, layout: Layout) -> tuple[Factor, Array | None]:
    """The factor, and how well the chunks fit together (None for one chunk)."""
    be = backend_for(steps.A)
    xp = be.xp
    s, n = steps.A.shape[0], steps.A.shape[-1]
    eye = identity(be, s, steps.A)
    last = eye[..., None]
    A = layout.split(be, xp.concat([steps.A[..., 1:], last], axis=-1), eye)
    Q = layout.split(be, xp.concat([steps.Q[..., 1:], xp.zeros_like(last)], axis=-1))
    h = layout.split(be, xp.broadcast_to(steps.H, (s, n)))
    r = layout.split(be, noise, 1.0)
    seen = layout.split(be, xp.ones_like(noise) if seen is None else seen)
    xs = (A, Q, h, r, seen)

    def update(P: Array, parts: tuple[Array, ...]) -> tuple[Array, Array, Array, Array, Array]:
        A, Q, h, r, seen = parts
        Ph = mm(be, P, h[:, None])
        S = xp.sum(h * Ph[:, 0], axis=0) + r
        S = xp.where(seen > 0, S, xp.ones_like(S))
        weight = seen / xp.where(
            S > 0, S, xp.ones_like(S)
        )  # S that is not positive is reported by the caller
        g = mm(be, A, Ph)[:, 0] * weight
        F = A - g[:, None] * h[None]
        after = mm(be, mm(be, F, P), transpose(be, F)) + (g[:, None] * g[None]) * r + Q
        return symmetric(be, after), S, weight, g, F

    def explore(carry: Any, parts: tuple[Array, ...]) -> tuple[Any, tuple[Array, ...]]:
        P, F_all, J = carry
        after, _, weight, _, F = update(P, parts)
        seen_state = xp.sum(parts[2][:, None] * F_all, axis=0)  # h^T F_all
        J = J + (seen_state[:, None] * seen_state[None]) * weight
        return (after, mm(be, F, F_all), J), ()

    def run(P: Array, parts: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        after, S, weight, g, F = update(P, parts)
        return after, (P, S, weight, g, F)

    start, starts = steps.P[..., None], None
    if layout.chunks > 1:
        zero = xp.zeros_like(A[..., 0, :])
        one = identity(be, s, A, (layout.chunks,)) + zero
        (ends, F_all, J), _ = scan(be, explore, (zero, one, zero), xs)
        start = starts = _entering(be, steps.P, ends, F_all, J)
    ends, (P, S, weight, g, F) = scan(be, run, start, xs)
    products = chunk_products(be, F) if layout.chunks > 1 else F[..., 0, :]  # one chunk: not asked for
    factor = Factor(A, h, P, S, weight, g, F, products, layout)
    return factor, None if starts is None else _mismatch(be, be.constant(ends), be.constant(starts))


def _mismatch(be: Any, ends: Array, starts: Array) -> Array:
    """Largest relative difference of variances that leave a chunk from those that entered the next one."""
    xp = be.xp
    left = xp.stack([ends[i, i, :-1] for i in range(ends.shape[0])])
    entered = xp.stack([starts[i, i, 1:] for i in range(ends.shape[0])])
    size = xp.maximum(xp.abs(left), xp.abs(entered))
    relative = xp.abs(left - entered) / xp.where(size > 0, size, xp.ones_like(size))
    worst = xp.max(relative)
    return xp.where(xp.isfinite(worst), worst, xp.ones_like(worst))


def _entering(be: Any, P: Array, E: Array, F: Array, J: Array) -> Array:
    """Covariances ``(s, s, C)`` that enter the chunks: ``P' = E + F P (I + J P)^{-1} F^T``."""
    xp = be.xp
    s = P.shape[0]
    eye = identity(be, s, P)

    def over(P: Array, parts: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        E, F, J = (part[..., 0] for part in parts)
        p = P[..., 0]
        PJ = p @ J
        # P (I + J P)^{-1} = T (P + P J P) T^T with T = (I + P J)^{-1}: positive semidefinite term by term
        FT = xp.matmul(F, xp.linalg.solve(eye + PJ, eye))
        after = E + xp.matmul(xp.matmul(FT, p + PJ @ p), FT.T)
        return (0.5 * (after + after.T))[..., None], (P,)

    _, (starts,) = scan(be, over, P[..., None], (E[..., None], F[..., None], J[..., None]))
    return starts[..., 0]
