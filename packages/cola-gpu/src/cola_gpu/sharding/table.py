"""``shard(A, mesh)`` and its table: one function for each class of operators says how its arrays lie.

A function of the table is registered with ``@sharder(Class)``; it takes the operator and a ``Layout`` and
returns the operator on the devices. It is found by the method resolution order, so that a subclass is laid
like its parent. Arrays go through ``layout.spread`` and ``layout.keep``, parts through ``layout.part``; each
call leaves a line for the report. A class without a function keeps its structure, and its arrays lie whole
on every device.

>>> from cola_core import ops
>>> from cola_gpu.sharding import sharder
>>> class Scaled(ops.Diagonal):
...     pass
>>> @sharder(Scaled)
... def scaled(A, layout):
...     return A.replace(diag=layout.spread(A.diag, "diag", axis=-1))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cola_core import ops
from cola_core.errors import BackendError
from cola_core.pytree import map_leaves, register_pytrees, tree_leaves

from .placing import axes_of, pieces, row_spec
from .report import ShardReport, leaf_report, named_leaves

__all__ = ["Layout", "shard", "sharder"]

_TABLE: dict[type, Callable[[Any, Layout], Any]] = {}
# the files of the table, imported when the first operator is laid; later ones take precedence
_FILES = "leaves compositions dense kernel sparse blocks kronecker fourier halo selected".split()


def sharder(*classes: type) -> Callable[[Callable[[Any, Layout], Any]], Callable[[Any, Layout], Any]]:
    """Register the function that lays operators of these classes (and of their subclasses)."""

    def register(rule: Callable[[Any, Layout], Any]) -> Callable[[Any, Layout], Any]:
        for cls in classes:
            _TABLE[cls] = rule
        return rule

    return register


@dataclass
class Layout:
    """Where arrays go: a mesh, the names of the axes over which rows are spread, and the report so far.

    mesh, axes: as given to ``shard``; path: of the operator that is being laid; specs: layouts of single
    arrays by path, which the user wants.
    """

    mesh: Mesh
    axes: tuple[str, ...]
    specs: Mapping[str, PartitionSpec] = field(default_factory=dict)
    path: str = ""
    reasons: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def pieces(self) -> int:
        """Number of row blocks."""
        return pieces(self.mesh, self.axes)

    def name(self, leaf: str) -> str:
        """The path of a field of the operator that is being laid."""
        return f"{self.path}.{leaf}" if self.path and leaf else self.path or leaf

    def divides(self, length: int) -> bool:
        """Whether an axis of this length can be spread."""
        return length % self.pieces == 0 and length > 0

    def put(self, x: Any, spec: PartitionSpec) -> Any:
        """The array on the devices of the mesh."""
        return jax.device_put(x, NamedSharding(self.mesh, spec)) if hasattr(x, "shape") else x

    def spread(self, x: Any, leaf: str, axis: int = -2, reason: str = "") -> Any:
        """The array in blocks along one axis; whole on every device, with the reason, where the number of
        devices does not divide its length. reason: a remark for the report."""
        length = x.shape[axis]
        if not self.divides(length):
            return self.keep(x, leaf, f"{self.pieces} devices do not divide its length {length}")
        if reason:
            self.reasons[self.name(leaf)] = reason
        return self.put(x, row_spec(x.ndim, self.axes, axis % x.ndim))

    def keep(self, x: Any, leaf: str, reason: str) -> Any:
        """The array whole on every device, and why."""
        self.reasons[self.name(leaf)] = reason
        return self.put(x, PartitionSpec())

    def keep_all(self, A: Any, reason: str) -> Any:
        """Every array of an operator whole on every device, and why."""
        for path, _ in named_leaves(A, self.path):
            self.reasons[path] = reason
        return map_leaves(lambda x: self.put(x, PartitionSpec()), A)

    @contextmanager
    def inside(self, leaf: str) -> Iterator[None]:
        """While the arrays of a part are laid, paths begin with the name of the part."""
        before, self.path = self.path, self.name(leaf)
        try:
            yield
        finally:
            self.path = before

    def part(self, A: Any, leaf: str) -> Any:
        """A part of the operator that is being laid, by the function of its own class."""
        with self.inside(leaf):
            return _lay(A, self)

    def parts(self, parts: Sequence[Any], leaf: str) -> tuple[Any, ...]:
        """``part`` of every operator of a tuple."""
        return tuple(self.part(A, f"{leaf}[{i}]") for i, A in enumerate(parts))

    def remark(self, text: str) -> None:
        """A line for the report about the operator that is being laid."""
        self.remarks.append(f"{self.path or 'A'}: {text}")


def _lay(A: Any, layout: Layout) -> Any:
    own = {name: layout.name(name) for name in A._child_fields}
    if any(path in layout.specs for path in own.values()):
        return _as_told(A, layout, own)
    for cls in type(A).__mro__:
        rule = _TABLE.get(cls)
        if rule is not None:
            return rule(A, layout)
    return layout.keep_all(A, f"{type(A).__name__} has no layout of its own")


def _as_told(A: Any, layout: Layout, own: Mapping[str, str]) -> Any:
    """An operator of the class it was, with the layouts that the user gave for some of its arrays."""
    changes: dict[str, Any] = {}
    for name, path in own.items():
        value = A.__dict__[name]
        if path in layout.specs:
            changes[name] = layout.put(value, layout.specs[path])
            layout.reasons[path] = "as given in specs"
        elif isinstance(value, ops.LinearOperator):
            changes[name] = layout.part(value, name)
        else:
            changes[name] = map_leaves(lambda x: layout.put(x, PartitionSpec()), value)
    return A.replace(**changes)


def shard(
    A: Any,
    mesh: Mesh,
    axis: str | Sequence[str] | None = None,
    specs: Mapping[str, PartitionSpec] | None = None,
    *,
    return_report: bool = False,
) -> Any:
    """The operator ``A`` spread over the devices of ``mesh``: same shape, dtype, entries and declarations.

    axis: the mesh axis, or several, over which rows are spread; all of them where none is named. specs:
    layouts for single arrays, ``{path: PartitionSpec}`` with the paths of the report; an operator with such
    an array stays of its class, and JAX's compiler decides what its products send. return_report: also the
    ``ShardReport`` (which ``shard_report(A)`` gives later, too).

    Raises BackendError for operators that do not hold JAX arrays, ValueError for axes the mesh does not have
    and for paths that are not in the operator. Costs one transfer of every array.

    >>> import jax, jax.numpy as jnp, cola_core as cola
    >>> from cola_gpu.sharding import shard
    >>> mesh = jax.make_mesh((jax.device_count(),), ("rows",))
    >>> shard(cola.ops.Diagonal(jnp.ones(8)), mesh).shape
    (8, 8)
    """
    if not isinstance(A, ops.LinearOperator):
        raise TypeError(f"shard takes an operator, got {type(A).__name__}; for arrays use shard_vector.")
    axes = axes_of(mesh, axis)
    if A.backend is not None and A.backend.name != "jax":
        raise BackendError(
            f"shard: {A!r} holds {A.backend.name} arrays; a JAX mesh takes JAX arrays: A.to(backend='jax')."
        )
    if any(isinstance(x, jax.core.Tracer) for x in tree_leaves(A)):
        raise TypeError(
            f"shard: the arrays of {A!r} are traced; shard operators outside of jax.jit and of derivatives "
            "and pass them as arguments."
        )
    A = A._in_one_place()  # what was spread before, also over other devices, is laid anew
    for name in _FILES:
        import_module(f".{name}", __package__)
    register_pytrees()  # JAX is told of the classes of these files
    layout = Layout(mesh, axes, dict(specs or {}))
    paths = {path for path, _ in named_leaves(A)}
    unknown = sorted(layout.specs.keys() - paths)
    if unknown:
        raise ValueError(f"specs names {unknown}; the arrays of {A!r} are {sorted(paths)}.")
    made = _lay(A, layout)
    if made is A:  # without arrays: a copy, so that the report is not kept with the user's operator
        made = A.replace()
    leaves = tuple(leaf_report(p, x, layout.reasons.get(p, "")) for p, x in named_leaves(made))
    report = ShardReport(leaves, tuple(layout.remarks))
    made.__dict__["_shard_report"] = report
    return (made, report) if return_report else made
