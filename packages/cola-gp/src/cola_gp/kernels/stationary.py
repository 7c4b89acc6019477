r"""Stationary kernels: functions of the scaled squared distance ``s = sum_d (x_d - x'_d)^2 / l_d^2``.

Sources: Rasmussen & Williams (2006), chapter 4.2: RBF (4.9), Matern (4.14-4.17), rational quadratic (4.19),
periodic (4.31).  Each class gives ``f(s)`` and ``g(s) = -2 f'(s)``, from which all lengthscale derivatives
follow: ``dk/dlog l_d = g(s) (x_d - x'_d)^2 / l_d^2``.  Lengthscales are one number or one per dimension
(ARD).

Squared distances keep the digits of close points (:mod:`~cola_gp.kernels.distances`).  Cost O(n m d),
memory O(n m).
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from .._struct import set_fields, static, struct
from ..arrays import backend_for
from .base import Array, Kernel, Pullback, follow, pair, per_dimension, positive, xp_of
from .decay import decay, root, values
from .distances import exponential, largest, overwritable, squared_distances
from .waves import Waves


class Stationary(Kernel):
    """Base of the kernels ``f(s)``; subclasses give ``_profile``, or the whole evaluation."""

    log_lengthscale: Array
    _smooth = True  # f is a smooth function of s at zero

    @property
    def stationary(self) -> bool:
        return True

    def _profile(self, xp: Any, s: Array) -> tuple[Array, Any]:
        """``f(s)`` and a function returning ``g(s) = -2 f'(s)``."""
        raise NotImplementedError

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        xp, X1, X2 = pair(X1, X2)
        scale = xp.exp(follow(self.log_lengthscale, X1))
        ard = per_dimension("lengthscale", scale, X1.shape[1])
        s, moments = squared_distances(X1, X2, scale, self._smooth)
        value, slope = self._profile(xp, s)

        def pull(W: Array) -> tuple[Array, ...]:
            M = W * slope()
            return (xp.stack(moments(M)) if ard else xp.sum(M * s),)

        return value, pull

    def diag(self, X: Array) -> Array:
        return xp_of(X).ones_like(X[:, 0])


@struct
class RBF(Stationary):
    """Squared exponential ``exp(-s / 2)``, ``s = sum_d ((x_d - x'_d) / l_d)^2`` (Rasmussen & Williams 4.9).

    lengthscale: positive, one number or ``(d,)``; another count than the points have dimensions is a
    ShapeError.  Also by its logarithm (``log_lengthscale=``).  A product over dimensions; cost O(n m d).
    """

    log_lengthscale: Array

    def __init__(self, lengthscale: Any = 1.0, *, log_lengthscale: Any = None):
        set_fields(self, log_lengthscale=positive("lengthscale", lengthscale, log_lengthscale))

    def _profile(self, xp: Any, s: Array) -> tuple[Array, Any]:
        value = exponential(-0.5 * s)
        return value, lambda: value

    def _axis_factors(self, widths: tuple[int, ...]) -> tuple[Kernel, ...]:
        return factors_by_parameters(self, widths)

    def _join_axis_gradients(
        self, parts: tuple[tuple[Array, ...], ...], widths: tuple[int, ...]
    ) -> tuple[Array, ...]:
        return join_by_parameters(self, parts, widths)


@struct
class Matern12(Stationary):
    """Matern of order 1/2, the exponential kernel ``exp(-r)`` with ``r = sqrt(s)``: continuous functions
    without slopes (Rasmussen & Williams 4.14-4.16).

    lengthscale: as of :class:`RBF`.  In time it has a state of one entry, so inference is O(n).
    """

    log_lengthscale: Array
    _smooth = False

    def __init__(self, lengthscale: Any = 1.0, *, log_lengthscale: Any = None):
        set_fields(self, log_lengthscale=positive("lengthscale", lengthscale, log_lengthscale))

    def _profile(self, xp: Any, s: Array) -> tuple[Array, Any]:
        r = root(xp, s)
        value = xp.exp(-r)
        # g = exp(-r) / r is infinite at zero, where the squared difference it multiplies is zero.
        return value, lambda: value / xp.where(r > 0, r, xp.ones_like(r))


@struct
class Matern32(Stationary):
    """Matern of order 3/2, ``(1 + t) exp(-t)`` with ``t = sqrt(3 s)``: functions with one derivative
    (Rasmussen & Williams 4.17).

    lengthscale: as of :class:`RBF`.  In time it has a state of two entries, so inference is O(n).
    """

    log_lengthscale: Array

    def __init__(self, lengthscale: Any = 1.0, *, log_lengthscale: Any = None):
        set_fields(self, log_lengthscale=positive("lengthscale", lengthscale, log_lengthscale))

    def _profile(self, xp: Any, s: Array) -> tuple[Array, Any]:
        if backend_for(s).differentiating(s):
            return decay(1, 3.0, s), lambda: 3.0 * decay(0, 3.0, s)
        value, _, e = values(xp, 1, 3.0, s)
        return value, lambda: 3.0 * e


@struct
class Matern52(Stationary):
    """Matern of order 5/2, ``(1 + t + t^2 / 3) exp(-t)`` with ``t = sqrt(5 s)``: functions with two
    derivatives (Rasmussen & Williams 4.17).

    lengthscale: as of :class:`RBF`.  In time it has a state of three entries, so inference is O(n).
    """

    log_lengthscale: Array

    def __init__(self, lengthscale: Any = 1.0, *, log_lengthscale: Any = None):
        set_fields(self, log_lengthscale=positive("lengthscale", lengthscale, log_lengthscale))

    def _profile(self, xp: Any, s: Array) -> tuple[Array, Any]:
        if backend_for(s).differentiating(s):
            return decay(2, 5.0, s), lambda: (5.0 / 3.0) * decay(1, 5.0, s)
        value, t, e = values(xp, 2, 5.0, s)
        return value, lambda: (5.0 / 3.0) * (1.0 + t) * e


@struct
class RationalQuadratic(Stationary):
    """``(1 + s / (2 a))^(-a)``: a scale mixture of RBF kernels with shape ``a = alpha``
    (Rasmussen & Williams 4.19).

    lengthscale: as of :class:`RBF`; alpha: one positive number, large for an RBF kernel.
    """

    log_lengthscale: Array
    log_alpha: Array

    def __init__(
        self, lengthscale: Any = 1.0, alpha: Any = 1.0, *, log_lengthscale: Any = None, log_alpha: Any = None
    ):
        set_fields(
            self,
            log_lengthscale=positive("lengthscale", lengthscale, log_lengthscale),
            log_alpha=positive("alpha", alpha, log_alpha),
        )

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        xp, X1, X2 = pair(X1, X2)
        scale = xp.exp(follow(self.log_lengthscale, X1))
        alpha = xp.exp(follow(self.log_alpha, X1))
        ard = per_dimension("lengthscale", scale, X1.shape[1])
        s, moments = squared_distances(X1, X2, scale, smooth=True)
        u = s / (2.0 * alpha)
        logs = xp.log1p(u)
        value = xp.exp(-alpha * logs)

        def pull(W: Array) -> tuple[Array, ...]:
            V = W * value
            M = V / (1.0 + u)
            d_scale = xp.stack(moments(M)) if ard else xp.sum(M * s)
            return d_scale, alpha * xp.sum(V * (u / (1.0 + u) - logs))

        return value, pull


@struct
class Periodic(Kernel):
    """``exp(-2 sum_d sin^2(pi (x_d - x'_d) / p_d) / l_d^2)``: a product over dimensions, so it is PSD in
    any dimension.

    In one dimension this is Rasmussen & Williams (4.31) and scikit-learn's ``ExpSineSquared``.
    lengthscale (in units of the sine) and period: positive, one number or ``(d,)`` each; another count is a
    ShapeError.  harmonics: cosines that stand for the kernel in time inside a compiled function (``jax.jit``,
    ``vmap``), where the lengthscale has no value that tells how many it needs; too few give NaN.  Elsewhere
    it changes nothing.  :func:`cola_gp.sde.harmonics_needed` counts them for a lengthscale.
    """

    log_lengthscale: Array
    log_period: Array
    harmonics: int | None = static(None)

    def __init__(
        self,
        lengthscale: Any = 1.0,
        period: Any = 1.0,
        *,
        log_lengthscale: Any = None,
        log_period: Any = None,
        harmonics: int | None = None,
    ):
        if harmonics is not None and (isinstance(harmonics, bool) or operator.index(harmonics) < 1):
            raise ValueError(f"harmonics must be a positive integer or None, not {harmonics!r}.")
        set_fields(
            self,
            log_lengthscale=positive("lengthscale", lengthscale, log_lengthscale),
            log_period=positive("period", period, log_period),
            harmonics=None if harmonics is None else operator.index(harmonics),
        )

    @property
    def stationary(self) -> bool:
        return True

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        xp, X1, X2 = pair(X1, X2)
        d = X1.shape[1]
        scale, period = xp.exp(follow(self.log_lengthscale, X1)), xp.exp(follow(self.log_period, X1))
        ard_scale = per_dimension("lengthscale", scale, d)
        ard_period = per_dimension("period", period, d)

        def of(values: Array, many: bool, j: int) -> Array:
            return values[j] if many else values

        def waves(j: int) -> Waves:
            width = of(scale, ard_scale, j)
            return Waves(X1, X2, j, math.pi / of(period, ard_period, j), lambda: 1.0 / float(width))

        total: Array = None
        for j in range(d):
            with np.errstate(over="ignore"):
                square = (waves(j).sin() / of(scale, ard_scale, j)) ** 2
                total = square if total is None else total + square
        if not overwritable(X1, X2, scale, period):
            # Where a square overflows the kernel is zero; an infinity would make its derivative NaN.
            total = xp.clip(total, None, largest(total))
        value = xp.exp(-2.0 * total)

        def pull(W: Array) -> tuple[Array, ...]:
            V = W * value
            d_scale, d_period = [], []
            for j in range(d):
                wave, width = waves(j), of(scale, ard_scale, j)
                # Weighted before it is squared: weights are zero where the square overflows.
                sine = wave.sin() / width
                weighted = V * sine
                d_scale.append(4.0 * xp.sum(weighted * sine))
                d_period.append(4.0 * xp.sum(weighted * (wave.cos() / width) * wave.phase()))
            return (
                xp.stack(d_scale) if ard_scale else sum(d_scale[1:], d_scale[0]),
                xp.stack(d_period) if ard_period else sum(d_period[1:], d_period[0]),
            )

        return value, pull

    def diag(self, X: Array) -> Array:
        return xp_of(X).ones_like(X[:, 0])

    def _axis_factors(self, widths: tuple[int, ...]) -> tuple[Kernel, ...]:
        return factors_by_parameters(self, widths)

    def _join_axis_gradients(
        self, parts: tuple[tuple[Array, ...], ...], widths: tuple[int, ...]
    ) -> tuple[Array, ...]:
        return join_by_parameters(self, parts, widths)


def factors_by_parameters(kernel: Kernel, widths: tuple[int, ...]) -> tuple[Kernel, ...]:
    """Factors of a product over dimensions whose parameters are shared or one per dimension."""
    names = kernel._child_fields  # type: ignore[attr-defined]
    for name in names:
        per_dimension(name[4:], getattr(kernel, name), sum(widths))
    starts = [sum(widths[:i]) for i in range(len(widths))]
    same = {name: getattr(kernel, name) for name in kernel._static_fields}  # type: ignore[attr-defined]
    return tuple(
        type(kernel)(**{name: _pick(getattr(kernel, name), start, width) for name in names}, **same)
        for start, width in zip(starts, widths, strict=True)
    )


def _pick(param: Array, start: int, width: int) -> Array:
    if param.ndim == 0:
        return param
    return param[start] if width == 1 else param[start : start + width]


def join_by_parameters(
    kernel: Kernel, parts: tuple[tuple[Array, ...], ...], widths: tuple[int, ...]
) -> tuple[Array, ...]:
    """Derivatives of the parameters of a kernel from those of :func:`factors_by_parameters`."""
    joined = []
    for i, name in enumerate(kernel._child_fields):  # type: ignore[attr-defined]
        column = [part[i] for part in parts]
        if getattr(kernel, name).ndim == 0:
            joined.append(sum(column[1:], column[0]))
        else:
            xp = xp_of(column[0])
            joined.append(
                xp.concat([xp.reshape(g, (width,)) for g, width in zip(column, widths, strict=True)])
            )
    return tuple(joined)
