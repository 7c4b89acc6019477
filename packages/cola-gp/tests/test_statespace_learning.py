"""Draws, forecasts, EM and gradient fits of state-space models against the dense joint Gaussian."""

import numpy as np
import pytest

from cola_core.backends import get_backend
from cola_core.errors import NotPositiveDefiniteError, ShapeError, UnknownNameError
from cola_gp import statespace as ss

NAMES = ("A", "Q", "H", "R", "m0", "P0")


def library(name):
    if name != "numpy":
        pytest.importorskip(name)
    if name == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    return get_backend(name)


def on(be, model):
    return ss.LinearGaussian(*(be.asarray(getattr(model, name)) for name in NAMES))


def model_of(seed, s=2, p=2):
    rng = np.random.default_rng(seed)
    spd = lambda k: np.cov(rng.normal(size=(k, 3 * k + 1)), ddof=0).reshape(k, k) + 0.2 * np.eye(k)  # noqa: E731
    A = rng.normal(size=(s, s))
    A *= 0.8 / np.max(np.abs(np.linalg.eigvals(A)))
    return ss.LinearGaussian(A, spd(s), rng.normal(size=(p, s)), spd(p), rng.normal(size=s), spd(s))


def joint(model, n):
    """Mean and covariance of (states, observations) stacked over n times, from the definition."""
    s = model.states
    rows, mean = [], [model.m0]
    # every state as a linear function of (x_0 - m0, w_0, w_1, ...)
    for k in range(n):
        row = np.zeros((s, n * s))
        if k:
            row = model.A @ rows[-1]
            mean.append(model.A @ mean[-1])
        row[:, k * s : (k + 1) * s] += np.eye(s)
        rows.append(row)
    L = np.concatenate(rows)
    drive = np.kron(np.eye(n), model.Q)
    drive[:s, :s] = model.P0
    H = np.kron(np.eye(n), model.H)
    states, mean = L @ drive @ L.T, np.concatenate(mean)
    both = np.block([[states, states @ H.T], [H @ states, H @ states @ H.T + np.kron(np.eye(n), model.R)]])
    return np.concatenate([mean, H @ mean]), both


def conditioned(mean, cov, of, seen, values):
    gain = np.linalg.solve(cov[np.ix_(seen, seen)], cov[np.ix_(seen, of)]).T
    return mean[of] + gain @ (values - mean[seen]), cov[np.ix_(of, of)] - gain @ cov[np.ix_(seen, of)]


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_samples_have_the_moments_of_the_model(name):
    be = library(name)
    model, n, count = model_of(0), 4, 20000
    x, y = ss.sample(on(be, model), n, key=1, count=count)
    assert tuple(x.shape) == (count, n, 2) and tuple(y.shape) == (count, n, 2)
    drawn = np.concatenate([be.to_numpy(z).reshape(count, -1) for z in (x, y)], axis=1)
    mean, cov = joint(model, n)
    # standard errors of a mean and of a product moment of Gaussians
    assert np.all(np.abs(drawn.mean(axis=0) - mean) < 5 * np.sqrt(np.diag(cov) / count))
    error = np.sqrt((cov**2 + np.outer(np.diag(cov), np.diag(cov))) / count)
    assert np.all(np.abs(np.cov(drawn.T) - cov) < 5 * error)


@pytest.mark.parametrize("form", ["covariance", "sqrt"])
def test_samples_of_the_posterior(form):
    model, n, count = model_of(1), 4, 20000
    y = np.random.default_rng(2).normal(size=(n, 2))
    y[1], y[2, 0] = np.nan, np.nan
    mean, cov = joint(model, n)
    seen = 2 * n + np.flatnonzero(~np.isnan(y.ravel()))
    mean, cov = conditioned(mean, cov, np.arange(2 * n), seen, y[~np.isnan(y)])
    drawn = ss.sample_posterior(model, y, key=3, count=count, form=form).reshape(count, -1)
    assert np.all(np.abs(drawn.mean(axis=0) - mean) < 5 * np.sqrt(np.diag(cov) / count))
    error = np.sqrt((cov**2 + np.outer(np.diag(cov), np.diag(cov))) / count)
    assert np.all(np.abs(np.cov(drawn.T) - cov) < 5 * error)


def test_samples_of_batches_and_of_nothing():
    model = model_of(0)
    many = model.replace(m0=np.stack([model.m0, model.m0 + 100.0]), P0=model.P0[None])
    x, y = ss.sample(many, 3, key=0, count=5)
    assert x.shape == (5, 2, 3, 2)
    assert np.all(x[:, 1, 0].mean(axis=0) - x[:, 0, 0].mean(axis=0) > 50)
    assert ss.sample_posterior(many, y[0], key=0, count=7).shape == (7, 2, 3, 2)
    assert ss.sample(model, 3, key=0, count=0)[0].shape == (0, 3, 2)
    for bad in (
        lambda: ss.sample(model, 0, key=0),
        lambda: ss.sample_posterior(model, y[0, 0], key=0, count=-1),
    ):
        with pytest.raises(ShapeError):
            bad()


@pytest.mark.parametrize("include_noise", [True, False])
def test_forecast(include_noise):
    model, n, steps = model_of(3), 5, 3
    y = np.random.default_rng(4).normal(size=(n, 2))
    y[2, 1] = np.nan
    mean, cov = joint(model, n + steps)
    total = 2 * (n + steps)
    seen = total + np.flatnonzero(~np.isnan(y.ravel()))
    if not include_noise:
        cov[total:, total:] -= np.kron(np.diag([0.0] * n + [1.0] * steps), model.R)
    mean, cov = conditioned(mean, cov, np.arange(total + 2 * n, 2 * total), seen, y[~np.isnan(y)])
    got = ss.forecast(model, y, steps, include_noise=include_noise)
    np.testing.assert_allclose(got.mean, mean.reshape(steps, 2), rtol=1e-9)
    np.testing.assert_allclose(
        got.covariance, [cov[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] for k in range(3)], rtol=1e-8
    )
    with pytest.raises(ShapeError, match="steps"):
        ss.forecast(model, y, 0)


def test_forecast_of_what_changes_with_time():
    model = model_of(3)
    H = np.random.default_rng(0).normal(size=(7, 2, 2))
    y = np.random.default_rng(1).normal(size=(5, 2))
    whole = ss.kalman_filter(model.replace(H=H), np.concatenate([y, np.full((2, 2), np.nan)]))
    got = ss.forecast(model.replace(H=H), y, 2)
    np.testing.assert_allclose(got.mean, np.einsum("kij,kj->ki", H[5:], whole.mean[5:]), rtol=1e-10)


def data_with_holes(model, n=60, series=2):
    y = ss.sample(model, n, key=5, count=series)[1]
    hidden = np.random.default_rng(6).uniform(size=y.shape) < 0.25
    return np.where(hidden, np.nan, y)


@pytest.mark.parametrize("diagonal", [(), ("Q", "R")])
def test_em_climbs_to_where_the_gradient_vanishes(diagonal):
    """With correlated noise and components missing, which a step that leaves them out would get wrong."""
    truth = model_of(7)
    y = data_with_holes(truth)
    learn = ("Q", "R", "m0", "P0", "H")
    start = truth.replace(Q=np.eye(2), R=np.eye(2), P0=np.eye(2), m0=np.zeros(2))
    result = ss.em(start, y, learn=learn, diagonal=diagonal, max_iters=600, tol=1e-10)
    assert np.all(np.diff(result.history) >= 0) and result.log_likelihood == result.history[-1]
    value, gradient = ss.value_and_gradient(result.model, y)
    np.testing.assert_allclose(np.sum(value), result.log_likelihood, rtol=1e-12)
    for name in learn:
        got, size = getattr(gradient, name), getattr(result.model, name)
        got = np.diagonal(got) if name in diagonal else got
        size = np.diagonal(size) if name in diagonal else size
        # along changes of the parameter in proportion; P0 of two series ends near a singular matrix
        if name != "P0":
            assert np.max(np.abs(got * size)) < 0.2, name
    for name in diagonal:
        assert np.count_nonzero(getattr(result.model, name)) == 2


def test_one_step_of_em_against_its_definition():
    """Differences of E[log p(x, y)] by every parameter vanish at the answer; moments from the dense joint."""
    model, n = model_of(8), 4
    y = np.random.default_rng(9).normal(size=(n, 2))
    y[1, 0], y[2] = np.nan, np.nan
    after, value = ss.em_step(model, y, learn=NAMES)
    mean, cov = joint(model, n)
    seen = 2 * n + np.flatnonzero(~np.isnan(y.ravel()))
    m, C = conditioned(mean, cov, np.arange(4 * n), seen, y[~np.isnan(y)])
    np.testing.assert_allclose(value, ss.log_likelihood(model, y), rtol=1e-12)

    def expected(parameters):
        prior_mean, prior_cov = joint(parameters, n)
        prior_cov = prior_cov + 0.0
        gap = m - prior_mean
        second = C + np.outer(gap, gap)
        return -0.5 * np.sum(np.linalg.inv(prior_cov) * second) - 0.5 * np.linalg.slogdet(prior_cov)[1]

    best = expected(after)
    for name in NAMES:
        value = getattr(after, name)
        for index in np.ndindex(value.shape):
            step = np.zeros_like(value)
            step[index] = 1e-4
            if name in ("Q", "R", "P0"):
                step = (step + step.T) / 2
            high, low = (expected(after.replace(**{name: value + sign * step})) for sign in (1, -1))
            assert abs(high - low) < 1e-7 * max(1.0, abs(best)), name
            assert high < best and low < best


def test_em_step_on_torch():
    """The conformance kit has the step on JAX."""
    be = library("torch")
    model = model_of(7)
    y = data_with_holes(model, 8)
    want = ss.em_step(model, y)
    got = ss.em_step(on(be, model), be.asarray(y))
    for field in NAMES:
        np.testing.assert_allclose(
            be.to_numpy(getattr(got.model, field)), getattr(want.model, field), rtol=1e-9
        )


def test_gradient_fit_goes_on_from_em():
    truth = model_of(7)
    y = data_with_holes(truth)
    start = truth.replace(Q=np.diag([1.0, 0.0]), R=np.eye(2))
    rough = ss.em(start, y, learn=("A", "Q", "R"), diagonal=("R",), max_iters=15)
    assert not rough.converged and rough.iterations == 15 and "limit" in rough.reason
    result = ss.gradient_fit(rough.model, y, learn=("A", "Q", "R"), diagonal=("R",))
    assert result.converged and result.log_likelihood > rough.log_likelihood
    assert result.model.R[0, 1] == 0.0
    far = ss.em(rough.model, y, learn=("A", "Q", "R"), diagonal=("R",), max_iters=400, tol=1e-9)
    assert result.log_likelihood > far.log_likelihood - 0.05
    idle = ss.gradient_fit(rough.model, y, learn=())
    assert idle.converged and idle.reason == "nothing was varied"
    singular = ss.gradient_fit(start, y, learn=("Q",), max_iters=20)
    assert singular.log_likelihood > singular.history[0]


def test_what_cannot_be_learned():
    model = model_of(0)
    y = np.zeros((4, 2))
    with pytest.raises(UnknownNameError, match="unknown parameter 'B'"):
        ss.em(model, y, learn=("B",))
    with pytest.raises(UnknownNameError, match="A is no covariance"):
        ss.gradient_fit(model, y, diagonal=("A",))
    with pytest.raises(ShapeError, match="changes with time"):
        ss.em(model.replace(H=np.ones((4, 2, 2))), y, learn=("H",))
    with pytest.raises(ShapeError, match="fit it by gradient"):
        ss.em(model.replace(Q=np.stack([np.eye(2)] * 3)), y, learn=("A",))
    for fit in (ss.em, ss.gradient_fit):
        with pytest.raises(ValueError, match="max_iters"):
            fit(model, y, max_iters=-1)
        with pytest.raises(NotPositiveDefiniteError):
            fit(model.replace(R=np.zeros((2, 2)), P0=np.zeros((2, 2))), y, learn=("A",), method="sequential")
    seen = []
    ss.em(
        model, data_with_holes(model), max_iters=2, tol=0.0, callback=lambda k, value: seen.append((k, value))
    )
    assert [k for k, _ in seen] == [0, 1, 2]


def test_parameters_that_change_with_time_beside_learned_ones():
    """A regression with drifting weights: H holds the inputs; Q and R are learned."""
    rng = np.random.default_rng(0)
    n = 80
    H = np.stack([np.ones(n), np.linspace(-1, 1, n)], axis=1)[:, None, :]
    weights = np.cumsum(0.1 * rng.normal(size=(n, 2)), axis=0)
    y = np.sum(H[:, 0] * weights, axis=1) + 0.2 * rng.normal(size=n)
    model = ss.LinearGaussian(np.eye(2), np.eye(2), H, [[1.0]], np.zeros(2), np.eye(2))
    result = ss.em(model, y, learn=("Q", "R"), diagonal=("Q",), max_iters=50)
    assert np.all(np.diff(result.history) >= 0)
    assert 0.01 < result.model.R[0, 0] < 0.2
