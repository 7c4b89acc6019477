"""Which library an array belongs to."""

from __future__ import annotations

from typing import Any

from cola_core.backends import Backend, backend_of

Array = Any


def backend_for(x: Any) -> Backend:
    """The backend of an array; TypeError for anything else."""
    backend = backend_of(x)
    if backend is None:
        raise TypeError(f"expected a NumPy, torch or JAX array, not {type(x).__name__}.")
    return backend
