"""Whatever the data look like, a fit ends with finite predictions, or with an error that names the reason."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cola_gp as gp
from cola_core.errors import NonFiniteError, ShapeError, UnreliableResultWarning

KERNELS = {
    "rbf": lambda d: 1.0 * gp.RBF(np.ones(d)),
    "matern": lambda d: 1.0 * gp.Matern32(1.0) + gp.White(0.1),
    "linear": lambda d: gp.Linear(1.0) + gp.Constant(1.0),
    "periodic": lambda d: 1.0 * gp.Periodic(1.0, 1.0) * gp.RationalQuadratic(1.0, 1.0),
}


def inputs(kind, rng, n, d):
    X = rng.normal(size=(n, d))
    if kind == "duplicates":
        return X[rng.integers(0, max(1, n // 3), n)]
    if kind == "constant":
        return np.full((n, d), rng.normal())
    if kind == "integers":
        return rng.integers(0, 3, (n, d)).astype(float)
    if kind == "outlier":
        X[0] *= 1e8
    return X + 1e8 if kind == "offset" else X


def targets(kind, rng, X):
    y = rng.normal(size=len(X))
    if kind == "constant":
        y[:] = y[0]
    elif kind == "zero":
        y[:] = 0.0
    elif kind == "smooth":
        y = np.sin(X[:, 0])
    elif kind == "outlier":
        y[0] = 1e6
    elif kind == "offset":
        y += 1e10
    return y


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    n=st.sampled_from([1, 2, 3, 7, 25]),
    d=st.integers(1, 3),
    kernel=st.sampled_from(sorted(KERNELS)),
    x_kind=st.sampled_from(["plain", "duplicates", "constant", "integers", "outlier", "offset"]),
    y_kind=st.sampled_from(["plain", "constant", "zero", "smooth", "outlier", "offset"]),
    exponents=st.tuples(st.integers(-150, 140), st.integers(-150, 140)),
    single=st.booleans(),
)
def test_any_data(seed, n, d, kernel, x_kind, y_kind, exponents, single):
    rng = np.random.default_rng(seed)
    X = inputs(x_kind, rng, n, d)
    y = targets(y_kind, rng, X)
    # Single precision has a tenth of the exponents; what it holds is scaled in double precision.
    a, b = (e // 10 for e in exponents) if single else exponents
    dtype = np.float32 if single else np.float64
    X, y = (10.0**a * X).astype(dtype), (10.0**b * y).astype(dtype)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        predictor = gp.Predictor.fit(X, y, gp.GP(KERNELS[kernel](d), noise=0.1), max_iters=25)
        mean, variance = predictor.mean(X), predictor.variance(X, include_noise=True)
        draws, left_out = predictor.sample(X, 2), predictor.leave_one_out()
    span = max(np.ptp(y), 1e-3 * np.abs(y).max())
    assert np.all(np.isfinite(variance)) and np.all(variance >= 0)
    assert np.all(np.isfinite(draws)) and np.all(np.isfinite(left_out.mean))
    assert np.all(mean >= y.min() - 3 * span) and np.all(mean <= y.max() + 3 * span)
    result = predictor.result
    assert result.failures < result.evaluations and result.reason
    assert result.log_likelihood == pytest.approx(max(run.log_likelihood for run in result.runs), rel=1e-9)


@pytest.mark.parametrize("y_value", [0.0, 3.0, -1e-9, 1e12])
def test_constant_targets(y_value):
    X = np.arange(10.0)[:, None]
    for n in (10, 1):
        with pytest.warns(
            UnreliableResultWarning, match=f"all targets .{n}. are .* standard deviations mean"
        ):
            predictor = gp.Predictor.fit(X[:n], np.full(n, y_value))
        np.testing.assert_allclose(predictor.mean(X + 0.3), y_value, rtol=1e-9, atol=1e-12)
        assert np.all(np.sqrt(predictor.variance(X)) < 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        believed = gp.GPRegressor(gp.RBF(1.0), noise=1e-4, optimize=False).fit(X, np.full(10, y_value))
    assert believed.predict(X[:1] + 100.0, return_std=True)[1] == pytest.approx(1.0)


def test_duplicates_are_averaged():
    """Repeated inputs with noise: the same posterior as their mean with a smaller noise."""
    X, y = np.array([[0.0], [0.0], [0.0], [1.0]]), np.array([1.0, 2.0, 3.0, 0.0])
    kernel = gp.RBF(1.0)
    repeated = gp.Posterior(gp.GP(kernel, noise=0.3), gp.Data(X, y))
    merged = gp.Posterior(
        gp.GP(kernel, noise=gp.FixedNoise(np.array([0.1, 0.3]))),
        gp.Data(np.array([[0.0], [1.0]]), np.array([2.0, 0.0])),
    )
    Z = np.linspace(-1, 2, 7)[:, None]
    np.testing.assert_allclose(repeated.mean(Z), merged.mean(Z), rtol=1e-12)
    np.testing.assert_allclose(repeated.variance(Z), merged.variance(Z), rtol=1e-11)


def test_noiseless_duplicates_get_relative_jitter_that_is_reported():
    for unit in (1e-100, 1.0, 1e100):
        X = np.repeat(np.linspace(0, 1, 15), 2)[:, None]
        y = unit * np.sin(X[:, 0])
        model = gp.GP(gp.Scale(gp.RBF(1.0), unit**2), noise=1e-30 * unit**2)
        posterior = gp.Posterior(model, gp.Data(X, y))
        assert 0 < posterior.jitter <= 1e-7 * unit**2
        np.testing.assert_allclose(posterior.mean(X), y, atol=1e-5 * unit)
        result = gp.fit(model, gp.Data(X, y), fixed="*")
        assert result.jitter == posterior.jitter and "jitter" in result.summary()


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_missing_rows_are_refused_or_dropped(rng, library):
    make = np.asarray
    if library == "torch":
        make = pytest.importorskip("torch", reason="torch is not installed").tensor
    elif library == "jax":
        make = pytest.importorskip("jax.numpy", reason="jax is not installed").asarray
    X, y = rng.normal(size=(12, 2)), rng.normal(size=12)
    X[3, 1] = y[5] = y[7] = np.nan
    complete = gp.drop_missing(make(X), make(y))
    assert complete.dropped == 3 and type(complete.X) is type(make(X))
    np.testing.assert_allclose(np.asarray(complete.X), X[complete.kept], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(complete.y), y[complete.kept], rtol=1e-6)
    with pytest.raises(NonFiniteError, match="1 NaN or infinite"):
        gp.Data(make(X), make(np.zeros(12)))


def test_missing_policy_of_predictor_and_regressor(rng):
    X = rng.uniform(0, 6, (30, 1))
    y = np.sin(X[:, 0])
    Xm, ym = X.copy(), y.copy()
    Xm[2], ym[[4, 9]] = np.nan, np.nan
    kept = np.setdiff1d(np.arange(30), [2, 4, 9])
    want = gp.Predictor.fit(X[kept], y[kept])
    got = gp.Predictor.fit(Xm, ym, missing="drop")
    assert (want.dropped, got.dropped) == (0, 3)
    np.testing.assert_array_equal(got.mean(X), want.mean(X))
    estimator = gp.GPRegressor(missing="drop").fit(Xm, ym[:, None])
    np.testing.assert_array_equal(estimator.predict(X), want.mean(X))
    assert estimator.predictor_.dropped == 3
    with pytest.raises(ValueError, match="NaN"):
        estimator.predict(Xm)
    for bad in (lambda: gp.Predictor.fit(Xm, y), lambda: gp.GPRegressor().fit(Xm, y)):
        with pytest.raises(ValueError, match="NaN"):
            bad()
    with pytest.raises(ValueError, match="one of raise, drop, not 'mean'"):
        gp.Predictor.fit(X, y, missing="mean")


def test_rows_that_cannot_be_dropped(rng):
    with pytest.raises(NonFiniteError, match="every one of the 3 rows"):
        gp.drop_missing(np.zeros((3, 1)), [np.nan] * 3)
    with pytest.raises(ShapeError, match="Grid cannot be dropped"):
        gp.drop_missing(gp.Grid([0.0, 1.0]), np.zeros(2))
    with pytest.raises(ShapeError, match="one value of y for every row"):
        gp.drop_missing(np.zeros((3, 1)), np.zeros(4))
    # Infinite values are not missing.
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        gp.Predictor.fit(np.arange(3.0), [1.0, np.inf, np.nan], missing="drop")
    lists = gp.drop_missing([0, 1, 2], [1, 2, 3])
    assert lists.dropped == 0 and lists.X.shape == (3,)


@pytest.mark.filterwarnings("ignore:overflow")
def test_predictions_beyond_the_range_of_the_dtype_are_refused():
    X = np.linspace(1, 2, 5, dtype=np.float32)[:, None]
    posterior = gp.Posterior(gp.GP(gp.Linear(1.0), noise=0.1), gp.Data(X, X[:, 0]))
    far = np.full((2, 1), 1e25, dtype=np.float32)
    with pytest.raises(NonFiniteError, match="the predictive variance overflows float32; use float64"):
        posterior.variance(far)
    assert np.all(np.isfinite(posterior.mean(far)))
