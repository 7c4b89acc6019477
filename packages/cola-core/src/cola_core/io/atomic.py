"""Files appear complete or not at all: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import FileFormatError

__all__ = ["PathLike", "atomic_path", "check_folder"]

PathLike = str | os.PathLike[str]


def check_folder(path: PathLike) -> Path:
    """The path, after making sure that a file can appear there; raises FileFormatError."""
    target = Path(path)
    if target.is_dir():
        raise FileFormatError(f"cannot write {target}: it is a folder.")
    if not target.parent.is_dir():
        raise FileFormatError(f"cannot write {target}: the folder {target.parent} does not exist.")
    return target


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` on success, remove it on any error.

    An interrupt counts as an error. The suffix is kept, because writers choose their format by it.
    """
    target = check_folder(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise FileFormatError(f"cannot write {target}: {error.strerror or error}.") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files private
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FileFormatError(f"cannot write {target}: {error.strerror or error}.") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    # there is no way to read the mask without setting it
    mask = os.umask(0)
    os.umask(mask)
    return mask
