"""Where an operator's entries are: on which kind of device, and over how many of them they are spread.

Static facts, like shapes and dtypes: guards, ``applicable`` and estimates may look at them, remembered
choices depend on them, and they are known while planning, too. Inside a program that JAX compiles the kind is
that of the default backend, and a spread is seen where the mesh axes are explicit (part of an array's type).
"""

from __future__ import annotations

from typing import Any

from ..backends import backend_of_type
from ..backends.abstract import AbstractArray
from .session import SESSION

__all__ = ["device_kind", "placed", "shards"]

_UNKNOWN = object()


def device_kind(A: Any) -> str:
    """``"cpu"``, ``"cuda"`` (any GPU of JAX, too), ``"tpu"``, ``"mps"``, ...: of an operator or an array.

    The first leaf decides; an operator without arrays is on the CPU.

    >>> import numpy as np, cola_core as cola
    >>> device_kind(cola.ops.Dense(np.eye(2)))
    'cpu'
    """
    backend = A.backend if hasattr(type(A), "_child_fields") else backend_of_type(type(A))
    if backend is None or backend.name == "numpy":
        return "cpu"
    if backend.name == "abstract":
        current = SESSION.get()
        planned = "" if current is None or current.recorder is None else current.recorder.device
        return planned or "cpu"
    leaf = _first(A)
    return "cpu" if leaf is None else str(backend.device_kind(leaf))


def shards(A: Any) -> int:
    """How many devices the most spread leaf of an operator (or an array) is spread over: 1 where every device
    that is involved holds all of it."""
    if hasattr(type(A), "_child_fields"):
        known = A.__dict__.get("_shards")  # an operator never changes
        if known is not None:
            return known  # type: ignore[no-any-return]
        backend = getattr(A, "backend", _UNKNOWN)
        host = backend is None or getattr(backend, "name", "") == "numpy"
        found = 1 if host else max((shards(x) for x in _parts(A)), default=1)
        if backend is not _UNKNOWN:  # parameters that an operator holds as a pytree have none, and may change
            A.__dict__["_shards"] = found
        return found
    if isinstance(A, AbstractArray):
        return A.shards
    backend = backend_of_type(type(A))
    return 1 if backend is None else int(backend.shards(A))


def placed(x: Any, backend: Any) -> tuple[str, int] | None:
    """Both facts of an array of a backend as a part of a key; None for arrays of the host."""
    if backend.name == "numpy":
        return None
    if isinstance(x, AbstractArray):
        return device_kind(x), x.shards
    kind, spread = backend.device_kind(x), backend.shards(x)
    return None if kind == "cpu" and spread == 1 else (kind, spread)


def _parts(A: Any) -> list[Any]:
    """Operators and arrays of an operator, those in tuples too."""
    found: list[Any] = []
    stack = [A.__dict__[name] for name in A._child_fields]
    while stack:
        x = stack.pop()
        if isinstance(x, (tuple, list)):
            stack.extend(x)
        elif x is not None:
            found.append(x)
    return found


def _first(A: Any) -> Any:
    """The first array of an operator; an array is its own."""
    if not hasattr(type(A), "_child_fields"):
        return A
    for x in reversed(_parts(A)):
        if hasattr(type(x), "_child_fields"):
            found = _first(x)
            if found is not None:
                return found
        elif backend_of_type(type(x)) is not None:
            return x
    return None
