"""Files appear complete or not at all."""

import os
import stat

import numpy as np
import pytest

from cola_core.errors import FileFormatError
from cola_core.io import atomic_path, check_target, write_array


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_behind(tmp_path, error):
    target = tmp_path / "x.npy"
    with pytest.raises(error):
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            raise error
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_survives_a_failure(tmp_path, monkeypatch):
    target = tmp_path / "x.npy"
    write_array(target, np.ones(3))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(FileFormatError, match="No space left"):
        write_array(target, np.zeros(3))
    np.testing.assert_array_equal(np.load(target), np.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_the_temporary_file_is_in_the_same_folder(tmp_path):
    with atomic_path(tmp_path / "x.png") as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".png"
        temporary.write_bytes(b"1")
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_permissions_follow_the_mask(tmp_path):
    before = os.umask(0o027)
    try:
        write_array(tmp_path / "x.npy", np.ones(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.npy").stat().st_mode) == 0o640


def test_hopeless_targets_are_refused_before_computing(tmp_path):
    for path, match in (
        (tmp_path / "none" / "x.npy", "does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "x.xls", "suffix must be one of"),
    ):
        with pytest.raises(FileFormatError, match=match):
            check_target(path)
