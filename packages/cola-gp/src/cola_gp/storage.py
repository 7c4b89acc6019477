"""Models on disk: one ``.npz`` file with the arrays and a JSON description, read back without executing code.

The description names classes by their name and module.  Only classes of this package and those that a program
has passed to :func:`register_class` are made, through their constructors, which check what they get;
``allow_pickle`` is never used and nothing in the file is run.  What cannot be written that way, such as a
function, is refused on saving.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import ColaError, FileFormatError
from cola_core.io import atomic_path

from . import data, kernels, means, model, noise
from ._struct import Struct

FORMAT = "cola-gp"
VERSION = 1

# What numpy, zipfile, json and constructors raise over a damaged file (RecursionError is a RuntimeError).
_DAMAGE = (
    ColaError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)

_PACKAGE = __name__.partition(".")[0]
_MODULE = re.compile(rf"{_PACKAGE}(\.[A-Za-z_]\w*)*")
_REGISTERED: dict[str, type] = {}
# Files of the first format name no modules.
_FIRST = (kernels, means, noise, model, data)


def register_class(cls: type) -> type:
    """Allow a class of one's own, a :class:`~cola_gp._struct.Struct` such as a kernel, in model files.

    Its constructor must accept every field by name.  Files that hold one are read only by programs that have
    registered it, too.  Usable as a decorator.
    """
    if not (isinstance(cls, type) and issubclass(cls, Struct)):
        raise TypeError(f"only Struct classes such as kernels can be saved, not {cls!r}.")
    _REGISTERED[f"{cls.__module__}:{cls.__qualname__}"] = cls
    return cls


def _own(cls: type) -> bool:
    return _MODULE.fullmatch(cls.__module__) is not None and "." not in cls.__qualname__


def _find(name: str, module: str | None) -> type:
    """The class of a description; only an import of this package's own modules may happen here."""
    if module is not None and f"{module}:{name}" in _REGISTERED:
        return _REGISTERED[f"{module}:{name}"]
    cls = None
    if module is None:
        cls = next((vars(m)[name] for m in _FIRST if name in vars(m)), None)
    elif isinstance(module, str) and _MODULE.fullmatch(module):
        try:
            cls = vars(importlib.import_module(module)).get(name)
        except ImportError:
            cls = None
    known = isinstance(cls, type) and (issubclass(cls, Struct) or dataclasses.is_dataclass(cls))
    if not known or not _own(cls):  # type: ignore[arg-type]
        raise FileFormatError(
            f"unknown class {name!r}" + (f" of {module}; was it registered?" if module else "") + "."
        )
    return cls  # type: ignore[return-value]


def _fields(cls: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the fields that hold trees, and of those that hold plain values."""
    if issubclass(cls, Struct):
        return cls._child_fields, cls._static_fields
    return tuple(field.name for field in dataclasses.fields(cls) if field.init), ()


def _plain(value: Any, where: str) -> Any:
    """A static field as JSON has it; tuples become lists."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return [_plain(item, where) for item in value]
    raise FileFormatError(
        f"{where} is a {type(value).__name__}, which cannot be read back without executing code."
    )


def _static(value: Any) -> Any:
    return tuple(_static(item) for item in value) if isinstance(value, list) else value


def describe(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A JSON-ready description of a tree; its leaves are put into ``arrays`` as NumPy arrays.

    A tree is made of structs and dataclasses of this package, tuples, lists, dictionaries of text, None,
    numbers, text and arrays of any library.
    """
    if isinstance(tree, Struct) or (dataclasses.is_dataclass(tree) and not isinstance(tree, type)):
        cls = type(tree)
        name = cls.__qualname__
        if not _own(cls) and f"{cls.__module__}:{name}" not in _REGISTERED:
            raise FileFormatError(
                f"{name} is not a class of cola-gp; pass it to cola_gp.storage.register_class first."
            )
        children, static = _fields(cls)
        return {
            "class": name,
            "module": cls.__module__,
            "static": {f: _plain(getattr(tree, f), f"{name}.{f}") for f in static},
            "children": {f: describe(getattr(tree, f), arrays) for f in children},
        }
    if isinstance(tree, tuple):
        return [describe(item, arrays) for item in tree]
    if tree is None:
        return None
    if isinstance(tree, str):
        return {"text": tree}
    if isinstance(tree, (bool, int, float)):
        return {"number": tree}
    if isinstance(tree, list):
        return {"list": [describe(item, arrays) for item in tree]}
    if isinstance(tree, dict) and all(isinstance(key, str) for key in tree):
        return {"dict": {key: describe(item, arrays) for key, item in tree.items()}}
    if isinstance(tree, np.ndarray) and tree.dtype == object and all(isinstance(t, str) for t in tree.flat):
        return {"texts": tree.tolist()}
    backend = backend_of(tree)
    if backend is None and not isinstance(tree, np.generic):
        raise FileFormatError(
            f"a {type(tree).__name__} is part of the model and cannot be read back without executing code."
        )
    if backend is not None and backend.name == "torch":
        tree = tree.detach()
    array = np.asarray(tree if backend is None else backend.to_numpy(tree))
    if array.dtype == object:
        raise FileFormatError("an array of Python objects cannot be saved.")
    key = f"array{len(arrays)}"
    arrays[key] = array
    return {"array": key}


def restore(description: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The tree of a description made by :func:`describe`."""
    if isinstance(description, list):
        return tuple(restore(item, arrays) for item in description)
    if description is None:
        return None
    if not isinstance(description, dict):
        raise FileFormatError("a model description must be made of objects and lists.")
    if "text" in description:
        return str(description["text"])
    if isinstance(description.get("number"), (bool, int, float)):
        return description["number"]
    if isinstance(description.get("list"), list):
        return [restore(item, arrays) for item in description["list"]]
    if isinstance(description.get("dict"), dict):
        return {key: restore(item, arrays) for key, item in description["dict"].items()}
    if isinstance(description.get("texts"), list):
        return np.array(description["texts"], dtype=object)
    if "array" in description:
        try:
            return arrays[description["array"]]
        except KeyError:
            raise FileFormatError(f"array {description['array']!r} is missing.") from None
    cls: Any = _find(str(description.get("class", "")), description.get("module"))
    children = description.get("children", {})
    static = {name: _static(value) for name, value in description.get("static", {}).items()}
    expected = _fields(cls)
    # a file may be older than a field that has a default
    younger = {f.name for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}
    strange = set(static) - set(expected[1]) | (set(expected[1]) - set(static) - younger)
    if set(children) != set(expected[0]) or strange:
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


@contextmanager
def assembling(path: str | os.PathLike[str]) -> Iterator[None]:
    """Parts of a file are put together inside: FileFormatError where they do not fit each other."""
    try:
        yield
    except FileFormatError:
        raise
    except _DAMAGE as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise FileFormatError(f"{os.fspath(path)} is not a usable cola-gp model: {lines[0]}") from None


def column_names(meta: dict[str, Any], d: int) -> np.ndarray | None:
    """The names of the ``d`` input columns, if the file has them.  Raises FileFormatError."""
    names = meta.get("features")
    if not names:
        return None
    if not isinstance(names, list) or len(names) != d or not all(isinstance(name, str) for name in names):
        raise FileFormatError(f"the names of the {d} input columns are {names!r}.")
    return np.asarray(names, dtype=object)


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
        if not isinstance(header["meta"], dict):
            raise FileFormatError("its metadata are no dictionary")
        return parts, header["meta"]
    except FileFormatError as error:
        raise FileFormatError(f"{os.fspath(path)} is not a usable cola-gp model: {error}") from None
    except (*_DAMAGE, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FileFormatError(
            f"{os.fspath(path)} is not a cola-gp model file ({type(error).__name__})."
        ) from None
