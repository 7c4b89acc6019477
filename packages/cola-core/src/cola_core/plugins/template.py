"""``new(name)``: a new plugin, made from the example plugin that the core's own tests build, install and run.

There is one template, ``examples/cola-circulant``: wheels carry it as ``cola_core/plugins/_template``, a
source tree has it in ``examples/``. Its names are replaced consistently, so what is new is exactly as
complete as what is tested.
"""

from __future__ import annotations

import keyword
import os
import re
import shutil
import tempfile
from pathlib import Path

from ..errors import FileFormatError, RegistrationError

__all__ = ["new", "template_folder"]

LEFT_OUT = ("__pycache__", "*.pyc", "build", "dist", "*.egg-info", ".*_cache", ".hypothesis")


def template_folder() -> Path:
    """Where the example plugin lies: in the installed package, or in the source tree it runs from."""
    here = Path(__file__).resolve()
    inside = here.parent / "_template"
    if (inside / "pyproject.toml").is_file():
        return inside
    for root in here.parents:
        found = root / "examples" / "cola-circulant"
        if (found / "pyproject.toml").is_file():
            return found
    raise FileFormatError(
        "the template of new plugins is missing: neither cola_core/plugins/_template nor "
        "examples/cola-circulant was "
        "found. Install cola-core from a wheel, or run from a complete source tree."
    )


def new(name: str, destination: str | os.PathLike[str] | None = None) -> Path:
    """Make a plugin called ``name`` and return its folder, ``destination`` (default ``cola-NAME`` here).

    name: a lower-case Python identifier; the distribution becomes ``cola-NAME``, the package ``cola_NAME``,
    its operator ``Name``. Raises RegistrationError for a name that cannot be one or is taken by an installed
    plugin, and FileExistsError or FileNotFoundError for a destination that exists or has no parent. The
    folder appears complete or not at all.
    """
    _check(name)
    target = Path(f"cola-{name.replace('_', '-')}" if destination is None else destination)
    if target.exists() or target.is_symlink():
        raise FileExistsError(f"{target} exists already; choose another destination for the plugin {name!r}.")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"{target.parent} is not a folder; create it first, the plugin {name!r} goes inside."
        )
    # built beside the destination (one file system), so that the last step is one rename
    with tempfile.TemporaryDirectory(prefix=".cola-new-", dir=target.parent) as scratch:
        made = Path(scratch) / "plugin"
        shutil.copytree(template_folder(), made, ignore=shutil.ignore_patterns(*LEFT_OUT))
        _rename(made, name)
        os.rename(made, target)
    return target


def _check(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise RegistrationError(
            f"{name!r} cannot be the name of a plugin: use lower-case letters, digits and single "
            "underscores, starting "
            "with a letter, and no word of the Python language (toeplitz, fast_multipole)."
        )
    from .manager import MANAGER

    MANAGER.discover()
    if name in MANAGER.records:
        raise RegistrationError(
            f"a plugin called {name!r} is installed already ({MANAGER.records[name].distribution}); "
            f"choose another name."
        )


def _rename(folder: Path, name: str) -> None:
    """Replace the example's names in file contents, then in file names (deepest first)."""
    dashed, camel = name.replace("_", "-"), "".join(part.capitalize() for part in name.split("_"))
    replacements = (("cola-circulant", f"cola-{dashed}"), ("circulant", name), ("Circulant", camel))

    def renamed(text: str) -> str:
        for old, by in replacements:
            text = text.replace(old, by)
        return text

    for path in sorted(folder.rglob("*"), key=lambda p: len(p.parts), reverse=True):
        if path.is_file():
            path.write_text(renamed(path.read_text(encoding="utf-8")), encoding="utf-8")
        if renamed(path.name) != path.name:
            path.rename(path.with_name(renamed(path.name)))
