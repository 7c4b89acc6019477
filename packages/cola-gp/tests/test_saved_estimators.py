"""Estimators that save their state: the same answers after reading, and nothing else gets in."""

import json

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import FileFormatError

MAKE = {
    "linear": lambda: gp.BayesianLinearRegressor(),
    "relevance": lambda: gp.BayesianLinearRegressor(ard=True, fit_intercept=False),
    "pca": lambda: gp.PCA(2, whiten=True),
    "whitening": lambda: gp.Whitening(),
}


def fitted(name, rng):
    X = rng.normal(size=(30, 3)) * [1.0, 5.0, 0.1] + 2.0
    return MAKE[name]().fit(X, X @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=30)), X


@pytest.mark.parametrize("name", MAKE)
def test_round_trip(name, rng, tmp_path):
    model, X = fitted(name, rng)
    model.save(tmp_path / "m.npz")
    again = type(model).load(tmp_path / "m.npz")
    assert again.get_params() == model.get_params()
    assert set(vars(again)) == set(vars(model))
    for key, value in vars(model).items():
        if isinstance(value, (np.ndarray, float, int)):
            np.testing.assert_array_equal(getattr(again, key), value)
    if hasattr(model, "predict"):
        for a, b in zip(again.predict(X, return_std=True), model.predict(X, return_std=True), strict=True):
            np.testing.assert_array_equal(a, b)
    else:
        np.testing.assert_array_equal(again.transform(X), model.transform(X))


def test_names_of_data_frames_are_kept(rng, tmp_path):
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    frame = pd.DataFrame(rng.normal(size=(9, 2)), columns=["a", "b"])
    gp.PCA().fit(frame).save(tmp_path / "m.npz")
    again = gp.PCA.load(tmp_path / "m.npz")
    assert list(again.feature_names_in_) == ["a", "b"]
    with pytest.raises(ValueError, match="feature names"):
        again.transform(frame[["b", "a"]])


def test_refusals(rng, tmp_path):
    model, X = fitted("pca", rng)
    path = tmp_path / "m.npz"
    with pytest.raises(ValueError, match="not fitted"):
        gp.PCA().save(path)
    model.save(path)
    with pytest.raises(FileFormatError, match="holds a PCA, not a Whitening"):
        gp.Whitening.load(path)
    gp.GPRegressor().fit(X, X[:, 0]).save(tmp_path / "gp.npz")
    with pytest.raises(FileFormatError, match="holds a GPRegressor, not a PCA"):
        gp.PCA.load(tmp_path / "gp.npz")
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(bytes(arrays.pop("header")).decode())
    state = header["parts"]["state"]["dict"]
    for key in ("transform", "__class__", "a b"):
        header["parts"]["state"]["dict"] = {**state, key: {"number": 1}}
        np.savez(path, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), **arrays)
        with pytest.raises(FileFormatError, match="is no attribute of a PCA"):
            gp.PCA.load(path)
