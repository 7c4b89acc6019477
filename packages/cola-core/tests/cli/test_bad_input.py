"""Bad input: a status that is not 0, exactly one line on stderr, no traceback, and no output file."""

import numpy as np
import pytest
import scipy.sparse as sp

import cola_core
from cola_core.errors import BackendError, DeviceError, DTypeError, NonFiniteError, NotPositiveDefiniteError
from cola_core.io import write_matrix_market

HEAD = "%%MatrixMarket matrix coordinate real general\n"


@pytest.fixture
def files(tmp_path, rng):
    """Every matrix and vector the cases below name; returns what the folder holds before a command runs."""
    M = rng.standard_normal((6, 6))
    np.save(tmp_path / "good.npy", M @ M.T + 6 * np.eye(6))
    np.save(tmp_path / "general.npy", M)
    np.save(tmp_path / "tall.npy", rng.standard_normal((6, 4)))
    np.save(tmp_path / "indefinite.npy", np.diag([1.0, 2, 3, 4, 5, -6]))
    hidden = np.eye(6)
    hidden[0, 1] = hidden[1, 0] = 1.0 + 1e-3  # positive diagonal, one eigenvalue of -1e-3
    np.save(tmp_path / "hidden.npy", hidden)
    np.save(tmp_path / "complex.npy", M + 1j * np.eye(6))
    write_matrix_market(tmp_path / "singular.mtx", sp.csr_array(np.diag([1.0, 2, 3, 4, 5, 0])))
    np.save(tmp_path / "singular.npy", np.ones((6, 6)))
    np.save(tmp_path / "nan.npy", np.full((6, 6), np.nan))
    np.save(tmp_path / "cube.npy", np.ones((2, 2, 2)))
    np.save(tmp_path / "b.npy", np.ones(6))
    np.save(tmp_path / "b7.npy", np.ones(7))
    np.save(tmp_path / "b_nan.npy", np.array([1, 2, np.nan, 4, 5, 6]))
    np.save(tmp_path / "b_cube.npy", np.ones((6, 1, 1)))
    (tmp_path / "b_words.txt").write_text("1\n2\nthree\n4\n5\n6\n")
    (tmp_path / "b_inf.mtx").write_text("%%MatrixMarket matrix array real general\n2 1\n1\ninf\n")
    (tmp_path / "truncated.mtx").write_text(HEAD + "3 3 3\n1 1 1\n")
    (tmp_path / "header.mtx").write_text("%%MatrixMarkt matrix\n1 1 1\n")
    (tmp_path / "words.mtx").write_text(HEAD + "1 1 1\n1 1 one\n")
    (tmp_path / "empty.mtx").write_text("")
    (tmp_path / "folder.mtx").mkdir()
    (tmp_path / "matrix.xyz").write_text("1")
    return {p.name for p in tmp_path.iterdir()}


SOLVE = ("solve", "good.npy", "--rhs", "b.npy", "--out", "x.npy")

# name: (arguments, words that the line must hold)
CASES = {
    "missing file": (("info", "none.mtx"), ["none.mtx", "no such file"]),
    "folder": (("info", "folder.mtx"), ["folder.mtx", "is a folder"]),
    "empty file": (("info", "empty.mtx"), ["empty.mtx", "is empty"]),
    "unknown suffix": (("info", "matrix.xyz"), ["unknown suffix '.xyz'"]),
    "truncated": (
        ("solve", "truncated.mtx", "--rhs", "b.npy", "--out", "x.npy"),
        ["truncated.mtx, line 2", "truncated"],
    ),
    "wrong header": (("logdet", "header.mtx"), ["header.mtx, line 1", "%%MatrixMarket"]),
    "words": (("trace", "words.mtx"), ["words.mtx, line 3", "'one'"]),
    "nan matrix": (("solve", "nan.npy", "--rhs", "b.npy", "--out", "x.npy"), ["nan.npy", "finite"]),
    "three axes": (("info", "cube.npy"), ["cube.npy", "(2, 2, 2)"]),
    "missing rhs": (
        ("solve", "good.npy", "--rhs", "none.npy", "--out", "x.npy"),
        ["none.npy", "no such file"],
    ),
    "wrong length": (("solve", "good.npy", "--rhs", "b7.npy", "--out", "x.npy"), ["b7.npy", "(7,)", "6x6"]),
    "rhs with three axes": (
        ("solve", "good.npy", "--rhs", "b_cube.npy", "--out", "x.npy"),
        ["b_cube.npy", "(6, 1, 1)"],
    ),
    "non-numeric rhs": (
        ("solve", "good.npy", "--rhs", "b_words.txt", "--out", "x.npy"),
        ["b_words.txt, line 3", "'three'"],
    ),
    "nan rhs": (
        ("solve", "good.npy", "--rhs", "b_nan.npy", "--out", "x.npy"),
        ["b_nan.npy", "entry [2] is nan"],
    ),
    "infinite rhs": (("solve", "good.npy", "--rhs", "b_inf.mtx", "--out", "x.npy"), ["b_inf.mtx, line 4"]),
    "solve not square": (("solve", "tall.npy", "--rhs", "b.npy", "--out", "x.npy"), ["square", "6x4"]),
    "inverse not square": (("explain", "inv", "tall.npy"), ["square", "6x4"]),
    "logdet not square": (("logdet", "tall.npy"), ["square"]),
    "trace not square": (("trace", "tall.npy"), ["square"]),
    "eigs not square": (("eigs", "tall.npy"), ["square"]),
    "psd not square": (("logdet", "tall.npy", "--psd"), ["not square"]),
    "psd, negative diagonal": (
        ("solve", "indefinite.npy", "--psd", "--rhs", "b.npy", "--out", "x.npy"),
        ["--psd", "entry 6 is -6"],
    ),
    "psd to CG": (
        ("solve", "indefinite.npy", "--psd", "--alg", "cg", "--rhs", "b.npy", "--out", "x.npy"),
        ["--psd"],
    ),
    "psd, hidden, to Cholesky": (
        ("solve", "hidden.npy", "--psd", "--alg", "cholesky", "--rhs", "b.npy", "--out", "x.npy"),
        ["positive"],
    ),
    "psd of a general matrix": (("logdet", "general.npy", "--psd"), ["not self-adjoint", "--psd", "entry ("]),
    "self-adjoint of a general matrix": (
        ("eigs", "general.npy", "--self-adjoint"),
        ["not self-adjoint", "--self-adjoint"],
    ),
    "Cholesky of a general matrix": (("logdet", "general.npy", "--alg", "cholesky"), ["PSD"]),
    "CG of a general matrix": (
        ("solve", "general.npy", "--alg", "cg", "--rhs", "b.npy", "--out", "x.npy"),
        ["PSD", "--psd"],
    ),
    "plan CG of a general matrix": (("explain", "solve", "general.npy", "--alg", "cg"), ["PSD", "--psd"]),
    "eigs undeclared": (("eigs", "general.npy"), ["SelfAdjoint"]),
    "singular sparse": (("solve", "singular.mtx", "--rhs", "b.npy", "--out", "x.npy"), ["singular"]),
    "singular dense": (("solve", "singular.npy", "--rhs", "b.npy", "--out", "x.npy"), ["singular"]),
    "too many eigenvalues": (("eigs", "good.npy", "--self-adjoint", "-k", "7"), ["k"]),
    "no eigenvalues": (("eigs", "good.npy", "--self-adjoint", "-k", "0"), ["k"]),
    "unknown which": (("eigs", "good.npy", "--self-adjoint", "--which", "XX"), ["XX", "LM"]),
    "unknown algorithm": ((*SOLVE, "--alg", "magic"), ["magic", "cholesky"]),
    "algorithm of another question": ((*SOLVE, "--alg", "slq"), ["slq", "known are"]),
    "setting it lacks": ((*SOLVE, "--alg", "lu", "--tol", "1e-3"), ["--tol", "LU"]),
    "negative tolerance": ((*SOLVE, "--tol", "-1"), ["--tol", "positive"]),
    "no iterations": ((*SOLVE, "--max-iters", "0"), ["--max-iters"]),
    "unknown question": (("explain", "frobnicate", "good.npy"), ["frobnicate", "logdet"]),
    "rhs of another question": (("explain", "trace", "good.npy", "--rhs", "b.npy"), ["--rhs"]),
    "unknown question of rules": (("rules", "--question", "frobnicate"), ["frobnicate"]),
    "unknown plugin": (("plugins", "show", "nonesuch"), ["nonesuch", "core"]),
    "unknown backend": ((*SOLVE, "--backend", "fortran"), ["fortran", "numpy"]),
    "complex to real": (("logdet", "complex.npy", "--dtype", "float64"), ["complex", "imaginary"]),
    "output suffix": (("solve", "good.npy", "--rhs", "b.npy", "--out", "x.xls"), ["x.xls", ".npy"]),
    "output folder": (
        ("solve", "good.npy", "--rhs", "b.npy", "--out", "none/x.npy"),
        ["none", "does not exist"],
    ),
    "output is a folder": (("solve", "good.npy", "--rhs", "b.npy", "--out", "folder.mtx"), ["is a folder"]),
    "eigs output suffix": (("eigs", "good.npy", "--self-adjoint", "--out", "e.npy"), ["e.npy", ".npz"]),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line(cola, files, tmp_path, name):
    argv, words = CASES[name]
    cola(*argv).one_line(*words)
    assert {p.name for p in tmp_path.iterdir()} == files


UNRELIABLE = {
    "CG that may not finish": (
        "solve",
        "good.npy",
        "--psd",
        "--alg",
        "cg",
        "--max-iters",
        "1",
        "--rhs",
        "b.npy",
        "--out",
        "x.npy",
    ),
    "CG on an indefinite matrix": (
        "solve",
        "hidden.npy",
        "--psd",
        "--alg",
        "cg",
        "--rhs",
        "b_skew.npy",
        "--out",
        "x.npy",
    ),
    "singular to working precision": ("solve", "nearly.npy", "--rhs", "b.npy", "--out", "x.npy"),
    "Lanczos that may not finish": (
        "eigs",
        "line.npy",
        "--self-adjoint",
        "-k",
        "2",
        "--alg",
        "lanczos",
        "--max-iters",
        "3",
        "--out",
        "e.npz",
    ),
    "Hutchinson that may not finish": (
        "trace",
        "line.npy",
        "--alg",
        "hutchinson",
        "--tol",
        "1e-9",
        "--max-iters",
        "64",
    ),
}


@pytest.mark.parametrize("name", UNRELIABLE)
def test_unreliable_results(cola, files, tmp_path, rng, name):
    """Status 3 and the warning, unless accepted; and no file that somebody could take for an answer."""
    skew = np.zeros(6)
    skew[:2] = 1, -1
    np.save(tmp_path / "b_skew.npy", skew)
    M = rng.standard_normal((6, 6))
    M[:, 5] = M[:, :5].sum(axis=1) * (1 + 1e-16)
    np.save(tmp_path / "nearly.npy", M)
    L = rng.standard_normal((200, 200))
    np.save(tmp_path / "line.npy", L + L.T)
    argv = UNRELIABLE[name]
    before = {p.name for p in tmp_path.iterdir()}
    if name == "CG on an indefinite matrix":
        # probes may refute the declaration first, which is better still
        r = cola(*argv)
        assert r.status in (1, 3) and len(r.lines) == 1 and "positive" in r.err
        assert {p.name for p in tmp_path.iterdir()} == before
        return
    cola(*argv).one_line("warning", status=3)
    assert {p.name for p in tmp_path.iterdir()} == before
    cola("--quiet", *argv).one_line("warning", status=3)
    r = cola(*argv, "--accept-unreliable")
    assert r.status == 0 and len(r.lines) == 1
    written = {p.name for p in tmp_path.iterdir()} - before
    assert written == ({argv[-1]} if "--out" in argv else set())


def test_json_of_an_unreliable_result_says_so(cola, files):
    import json

    r = cola("solve", "good.npy", "--psd", "--alg", "cg", "--max-iters", "1", "--rhs", "b.npy", "--json")
    found = json.loads(r.out)
    assert r.status == 3 and found["reliable"] is False and len(found["warnings"]) == 1


def test_as_a_program(program, files, tmp_path):
    """The same contract across a process boundary, and no file left behind."""
    program("solve", "truncated.mtx", "--rhs", "b.npy", "--out", "x.npy").one_line("truncated.mtx, line 2")
    program("solve", "good.npy", "--rhs", "b_words.txt", "--out", "x.npy").one_line("line 3")
    assert {p.name for p in tmp_path.iterdir()} == files


def test_a_backend_that_is_not_installed(program, files, tmp_path):
    site = tmp_path / "hide"
    site.mkdir()
    (site / "torch.py").write_text("raise ImportError('no torch here')\n")
    program(*SOLVE, "--backend", "torch", path=site).one_line("torch", "pip install")


# -- what files cannot express: arrays of two libraries, devices or kinds in one question --------------------


def test_backend_mismatch():
    torch = pytest.importorskip("torch")
    A = cola_core.ops.Dense(np.eye(3))
    with pytest.raises(BackendError, match="numpy.*torch"):
        cola_core.solve(A, torch.ones(3))
    with pytest.raises(BackendError, match="numpy.*torch|torch.*numpy"):
        A + cola_core.ops.Dense(torch.eye(3))  # noqa: B018


def test_device_mismatch():
    torch = pytest.importorskip("torch")
    A = cola_core.ops.Dense(torch.eye(3))
    with pytest.raises(DeviceError, match="cpu.*meta|meta.*cpu"):
        cola_core.solve(A, torch.ones(3, device="meta"))


def test_dtype_mismatch():
    with pytest.raises((DTypeError, BackendError, TypeError, ValueError)) as caught:
        cola_core.solve(np.eye(2), np.array(["a", "b"]))
    assert "str" in str(caught.value) or "<U1" in str(caught.value)


def test_nan_in_memory():
    with pytest.raises(NonFiniteError):
        cola_core.solve(np.full((2, 2), np.nan), np.ones(2))
    with pytest.raises(NonFiniteError):
        cola_core.solve(np.eye(2), np.array([1.0, np.inf]))


@pytest.mark.parametrize(
    "ask",
    [
        lambda M: cola_core.solve(M, np.ones(2), cola_core.Cholesky()),
        lambda M: cola_core.logdet(M, cola_core.Cholesky()),
        cola_core.cholesky,
    ],
)
def test_cholesky_does_not_answer_for_another_matrix(ask):
    """Its lower triangle alone would be positive definite."""
    with pytest.raises(NotPositiveDefiniteError, match="not self-adjoint"):
        ask(np.array([[2.0, 5.0], [0.1, 2.0]]))
