"""One compiled call instead of a dozen small ones, for kernels made of many array operations on JAX.

Called eagerly, JAX compiles every primitive for every new shape; a transform has about fifteen. Compiled as a
whole it costs one compilation, and fuses. Other libraries run the function as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


def fused(fn: Callable[..., Any], X: Any, xp: Any, *static: str) -> Any:
    """``fn(X, xp, *static)``, compiled as a whole where X is a JAX array; static arguments are hashable."""
    if not type(X).__module__.startswith("jax"):
        return fn(X, xp, *static)
    return _compiled(fn, len(static))(X, xp, *static)


@cache
def _compiled(fn: Callable[..., Any], count: int) -> Callable[..., Any]:
    import jax  # X is a JAX array, so it is imported already

    return jax.jit(fn, static_argnums=tuple(range(1, 2 + count)))
