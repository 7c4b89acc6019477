"""Vectors and dense arrays: ``.npy``, ``.npz``, Matrix Market and plain text, chosen by the file's suffix."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileFormatError, UnknownNameError
from .atomic import PathLike, atomic_path, check_folder
from .content import content, fail
from .matrix_market import read_raw, write_matrix_market

__all__ = ["check_target", "load_numpy", "read_array", "split_member", "write_array", "write_arrays"]

TEXT = (".txt", ".csv", ".dat")
_WRITABLE = (".npy", ".npz", ".mtx", *TEXT)


def split_member(path: PathLike) -> tuple[str, str]:
    """``file.npz:name`` as (file, name); other paths as they are."""
    text = str(path)
    head, colon, name = text.rpartition(":")
    return (head, name) if colon and head.endswith(".npz") else (text, "")


def read_array(path: PathLike) -> np.ndarray:
    """A finite numeric array: ``.npy``, ``.npz`` (``file.npz:name`` if it holds several), ``.mtx``, or text.

    Text holds one number, or one row of numbers separated by blanks or commas, per line; ``#`` starts a
    comment. A single column is a vector of shape (n,). Raises FileFormatError naming file and line.
    """
    file, member = split_member(path)
    suffix = Path(file).suffix
    if suffix in (".npy", ".npz"):
        array = load_numpy(file, member)
    elif suffix == ".mtx" or file.endswith(".mtx.gz"):
        header, parts = read_raw(file)
        if header.format == "array":
            (array,) = parts
        else:
            data, rows, cols = parts
            array = np.zeros(header.shape, data.dtype)
            np.add.at(array, (rows, cols), data)
        array = array[:, 0] if array.shape[1] == 1 else array
    elif suffix in TEXT:
        array = _text(file)
    else:
        raise FileFormatError(
            f"{file}: unknown suffix {suffix!r}; arrays are read from {', '.join(_WRITABLE)}."
        )
    return _checked(path, array)


def load_numpy(file: str, member: str = "") -> Any:
    """The array of a ``.npy`` file, or one of a ``.npz`` archive; never unpickles."""
    raw = content(file)
    try:
        loaded = np.load(io.BytesIO(raw), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        names = loaded.files
        if not member and len(names) != 1:
            raise UnknownNameError(
                f"{file} holds {len(names)} arrays ({', '.join(names)}); say which: "
                f"{file}:{names[0] if names else 'name'}."
            )
        if member and member not in names:
            raise UnknownNameError(f"{file} has no array {member!r}; it holds {', '.join(names)}.")
        return loaded[member or names[0]]
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, KeyError) as error:
        reason = "it holds Python objects" if "allow_pickle" in str(error) else str(error).partition("\n")[0]
        raise FileFormatError(f"{file} is not a complete NumPy file of numbers: {reason}.") from None


def _checked(path: PathLike, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fciub":
        raise FileFormatError(f"{path}: expected numbers, found an array of dtype {array.dtype}.")
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0]
        at = ", ".join(str(int(i)) for i in where)
        raise FileFormatError(f"{path}: entry [{at}] is {array[tuple(where)]}; expected finite numbers.")
    return array


def _text(file: str) -> np.ndarray:
    rows: list[list[complex]] = []
    is_complex = False
    for number, line in enumerate(content(file).split(b"\n"), 1):
        words = line.partition(b"#")[0].replace(b",", b" ").split()
        if not words:
            continue
        row: list[complex] = []
        for word in words:
            text = word.decode("utf-8", "replace")
            try:
                row.append(float(text))
            except ValueError:
                try:
                    row.append(complex(text))
                    is_complex = True
                except ValueError:
                    raise fail(file, number, "numbers", text) from None
        if rows and len(row) != len(rows[0]):
            raise fail(file, number, f"{len(rows[0])} numbers, as in the lines before", line)
        rows.append(row)
    if not rows:
        raise FileFormatError(f"{file} holds no numbers.")
    array = np.array(rows, dtype=np.complex128 if is_complex else np.float64)
    return array[:, 0] if array.shape[1] == 1 else array


def check_target(path: PathLike, suffixes: tuple[str, ...] = _WRITABLE) -> Path:
    """Refuse a hopeless output file before anything is computed; raises FileFormatError."""
    target = check_folder(path)
    if target.suffix not in suffixes:
        raise FileFormatError(f"cannot write {target}: the suffix must be one of {', '.join(suffixes)}.")
    return target


def write_array(path: PathLike, x: Any) -> None:
    """Write a NumPy array as the suffix says (.npy, .npz, .mtx, text); complete or not at all, every digit
    kept."""
    target = check_target(path)
    x = np.asarray(x)
    if target.suffix == ".mtx":
        write_matrix_market(target, x)
        return
    if target.suffix == ".npz":
        write_arrays(target, x=x)
        return
    with atomic_path(target) as temporary, temporary.open("wb") as stream:
        if target.suffix == ".npy":
            np.save(stream, x, allow_pickle=False)
        else:
            separator = "," if target.suffix == ".csv" else " "
            table = x.reshape(-1, 1) if x.ndim < 2 else x
            for row in table:
                line = separator.join(
                    repr(v) if isinstance(v, float) else str(v).strip("()") for v in row.tolist()
                )
                stream.write(line.encode() + b"\n")


def write_arrays(path: PathLike, **arrays: Any) -> None:
    """Write several arrays to one ``.npz`` archive; complete or not at all."""
    with atomic_path(check_target(path, (".npz",))) as temporary, temporary.open("wb") as stream:
        members: dict[str, Any] = {name: np.asarray(x) for name, x in arrays.items()}
        np.savez(stream, **members)
