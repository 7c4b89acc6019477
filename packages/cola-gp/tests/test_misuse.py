"""Wrong arguments are named before anything is computed, and lost accuracy is said."""

import warnings

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import DTypeError, IllConditionedWarning, NonFiniteError, ShapeError

X = np.linspace(0, 3, 8)[:, None]
Y = np.sin(X[:, 0])
MODEL = gp.GP(gp.RBF(1.0), noise=0.1)
DATA = gp.Data(X, Y)


def test_masked_entries_are_not_taken_for_data():
    hidden = np.ma.masked_array(Y, Y > 0.5)
    with pytest.raises(NonFiniteError, match="y is a masked array that hides 5 entries"):
        gp.Data(X, hidden)
    with pytest.raises(NonFiniteError, match="X is a masked array"):
        gp.Data(np.ma.masked_array(X, X > 1), Y)
    assert gp.Data(X, np.ma.masked_array(Y)).n == 8
    kinds = (gp.GPRegressor, gp.GPClassifier, gp.BayesianLinearRegressor, gp.PCA, gp.Whitening)
    for estimator in (*kinds, gp.LinearDynamicalSystem):  # scikit-learn's checks look past the mask
        with pytest.raises(NonFiniteError, match="X is a masked array that hides"):
            estimator().fit(np.ma.masked_array(X, X > 1), Y)
    with pytest.raises(NonFiniteError, match="y is a masked array that hides 5 entries"):
        gp.GPRegressor().fit(X, hidden)
    kept = gp.drop_missing(np.ma.masked_array(X, X > 2.9), hidden)
    np.testing.assert_array_equal(kept.X, X[(Y <= 0.5) & (X[:, 0] <= 2.9)])
    assert gp.GPRegressor(missing="drop", max_iters=1, optimize=False).fit(X, hidden).predictor_.dropped == 5


def test_estimators_take_no_grids():
    grid = gp.Grid(gp.Regular(0.0, 1.0, 8))
    for estimator in (gp.GPRegressor(), gp.GPClassifier(), gp.BayesianLinearRegressor(), gp.PCA()):
        with pytest.raises(
            TypeError, match=r"takes an \(n, d\) array, not a Grid: give X.points\(\), or use"
        ):
            estimator.fit(grid, Y)


def test_dates_are_not_numbers():
    """They were taken as days in one array and as nanoseconds in another."""
    days = np.datetime64("2024-01-01") + np.arange(8)
    for make in (lambda: gp.Data(days, Y), lambda: gp.Data(X, days - days[0])):
        with pytest.raises(DTypeError, match="holds dates or durations .*give numbers"):
            make()
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"a": X[:, 0], "t": days})
    for inputs in (days[:, None], frame, frame[["t"]]):
        with pytest.raises(DTypeError, match=r"X holds dates or durations \(datetime64"):
            gp.GPRegressor().fit(inputs, Y)
    with pytest.raises(DTypeError, match="y holds dates"):
        gp.BayesianLinearRegressor().fit(X, frame["t"])
    with pytest.raises(DTypeError, match="X holds dates"):
        gp.LinearDynamicalSystem().fit(frame[["t"]])
    classes = gp.GPClassifier(optimize=False).fit(X, days > days[3])
    assert classes.score(X, days > days[3]) == 1.0


@pytest.mark.parametrize(
    "ask", [gp.marginal_likelihood, gp.value_and_gradient, gp.condition, gp.fit, gp.Posterior]
)
def test_models_and_data_are_told_apart(ask):
    with pytest.raises(TypeError, match=r"data must be a Data\(X, y\), not ndarray"):
        ask(MODEL, X)
    with pytest.raises(TypeError, match="model must be a GP.* not RBF"):
        ask(MODEL.kernel, DATA)


def test_parameters():
    with pytest.raises(ShapeError, match="lengthscale must hold at least one number"):
        gp.RBF([])
    with pytest.raises(ValueError, match="dims must be distinct non-negative integers, not 0.5"):
        gp.ActiveDims(gp.RBF(), 0.5)
    with pytest.raises(ValueError, match="TaskMean needs at least one task, not 0"):
        gp.TaskMean(0)
    with pytest.raises(ValueError, match="FixedNoise needs positive variances"):
        gp.FixedNoise([0.1, 0.0])
    assert gp.FixedNoise([0.1, 0.2]).variance.shape == (2,)
    with pytest.raises(ValueError, match="samples >= 2, not 1"):
        gp.IterativeInference(samples=1)
    with pytest.raises(ValueError, match="tol must be positive, not -1"):
        gp.IterativeInference(tol=-1)


def test_axes():
    with pytest.raises(DTypeError, match="axes of a grid have dtypes float32, float64"):
        gp.Grid(np.arange(3, dtype="float32"), np.arange(4.0))
    with pytest.raises(ShapeError, match=r"sizes \(20,\) are for 1 dimensions, but X has 2"):
        gp.SKI.around(gp.RBF(), np.ones((5, 2)), (20,))


def test_tensors_that_are_no_scales():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(ValueError, match="lengthscale must be positive and finite"):
        gp.RBF(torch.tensor(-1.0))


@pytest.mark.parametrize("count,error", [(-1, ValueError), (1.5, TypeError)])
def test_numbers_of_draws(count, error):
    with pytest.raises(error, match="sample_prior: count must"):
        gp.sample_prior(MODEL, X, count)
    with pytest.raises(error, match="sample: count must"):
        gp.Posterior(MODEL, DATA).sample(X, count)


def test_float32_says_what_it_cannot(rng):
    t = np.sort(rng.uniform(0, 5, 60)).astype("float32")
    data = gp.Data(t, np.sin(t))
    wide = gp.GP(gp.Linear(1e4) + gp.Matern32(3.0) + gp.Constant(1e4), noise=1e-2)
    with pytest.warns(IllConditionedWarning, match="added to its diagonal"):
        assert gp.Posterior(wide, data, "dense").jitter > 0
    with pytest.warns(IllConditionedWarning, match="added to its diagonal"):
        gp.marginal_likelihood(wide, data, "dense")
    # duplicates: every entry of the factor's diagonal is far from zero
    twice = gp.Data(np.concatenate([t, t[:5]]), np.sin(np.concatenate([t, t[:5]])))
    with pytest.warns(IllConditionedWarning, match="singular to working precision"):
        gp.Posterior(gp.GP(gp.Matern12(1.0), noise=1e-7), twice, "dense")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gp.Posterior(gp.GP(gp.Matern32(1.0), noise=1e-2), data, "dense")


def test_condition_in_time_does_not_depend_on_the_scale(rng):
    t = np.sort(rng.uniform(0, 5, 60))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scale in (1e-16, 1.0, 1e16):
            model = gp.GP(scale * gp.Matern32(3.0), noise=0.01 * scale)
            gp.Posterior(model, gp.Data(t, np.sqrt(scale) * np.sin(t)), "state-space")


def test_toeplitz_predictions_beyond_the_recursion():
    axis = gp.Regular(np.float32(0.0), np.float32(0.1), 50)
    data = gp.Data(gp.Grid(axis), np.sin(np.arange(50, dtype="float32") * np.float32(0.1)))
    with pytest.warns(IllConditionedWarning):
        posterior = gp.Posterior(gp.GP(1.3 * gp.RBF(20.0), noise=1e-6), data, "toeplitz")
    variance = posterior.variance(np.array([[0.33], [4.7]], "float32"))
    assert np.all(variance < 1e-5)


@pytest.mark.parametrize("kernel", [gp.RBF, gp.Matern12, gp.Matern32, gp.Matern52, gp.RationalQuadratic])
def test_lengthscales_that_underflow(kernel):
    K, pull = kernel(log_lengthscale=-800.0).evaluate(X)
    np.testing.assert_allclose(K, np.eye(8), atol=1e-300)
    assert np.all(np.isfinite(np.array(pull(np.ones((8, 8))))))


def test_covariances_that_are_no_numbers():
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="covariance holds NaN or infinity"):
        gp.condition(gp.GP(gp.Scale(gp.RBF(), log_variance=800.0)), DATA, "dense")
