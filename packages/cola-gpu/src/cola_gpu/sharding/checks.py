"""Bounds on what a compiled program sends and keeps, and ``check_sharded`` that holds an operator to them.

Values cannot tell whether a matrix was copied onto every device for a product: everything is right, only slow
and large. The compiled program can: its text names each collective operation with the shape of its result,
and the compiler knows the temporary bytes of each device. The body of a loop is counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cola_core import ops
from cola_core.backends.jax_collectives import KINDS as COLLECTIVES
from cola_core.backends.jax_collectives import collectives
from cola_core.pytree import map_leaves

from .placing import axes_of, pieces, row_spec, shard_vector
from .report import named_leaves, shard_report
from .table import shard

__all__ = ["COLLECTIVES", "ProgramFacts", "ShardingError", "check_sharded", "program_facts"]


class ShardingError(AssertionError):
    """A sharded operator that gives other values, lies elsewhere, sends more or keeps more than it may."""


@dataclass(frozen=True)
class ProgramFacts:
    """What a compiled program sends and keeps on each device.

    collectives: how many operations of each kind (``COLLECTIVES``) its text has; sent: bytes of each one's
    result, in the same kinds; argument_bytes, output_bytes, temp_bytes: memory of one device.
    """

    collectives: Mapping[str, int]
    sent: Mapping[str, tuple[int, ...]]
    argument_bytes: int
    output_bytes: int
    temp_bytes: int

    @property
    def count(self) -> int:
        """All collective operations together."""
        return sum(self.collectives.values())

    @property
    def moved(self) -> int:
        """Bytes that arrive at each device."""
        return sum(sum(sizes) for sizes in self.sent.values())

    @property
    def largest(self) -> int:
        """Bytes of the largest result of one operation."""
        return max((size for sizes in self.sent.values() for size in sizes), default=0)


def program_facts(fn: Callable[..., Any], *args: Any) -> ProgramFacts:
    """Compile ``fn`` for these arguments and read off what it sends and keeps. Runs nothing."""
    compiled = (fn if hasattr(fn, "lower") else jax.jit(fn)).lower(*args).compile()
    sent: dict[str, list[int]] = {}
    for found in collectives(compiled.as_text() or ""):
        sent.setdefault(found.kind, []).append(found.bytes)
    memory = compiled.memory_analysis()
    return ProgramFacts(
        {kind: len(sizes) for kind, sizes in sent.items()},
        {kind: tuple(sizes) for kind, sizes in sent.items()},
        int(memory.argument_size_in_bytes),
        int(memory.output_size_in_bytes),
        int(memory.temp_size_in_bytes),
    )


def _times(A: Any, X: Any) -> Any:
    return A @ X


def _adjoint_times(A: Any, X: Any) -> Any:
    return A.H @ X


def check_sharded(
    A: Any,
    mesh: Mesh,
    *,
    axis: Any = None,
    columns: int = 3,
    reference: Any = None,
    adjoint: bool = True,
    gradients: bool = False,
    max_collectives: int | Mapping[str, int] | None = None,
    max_temp_bytes: int | None = None,
    max_message_bytes: int | None = None,
    max_bytes_per_device: int | None = None,
    rtol: float | None = None,
    seed: int = 0,
) -> dict[str, ProgramFacts]:
    """Hold the products of an operator on a mesh to their promises; the facts of each program.

    A: an operator whose arrays lie on the mesh (one of a single device is first given to ``shard``). For X
    with ``columns`` random columns, the compiled ``A @ X`` and, unless told otherwise, ``A.H @ X`` must
     - equal the product with ``reference`` (an operator or a matrix; default ``A.to_dense()``) up to ``rtol``
       (default: 2000 units of rounding) relative to its largest entry;
     - return rows over the mesh where their number can be spread, so that a square A keeps X's layout;
     - have at most ``max_collectives`` collective operations (a number, or one for each kind of
       ``COLLECTIVES``; kinds left out are not allowed);
     - have no collective operation with a result above ``max_message_bytes`` on a device (default: the bytes
       of A that a device holds, and those of both vectors), which no program that gathers a matrix meets;
     - keep at most ``max_temp_bytes`` of temporary memory on a device.
    gradients: also that the gradient of ``sum(abs(A @ X)**2)`` in each floating array, and in X, lies like
    the array, agrees with differences, and moves no larger messages. max_bytes_per_device: of A itself.

    Raises ShardingError, an AssertionError, with the first broken promise. Compiles two programs (three with
    gradients).
    """
    if not any(getattr(x, "sharding", None) and len(x.sharding.device_set) > 1 for _, x in named_leaves(A)):
        A = shard(A, mesh, axis)
    axes = axes_of(mesh, axis)
    held = shard_report(A).bytes_per_device
    if max_bytes_per_device is not None and held > max_bytes_per_device:
        raise ShardingError(f"{A!r} takes {held} bytes of each device, more than {max_bytes_per_device}.")
    rng = np.random.default_rng(seed)
    dense = np.asarray(reference.to_dense() if isinstance(reference, ops.LinearOperator) else reference)
    if reference is None:
        dense = np.asarray(A.to_dense())
    tolerance = 2000 * np.finfo(dense.dtype).eps if rtol is None else rtol
    message = max_message_bytes
    if message is None:
        message = held + A.itemsize * columns * (A.shape[-1] + A.shape[-2])
    facts = {}
    for name, product, M in (("A @ X", _times, dense), ("A.H @ X", _adjoint_times, None)):
        if M is None:
            if not adjoint:
                continue
            M = dense.conj().swapaxes(-1, -2)
        X = rng.standard_normal((M.shape[-1], columns)).astype(M.real.dtype).astype(M.dtype)
        lies = shard_vector(X, mesh, axis)
        what = f"{name} for {A!r}"
        facts[name] = found = program_facts(product, A, lies)
        _bounded(what, found, max_collectives, max_temp_bytes, message)
        Y = jax.jit(product)(A, lies)
        _equal(what, np.asarray(Y), M @ X, tolerance)
        even = Y.shape[-2] % pieces(mesh, axes) == 0
        wanted = NamedSharding(mesh, row_spec(Y.ndim, axes) if even else PartitionSpec())
        if not Y.sharding.is_equivalent_to(wanted, Y.ndim):
            raise ShardingError(f"{what} lies as {Y.sharding.spec}, not as {wanted.spec}.")
    if gradients:
        X = shard_vector(rng.standard_normal((A.shape[-1], columns)).astype(dense.dtype), mesh, axis)
        facts["gradient"] = _gradients(A, X, rng, 2 * message)
    return facts


def _bounded(what: str, found: ProgramFacts, collectives: Any, temp: int | None, message: int) -> None:
    if found.largest > message:
        raise ShardingError(
            f"{what} has a collective operation of {found.largest} bytes on each device, more than the "
            f"{message} bytes of the vectors and of the operator's part there: it gathers what is spread "
            f"({dict(found.collectives)})."
        )
    if isinstance(collectives, Mapping):
        for kind, count in found.collectives.items():
            if count > collectives.get(kind, 0):
                raise ShardingError(
                    f"{what} has {count} {kind} operations, more than {collectives.get(kind, 0)}."
                )
    elif collectives is not None and found.count > collectives:
        raise ShardingError(
            f"{what} has {found.count} collective operations, more than {collectives}: "
            f"{dict(found.collectives)}."
        )
    if temp is not None and found.temp_bytes > temp:
        raise ShardingError(f"{what} keeps {found.temp_bytes} temporary bytes per device, more than {temp}.")


def _equal(what: str, found: Any, wanted: Any, tolerance: float) -> None:
    error = float(np.max(np.abs(found - wanted), initial=0.0))
    scale = float(np.max(np.abs(wanted), initial=0.0))
    if not error <= tolerance * max(scale, 1.0):
        raise ShardingError(f"{what} differs from one device by {error:.1e}, relative to {scale:.1e}.")


def _loss(leaves: Any, rebuild: Any, X: Any) -> Any:
    Y = rebuild(leaves) @ X
    return jnp.sum(jnp.real(Y * jnp.conj(Y)))


def _gradients(A: Any, X: Any, rng: Any, message: int) -> ProgramFacts:
    """See ``check_sharded``; differences are central ones along a random direction of all arrays."""
    names = [path for path, x in named_leaves(A) if _floats(x)]
    arrays = [x for _, x in named_leaves(A) if _floats(x)]

    def rebuild(leaves: Any) -> Any:
        supply = iter(leaves)
        return map_leaves(lambda x: next(supply) if _floats(x) else x, A)

    def slope(leaves: Any, X: Any) -> Any:
        return jax.grad(_loss, argnums=(0, 2))(leaves, rebuild, X)

    program = jax.jit(slope)
    found = program_facts(program, arrays, X)
    _bounded(f"the gradient of {A!r} @ X", found, None, None, message)
    found_slopes, slope_of_X = program(arrays, X)
    moves = []
    for name, x, g in zip([*names, "X"], [*arrays, X], [*found_slopes, slope_of_X], strict=True):
        if x.ndim and not g.sharding.is_equivalent_to(x.sharding, x.ndim):
            raise ShardingError(
                f"the gradient in {name} of {A!r} lies as {g.sharding}, the array as {x.sharding}."
            )
        v = rng.standard_normal(x.shape).astype(x.dtype)
        v = v + 1j * rng.standard_normal(x.shape).astype(x.dtype) if np.iscomplexobj(v) else v
        moves.append(jax.device_put(jnp.asarray(v, x.dtype), x.sharding))
    loss = jax.jit(lambda leaves, X: _loss(leaves, rebuild, X))
    h = float(np.finfo(np.dtype(X.dtype)).eps) ** (1 / 3)

    def at(t: float) -> float:
        moved = [x + t * v for x, v in zip([*arrays, X], moves, strict=True)]
        return float(loss(moved[:-1], moved[-1]))

    along = (at(h) - at(-h)) / (2 * h)
    said = sum(
        float(np.sum(np.real(np.asarray(g) * np.asarray(v))))
        for g, v in zip([*found_slopes, slope_of_X], moves, strict=True)
    )
    if not abs(along - said) <= 100 * h * (1 + abs(along)):
        raise ShardingError(f"the gradient of {A!r} @ X gives {said:.8g} along a direction, not {along:.8g}.")
    return found


def _floats(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)
