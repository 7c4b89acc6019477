"""Bayesian linear regression by LQ: functions and estimator, against dense formulas and scikit-learn."""

import math
import pickle
import warnings

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import ConvergenceWarning, ShapeError


def dense_evidence(X, y, a, b):
    """``log N(y; 0, I/b + X diag(1/a) X^T)``, written out."""
    K = np.eye(len(y)) / b + (X / a) @ X.T
    quadratic = y @ np.linalg.solve(K, y)
    return -0.5 * (quadratic + np.linalg.slogdet(K)[1] + len(y) * math.log(2 * math.pi))


def problem(rng, n=25, d=4, noise=0.3):
    X = rng.normal(size=(n, d)) * np.arange(1, d + 1)
    return X, X @ rng.normal(size=d) + noise * rng.normal(size=n)


@pytest.mark.parametrize("n", [0, 1, 3, 25])
def test_posterior_is_the_dense_one(rng, n):
    X, y = problem(rng, n)
    a, b = np.array([0.5, 1.0, 2.0, 9.0]), 3.0
    found = gp.linear_posterior(X, y, a, b)
    precision = b * X.T @ X + np.diag(a)
    np.testing.assert_allclose(found.factor @ found.factor.T, precision, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.mean, np.linalg.solve(precision, b * X.T @ y), rtol=1e-9)
    assert float(found.log_evidence) == pytest.approx(dense_evidence(X, y, a, b), rel=1e-10)
    Z = rng.normal(size=(5, 4))
    covariance = Z @ np.linalg.inv(precision) @ Z.T
    np.testing.assert_allclose(found.covariance(Z), covariance, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(found.variance(Z), covariance.diagonal(), rtol=1e-9)
    np.testing.assert_array_equal(found.predict(Z), Z @ found.mean)


def test_bad_input_is_named(rng):
    X, y = problem(rng)
    with pytest.raises(ShapeError, match=r"shape \(25, 4\) and y .*\(24,\)"):
        gp.linear_posterior(X, y[1:], 1.0, 1.0)
    with pytest.raises(ShapeError, match=r"\(4,\)"):
        gp.linear_posterior(X, y, np.ones(3), 1.0)
    with pytest.raises(ValueError, match="noise_precision must be positive"):
        gp.linear_posterior(X, y, 1.0, 0.0)


def test_float32_at_a_condition_where_normal_equations_fail(rng):
    # condition 1e5: its square is beyond float32
    U, _ = np.linalg.qr(rng.normal(size=(60, 3)))
    X = U * [1.0, 1e-2, 1e-5]
    w = np.array([1.0, -2.0, 3.0])
    y = X @ w
    exact = gp.linear_posterior(X, y, 1e-12, 1.0).mean
    single = gp.linear_posterior(X.astype(np.float32), y.astype(np.float32), 1e-12, 1.0)
    assert single.mean.dtype == np.float32
    np.testing.assert_allclose(single.mean, exact, rtol=0.05)


def test_derivatives_on_torch_and_jax(rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    X, y = problem(rng, 9, 3)
    a, b = np.array([0.5, 1.0, 2.0]), 3.0
    step = 1e-6
    want = [
        (dense_evidence(X, y, a * np.exp(step * e), b) - dense_evidence(X, y, a * np.exp(-step * e), b))
        / (2 * step)
        for e in np.eye(3)
    ]
    log_a = torch.tensor(np.log(a), requires_grad=True)
    value = gp.linear_evidence(torch.tensor(X), torch.tensor(y), log_a.exp(), torch.tensor(b))
    value.backward()
    np.testing.assert_allclose(log_a.grad.numpy(), want, rtol=1e-6)
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with jax.enable_x64(True):
        Xj, yj = jax.numpy.asarray(X), jax.numpy.asarray(y)
        slope = jax.jit(jax.grad(lambda t: gp.linear_evidence(Xj, yj, jax.numpy.exp(t), jax.numpy.exp(1.0))))
        plain = gp.linear_evidence(X, y, a, math.e)
        found = slope(jax.numpy.log(jax.numpy.asarray(a)))
        up = gp.linear_evidence(X, y, a * np.exp([step, 0, 0]), math.e)
        assert float(found[0]) == pytest.approx((float(up) - float(plain)) / step, rel=1e-4)


# -- the estimator ----------------------------------------------------------------------------------


def weight_precision(model):
    """In the units of the data."""
    return model.weight_precision_ / model._y_unit**2


@pytest.mark.parametrize("shape", [(40, 5, 0.3), (12, 30, 30.0)])
def test_evidence_is_maximal_and_exact(shape):
    rng = np.random.default_rng(2)
    X, y = problem(rng, *shape)
    model = gp.BayesianLinearRegressor(fit_intercept=False, scale=False).fit(X, y)
    a, b = weight_precision(model), 1 / model.noise_variance_
    top = dense_evidence(X, y, a, b)
    assert model.log_evidence_ == pytest.approx(top, rel=1e-9) and not model.at_bounds_
    for factor in (0.98, 1.02):
        assert dense_evidence(X, y, a * factor, b) < top > dense_evidence(X, y, a, b * factor)
    direct = gp.linear_posterior(X, y, a, b)
    np.testing.assert_allclose(model.coef_, direct.mean, rtol=1e-7, atol=1e-10)
    Z = rng.normal(size=(6, shape[1]))
    mean, covariance = model.predict(Z, return_cov=True)
    np.testing.assert_allclose(covariance, direct.covariance(Z), rtol=1e-7, atol=1e-12)
    _, std = model.predict(Z, return_std=True, include_noise=True)
    np.testing.assert_allclose(std**2, covariance.diagonal() + model.noise_variance_, rtol=1e-10)
    np.testing.assert_allclose(Z @ model.covariance_ @ Z.T, covariance, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(mean, Z @ model.coef_, rtol=1e-12)
    determined = shape[1] - a * np.trace(np.linalg.inv(b * X.T @ X + a * np.eye(shape[1])))
    assert model.effective_parameters_ == pytest.approx(determined, rel=1e-6)


def test_an_exact_fit_is_a_limit_and_said_to_be_one(rng):
    X = rng.normal(size=(30, 3))
    model = gp.BayesianLinearRegressor(fit_intercept=False).fit(X, X @ rng.normal(size=3))
    assert model.at_bounds_ and model.noise_variance_ < 1e-6
    assert not gp.BayesianLinearRegressor().fit(*problem(rng)).at_bounds_


def test_scikit_learn_finds_the_same(rng):
    sklearn = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    X, y = problem(rng, 60, 6)
    ours = gp.BayesianLinearRegressor(fit_intercept=False, scale=False).fit(X, y)
    # without hyperpriors its fixed point is the maximum of the evidence
    none = {"alpha_1": 0, "alpha_2": 0, "lambda_1": 0, "lambda_2": 0}
    theirs = sklearn.BayesianRidge(
        fit_intercept=False, tol=1e-13, max_iter=5000, compute_score=True, **none
    ).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-8)
    np.testing.assert_allclose(ours.covariance_, theirs.sigma_, rtol=1e-6, atol=1e-12)
    assert 1 / ours.noise_variance_ == pytest.approx(theirs.alpha_, rel=1e-6)
    assert ours.log_evidence_ == pytest.approx(theirs.scores_[-1], rel=1e-9)
    _, std = ours.predict(X, return_std=True, include_noise=True)
    np.testing.assert_allclose(std, theirs.predict(X, return_std=True)[1], rtol=1e-6)


def test_intercept_is_integrated_out(rng):
    """A flat prior is the limit of a wide one: the n - 1 contrasts of the targets, and wider predictions."""
    X, y = problem(rng, 15, 2)
    model = gp.BayesianLinearRegressor(scale=False).fit(X, y + 7.0)
    a, b = weight_precision(model), 1 / model.noise_variance_
    contrasts = np.linalg.qr(np.column_stack([np.ones(15), np.eye(15)[:, 1:]]))[0][:, 1:].T
    assert model.log_evidence_ == pytest.approx(dense_evidence(contrasts @ X, contrasts @ y, a, b), rel=1e-9)
    wide = gp.linear_posterior(np.column_stack([np.ones(15), X]), y + 7.0, np.array([1e-9, a, a]), b)
    Z = rng.normal(size=(4, 2))
    mean, std = model.predict(Z, return_std=True)
    augmented = np.column_stack([np.ones(4), Z])
    np.testing.assert_allclose(mean, wide.predict(augmented), rtol=1e-6)
    np.testing.assert_allclose(std**2, wide.variance(augmented), rtol=1e-6)


@pytest.mark.parametrize("shape", [(50, 6), (10, 20)])
def test_relevance_determination_switches_inputs_off(rng, shape):
    n, d = shape
    X = rng.normal(size=shape)
    y = 2.0 * X[:, 1] - X[:, 3] + 0.05 * rng.normal(size=n)
    model = gp.BayesianLinearRegressor(ard=True, fit_intercept=False, scale=False).fit(X, y)
    common = gp.BayesianLinearRegressor(fit_intercept=False, scale=False).fit(X, y)
    a, b = weight_precision(model), 1 / model.noise_variance_
    assert model.log_evidence_ == pytest.approx(dense_evidence(X, y, a, b), rel=1e-8)
    assert model.log_evidence_ > common.log_evidence_ + 2
    np.testing.assert_allclose(model.coef_[[1, 3]], [2.0, -1.0], atol=0.15)
    others = np.delete(model.coef_, [1, 3])
    assert np.linalg.norm(others) < np.linalg.norm(np.delete(common.coef_, [1, 3]))
    assert 1.9 < model.effective_parameters_ < n
    assert model.predict(X[:3], return_cov=True)[1].shape == (3, 3)
    gradient = model_gradient(X, y, a, b)
    inside = np.log(a) < np.log(a).min() + 19
    assert np.max(np.abs(gradient[:-1][inside])) < 1e-3 and abs(gradient[-1]) < 1e-3


def model_gradient(X, y, a, b):
    """Of the dense evidence, by central differences in the logarithms."""
    theta, step = np.log(np.append(a, b)), 1e-5

    def value(t):
        return dense_evidence(X, y, np.exp(t[:-1]), np.exp(t[-1]))

    slopes = [value(theta + step * e) - value(theta - step * e) for e in np.eye(len(theta))]
    return np.array(slopes) / (2 * step)


def test_unfinished_relevance_determination_is_reported(rng):
    X, y = problem(rng)
    with pytest.warns(ConvergenceWarning, match="raise max_iters"):
        gp.BayesianLinearRegressor(ard=True, max_iters=1).fit(X, y)


@pytest.mark.parametrize("ard", [False, True])
@pytest.mark.parametrize(
    ("X", "y"),
    [
        (np.ones((1, 2)), np.array([3.0])),
        (np.ones((6, 2)), np.arange(6.0)),
        (np.arange(6.0)[:, None], np.full(6, 5.0)),
        (np.zeros((4, 1)), np.zeros(4)),
        (np.column_stack([np.arange(8.0)] * 2), np.arange(8.0) ** 2),
        (1e150 * np.arange(8.0)[:, None], 1e150 * np.sin(np.arange(8.0))),
        (1e-150 * np.arange(8.0)[:, None], 1e-150 * np.sin(np.arange(8.0))),
    ],
    ids=["one row", "constant inputs", "constant targets", "zeros", "duplicate columns", "huge", "tiny"],
)
def test_degenerate_data(ard, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = gp.BayesianLinearRegressor(ard=ard).fit(X, y)
        mean, std = model.predict(X, return_std=True)
    assert np.all(np.isfinite(mean)) and np.all(np.isfinite(std))
    slack = max(1e-6 * np.abs(y).max(), 2 * y.std())
    assert np.max(np.abs(mean - y)) <= slack


def test_units_do_not_matter(rng):
    X, y = problem(rng)
    one = gp.BayesianLinearRegressor().fit(X, y)
    other = gp.BayesianLinearRegressor().fit(X * 1e3 + 5.0, 1e-4 * y - 2.0)
    np.testing.assert_allclose(other.predict(X * 1e3 + 5.0), 1e-4 * one.predict(X) - 2.0, rtol=1e-8)
    assert other.log_evidence_ == pytest.approx(one.log_evidence_ - 24 * math.log(1e-4), rel=1e-9)
    for a, b in ((1e200, 1e-200), (1e-200, 1e200)):  # weights of 1e-400 and 1e400, which are no numbers
        with np.errstate(all="ignore"):
            far = gp.BayesianLinearRegressor().fit(a * X, b * y)
        found = np.stack(far.predict(a * X, return_std=True)) / b
        np.testing.assert_allclose(found, np.stack(one.predict(X, return_std=True)), rtol=1e-8, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"ard": True}])
def test_scikit_learn_accepts_the_estimator(options):
    checks = pytest.importorskip("sklearn.utils.estimator_checks", reason="scikit-learn is not installed")
    results = checks.check_estimator(gp.BayesianLinearRegressor(**options), on_fail=None)
    assert not [(r["check_name"], repr(r["exception"])) for r in results if r["status"] == "failed"]
    assert sum(r["status"] == "passed" for r in results) > 40


def test_pipeline_grid_search_and_pickle(rng):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    X = rng.uniform(-2, 2, (40, 1))
    y = X[:, 0] ** 3 - X[:, 0] + 0.1 * rng.normal(size=40)
    pipeline = make_pipeline(PolynomialFeatures(include_bias=False), gp.BayesianLinearRegressor())
    grid = {"polynomialfeatures__degree": [1, 3], "bayesianlinearregressor__ard": [False, True]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.best_params_["polynomialfeatures__degree"] == 3 and search.best_score_ > 0.95
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict(X), search.predict(X))
