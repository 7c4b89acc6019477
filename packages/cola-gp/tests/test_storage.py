"""Saving and loading: exact round trips, no pickles, no partial files, clear refusals."""

import json

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import FileFormatError
from cola_core.io import atomic_path
from cola_gp import storage
from cola_gp._struct import leaves


def test_round_trip(tmp_path, rng):
    X = rng.normal(size=(12, 2))
    y = np.sin(X[:, 0])
    kernel = gp.ActiveDims(gp.RBF(0.5), 1) * gp.Periodic(1.0, 2.0) + 2.0 * gp.Linear([0.5, 1.0]) + gp.Ones()
    model = gp.GP(kernel, gp.ConstantMean(0.3), gp.FixedNoise(rng.uniform(0.1, 0.2, 12)))
    path = tmp_path / "model.npz"
    storage.save(
        path, {"model": model, "data": gp.Data(X, y), "grid": gp.Grid([0.0, 1.0], [2.0])}, {"a": [1]}
    )
    parts, meta = storage.load(path)
    assert meta == {"a": [1]}
    assert repr(parts["model"]) == repr(model)
    for a, b in zip(leaves(parts["model"]), leaves(model), strict=True):
        np.testing.assert_array_equal(a, b)
    Z = rng.normal(size=(3, 2))
    ours, theirs = gp.Posterior(model, gp.Data(X, y)), gp.Posterior(parts["model"], parts["data"])
    np.testing.assert_array_equal(ours.mean(Z), theirs.mean(Z))
    assert parts["grid"].shape == (2, 2 - 1 + 1)
    assert list(tmp_path.iterdir()) == [path]


def test_predictor_round_trip(tmp_path, rng):
    X = rng.normal(size=(15, 1))
    predictor = gp.Predictor.fit(X, 100 + np.sin(X[:, 0]))
    predictor.save(tmp_path / "m.npz", {"features": ["x"]})
    loaded, meta = gp.Predictor.load(tmp_path / "m.npz")
    assert meta == {"features": ["x"]} and loaded.result is None
    np.testing.assert_array_equal(loaded.mean(X), predictor.mean(X))
    np.testing.assert_array_equal(loaded.variance(X), predictor.variance(X))


def tampered(tmp_path, change):
    path = tmp_path / "bad.npz"
    storage.save(path, {"model": gp.GP(gp.RBF(1.0))})
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(bytes(arrays.pop("header")).decode())
    change(header, arrays)
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), **arrays)
    return path


def test_tampered_files_are_refused(tmp_path):
    def unknown(header, arrays):
        header["parts"]["model"] |= {"class": "system", "module": "os"}

    def newer(header, arrays):
        header["version"] = 99

    def other(header, arrays):
        header["format"] = "zip of cats"

    def missing(header, arrays):
        arrays.clear()

    def fields(header, arrays):
        header["parts"]["model"]["children"]["extra"] = []

    def wrong_kind(header, arrays):
        header["parts"]["model"]["children"]["kernel"] = {"class": "ZeroMean", "static": {}, "children": {}}

    for change, message in [
        (unknown, "unknown class 'system' of os"),
        (newer, "newer version"),
        (other, "zip of cats"),
        (missing, "is missing"),
        (fields, "fields of GP do not match"),
        (wrong_kind, "kernel must be a Kernel"),
    ]:
        with pytest.raises(FileFormatError, match=message):
            storage.load(tampered(tmp_path, change))


def test_files_older_than_a_field_with_a_default(tmp_path):
    path = tmp_path / "m.npz"
    for harmonics in (None, 9):
        storage.save(path, {"kernel": gp.Periodic(0.5, 2.0, harmonics=harmonics)})
        assert storage.load(path)[0]["kernel"].harmonics == harmonics
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(bytes(arrays.pop("header")).decode())
    del header["parts"]["kernel"]["static"]["harmonics"]
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), **arrays)
    kernel = storage.load(path)[0]["kernel"]
    assert kernel.harmonics is None and kernel.log_period == np.log(2.0)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileFormatError, match="no such file"):
        storage.load(tmp_path / "none.npz")
    text = tmp_path / "text.npz"
    text.write_text("hello")
    with pytest.raises(FileFormatError, match="not a cola-gp model file"):
        storage.load(text)
    truncated = tmp_path / "truncated.npz"
    storage.save(truncated, {"model": gp.GP(gp.RBF(1.0))})
    truncated.write_bytes(truncated.read_bytes()[:200])
    with pytest.raises(FileFormatError, match="not a cola-gp model file"):
        storage.load(truncated)
    np.savez(tmp_path / "pickled.npz", header=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FileFormatError, match="not a cola-gp model file"):
        storage.load(tmp_path / "pickled.npz")
    with pytest.raises(FileFormatError, match="holds no data"):
        storage.save(text, {"model": gp.GP(gp.RBF(1.0))})
        gp.Predictor.load(text)


def test_foreign_kernels_are_refused(tmp_path):
    class Mine(gp.RBF):
        pass

    with pytest.raises(FileFormatError, match="Mine is not a class of cola-gp"):
        storage.save(tmp_path / "m.npz", {"model": gp.GP(Mine(1.0))})
    assert list(tmp_path.iterdir()) == []


def test_atomic_path_leaves_the_old_file_on_error(tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    with atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]
