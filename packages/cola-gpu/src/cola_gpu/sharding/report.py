"""What lies where: one line for each array of an operator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from cola_core import ops

__all__ = ["LeafReport", "ShardReport", "shard_report"]


@dataclass(frozen=True)
class LeafReport:
    """One array: its path in the operator, shape, layout, and the bytes each device holds of it.

    reason: why it lies whole on every device, or what was added to spread it; empty where there is nothing
    to say."""

    path: str
    shape: tuple[int, ...]
    spec: PartitionSpec
    bytes_per_device: int
    replicated: bool
    reason: str = ""

    def __str__(self) -> str:
        said = f"  ({self.reason})" if self.reason else ""
        how = "replicated" if self.replicated else str(self.spec)
        size = "x".join(map(str, self.shape)) or "number"
        return f"{self.path}  {size}  {how}  {self.bytes_per_device} B per device{said}"


@dataclass(frozen=True)
class ShardReport:
    """The arrays of an operator, in the order of its leaves, and remarks about compositions."""

    leaves: tuple[LeafReport, ...]
    remarks: tuple[str, ...] = ()

    @property
    def bytes_per_device(self) -> int:
        """Bytes of the operator that each device holds."""
        return sum(leaf.bytes_per_device for leaf in self.leaves)

    @property
    def replicated(self) -> tuple[LeafReport, ...]:
        """The arrays that lie whole on every device."""
        return tuple(leaf for leaf in self.leaves if leaf.replicated)

    def __str__(self) -> str:
        lines = [str(leaf) for leaf in self.leaves] + list(self.remarks)
        return "\n".join([*lines, f"{self.bytes_per_device} B per device"])


def leaf_report(path: str, x: Any, reason: str = "") -> LeafReport:
    """How one array lies."""
    sharding = getattr(x, "sharding", None)
    shape = tuple(getattr(x, "shape", ()))
    itemsize = getattr(getattr(x, "dtype", None), "itemsize", 8)
    whole = math.prod(shape) * itemsize
    if sharding is None or not shape:
        return LeafReport(path, shape, PartitionSpec(), whole, True, reason)
    held = math.prod(sharding.shard_shape(shape)) * itemsize
    spec = sharding.spec if isinstance(sharding, NamedSharding) else PartitionSpec()
    return LeafReport(path, shape, spec, held, bool(sharding.is_fully_replicated), reason)


def named_leaves(A: Any, path: str = "") -> list[tuple[str, Any]]:
    """The arrays (and numbers) of an operator with their paths, such as ``Ms[0].array``."""
    if A is None:
        return []
    if isinstance(A, tuple):
        return [pair for i, part in enumerate(A) for pair in named_leaves(part, f"{path}[{i}]")]
    if isinstance(A, ops.LinearOperator):
        found: list[tuple[str, Any]] = []
        for (key,), child in jax.tree_util.tree_flatten_with_path(A, is_leaf=lambda x: x is not A)[0]:
            name = str(key).lstrip(".")
            found += named_leaves(child, f"{path}.{name}" if path else name)
        return found
    return [(path, A)]


def shard_report(A: Any) -> ShardReport:
    """How every array of ``A`` lies now; the reasons are those of ``shard``, kept with the operator it
    returned (an operator made from it later reports layouts without reasons)."""
    known = A.__dict__.get("_shard_report")
    reasons = {leaf.path: leaf.reason for leaf in known.leaves} if known is not None else {}
    leaves = tuple(leaf_report(path, x, reasons.get(path, "")) for path, x in named_leaves(A))
    return ShardReport(leaves, known.remarks if known is not None else ())
