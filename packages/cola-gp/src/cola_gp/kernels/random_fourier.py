r"""Random Fourier features: a stationary kernel as the average of cosines (Rahimi & Recht 2007).

A stationary kernel with ``k(x, x) = 1`` is the characteristic function of its spectral density (Bochner),
so with frequencies drawn from that density

.. math:: k(x, x') \approx \frac1r \sum_i \cos(\omega_i^T (x - x')) = \phi(x)^T \phi(x')

with ``2 r`` features. The RBF kernel has normal frequencies, a Matern kernel of order nu those of
Student's t with ``2 nu`` degrees of freedom, both divided by the lengthscales; a product of kernels has
sums of their frequencies. They are drawn by a randomly shifted Sobol sequence: unbiased, and with far smaller
errors in few dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import ShapeError

from .._struct import leaves, set_fields, struct
from .base import Array, Kernel, Pullback, follow, per_dimension, points, xp_of
from .compose import Product
from .stationary import RBF, Matern12, Matern32, Matern52, RationalQuadratic, Stationary

# Degrees of freedom of the frequencies; infinitely many are normal.
FREEDOM: dict[type, float] = {RBF: math.inf, Matern12: 1.0, Matern32: 3.0, Matern52: 5.0}


def uniforms(count: int, width: int, key: int) -> np.ndarray:
    """``(count, width)`` points inside the open unit cube: a Sobol sequence, shifted at random by ``key``.

    Every point is uniform, and together they are evenly spread (Cranley & Patterson 1976).
    """
    from scipy.stats import qmc

    if count <= 0:
        return np.zeros((0, width))
    # a power of two keeps the sequence balanced
    base = qmc.Sobol(width, scramble=False).random_base2(max(0, math.ceil(math.log2(count))))[:count]
    return shifted(base, np.random.default_rng(key))


def shifted(base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points of the unit cube moved by one random vector around the torus, and off its edges."""
    return np.clip((base + rng.uniform(size=base.shape[1])) % 1.0, 1e-12, 1.0 - 1e-12)


def unit_frequencies(freedom: float, u: np.ndarray, d: int) -> np.ndarray:
    """Frequencies ``(r, d)`` for lengthscale one from uniform numbers ``(r, d + 1)``."""
    from scipy.special import gammaincinv, ndtri, stdtrit

    if math.isinf(freedom):
        return ndtri(u[:, :d])
    if d == 1:  # one number per frequency keeps the sequence's evenness
        return stdtrit(freedom, u[:, :1])
    chi_square = 2.0 * gammaincinv(0.5 * freedom, u[:, d : d + 1])
    return ndtri(u[:, :d]) * np.sqrt(freedom / chi_square)


def _factors(kernel: Any) -> tuple[Stationary, ...]:
    parts = kernel.factors if isinstance(kernel, Product) else (kernel,)
    for part in parts:
        if type(part) not in FREEDOM:
            hint = "; its spectral density depends on alpha" if isinstance(part, RationalQuadratic) else ""
            raise NotImplementedError(
                f"RandomFourier approximates RBF and Matern kernels and their products, not "
                f"{type(part).__name__}{hint}. Scale, Sum and ActiveDims go around it."
            )
    return tuple(parts)


@struct
class RandomFourier(Kernel):
    """``kernel`` (RBF, Matern, or a product of those) approximated by ``count`` random frequencies in ``d``
    dimensions, that is by ``2 * count`` features.

    The frequencies for unit lengthscales, ``(factors, count, d)``, are drawn once from ``key`` and
    stored, so the lengthscales stay differentiable and a saved model stays the same. The error of every
    entry of the covariance is about ``1 / sqrt(2 count)`` of the variance, smaller in few dimensions; see
    :func:`cola_gp.approximation_report`. Cost of inference: O(n count^2).

    >>> import numpy as np, cola_gp as gp
    >>> X = np.linspace(0, 3, 50)[:, None]
    >>> K = gp.RandomFourier(gp.RBF(1.0), count=256, d=1)(X)
    >>> bool(np.abs(K - gp.RBF(1.0)(X)).max() < 0.02)
    True
    """

    kernel: Kernel
    frequencies: Array
    _data_fields = ("frequencies",)

    def __init__(
        self,
        kernel: Kernel,
        count: int = 256,
        d: int | None = None,
        key: int = 0,
        *,
        frequencies: Any = None,
    ):
        parts = _factors(kernel)
        if frequencies is None:
            if d is None:
                shapes = [leaf.shape[0] for part in parts for leaf in leaves(part) if leaf.ndim == 1]
                d = shapes[0] if shapes else 1
            if int(count) != count or count < 1 or int(d) != d or d < 1:
                raise ValueError(f"RandomFourier needs count >= 1 and d >= 1, not {count!r} and {d!r}.")
            u = uniforms(int(count), (d + 1) * len(parts), key)
            width = d + 1
            frequencies = np.stack(
                [
                    unit_frequencies(FREEDOM[type(part)], u[:, i * width : (i + 1) * width], d)
                    for i, part in enumerate(parts)
                ]
            )
        if backend_of(frequencies) is None or frequencies.ndim != 3 or frequencies.shape[0] != len(parts):
            raise ShapeError(
                f"RandomFourier needs frequencies of shape ({len(parts)}, count, d), one block per factor, "
                f"not {tuple(getattr(frequencies, 'shape', ()))}."
            )
        set_fields(self, kernel=kernel, frequencies=frequencies)

    @property
    def stationary(self) -> bool:
        return True

    def feature_count(self, d: int) -> int:
        return 2 * int(self.frequencies.shape[1])

    def features(self, X: Array) -> tuple[Array, Pullback]:
        xp = xp_of(points(X))
        unit = follow(self.frequencies, X)
        _, r, d = unit.shape
        if d != X.shape[1]:
            raise ShapeError(f"RandomFourier was drawn for {d} dimensions but the points have {X.shape[1]}.")
        logs = [follow(part.log_lengthscale, X) for part in _factors(self.kernel)]
        ard = [per_dimension("lengthscale", log, d) for log in logs]
        scales = [xp.exp(log) for log in logs]
        omega = sum(unit[i] / scale for i, scale in enumerate(scales))
        phase = X @ omega.T
        amplitude = 1.0 / math.sqrt(r)
        cos, sin = amplitude * xp.cos(phase), amplitude * xp.sin(phase)

        def pull(G: Array) -> tuple[Array, ...]:
            d_omega = (cos * G[:, r:] - sin * G[:, :r]).T @ X
            d_logs, d_units = [], []
            for i, scale in enumerate(scales):
                d_units.append(d_omega / scale)
                each = -xp.sum(d_units[-1] * unit[i], axis=0)
                d_logs.append(each if ard[i] else xp.sum(each))
            return (*d_logs, xp.stack(d_units))

        return xp.concat([cos, sin], axis=1), pull

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        U1, pull1 = self.features(X1)
        if X2 is None:
            return U1 @ U1.T, lambda W: pull1((W + W.T) @ U1)
        U2, pull2 = self.features(X2)

        def pull(W: Array) -> tuple[Array, ...]:
            left, right = pull1(W @ U2), pull2(W.T @ U1)
            return tuple(a + b for a, b in zip(left, right, strict=True))

        return U1 @ U2.T, pull

    def diag(self, X: Array) -> Array:
        return xp_of(points(X)).ones_like(X[:, 0])
