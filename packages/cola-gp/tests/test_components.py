"""Principal components and whitening, against dense formulas and scikit-learn."""

import math
import subprocess
import sys

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import ShapeError
from cola_gp.components import principal_components, whiten


def cloud(rng, n=40, d=5):
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + np.arange(d)


@pytest.mark.parametrize("shape", [(40, 5), (4, 9), (1, 3)])
def test_components_are_the_eigenvectors_of_the_covariance(rng, shape):
    X = rng.normal(size=shape) * np.arange(1, shape[1] + 1)
    found = principal_components(X)
    k = min(shape)
    covariance = (X - X.mean(0)).T @ (X - X.mean(0)) / max(shape[0] - 1, 1)
    values = np.linalg.eigvalsh(covariance)[::-1]
    np.testing.assert_allclose(found.variance, values[:k], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(
        found.directions @ covariance, found.variance[:, None] * found.directions, atol=1e-10
    )
    largest = np.take_along_axis(found.directions, np.abs(found.directions).argmax(1)[:, None], 1)
    assert np.all(largest > 0) and float(found.total) == pytest.approx(np.trace(covariance))
    np.testing.assert_allclose(found.inverse(found.transform(X)), X, atol=1e-10)
    assert principal_components(X, 1).directions.shape == (1, shape[1])
    with pytest.raises(ShapeError, match="at most"):
        principal_components(X, k + 1)


def test_whitening_survives_a_condition_number_beyond_cholesky(rng):
    U, _ = np.linalg.qr(rng.normal(size=(200, 3)) - 0.1)
    X = (U * [1.0, 1e-2, 1e-5]) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    X = (X - X.mean(0)).astype(np.float32)
    found = whiten(X)
    white = found.transform(X)
    assert white.dtype == np.float32
    np.testing.assert_allclose(np.cov(white.T.astype(float)), np.eye(3), atol=2e-2)
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(X.T @ X / 199)
    with pytest.raises(ShapeError, match="singular"):
        whiten(X[:3])


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_other_libraries(rng, library):
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    X = cloud(rng).astype(np.float32)
    there = module.asarray(X) if library == "torch" else module.numpy.asarray(X)
    ours, theirs = principal_components(X, 2), principal_components(there, 2)
    np.testing.assert_allclose(np.asarray(theirs.directions), ours.directions, atol=2e-4)
    np.testing.assert_allclose(np.asarray(whiten(there).factor), whiten(X).factor, rtol=2e-3, atol=1e-4)


def test_estimator_is_scikit_learns(rng):
    decomposition = pytest.importorskip("sklearn.decomposition", reason="scikit-learn is not installed")
    X = cloud(rng)
    for k in (2, 5, 0.9, None):
        for white in (False, True):
            ours = gp.PCA(k, whiten=white).fit(X)
            theirs = decomposition.PCA(k, whiten=white, svd_solver="full").fit(X)
            assert ours.n_components_ == theirs.n_components_
            for name in ("explained_variance_", "explained_variance_ratio_", "singular_values_", "mean_"):
                np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-10)
            signs = np.sign(np.sum(ours.components_ * theirs.components_, axis=1))
            np.testing.assert_allclose(ours.components_, signs[:, None] * theirs.components_, atol=1e-10)
            np.testing.assert_allclose(ours.transform(X), signs * theirs.transform(X), atol=1e-9)
            back = ours.inverse_transform(ours.transform(X))
            np.testing.assert_allclose(back, theirs.inverse_transform(theirs.transform(X)), atol=1e-9)
            if not white:  # the model is the same, but scikit-learn's density changes with whitening
                np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-8)
                assert ours.score(X) == pytest.approx(theirs.score(X))
            assert list(ours.get_feature_names_out()) == list(theirs.get_feature_names_out())


def test_density_is_that_of_the_probabilistic_model(rng):
    X = cloud(rng)
    model = gp.PCA(2).fit(X)
    rest = np.eye(5) - model.components_.T @ model.components_
    C = (model.components_.T * model.explained_variance_) @ model.components_ + model.noise_variance_ * rest
    R = X - X.mean(0)
    want = -0.5 * (np.sum(R * np.linalg.solve(C, R.T).T, 1) + np.linalg.slogdet(2 * math.pi * C)[1])
    np.testing.assert_allclose(model.score_samples(X), want, rtol=1e-10)
    flat = gp.PCA(1).fit(np.column_stack([X[:, 0], X[:, 0]]))
    with pytest.raises(ValueError, match="no variance"):
        flat.score(np.ones((2, 2)))


@pytest.mark.parametrize("wanted", [0, 6, 1.5, "many", True])
def test_bad_counts_are_refused(rng, wanted):
    with pytest.raises(ValueError, match="n_components"):
        gp.PCA(wanted).fit(cloud(rng))


@pytest.mark.parametrize("scale", [1.0, 1e150, 1e-150])
def test_extreme_and_constant_data(rng, scale):
    X = np.column_stack([cloud(rng, 20, 3), np.full(20, 2.0)]) * scale
    white = gp.PCA(whiten=True).fit_transform(X / scale)
    np.testing.assert_allclose(np.cov(white[:, :3].T), np.eye(3), atol=1e-8)
    np.testing.assert_allclose(white[:, 3], 0.0, atol=1e-8)
    assert np.all(np.isfinite(gp.PCA(2).fit(X).singular_values_))
    constant = gp.PCA().fit(np.ones((5, 2)) * scale)
    np.testing.assert_array_equal(constant.transform(np.ones((1, 2)) * scale), 0.0)


def test_whitening_estimator(rng):
    X = cloud(rng)
    model = gp.Whitening().fit(X)
    white = model.transform(X)
    np.testing.assert_allclose(np.cov(white.T), np.eye(5), atol=1e-10)
    np.testing.assert_allclose(white.mean(0), 0.0, atol=1e-10)
    np.testing.assert_allclose(model.factor_, np.linalg.cholesky(np.cov(X.T)), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(model.inverse_transform(white), X, atol=1e-10)
    dependent = np.column_stack([X[:, 0], np.ones(40), 2 * X[:, 0] - 1, X[:, 1], X[:, 0] + X[:, 1]])
    model = gp.Whitening().fit(dependent)
    assert model.kept_.tolist() == [0, 3]
    np.testing.assert_allclose(np.cov(model.transform(dependent).T), np.eye(2), atol=1e-10)
    np.testing.assert_allclose(model.inverse_transform(model.transform(dependent)), dependent, atol=1e-10)
    few = gp.Whitening().fit(X[:3])
    assert few.transform(X[:3]).shape == (3, 2)
    assert gp.Whitening().fit(np.ones((4, 2))).transform(np.ones((3, 2))).shape == (3, 0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", [gp.PCA(), gp.PCA(1, whiten=True), gp.Whitening()], ids=str)
def test_scikit_learn_accepts_the_estimators(estimator):
    checks = pytest.importorskip("sklearn.utils.estimator_checks", reason="scikit-learn is not installed")
    results = checks.check_estimator(estimator, on_fail=None)
    assert not [(r["check_name"], repr(r["exception"])) for r in results if r["status"] == "failed"]
    assert sum(r["status"] == "passed" for r in results) > 40


def test_pipeline_and_grid_search(rng):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    X = cloud(rng)
    y = X @ np.ones(5)
    pipeline = make_pipeline(gp.Whitening(), gp.PCA(), gp.BayesianLinearRegressor())
    grid = {"pca__n_components": [1, 5], "pca__whiten": [False, True]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.best_params_["pca__n_components"] == 5 and search.best_score_ > 0.999


def test_they_work_without_scikit_learn():
    program = """
import sys
sys.modules["sklearn"] = None
import numpy as np, cola_gp as gp
X = np.random.default_rng(0).normal(size=(20, 3))
y = X @ [1.0, 2.0, 3.0] + 1.0
assert gp.PCA(2).fit_transform(X).shape == (20, 2)
assert gp.Whitening().fit_transform(X).shape == (20, 3)
model = gp.BayesianLinearRegressor()
try:
    model.predict(X)
except ValueError as error:
    assert "not fitted" in str(error)
assert model.fit(X, y).score(X, y) > 0.999 and "ard=False" in repr(model)
for bad in (np.zeros((3, 2)), np.zeros(3), np.full((2, 3), np.nan)):
    try:
        model.predict(bad)
        raise SystemExit("accepted bad input")
    except ValueError:
        pass
"""
    subprocess.run([sys.executable, "-c", program], check=True)
