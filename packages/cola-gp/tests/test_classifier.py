"""GPClassifier with and without scikit-learn."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import ConvergenceWarning, FileFormatError


def moons(rng, n=80):
    t = rng.uniform(0, np.pi, n)
    side = np.arange(n) % 2
    X = np.column_stack([np.cos(t) + side, np.where(side, 0.5, 0.0) + np.sin(t) * (1 - 2 * side)])
    return X + 0.1 * rng.normal(size=(n, 2)), np.where(side, "lower", "upper")


def test_two_classes(rng, tmp_path):
    X, y = moons(rng)
    model = gp.GPClassifier().fit(X, y)
    assert model.score(X, y) > 0.95 and model.classes_.tolist() == ["lower", "upper"]
    p, odds = model.predict_proba(X), model.decision_function(X)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.log(p[:, 1] / p[:, 0]), odds, rtol=1e-9)
    np.testing.assert_array_equal(model.predict(X) == "upper", odds > 0)
    (result,) = model.fit_results_
    assert result.converged and result.method == "EP"
    assert model.log_marginal_likelihood() == pytest.approx(result.log_likelihood, rel=1e-9)
    # far from the data there is only the prior's word
    far = model.predict_proba(np.full((1, 2), 1e3))
    assert np.all(far > 0.2)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), p)
    model.save(tmp_path / "m.npz")
    loaded = gp.GPClassifier.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(loaded.predict_proba(X), p)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_scikit_learn_gives_the_same_probabilities(rng):
    sklearn = pytest.importorskip("sklearn.gaussian_process", reason="scikit-learn is not installed")
    X, y = moons(rng, 50)
    labels = np.where(X[:, 0] > 1.5, "right", y)
    for target in (y, labels):
        kernel = sklearn.kernels.ConstantKernel(2.0) * sklearn.kernels.RBF(0.7)
        theirs = sklearn.GaussianProcessClassifier(kernel, optimizer=None).fit(X, target)
        laplace = {"approximation": "laplace", "link": "logit", "scale": False}
        ours = gp.GPClassifier(2.0 * gp.RBF(0.7), gp.ZeroMean(), optimize=False, **laplace).fit(X, target)
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-3)
        if target is y:
            want = theirs.log_marginal_likelihood_value_
            assert ours.log_marginal_likelihood() == pytest.approx(want, rel=1e-9)
    best = sklearn.GaussianProcessClassifier(kernel, random_state=0).fit(X, y).log_marginal_likelihood_value_
    fitted = gp.GPClassifier(2.0 * gp.RBF(0.7), gp.ZeroMean(), **laplace).fit(X, y)
    assert fitted.log_marginal_likelihood() >= best - 1e-3


def test_three_classes_and_one(rng, tmp_path):
    X = rng.normal(size=(60, 2))
    y = np.digitize(X[:, 0], [-0.5, 0.5]) * 10
    model = gp.GPClassifier(approximation="laplace").fit(X, y)
    p = model.predict_proba(X)
    assert p.shape == (60, 3) and len(model.models_) == 3 and model.score(X, y) > 0.9
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(model.predict(X), model.classes_[np.argmax(p, axis=1)])
    np.testing.assert_array_equal(model.decision_function(X).argmax(1), p.argmax(1))
    model.save(tmp_path / "m.npz")
    np.testing.assert_array_equal(gp.GPClassifier.load(tmp_path / "m.npz").predict(X), model.predict(X))
    one = gp.GPClassifier().fit(X, np.full(60, "only"))
    assert set(one.predict(X)) == {"only"} and one.log_marginal_likelihood() == 0.0
    np.testing.assert_array_equal(one.predict_proba(X), np.ones((60, 1)))


@pytest.mark.parametrize("scale", [1.0, 1e6, 1e-6])
def test_separable_classes_of_any_unit(scale):
    X = scale * np.linspace(-1, 1, 30)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        model = gp.GPClassifier().fit(X, X[:, 0] > 0)
        p = model.predict_proba(X)
    assert model.classes_.dtype == bool and model.score(X, X[:, 0] > 0) == 1.0
    assert np.all(np.isfinite(p)) and np.all((p[:, 1] > 0.5) == (X[:, 0] > 0))
    np.testing.assert_allclose(p, p[::-1, ::-1], atol=1e-5)


def test_duplicates_that_contradict_each_other_and_constant_inputs():
    X = np.repeat([[0.0], [1.0]], 10, axis=0)
    y = np.array([0] * 9 + [1] + [1] * 9 + [0])
    model = gp.GPClassifier().fit(X, y)
    p = model.predict_proba([[0.0], [1.0]])[:, 1]
    np.testing.assert_allclose(p, [0.1, 0.9], atol=0.1)
    flat = gp.GPClassifier().fit(np.ones((8, 2)), np.array([0, 1] * 4))
    np.testing.assert_allclose(flat.predict_proba(np.ones((1, 2))), 0.5, atol=1e-6)


def test_options_reach_the_fit(rng):
    X, y = moons(rng, 40)
    fixed = gp.GPClassifier(gp.Scale(gp.RBF(0.8)), fixed=("*.lengthscale",)).fit(X, y)
    assert np.exp(fixed.models_[0].kernel.kernel.log_lengthscale) == pytest.approx(0.8)
    with pytest.warns(ConvergenceWarning, match="raise max_iters"):
        gp.GPClassifier(max_iters=1, tol=1e-9).fit(X, y)
    for bad, message in (
        ({"link": "cauchit"}, "link must be"),
        ({"link": "logit"}, "needs approximation='laplace'"),
        ({"approximation": "exact"}, "approximation must be"),
    ):
        with pytest.raises(ValueError, match=message):
            gp.GPClassifier(**bad).fit(X, y)


def test_bad_files_and_labels_are_refused(rng, tmp_path):
    X, y = moons(rng, 20)
    gp.Predictor.fit(X, X[:, 0], max_iters=2).save(tmp_path / "other.npz")
    with pytest.raises(FileFormatError, match="holds no GPClassifier"):
        gp.GPClassifier.load(tmp_path / "other.npz")
    model = gp.GPClassifier(max_iters=2, optimize=False).fit(X, y)
    model.classes_ = np.array([object(), object()])
    with pytest.raises(FileFormatError, match="labels"):
        model.save(tmp_path / "m.npz")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("approximation", ["ep", "laplace"])
def test_scikit_learn_accepts_the_estimator(approximation):
    checks = pytest.importorskip("sklearn.utils.estimator_checks", reason="scikit-learn is not installed")
    results = checks.check_estimator(gp.GPClassifier(max_iters=2, approximation=approximation), on_fail=None)
    assert not [(r["check_name"], repr(r["exception"])) for r in results if r["status"] == "failed"]
    assert sum(r["status"] == "passed" for r in results) > 45


@pytest.mark.filterwarnings("ignore:GPClassifier did not converge")
def test_pipeline_and_grid_search(rng):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X = rng.normal(size=(60, 2))
    y = X[:, 0] ** 2 + X[:, 1] ** 2 > 1.2
    pipeline = make_pipeline(StandardScaler(), gp.PCA(whiten=True), gp.GPClassifier(max_iters=20))
    grid = {"gpclassifier__kernel": [gp.Scale(gp.RBF(1.0)), gp.Scale(gp.Linear(1.0))]}
    search = GridSearchCV(pipeline, grid, cv=3, scoring="neg_log_loss").fit(X, y)
    assert search.best_index_ == 0 and search.best_score_ > -0.5


def test_works_without_scikit_learn():
    program = """
import sys
sys.modules["sklearn"] = None
import numpy as np, cola_gp as gp
X = np.linspace(-2, 2, 30)[:, None]
y = np.where(X[:, 0] > 0, 1, -1)
model = gp.GPClassifier(max_iters=10)
assert "max_iters=10" in repr(model)
try:
    model.predict(X)
except ValueError as error:
    assert "not fitted" in str(error)
try:
    model.fit(X, X[:, 0])
    raise SystemExit("accepted fractions as labels")
except ValueError as error:
    assert "fractions" in str(error)
assert model.fit(X, y).score(X, y) == 1.0
assert np.allclose(model.predict_proba(X).sum(axis=1), 1.0)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
