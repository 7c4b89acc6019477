"""Bytes of an input file, with errors in words; and a float parsed or refused."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from ..errors import FileFormatError
from .atomic import PathLike

__all__ = ["content", "excerpt", "fail"]


def content(path: PathLike) -> bytes:
    """The whole file; ``.gz`` is unpacked."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise FileFormatError(f"{path} is a folder, not a file.") from None
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error.strerror or error}.") from None
    if not data:
        raise FileFormatError(f"{path} is empty.")
    if path.suffix == ".gz":
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise FileFormatError(f"{path} is not a complete gzip file: {error}.") from None
    return data


def fail(
    path: PathLike, line: int | None, expected: str, found: bytes | str | None = None
) -> FileFormatError:
    """The error "FILE, line N: expected ..., found ..."; raise it."""
    where = f"{path}, line {line}" if line is not None else f"{path}"
    tail = "" if found is None else f", found {excerpt(found)}"
    return FileFormatError(f"{where}: expected {expected}{tail}.")


def excerpt(text: bytes | str, limit: int = 40) -> str:
    """The beginning of a line, quoted, on one line, whatever bytes it holds."""
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    text = text.strip()
    return repr(text if len(text) <= limit else text[:limit] + "...")
