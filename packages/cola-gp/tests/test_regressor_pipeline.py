"""GPRegressor with expressions, likelihoods, files, pipelines and searches."""

import subprocess
import sys

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import UnknownNameError
from cola_gp.likelihoods import PoissonLikelihood


def toy(rng, n=40):
    X = rng.uniform(-3, 3, size=(n, 2))
    return X, 50 + 10 * np.sin(X[:, 0]) + 0.1 * rng.normal(size=n)


def test_expressions_are_the_objects(rng):
    X, y = toy(rng)
    text = gp.GPRegressor("matern52", noise="gaussian(variance=0.2)", mean="constant", initial="given")
    text.fit(X, y)
    kernel = gp.Scale(gp.Matern52(np.full(2, np.sqrt(2))), 1.0)
    objects = gp.GPRegressor(kernel, noise=0.2, mean=gp.ConstantMean()).fit(X, y)
    np.testing.assert_allclose(text.predict(X), objects.predict(X), rtol=1e-9)
    with pytest.raises(UnknownNameError, match="unknown kernel 'rbff'"):
        gp.GPRegressor("rbff").fit(X, y)
    dense = gp.GPRegressor("linear + constant", inference="dense", max_iters=50).fit(X, y)
    assert dense.fit_result_.method == "dense Cholesky"
    assert gp.GPRegressor("linear + constant").fit(X, y).fit_result_.method != "dense Cholesky"


def test_other_likelihoods_predict_observations(rng):
    X = rng.uniform(0, 6, (50, 1))
    y = rng.poisson(np.exp(1 + np.sin(X[:, 0])))
    model = gp.GPRegressor(noise=PoissonLikelihood(), mean="constant").fit(X, y)
    mean, std = model.predict(X, return_std=True)
    assert np.all(mean > 0) and np.all(std > np.sqrt(mean))
    assert np.corrcoef(mean, np.exp(1 + np.sin(X[:, 0])))[0, 1] > 0.9
    with pytest.raises(ValueError, match="return_cov is for Gaussian"):
        model.predict(X, return_cov=True)


def test_load_gives_a_fitted_estimator(rng, tmp_path):
    X, y = toy(rng)
    model = gp.GPRegressor("rbf", inference="dense").fit(X, y)
    model.save(tmp_path / "m.npz")
    again = gp.GPRegressor.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.n_features_in_ == 2 and again.fit_result_ is None
    assert again.predictor_.alg == "dense"
    assert again.fit(X, y).score(X, y) > 0.99
    with pytest.raises(ValueError, match="features"):
        again.predict(X[:, :1])


def test_pipelines_and_searches(rng):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.base import clone
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.decomposition import PCA
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = toy(rng)
    pipeline = make_pipeline(StandardScaler(), PCA(2), gp.GPRegressor(max_iters=60))
    search = GridSearchCV(
        pipeline,
        {
            "gpregressor__kernel": ["rbf", "linear + constant", gp.Scale(gp.Matern52(1.0))],
            "gpregressor__noise": [0.01, "student"],
        },
        cv=3,
        error_score="raise",
    )
    with np.errstate(all="ignore"):
        search.fit(X, y)
    assert search.best_score_ > 0.9
    assert search.best_params_["gpregressor__kernel"] != "linear + constant"
    assert search.best_estimator_.predict(X[:3]).shape == (3,)
    scores = cross_val_score(gp.GPRegressor(priors={"*.lengthscale": gp.Gamma(3.0, 1.0)}), X, y, cv=3)
    assert np.all(scores > 0.8)
    wrapped = TransformedTargetRegressor(gp.GPRegressor(), func=np.log, inverse_func=np.exp).fit(X, y)
    assert wrapped.score(X, y) > 0.99
    original = gp.GPRegressor(gp.Scale(gp.RBF(2.0)), bounds={"*.lengthscale": (0.1, 10.0)})
    copied = clone(original)
    assert repr(copied.kernel) == repr(original.kernel) and copied.bounds == original.bounds


def test_names_of_data_frames_are_kept(rng, tmp_path):
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    X, y = toy(rng)
    frame = pd.DataFrame(X, columns=["a", "b"])
    model = gp.GPRegressor().fit(frame, y)
    model.save(tmp_path / "m.npz")
    again = gp.GPRegressor.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    with pytest.raises(ValueError, match="feature names"):
        again.predict(frame[["b", "a"]])


def test_missing_values_without_scikit_learn():
    program = """
import sys
sys.modules["sklearn"] = None
import numpy as np, cola_gp as gp
X = np.linspace(0, 6, 30)[:, None]
y = np.sin(X[:, 0])
y[3] = X[5, 0] = np.nan
model = gp.GPRegressor(missing="drop").fit(X, y)
assert model.predictor_.dropped == 2
try:
    gp.GPRegressor().fit(X, y)
    raise SystemExit("accepted NaN")
except ValueError as error:
    assert "NaN" in str(error)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
