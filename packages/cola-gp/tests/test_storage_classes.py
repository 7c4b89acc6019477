"""Every class of the package can be written to a file and read back, without anything being executed."""

import importlib
import inspect
import json
import pkgutil

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import FileFormatError
from cola_gp import kernels, storage
from cola_gp._struct import Struct, leaves, set_fields, static, struct


def every_class():
    """All structs that this package defines in modules which import without a framework."""
    for module in pkgutil.walk_packages(gp.__path__, "cola_gp."):
        try:
            importlib.import_module(module.name)
        except ImportError:
            continue
    found, todo = [], [Struct]
    while todo:
        for cls in todo.pop().__subclasses__():
            todo.append(cls)
            if cls.__module__.startswith("cola_gp.") and "_child_fields" in vars(cls):
                found.append(cls)
    return sorted(set(found), key=lambda cls: cls.__name__)


def test_constructors_accept_every_field_by_name():
    """What a file holds is given to the constructor by the names of the fields."""
    classes = every_class()
    assert len(classes) > 20
    for cls in classes:
        accepted = inspect.signature(cls).parameters
        if any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
            continue
        missing = [f for f in (*cls._child_fields, *cls._static_fields) if f not in accepted]
        assert not missing, f"{cls.__name__} does not take {missing}, so it could not be read back"


def round_trip(tree, path):
    storage.save(path, {"tree": tree})
    return storage.load(path)[0]["tree"]


POINTS = np.linspace(0, 1, 6).reshape(3, 2)
TREES = {
    "composed": gp.ActiveDims(gp.RBF(0.5), 1) * gp.Periodic(1.0, 2.0)
    + 2.0 * gp.Linear([0.5, 1.0])
    + gp.Ones(),
    "polynomial": kernels.Polynomial(3, 0.5, 0.2),
    "cosine": kernels.Cosine(0.7),
    "mixture": kernels.SpectralMixture([1.0, 2.0], [0.1, 0.2], [0.01, 0.02]),
    "coregion": kernels.Coregion(3, 2),
    "inducing": kernels.Inducing(1.0 * gp.RBF(1.0), POINTS, method="fitc"),
    "nystrom": kernels.Nystrom(gp.Matern32(1.0), POINTS, nugget=1e-6),
    "fourier": kernels.RandomFourier(gp.RBF([1.0, 2.0]), d=2, count=5, key=3),
    "grid": gp.Grid([0.0, 1.0], POINTS),
    "model": gp.GP(gp.RationalQuadratic(1.0, 2.0), gp.ConstantMean(0.3), gp.FixedNoise(np.ones(4))),
}


@pytest.mark.parametrize("name", TREES)
def test_round_trip(name, tmp_path):
    tree = TREES[name]
    again = round_trip(tree, tmp_path / "m.npz")
    assert type(again) is type(tree) and repr(again) == repr(tree)
    for a, b in zip(leaves(again), leaves(tree), strict=True):
        np.testing.assert_array_equal(a, b)
    if isinstance(tree, gp.Kernel) and name != "coregion":
        d = 1 if name in ("cosine", "mixture") else 2
        X = np.linspace(-1, 1, 4 * d).reshape(4, d)
        np.testing.assert_array_equal(again(X), tree(X))


def test_torch_and_jax_parameters_come_back_as_numpy(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    again = round_trip(gp.RBF(log_lengthscale=scale), tmp_path / "m.npz")
    assert isinstance(again.log_lengthscale, np.ndarray) and float(again.log_lengthscale) == 0.3


@struct
class Mine(gp.Kernel):
    log_width: np.ndarray
    shape: tuple = static(default=(1, (2, 3)))

    def __init__(self, log_width=0.0, shape=(1, (2, 3))):
        set_fields(self, log_width=np.asarray(log_width, dtype=float), shape=shape)


@struct
class Mapped(gp.Kernel):
    log_width: np.ndarray
    function: object = static(default=None)


def test_own_classes_must_be_registered(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_REGISTERED", {})
    path = tmp_path / "m.npz"
    with pytest.raises(FileFormatError, match="Mine is not a class of cola-gp; pass it to"):
        storage.save(path, {"tree": Mine()})
    assert storage.register_class(Mine) is Mine
    again = round_trip(Mine(0.5), path)
    assert type(again) is Mine and again.shape == (1, (2, 3))
    monkeypatch.setattr(storage, "_REGISTERED", {})
    with pytest.raises(FileFormatError, match="unknown class 'Mine' of .*; was it registered"):
        storage.load(path)
    with pytest.raises(TypeError, match="only Struct classes"):
        storage.register_class(dict)


def test_what_needs_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_REGISTERED", {})
    storage.register_class(Mapped)
    with pytest.raises(FileFormatError, match="Mapped.function is a function, which cannot be read back"):
        storage.save(tmp_path / "m.npz", {"tree": Mapped(np.zeros(()), lambda x: x)})
    with pytest.raises(FileFormatError, match="a set is part of the model"):
        storage.save(tmp_path / "m.npz", {"tree": ({1},)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "module", ["os", "cola_gp.cli", "cola_gp.missing_module", "cola_gp._struct", 3, "cola_gpu"]
)
def test_a_file_cannot_name_other_code(tmp_path, module):
    path = tmp_path / "m.npz"
    storage.save(path, {"tree": gp.RBF(1.0)})
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(bytes(arrays.pop("header")).decode())
    for name in ("Struct", "Path", "system", "__import__", ""):
        header["parts"]["tree"] |= {"class": name, "module": module}
        np.savez(path, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), **arrays)
        with pytest.raises(FileFormatError):
            storage.load(path)


def test_files_of_the_first_format_are_read(tmp_path):
    path = tmp_path / "m.npz"
    storage.save(path, {"tree": TREES["composed"]})
    with np.load(path) as archive:
        arrays = dict(archive)
    text = bytes(arrays.pop("header")).decode()

    def strip(node):
        if isinstance(node, dict):
            return {k: strip(v) for k, v in node.items() if k != "module"}
        return [strip(v) for v in node] if isinstance(node, list) else node

    old = json.dumps(strip(json.loads(text))).encode()
    np.savez(path, header=np.frombuffer(old, dtype=np.uint8), **arrays)
    assert repr(storage.load(path)[0]["tree"]) == repr(TREES["composed"])
