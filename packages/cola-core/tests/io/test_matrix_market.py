"""Matrix Market files: what is read, what is declared, and one clear error for every way to be malformed."""

import gzip

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

import cola_core as cola
from cola_core.errors import FileFormatError
from cola_core.io import read_array, read_matrix_market, read_operator, write_matrix_market
from cola_core.ops import Dense, Sparse
from cola_core.properties import PSD, SelfAdjoint

HEAD = "%%MatrixMarket matrix coordinate real general\n"


def put(tmp_path, text, name="a.mtx"):
    path = tmp_path / name
    path.write_text(text)
    return path


KINDS = [
    (form, field, symmetry)
    for form in ("coordinate", "array")
    for field in ("real", "complex", "integer", "pattern")
    for symmetry in ("general", "symmetric", "hermitian", "skew-symmetric")
    # the format has no others
    if not (field == "pattern" and (form == "array" or symmetry == "skew-symmetric"))
    and (field == "complex" or symmetry != "hermitian")
]


@pytest.mark.parametrize("form, field, symmetry", KINDS)
def test_agrees_with_scipy(tmp_path, rng, form, field, symmetry):
    M = rng.integers(-3, 4, (7, 7)).astype(complex if field == "complex" else float)
    if field == "complex":
        M = M + 1j * rng.integers(-3, 4, (7, 7))
    if field == "pattern":
        M = (M != 0).astype(float)
    M = {"general": M, "symmetric": M + M.T, "hermitian": M + M.conj().T, "skew-symmetric": M - M.T}[symmetry]
    if field == "pattern":
        M = (M != 0).astype(float)
    path = tmp_path / "a.mtx"
    scipy.io.mmwrite(path, sp.coo_array(M) if form == "coordinate" else M, symmetry=symmetry, field=field)
    A = read_operator(path)
    assert type(A) is (Sparse if form == "coordinate" else Dense)
    np.testing.assert_array_equal(A.to_dense(), M)
    claims = symmetry == "hermitian" or (symmetry == "symmetric" and field != "complex")
    assert A.isa(SelfAdjoint) == claims
    assert not A.isa(PSD)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("kind", ["scipy", "array", "sparse", "dense", "declared"])
def test_round_trip_keeps_every_digit(tmp_path, rng, kind, dtype):
    M = rng.standard_normal((9, 9)).astype(dtype)
    if dtype is np.complex128:
        M = M + 1j * rng.standard_normal((9, 9))
    if kind == "declared":
        M = M + M.conj().T
    A = {
        "scipy": lambda: sp.csr_array(M),
        "array": lambda: M,
        "sparse": lambda: Sparse.from_scipy(sp.csr_array(M)),
        "dense": lambda: Dense(M),
        "declared": lambda: SelfAdjoint(Sparse.from_scipy(sp.csr_array(M))),
    }[kind]()
    path = tmp_path / "a.mtx"
    write_matrix_market(path, A, comment="made here")
    B = read_matrix_market(path)
    np.testing.assert_array_equal(B.to_dense(), M)
    assert B.isa(SelfAdjoint) == (kind == "declared")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mtx"]


def test_a_large_file_agrees_with_scipy(tmp_path, rng):
    """Longer than one piece of the scan."""
    n = 150_000
    M = sp.coo_array((rng.standard_normal(n), rng.integers(0, 5000, (2, n))), shape=(5000, 5000)).tocsr()
    scipy.io.mmwrite(tmp_path / "a.mtx", M)
    assert (tmp_path / "a.mtx").stat().st_size > 2**22 // 2
    assert abs(read_operator(tmp_path / "a.mtx").to_scipy() - M).max() == 0


@pytest.mark.parametrize(
    "line, value",
    [
        ("1 1 3", 3.0),
        ("1 1 -1.5E-3", -1.5e-3),
        ("1 1 2.5D+02", 250.0),
        ("1 1 +.5", 0.5),
        ("1 1 3.", 3.0),
        ("\n1 1 7\n\n", 7.0),
    ],
)
def test_numbers_as_fortran_and_c_write_them(tmp_path, line, value):
    assert read_operator(put(tmp_path, f"{HEAD}% note\n\n2 2 1\n{line}\n")).to_dense()[0, 0] == value


def test_windows_line_ends_gzip_and_capitals(tmp_path):
    text = "%%MatrixMarket MATRIX Coordinate REAL General\r\n2 2 1\r\n2 1 3\r\n"
    (tmp_path / "a.mtx").write_bytes(text.encode())
    (tmp_path / "a.mtx.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.mtx", "a.mtx.gz"):
        assert read_operator(tmp_path / name).to_dense()[1, 0] == 3.0


def test_duplicates_are_summed_and_empty_matrices_read(tmp_path):
    assert read_operator(put(tmp_path, HEAD + "1 1 2\n1 1 3\n1 1 4\n")).to_dense()[0, 0] == 7.0
    assert read_operator(put(tmp_path, HEAD + "3 2 0\n")).shape == (3, 2)


def test_vectors(tmp_path):
    array = put(tmp_path, "%%MatrixMarket matrix array real general\n3 1\n1\n2\n3\n")
    np.testing.assert_array_equal(read_array(array), [1, 2, 3])
    sparse = put(tmp_path, HEAD + "3 1 1\n2 1 5\n")
    np.testing.assert_array_equal(read_array(sparse), [0, 5, 0])


MALFORMED = {
    "empty": ("", "is empty"),
    "binary": ("\x00\x01\x02", "line 1: expected the header"),
    "no header": ("3 3 1\n1 1 1\n", "line 1: expected the header"),
    "misspelt": ("%%MatrixMarkt matrix coordinate real general\n", "line 1: expected the header"),
    "wrong format": (
        "%%MatrixMarket matrix sparse real general\n1 1 0\n",
        "line 1: expected a Matrix Market format",
    ),
    "wrong field": (
        "%%MatrixMarket matrix coordinate float general\n1 1 0\n",
        "line 1: expected a Matrix Market field",
    ),
    "wrong symmetry": (
        "%%MatrixMarket matrix coordinate real positive\n1 1 0\n",
        "line 1: expected a Matrix Market symmetry",
    ),
    "array pattern": ("%%MatrixMarket matrix array pattern general\n1 1\n1\n", "line 1"),
    "no size": (HEAD + "% only a comment\n", "expected the size line"),
    "short size": (HEAD + "3 3\n1 1 1\n", "line 2: expected the size line"),
    "negative size": (HEAD + "-3 3 0\n", "line 2: expected the size line"),
    "size in words": (HEAD + "three 3 0\n", "line 2: expected the size line"),
    "absurd size": (HEAD + "10000000000 10000000000 1\n1 1 1\n", "64 bits"),
    "truncated": (
        HEAD + "3 3 3\n1 1 1\n2 2 2\n",
        "line 2: the size line promises 3 entries of a 3x3 matrix, the file holds 2",
    ),
    "cut in a line": (HEAD + "3 3 2\n1 1 1\n2 2", "line 4: expected 'row column value', found '2 2'"),
    "too long": (HEAD + "3 3 1\n1 1 1\n2 2 2\n", "promises 1 entries of a 3x3 matrix, the file holds 2"),
    "lying by a lot": (HEAD + "3 3 999999999999\n1 1 1\n", "the file holds 1"),
    "row out of range": (HEAD + "3 3 1\n4 1 1\n", "line 3: expected a row between 1 and 3, found '4'"),
    "column out of range": (HEAD + "3 3 1\n1 4 1\n", "line 3: expected a column between 1 and 3, found '4'"),
    "counted from zero": (HEAD + "3 3 1\n0 1 1\n", "line 3: expected a row between 1 and 3, found '0'"),
    "fractional index": (HEAD + "3 3 1\n1.5 1 1\n", "line 3: expected a row between 1 and 3, found '1.5'"),
    "nan": (HEAD + "3 3 2\n1 1 1\n2 2 nan\n", "line 4: expected a finite number, found 'nan'"),
    "infinite": (HEAD + "3 3 1\n2 2 -Inf\n", "line 3: expected a finite number"),
    "overflow": (HEAD + "3 3 1\n2 2 1e999\n", "line 3: expected a number in the range of double precision"),
    "word": (HEAD + "3 3 1\n1 1 abc\n", "line 3: expected a number, found 'abc'"),
    "tail": (HEAD + "3 3 1\n1 1 3.0abc\n", "line 3: expected a number, found '3.0abc'"),
    "two dots": (HEAD + "3 3 1\n1 1 1.2.3\n", "line 3: expected a number"),
    "two exponents": (HEAD + "3 3 1\n1 1 1e2e3\n", "line 3: expected a number"),
    "broken exponent": (HEAD + "3 3 1\n1 1 2e\n", "line 3: expected a number"),
    "underscore": (HEAD + "3 3 1\n1 1 1_000\n", "line 3: expected a number"),
    "missing value": (HEAD + "3 3 1\n1 1\n", "line 3: expected 'row column value'"),
    "surplus column": (HEAD + "3 3 1\n1 1 2 3\n", "line 3: expected 'row column value', found '1 1 2 3'"),
    "columns that even out": (HEAD + "3 3 2\n1 1 2 3\n2 2\n", "line 3: expected 'row column value'"),
    "comment among entries": (HEAD + "3 3 2\n1 1 1\n% no\n2 2 2\n", "line 4: expected 'row column value'"),
    "complex without imaginary": (
        "%%MatrixMarket matrix coordinate complex general\n2 2 1\n1 1 1\n",
        "line 3: expected 'row column real imaginary'",
    ),
    "pattern with values": (
        "%%MatrixMarket matrix coordinate pattern general\n2 2 1\n1 1 1\n",
        "line 3: expected 'row column'",
    ),
    "rectangular symmetric": (
        "%%MatrixMarket matrix coordinate real symmetric\n2 3 0\n",
        "as many rows as columns",
    ),
    "both triangles": (
        "%%MatrixMarket matrix coordinate real symmetric\n3 3 2\n2 1 1\n1 3 1\n",
        "entry (1, 3) is above",
    ),
    "skew diagonal": ("%%MatrixMarket matrix coordinate real skew-symmetric\n2 2 1\n1 1 1\n", "must be zero"),
    "hermitian diagonal": (
        "%%MatrixMarket matrix coordinate complex hermitian\n2 2 1\n1 1 1 1\n",
        "must be real",
    ),
    "array truncated": (
        "%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n",
        "promises 4 entries of a 2x2 matrix, the file holds 3",
    ),
    "array too long": ("%%MatrixMarket matrix array real general\n1 1\n1\n2\n", "promises 1"),
    "array nan": (
        "%%MatrixMarket matrix array real general\n2 1\n1\nnan\n",
        "line 4: expected a finite number",
    ),
    "array hermitian diagonal": ("%%MatrixMarket matrix array complex hermitian\n1 1\n1 1\n", "must be real"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(tmp_path, name):
    text, expected = MALFORMED[name]
    path = put(tmp_path, text)
    with pytest.raises(FileFormatError) as caught:
        read_operator(path)
    message = str(caught.value)
    assert str(path) in message and expected in message
    assert "\n" not in message


def test_missing_folder_and_broken_gzip(tmp_path):
    with pytest.raises(FileFormatError, match="no such file"):
        read_operator(tmp_path / "none.mtx")
    with pytest.raises(FileFormatError, match="is a folder"):
        (tmp_path / "d.mtx").mkdir()
        read_operator(tmp_path / "d.mtx")
    whole = gzip.compress(HEAD.encode() * 100)
    (tmp_path / "cut.mtx.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="not a complete gzip file"):
        read_operator(tmp_path / "cut.mtx.gz")


def test_a_declared_file_is_solved_as_such(tmp_path, rng):
    M = rng.standard_normal((20, 20))
    M = M @ M.T + 20 * np.eye(20)
    write_matrix_market(tmp_path / "a.mtx", cola.SelfAdjoint(Sparse.from_scipy(sp.csr_array(M))))
    w, _ = cola.eigh(read_operator(tmp_path / "a.mtx"))
    np.testing.assert_allclose(w, np.linalg.eigvalsh(M), rtol=1e-12)
