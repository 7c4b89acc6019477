"""Operators over the processes of a PyTorch ``DeviceMesh``, as DTensors.

``distribute(A, mesh)`` spreads the rows of what an operator is made of over the mesh. That serves algorithms
made of products: CG, MINRES, Lanczos, LOBPCG, stochastic Lanczos quadrature and trace estimates, with their
derivatives. What DTensor would answer with a copy on every process (factorisations, FFTs, sorts, slices of
rows) raises ``ShardedOperandError`` instead; classes of operators whose products need such a thing are
refused here, by name.

Every process runs the same program on the same numbers; vectors that are no DTensors count as equal on all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cola_core import ops
from cola_core.errors import BackendError

__all__ = ["DistributionReport", "PlacedLeaf", "distribute", "distribution_report"]

# per class: the fields whose axis -2 (matrices) or -1 (vectors) is spread
_ROWS: dict[type, tuple[tuple[str, int], ...]] = {
    ops.Dense: (("array", -2),),
    ops.Diagonal: (("diag", -1),),
    ops.LowRank: (("U", -2), ("V", -2)),
}
_COMPOSED: tuple[type, ...] = (ops.Sum, ops.Product, ops.Adjoint, ops.Transpose, ops.NoDispatch)
_NUMBERS: tuple[type, ...] = (ops.Identity, ops.ScalarMul)


@dataclass(frozen=True)
class PlacedLeaf:
    """One tensor of an operator: its path, shape, placements, and the bytes this process holds of it.
    reason: why it lies whole on every process."""

    path: str
    shape: tuple[int, ...]
    placements: tuple[Any, ...]
    bytes_per_device: int
    replicated: bool
    reason: str = ""

    def __str__(self) -> str:
        said = f"  ({self.reason})" if self.reason else ""
        how = "replicated" if self.replicated else str(self.placements)
        size = "x".join(map(str, self.shape)) or "number"
        return f"{self.path}  {size}  {how}  {self.bytes_per_device} B per device{said}"


@dataclass(frozen=True)
class DistributionReport:
    """The tensors of an operator, in the order of its leaves."""

    leaves: tuple[PlacedLeaf, ...]

    @property
    def bytes_per_device(self) -> int:
        """Bytes of the operator that this process holds."""
        return sum(leaf.bytes_per_device for leaf in self.leaves)

    @property
    def replicated(self) -> tuple[PlacedLeaf, ...]:
        """The tensors that lie whole on every process."""
        return tuple(leaf for leaf in self.leaves if leaf.replicated)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.leaves), f"{self.bytes_per_device} B per device"])


def distribute(A: Any, mesh: Any, *, return_report: bool = False) -> Any:
    """``A`` (an operator, or a tensor of shape (n,) or (n, k)) in blocks of rows over a one-dimensional
    ``torch.distributed.device_mesh.DeviceMesh``. The number of processes need not divide n.

    Operators: Dense, Diagonal, LowRank, numbers and identities, and their sums, products and adjoints.
    Tensors that require gradients stay in their graph. return_report: also the ``DistributionReport`` (which
    ``distribution_report`` gives later, too). Raises NotImplementedError for other classes, naming them,
    ValueError for meshes of more axes, BackendError for arrays of other libraries. Costs one transfer of
    every tensor, from the first process of the mesh.
    """
    if mesh.ndim != 1:
        raise ValueError(
            f"distribute spreads rows over one axis; the mesh has {mesh.ndim}: take one, mesh['name']."
        )
    made = _placed(A, mesh)
    return (made, distribution_report(made)) if return_report else made


def distribution_report(A: Any) -> DistributionReport:
    """How every tensor of ``A`` lies now."""
    return DistributionReport(tuple(_leaf(path, x) for path, x in _named(A)))


def _placed(A: Any, mesh: Any) -> Any:
    if not isinstance(A, ops.LinearOperator):
        return _rows(A, mesh, -2 if getattr(A, "ndim", 1) > 1 else -1)
    if A.backend is not None and A.backend.name != "torch":
        raise BackendError(
            f"distribute: {A!r} holds {A.backend.name} arrays; a DeviceMesh takes tensors: "
            "A.to(backend='torch'). For JAX use cola_gpu.sharding.shard(A, mesh)."
        )
    cls = type(A)
    if cls in _NUMBERS:
        return A
    if cls in _ROWS:
        fields = [(name, axis) for name, axis in _ROWS[cls] if getattr(A, name) is not None]
        return A.replace(**{name: _rows(getattr(A, name), mesh, axis) for name, axis in fields})
    if cls in _COMPOSED:
        changes: dict[str, Any] = {}
        for name in A._child_fields:
            value = A.__dict__[name]
            changes[name] = (
                tuple(_placed(part, mesh) for part in value)
                if isinstance(value, tuple)
                else _placed(value, mesh)
            )
        return A.replace(**changes)
    raise NotImplementedError(
        f"distribute: products with {cls.__name__} need more than DTensor can do without copying it onto "
        "every process. Distributed are Dense, Diagonal, LowRank, numbers, and their sums, products and "
        "adjoints; cola_gpu.sharding.shard(A, mesh) spreads more of them with JAX."
    )


def _rows(x: Any, mesh: Any, axis: int) -> Any:
    import torch
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    if not isinstance(x, torch.Tensor):
        raise BackendError(f"distribute takes an operator or a tensor, got {type(x).__name__}.")
    at = Shard(axis % x.ndim)
    if isinstance(x, DTensor):
        return x.redistribute(mesh, [at])
    if x.requires_grad and torch.is_grad_enabled():
        # equal on all processes, and each takes its rows: unlike distribute_tensor this has a derivative
        return DTensor.from_local(x, mesh, [Replicate()], run_check=False).redistribute(mesh, [at])
    return distribute_tensor(x.resolve_conj(), mesh, [at])  # what is sent is not lazy


def _named(A: Any, path: str = "") -> list[tuple[str, Any]]:
    if A is None or isinstance(A, (bool, int, float, complex)):
        return []
    if isinstance(A, tuple):
        return [pair for i, part in enumerate(A) for pair in _named(part, f"{path}[{i}]")]
    if isinstance(A, ops.LinearOperator):
        named = [(f"{path}.{name}" if path else name, A.__dict__[name]) for name in A._child_fields]
        return [pair for name, child in named for pair in _named(child, name)]
    return [(path or "tensor", A)]


def _leaf(path: str, x: Any) -> PlacedLeaf:
    placements = tuple(getattr(x, "placements", ()))
    mine = x.to_local() if placements else x
    held = mine.element_size() * math.prod(mine.shape)
    cut = any(p.is_shard() for p in placements)
    reason = "" if cut else "a plain tensor" if not placements else "placed so"
    return PlacedLeaf(path, tuple(x.shape), placements, held, not cut, reason)
