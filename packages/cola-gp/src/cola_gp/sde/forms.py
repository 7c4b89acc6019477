r"""Kernels on the real line as the covariance of ``h^T x`` for a linear stochastic differential equation.

A :class:`Form` answers: the state's stationary covariance ``P``, its transition ``A(dt)`` over a gap, the
noise ``Q(dt) = P - A P A^T`` of that transition, and the observed combination ``h(t)``, so that ``k(t + dt,
t) = h(t + dt)^T A(dt) P h(t)``.  States are scaled so that P does not depend on the parameters; a kernel of
finite rank is a constant state with observations that move.

=============== =================================== ======================================
kernel          size of the state                   error
=============== =================================== ======================================
Matern (k+1/2)  k + 1                               none
finite rank     number of features                  none
Periodic        2 J + 2                             truncated series, below 1e-15
sum             sum of the sizes                    that of the terms
product         product of the sizes                that of the factors
=============== =================================== ======================================

White noise has no state: its variance is the second answer of :meth:`Form.steps`.  The forms of kernels are
in :mod:`.matern`, :mod:`.periodic` and :mod:`.composed`, that of finite rank is here.  Other packages add
kernels by ``form_of.register(TheirKernel)``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np

from ..arrays import Array, backend_for
from ..kernels import Kernel
from ..kernels.base import follow
from .filtering import Cotangent, Steps

__all__ = ["Form", "NoForm", "form_of"]

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
    """The numbers M as an array beside ``like``: its library, dtype and device."""
    return be.asarray(np.asarray(M), dtype=like.dtype, device=be.device(like))


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
