"""Figures of fitted models, with matplotlib (an optional dependency)."""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core.errors import ColaError

from .calibration import Calibration
from .data import as_points
from .likelihoods import BernoulliLikelihood
from .predictor import Predictor


def _pyplot() -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ColaError("plots need matplotlib: pip install 'cola-gp[plot]'") from None
    return Figure, FigureCanvasAgg


def plot_predictor(
    predictor: Predictor, names: tuple[list[str], str] | None = None, extend: float = 0.15
) -> Any:
    """A matplotlib figure of a fitted model.

    One input: data, mean and two standard deviations of the latent function and of observations, over the
    data's range extended by ``extend`` of its length; under a likelihood that is not Gaussian, mean and two
    standard deviations of observations alone, of classes their probability.  Two inputs: maps of the mean (of
    observations, under a likelihood) and of the standard deviation of the function over the data's rectangle,
    and beside them as with more inputs: predictions against
    observations, by leave-one-out where there are exact answers, otherwise of the training points themselves.
    """
    Figure, Canvas = _pyplot()
    features, target = names or ([], "y")
    scaling, data = predictor.scaling, predictor.data
    X = np.asarray(as_points(data.X)) * scaling.x_scale + scaling.x_shift
    y = scaling.mean(np.asarray(data.y))
    d = X.shape[1]
    maps = d == 2 and not predictor.model.label_dims(d)
    figure = Figure(figsize=(13 if maps else 8, 4.5), layout="constrained")
    Canvas(figure)
    axes = figure.add_subplot(1, 3, 3) if maps else figure.add_subplot()
    if maps:
        _maps(figure, predictor, X, features, target)
    if d == 1:
        low, high = X.min(), X.max()
        margin = extend * (high - low) or 1.0
        line = np.linspace(low - margin, high + margin, 400)[:, None]
        _line(axes, predictor, line)
        axes.plot(X[:, 0], y, "k.", ms=3, label="data")
        axes.set_xlabel(features[0] if features else "x")
        axes.set_ylabel(target)
    else:
        _against(axes, predictor, X, y, target)
    axes.legend(loc="best", frameon=False)
    return figure


def _line(axes: Any, predictor: Predictor, line: np.ndarray) -> None:
    """Mean and bands of one input."""
    bands = []
    if predictor.model.noise.gaussian:
        mean = predictor.mean(line)
        try:
            bands.append((predictor.variance(line, include_noise=True), 0.15, "observations, 2 sd"))
        except ValueError:
            pass  # the noise is known at the training points only
        bands.append((predictor.variance(line), 0.3, "function, 2 sd"))
    else:
        mean, variance = predictor.response(line)
        # Two classes: the probability says everything about them.
        if not isinstance(predictor.model.noise, BernoulliLikelihood):
            bands.append((variance, 0.15, "observations, 2 sd"))
    for variance, alpha, label in bands:
        half = 2 * np.sqrt(variance)
        axes.fill_between(line[:, 0], mean - half, mean + half, color="C0", alpha=alpha, lw=0, label=label)
    axes.plot(line[:, 0], mean, color="C0", label="mean")


def _against(axes: Any, predictor: Predictor, X: np.ndarray, y: np.ndarray, target: str) -> None:
    """Predictions of the training points against what was observed there."""
    how = "from the others"
    try:
        if not predictor.model.noise.gaussian:
            raise NotImplementedError("leave-one-out is for Gaussian noise")
        mean, variance, _ = predictor.leave_one_out()
    except (ColaError, NotImplementedError):
        how = "from all data"
        mean, variance = predictor.response(X)
    classes = isinstance(predictor.model.noise, BernoulliLikelihood)
    bars = None if classes else 2 * np.sqrt(variance)
    axes.errorbar(y, mean, yerr=bars, fmt=".", ms=4, lw=0.5, color="C0")
    ends = [min(y.min(), mean.min()), max(y.max(), mean.max())]
    axes.plot(ends, ends, color="0.5", lw=1, label="perfect")
    axes.set_xlabel(f"{target} observed")
    axes.set_ylabel(f"probability {how}" if classes else f"{target} predicted {how}, 2 sd")


def _maps(figure: Any, predictor: Predictor, X: np.ndarray, features: list[str], target: str) -> None:
    """Mean and standard deviation over the rectangle of two inputs, with the data.

    Of the function; under another likelihood the mean is that of observations, as in the other panels.
    """
    sides = [np.linspace(X[:, i].min(), X[:, i].max() + (np.ptp(X[:, i]) == 0), 60) for i in (0, 1)]
    mesh = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)
    noise = predictor.model.noise
    mean = predictor.mean(mesh) if noise.gaussian else predictor.response(mesh)[0]
    values = (mean, predictor.deviation(mesh))
    first = f"{target}, probability" if isinstance(noise, BernoulliLikelihood) else f"{target}, mean"
    second = f"{target}, sd" if noise.gaussian else "function, sd"
    for i, (value, label) in enumerate(zip(values, (first, second), strict=True)):
        axes = figure.add_subplot(1, 3, i + 1)
        shown = axes.pcolormesh(*sides, value.reshape(60, 60).T, shading="nearest", rasterized=True)
        figure.colorbar(shown, ax=axes, label=label)
        axes.plot(X[:, 0], X[:, 1], ".", color="w", ms=2, alpha=0.6)
        axes.set_xlabel(features[0] if features else "x0")
        axes.set_ylabel(features[1] if features else "x1")


def plot_calibration(report: Calibration) -> Any:
    """A matplotlib figure of a :class:`~cola_gp.calibration.Calibration`: the histogram of the probability
    integral transforms with the range in which a uniform sample lies nine times in ten, and observed against
    nominal coverage.
    """
    from scipy.stats import binom

    Figure, Canvas = _pyplot()
    figure = Figure(figsize=(9, 4), layout="constrained")
    Canvas(figure)
    left, right = figure.subplots(1, 2)
    bins = int(np.clip(np.sqrt(report.n), 4, 20))
    left.hist(report.pit, bins=np.linspace(0, 1, bins + 1), color="C0", alpha=0.7)
    low, high = binom.ppf([0.05, 0.95], report.n, 1 / bins)
    left.axhspan(low, high, color="0.5", alpha=0.25, lw=0, label="90 % of uniform samples")
    left.set_xlabel("probability integral transform")
    left.set_ylabel("observations")
    left.legend(frameon=False)
    levels = np.linspace(0.01, 0.99, 99)
    error = 2 * np.sqrt(levels * (1 - levels) / report.n)
    right.fill_between(levels, levels - error, levels + error, color="0.5", alpha=0.25, lw=0, label="2 se")
    right.plot(levels, levels, color="0.5", lw=1)
    right.plot(levels, [report.coverage_at(float(p)) for p in levels], color="C0", label="observed")
    right.set_xlabel("probability of the interval")
    right.set_ylabel("observations inside")
    right.legend(frameon=False)
    figure.suptitle(report.verdict(), fontsize=10)
    return figure
