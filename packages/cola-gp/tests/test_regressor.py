"""GPRegressor with and without scikit-learn."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import ConvergenceWarning


def toy(rng):
    X = rng.uniform(-3, 3, size=(40, 2))
    return X, 50 + 10 * np.sin(X[:, 0]) + 0.1 * rng.normal(size=40)


def test_fit_predict_sample_score(rng, tmp_path):
    X, y = toy(rng)
    model = gp.GPRegressor().fit(X, y)
    assert model.score(X, y) > 0.99
    mean, std = model.predict(X[:5], return_std=True)
    _, covariance = model.predict(X[:5], return_cov=True)
    np.testing.assert_allclose(std**2, np.diagonal(covariance), rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(mean, model.predict(X[:5]))
    assert model.sample_y(X[:5], 3).shape == (5, 3)
    assert model.fit_result_.converged and np.isfinite(model.log_marginal_likelihood())
    model.save(tmp_path / "m.npz")
    np.testing.assert_array_equal(gp.Predictor.load(tmp_path / "m.npz")[0].mean(X), model.predict(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))
    with pytest.raises(ValueError, match="not both"):
        model.predict(X, return_std=True, return_cov=True)


def test_options_reach_the_fit(rng):
    X, y = toy(rng)
    fixed = gp.GPRegressor(gp.RBF([1.0, 1.0]), noise=0.3, fixed=("noise.variance",)).fit(X, y)
    assert np.exp(fixed.model_.noise.log_variance) == pytest.approx(0.3)
    given = gp.GPRegressor(gp.RBF(0.5), optimize=False, scale=False).fit(X, y)
    assert np.exp(given.model_.kernel.log_lengthscale) == pytest.approx(0.5)
    with pytest.warns(ConvergenceWarning, match="did not converge: the iteration limit"):
        gp.GPRegressor(max_iters=1).fit(X, y)


@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_accepts_the_estimator():
    checks = pytest.importorskip("sklearn.utils.estimator_checks", reason="scikit-learn is not installed")
    results = checks.check_estimator(gp.GPRegressor(), on_fail=None)
    failed = [(r["check_name"], repr(r["exception"])) for r in results if r["status"] == "failed"]
    assert not failed
    assert sum(r["status"] == "passed" for r in results) > 40


def test_pipeline_and_grid_search(rng):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = toy(rng)
    kernels = [gp.Scale(gp.RBF(1.0)), gp.Scale(gp.Matern52(1.0))]
    pipeline = make_pipeline(StandardScaler(), gp.GPRegressor())
    search = GridSearchCV(pipeline, {"gpregressor__kernel": kernels}, cv=3).fit(X, y)
    assert search.best_score_ > 0.9


def test_works_without_scikit_learn():
    program = """
import sys
sys.modules["sklearn"] = None
import numpy as np, cola_gp as gp
from cola_gp.regressor import HAS_SKLEARN
assert not HAS_SKLEARN
X = np.linspace(0, 6, 30)[:, None]
y = np.sin(X[:, 0])
model = gp.GPRegressor(noise=0.05)
assert model.get_params()["noise"] == 0.05
assert model.set_params(noise=0.1) is model and "noise=0.1" in repr(model)
try:
    model.set_params(noize=1)
except ValueError as error:
    assert "noize" in str(error)
try:
    model.predict(X)
except ValueError as error:
    assert "not fitted" in str(error)
model.fit(X, y)
assert model.score(X, y) > 0.99
for bad, why in (
    (np.zeros((3, 2)), "2 features, but 1"),
    (np.zeros(3), "not one of shape (3,)"),
    (np.array([[0.0], [np.nan]]), "1 of 2 entries, first in row 1, column 0; remove"),
):
    try:
        model.predict(bad)
        raise SystemExit("accepted bad input")
    except ValueError as error:
        assert why in str(error), error
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_the_package_imports_no_framework():
    heavy = ("sklearn", "torch", "jax", "matplotlib")
    program = f"import sys, cola_gp; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
