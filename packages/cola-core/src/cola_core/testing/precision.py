"""JAX computes in 32 bits unless told otherwise;
checks of 64-bit dtypes switch it for their own duration only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["precision"]


@contextmanager
def precision(backend: str, dtype: str) -> Iterator[None]:
    """Within the block ``dtype`` means what it says on ``backend``."""
    if backend != "jax":
        yield
        return
    import jax

    switch: Any = getattr(jax, "enable_x64", None)
    if switch is None:  # older versions keep it elsewhere
        from jax.experimental import enable_x64

        switch = enable_x64
    with switch(dtype in ("float64", "complex128")):
        yield
