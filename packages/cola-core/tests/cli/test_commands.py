"""The matrix commands: right answers, the plan, the residual or standard error, JSON, files written."""

import json

import numpy as np
import pytest
import scipy.sparse as sp

from cola_core.io import write_matrix_market


def test_info(cola, laplacian):
    r = cola("info", "a.mtx")
    assert r.status == 0 and r.err == ""
    for words in (
        "120 x 120",
        "556 nonzero",
        "float64",
        "symmetric  yes",
        "10 below, 10 above",
        "SelfAdjoint",
        "--psd",
    ):
        assert words in r.out, words
    facts = json.loads(cola("info", "a.mtx", "--json").out)
    assert facts["nnz"] == laplacian.nnz and facts["bandwidth"] == [10, 10]
    assert facts["norm1"] == 8.0 and facts["dominant_rows"] == 120 and facts["symmetric"]
    assert facts["properties"] == ["SelfAdjoint"]


def test_info_of_awkward_matrices(cola, tmp_path, rng):
    np.save(tmp_path / "tall.npy", rng.standard_normal((5, 2)))
    assert json.loads(cola("info", "tall.npy", "--json").out)["shape"] == [5, 2]
    H = rng.standard_normal((4, 4)) + 1j * rng.standard_normal((4, 4))
    write_matrix_market(tmp_path / "h.mtx", sp.csr_array(H + H.conj().T))
    facts = json.loads(cola("info", "h.mtx", "--json").out)
    assert facts["hermitian"] and not facts["symmetric"] and facts["properties"] == []
    assert "--self-adjoint" in cola("info", "h.mtx").out
    np.save(tmp_path / "zero.npy", np.zeros((3, 3)))
    facts = json.loads(cola("info", "zero.npy", "--json").out)
    assert facts["nnz"] == 0 and facts["diagonal_zeros"] == 3 and facts["dominance"] is None
    write_matrix_market(tmp_path / "empty.mtx", sp.csr_array((0, 0)))
    assert cola("info", "empty.mtx").status == 0


@pytest.mark.parametrize(
    "options",
    [(), ("--psd",), ("--psd", "--alg", "cg", "--tol", "1e-11"), ("--alg", "lu"), ("--alg", "gmres")],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mtx", ".txt"])
def test_solve(cola, laplacian, tmp_path, options, suffix):
    from cola_core.io import read_array

    r = cola("solve", "a.mtx", "--rhs", "b.npy", "--out", f"x{suffix}", *options)
    assert r.status == 0, r.err
    assert "plan\nsolve  Sparse" in r.out and "residual" in r.out and "time" in r.out
    b = np.load(tmp_path / "b.npy")
    x = read_array(tmp_path / f"x{suffix}")
    assert np.linalg.norm(laplacian @ x - b) < 1e-7 * np.linalg.norm(b)


def test_solve_json(cola, laplacian, tmp_path):
    found = json.loads(cola("solve", "a.mtx", "--rhs", "b.npy", "--psd", "--alg", "cg", "--json").out)
    assert found["reliable"] and found["warnings"] == [] and found["out"] is None
    assert found["residual"] <= 1e-8 and found["info"]["iterations"] > 5
    assert found["plan"]["by"] == "core:solve/cg" and found["plan"]["measured_seconds"] >= 0


def test_solve_several_columns_and_complex(cola, laplacian, tmp_path, rng):
    B = rng.standard_normal((120, 3)) + 1j * rng.standard_normal((120, 3))
    np.save(tmp_path / "B.npy", B)
    assert cola("solve", "a.mtx", "--rhs", "B.npy", "--out", "X.npy").status == 0
    np.testing.assert_allclose(laplacian @ np.load(tmp_path / "X.npy"), B, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_solve_in_another_precision(cola, laplacian, tmp_path, dtype):
    assert cola("solve", "a.mtx", "--rhs", "b.npy", "--out", "x.npy", "--dtype", dtype).status == 0
    assert np.load(tmp_path / "x.npy").dtype == dtype


@pytest.mark.parametrize("name", ["torch", "jax"])
@pytest.mark.parametrize("options", [("--psd", "--alg", "cg"), ("--alg", "lu")])
def test_solve_on_another_backend(cola, laplacian, tmp_path, name, options):
    pytest.importorskip(name)
    r = cola("solve", "a.mtx", "--rhs", "b.npy", "--out", "x.npy", "--backend", name, *options)
    assert r.status == 0, r.err
    b = np.load(tmp_path / "b.npy")
    assert np.linalg.norm(laplacian @ np.load(tmp_path / "x.npy") - b) < 1e-7 * np.linalg.norm(b)


@pytest.mark.parametrize("which", ["SA", "LA", "LM"])
def test_eigs(cola, laplacian, tmp_path, which):
    r = cola("eigs", "a.mtx", "-k", 4, "--which", which, "--out", "e.npz")
    assert r.status == 0 and "|A v - w v|" in r.out
    w = np.linalg.eigvalsh(laplacian.toarray())
    expected = w[:4] if which == "SA" else w[-4:]
    found = np.load(tmp_path / "e.npz")
    np.testing.assert_allclose(found["values"], expected, rtol=1e-9)
    gap = laplacian @ found["vectors"] - found["vectors"] * found["values"]
    assert np.abs(gap).max() < 1e-7
    values = json.loads(cola("eigs", "a.mtx", "-k", 4, "--which", which, "--json").out)["eigenvalues"]
    np.testing.assert_allclose(values, expected, rtol=1e-9)


def test_logdet(cola, laplacian):
    exact = np.linalg.slogdet(laplacian.toarray())[1]
    found = json.loads(cola("logdet", "a.mtx", "--json").out)
    assert found["logdet"] == pytest.approx(exact, rel=1e-12) and found["sign"] == 1
    assert found["factorisation_residual"] < 1e-14
    guess = json.loads(cola("logdet", "a.mtx", "--psd", "--alg", "slq", "--key", 3, "--json").out)
    assert abs(guess["logdet"] - exact) < 5 * guess["standard_error"]
    assert "standard error" in cola("logdet", "a.mtx", "--psd", "--alg", "slq").out


def test_logdet_of_negative_and_singular(cola, tmp_path):
    np.save(tmp_path / "n.npy", np.diag([2.0, -3.0]))
    found = json.loads(cola("logdet", "n.npy", "--json").out)
    assert found["sign"] == -1 and found["logdet"] is None and found["logabsdet"] == pytest.approx(np.log(6))
    np.save(tmp_path / "s.npy", np.diag([1.0, 0.0]))
    r = cola("logdet", "s.npy")
    assert r.status == 0 and "-inf" in r.out
    np.save(tmp_path / "c.npy", np.diag([1j, 2.0]))
    assert json.loads(cola("logdet", "c.npy", "--json").out)["sign"] == {"re": 0.0, "im": 1.0}


def test_trace(cola, laplacian):
    r = json.loads(cola("trace", "a.mtx", "--json").out)
    assert r["trace"] == 480.0 and r["standard_error"] is None and r["rounding_bound"] < 1e-10
    r = json.loads(cola("trace", "a.mtx", "--alg", "hutchinson", "--key", 0, "--json").out)
    assert r["plan"]["by"] == "core:trace/hutchinson"
    assert 0 < abs(r["trace"] - 480) < 5 * r["standard_error"]
    assert cola("trace", "a.mtx", "--alg", "hutchinson", "--key", 0).out.splitlines()[1:] != []


@pytest.mark.parametrize(
    "question",
    [
        "solve",
        "inv",
        "logdet",
        "slogdet",
        "trace",
        "diag",
        "eigs",
        "eigh",
        "eig",
        "exp",
        "log",
        "sqrt",
        "cholesky",
    ],
)
@pytest.mark.parametrize("options", [(), ("--candidates",), ("--json",), ("--analyze",)])
def test_explain(cola, laplacian, question, options):
    r = cola("explain", question, "a.mtx", "--psd", *options)
    assert r.status == 0, r.err
    assert "core" in r.out
    if options == ("--json",):
        assert json.loads(r.out)["operator"].startswith("Sparse")
    if options == ("--analyze",):
        assert "measured" in r.out


def test_explain_every_question(cola, laplacian):
    from cola_core.cli.explain import QUESTIONS

    for question in QUESTIONS:
        r = cola("explain", question, "a.mtx", "--psd")
        assert r.status == 0 and "by core:" in r.out, (question, r.err)
    for question, algorithm in (
        ("lstsq", "lstsq"),
        ("svdvals", "svd"),
        ("norm", "exact"),
        ("root", "lanczos"),
    ):
        assert cola("explain", question, "a.mtx", "--psd", "--alg", algorithm).status == 0
    assert cola("explain", "lstsq", "a.mtx", "--rhs", "b.npy").status == 0
    assert "normal equations" in cola("explain", "lstsq", "a.mtx", "--psd", "--alg", "cg").err
    assert "--rhs belongs to solve and lstsq" in cola("explain", "det", "a.mtx", "--rhs", "b.npy").err


def test_explain_says_why_not(cola, laplacian):
    r = cola("explain", "solve", "a.mtx", "--rhs", "b.npy", "--candidates")
    assert "not core:solve/cg: the operator is not declared PSD" in r.out
    assert "by core:solve/cg" in cola("explain", "solve", "a.mtx", "--psd", "--alg", "cg").out


def test_rules(cola):
    r = cola("rules", "--question", "trace")
    assert r.status == 0 and "core:trace/kronecker" in r.out and "Van Loan 2000" in r.out
    found = json.loads(cola("rules", "--json").out)
    assert {"solve", "slogdet", "eigh"} <= {f["question"] for f in found}
    assert all(f["source"] for f in found if f["plugin"] == "core")


def test_quiet(cola, laplacian):
    assert "plan" not in cola("--quiet", "solve", "a.mtx", "--rhs", "b.npy").out
    assert "plan" not in cola("solve", "a.mtx", "--rhs", "b.npy", "-q").out


def test_a_saved_operator_is_a_matrix_like_any_other(cola, tmp_path, rng):
    import cola_core

    a, b = rng.standard_normal((3, 3)), rng.standard_normal(6)
    s = a @ a.T + 3 * np.eye(3)
    K = cola_core.kron(cola_core.PSD(s), cola_core.PSD(np.diag([1.0, 2.0])))
    dense = np.kron(s, np.diag([1.0, 2.0]))
    cola_core.save(K, tmp_path / "k.cola")
    np.save(tmp_path / "b.npy", b)
    shown = cola("info", "k.cola").out
    assert "6 x 6" in shown and "Kronecker  6x6" in shown and "├─ Dense  3x3  PSD" in shown
    facts = json.loads(cola("info", "k.cola", "--json").out)
    assert [c["shape"] for c in facts["structure"]["children"]] == [[3, 3], [2, 2]]
    solved = json.loads(cola("solve", "k.cola", "--rhs", "b.npy", "--out", "x.npy", "--json").out)
    assert solved["residual"] < 1e-12
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), np.linalg.solve(dense, b), rtol=1e-9)
    assert "solve/kronecker" in cola("explain", "solve", "k.cola").out
    found = json.loads(cola("logdet", "k.cola", "--json").out)
    assert abs(found["logdet"] - np.linalg.slogdet(dense)[1]) < 1e-9
    cola_core.save(cola_core.ops.Dense(dense), tmp_path / "d.cola")
    assert "symmetric" in cola("info", "d.cola").out
    assert cola("info", "k.cola", "--psd").status == 0
    cola("info", "d.cola", "--psd", "--dtype", "float32")
    big = cola_core.kron(cola_core.PSD(np.eye(60)), cola_core.PSD(2 * np.eye(60)))
    cola_core.save(big, tmp_path / "big.cola")
    np.save(tmp_path / "ones.npy", np.ones(3600))
    solved = json.loads(cola("solve", "big.cola", "--psd", "--rhs", "ones.npy", "--json").out)
    assert solved["residual"] < 1e-12 and solved["backward_error"] < 1e-12


def test_a_saved_batch_and_a_damaged_file_are_one_line(cola, tmp_path):
    import cola_core

    cola_core.save(np.ones((2, 3, 3)), tmp_path / "batch.cola")
    cola("info", "batch.cola").one_line("batch", "(2,)")
    (tmp_path / "bad.cola").write_bytes(b"PK\x03\x04nonsense")
    cola("info", "bad.cola").one_line("bad.cola")


def test_algorithms_are_listed_with_their_settings_and_questions(cola):
    found = {a["name"]: a for a in json.loads(cola("algorithms", "--json").out)}
    assert found["CG"]["kind"] == "iterative" and found["CG"]["questions"]["solve"] is True
    assert found["CG"]["settings"]["tol"] == "None" and "cg.py:" in found["CG"]["where"]
    assert found["PowerIteration"]["questions"]["eigsh"] is False  # on request
    listed = cola("algorithms", "--question", "logdet").out
    assert "Cholesky" in listed and "GMRES" not in listed
    page = cola("algorithms", "--plugin", "core", "--markdown").out
    assert all(f"## {name}\n" in page for name, a in found.items() if a["plugin"] == "core")
    assert "``" not in page.replace("```", "")
