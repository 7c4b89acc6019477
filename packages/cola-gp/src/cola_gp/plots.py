"""Figures of fitted models, with matplotlib (an optional dependency)."""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core.errors import ColaError

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
    data's range extended by ``extend`` of its length.  More inputs: leave-one-out predictions against the
    observations.
    """
    Figure, Canvas = _pyplot()
    features, target = names or ([], "y")
    scaling, data = predictor.scaling, predictor.data
    X = data.X * scaling.x_scale + scaling.x_shift
    y = scaling.mean(data.y)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    Canvas(figure)
    axes = figure.add_subplot()
    if X.shape[1] == 1:
        low, high = X.min(), X.max()
        margin = extend * (high - low) or 1.0
        line = np.linspace(low - margin, high + margin, 400)[:, None]
        mean = predictor.mean(line)
        for noise, alpha, label in ((True, 0.15, "observations, 2 sd"), (False, 0.3, "function, 2 sd")):
            band = 2 * np.sqrt(predictor.variance(line, include_noise=noise))
            axes.fill_between(
                line[:, 0], mean - band, mean + band, color="C0", alpha=alpha, lw=0, label=label
            )
        axes.plot(line[:, 0], mean, color="C0", label="mean")
        axes.plot(X[:, 0], y, "k.", ms=3, label="data")
        axes.set_xlabel(features[0] if features else "x")
        axes.set_ylabel(target)
    else:
        loo = predictor.leave_one_out()
        axes.errorbar(y, loo.mean, yerr=2 * np.sqrt(loo.variance), fmt=".", ms=4, lw=0.5, color="C0")
        ends = [min(y.min(), loo.mean.min()), max(y.max(), loo.mean.max())]
        axes.plot(ends, ends, color="0.5", lw=1, label="perfect")
        axes.set_xlabel(f"{target} observed")
        axes.set_ylabel(f"{target} predicted from the others, 2 sd")
    axes.legend(loc="best", frameon=False)
    return figure
