"""What the arrays are: NumPy, PyTorch or JAX, found by an array's type without importing any of them.

``backend_of(x)`` looks at the class's module (``torch``, ``jax``, ``numpy``); a library that is not imported
cannot have made ``x``, so nothing is ever imported to recognise it. ``get_backend("torch")`` imports on
request.
"""

from __future__ import annotations

from .base import Backend, dtype_name
from .registry import backend_of, backend_of_type, get_backend, known_backends, register_backend

__all__ = [
    "Backend",
    "backend_of",
    "backend_of_type",
    "dtype_name",
    "get_backend",
    "known_backends",
    "register_backend",
]
