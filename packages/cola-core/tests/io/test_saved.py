"""save and load: every operator of the zoo and of the kit comes back as it was; nothing else gets in."""

import json
import pickle
import weakref
import zipfile
from copy import deepcopy

import numpy as np
import pytest
from compare import near
from zoo import ZOO, installed

import cola_core as cola
from cola_core import ops
from cola_core.backends import backend_of, get_backend
from cola_core.errors import BackendError, DTypeError, FileFormatError
from cola_core.pytree import tree_leaves
from cola_core.testing.core_cases import cases


def same(A, B):
    """Class for class, field for field, bit for bit."""
    assert type(A) is type(B) and repr(A) == repr(B) and A.shape == B.shape
    assert A.dtype == B.dtype and A.backend is B.backend and A.properties == B.properties
    for x, y in zip(tree_leaves(A), tree_leaves(B), strict=True):
        assert type(x) is type(y) or isinstance(x, np.generic)
        if hasattr(x, "dtype"):
            assert x.dtype == y.dtype and x.shape == y.shape
            x, y = (backend_of(z).to_numpy(z) for z in (x, y))
            assert np.array_equal(x, y, equal_nan=True)
        else:
            assert x == y


def round_trip(A, tmp_path, **options):
    path = tmp_path / "A.cola"
    cola.save(A, path)
    return cola.load(path, **options)


def is_function(A):
    """Whether there is a function somewhere in the fields."""
    return isinstance(A, cola.LinearOperator) and any(
        callable(v) and not isinstance(v, (cola.LinearOperator, cola.Algorithm, type, weakref.ref))
        for part in _all(A)
        for v in part.__dict__.values()
    )


def _all(A):
    found = [A]
    for part in A._parts():
        if isinstance(part, cola.LinearOperator):
            found += _all(part)
    return found


def test_the_zoo(name_, library, rng, tmp_path):
    backend = get_backend(library)
    for dtype in ("float64", "complex64") if library != "jax" else ("float32",):
        build, dense = ZOO[name_](rng, "complex" in dtype)
        A = build(lambda x, dtype=dtype: backend.asarray(np.asarray(x).astype(dtype)))
        if any(is_function(part) for part in _all(A)):
            with pytest.raises(FileFormatError, match="a function"):
                cola.save(A, tmp_path / "A.cola")
        else:
            same(A, round_trip(A, tmp_path))


@pytest.mark.parametrize("case", [c for c in cases() if c.kind == "operator"], ids=lambda c: c.name)
def test_the_cases_of_the_kit(case, tmp_path):
    names, dtypes = case.capabilities.backends.names, case.capabilities.all_dtypes
    present = [n for n in names if installed(n)]
    if not present:
        pytest.skip(f"needs one of {', '.join(names)}")
    A = case.build(get_backend(present[0]), dtypes[0])
    if any(is_function(part) for part in _all(A)):
        with pytest.raises(FileFormatError, match="field"):
            cola.save(A, tmp_path / "A.cola")
        assert list(tmp_path.iterdir()) == []
        return
    same(A, round_trip(A, tmp_path))


def pytest_generate_tests(metafunc):
    if "name_" in metafunc.fixturenames:
        metafunc.parametrize("name_", list(ZOO))


def test_batches_shared_parts_and_python_numbers(rng, tmp_path):
    block = ops.Dense(rng.normal(size=(3, 2, 2)))
    A = cola.block_diag(*[block] * 5) + 0.1 * ops.Identity(10)
    B = round_trip(A, tmp_path)
    same(A, B)
    distinct = {id(x) for x in tree_leaves(A) if hasattr(x, "shape")}
    with zipfile.ZipFile(tmp_path / "A.cola") as archive:
        assert sum(n.startswith("arrays/") for n in archive.namelist()) == len(distinct)
    for c in (1 / 3, 2, -1.5j, float("inf")):
        assert round_trip(ops.ScalarMul(c, 3), tmp_path).c == c
    same(ops.Identity(4), round_trip(ops.Identity(4), tmp_path))
    empty = ops.Dense(np.zeros((0, 3)))
    same(empty, round_trip(empty, tmp_path))
    fortran = ops.Dense(np.asfortranarray(rng.normal(size=(3, 4))))
    same(fortran, round_trip(fortran, tmp_path))


def test_an_inverse_keeps_its_algorithm_not_its_factors(rng, tmp_path):
    a = rng.normal(size=(4, 4)) + 5 * np.eye(4)
    for alg in (cola.Auto(), cola.LU(), cola.GMRES(tol=1e-9, max_iters=50)):
        A = cola.inv(ops.Dense(a), alg)
        A @ np.ones(4)
        B = round_trip(A, tmp_path)
        assert B.alg == alg and "_factor" not in B.__dict__
        near(B @ np.ones(4), np.linalg.solve(a, np.ones(4)), 1e-7)
        for C in (pickle.loads(pickle.dumps(A)), deepcopy(A)):
            assert C.alg == alg
            near(C @ np.ones(4), np.linalg.solve(a, np.ones(4)), 1e-7)
    start = cola.inv(ops.Dense(a), cola.GMRES(x0=np.ones(4)))
    near(round_trip(start, tmp_path).alg.x0, np.ones(4), 0)


def test_other_libraries_and_precisions(library, rng, tmp_path):
    backend = get_backend(library)
    a = rng.normal(size=(3, 3))
    A = ops.Dense(backend.asarray(a)) + 2 * ops.Identity(3, "float64", backend=library)
    same(A, round_trip(A, tmp_path))
    B = round_trip(A, tmp_path, backend="numpy")
    assert B.backend.name == "numpy"
    near(B.to_dense(), a + 2 * np.eye(3), 1e-15)
    near(backend.to_numpy(round_trip(B, tmp_path, backend=library).to_dense()), a + 2 * np.eye(3), 1e-15)
    for dtype in ("float16", "bfloat16"):
        if library == "numpy" and dtype == "bfloat16":
            continue
        H = ops.Dense(backend.astype(backend.asarray(a), dtype))
        back = round_trip(H, tmp_path)
        assert back.dtype == H.dtype
        f = lambda x: backend.to_numpy(backend.astype(x.array, "float32"))  # noqa: E731
        assert np.array_equal(f(back), f(H))
        if dtype == "bfloat16":
            with pytest.raises(DTypeError, match="bfloat16"):
                cola.load(tmp_path / "A.cola", backend="numpy")


@pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
def test_values_are_saved_not_graphs(tmp_path):
    import torch

    A = ops.Dense(torch.eye(2, requires_grad=True))
    B = round_trip(A, tmp_path)
    assert not B.array.requires_grad and torch.equal(A.array, B.array)


def test_what_a_file_cannot_hold(tmp_path):
    path = tmp_path / "A.cola"
    F = ops.FunctionOperator(lambda x: x, (2, 2))
    for A in (F, cola.kron(F, np.eye(2)), F + ops.Identity(2)):
        with pytest.raises(FileFormatError, match="'matvec' is a function"):
            cola.save(A, path)
    assert list(tmp_path.iterdir()) == []

    @ops.operator
    class Local(ops.LinearOperator):
        array: object

    with pytest.raises(FileFormatError, match="module-level"):
        cola.save(Local.__new__(Local), path)
    cola.pytree.OPERATOR_CLASSES.remove(Local)
    with pytest.raises(FileFormatError, match="does not exist"):
        cola.save(np.eye(2), tmp_path / "nowhere" / "A.cola")


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
def test_traced_values_are_refused(tmp_path):
    import jax

    def f(x):
        cola.save(ops.Diagonal(x), tmp_path / "A.cola")
        return x

    with pytest.raises(FileFormatError, match="traced"):
        jax.jit(f)(jax.numpy.ones(2))


def rewrite(path, change=None, members=None, compression=zipfile.ZIP_STORED):
    """The file with its structure changed by a function, or other members."""
    with zipfile.ZipFile(path) as archive:
        held = {n: archive.read(n) for n in archive.namelist()}
    structure = json.loads(held["operator.json"])
    if change is not None:
        replaced = change(structure)
        structure = structure if replaced is None else replaced
    held["operator.json"] = json.dumps(structure).encode()
    held |= members or {}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in held.items():
            if data is not None:
                archive.writestr(name, data)


def npy(array):
    import io

    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def put(*keys):
    """A change that sets the value at the end of a path of keys."""
    *way, last, value = keys

    def change(structure):
        for key in way:
            structure = structure[key]
        structure[last] = value

    return change


class Payload:
    """What a pickle would execute."""

    ran = False

    def __reduce__(self):
        return (setattr, (Payload, "ran", True))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("version", 99), "version 99"),
        (put("format", "something"), "something else"),
        (lambda s: [], "something else"),
        (put("operators", 0, "class", "cola_core:Nothing"), "unknown operator class"),
        (put("operators", 0, "class", "os:system"), "unknown operator class"),
        (put("operators", 0, "class", "cola_nowhere:Thing"), "install"),
        (put("operators", 0, "class", "builtins:eval"), "unknown operator class"),
        (put("operators", 0, "class", 3), "describe"),
        (put("operators", 0, "children", {}), "fields"),
        (put("operators", 0, "shape", [7, 7]), "the file says"),
        (put("operators", 0, "dtype", "float32"), "the file says"),
        (put("operators", 0, "children", "rows", {"array": 99}), "refers to part 99"),
        (put("operators", 0, "children", "rows", {"array": -1}), "refers to part"),
        (put("operators", 0, "children", "rows", {"array": 0}), "integers"),
        (put("operators", 0, "children", "data", {"operator": 0}), "refers to part"),
        (put("operators", 0, "children", "data", {"call": "os.system"}), "unknown kind"),
        (put("operators", 0, "children", "data", 1.5), "value"),
        (put("operators", 0, "static", "size", {"tuple": [2, 2]}), "outside"),
        (put("operators", 0, "static", "size", "many"), "describe"),
        (put("operators", 0, "static", "declared", {"set": [{"property": "Nice"}]}), "Nice"),
        (put("operators", 0, "static", "declared", {"tuple": []}), "declares"),
        (
            put("operators", 0, "static", "size", {"algorithm": "os:Popen", "settings": {}}),
            "algorithm class",
        ),
        (put("arrays", 0, "member", "../../etc/passwd"), "missing"),
        (put("arrays", 0, "shape", [10**12]), "holds"),
        (put("arrays", 0, "dtype", "float32"), "holds"),
        (put("arrays", 0, "library", "os"), "library"),
        (put("root", 5), "describe"),
        (put("operators", []), "describe"),
    ],
)
def test_altered_structure_is_refused(change, says, tmp_path):
    path = tmp_path / "A.cola"
    cola.save(ops.Sparse(np.ones(3), [0, 1, 2], [0, 1, 2], (3, 3)), path)
    rewrite(path, change)
    with pytest.raises(FileFormatError, match=says):
        cola.load(path)


def test_altered_members_are_refused(tmp_path):
    path = tmp_path / "A.cola"

    def attempt(says, **how):
        cola.save(ops.Dense(np.eye(3)), path)
        rewrite(path, **how)
        with pytest.raises(FileFormatError, match=says):
            cola.load(path)

    pickled = npy(np.array([Payload()], dtype=object))
    attempt("holds", members={"arrays/0.npy": pickled})
    assert not Payload.ran
    attempt("magic|describe|holds", members={"arrays/0.npy": pickle.dumps(Payload())})
    assert not Payload.ran
    attempt("no part", members={"../evil.py": b"print()"})
    attempt("missing", members={"arrays/0.npy": None})
    attempt("compressed", compression=zipfile.ZIP_DEFLATED)
    whole = npy(np.eye(3))
    huge = whole.replace(b"'shape': (3, 3)", b"'shape': (3, 9)")
    attempt("holds", members={"arrays/0.npy": huge})
    attempt("bytes", members={"arrays/0.npy": whole[:-8]})
    attempt("bytes", members={"arrays/0.npy": whole + b"12345678"})
    assert [p.name for p in tmp_path.iterdir()] == ["A.cola"]


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "A.cola"
    cola.save(cola.kron(np.eye(3), 2 * np.eye(2)), path)
    raw = path.read_bytes()
    for cut in (0, 1, 30, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:cut])
        with pytest.raises(FileFormatError, match="A.cola"):
            cola.load(path)
    at = raw.index(b"NUMPY") + 100
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 255]) + raw[at + 1 :])
    with pytest.raises(FileFormatError, match="A.cola"):
        cola.load(path)
    with pytest.raises(FileFormatError, match="no such file"):
        cola.load(tmp_path / "B.cola")
    np.savez(tmp_path / "C.npz", x=np.eye(2))
    with pytest.raises(FileFormatError, match="compressed|something else"):
        cola.load(tmp_path / "C.npz")
    deep = path.with_name("D.cola")
    cola.save(ops.Dense(np.eye(2)), deep)
    rewrite(deep, members=None)
    with zipfile.ZipFile(deep) as archive:
        held = {n: archive.read(n) for n in archive.namelist()}
    held["operator.json"] = b"[" * 100_000
    with zipfile.ZipFile(deep, "w") as archive:
        for name, data in held.items():
            archive.writestr(name, data)
    with pytest.raises(FileFormatError):
        cola.load(deep)


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    path = tmp_path / "A.cola"
    cola.save(ops.Dense(np.eye(3)), path)
    rewrite(path, put("arrays", 0, "library", "torch"))
    from cola_core.backends import registry

    monkeypatch.setattr(registry, "_LOADED", {"numpy": get_backend("numpy")})
    monkeypatch.setitem(registry._LOADERS, "torch", (("torch",), "no_such_module:BACKEND"))
    with pytest.raises(BackendError, match="backend='numpy'"):
        cola.load(path)
    near(cola.load(path, backend="numpy").to_dense(), np.eye(3), 0)
