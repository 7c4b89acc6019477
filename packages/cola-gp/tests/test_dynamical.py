"""LinearDynamicalSystem: fits, forecasts, missing values, several series, files."""

import copy
import warnings

import numpy as np
import pytest

from cola_core.errors import ConvergenceWarning, FileFormatError, UnknownNameError
from cola_gp import LinearDynamicalSystem, statespace
from cola_gp.estimators.base import NotFittedError


def oscillator(n=150, seed=0, p=2):
    """A damped rotation driven by noise, seen through p combinations, in units far from one."""
    angle = 0.3
    A = 0.98 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    H = 50.0 * np.array([[1.0, 0.0], [0.5, -1.0], [1.0, 1.0]])[:p]
    model = statespace.LinearGaussian(A, 0.05 * np.eye(2), H, 25.0 * np.eye(p), np.ones(2), np.eye(2))
    return model, 1000.0 + statespace.sample(model, n, key=seed)[1][0]


def test_recovers_a_system():
    truth, X = oscillator(400)
    system = LinearDynamicalSystem(states=2).fit(X)
    assert system.fit_result_.converged
    own = float(statespace.log_likelihood(truth, X - 1000.0))
    assert system.log_likelihood_ > own - 1.0  # at least as likely as what made the data
    got, want = (np.sort_complex(np.linalg.eigvals(m.A)) for m in (system.model_, truth))
    np.testing.assert_allclose(got, want, atol=0.05)
    # one-step predictions are as good as their own standard deviations say
    mean, std = system.predict(X, return_std=True)
    assert 0.85 < np.sqrt(np.mean(((X - mean)[5:] / std[5:]) ** 2)) < 1.15


@pytest.mark.parametrize("optimizer", ["em", "em+gradient"])
def test_optimizers_agree(optimizer):
    _, X = oscillator(100)
    system = LinearDynamicalSystem(optimizer=optimizer, tol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        system.fit(X)
    best = LinearDynamicalSystem().fit(X).log_likelihood_
    assert abs(system.log_likelihood_ - best) < 0.1
    assert np.all(np.diff(system.fit_result_.history) >= -1e-9)
    assert np.count_nonzero(system.model_.R) == 2  # diagonal, as asked for


def test_missing_values_are_filled_in():
    _, X = oscillator()
    holes = X.copy()
    holes[40:50, 0] = np.nan
    holes[100:103] = np.nan
    system = LinearDynamicalSystem().fit(holes)
    filled, std = system.reconstruct(holes, return_std=True)
    assert filled.shape == X.shape and np.all(np.isfinite(filled))
    # 5 is the noise of the truth that the reconstruction cannot know
    assert np.all(np.abs(filled - X)[40:50, 0] < 4 * np.hypot(std[40:50, 0], 5.0))
    assert std[101, 0] > 1.5 * std[60, 0]
    assert system.transform(holes).shape == (150, 2)
    assert system.fit_transform(holes).shape == (150, 2)


def test_forecast_and_draws():
    truth, X = oscillator(200)
    system = LinearDynamicalSystem().fit(X[:180])
    mean, std = system.forecast(X[:180], 20, return_std=True)
    assert mean.shape == std.shape == (20, 2)
    assert np.mean(np.abs(X[180:] - mean) < 2 * std) > 0.8
    assert std[-1, 0] > std[0, 0]
    np.testing.assert_allclose(mean[0], system.predict(X[:181])[180], rtol=1e-9)
    Y, states = system.sample(300, count=4, random_state=1)
    assert Y.shape == (4, 300, 2) and states.shape == (4, 300, 2)
    assert 0.5 < np.std(Y) / np.std(X) < 2.0
    smooth, cov = system.smooth(X)
    drawn = system.sample_states(X, 400)
    error = np.sqrt(np.diagonal(cov, axis1=1, axis2=2) / 400)
    assert np.all(np.abs(drawn.mean(axis=0) - smooth) < 6 * error)


def test_several_series():
    truth, X = oscillator(120, seed=1)
    Y = oscillator(120, seed=2)[1]
    both = LinearDynamicalSystem().fit(np.stack([X, Y]))
    assert both.smooth(np.stack([X, Y]))[0].shape == (2, 120, 2)
    alone = both.log_likelihood(X) + both.log_likelihood(Y)
    np.testing.assert_allclose(both.log_likelihood_, alone, rtol=1e-12)
    ragged = [X, Y[:70]]
    np.testing.assert_allclose(
        both.log_likelihood(ragged), both.log_likelihood(X) + both.log_likelihood(Y[:70]), rtol=1e-12
    )
    mean, cov = both.filter(ragged)
    assert [len(m) for m in mean] == [120, 70] and cov[1].shape == (70, 2, 2)
    ahead = both.forecast(ragged, 3)
    np.testing.assert_allclose(ahead[1], both.forecast(Y[:70], 3), rtol=1e-9)
    np.testing.assert_allclose(both.predict(ragged)[1], both.predict(Y[:70]), rtol=1e-9)
    with pytest.raises(ValueError, match="use one"):
        both.log_likelihood([X[:, 0], Y[:70, 0]])
    assert both.log_likelihood(X[:3].tolist()) == both.log_likelihood(X[:3])  # a list of rows
    with pytest.raises(ValueError, match="one by one"):
        both.sample_states(ragged)


def test_given_model_and_what_of_it_is_learned():
    """A local linear trend: A and H are known, the variances are not."""
    rng = np.random.default_rng(0)
    X = np.cumsum(np.cumsum(0.05 * rng.normal(size=200))) + 0.5 * rng.normal(size=200)
    trend = statespace.LinearGaussian(
        [[1.0, 1.0], [0.0, 1.0]], np.diag([1e-6, 1.0]), [[1.0, 0.0]], [[1.0]], [0.0, 0.0], 10.0 * np.eye(2)
    )
    system = LinearDynamicalSystem(model=trend, learn=("Q", "R"), diagonal=("Q", "R")).fit(X)
    np.testing.assert_array_equal(system.model_.A, trend.A)
    np.testing.assert_array_equal(system.offset_, [0.0])
    assert 0.3 < np.sqrt(system.model_.R[0, 0]) < 0.7
    assert 0.02 < np.sqrt(system.model_.Q[1, 1]) < 0.12
    fixed = LinearDynamicalSystem(model=trend, optimizer=None).fit(X)
    assert fixed.fit_result_.reason == "nothing was learned"
    np.testing.assert_array_equal(fixed.model_.Q, trend.Q)
    assert system.score(X) > fixed.score(X)


@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_units_do_not_matter(scale):
    _, X = oscillator(80)
    one = LinearDynamicalSystem().fit(X)
    other = LinearDynamicalSystem().fit(scale * X)
    np.testing.assert_allclose(other.predict(scale * X) / scale, one.predict(X), rtol=1e-6)


@pytest.mark.parametrize(
    "X", [np.ones(30), np.array([1.0]), np.array([np.nan, 1.0, 2.0]), np.full((5, 2), np.nan)]
)
def test_hardly_any_data(X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        system = LinearDynamicalSystem(states=3).fit(X)
    assert np.all(np.isfinite(system.forecast(X, 2)))


def test_more_states_than_the_data_tell_apart():
    _, X = oscillator(50, p=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        few, many = (LinearDynamicalSystem(states=k).fit(X).log_likelihood_ for k in (2, 4))
    assert many > few - 1.0


def test_files(tmp_path):
    _, X = oscillator(60)
    system = LinearDynamicalSystem().fit(X)
    system.save(tmp_path / "system.npz")
    back = LinearDynamicalSystem.load(tmp_path / "system.npz")
    np.testing.assert_array_equal(back.smooth(X)[0], system.smooth(X)[0])
    assert back.log_likelihood_ == system.log_likelihood_
    statespace_only = tmp_path / "other.npz"
    from cola_gp import storage

    storage.save(statespace_only, {"model": system.model_})
    with pytest.raises(FileFormatError, match="no linear dynamical system"):
        LinearDynamicalSystem.load(statespace_only)


def test_interface():
    _, X = oscillator(60)
    system = LinearDynamicalSystem(states=2, max_iters=1)
    with pytest.raises(NotFittedError):
        system.predict(X)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        system.fit(X)
    assert system.get_params()["max_iters"] == 1
    assert copy.deepcopy(system).score(X) == system.score(X)
    with pytest.raises(ValueError, match="3 columns"):
        system.predict(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="infinity"):
        system.predict(np.full((4, 2), np.inf))
    with pytest.raises(ValueError, match="X must be one series"):
        system.fit(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="states must be"):
        LinearDynamicalSystem(states=0).fit(X)
    with pytest.raises(UnknownNameError, match="unknown optimizer"):
        LinearDynamicalSystem(optimizer="adam").fit(X)
    with pytest.raises(ValueError, match="observes 1 values"):
        model = statespace.LinearGaussian([[1.0]], [[1.0]], [[1.0]], [[1.0]], [0.0], [[1.0]])
        LinearDynamicalSystem(model=model).fit(X)


def test_within_scikit_learn():
    pytest.importorskip("sklearn")
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _, X = oscillator(80)
    system = clone(LinearDynamicalSystem(states=2))
    assert make_pipeline(StandardScaler(), system).fit_transform(X).shape == (80, 2)
