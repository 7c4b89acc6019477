"""Fits, units, initial values and the command line under likelihoods that are not Gaussian."""

import argparse
import csv
import json
import warnings

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import ColaError, ConvergenceError, ConvergenceWarning
from cola_gp import cli
from cola_gp.expressions import parse_noise
from cola_gp.inference import laplace
from cola_gp.likelihoods import BernoulliLikelihood, PoissonLikelihood, StudentTLikelihood
from cola_gp.tables import read_table


def invoke(*argv):
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers())
    args = parser.parse_args(["gp", *map(str, argv)])
    return args.func(args)


def outliers(rng, unit=1.0, shift=0.0):
    X = np.sort(rng.uniform(0, 6, 50))[:, None]
    y = np.sin(X[:, 0]) + 0.05 * rng.normal(size=50)
    y[::10] += 5.0
    return X, shift + unit * y


def test_student_t_in_the_units_of_the_data(rng):
    X, y = outliers(rng)
    model = gp.GP(1.0 * gp.RBF(1.0), noise=StudentTLikelihood(0.1))
    near = gp.Predictor.fit(X, y, model, max_iters=40)
    far = gp.Predictor.fit(10 * X, 1e6 + 1e4 * y, model, max_iters=40)
    truth = np.sin(X[:, 0])
    assert np.sqrt(np.mean((near.mean(X) - truth) ** 2)) < 0.1
    gaussian = gp.Predictor.fit(X, y)
    assert np.sqrt(np.mean((gaussian.mean(X) - truth) ** 2)) > 0.3
    np.testing.assert_allclose((far.mean(10 * X) - 1e6) / 1e4, near.mean(X), atol=1e-3)
    mean, variance = near.response(X)
    np.testing.assert_allclose(mean, near.mean(X))
    assert np.all(variance > near.variance(X))
    density = near.log_predictive_density(X, y) - far.log_predictive_density(10 * X, 1e6 + 1e4 * y)
    np.testing.assert_allclose(density, np.log(1e4), atol=0.02)


def test_counts_and_classes_are_not_scaled(rng):
    X = rng.uniform(0, 6, (60, 1))
    counts = rng.poisson(np.exp(1.5 + np.sin(X[:, 0]))).astype(float)
    predictor = gp.Predictor.fit(X, counts, gp.GP(1.0 * gp.RBF(1.0), gp.ConstantMean(), PoissonLikelihood()))
    assert float(predictor.scaling.y_scale) == 1.0 and float(predictor.scaling.y_shift) == 0.0
    assert float(predictor.scaling.x_scale[0]) == pytest.approx(X.std())
    rate, variance = predictor.response(X)
    assert np.mean(np.abs(np.log(rate) - 1.5 - np.sin(X[:, 0]))) < 0.3
    assert np.all(variance > rate)
    with pytest.raises(NotImplementedError, match="under PoissonLikelihood are not Gaussian"):
        gp.calibration_report(predictor)


def test_initial_values_on_the_scale_of_the_function(rng):
    X, y = outliers(rng, unit=100.0)
    start = gp.initialise(gp.GP(1.0 * gp.RBF(1.0), noise=StudentTLikelihood(1.0)), gp.Data(X, y))
    assert 30 < np.exp(0.5 * start.kernel.log_variance) < 300
    assert np.exp(start.noise.log_scale) < 150
    counts = rng.poisson(100 * np.exp(np.sin(X[:, 0]))).astype(float)
    start = gp.initialise(
        gp.GP(1.0 * gp.RBF(1.0), gp.ConstantMean(), PoissonLikelihood()), gp.Data(X, counts)
    )
    assert float(start.mean.value) == pytest.approx(np.log(100), abs=0.5)
    assert np.exp(start.kernel.log_variance) == pytest.approx(0.5, abs=0.4)
    labels = (y > 0).astype(float)
    start = gp.initialise(gp.GP(1.0 * gp.RBF(1.0), noise=BernoulliLikelihood()), gp.Data(X, labels))
    assert np.isfinite(start.kernel.log_variance)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("poisson", PoissonLikelihood), ("student(df=3)", StudentTLikelihood), ("0.2", gp.GaussianNoise)],
)
def test_expressions(text, kind):
    assert isinstance(parse_noise(text), kind)
    assert parse_noise("bernoulli(link='probit')").link == "probit"


def test_command_line(tmp_path, rng, capsys):
    X = rng.uniform(0, 6, 60)
    labels = (np.sin(X) + 0.2 * rng.normal(size=60) > 0).astype(int)
    path = tmp_path / "d.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["x", "y"], *zip(X, labels, strict=True)])
    model = tmp_path / "d.npz"
    assert invoke("fit", path, "--target", "y", "--noise", "bernoulli", "--json") == 0
    assert "Laplace" in json.loads(capsys.readouterr().out)["method"]
    invoke("predict", model, path, "--out", tmp_path / "p.csv")
    probability = read_table(tmp_path / "p.csv").matrix(["y_mean"])[:, 0]
    assert np.all((probability > 0) & (probability < 1))
    assert np.mean((probability > 0.5) == labels) > 0.9
    with pytest.raises(ColaError, match="BernoulliLikelihood has none; use --latent"):
        invoke("predict", model, path, "--interval", 0.9)
    assert invoke("predict", model, path, "--interval", 0.9, "--latent", "--out", tmp_path / "q.csv") == 0
    assert invoke("sample", model, path, "--count", 2, "--out", tmp_path / "s.csv") == 0
    with pytest.raises(ColaError, match="--observations is for Gaussian noise, not BernoulliLikelihood"):
        invoke("sample", model, path, "--observations")
    capsys.readouterr()
    assert invoke("fit", path, "--target", "y", "--noise", "poisson", "--max-iters", 3) == 0
    assert "leave-one-out: not available" in capsys.readouterr().out
    with pytest.raises(ColaError, match="known are gaussian"):
        invoke("fit", path, "--target", "y", "--noise", "cauchy")


@pytest.mark.parametrize(
    "variance, steps, told", [(30.0, 4, 0), (1.0, 2, 1)], ids=["rejected points", "the answer"]
)
def test_only_the_answer_of_a_fit_is_warned_of(variance, steps, told, monkeypatch):
    """With few Newton steps allowed some trial points find no mode, and with very few none does."""
    monkeypatch.setattr(laplace, "MAX_STEPS", steps)
    x = np.linspace(0.1, 4.9, 20)
    data = gp.Data(x, np.round(np.exp(2 * np.sin(x))))
    converged = []

    def seen(self, message):
        converged.append(False)
        return doubted(self, message)

    doubted = laplace.LaplaceConditioned._doubted
    monkeypatch.setattr(laplace.LaplaceConditioned, "_doubted", seen)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = gp.fit(gp.GP(variance * gp.RBF(0.3), noise=PoissonLikelihood()), data, max_iters=20)
    messages = [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]
    assert len(converged) > told == len(messages)
    found = gp.condition(result.model, data, on_failure="ignore")
    assert found.info.converged is not bool(told)
    assert messages == [f"fitted model: {found.doubt}"] * told
    if told:
        with pytest.warns(ConvergenceWarning, match="mode of the posterior"):
            gp.condition(result.model, data)
        with pytest.raises(ConvergenceError, match="mode of the posterior"):
            gp.condition(result.model, data, on_failure="raise")
