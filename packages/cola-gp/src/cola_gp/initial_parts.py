"""Initial values of mean functions and of noise that depends on inputs or tasks, from NumPy data."""

from __future__ import annotations

import numpy as np

from .kernels import Coregion, Kernel, Polynomial
from .maps import Affine, Map, Network
from .means import ConstantMean, LinearMean, Mean, SumMean, TaskMean
from .noise import HeteroscedasticNoise, Noise, TaskNoise


def initial_mean(mean: Mean, X: np.ndarray, y: np.ndarray) -> tuple[Mean, np.ndarray]:
    """The mean with values from ``X (n, d)`` and ``y (n,)``, and what it says at ``X``.

    Constants and tasks get averages, linear means least squares (of least norm where that is not unique); the
    terms of a sum one after the other what those before left.  Other means keep their values, and so do all
    that do not fit the data, which say so when they are evaluated.
    """
    if isinstance(mean, SumMean):
        total, terms = np.zeros_like(y), []
        for term in mean.terms:
            found, value = initial_mean(term, X, y - total)
            terms.append(found)
            total = total + value
        return SumMean(*terms), total
    if isinstance(mean, ConstantMean) and np.ndim(mean.value) == 0:
        mean = ConstantMean(float(np.mean(y)))
    elif isinstance(mean, LinearMean) and mean.weight.shape[0] == X.shape[1]:
        # About the centre, in units of the spread: columns of any scale are told apart.
        centre, spread = X.mean(axis=0), X.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        weight = np.linalg.lstsq((X - centre) / spread, y - y.mean(), rcond=None)[0] / spread
        mean = LinearMean(weight, float(y.mean() - centre @ weight))
    elif isinstance(mean, TaskMean):
        tasks = mean.value.shape[0]
        column = X[:, mean.dim] if -X.shape[1] <= mean.dim < X.shape[1] else np.full(len(y), -1.0)
        if np.all((column == np.round(column)) & (column >= 0) & (column < tasks)):
            groups = [y[column == task] for task in range(tasks)]
            mean = TaskMean([g.mean() if g.size else y.mean() for g in groups], mean.dim)
    try:
        return mean, np.asarray(mean(X), dtype=float)
    except (TypeError, ValueError):
        return mean, np.zeros_like(y)


def initial_noise(noise: Noise, X: np.ndarray, log_variance: float) -> Noise:
    """The noise with this log variance on average; unchanged where that is not one number's affair."""
    if isinstance(noise, TaskNoise):
        return TaskNoise(log_variance=np.full(noise.log_variance.shape, log_variance), dim=noise.dim)
    if isinstance(noise, HeteroscedasticNoise) and isinstance(noise.map, (Affine, Network)):
        try:
            now = float(np.mean(np.asarray(noise.map(X), dtype=float)))
        except (TypeError, ValueError):
            return noise
        return HeteroscedasticNoise(_shifted(noise.map, log_variance - now))
    return noise


def _shifted(map: Map, by: float) -> Map:
    """The map with a number added to its images."""
    if isinstance(map, Affine):
        return Affine(map.weight, map.offset + by)
    *first, last = map.offsets  # type: ignore[attr-defined]
    return map.replace(offsets=(*first, last + by))


def scaled(kernel: Kernel, ratio: float) -> Kernel:
    """A polynomial (whose parameters enter by a power) or a covariance of tasks, times ``ratio``."""
    if isinstance(kernel, Coregion):
        return kernel.replace(
            root=np.sqrt(ratio) * np.asarray(kernel.root),
            log_variance=np.asarray(kernel.log_variance) + np.log(ratio),
        )
    assert isinstance(kernel, Polynomial)
    step = np.log(ratio) / kernel.degree
    return kernel.replace(
        log_variance=np.asarray(kernel.log_variance) + step, log_offset=np.asarray(kernel.log_offset) + step
    )
