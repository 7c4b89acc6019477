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
from jax.sharding import AxisType, NamedSharding, PartitionSpec

__all__ = [
    "along",
    "automatic",
    "diagonal",
    "gather",
    "index_add",
    "lying_like",
    "matmul",
    "pieces",
    "put",
    "reshape",
    "whole_columns",
]


def _spec(x: Any) -> tuple[Any, ...]:
    """The explicit axes that each axis of x is spread over."""
    found = tuple(jax.typeof(x).sharding.spec)
    return found + (None,) * (x.ndim - len(found))


def _pieces(x: Any, names: Any) -> int:
    mesh = jax.typeof(x).sharding.mesh
    return math.prod([mesh.shape[name] for name in (names if isinstance(names, tuple) else (names,))])


def pieces(x: Any) -> tuple[int, ...]:
    """Into how many pieces the explicit axes cut each axis of an array."""
    return tuple(1 if names is None else _pieces(x, names) for names in _spec(x))


def gather(x: Any) -> Any:
    """x whole on every device of its mesh; inside of a compiled program that is said of explicit axes only,
    as the compiler places what lies along automatic ones."""
    if any(names is not None for names in _spec(x)):
        return jax.sharding.reshard(x, _lying(x))
    if isinstance(x, jax.core.Tracer) or x.sharding.is_fully_replicated:
        return x
    if isinstance(x.sharding, NamedSharding):
        return jax.device_put(x, NamedSharding(x.sharding.mesh, PartitionSpec()))
    return x


def lying_like(x: Any, like: Any) -> Any:
    """x spread over devices as an array of the same shape is."""
    if any(names is not None for names in _spec(like)):
        return jax.sharding.reshard(x, _lying(like, *_spec(like)))
    if isinstance(x, jax.core.Tracer) or isinstance(like, jax.core.Tracer):
        return x
    return x if x.sharding == like.sharding else jax.device_put(x, like.sharding)


def whole_columns(x: Any) -> Any:
    """x with its rows gathered where they are spread over explicit axes: what factors are solved with."""
    spec = _spec(x)
    return x if spec[-2] is None else jax.sharding.reshard(x, _lying(x, *spec[:-2], None, spec[-1]))


def along(x: Any, like: Any) -> Any:
    """x with its rows spread over the explicit axes that those of ``like`` are spread over."""
    rows = _spec(like)[-2]
    if rows is None:
        return x
    return jax.sharding.reshard(x, _lying(like, *_spec(x)[:-2], rows, _spec(x)[-1]))


def _lying(x: Any, *names: Any) -> NamedSharding:
    """A layout on the mesh of x, which need not be the one of the context."""
    mesh = jax.typeof(x).sharding.mesh if isinstance(x, jax.core.Tracer) else x.sharding.mesh
    return NamedSharding(mesh, PartitionSpec(*names))


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
    return jnp.matmul(a, b, out_sharding=_lying(a, *batch, *rows, *columns))


def index_add(rows: Any, values: Any, m: int) -> Any:
    """``Backend.index_add``; sums of terms that are spread over explicit axes lie whole on every device."""
    out = jnp.zeros((*values.shape[:-2], m, values.shape[-1]), values.dtype)
    spread = next((x for x in (values, rows) if any(names is not None for names in _spec(x))), None)
    if spread is None:
        return out.at[..., rows, :].add(values)
    spec = _spec(values)
    return out.at[..., rows, :].add(values, out_sharding=_lying(spread, *spec[:-2], None, spec[-1]))


def diagonal(x: Any, k: int) -> Any:
    """The k-th diagonal of the last two axes. Of rows (columns) that are spread over explicit axes every
    device picks its own entries, and a square matrix's main diagonal stays where they are."""
    rows, columns = _spec(x)[-2:]
    if rows is None and columns is None:
        return jnp.linalg.diagonal(x, offset=k)
    m, n = x.shape[-2:]
    on = jnp.arange(m)[:, None] + k == jnp.arange(n)
    found = jnp.sum(jnp.where(on, x, jnp.zeros((), x.dtype)), axis=-2 if rows is None else -1)
    length = max(min(m, n - k) if k >= 0 else min(m + k, n), 0)
    if length == found.shape[-1]:
        return found
    start = max(k, 0) if rows is None else max(-k, 0)
    return gather(found)[..., start : start + length]


def reshape(x: Any, shape: tuple[int, ...]) -> Any:
    """``jnp.reshape``."""
    spec = _spec(x)
    if not any(spec):
        return jnp.reshape(x, shape)
    if -1 in shape:
        known = math.prod([s for s in shape if s != -1])
        shape = tuple(x.size // max(known, 1) if s == -1 else s for s in shape)
    found = _reshaped_spec(x, spec, shape)
    return jnp.reshape(x, shape) if found is None else jnp.reshape(x, shape, out_sharding=_lying(x, *found))


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


def put(x: Any, index: Any, value: Any) -> Any:
    """``x.at[index].set(value)``: x gets the layout of the value along the last axis."""
    if not hasattr(value, "shape") or not value.shape or not x.ndim:
        return x.at[index].set(value)
    last = _spec(value)[-1]
    if last is None or x.shape[-1] != value.shape[-1]:
        return x.at[index].set(value)
    lies = _lying(value, *_spec(x)[:-1], last)
    return jax.sharding.reshard(x, lies).at[index].set(value, out_sharding=lies)


def automatic(fn: Any, args: Any, kwargs: Any) -> Any:
    """``fn(*args, **kwargs)`` of a traced program with its explicit axes made automatic in it.

    Iterations fill bases row by row, cut and join blocks: each such step would have to say how its result
    lies. An array of the answer with an axis as long as a spread one of the arguments lies like that axis, so
    that vectors and bases stay where they are. All else is whole on every device, and everything is where a
    space has as many vectors as those have entries.
    """
    arrays = [x for x in jax.tree.leaves(args) if hasattr(x, "shape")]
    meshes = [jax.typeof(x).sharding.mesh for x in arrays]
    mesh = next((m for m in meshes if AxisType.Explicit in getattr(m, "axis_types", ())), None)
    if mesh is None:
        return fn(*args, **kwargs)
    lies: dict[int, Any] = {}
    for A in args:  # an operator whose arrays are whole may still spread what it multiplies
        if hasattr(A, "_matvec") and len(A.shape) == 2:
            made = jax.eval_shape(lambda A: A @ jnp.zeros(A.shape[-1], A.dtype), A)
            found = [name for name in getattr(made.sharding, "spec", None) or () if name is not None]
            if found:
                lies[A.shape[-2]] = found[0]
    for x in arrays:
        lies.update({s: names for s, names in zip(x.shape, _spec(x), strict=True) if names is not None})

    def run(args: Any) -> Any:
        return fn(*args, **kwargs)

    def layout(x: Any) -> NamedSharding:
        used = False
        names: list[Any] = []
        for s in x.shape:
            names.append(None if used else lies.get(s))
            used = used or names[-1] is not None
        return NamedSharding(mesh, PartitionSpec(*names))

    everywhere = NamedSharding(mesh, PartitionSpec())
    shapes = jax.eval_shape(jax.sharding.auto_axes(run, axes=mesh.axis_names, out_sharding=everywhere), args)
    # a square array: another axis is as long as that of vectors, and which is which cannot be told
    if any(sum(s in lies for s in x.shape) > 1 for x in jax.tree.leaves(shapes)):
        lies.clear()
    out = jax.tree.map(layout, shapes)
    return jax.sharding.auto_axes(run, axes=mesh.axis_names, out_sharding=out)(args)
