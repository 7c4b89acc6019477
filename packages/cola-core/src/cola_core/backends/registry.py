"""From an array's type to its backend, cached per type; from a name to its backend, imported on request."""

from __future__ import annotations

import importlib
from typing import Any

from ..compiling import read_instead
from ..errors import BackendError, UnknownNameError
from .base import Backend

__all__ = ["backend_of", "backend_of_type", "get_backend", "known_backends", "register_backend"]

# backend name -> (top-level modules whose classes are its arrays, where the Backend instance lives)
_LOADERS: dict[str, tuple[tuple[str, ...], str]] = {
    "numpy": (("numpy",), "cola_core.backends.numpy_backend:BACKEND"),
    "torch": (("torch",), "cola_core.backends.torch_backend:BACKEND"),
    "jax": (("jax", "jaxlib"), "cola_core.backends.jax_backend:BACKEND"),
    # placeholders used for planning; the class's own module is its key
    "abstract": (("cola_core.backends.abstract",), "cola_core.backends.abstract:BACKEND"),
}
_LOADED: dict[str, Backend] = {}
_NUMBERS: dict[type, Backend | None] = dict.fromkeys((bool, int, float, complex, type(None)))
_BY_TYPE: dict[type, Backend | None] = dict(_NUMBERS)
_NOT_ARRAYS = ("dtype", "device", "ufunc", "Module", "Generator", "Size", "AbstractBackend")


def register_backend(name: str, modules: tuple[str, ...], target: str) -> None:
    """Make a backend known: arrays whose class comes from one of ``modules`` are handled by ``target``.

    ``target`` is ``"package.module:attribute"`` naming a ``Backend`` instance; it is imported at first use.
    """
    check_backend(name, modules, target)
    _LOADERS[name] = (modules, target)
    _BY_TYPE.clear()
    _BY_TYPE.update(_NUMBERS)


def check_backend(name: str, modules: tuple[str, ...], target: str) -> None:
    """Raise UnknownNameError if ``register_backend`` with these arguments would."""
    if name in _LOADERS and _LOADERS[name] != (modules, target):
        raise UnknownNameError(f"backend {name!r} is already registered at {_LOADERS[name][1]}")


def known_backends() -> tuple[str, ...]:
    """Names of all registered backends, whether or not their library is installed."""
    return tuple(name for name in _LOADERS if name != "abstract")


def _compiled_get(name: str) -> Backend:
    if name == "torch":
        from . import torch_backend as found  # Dynamo runs an import statement, and no other form of it
    else:
        from . import numpy_backend as found  # type: ignore[no-redef]
    return found.BACKEND


def _compiled_lookup(cls: type) -> Backend | None:
    from . import torch_backend

    return torch_backend.backend_of_class(cls)


@read_instead(_compiled_get)
def get_backend(name: str) -> Backend:
    """The backend called ``name``, importing its library now."""
    found = _LOADED.get(name)
    if found is not None:
        return found
    if name not in _LOADERS:
        raise UnknownNameError(f"unknown backend {name!r}; known are {', '.join(_LOADERS)}")
    module, _, attribute = _LOADERS[name][1].partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise BackendError(
            f"backend {name!r} needs a library that cannot be imported ({error}). "
            f"Install it with: pip install 'cola-core[{name}]'"
        ) from error
    return _LOADED.setdefault(name, found)


@read_instead(_compiled_lookup)
def backend_of_type(cls: type) -> Backend | None:
    """The backend whose arrays are instances of ``cls``, or None."""
    try:
        return _BY_TYPE[cls]
    except KeyError:
        pass
    found: Backend | None = None
    # JAX's sparse matrices are no arrays to compute with; as_operator takes them
    bases = () if cls.__module__.startswith("jax.experimental.sparse") else cls.__mro__
    for base in bases:
        if base.__name__ in _NOT_ARRAYS:
            continue
        top = base.__module__.partition(".")[0]
        for name, (modules, _) in _LOADERS.items():
            if top in modules or base.__module__ in modules:
                found = get_backend(name)
                break
        if found is not None:
            break
    _BY_TYPE[cls] = found
    return found


def backend_of(*values: Any) -> Backend | None:
    """The one backend of these arrays (Python scalars and None have none); error if there are two."""
    found: Backend | None = None
    for value in values:
        backend = backend_of_type(type(value))
        if backend is None or backend is found:
            continue
        if found is not None:
            raise BackendError(
                f"arrays of two libraries in one expression: {found.name} and {backend.name}. "
                "Convert one side (A.to(backend=...) for operators)."
            )
        found = backend
    return found
