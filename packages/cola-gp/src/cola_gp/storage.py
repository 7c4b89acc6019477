"""Models on disk: one ``.npz`` file with the arrays and a JSON description, read back without executing code.

The description names classes of this package only and is checked on reading; ``allow_pickle`` is never used.
"""

from __future__ import annotations

import json
import os
import zipfile
from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import FileFormatError
from cola_core.io import atomic_path

from . import data, kernels, means, model, noise
from ._struct import Struct

FORMAT = "cola-gp"
VERSION = 1

_CLASSES: dict[str, Any] = {
    cls.__name__: cls
    for module in (kernels, means, noise, model, data)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, Struct) and cls._child_fields + cls._static_fields
}
_CLASSES["Ones"] = kernels.Ones
_CLASSES["ZeroMean"] = means.ZeroMean


def describe(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A JSON-ready description of a tree; its leaves are put into ``arrays`` as NumPy arrays."""
    if isinstance(tree, Struct):
        name = type(tree).__name__
        if _CLASSES.get(name) is not type(tree):
            raise FileFormatError(f"{name} is not a class of cola-gp; only its own kernels can be saved.")
        return {
            "class": name,
            "static": {field: getattr(tree, field) for field in tree._static_fields},
            "children": {field: describe(getattr(tree, field), arrays) for field in tree._child_fields},
        }
    if isinstance(tree, tuple):
        return [describe(item, arrays) for item in tree]
    backend = backend_of(tree)
    key = f"array{len(arrays)}"
    arrays[key] = np.asarray(tree if backend is None else backend.to_numpy(tree))
    return {"array": key}


def restore(description: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The tree of a description made by :func:`describe`."""
    if isinstance(description, list):
        return tuple(restore(item, arrays) for item in description)
    if not isinstance(description, dict):
        raise FileFormatError("a model description must be made of objects and lists.")
    if "array" in description:
        try:
            return arrays[description["array"]]
        except KeyError:
            raise FileFormatError(f"array {description['array']!r} is missing.") from None
    cls = _CLASSES.get(description.get("class", ""))
    if cls is None:
        raise FileFormatError(f"unknown class {description.get('class')!r}.")
    children = description.get("children", {})
    static = {k: tuple(v) if isinstance(v, list) else v for k, v in description.get("static", {}).items()}
    expected = (set(cls._child_fields), set(cls._static_fields))
    if (set(children), set(static)) != expected:
        raise FileFormatError(f"the fields of {cls.__name__} do not match.")
    # Through the constructor, so that a tampered file meets the same checks as a caller.
    try:
        return cls(**{name: restore(child, arrays) for name, child in children.items()}, **static)
    except FileFormatError:
        raise
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{cls.__name__}: {error}") from None


def save(path: str | os.PathLike[str], parts: dict[str, Any], meta: dict[str, Any] | None = None) -> None:
    """Write trees (models, data, scalings) and JSON-ready metadata to one file, atomically."""
    arrays: dict[str, np.ndarray] = {}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "parts": {name: describe(tree, arrays) for name, tree in parts.items()},
        "meta": meta or {},
    }
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, header=text, **arrays)  # type: ignore[arg-type]


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a file written by :func:`save`: the trees and the metadata.  Raises FileFormatError."""
    if not os.path.exists(path):
        raise FileFormatError(f"{os.fspath(path)}: no such file.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(bytes(arrays.pop("header")).decode())
        if header["format"] != FORMAT:
            raise FileFormatError(f"its format is {header['format']!r}")
        if header["version"] > VERSION:
            raise FileFormatError(f"it was written by a newer version (format {header['version']})")
        parts = {name: restore(tree, arrays) for name, tree in header["parts"].items()}
        return parts, header["meta"]
    except FileFormatError as error:
        raise FileFormatError(f"{os.fspath(path)} is not a usable cola-gp model: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise FileFormatError(
            f"{os.fspath(path)} is not a cola-gp model file ({type(error).__name__})."
        ) from None
