"""Calibration reports: closed forms, numerical integrals, and verdicts on predictions of known quality."""

import json
import math

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import NonFiniteError, ShapeError


def test_scores_against_definitions(rng):
    from scipy import integrate, stats

    mean, sd, y = rng.normal(size=7), rng.uniform(0.5, 2, 7), rng.normal(size=7)
    report = gp.Calibration.of(mean, sd**2, y)
    assert report.n == 7
    assert report.nlpd == pytest.approx(-np.mean(stats.norm(mean, sd).logpdf(y)))
    np.testing.assert_allclose(report.pit, stats.norm(mean, sd).cdf(y))
    assert report.rmse == pytest.approx(math.sqrt(np.mean((y - mean) ** 2)))
    assert report.mae == pytest.approx(np.mean(np.abs(y - mean)))
    assert report.sharpness == pytest.approx(np.mean(sd))
    # CRPS is the integral of the squared difference of the distribution functions.
    crps = []
    for m, s, o in zip(mean, sd, y, strict=True):
        below = integrate.quad(lambda t, m=m, s=s: stats.norm.cdf(t, m, s) ** 2, m - 12 * s, o)[0]
        above = integrate.quad(lambda t, m=m, s=s: stats.norm.sf(t, m, s) ** 2, o, m + 12 * s)[0]
        crps.append(below + above)
    assert report.crps == pytest.approx(np.mean(crps), rel=1e-6)
    reference = -np.mean(stats.norm(y.mean(), y.std()).logpdf(y))
    assert report.standardised_nlpd == pytest.approx(report.nlpd - reference)
    assert report.standardised_mse == pytest.approx(report.rmse**2 / np.var(y))


def test_coverage_counts_observations():
    y = np.array([0.0, 1.0, 1.7, 3.0])
    report = gp.Calibration.of(np.zeros(4), np.ones(4), y, levels=(0.5, 0.9))
    np.testing.assert_allclose(report.coverage, [0.25, 0.5])  # |z| up to 0.674 and 1.645
    np.testing.assert_allclose(report.coverage_error, [0.25, math.sqrt(0.09 / 4)])
    assert report.coverage_at(0.95) == 0.75
    with pytest.raises(ValueError, match="between 0 and 1"):
        report.coverage_at(1.0)


@pytest.mark.parametrize(
    ("factor", "shift", "verdict"),
    [
        (1.0, 0.0, "agree"),
        (0.5, 0.0, "overconfident"),
        (2.0, 0.0, "underconfident"),
        (1.3, 0.8, "shape|overconfident"),
    ],
)
def test_verdicts(rng, factor, shift, verdict):
    import re

    y = rng.normal(size=500) + shift
    report = gp.Calibration.of(np.zeros(500), np.full(500, factor**2), y)
    assert re.search(verdict, report.verdict())
    assert (report.ks_pvalue > 0.01) == (verdict == "agree")
    assert verdict.split("|")[0] in report.summary() or "shape" in verdict
    again = json.loads(json.dumps(report.as_dict()))
    assert again["coverage"]["0.95"] == pytest.approx(report.coverage[3])


def test_few_observations_contradict_but_do_not_confirm():
    """Below eight observations every report used to say that the uncertainties agree."""
    off = gp.Calibration.of(np.zeros(3), np.ones(3), np.full(3, 1000.0))
    assert off.verdict().startswith("overconfident")
    assert "too few" in gp.Calibration.of(np.zeros(5), np.ones(5), np.linspace(-1, 1, 5)).verdict()
    assert (
        gp.Calibration.of(np.zeros(16), np.ones(16), np.full(16, 1e-3)).verdict().startswith("underconfident")
    )


def test_held_out_data_of_the_model_itself(rng):
    """Data drawn from the model: its posterior is calibrated."""
    X = rng.uniform(0, 8, (160, 1))
    model = gp.GP(gp.RBF(1.0), noise=0.05)
    K = model.kernel(X) + 0.05 * np.eye(160)
    y = np.linalg.cholesky(K) @ rng.normal(size=160)
    posterior = gp.Posterior(model, gp.Data(X[:80], y[:80]))
    report = gp.calibration_report(posterior, X[80:], y[80:])
    assert report.verdict() == "the uncertainties agree with the observations"
    assert report.joint and not gp.calibration_report(posterior, X[80:], y[80:], joint=False).joint
    assert abs(report.coverage[3] - 0.95) < 4 * report.coverage_error[3]
    wrong = gp.Posterior(gp.GP(gp.RBF(1.0), noise=0.002), gp.Data(X[:80], y[:80]))
    worse = gp.calibration_report(wrong, X[80:], y[80:])
    assert worse.nlpd > report.nlpd and worse.verdict().startswith("overconfident")


def test_leave_one_out_in_the_units_of_the_data(rng):
    X = rng.uniform(0, 6, (40, 1))
    y = 50 + 10 * np.sin(X[:, 0]) + rng.normal(size=40)
    predictor = gp.Predictor.fit(X, y)
    report = gp.calibration_report(predictor)
    left_out = predictor.leave_one_out()
    assert report.rmse == pytest.approx(np.sqrt(np.mean((left_out.mean - y) ** 2)))
    assert report.nlpd == pytest.approx(-np.mean(left_out.log_density))
    with pytest.raises(ValueError, match="both X and y"):
        gp.calibration_report(predictor, X)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_other_libraries(rng, library):
    X, y = rng.uniform(0, 6, (15, 1)), rng.normal(size=15)
    if library == "torch":
        torch = pytest.importorskip("torch", reason="torch is not installed")
        make = torch.tensor
    else:
        make = pytest.importorskip("jax.numpy", reason="jax is not installed").asarray
    model = gp.GP(gp.RBF(1.0), noise=0.5)
    got = gp.calibration_report(gp.Posterior(model, gp.Data(make(X), make(y))), make(X), make(y))
    want = gp.calibration_report(gp.Posterior(model, gp.Data(X, y)), X, y)
    assert got.nlpd == pytest.approx(want.nlpd, rel=1e-4)


def test_refusals(rng):
    one = np.ones(3)
    for arguments, kind, message in [
        ((one, one, np.ones(2)), ShapeError, "one entry per observation"),
        ((one, 0 * one, one), ValueError, "noise included"),
        ((one, one, np.array([1.0, np.nan, 0.0])), NonFiniteError, "y holds NaN"),
        ((np.ones((3, 1)), one, one), ShapeError, "mean must be a vector"),
        ((one[:0], one[:0], one[:0]), ShapeError, "one entry per observation"),
    ]:
        with pytest.raises(kind, match=message):
            gp.Calibration.of(*arguments)
    with pytest.raises(ValueError, match="levels must lie"):
        gp.Calibration.of(one, one, one, levels=(1.0,))
    single = gp.Calibration.of(one[:1], one[:1], one[:1])
    assert single.n == 1 and math.isnan(single.standardised_mse) and "too few" in single.verdict()
