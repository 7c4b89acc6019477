"""Optimisers, stopping, priors on any parameter, initial values, and units of the data."""

import time

import numpy as np
import pytest

import cola_gp as gp
from cola_gp.optimizers import adam


def toy(rng, n=40, noise=0.1):
    X = np.sort(rng.uniform(0, 6, n))[:, None]
    return gp.Data(X, np.sin(X[:, 0]) + noise * rng.normal(size=n))


MODEL = gp.GP(1.0 * gp.RBF(1.0), noise=0.1)


def test_adam_finds_the_optimum_of_lbfgs(rng):
    data = toy(rng)
    ours, theirs = gp.fit(MODEL, data, optimizer="adam"), gp.fit(MODEL, data)
    assert ours.converged and theirs.converged
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-3)
    for name, value in theirs.parameters.items():
        assert ours.parameters[name] == pytest.approx(value, rel=0.02)
    assert ours.evaluations > theirs.evaluations


def test_adam_keeps_bounds_and_says_when_it_runs_out(rng):
    data = toy(rng)
    bounded = gp.fit(MODEL, data, optimizer="adam", bounds={"*.lengthscale": (0.1, 0.5)})
    assert bounded.converged and bounded.at_bounds == ("kernel.kernel.lengthscale",)
    short = gp.fit(MODEL, data, optimizer="adam", max_iters=3)
    assert not short.converged and short.reason.startswith("the iteration limit was reached; the gradient")
    assert short.iterations == 3 and short.evaluations == 4
    assert short.log_likelihood > float(gp.marginal_likelihood(MODEL, data))


def test_adam_bears_noise_and_walls():
    """A quadratic with noise in the gradient and a wall: it ends near the minimum, at the best point seen."""
    rng = np.random.default_rng(1)

    def objective(x):
        if x[0] > 2.5:
            return 1e3, np.zeros(2)
        slope = np.array([1.0, 30.0]) * (x - 1.0)
        return 0.5 * float(slope @ (x - 1.0)), slope + 0.01 * rng.normal(size=2)

    end = adam(
        objective,
        np.array([2.4, -3.0]),
        np.full(2, -5.0),
        np.full(2, 5.0),
        max_iters=500,
        tol=1e-9,
        report=lambda: None,
    )
    np.testing.assert_allclose(end.x, 1.0, atol=0.02)
    assert end.reason == "the likelihood no longer changes" and not end.exhausted


def test_bad_options(rng):
    data = toy(rng, 5)
    for options, message in [
        ({"optimizer": "sgd"}, "one of l-bfgs, adam, not 'sgd'"),
        ({"initial": "guess"}, "'given' or 'data', not 'guess'"),
        ({"optimizer": "adam", "learning_rate": 0.0}, "learning_rate must be positive"),
        ({"max_iters": -1}, "not be negative"),
        ({"restarts": 1.5}, "restarts must be a whole number, not 1.5"),
        ({"max_iters": "9"}, "max_iters must be a whole number, not '9'"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            gp.fit(MODEL, data, **options)


@pytest.mark.parametrize("optimizer", ["l-bfgs", "adam"])
def test_a_fit_that_is_stopped_returns_the_best_point(rng, optimizer):
    data = toy(rng)
    far = gp.GP(1.0 * gp.RBF(30.0), noise=3.0)
    result = gp.fit(far, data, optimizer=optimizer, callback=lambda n, value: n > 4, restarts=2)
    assert not result.converged and result.reason.startswith("the callback stopped it")
    assert len(result.runs) == 1 and result.iterations >= 1
    assert result.log_likelihood > float(gp.marginal_likelihood(far, data))

    def slow(n, value):
        time.sleep(0.01)

    timed = gp.fit(far, data, optimizer=optimizer, max_seconds=0.005, callback=slow)
    assert timed.iterations == 1 and timed.reason.startswith("the time limit was reached")


PRIORS = [
    gp.Normal(1.5, 0.7),
    gp.StudentT(0.5, 2.0, 3.0),
    gp.LogNormal(2.0, 0.7),
    gp.Gamma(3.0, 1.5),
    gp.InverseGamma(2.0, 1.5),
    gp.HalfNormal(0.8),
    gp.HalfCauchy(0.8),
]


@pytest.mark.parametrize("prior", PRIORS, ids=lambda p: type(p).__name__)
def test_slopes_of_priors(prior):
    h = 1e-6
    for x in (0.2, 1.0, 3.0):
        numeric = (prior.at(x + h)[0] - prior.at(x - h)[0]) / (2 * h)
        assert prior.at(x)[1] == pytest.approx(numeric, rel=1e-6, abs=1e-8)
        t = np.log(x)
        numeric = (prior.log_density(t + h)[0] - prior.log_density(t - h)[0]) / (2 * h)
        assert prior.log_density(t)[1] == pytest.approx(numeric, rel=1e-6, abs=1e-8)


def test_densities_of_priors():
    """Differences of log densities, where the normalising constants drop out, against SciPy."""
    from scipy import stats

    for prior, theirs in [
        (gp.Normal(1.5, 0.7), stats.norm(1.5, 0.7)),
        (gp.StudentT(0.5, 2.0, 3.0), stats.t(3.0, 0.5, 2.0)),
        (gp.Gamma(3.0, 1.5), stats.gamma(3.0, scale=1 / 1.5)),
        (gp.InverseGamma(2.0, 1.5), stats.invgamma(2.0, scale=1.5)),
        (gp.HalfNormal(0.8), stats.halfnorm(scale=0.8)),
        (gp.HalfCauchy(0.8), stats.halfcauchy(scale=0.8)),
    ]:
        want = theirs.logpdf(2.7) - theirs.logpdf(0.4)
        assert prior.at(2.7)[0] - prior.at(0.4)[0] == pytest.approx(want, rel=1e-12)


def test_priors_on_any_parameter(rng):
    data = gp.Data(rng.uniform(0, 6, 30), 5 + rng.normal(size=30))
    model = gp.GP(gp.Linear(0.1), gp.ConstantMean(0.0), noise=1.0)
    free = gp.fit(model, data, fixed=["kernel.*"])
    held = gp.fit(model, data, fixed=["kernel.*"], priors={"mean.value": gp.Normal(0.0, 1e-3)})
    assert abs(free.parameters["mean.value"]) > 1 and abs(held.parameters["mean.value"]) < 0.05
    # A prior for any sign on a positive parameter: its mode is where the density of the parameter has it.
    pulled = gp.fit(MODEL, toy(rng), priors={"*.lengthscale": gp.Normal(0.7, 1e-4)})
    assert pulled.parameters["kernel.kernel.lengthscale"] == pytest.approx(0.7, abs=1e-3)
    with pytest.raises(ValueError, match="Gamma is for positive .* mean.value may take any sign"):
        gp.fit(model, data, priors={"mean.value": gp.Gamma(2.0, 1.0)})
    for bad in (lambda: gp.Normal(0.0, -1.0), lambda: gp.HalfNormal(0.0), lambda: gp.Normal(np.nan, 1.0)):
        with pytest.raises(ValueError, match="needs a"):
            bad()


def test_initial_values_in_the_units_of_the_data(rng):
    X = rng.normal(size=(80, 2)) * [10.0, 0.01]
    y = 7 + 300 * (X[:, 0] / 10 + 0.1 * rng.normal(size=80))
    kernel = gp.Scale(gp.RBF([1.0, 1.0]), 1.0) + gp.Linear([1.0, 1.0]) + gp.Constant(1.0)
    model = gp.initialise(gp.GP(kernel, gp.ConstantMean()), gp.Data(X, y))
    rbf, linear, constant = model.kernel.terms
    ratio = np.exp(rbf.kernel.log_lengthscale[0] - rbf.kernel.log_lengthscale[1])
    assert 300 < ratio < 3000
    assert np.exp(rbf.log_variance) == pytest.approx(np.var(y) / 3, rel=1e-6)
    assert np.mean(linear.diag(X)) == pytest.approx(np.var(y) / 3, rel=1e-6)
    assert np.exp(constant.log_variance) == pytest.approx(np.var(y) / 3, rel=1e-6)
    assert float(model.mean.value) == pytest.approx(np.mean(y))
    assert 1e-3 * np.var(y) <= np.exp(model.noise.log_variance) <= 0.5 * np.var(y)


def test_initial_period_is_that_of_the_data(rng):
    t = np.sort(rng.uniform(0, 15, 150))
    y = 2 * np.sin(2 * np.pi * t / 1.3) + 0.5 * t + 30 + 0.2 * rng.normal(size=150)
    model = gp.GP(gp.Scale(gp.Periodic(1.0, 5.0), 1.0) + gp.Linear(1.0), gp.ConstantMean(), noise=0.1)
    start = gp.initialise(model, gp.Data(t, y))
    assert np.exp(start.kernel.terms[0].kernel.log_period) == pytest.approx(1.3, rel=0.02)
    result = gp.fit(model, gp.Data(t, y), initial="data")
    assert result.parameters["kernel.terms.0.kernel.period"] == pytest.approx(1.3, rel=5e-3)
    assert result.parameters["noise.variance"] == pytest.approx(0.04, rel=0.4)
    held = gp.fit(model, gp.Data(t, y), initial="data", fixed=["*.period"], max_iters=3)
    assert np.exp(held.model.kernel.terms[0].kernel.log_period) == pytest.approx(5.0)


def test_initial_values_of_every_kind_of_data(rng):
    kernel = gp.ActiveDims(gp.Periodic(1.0, 1.0), 1) * gp.Scale(gp.Matern32(1.0), 1.0) + gp.White(0.1)
    for X, y in [
        (np.array([[1.0, 2.0]]), np.array([3.0])),
        (np.full((6, 2), 2.0), np.arange(6.0)),
        (rng.normal(size=(9, 2)), np.zeros(9)),
        (1e150 * rng.normal(size=(900, 2)), 1e-150 * rng.normal(size=900)),
    ]:
        start = gp.initialise(gp.GP(kernel), gp.Data(X, y))
        values = np.concatenate([np.ravel(leaf) for leaf in gp._struct.leaves(start)])
        assert np.all(np.isfinite(values))
    grid = gp.Grid(np.arange(5.0), np.arange(4.0))
    on_grid = gp.initialise(MODEL, gp.Data(grid, rng.normal(size=20)))
    assert np.isfinite(on_grid.kernel.log_variance)


@pytest.mark.parametrize("x_unit", [1e-150, 1e-9, 1e150])
@pytest.mark.parametrize("y_unit", [1e-150, 1e9, 1e150])
def test_fit_without_scaling_does_not_depend_on_units(x_unit, y_unit, rng):
    data = toy(rng)
    want = gp.fit(MODEL, data)
    got = gp.fit(MODEL, gp.Data(x_unit * data.X, y_unit * data.y), initial="data")
    assert got.converged and got.failures == 0 and got.at_bounds == ()
    assert got.log_likelihood + data.n * np.log(y_unit) == pytest.approx(want.log_likelihood, abs=1e-4)
    assert got.parameters["kernel.kernel.lengthscale"] / x_unit == pytest.approx(
        want.parameters["kernel.kernel.lengthscale"], rel=1e-2
    )


def test_float32_reaches_the_optimum_of_float64(rng):
    data = toy(rng)
    single = gp.fit(MODEL, gp.Data(data.X.astype(np.float32), data.y.astype(np.float32)))
    double = gp.fit(MODEL, data)
    assert single.converged and single.jitter == 0.0
    assert single.log_likelihood == pytest.approx(double.log_likelihood, abs=0.01)
    assert single.parameters["noise.variance"] == pytest.approx(double.parameters["noise.variance"], rel=0.02)


def test_data_beyond_the_range_of_their_dtype_are_named(rng):
    X = np.linspace(1, 2, 6, dtype=np.float32)[:, None]
    data = gp.Data(X, (1e23 * X[:, 0]).astype(np.float32))
    result = gp.fit(MODEL, data, initial="data")
    assert not result.converged and result.failures == result.evaluations > 0
    assert "targets of size 1e+23" in result.reason
    assert "have squares beyond the range of float32: scale the data first" in result.reason
    scaled = gp.Predictor.fit(data.X, data.y)
    assert scaled.result.converged
    np.testing.assert_allclose(scaled.mean(data.X), data.y, rtol=1e-3)


def test_an_offset_does_not_hide_small_noise(rng):
    """The floor of the noise is relative to the spread of the targets, if the mean can take their offset."""
    data = toy(rng)
    far = gp.fit(gp.GP(1.0 * gp.RBF(1.0), gp.ConstantMean()), gp.Data(data.X, 1e6 + data.y), initial="data")
    near = gp.fit(gp.GP(1.0 * gp.RBF(1.0), gp.ConstantMean()), data, initial="data")
    assert far.log_likelihood == pytest.approx(near.log_likelihood, abs=1e-3)


def test_parameters_that_are_only_evaluated_need_no_gradient(rng, monkeypatch):
    from cola_gp.inference.base import Conditioned

    def refuse(self):
        raise AssertionError("no step is made")

    monkeypatch.setattr(Conditioned, "gradient", refuse)
    data = toy(rng)
    for options in ({"max_iters": 0}, {"fixed": "*"}):
        result = gp.fit(MODEL, data, **options)
        assert result.log_likelihood == pytest.approx(float(gp.marginal_likelihood(MODEL, data)))
        assert np.isnan(result.gradient_norm) and "gradient" not in result.summary()


def test_jax_data_are_fitted_by_the_same_closed_form(rng):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    data = toy(rng, 20)
    with jax.enable_x64(True):
        theirs = gp.fit(MODEL, gp.Data(jax.numpy.asarray(data.X), jax.numpy.asarray(data.y)), max_iters=8)
    assert theirs.log_likelihood == pytest.approx(gp.fit(MODEL, data, max_iters=8).log_likelihood, rel=1e-6)


def test_stochastic_likelihoods_end_within_their_error(rng):
    X = rng.uniform(-2, 2, (250, 2))
    data = gp.Data(X, np.sin(2 * X[:, 0]) * X[:, 1] + 0.2 * rng.normal(size=250))
    model = gp.GP(1.0 * gp.RBF([1.0, 1.0]), noise=0.1)
    exact = gp.fit(model, data, alg="dense")
    # Few probes, so that the error matters.
    alg = gp.IterativeInference(tol=0.02, samples=4, max_samples=8)
    rough = gp.fit(model, data, alg=alg)
    assert exact.likelihood_error == 0.0 and rough.likelihood_error > 0.0
    assert rough.converged and rough.evaluations < 120
    assert "+-" in rough.summary() and "+-" not in exact.summary()
    at = float(gp.marginal_likelihood(rough.model, data, "dense"))
    assert exact.log_likelihood - at < max(0.1, 3 * rough.likelihood_error)


@pytest.mark.parametrize("unit", [1.0, 1e-150, 1e100])
def test_variogram_finds_noise_and_radius(rng, unit):
    from cola_gp.variogram import variogram

    t = np.sort(rng.uniform(0, 1, 3000))[:, None]
    y = unit * (np.sin(200 * t[:, 0]) + 0.2 * rng.normal(size=3000))
    found = variogram(t * unit, y)
    assert np.sqrt(found.noise) == pytest.approx(0.2 * unit, rel=0.3)
    # g(r) = (1 - cos(200 r)) / 2 plus noise is half way where 200 r is a quarter turn.
    assert 200 * found.radius == pytest.approx(np.pi / 2, rel=0.3)
    assert variogram(t, rng.normal(size=3000)).radius is None
    assert variogram(t[:5], y[:5]) is None and variogram(t, np.ones(3000)) is None
    assert variogram(np.ones((20, 1)), y[:20]) is None


def test_short_lengthscales_of_long_data_are_found(rng):
    """From lengthscales of the size of the data the search would end where all is noise."""
    t = rng.uniform(0, 300, 1500)
    data = gp.Data(t, np.sin(t) + 0.1 * rng.normal(size=1500))
    start = gp.initialise(gp.GP(1.0 * gp.Matern32(1.0)), data)
    assert 0.5 < np.exp(start.kernel.kernel.log_lengthscale) < 4.0
    assert np.exp(start.noise.log_variance) < 0.05
    two = gp.initialise(gp.GP(1.0 * gp.RBF(1.0) + 1.0 * gp.RBF(1.0)), data).kernel
    far, near = (float(np.exp(term.kernel.log_lengthscale)) for term in two.terms)
    assert far > 50 and 0.5 < near < 4.0
    X = rng.uniform(-3, 3, (150, 2))
    y = np.sin(6 * X[:, 0]) * X[:, 1] + 0.1 * rng.normal(size=150)
    assert gp.Predictor.fit(X, y).result.log_likelihood > -130
    assert gp.GPRegressor().fit(X, y).score(X, y) > 0.95
