"""The Matern family in time: the kernel and its derivatives as a state of one to three entries (Hartikainen &
Sarkka 2010), with transitions and noises that keep their relative accuracy over arbitrarily short gaps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import Array, backend_for
from ..kernels import Matern12, Matern32, Matern52
from .filtering import Cotangent, Steps
from .forms import Form, Pull, constants, form_of, scalar
from .recursions import mm


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
