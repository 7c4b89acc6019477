"""Figures of every kind of model: they are drawn, and show what they say."""

import numpy as np
import pytest

import cola_gp as gp
from cola_gp.likelihoods import BernoulliLikelihood, PoissonLikelihood

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from cola_gp.plots import plot_calibration, plot_predictor  # noqa: E402


def labels(figure):
    figure.canvas.draw()
    axes = [a for a in figure.axes if a.get_xlabel()]
    return [(a.get_xlabel(), a.get_ylabel()) for a in axes]


def legend(figure):
    return [t.get_text() for t in figure.axes[0].get_legend().get_texts()]


def test_one_input(rng):
    X = np.linspace(100, 106, 25)
    predictor = gp.Predictor.fit(X, 50 + np.sin(X))
    figure = plot_predictor(predictor, (["t"], "co2"))
    assert labels(figure) == [("t", "co2")]
    assert legend(figure) == ["observations, 2 sd", "function, 2 sd", "mean", "data"]
    line = next(a for a in figure.axes[0].lines if a.get_label() == "mean")
    np.testing.assert_allclose(line.get_ydata(), predictor.mean(line.get_xdata()), rtol=1e-9)
    points = next(a for a in figure.axes[0].lines if a.get_label() == "data")
    np.testing.assert_allclose(points.get_ydata(), 50 + np.sin(X))


def test_known_noise_has_no_band_of_observations(rng):
    X = np.linspace(0, 6, 12)
    model = gp.GP(gp.RBF(1.0), noise=gp.FixedNoise(np.full(12, 0.1)))
    figure = plot_predictor(gp.Predictor.fit(X, np.sin(X), model))
    assert legend(figure) == ["function, 2 sd", "mean", "data"]


@pytest.mark.parametrize("likelihood", [PoissonLikelihood(), BernoulliLikelihood()])
def test_other_likelihoods(rng, likelihood):
    X = np.linspace(0, 6, 30)
    y = (np.sin(X) > 0).astype(float)
    predictor = gp.Predictor.fit(X, y, gp.GP(1.0 * gp.RBF(1.0), noise=likelihood), max_iters=3)
    figure = plot_predictor(predictor)
    bands = ["observations, 2 sd"] if isinstance(likelihood, PoissonLikelihood) else []
    assert legend(figure) == [*bands, "mean", "data"]
    wide = gp.Predictor.fit(
        np.column_stack([X, X**2, X**3]), y, gp.GP(1.0 * gp.RBF(1.0), noise=likelihood), max_iters=3
    )
    binary = isinstance(likelihood, BernoulliLikelihood)
    beside = ("y observed", "probability from all data" if binary else "y predicted from all data, 2 sd")
    assert labels(plot_predictor(wide)) == [beside]
    flat = gp.Predictor.fit(
        np.column_stack([X, X**2]), y, gp.GP(1.0 * gp.RBF(1.0), noise=likelihood), max_iters=3
    )
    figure = plot_predictor(flat)
    assert labels(figure)[0] == beside
    bars = {
        a.get_ylabel(): a for a in figure.axes if not a.get_xlabel()
    }  # not the function, on its own scale
    assert list(bars) == ["y, probability" if binary else "y, mean", "function, sd"]
    low, high = next(iter(bars.values())).get_ylim()
    assert 0 <= low < high <= (1 if binary else 3)


def test_two_inputs_and_grids(rng):
    grid = gp.Grid(np.linspace(0, 1, 5), np.linspace(0, 2, 4))
    P = grid.points()
    for inputs in (P, grid):
        figure = plot_predictor(gp.Predictor.fit(inputs, np.sin(3 * P[:, 0]) + P[:, 1]), (["a", "b"], "z"))
        assert labels(figure).count(("a", "b")) == 2
        assert ("z observed", "z predicted from the others, 2 sd") in labels(figure)


def test_columns_of_labels_are_not_mapped(rng):
    X = np.column_stack([rng.uniform(0, 6, 30), rng.integers(0, 2, 30)])
    kernel = gp.ActiveDims(gp.RBF(1.0), 0) * gp.ActiveDims(gp.Coregion(2), 1)
    predictor = gp.Predictor.fit(X, np.sin(X[:, 0]) * (1 + X[:, 1]), gp.GP(kernel, noise=0.1), max_iters=5)
    assert len(labels(plot_predictor(predictor))) == 1


def test_calibration(rng):
    report = gp.Calibration.of(np.zeros(50), np.ones(50), rng.normal(size=50))
    figure = plot_calibration(report)
    assert labels(figure) == [
        ("probability integral transform", "observations"),
        ("probability of the interval", "observations inside"),
    ]
    assert sum(p.get_height() for p in figure.axes[0].patches[:7]) == pytest.approx(50)
