r"""Kernels on the real line as the covariance of ``h^T x`` for a linear stochastic differential equation.

A :class:`Form` answers: the state's stationary covariance ``P``, its transition ``A(dt)`` over a gap, the
noise ``Q(dt) = P - A P A^T`` of that transition, and the observed combination ``h(t)``, so that ``k(t + dt,
t) = h(t + dt)^T A(dt) P h(t)``.  States are scaled so that P does not depend on the parameters; a kernel of
finite rank is a constant state with observations that move.  Sources: Hartikainen & Sarkka (2010) for the
Matern family, Solin & Sarkka (2014) for periodic kernels and for sums and products.

=============== =================================== ======================================
kernel          size of the state                   error
=============== =================================== ======================================
Matern (k+1/2)  k + 1                               none
finite rank     number of features                  none
Periodic        2 J + 2                             truncated series, below 1e-15
sum             sum of the sizes                    that of the terms
product         product of the sizes                that of the factors
=============== =================================== ======================================

White noise has no state: it is the diagonal :meth:`Form.white`.  Periodic kernels are in :mod:`.periodic`.
Other packages add kernels by ``form_of.register(TheirKernel)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np

from ..arrays import Array, backend_for
from ..kernels import (
    ActiveDims,
    Kernel,
    Matern12,
    Matern32,
    Matern52,
    Product,
    Scale,
    Sum,
    White,
)
from ..kernels.base import follow
from .filtering import Cotangent, Steps
from .recursions import mm, transpose

Pull = Callable[[Cotangent, Array], tuple[Array, ...]]


class Form:
    """A kernel in one dimension as a state-space model; see the module docstring."""

    size: int

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        """The model at times ``t (n,)`` reached over gaps ``dt (n,)``.

        Returns the steps, the white variance ``(n,)`` and a pullback: it maps a cotangent of the steps and
        one ``(n,)`` of the white variance to derivatives of the kernel's leaves, in leaf order.
        """
        raise NotImplementedError


class NoForm(ValueError):
    """The kernel has no finite state; the message says why."""


@singledispatch
def form_of(kernel: Kernel) -> Form:
    """The state-space form of a one-dimensional kernel.  Raises :class:`NoForm` with the reason."""
    if kernel.feature_count(1) is not None:
        return _Features(kernel)
    raise NoForm(f"{type(kernel).__name__} is not the covariance of a state of finite size")


def scalar(parameter: Array, like: Array) -> Array:
    """A parameter that is one number or one for the only dimension, as a 0-d array."""
    return backend_for(like).xp.reshape(follow(parameter, like), ())


def constants(be: Any, like: Array, M: Any) -> Array:
    return be.asarray(np.asarray(M), dtype=like.dtype, device=be.device(like))


# -- Matern ----------------------------------------------------------------------------------------------
def _incomplete_gammas(xp: Any, x: Array, order: int) -> list[Array]:
    """``int_0^x u^k exp(-u) du`` for k = 0 ... order - 1, to full relative accuracy for small x too.

    A series below 2 and the closed form above, both for the highest order; then downwards, adding positive
    terms only (DLMF 8.7.1, 8.8.1).
    """
    a = order
    small = xp.where(x < 2.0, x, xp.ones_like(x))
    term = xp.ones_like(x) / a
    total = term
    for i in range(1, 27):
        term = term * (small / (a + i))
        total = total + term
    e = xp.exp(-x)
    series = total * small**a * xp.exp(-small)
    large = xp.where(x < 2.0, 2.0 * xp.ones_like(x), x)
    poly, power = xp.ones_like(x), xp.ones_like(x)
    for i in range(1, a):
        power = power * large / i
        poly = poly + power
    closed = math.factorial(a - 1) * (1.0 - xp.exp(-large) * poly)
    top = xp.where(x < 2.0, series, closed)
    out = [top]
    for k in range(order - 1, 0, -1):
        top = (top + x**k * e) / k
        out.append(top)
    return out[::-1]


class _Matern(Form):
    """Matern of order p + 1/2 in the state ``f, f'/c, ... f^(p)/c^p`` with ``c = sqrt(2 p + 1) / l``.

    In units of ``tau = c dt`` the transition is ``exp(F tau)``, with ``F + I`` nilpotent, and the noise has
    the spectral density q: ``Q(tau) = q int_0^tau a(u) a(u)^T du`` with ``a(u) = exp(F u) e_p``, a polynomial
    times ``exp(-u)``.  Derivatives: ``A' = F A``, ``Q' = q a a^T``.
    """

    F = {
        0: [[-1.0]],
        1: [[0.0, 1.0], [-1.0, -2.0]],
        2: [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, -3.0, -3.0]],
    }
    P = {
        0: [[1.0]],
        1: [[1.0, 0.0], [0.0, 1.0]],
        2: [[1.0, 0.0, -1.0 / 3.0], [0.0, 1.0 / 3.0, 0.0], [-1.0 / 3.0, 0.0, 1.0]],
    }
    q = {0: 2.0, 1: 4.0, 2: 16.0 / 3.0}

    def __init__(self, kernel: Any, p: int):
        self.kernel, self.p = kernel, p
        self.size = p + 1

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        be = backend_for(dt)
        xp, p, s = be.xp, self.p, self.size
        rate = math.sqrt(2.0 * p + 1.0) * xp.exp(-scalar(self.kernel.log_lengthscale, dt))
        tau = rate * dt
        F = np.array(self.F[p])
        powers = [np.linalg.matrix_power(F + np.eye(s), i) / math.factorial(i) for i in range(s)]  # N^i / i!
        tau_powers = [xp.ones_like(tau), tau, tau * tau][:s]
        decay = xp.exp(-tau)

        def entry(i: int, j: int) -> Array:
            total = float(powers[0][i, j]) * tau_powers[0]
            for power, factor in zip(powers[1:], tau_powers[1:], strict=True):
                if power[i, j]:
                    total = total + float(power[i, j]) * factor
            return total * decay

        A = xp.stack([xp.stack([entry(i, j) for j in range(s)]) for i in range(s)])
        # entries of Q: coefficients c_k of the polynomials, and int_0^tau u^k exp(-2 u) du
        gammas = _incomplete_gammas(xp, 2.0 * tau, 2 * p + 1)
        moments = [gamma / 2.0 ** (k + 1) for k, gamma in enumerate(gammas)]

        def noise(i: int, j: int) -> Array:
            c = np.convolve([m[i, p] for m in powers], [m[j, p] for m in powers])
            total = 0.0 * tau
            for coefficient, moment in zip(c, moments, strict=True):
                if coefficient:
                    total = total + (self.q[p] * float(coefficient)) * moment
            return total

        Q = xp.stack([xp.stack([noise(min(i, j), max(i, j)) for j in range(s)]) for i in range(s)])
        steps = Steps(A, Q, constants(be, dt, self.P[p]), constants(be, dt, np.eye(s)[:, :1]))

        def pull(bar: Cotangent, white: Array) -> tuple[Array, ...]:
            # tau is proportional to 1 / l
            FA = mm(be, constants(be, dt, F)[..., None], A)
            a = A[:, p]
            along = xp.sum(bar.A * FA, axis=(0, 1))
            along = along + self.q[p] * xp.sum(a * mm(be, bar.Q, a[:, None])[:, 0], axis=0)
            return (xp.reshape(-xp.sum(along * tau), tuple(self.kernel.log_lengthscale.shape)),)

        return steps, 0.0 * t, pull


@form_of.register
def _(kernel: Matern12) -> Form:
    return _Matern(kernel, 0)


@form_of.register
def _(kernel: Matern32) -> Form:
    return _Matern(kernel, 1)


@form_of.register
def _(kernel: Matern52) -> Form:
    return _Matern(kernel, 2)


# -- finite rank -----------------------------------------------------------------------------------------
class _Features(Form):
    """A kernel ``u(t)^T u(t')`` of finite rank: the weights are a state that never moves."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.size = kernel.feature_count(1)  # type: ignore[assignment]

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        be = backend_for(t)
        s, n = self.size, t.shape[0]
        U, back = self.kernel.features(t[:, None])  # type: ignore[misc]
        eye = be.eye(s, t.dtype, be.device(t))
        A = be.xp.broadcast_to(eye[..., None], (s, s, n))
        return Steps(A, 0.0 * A, eye, U.T), 0.0 * t, lambda bar, white: back(bar.H.T)


# -- without a state, and composition --------------------------------------------------------------------
class _White(Form):
    size = 0

    def __init__(self, kernel: White):
        self.kernel = kernel

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        be = backend_for(t)
        n = t.shape[0]
        empty = be.zeros((0, 0, n), t.dtype, be.device(t))
        variance = be.xp.exp(scalar(self.kernel.log_variance, t))
        steps = Steps(empty, empty, empty[..., 0], be.zeros((0, 1), t.dtype, be.device(t)))
        shape = tuple(self.kernel.log_variance.shape)
        return (
            steps,
            variance + 0.0 * t,
            lambda bar, white: (be.xp.reshape(variance * be.xp.sum(white), shape),),
        )


@form_of.register
def _(kernel: White) -> Form:
    return _White(kernel)


class _Scaled(Form):
    """``v k``: the observed combination times the root of v."""

    def __init__(self, kernel: Scale):
        self.kernel, self.inner = kernel, form_of(kernel.kernel)
        self.size = self.inner.size

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        xp = backend_for(t).xp
        root = xp.exp(0.5 * scalar(self.kernel.log_variance, t))
        steps, white, back = self.inner.steps(t, dt)
        H, scaled = root * steps.H, root * root * white
        shape = tuple(self.kernel.log_variance.shape)

        def pull(bar: Cotangent, bar_white: Array) -> tuple[Array, ...]:
            own = 0.5 * xp.sum(bar.H * H) + xp.sum(bar_white * scaled)
            return (
                *back(bar._replace(H=root * bar.H), root * root * bar_white),
                xp.reshape(own, shape),
            )

        return steps._replace(H=H), scaled, pull


@form_of.register
def _(kernel: Scale) -> Form:
    return _Scaled(kernel)


class _Selected(Form):
    def __init__(self, kernel: ActiveDims):
        if kernel.dims != (0,):
            raise NoForm(f"ActiveDims selects dimensions {kernel.dims}, there is one: time")
        self.inner = form_of(kernel.kernel)
        self.size = self.inner.size

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        return self.inner.steps(t, dt)


@form_of.register
def _(kernel: ActiveDims) -> Form:
    return _Selected(kernel)


def _block_diagonal(be: Any, parts: list[Array]) -> Array:
    """Matrices ``(s_i, s_i, ...)`` along the diagonal."""
    xp = be.xp
    rows = []
    for i, M in enumerate(parts):
        more = M.shape[2:]
        row = [
            M if j == i else be.zeros((M.shape[0], other.shape[0], *more), M.dtype, be.device(M))
            for j, other in enumerate(parts)
        ]
        rows.append(xp.concat(row, axis=1))
    return xp.concat(rows, axis=0)


def _observed(be: Any, parts: list[Array], n: int) -> list[Array]:
    """Observed combinations of one length: constant ones are repeated if others move."""
    if all(H.shape[-1] == 1 for H in parts) or n == 1:
        return parts
    return [be.xp.broadcast_to(H, (H.shape[0], n)) if H.shape[-1] == 1 else H for H in parts]


class _Added(Form):
    def __init__(self, kernel: Sum):
        self.parts = [form_of(term) for term in kernel.terms]
        self.size = sum(part.size for part in self.parts)

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        be = backend_for(t)
        made = [part.steps(t, dt) for part in self.parts]
        stated = [m[0] for m, part in zip(made, self.parts, strict=True) if part.size]
        white = made[0][1]
        for _, more, _ in made[1:]:
            white = white + more
        if not stated:
            empty = made[0][0]
            return empty, white, lambda bar, w: tuple(g for _, _, back in made for g in back(bar, w))
        steps = Steps(
            _block_diagonal(be, [x.A for x in stated]),
            _block_diagonal(be, [x.Q for x in stated]),
            _block_diagonal(be, [x.P for x in stated]),
            be.xp.concat(_observed(be, [x.H for x in stated], t.shape[0]), axis=0),
        )

        def pull(bar: Cotangent, bar_white: Array) -> tuple[Array, ...]:
            out: list[Array] = []
            start = 0
            for part, (_, _, back) in zip(self.parts, made, strict=True):
                cut = slice(start, start + part.size)
                start += part.size
                own = Cotangent(bar.A[cut, cut], bar.Q[cut, cut], bar.P[cut, cut], bar.H[cut])
                out.extend(back(own, bar_white))
            return tuple(out)

        return steps, white, pull


@form_of.register
def _(kernel: Sum) -> Form:
    return _Added(kernel)


def _kron(be: Any, A: Array, B: Array) -> Array:
    """Kronecker products of ``(a, b, ...)`` and ``(c, d, ...)``."""
    both = A[:, None, :, None] * B[None, :, None]
    shape = (A.shape[0] * B.shape[0], A.shape[1] * B.shape[1], *both.shape[4:])
    return be.xp.reshape(both, shape)


class _Multiplied(Form):
    """Two kernels: Kronecker products of transitions and observations.

    ``Q = Q_1 x P_2 + (A_1 P_1 A_1^T) x Q_2``: both terms are positive semidefinite, nothing is subtracted.
    """

    def __init__(self, left: Form, right: Form):
        self.left, self.right = left, right
        self.size = left.size * right.size

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        be = backend_for(t)
        xp = be.xp
        (x, u, back_x), (y, v, back_y) = self.left.steps(t, dt), self.right.steps(t, dt)
        a, b = self.left.size, self.right.size
        P = y.P[..., None]
        moved = mm(be, mm(be, x.A, x.P[..., None]), transpose(be, x.A))
        xH, yH = _observed(be, [x.H, y.H], t.shape[0])
        H = xp.reshape(xH[:, None] * yH[None], (a * b, max(xH.shape[-1], yH.shape[-1])))
        steps = Steps(_kron(be, x.A, y.A), _kron(be, x.Q, P) + _kron(be, moved, y.Q), _kron(be, x.P, y.P), H)
        # the diagonal of a product: (k_1 + u) (k_2 + v) where either has a white part
        k1 = xp.sum(x.H * mm(be, x.P, x.H), axis=0)
        k2 = xp.sum(y.H * mm(be, y.P, y.H), axis=0)
        white = u * k2 + v * k1 + u * v

        def pull(bar: Cotangent, w: Array) -> tuple[Array, ...]:
            def parts(M: Array) -> Array:
                return xp.reshape(M, (a, b, a, b, *M.shape[2:]))

            A, Q, PP = parts(bar.A), parts(bar.Q), parts(bar.P)
            Hbar = xp.reshape(bar.H, (a, b, *bar.H.shape[1:]))
            Qx = xp.sum(Q * P[None, :, None], axis=(1, 3))
            moved_bar = xp.sum(Q * y.Q[None, :, None], axis=(1, 3))
            Ax = xp.sum(A * y.A[None, :, None], axis=(1, 3))
            Ax = Ax + mm(be, moved_bar + transpose(be, moved_bar), mm(be, x.A, x.P[..., None]))
            Px = xp.sum(PP * y.P[None, :, None], axis=(1, 3))
            Px = Px + xp.sum(mm(be, transpose(be, x.A), mm(be, moved_bar, x.A)), axis=-1)
            Hx = xp.sum(Hbar * yH[None], axis=1) + 2.0 * (w * v) * mm(be, x.P, xH)
            Px = Px + xp.sum((w * v) * xH[:, None] * xH[None], axis=-1)
            Qy = xp.sum(Q * moved[:, None, :, None], axis=(0, 2))
            Ay = xp.sum(A * x.A[:, None, :, None], axis=(0, 2))
            Py = xp.sum(PP * x.P[:, None, :, None], axis=(0, 2))
            Py = Py + xp.sum(xp.sum(Q * x.Q[:, None, :, None], axis=(0, 2)), axis=-1)
            Hy = xp.sum(Hbar * xH[:, None], axis=0) + 2.0 * (w * u) * mm(be, y.P, yH)
            Py = Py + xp.sum((w * u) * yH[:, None] * yH[None], axis=-1)
            return (
                *back_x(Cotangent(Ax, Qx, Px, Hx), w * (k2 + v)),
                *back_y(Cotangent(Ay, Qy, Py, Hy), w * (k1 + u)),
            )

        return steps, white, pull


@form_of.register
def _(kernel: Product) -> Form:
    form = form_of(kernel.factors[0])
    for factor in kernel.factors[1:]:
        form = _Multiplied(form, form_of(factor))
    return form


__all__ = ["Form", "NoForm", "form_of"]
