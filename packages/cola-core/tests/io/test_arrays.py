"""Vectors and dense arrays in and out of files."""

import numpy as np
import pytest
import scipy.sparse as sp

from cola_core.errors import FileFormatError, UnknownNameError
from cola_core.io import read_array, read_operator, write_array, write_arrays
from cola_core.ops import Dense, Sparse


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mtx", ".txt", ".csv", ".dat"])
@pytest.mark.parametrize("shape", [(5,), (4, 3)])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_round_trip(tmp_path, rng, suffix, shape, dtype):
    x = rng.standard_normal(shape).astype(dtype)
    if dtype is np.complex128:
        x = x + 1j * rng.standard_normal(shape)
    path = tmp_path / f"x{suffix}"
    write_array(path, x)
    np.testing.assert_array_equal(read_array(path), x)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_other_dtypes_stay(tmp_path, dtype):
    write_array(tmp_path / "x.npy", np.array([1, 0, 1], dtype))
    assert read_array(tmp_path / "x.npy").dtype == dtype


def test_text_with_comments_and_commas(tmp_path):
    (tmp_path / "x.txt").write_text("# head\n1, 2\n\n3 4  # tail\n")
    np.testing.assert_array_equal(read_array(tmp_path / "x.txt"), [[1, 2], [3, 4]])


def test_members_of_archives(tmp_path):
    write_arrays(tmp_path / "x.npz", a=np.ones(2), b=np.zeros(3))
    assert read_array(f"{tmp_path / 'x.npz'}:b").shape == (3,)
    with pytest.raises(UnknownNameError, match="holds 2 arrays .a, b."):
        read_array(tmp_path / "x.npz")
    with pytest.raises(UnknownNameError, match="no array 'c'"):
        read_array(f"{tmp_path / 'x.npz'}:c")


def test_operators(tmp_path, rng):
    M = sp.csr_array(np.where(rng.random((6, 6)) < 0.3, rng.normal(size=(6, 6)), 0.0))
    sp.save_npz(tmp_path / "s.npz", sp.csr_array(M))
    A = read_operator(tmp_path / "s.npz")
    assert type(A) is Sparse
    np.testing.assert_array_equal(A.to_dense(), M.toarray())
    np.save(tmp_path / "d.npy", np.eye(3))
    assert type(read_operator(tmp_path / "d.npy")) is Dense
    assert not read_operator(tmp_path / "d.npy").properties  # entries declare nothing
    with pytest.raises(FileFormatError, match="expected a matrix"):
        np.save(tmp_path / "v.npy", np.ones(3))
        read_operator(tmp_path / "v.npy")


class Evil:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_malformed(tmp_path, capsys):
    def fails(name, match, data=None):
        path = tmp_path / name
        if isinstance(data, bytes):
            path.write_bytes(data)
        elif data is not None:
            np.save(path, data, allow_pickle=True)
        with pytest.raises(FileFormatError, match=match) as caught:
            read_array(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    whole = tmp_path / "whole.npy"
    np.save(whole, np.arange(1000.0))
    fails("cut.npy", "not a complete NumPy file", whole.read_bytes()[:500])
    fails("junk.npy", "not a complete NumPy file", b"hello")
    fails("junk.npz", "not a complete NumPy file", b"PK\x03\x04 not a zip")
    fails("objects.npy", "Python objects", np.array([Evil()], object))
    fails("words.npy", "expected numbers", np.array(["a"]))
    fails("nan.npy", r"entry \[1\] is nan", np.array([0.0, np.nan]))
    fails("inf.npy", r"entry \[1, 0\] is inf", np.array([[0.0], [np.inf]]))
    fails("word.txt", "line 2: expected numbers, found 'two'", b"1\ntwo\n")
    fails("ragged.txt", "line 2: expected 2 numbers", b"1 2\n3\n")
    fails("nan.txt", r"entry \[0\] is nan", b"nan\n")
    fails("blank.txt", "holds no numbers", b"\n# nothing\n")
    fails("binary.txt", "line 1: expected numbers", b"\xff\xfe\x00")
    fails("empty.npy", "is empty", b"")
    fails("none.npy", "no such file")
    fails("x.xls", "unknown suffix", b"1")
    assert "unpickled" not in capsys.readouterr().out
