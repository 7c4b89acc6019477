"""Operators spread over the devices of a JAX mesh.

``shard(A, mesh)`` puts the arrays of an operator onto the devices of a mesh, with a layout for each class of
operators (the table in ``table``), and returns an operator of the same shape and the same entries. Where
communication has to be controlled it is an operator whose products say what is sent (``RowBlockDense``,
``RowBlockSparse``, ``RingKernel``, ``SpreadKronecker``, ``SpreadToeplitz``, ``Stencil``); all else stays the
class it was. Every algorithm of the core runs on it unchanged. ``shard_report(A)`` says for each array how it
lies, how many bytes each device holds, and, where it is copied onto every device, why. ``shard_vector(b,
mesh)`` lays a vector as products expect it and return it. ``check_sharded`` holds products to bounds on
communication and memory.

Vectors: a vector whose length the number of devices divides lies in rows over the mesh, and ``A @ x`` lies
like ``x`` for square A. JAX cannot spread an array over a number of devices that does not divide its length;
vectors of such lengths lie whole on every device, before and after a product, while the operator is padded
and stays spread.

``distribute(A, device_mesh)`` does the same for PyTorch, with DTensors, as far as DTensor reaches.

Importing this module imports neither library; using it needs JAX or PyTorch, which the extras ``jax`` and
``torch`` of cola-gpu bring.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .blocks import BlockStack, SpreadBlockDiag, SpreadBlockStack
    from .checks import ProgramFacts, ShardingError, check_sharded, program_facts
    from .dense import RowBlockDense
    from .distributed import DistributionReport, PlacedLeaf, distribute, distribution_report
    from .fourier import SpreadToeplitz
    from .kernel import RingKernel
    from .kronecker import SpreadKronecker, SpreadKronSum
    from .padded import Padded
    from .placing import shard_vector
    from .report import LeafReport, ShardReport, shard_report
    from .selected import SpreadPermutation, SpreadSliced
    from .sparse import RowBlockSparse
    from .stencil import Stencil
    from .table import Layout, shard, sharder

__all__ = [
    "BlockStack",
    "DistributionReport",
    "Layout",
    "LeafReport",
    "Padded",
    "PlacedLeaf",
    "ProgramFacts",
    "RingKernel",
    "RowBlockDense",
    "RowBlockSparse",
    "ShardReport",
    "ShardingError",
    "SpreadBlockDiag",
    "SpreadBlockStack",
    "SpreadKronSum",
    "SpreadKronecker",
    "SpreadPermutation",
    "SpreadSliced",
    "SpreadToeplitz",
    "Stencil",
    "check_sharded",
    "distribute",
    "distribution_report",
    "program_facts",
    "shard",
    "shard_report",
    "shard_vector",
    "sharder",
]

_TORCH = ("DistributionReport", "PlacedLeaf", "distribute", "distribution_report")
_WHERE = {
    "BlockStack": "blocks",
    **dict.fromkeys(_TORCH, "distributed"),
    "Layout": "table",
    "LeafReport": "report",
    "Padded": "padded",
    "ProgramFacts": "checks",
    "RingKernel": "kernel",
    "RowBlockDense": "dense",
    "RowBlockSparse": "sparse",
    "ShardReport": "report",
    "ShardingError": "checks",
    "SpreadBlockDiag": "blocks",
    "SpreadBlockStack": "blocks",
    "SpreadKronSum": "kronecker",
    "SpreadKronecker": "kronecker",
    "SpreadPermutation": "selected",
    "SpreadSliced": "selected",
    "SpreadToeplitz": "fourier",
    "Stencil": "stencil",
    "check_sharded": "checks",
    "program_facts": "checks",
    "shard": "table",
    "shard_report": "report",
    "shard_vector": "placing",
    "sharder": "table",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    library, extra = ("torch", "PyTorch") if name in _TORCH else ("jax", "JAX")
    if name != "Stencil" and find_spec(library) is None:
        raise ImportError(
            f"cola_gpu.sharding.{name} needs {extra}, which is not installed: "
            f'pip install "cola-gpu[{library}]".'
        )
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
