r"""Periodic kernels in time: a sum of cosines, each a state of two entries that turns without noise.

``exp(-2 sin^2(pi d / p) / l^2) = sum_j v_j cos(2 pi j d / p)`` (Solin & Sarkka 2014).  How many cosines carry
all of the variance depends on the lengthscale, so their number is found from its value.  Inside a compiled
function it has none: there the kernel's field ``harmonics`` says how many, and where they leave out more than
``LEFT_OUT`` of the variance, which is found while the program runs, the answer is NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import Array, backend_for
from ..kernels import Periodic
from ..kernels.harmonics import MOST_HARMONICS, harmonics_needed, known_harmonics
from .filtering import Cotangent, Steps
from .forms import Form, NoForm, Pull, constants, form_of, scalar
from .recursions import mm

LEFT_OUT = 1e-12  # share of the variance that a given number of harmonics may lose (float64)


class _Rotations(Form):
    """``sum_j v_j cos(w_j dt)``: pairs ``(sqrt(v_j) cos, sqrt(v_j) sin)`` that rotate without noise.

    Subclasses give the frequencies and square roots of the variances ``(J,)`` and pull their derivatives
    back; a frequency of zero takes part as a pair whose second entry is never seen.
    """

    count: int

    def _spectrum(self, like: Array) -> tuple[Array, Array, Callable[[Array, Array], tuple[Array, ...]]]:
        """Frequencies, roots of the variances, and the pullback of cotangents of both."""
        raise NotImplementedError

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        be = backend_for(t)
        xp, J = be.xp, self.count
        w, root, back = self._spectrum(t)
        phase = w[:, None] * dt[None]
        c, s = xp.cos(phase), xp.sin(phase)
        # place[i, j, k]: entry (i, j) of the transition belongs to pair k
        pair = np.kron(np.eye(J), np.ones((2, 2)))
        sign = np.kron(np.eye(J), [[0.0, -1.0], [1.0, 0.0]])
        same = np.eye(2 * J)
        rows = np.repeat(np.arange(J), 2)

        def spread(x: Array) -> Array:  # (J, n) -> (2 J, 1, n), by pairs
            return xp.stack([x[i] for i in rows])[:, None]

        A = constants(be, t, same)[..., None] * spread(c) + constants(be, t, sign)[..., None] * spread(s)
        H = xp.reshape(xp.stack([root, 0.0 * root], axis=1), (2 * J, 1))
        eye = constants(be, t, same)
        steps = Steps(A, 0.0 * A, eye, H)
        mask = constants(be, t, pair)

        def pull(bar: Cotangent, white: Array) -> tuple[Array, ...]:
            # dA/dw = dt * (generator A), the generator turning every pair by a right angle
            turned = mm(be, constants(be, t, sign)[..., None], A)
            each = xp.sum(bar.A * turned * mask[..., None], axis=1)  # (2 J, n)
            each = xp.sum(each * dt[None], axis=-1)
            bar_w = xp.sum(xp.reshape(each, (J, 2)), axis=1)
            bar_root = xp.sum(bar.H, axis=-1)[0::2]
            return back(bar_w, bar_root)

        return steps, 0.0 * t, pull


class _Periodic(_Rotations):
    """``v_j = (2 - [j = 0]) exp(-z) I_j(z)``, ``z = 1 / l^2``: the cosine series of the kernel over one
    period, which the trapezoidal rule gives to full accuracy.
    """

    def __init__(self, kernel: Periodic):
        self.kernel = kernel
        self.count = _count(kernel)
        self.size = 2 * self.count

    def _spectrum(self, like: Array) -> tuple[Array, Array, Callable[[Array, Array], tuple[Array, ...]]]:
        be = backend_for(like)
        xp, J = be.xp, self.count
        z = xp.exp(-2.0 * scalar(self.kernel.log_lengthscale, like))
        theta = 2.0 * np.pi * np.arange(4 * J) / (4 * J)
        cosines = np.cos(np.outer(np.arange(J), theta)) * (2.0 / (4 * J))
        cosines[0] *= 0.5
        drop = constants(be, like, np.cos(theta) - 1.0)
        C = constants(be, like, cosines)
        profile = xp.exp(z * drop)
        v = C @ profile
        floor = xp.finfo(like.dtype).tiny
        positive = v > floor
        root = xp.where(positive, xp.sqrt(xp.where(positive, v, xp.ones_like(v))), xp.zeros_like(v))
        if not be.is_concrete(z):
            # the variance at a point is one
            lost = xp.abs(1.0 - xp.sum(v))
            limit = max(LEFT_OUT, 16.0 * float(xp.finfo(like.dtype).eps))
            root = root * xp.where(lost <= limit, xp.ones_like(lost), xp.zeros_like(lost) + float("nan"))
        j = constants(be, like, 2.0 * np.pi * np.arange(J))
        w = j * xp.exp(-scalar(self.kernel.log_period, like))

        def back(bar_w: Array, bar_root: Array) -> tuple[Array, ...]:
            bar_v = xp.where(positive, 0.5 * bar_root / xp.where(positive, root, xp.ones_like(root)), 0.0 * v)
            bar_z = xp.sum(bar_v * (C @ (profile * drop)))
            return (
                xp.reshape(-2.0 * z * bar_z, tuple(self.kernel.log_lengthscale.shape)),
                xp.reshape(-xp.sum(bar_w * w), tuple(self.kernel.log_period.shape)),
            )

        return w, root, back


def _count(kernel: Periodic) -> int:
    """Terms of the cosine series, the constant one included."""
    try:
        needed = known_harmonics(kernel)
    except ValueError as error:
        raise NoForm(str(error)) from None
    needed = kernel.harmonics if needed is None else needed
    if needed is None:
        raise NoForm(
            "Periodic needs as many harmonics as its lengthscale asks for, which has no value inside a "
            "compiled function: give it Periodic(..., harmonics=J), with J = cola_gp.sde.harmonics_needed(l) "
            "for the shortest lengthscale l that may occur (13 for 1.0, 43 for 0.2; below it answers are NaN)"
        )
    if needed > MOST_HARMONICS:
        raise NoForm(f"Periodic with so short a lengthscale needs over {MOST_HARMONICS} harmonics")
    return 1 + needed


@form_of.register
def _(kernel: Periodic) -> Form:
    return _Periodic(kernel)


__all__ = ["harmonics_needed"]
