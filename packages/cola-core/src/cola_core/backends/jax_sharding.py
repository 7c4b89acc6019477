"""Arrays spread over devices whose mesh axes are explicit: part of the type of an array in JAX.

There a product that contracts a sharded axis, and a reshape of one, must say how the result lies. The rule
here: a result lies like its operands. A contraction of rows that are spread gives rows that are spread
(``A.H @ v`` lies like v) where the length allows it, else copies on every device; a reshaped array keeps the
blocks of its leading part where they are, so that nothing moves. Automatic axes need none of this.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

__all__ = ["matmul", "pieces", "reshape"]


def _spec(x: Any) -> tuple[Any, ...]:
    """The explicit axes that each axis of x is spread over."""
    found = tuple(jax.typeof(x).sharding.spec)
    return found + (None,) * (x.ndim - len(found))


def _pieces(x: Any, names: Any) -> int:
    mesh = jax.typeof(x).sharding.mesh
    return math.prod([mesh.shape[name] for name in (names if isinstance(names, tuple) else (names,))])


def pieces(x: Any) -> int:
    """Into how many parts the explicit axes cut an array."""
    return math.prod([_pieces(x, names) for names in _spec(x) if names is not None])


def matmul(a: Any, b: Any) -> Any:
    """``jnp.matmul``."""
    left, right = _spec(a), _spec(b)
    contracted = left[-1], right[-2] if b.ndim > 1 else right[-1]
    if contracted[0] is None or contracted[1] is None:
        return jnp.matmul(a, b)
    rows = left[-2:-1]
    columns = right[-1:] if b.ndim > 1 else ()
    if rows == (None,) and contracted[1] not in columns and a.shape[-2] % _pieces(a, contracted[1]) == 0:
        rows = (contracted[1],)
    batch = left[:-2] if a.ndim >= b.ndim else right[:-2]
    return jnp.matmul(a, b, out_sharding=PartitionSpec(*batch, *rows, *columns))


def reshape(x: Any, shape: tuple[int, ...]) -> Any:
    """``jnp.reshape``."""
    spec = _spec(x)
    if not any(spec):
        return jnp.reshape(x, shape)
    if -1 in shape:
        known = math.prod([s for s in shape if s != -1])
        shape = tuple(x.size // max(known, 1) if s == -1 else s for s in shape)
    found = _reshaped_spec(x, spec, shape)
    return (
        jnp.reshape(x, shape) if found is None else jnp.reshape(x, shape, out_sharding=PartitionSpec(*found))
    )


def _reshaped_spec(x: Any, spec: tuple[Any, ...], shape: tuple[int, ...]) -> list[Any] | None:
    """How the blocks lie after the reshape if none is cut: the axis that is spread begins where an axis of
    the result begins, and that one can be cut into as many pieces. None where there is no such axis."""
    starts: dict[int, int] = {}
    stride = 1
    for i, s in enumerate(shape):
        if s > 1:
            starts[stride] = i  # entries before this axis
        stride *= s
    out: list[Any] = [None] * len(shape)
    stride = 1
    for s, names in zip(x.shape, spec, strict=True):
        if names is not None:
            at = starts.get(stride)
            if at is None or shape[at] % _pieces(x, names):
                return None
            out[at] = names
        stride *= s
    return out
