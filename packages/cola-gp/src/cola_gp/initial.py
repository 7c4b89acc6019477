"""Initial values of a model's parameters from the data, and the ranges in which to look for better ones.

The likelihood has local optima, so where a fit begins decides where it ends.  The values here are the usual
rules of thumb, in the units of the data: lengthscales from the median distance of points, or the shorter one
over which targets decorrelate (:mod:`cola_gp.variogram`), periods from a periodogram (Lomb 1976), variances
from the spread of the targets, noise from differences of neighbours (Rice 1984).  All but the neighbours are
looked for in ``SAMPLE`` points, so the cost is O(n log n) at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from cola_core.backends import backend_of

from ._struct import Struct, named_leaves, rebuild
from .arrays import backend_for
from .data import Data, as_points
from .initial_parts import initial_mean, initial_noise, scaled
from .kernels import (
    ActiveDims,
    Coregion,
    Inducing,
    Kernel,
    Linear,
    Nystrom,
    Polynomial,
    Product,
    RandomFourier,
    Scale,
    SpectralMixture,
    Sum,
)
from .model import GP
from .variogram import variogram

SAMPLE = 400
# Relative to the scale of the data: wide enough for any model, narrow enough that no kernel overflows.
RANGE = (1e-8, 1e8)
_LARGEST = 700.0  # exp of this is still a double


def _numpy(x: Any) -> np.ndarray:
    backend = backend_of(x)
    return np.asarray(x if backend is None else backend.to_numpy(x), dtype=float)


def _mean_square(r: np.ndarray) -> float:
    """Mean square of the finite entries, one if they are all zero; safe at both ends of the exponents."""
    r = r[np.isfinite(r)]
    unit = float(np.max(np.abs(r))) if r.size else 0.0
    if unit == 0.0:
        return 1.0
    square = float(np.mean((r / unit) ** 2)) * unit * unit
    return square if 0.0 < square < math.inf else (1e-300 if unit < 1 else 1e300)


def _target_square(y: np.ndarray, centred: bool) -> float:
    """Mean square of the targets, about their mean if the model has one to learn.

    Differences at the level of rounding are none: then the size of the targets is the only scale there is.
    """
    y = y[np.isfinite(y)]
    if not centred or y.size == 0:
        return _mean_square(y)
    unit = float(np.max(np.abs(y))) or 1.0
    r = y / unit - np.mean(y / unit)
    if float(np.max(np.abs(r))) <= 100 * np.finfo(float).eps:
        return _mean_square(y)
    return _mean_square(unit * r)


def range_advice(data: Data) -> str:
    """What to do about data whose squares leave the range of their dtype; empty if they do not."""
    limits = backend_for(data.y).xp.finfo(data.y.dtype)
    low, high = 0.5 * math.log(float(limits.tiny)), 0.5 * math.log(float(limits.max))
    sizes = {}
    for name, values in (("inputs", _numpy(as_points(data.X))), ("targets", _numpy(data.y))):
        size = float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
        if size > 0:
            sizes[name] = math.log(size)
    if len(sizes) == 2:
        sizes["slopes"] = sizes["targets"] - sizes["inputs"]
    top = high - 0.5 * math.log(data.n) - 1
    found = [
        f"{name} of size 1e{size / math.log(10):+.0f}"
        for name, size in sizes.items()
        if not low + 1 < size < top
    ]
    if not found:
        return ""
    return f"{' and '.join(found)} have squares beyond the range of {data.y.dtype}: scale the data first"


def _latent(model: GP, data: Data) -> np.ndarray:
    """Targets on the scale of the function: themselves, or what the likelihood guesses from them."""
    y = _numpy(data.y)
    likelihood: Any = model.noise
    if likelihood.gaussian:
        return y
    if not likelihood.log_concave:
        # Outliers are what such a likelihood is for: they say nothing about the scale of the rest.
        middle = float(np.median(y))
        width = 5 * 1.4826 * float(np.median(np.abs(y - middle)))
        return np.clip(y, middle - width, middle + width) if width > 0 else y
    guess = _numpy(likelihood.guess(data.y))
    return guess if np.ptp(guess) > 0 else y - float(np.mean(y))


def _learned(mean: Struct) -> bool:
    return any(trainable for _, _, trainable in named_leaves(mean))


class DataScale:
    """The units of the data: typical size of the targets and of every input dimension, as logarithms.

    ``bounds(name)`` are limits of the logarithm of a positive parameter, by what its name says it measures.
    """

    def __init__(self, model: GP, data: Data, noise_floor: float):
        X = _numpy(as_points(data.X))
        self.log_square = math.log(_target_square(_latent(model, data), centred=_learned(model.mean)))
        spread = np.ptp(X, axis=0)
        spread = spread[(spread > 0) & np.isfinite(spread)]
        self.log_inputs = (
            (float(np.log(spread.min())), float(np.log(spread.max()))) if spread.size else (0.0, 0.0)
        )
        size = np.max(np.abs(X), axis=0)
        size = size[size > 0]
        self.log_sizes = (float(np.log(size.min())), float(np.log(size.max()))) if size.size else (0.0, 0.0)
        self.noise_floor = noise_floor

    def bounds(self, name: str) -> tuple[float, float]:
        """Limits of ``log`` of the parameter called ``name``."""
        low, high = math.log(RANGE[0]), math.log(RANGE[1])
        last = name.rpartition(".")[2]
        if name == "noise.scale":
            low, high = low + 0.5 * self.log_square, high + 0.5 * self.log_square
        elif name == "noise.df":
            # Below two, observations have no variance to predict.
            low = math.log(2.1)
        elif name == "noise.variance":
            # Noise below the rounding of the covariance cannot be told from zero: the likelihood becomes a
            # staircase.
            low, high = math.log(self.noise_floor) + self.log_square, high + self.log_square
        elif last in ("lengthscale", "period"):
            low, high = low + min(0.0, self.log_inputs[0]), high + max(0.0, self.log_inputs[1])
        elif last == "variance":
            # Variances of weights are per squared input.
            low += min(0.0, self.log_square) + min(0.0, -2 * self.log_sizes[1])
            high += max(0.0, self.log_square) + max(0.0, -2 * self.log_sizes[0])
        return max(low, -_LARGEST), min(high, _LARGEST)


def initialise(model: GP, data: Data) -> GP:
    """``model`` with initial values taken from ``data``; the leaves are NumPy arrays, which follow the data.

    Changed are lengthscales, periods and variances of the kernels of this package and of sums, products and
    scalings of them, the variances of noise, the scale of a ``StudentTLikelihood`` and the values of
    constant, linear and task means.  Everything else, such as what lies behind a learned map of the inputs,
    keeps its value.
    """
    X, y = _numpy(as_points(data.X)), _latent(model, data)
    known = np.isfinite(y)
    X, y = X[known], y[known]
    if y.size == 0:
        return model
    # Before a sample is taken: in a sample of a long series all neighbours are far away.
    local = variogram(X, y)
    if y.size > SAMPLE:
        chosen = np.sort(np.random.default_rng(0).choice(y.size, SAMPLE, replace=False))
        X, y = X[chosen], y[chosen]
    mean, explained = initial_mean(model.mean, X, y)
    noise: Any = model.noise
    y = y - explained
    # A process has to explain the offset that its mean leaves as well.
    offset = float(np.mean(y))
    variance = _target_square(y, centred=True)
    near = _noise(X, y, variance)
    if local is not None and known.sum() > SAMPLE:
        near = min(near, max(local.noise, 1e-3 * variance))
    if _has(noise, "log_variance") and np.ndim(noise.log_variance) == 0:
        noise = rebuild(noise, (np.asarray(math.log(near)),))
    elif not noise.gaussian and "log_scale" in noise._child_fields:
        noise = noise.replace(log_scale=np.asarray(0.5 * math.log(near)))
    else:
        noise = initial_noise(noise, X, math.log(near))
    start = _Start(X, y - offset, math.hypot(math.sqrt(variance), offset) ** 2)
    start.spread_lengthscales(model.kernel, None if local is None else local.radius)
    return GP(start.kernel(model.kernel, tuple(range(X.shape[1])), start.variance), mean, noise)


def _has(node: Struct, field: str) -> bool:
    return node._child_fields == (field,) and not node._static_fields and not node._data_fields


def _noise(X: np.ndarray, y: np.ndarray, variance: float) -> float:
    """Half the mean squared difference of nearest neighbours, within [1e-3, 0.5] of the variance."""
    if y.size < 2:
        return 0.1 * variance
    unit = np.where(np.ptp(X, axis=0) > 0, np.ptp(X, axis=0), 1.0)
    Z = (X - X.min(axis=0)) / unit
    distance = _squared(Z)
    np.fill_diagonal(distance, np.inf)
    neighbour = np.argmin(distance, axis=1)
    return float(np.clip(0.5 * _mean_square(y - y[neighbour]), 1e-3 * variance, 0.5 * variance))


def _squared(Z: np.ndarray) -> np.ndarray:
    total = np.zeros((len(Z), len(Z)))
    for column in Z.T:
        total += (column[:, None] - column[None, :]) ** 2
    return total


class _Start:
    """Walks over a kernel and gives its parts values."""

    def __init__(self, X: np.ndarray, y: np.ndarray, variance: float):
        self.X, self.y, self.variance = X, y, variance
        self.octave = 0  # lengthscales of several terms start apart, so that the terms can tell themselves
        self.ratio = 0.25  # of the lengthscale of a term to that of the term before
        self.shrink = 1.0  # of the first

    def spread_lengthscales(self, kernel: Kernel, radius: float | None) -> None:
        """Let the lengthscales reach down to the distance ``radius`` over which targets decorrelate."""
        parts = list(_parts(kernel))
        count = sum(
            "log_lengthscale" in p._child_fields and "log_period" not in p._child_fields for p in parts
        )
        if radius is None or count == 0 or any("log_period" in p._child_fields for p in parts):
            return  # what decorrelates first may be an oscillation, and a periodic term is there for it
        # exp(-s / 2) is one half where the scaled squared distance s is 2 log 2.
        d = self.X.shape[1]
        unit = np.where(np.ptp(self.X, axis=0) > 0, np.ptp(self.X, axis=0), 1.0)
        typical = math.sqrt(d * sum((self._spread(i) / unit[i]) ** 2 for i in range(d)))
        least = min(1.0, max(1e-4, radius / (math.sqrt(2 * math.log(2)) * typical)))
        if count == 1:
            self.shrink = least
        else:
            self.ratio = min(0.25, least ** (1 / (count - 1)))

    def kernel(self, kernel: Kernel, dims: tuple[int, ...], variance: float) -> Kernel:
        """``kernel`` on the input dimensions ``dims``, with a variance of about ``variance``."""
        if isinstance(kernel, Sum):
            share = variance / len(kernel.terms)
            return Sum(*(self.kernel(term, dims, share) for term in kernel.terms))
        if isinstance(kernel, Product):
            # One factor carries the variance, the others are of size one.
            parts, rest = [], variance
            for factor in kernel.factors:
                parts.append(self.kernel(factor, dims, rest))
                rest = 1.0 if _amplitude(factor) else rest
            return Product(*parts)
        if isinstance(kernel, Scale):
            inner = self.kernel(kernel.kernel, dims, 1.0)
            return Scale(inner, log_variance=self._log(kernel.log_variance, variance))
        if isinstance(kernel, ActiveDims):
            if max(kernel.dims) >= len(dims):
                return kernel  # the error comes when the kernel is evaluated
            return ActiveDims(
                self.kernel(kernel.kernel, tuple(dims[i] for i in kernel.dims), variance), kernel.dims
            )
        if isinstance(kernel, (Inducing, Nystrom, RandomFourier)):
            first, *others = (getattr(kernel, name) for name in kernel._child_fields)
            return rebuild(kernel, (self.kernel(first, dims, variance), *others))
        if isinstance(kernel, SpectralMixture):
            return self._mixture(kernel, dims, variance)
        if isinstance(kernel, (Coregion, Polynomial)):
            try:
                with np.errstate(all="ignore"):
                    now = float(np.mean(_numpy(kernel.diag(self.X[:, list(dims)]))))
            except ValueError:
                return kernel  # numbers that are no tasks: the error comes when the kernel is evaluated
            return scaled(kernel, variance / now) if 0.0 < now < math.inf else kernel
        values = [self._leaf(kernel, name, dims, variance) for name in kernel._child_fields]
        if "log_lengthscale" in kernel._child_fields:
            self.octave += 1
        return rebuild(kernel, tuple(values))

    def _mixture(self, kernel: SpectralMixture, dims: tuple[int, ...], variance: float) -> Kernel:
        """Frequencies at the peaks of the periodogram."""
        if kernel.log_frequency.shape[1] != len(dims):
            return kernel  # the error comes when the kernel is evaluated
        found = SpectralMixture.guess(self.X[:, list(dims)], self.y, kernel.log_weight.shape[0])
        share = math.log(variance) - math.log(float(np.sum(np.exp(found.log_weight))))
        return found.replace(log_weight=found.log_weight + share)

    def _leaf(self, kernel: Kernel, name: str, dims: tuple[int, ...], variance: float) -> Any:
        old = getattr(kernel, name)
        if isinstance(old, (Struct, tuple)) or np.ndim(old) > 1:
            return old
        if name == "log_period":
            found = [self._period(i) for i in dims]
            return self._log(old, found if np.ndim(old) else found[0])
        if name == "log_lengthscale":
            if "log_period" in kernel._child_fields:
                return old  # measured in periods, and already of order one
            scales = np.array([self._spread(i) for i in dims]) * math.sqrt(len(dims))
            return self._log(
                old,
                (scales if np.ndim(old) else float(np.mean(scales))) * self.shrink * self.ratio**self.octave,
            )
        if name == "log_variance":
            return self._variance(kernel, old, dims, variance)
        return old

    def _variance(self, kernel: Kernel, old: Any, dims: tuple[int, ...], variance: float) -> Any:
        """So that the mean prior variance at the points is ``variance``."""
        if isinstance(kernel, Linear):
            squares = np.array([_mean_square(self.X[:, i]) for i in dims])
            each = np.exp(np.clip(math.log(variance) - np.log(squares * len(dims)), -_LARGEST, _LARGEST))
            return self._log(old, each if np.ndim(old) else float(np.min(each)))
        with np.errstate(all="ignore"):
            now = float(np.mean(_numpy(kernel.diag(self.X[:, list(dims)]))))
        if not 0.0 < now < math.inf:
            return old
        return _numpy(old) + (math.log(variance) - math.log(now))

    def _log(self, old: Any, value: Any) -> np.ndarray:
        """Logarithm in the shape of the leaf it replaces; the old leaf where shapes disagree."""
        value = np.log(np.asarray(value, dtype=float))
        return value if value.shape == np.shape(old) else _numpy(old)

    def _spread(self, i: int) -> float:
        """Median distance of different coordinates in dimension ``i``."""
        column = self.X[:, i]
        distance = np.abs(column[:, None] - column[None, :])
        distance = distance[distance > 0]
        return float(np.median(distance)) if distance.size else 1.0

    def _period(self, i: int) -> float:
        """The strongest period of the targets along dimension ``i``, at most the range of the inputs."""
        t = self.X[:, i]
        spread = float(np.ptp(t))
        if spread == 0.0 or len(t) < 8:
            return spread or 1.0
        t = (t - t.min()) / spread
        size = float(np.max(np.abs(self.y))) or 1.0
        design = np.column_stack([np.ones_like(t), t, t**2])
        r = self.y / size
        r = r - design @ np.linalg.lstsq(design, r, rcond=None)[0]
        frequencies = np.arange(1.5, max(3.0, len(np.unique(t)) / 2), 0.125)
        power = np.empty(len(frequencies))
        for k, f in enumerate(frequencies):
            # Amplitude of the best sine of this frequency: Lomb's shifted basis makes sine and cosine
            # orthogonal at these points.
            shift = np.arctan2(np.sum(np.sin(4 * np.pi * f * t)), np.sum(np.cos(4 * np.pi * f * t))) / 2
            c, s = np.cos(2 * np.pi * f * t - shift), np.sin(2 * np.pi * f * t - shift)
            tiny = 1e-12 * len(t)
            power[k] = (r @ c) ** 2 / max(c @ c, tiny) + (r @ s) ** 2 / max(s @ s, tiny)
        return float(spread / frequencies[int(np.argmax(power))])


def _parts(kernel: Kernel) -> Iterator[Kernel]:
    """A kernel and everything it is made of."""
    yield kernel
    for name in kernel._child_fields:
        child = getattr(kernel, name)
        for part in child if isinstance(child, tuple) else (child,):
            if isinstance(part, Kernel):
                yield from _parts(part)


def _amplitude(kernel: Kernel) -> bool:
    """Whether a kernel has a variance of its own."""
    if isinstance(kernel, Sum):
        return any(_amplitude(term) for term in kernel.terms)
    if isinstance(kernel, (ActiveDims, Inducing, Nystrom)):
        return _amplitude(kernel.kernel)
    return "log_variance" in kernel._child_fields


__all__ = ["DataScale", "initialise", "range_advice"]
