"""Predictions against the textbook formulas, scikit-learn, refitting and sampling statistics."""

import math

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import BackendError, DTypeError, ShapeError


def textbook(model, data, X):
    """Rasmussen & Williams (2.25), (2.26) with explicit inverses."""
    Z = data.X.points() if isinstance(data.X, gp.Grid) else data.X
    K = model.kernel(Z) + np.diag(model.noise.variances(data.y))
    cross = model.kernel(X, Z)
    inverse = np.linalg.inv(K)
    mean = model.mean(X) + cross @ inverse @ (data.y - model.mean(Z))
    return mean, model.kernel(X, X) - cross @ inverse @ cross.T, inverse


def setups():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(12, 2))
    y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=12)
    grid = gp.Grid(np.linspace(-1, 1, 4), np.linspace(0, 2, 3))
    return {
        "dense": (gp.GP(1.5 * gp.RBF([0.5, 0.8]) + gp.White(0.05), gp.ConstantMean(0.3), 0.1), gp.Data(X, y)),
        "low-rank": (gp.GP(gp.Linear([0.5, 2.0]) + gp.Constant(0.3), noise=0.2), gp.Data(X, y)),
        "fixed-noise": (
            gp.GP(gp.Matern52(0.7), noise=gp.FixedNoise(rng.uniform(0.1, 0.3, 12))),
            gp.Data(X, y),
        ),
        "grid": (
            gp.GP(1.5 * gp.RBF([0.5, 0.8]), gp.ConstantMean(0.3), 0.1),
            gp.Data(grid, rng.normal(size=12)),
        ),
    }


SETUPS = setups()


@pytest.fixture(params=sorted(SETUPS))
def setup(request):
    return SETUPS[request.param]


def test_mean_variance_covariance(setup, rng):
    model, data = setup
    X = rng.normal(size=(5, 2))
    mean, covariance, _ = textbook(model, data, X)
    posterior = gp.Posterior(model, data)
    np.testing.assert_allclose(posterior.mean(X), mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(posterior.covariance(X), covariance, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(posterior.variance(X), np.diagonal(covariance), rtol=1e-8, atol=1e-11)
    assert posterior.jitter == 0.0


def test_noise_is_added_to_observations_only():
    model, data = SETUPS["dense"]
    X = np.zeros((2, 2))
    posterior = gp.Posterior(model, data)
    added = posterior.variance(X, include_noise=True) - posterior.variance(X)
    np.testing.assert_allclose(added, 0.1 + 0.05, rtol=1e-10)
    difference = posterior.covariance(X, include_noise=True) - posterior.covariance(X)
    np.testing.assert_allclose(difference, 0.15 * np.eye(2), atol=1e-12)


def test_blocks_of_test_points_agree(setup, rng, monkeypatch):
    from cola_gp.inference import base

    model, data = setup
    X = rng.normal(size=(9, 2))
    posterior = gp.Posterior(model, data)
    mean, variance = posterior.mean(X), posterior.variance(X)
    monkeypatch.setattr(base, "CHUNK_BYTES", 8 * 12 * 2)
    np.testing.assert_allclose(posterior.mean(X), mean, rtol=1e-12)
    np.testing.assert_allclose(posterior.variance(X), variance, rtol=1e-10, atol=1e-14)


def test_leave_one_out_equals_refitting(setup):
    model, data = setup
    loo = gp.Posterior(model, data).leave_one_out()
    points = data.X.points() if isinstance(data.X, gp.Grid) else data.X
    for i in (0, 5, 11):
        keep = np.arange(12) != i
        noise = model.noise.variances(data.y)
        reduced = gp.GP(model.kernel, model.mean, gp.FixedNoise(noise[keep]))
        posterior = gp.Posterior(reduced, gp.Data(points[keep], data.y[keep]))
        white = model.kernel.diag(points) - model.kernel.cross_diag(points)
        variance = posterior.variance(points[i : i + 1])[0] + white[i] + noise[i]
        mean = posterior.mean(points[i : i + 1])[0]
        assert loo.mean[i] == pytest.approx(mean, rel=1e-8, abs=1e-10)
        assert loo.variance[i] == pytest.approx(variance, rel=1e-8)
        density = -0.5 * ((data.y[i] - mean) ** 2 / variance + math.log(2 * math.pi * variance))
        assert loo.log_density[i] == pytest.approx(density, rel=1e-7, abs=1e-8)


def test_log_predictive_density_is_the_ratio_of_marginal_likelihoods(rng):
    model, data = SETUPS["dense"]
    X = rng.normal(size=(3, 2))
    y = rng.normal(size=3)
    together = gp.Data(np.vstack([data.X, X]), np.concatenate([data.y, y]))
    expected = gp.marginal_likelihood(model, together) - gp.marginal_likelihood(model, data)
    posterior = gp.Posterior(model, data)
    assert float(posterior.log_predictive_density(X, y, joint=True)) == pytest.approx(
        float(expected), rel=1e-9
    )
    one = posterior.log_predictive_density(X[:1], y[:1])
    assert one.shape == (1,)
    assert one[0] == pytest.approx(
        float(posterior.log_predictive_density(X[:1], y[:1], joint=True)), rel=1e-9
    )


def test_sample_moments_and_keys(rng):
    model, data = SETUPS["dense"]
    posterior = gp.Posterior(model, data)
    X = rng.normal(size=(4, 2))
    draws = posterior.sample(X, 20000, key=5)
    assert draws.shape == (20000, 4)
    covariance = posterior.covariance(X)
    error = np.sqrt(np.diagonal(covariance) / 20000)
    assert np.all(np.abs(draws.mean(axis=0) - posterior.mean(X)) < 5 * error)
    spread = np.sqrt((np.outer(np.diagonal(covariance), np.diagonal(covariance)) + covariance**2) / 20000)
    assert np.all(np.abs(np.cov(draws.T) - covariance) < 5 * spread)
    np.testing.assert_array_equal(draws[:2], posterior.sample(X, 20000, key=5)[:2])
    assert not np.allclose(posterior.sample(X, 2, key=1), posterior.sample(X, 2, key=2))


def test_matches_scikit_learn(rng):
    sk = pytest.importorskip("sklearn.gaussian_process", reason="scikit-learn is not installed")
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    X, Z = rng.normal(size=(15, 3)), rng.normal(size=(6, 3))
    y = np.cos(X[:, 1])
    theirs = sk.GaussianProcessRegressor(
        ConstantKernel(0.7) * Matern(0.9, nu=2.5), optimizer=None, alpha=0.05
    )
    theirs.fit(X, y)
    mean, std = theirs.predict(Z, return_std=True)
    _, covariance = theirs.predict(Z, return_cov=True)
    posterior = gp.Posterior(gp.GP(0.7 * gp.Matern52(0.9), noise=0.05), gp.Data(X, y))
    np.testing.assert_allclose(posterior.mean(Z), mean, rtol=1e-10)
    np.testing.assert_allclose(np.sqrt(posterior.variance(Z)), std, rtol=1e-9)
    np.testing.assert_allclose(posterior.covariance(Z), covariance, rtol=1e-8, atol=1e-12)


def test_duplicates_without_noise_take_reported_jitter():
    X = np.repeat(np.linspace(0, 1, 4), 2)[:, None]
    y = np.sin(X[:, 0])
    posterior = gp.Posterior(gp.GP(gp.RBF(0.5), noise=1e-30), gp.Data(X, y))
    assert 0 < posterior.jitter < 1e-6
    np.testing.assert_allclose(posterior.mean(X), y, atol=1e-5)
    assert np.all(posterior.variance(X) >= 0)
    assert np.isfinite(float(gp.marginal_likelihood(posterior.model, posterior.data)))


def test_one_point():
    posterior = gp.Posterior(gp.GP(2.0 * gp.RBF(1.0), noise=0.5), gp.Data(np.zeros((1, 1)), np.array([1.0])))
    assert posterior.mean(np.zeros((1, 1)))[0] == pytest.approx(2.0 / 2.5)
    assert posterior.variance(np.zeros((1, 1)))[0] == pytest.approx(2.0 - 4.0 / 2.5)


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_other_backends_predict_the_same(name, setup, rng):
    library = pytest.importorskip(name, reason=f"{name} is not installed")
    import contextlib

    model, data = setup
    X = rng.normal(size=(5, 2))
    with library.enable_x64(True) if name == "jax" else contextlib.nullcontext():
        convert = library.numpy.asarray if name == "jax" else library.tensor
        inputs = (
            gp.Grid(*(convert(a) for a in data.X.axes)) if isinstance(data.X, gp.Grid) else convert(data.X)
        )
        theirs = gp.Posterior(model, gp.Data(inputs, convert(data.y)))
        ours = gp.Posterior(model, data)
        np.testing.assert_allclose(np.asarray(theirs.mean(convert(X))), ours.mean(X), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            np.asarray(theirs.variance(convert(X))), ours.variance(X), rtol=1e-8, atol=1e-12
        )
        np.testing.assert_allclose(np.asarray(theirs.covariance(convert(X))), ours.covariance(X), atol=1e-10)
        np.testing.assert_allclose(
            np.asarray(theirs.leave_one_out().mean), ours.leave_one_out().mean, rtol=1e-8, atol=1e-10
        )
        assert np.asarray(theirs.sample(convert(X), 3, key=0)).shape == (3, 5)
        with pytest.raises(BackendError, match=f"holds {name} arrays"):
            theirs.mean(X)


def test_float32_variance_is_never_negative(rng):
    X = rng.uniform(size=(60, 1)).astype(np.float32)
    y = np.sin(6 * X[:, 0])
    posterior = gp.Posterior(gp.GP(gp.RBF(0.5), noise=1e-4), gp.Data(X, y))
    variance = posterior.variance(X)
    assert variance.dtype == np.float32
    assert np.all(variance >= 0) and np.all(np.isfinite(variance))
    assert np.max(np.abs(posterior.mean(X) - y)) < 2e-2


def test_grid_inputs_for_prediction():
    model, data = SETUPS["grid"]
    grid = gp.Grid(np.linspace(-1, 1, 3), np.linspace(0, 1, 2))
    posterior = gp.Posterior(model, data)
    np.testing.assert_allclose(posterior.mean(grid), posterior.mean(grid.points()))


def test_bad_input():
    posterior = gp.Posterior(*SETUPS["dense"])
    with pytest.raises(ShapeError, match="X has 3 dimensions"):
        posterior.mean(np.zeros((2, 3)))
    with pytest.raises(DTypeError, match="float32"):
        posterior.mean(np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="FixedNoise knows the noise of the training points only"):
        gp.Posterior(*SETUPS["fixed-noise"]).variance(np.zeros((2, 2)), include_noise=True)


def test_what_it_prints():
    model, data = SETUPS["dense"]
    posterior = gp.Posterior(model, data)
    said = f"Posterior({model!r}, given {data.n} observations in 2 dimensions, by dense Cholesky)"
    assert repr(posterior) == said
    assert repr(gp.Predictor(model, data, gp.Scaling.none(2))) == f"Predictor({said})"
    scaled = gp.Predictor(model, data, gp.Scaling.of(data.X, data.y))
    assert repr(scaled) == f"Predictor({said}, of scaled columns)"
