"""``save`` and ``load``: any operator in one file, which is data and nothing else.

The file is a zip archive of uncompressed members: ``operator.json``, the structure, and ``arrays/0.npy``, ...
in NumPy's format. Operators are listed parts first, each once, so that what was shared stays shared:

    {"format": "cola-core operator", "version": 1, "written_by": "0.1.0", "root": 3,
     "arrays": [{"member": "arrays/0.npy", "dtype": "float64", "shape": [4, 4], "library": "numpy"}, ...],
     "operators": [{"class": "cola_core:Dense", "shape": [4, 4], "dtype": "float64", "library": "numpy",
                    "children": {"array": {"array": 0}}, "static": {"declared": {"set": [...]}}}, ...]}

Loading checks every name, shape, dtype and size against the file before it makes anything, validates each
operator as its constructor does, and imports no code named by the file (see ``names``). Values of static
fields: None, booleans, numbers, strings, tuples, lists, dictionaries, sets, slices, dtypes, properties,
algorithms. Functions are refused: they are code.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .. import properties
from ..backends import Backend, backend_of_type, get_backend, known_backends
from ..backends.base import dtype_name
from ..errors import BackendError, DTypeError, FileFormatError
from ..operators import LinearOperator
from ..properties import Property
from ..pytree import OPERATOR_CLASSES, unflatten
from .atomic import PathLike, atomic_path
from .content import content
from .names import class_name, find_class, setting_classes

__all__ = ["is_saved", "load", "save"]

FORMAT, VERSION, STRUCTURE = "cola-core operator", 1, "operator.json"
_PROPERTIES = {p.name: p for p in vars(properties).values() if isinstance(p, Property)}
_NUMBERS = "biufc"


def save(A: Any, path: PathLike) -> None:
    """Write an operator (or array, or sparse matrix) to one file; complete or not at all.

    The suffix is free; ``.cola`` is what the command line recognises. Values are saved, not devices or
    derivative graphs: what is spread over several devices is saved as what it was made of. Raises
    FileFormatError naming the field for what a file cannot hold: functions, traced arrays, operators of
    classes that are not importable.

    >>> import numpy as np, os, tempfile, cola_core as cola
    >>> A = cola.PSD(cola.kron(np.eye(2), 3 * np.eye(2)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cola.save(A, os.path.join(folder, "A.cola"))
    ...     B = cola.load(os.path.join(folder, "A.cola"))
    >>> B, B.isa(cola.PSD), float(cola.trace(B))
    (Kronecker(Dense[2x2], Dense[2x2]), True, 12.0)
    """
    from .. import __version__
    from ..operators import as_operator

    writer = _Writer()
    root = writer.operator(as_operator(A)._in_one_place())
    structure = {
        "format": FORMAT,
        "version": VERSION,
        "written_by": __version__,
        "root": root,
        "arrays": writer.entries,
        "operators": writer.operators,
    }
    text = json.dumps(structure, allow_nan=False, separators=(",", ":")).encode()
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(STRUCTURE, text)
        for entry, array in zip(writer.entries, writer.arrays, strict=True):
            with archive.open(entry["member"], "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


class _Writer:
    """Collects operators and arrays, each once."""

    def __init__(self) -> None:
        self.operators: list[dict[str, Any]] = []
        self.entries: list[dict[str, Any]] = []
        self.arrays: list[Any] = []
        self._seen: dict[int, tuple[Any, dict[str, int]]] = {}

    def operator(self, A: Any) -> int:
        known = self._seen.get(id(A))
        if known is not None:
            return known[1]["operator"]
        name = class_name(type(A), OPERATOR_CLASSES)
        if name is None:
            raise FileFormatError(
                f"cannot save {A!r}: its class {type(A).__qualname__} is not a module-level @operator class, "
                "so that no file can name it."
            )
        record: dict[str, Any] = {"class": name}
        if isinstance(A, LinearOperator):
            record |= {
                "shape": list(A.shape),
                "dtype": None if A._dtype() is None else dtype_name(A.dtype),
                "library": None if A.backend is None else A.backend.name,
            }
        for part, fields in (("children", A._child_fields), ("static", A._static_fields)):
            record[part] = {f: self.value(A.__dict__[f], A, f) for f in fields}
        self.operators.append(record)
        self._seen[id(A)] = (A, {"operator": len(self.operators) - 1})
        return len(self.operators) - 1

    def array(self, x: Any, be: Backend, A: Any, field: str) -> dict[str, int]:
        known = self._seen.get(id(x))
        if known is not None:
            return known[1]
        if be.name == "abstract" or not be.is_concrete(x):
            raise FileFormatError(f"cannot save {A!r}: its field {field!r} is traced and has no values.")
        dtype = dtype_name(x.dtype)
        if dtype == "bfloat16":  # NumPy has no such dtype: its bits
            host = _bits(x, be)
        else:
            host = np.asarray(be.to_numpy(x))
        if host.dtype.kind not in _NUMBERS:
            raise FileFormatError(
                f"cannot save {A!r}: its field {field!r} has dtype {host.dtype}, no numbers."
            )
        index = len(self.arrays)
        self.arrays.append(host)
        self.entries.append(
            {
                "member": f"arrays/{index}.npy",
                "dtype": dtype,
                "shape": list(host.shape),
                "library": be.name,
            }
        )
        self._seen[id(x)] = (x, {"array": index})
        return {"array": index}

    def value(self, v: Any, A: Any, field: str) -> Any:
        """A field's value as JSON; numbers by their exact digits."""
        if v is None or isinstance(v, (bool, str)):
            return v
        if isinstance(v, np.generic):
            return self.value(v.item(), A, field)
        if isinstance(v, int):
            return v
        if isinstance(v, float):
            return {"float": v.hex()}
        if isinstance(v, complex):
            return {"complex": [v.real.hex(), v.imag.hex()]}
        if isinstance(v, Property):
            if _PROPERTIES.get(v.name) is not v:
                raise FileFormatError(
                    f"cannot save {A!r}: {v.name} in its field {field!r} is not known by name."
                )
            return {"property": v.name}
        if isinstance(v, (tuple, list)):
            return {
                type(v).__name__ if type(v) in (tuple, list) else "tuple": [
                    self.value(x, A, field) for x in v
                ]
            }
        if isinstance(v, (frozenset, set)):
            items = [self.value(x, A, field) for x in v]
            return {"set": sorted(items, key=lambda item: json.dumps(item, sort_keys=True))}
        if isinstance(v, dict):
            return {"dict": [[self.value(k, A, field), self.value(x, A, field)] for k, x in v.items()]}
        if isinstance(v, slice):
            return {"slice": [self.value(x, A, field) for x in (v.start, v.stop, v.step)]}
        if hasattr(type(v), "_child_fields"):
            return {"operator": self.operator(v)}
        if field == "place" and type(v).__module__.startswith("jax"):
            return None  # a device of JAX belongs to a process; arrays, too, come back on the default one
        be = backend_of_type(type(v))
        if be is not None:
            return self.array(v, be, A, field)
        kind = _outside(v)
        if kind is not None:
            return kind
        settings = class_name(type(v), setting_classes()) if dataclasses.is_dataclass(v) else None
        if settings is not None:
            values = {f.name: self.value(getattr(v, f.name), A, field) for f in dataclasses.fields(v)}
            return {"algorithm": settings, "settings": values}
        what = "a function, which is code" if callable(v) else f"a {type(v).__name__}"
        raise FileFormatError(f"cannot save {A!r}: its field {field!r} is {what}; a file holds only data.")


def _outside(v: Any) -> Any:
    """Dtypes by name; devices are not part of a value."""
    top = type(v).__module__.partition(".")[0]
    if isinstance(v, np.dtype) or (top == "torch" and type(v).__name__ == "dtype"):
        return {"dtype": dtype_name(v), "library": top if top == "torch" else "numpy"}
    if type(v).__name__ in ("device", "Device") and top in ("torch", "jaxlib", "jax"):
        return {"device": None}
    return None


def _bits(x: Any, be: Backend) -> Any:
    if be.name == "torch":
        import torch

        return x.detach().cpu().contiguous().view(torch.int16).numpy().view(np.uint16)
    return np.asarray(x).view(np.uint16)


def is_saved(raw: bytes) -> bool:
    """Whether the bytes of a file are an archive made by ``save``."""
    if not raw.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return STRUCTURE in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def load(path: PathLike, backend: str | None = None, device: Any = None) -> Any:
    """The operator that ``save`` wrote, on the array library it had, or on ``backend``.

    Nothing in the file is executed. Raises FileFormatError for a file that is missing, truncated, altered,
    of another kind, or that names a class no installed package provides; BackendError if its library is not
    installed (``backend="numpy"`` then reads it). Arrays arrive on the CPU unless ``device`` says otherwise.
    """
    if backend is not None:
        get_backend(backend)
    raw = content(path)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            A = _Reader(Path(path), archive, len(raw), backend).root()
    except (FileFormatError, BackendError, DTypeError):
        raise
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise FileFormatError(f"{path} is not a complete file of cola_core.save: {error}.") from None
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        raise FileFormatError(f"{path} does not describe an operator: {text}.") from None
    return A if device is None else A.to(device=device)


# what reading altered structure or bytes runs into, here and in the checks of the operators
_WRONG = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class _Reader:
    """One file being read; everything it says is checked."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, size: int, backend: str | None) -> None:
        self.path, self.archive, self.backend = path, archive, backend
        members: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            if info.filename in members:
                self.fail(f"two members are called {info.filename!r}")
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                self.fail(f"its member {info.filename!r} is compressed, which save never does")
            members[info.filename] = info
        if STRUCTURE not in members:
            self.fail("it is an archive of something else")
        if sum(info.file_size for info in members.values()) > size:
            self.fail("its members claim to be larger than the file")
        structure = json.loads(archive.read(STRUCTURE).decode())
        if not isinstance(structure, dict) or structure.get("format") != FORMAT:
            self.fail("it is an archive of something else")
        if structure["version"] != VERSION:
            self.fail(
                f"its format has version {structure['version']!r}, this core reads {VERSION} (it was written "
                f"by cola-core {structure.get('written_by')!r})"
            )
        self.structure = structure
        self.arrays = [self._array(entry, members) for entry in structure["arrays"]]
        extra = set(members) - {STRUCTURE} - {entry["member"] for entry in structure["arrays"]}
        if extra:
            self.fail(f"it holds {sorted(extra)[0]!r}, which is no part of the operator")
        self.operators: list[Any] = []

    def fail(self, why: str) -> None:
        raise FileFormatError(f"{self.path} is not a file of cola_core.save: {why}.")

    def root(self) -> Any:
        for record in self.structure["operators"]:
            self.operators.append(self._operator(record))
        A = self.operators[self.structure["root"]]
        if not isinstance(A, LinearOperator):
            self.fail(f"its root is a {type(A).__name__}, not an operator")
        return A

    # -- arrays ----------------------------------------------------------------------------------------------
    def _array(self, entry: Any, members: dict[str, zipfile.ZipInfo]) -> Any:
        name, dtype, shape = entry["member"], entry["dtype"], tuple(entry["shape"])
        if name not in members:
            self.fail(f"the array {name!r} is missing")
        stored = "uint16" if dtype == "bfloat16" else dtype
        with self.archive.open(members[name]) as stream:
            version = np.lib.format.read_magic(stream)
            header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if header is None:
                self.fail(f"{name} has NumPy format {version}")
            found_shape, _, found = header(stream)  # type: ignore[misc]
            if found.hasobject or found.kind not in _NUMBERS or found.name != stored or found_shape != shape:
                self.fail(f"{name} holds {found} {found_shape}, not {stored} {shape}")
            start = stream.tell()
        count = 1
        for s in shape:
            if not isinstance(s, int) or s < 0:
                self.fail(f"{name} has shape {shape}")
            count *= s
        if start + count * found.itemsize != members[name].file_size:
            self.fail(f"{name} is {members[name].file_size} bytes, which is not shape {shape} of {found}")
        with self.archive.open(members[name]) as stream:
            array = np.lib.format.read_array(io.BytesIO(stream.read()), allow_pickle=False)
        return self._in_library(array, dtype, entry["library"])

    def _in_library(self, array: Any, dtype: str, library: str) -> Any:
        if library not in known_backends():
            self.fail(f"its array library {library!r} is not known")
        try:
            be = get_backend(self.backend or library)
        except BackendError as error:
            raise BackendError(
                f"{self.path} holds {library} arrays: {error} Or load(..., backend='numpy')."
            ) from None
        if dtype == "bfloat16":
            return self._from_bits(array, be)
        out = be.asarray(array)
        if dtype_name(out.dtype) != dtype:
            raise DTypeError(
                f"{self.path} holds {dtype}, which {be.name} turned into {dtype_name(out.dtype)}. Switch on "
                "jax_enable_x64, or load(..., backend='numpy') and choose a dtype with A.to(dtype=...)."
            )
        return out

    def _from_bits(self, array: Any, be: Backend) -> Any:
        if be.name == "torch":
            import torch

            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        if be.name == "jax":
            import ml_dtypes

            return be.asarray(array.view(ml_dtypes.bfloat16))
        raise DTypeError(
            f"{self.path} holds bfloat16, which {be.name} does not have; load(..., backend='torch')."
        )

    # -- operators -------------------------------------------------------------------------------------------
    def _operator(self, record: Any) -> Any:
        cls: Any = find_class(record["class"], "operator", self.path)
        children, static = record["children"], record["static"]
        if set(children) != set(cls._child_fields) or set(static) != set(cls._static_fields):
            self.fail(
                f"{record['class']} has the fields {sorted(children) + sorted(static)}, the installed class "
                f"{[*cls._child_fields, *cls._static_fields]}"
            )
        A = unflatten(
            cls,
            tuple(self._value(static[f]) for f in cls._static_fields),
            tuple(self._value(children[f]) for f in cls._child_fields),
        )
        if not isinstance(A, LinearOperator):
            return A
        if not (isinstance(A.declared, frozenset) and all(isinstance(p, Property) for p in A.declared)):
            self.fail(f"{record['class']} declares {A.declared!r}")
        if self.backend is not None and record["library"] not in (None, self.backend):
            A = A._restatic(None, self.backend)
        A.__post_init__()  # what the constructor checks: indices inside the matrix, sizes that fit
        dtype = None if A._dtype() is None else dtype_name(A.dtype)
        if list(A.shape) != record["shape"] or dtype != record["dtype"]:
            self.fail(
                f"{record['class']} is {A.shape} of {dtype}, the file says {tuple(record['shape'])} of "
                f"{record['dtype']}"
            )
        return A

    def _value(self, v: Any) -> Any:
        if v is None or isinstance(v, (bool, str, int)):
            return v
        if not isinstance(v, dict):
            self.fail(f"it holds the value {v!r}")
        if set(v) == {"algorithm", "settings"}:
            cls: Any = find_class(v["algorithm"], "algorithm", self.path)
            return cls(**{name: self._value(x) for name, x in v["settings"].items()})
        if set(v) == {"dtype", "library"}:
            return get_backend("torch" if v["library"] == "torch" else "numpy").dtype(str(v["dtype"]))
        ((kind, x),) = v.items()
        if kind == "float":
            return float.fromhex(x)
        if kind == "complex":
            return complex(*map(float.fromhex, x))
        if kind == "property":
            if x not in _PROPERTIES:
                self.fail(f"the property {x!r} is not known")
            return _PROPERTIES[x]
        if kind == "tuple":
            return tuple(map(self._value, x))
        if kind == "list":
            return list(map(self._value, x))
        if kind == "set":
            return frozenset(map(self._value, x))
        if kind == "dict":
            return {self._value(k): self._value(y) for k, y in x}
        if kind == "slice":
            return slice(*map(self._value, x))
        if kind == "device":
            return None
        if kind == "operator":
            return self.operators[self._index(x, self.operators)]
        if kind == "array":
            return self.arrays[self._index(x, self.arrays)]
        self.fail(f"it holds a value of the unknown kind {kind!r}")

    def _index(self, i: Any, made: list[Any]) -> int:
        if not isinstance(i, int) or not 0 <= i < len(made):
            self.fail(f"it refers to part {i!r} of {len(made)}")
        return i
