r"""Kernels given by their spectrum: cosines, and the mixtures of them of Wilson & Adams (2013).

``SpectralMixture`` is ``sum_q w_q prod_d exp(-2 pi^2 t_d^2 b_qd^2) cos(2 pi t_d f_qd)`` for the difference
``t = x - x'`` (Wilson & Adams 2013, Gaussian process kernels for pattern discovery and extrapolation, eq.
12): a mixture of Gaussians in the spectral density, with frequencies ``f`` and bandwidths ``b``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cola_core.errors import ShapeError

from .._struct import set_fields, struct
from ..arrays import backend_for
from .base import Array, Kernel, Pullback, differences, follow, pair, per_dimension, points, positive, xp_of
from .stationary import factors_by_parameters, join_by_parameters
from .waves import Waves


def _others(factors: list[Array]) -> list[Array | None]:
    """For every factor the product of all others, without dividing: a cosine may be zero."""
    d = len(factors)
    before: list[Array | None] = [None] * d
    after: list[Array | None] = [None] * d
    for j in range(1, d):
        before[j] = factors[j - 1] if j == 1 else before[j - 1] * factors[j - 1]
        after[d - 1 - j] = factors[d - j] if j == 1 else factors[d - j] * after[d - j]
    return [b if a is None else a if b is None else a * b for a, b in zip(before, after, strict=True)]


def _times(a: Array, b: Array | None) -> Array:
    return a if b is None else a * b


@struct
class Cosine(Kernel):
    """``prod_d cos(2 pi (x_d - x'_d) / p_d)``: a product over dimensions, so it is PSD in any dimension.

    Its rank is ``2^d``: a sine and a cosine per dimension.  GPyTorch's ``CosineKernel(period_length=p)``
    is, in one dimension, ``Cosine(2 * p)``; in several it is a cosine of the distance, which is not a
    covariance.
    """

    log_period: Array

    def __init__(self, period: Any = 1.0, *, log_period: Any = None):
        set_fields(self, log_period=positive("period", period, log_period))

    @property
    def stationary(self) -> bool:
        return True

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        xp, X1, X2 = pair(X1, X2)
        d = X1.shape[1]
        period = xp.exp(follow(self.log_period, X1))
        ard = per_dimension("period", period, d)
        waves = [Waves(X1, X2, j, 2.0 * math.pi / (period[j] if ard else period)) for j in range(d)]
        value = waves[0].cos()
        for wave in waves[1:]:
            value = value * wave.cos()

        def pull(W: Array) -> tuple[Array, ...]:
            others = _others([wave.cos() for wave in waves])
            parts = [
                xp.sum(_times(W * wave.phase() * wave.sin(), other))
                for wave, other in zip(waves, others, strict=True)
            ]
            return (xp.stack(parts) if ard else sum(parts[1:], parts[0]),)

        return value, pull

    def diag(self, X: Array) -> Array:
        return xp_of(points(X)).ones_like(X[:, 0])

    def feature_count(self, d: int) -> int:
        return 2**d

    def features(self, X: Array) -> tuple[Array, Pullback]:
        from .compose import ActiveDims, Product

        xp = xp_of(points(X))
        d = X.shape[1]
        if d > 1:
            per_axis = factors_by_parameters(self, (1,) * d)
            U, back = Product(*(ActiveDims(factor, j) for j, factor in enumerate(per_axis))).features(X)  # type: ignore[misc]
            return U, lambda G: join_by_parameters(self, tuple((g,) for g in back(G)), (1,) * d)
        period = xp.exp(follow(self.log_period, X))
        t = X * (2.0 * math.pi / period)
        cosine, sine = xp.cos(t), xp.sin(t)

        def pull(G: Array) -> tuple[Array, ...]:
            slope = xp.sum(t * (G[:, :1] * sine - G[:, 1:] * cosine))
            return (xp.reshape(slope, tuple(period.shape)),)

        return xp.concat([cosine, sine], axis=1), pull

    def _axis_factors(self, widths: tuple[int, ...]) -> tuple[Kernel, ...]:
        return factors_by_parameters(self, widths)

    def _join_axis_gradients(
        self, parts: tuple[tuple[Array, ...], ...], widths: tuple[int, ...]
    ) -> tuple[Array, ...]:
        return join_by_parameters(self, parts, widths)


def _matrix(name: str, value: Any, log_value: Any) -> Array:
    """A positive parameter of shape ``(q, d)``; a vector stands for one dimension."""
    stored = positive(name, value, log_value, max_ndim=2)
    if stored.ndim == 0:
        raise ShapeError(f"{name} must have one value per component (and dimension), not be a single number.")
    return stored[:, None] if stored.ndim == 1 else stored


@struct
class SpectralMixture(Kernel):
    """Sum of ``q`` cosines with Gaussian decay (module docstring), for patterns of unknown frequencies.

    weight: ``(q,)``; frequency and bandwidth: ``(q, d)``, or ``(q,)`` in one dimension, in cycles per unit of
    ``x``.  GPyTorch's kernel of this name is, in several dimensions, the product over the dimensions of one
    such mixture each.  The likelihood has many local optima; :meth:`guess` reads initial values off the data.
    """

    log_weight: Array
    log_frequency: Array
    log_bandwidth: Array

    def __init__(
        self,
        weight: Any = None,
        frequency: Any = None,
        bandwidth: Any = None,
        *,
        log_weight: Any = None,
        log_frequency: Any = None,
        log_bandwidth: Any = None,
    ):
        stored = positive("weight", weight, log_weight)
        frequency = _matrix("frequency", frequency, log_frequency)
        bandwidth = _matrix("bandwidth", bandwidth, log_bandwidth)
        if stored.ndim != 1 or frequency.shape[0] != stored.shape[0] or frequency.shape != bandwidth.shape:
            raise ShapeError(
                f"weight {tuple(stored.shape)}, frequency {tuple(frequency.shape)} and bandwidth "
                f"{tuple(bandwidth.shape)} must be (q,), (q, d) and (q, d) for q components in d dimensions."
            )
        set_fields(self, log_weight=stored, log_frequency=frequency, log_bandwidth=bandwidth)

    @classmethod
    def guess(cls, X: Any, y: Any, components: int = 4) -> SpectralMixture:
        """Initial values from data: ``X (n, d)`` (or ``(n,)``) and ``y (n,)`` of any library.

        Per dimension, the strongest peaks of the periodogram of ``y - mean`` along that coordinate, up to
        the Nyquist frequency of evenly spread points; the bandwidth is one bin, and the weights share the
        variance in proportion to the power.  O(n) per frequency, with at most 500 of them per dimension.
        """
        points_, targets = (np.asarray(_numpy(a), dtype=float) for a in (X, y))
        points_ = points_[:, None] if points_.ndim == 1 else points_
        if components < 1 or points_.ndim != 2 or targets.shape != points_.shape[:1] or not targets.size:
            raise ShapeError(
                f"guess needs components >= 1, X (n, d) and y (n,) with n >= 1, not components={components}, "
                f"X {points_.shape} and y {targets.shape}."
            )
        centred = targets - targets.mean()
        variance = max(float(np.mean(centred**2)), float(np.finfo(float).tiny))
        found = [_peaks(points_[:, j], centred, components) for j in range(points_.shape[1])]
        power = np.mean([p for p, _, _ in found], axis=0)
        return cls(
            variance * power / power.sum(),
            np.stack([f for _, f, _ in found], axis=1),
            np.stack([np.full(components, width) for _, _, width in found], axis=1),
        )

    @property
    def stationary(self) -> bool:
        return True

    def _check(self, d: int) -> None:
        if self.log_frequency.shape[1] != d:
            raise ShapeError(
                f"SpectralMixture has frequencies for {self.log_frequency.shape[1]} dimensions but the "
                f"points have {d}."
            )

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        xp, X1, X2 = pair(X1, X2)
        q, d = self.log_frequency.shape
        self._check(X1.shape[1])
        weight, frequency, bandwidth = (
            xp.exp(follow(p, X1)) for p in (self.log_weight, self.log_frequency, self.log_bandwidth)
        )

        def component(i: int) -> tuple[Array, list[Array], list[Waves]]:
            """Decay, squared exponents and waves of a component; recomputed rather than stored."""
            squares = [(differences(X1, X2, j) * (2.0 * math.pi * bandwidth[i, j])) ** 2 for j in range(d)]
            waves = [Waves(X1, X2, j, 2.0 * math.pi * frequency[i, j]) for j in range(d)]
            return xp.exp(-0.5 * sum(squares[1:], squares[0])), squares, waves

        total: Array = None
        for i in range(q):
            decay, _, waves = component(i)
            value = weight[i] * decay
            for wave in waves:
                value = value * wave.cos()
            total = value if total is None else total + value

        def pull(W: Array) -> tuple[Array, ...]:
            weights, frequencies, bandwidths = [], [], []
            for i in range(q):
                decay, squares, waves = component(i)
                V = weight[i] * W * decay
                cosines = [wave.cos() for wave in waves]
                others = _others(cosines)
                value = V * _times(cosines[0], others[0])
                weights.append(xp.sum(value))
                slopes = [
                    -xp.sum(_times(V * wave.phase() * wave.sin(), other))
                    for wave, other in zip(waves, others, strict=True)
                ]
                frequencies.append(xp.stack(slopes))
                bandwidths.append(xp.stack([-xp.sum(value * s) for s in squares]))
            return xp.stack(weights), xp.stack(frequencies), xp.stack(bandwidths)

        return total, pull

    def diag(self, X: Array) -> Array:
        xp = xp_of(points(X))
        self._check(X.shape[1])
        return xp.sum(xp.exp(follow(self.log_weight, X))) * xp.ones_like(X[:, 0])

    def _axis_factors(self, widths: tuple[int, ...]) -> tuple[Kernel, ...] | None:
        if self.log_frequency.shape[0] != 1:
            return None  # a sum of products, not a product
        self._check(sum(widths))
        xp = xp_of(self.log_weight)
        starts = [sum(widths[:i]) for i in range(len(widths))]
        return tuple(
            SpectralMixture(
                log_weight=self.log_weight if start == 0 else xp.zeros_like(self.log_weight),
                log_frequency=self.log_frequency[:, start : start + width],
                log_bandwidth=self.log_bandwidth[:, start : start + width],
            )
            for start, width in zip(starts, widths, strict=True)
        )

    def _join_axis_gradients(
        self, parts: tuple[tuple[Array, ...], ...], widths: tuple[int, ...]
    ) -> tuple[Array, ...]:
        xp = xp_of(parts[0][1])
        return parts[0][0], *(xp.concat([part[k] for part in parts], axis=1) for k in (1, 2))


def _numpy(a: Any) -> Any:
    return backend_for(a).to_numpy(a) if hasattr(a, "dtype") else a


def _peaks(x: np.ndarray, y: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Power and frequency of the strongest peaks of the periodogram of ``y`` at ``x``, and the bin width."""
    reach = float(np.ptp(x))
    if reach == 0.0:
        return np.ones(count), np.ones(count), 1.0  # a constant coordinate has no frequency
    distinct = np.unique(x).size
    bins = max(count, min(500, distinct - 1))
    top = max(0.5 * (distinct - 1), 1.0) / reach
    width = top / bins
    frequencies = width * np.arange(1, bins + 1)
    angles = 2.0 * math.pi * frequencies[:, None] * (x - x.min())[None, :]
    power = (np.cos(angles) @ y) ** 2 + (np.sin(angles) @ y) ** 2
    padded = np.concatenate([[-np.inf], power, [-np.inf]])
    is_peak = (power >= padded[:-2]) & (power >= padded[2:])
    # Peaks first, then whatever else is strong, so that there are always enough.
    order = np.lexsort((-power, ~is_peak))[:count]
    strength = np.maximum(power[order], 1e-3 * max(float(power.max()), np.finfo(float).tiny))
    return strength / strength.sum(), frequencies[order], width
