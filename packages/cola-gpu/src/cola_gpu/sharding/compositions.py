"""Layouts of compositions: each part by the function of its own class."""

from __future__ import annotations

from typing import Any

from cola_core import ops

from .table import Layout, sharder

__all__ = ["parts"]


@sharder(ops.Sum, ops.Product)
def parts(A: Any, layout: Layout) -> Any:
    """Every term or factor by itself."""
    return A.replace(Ms=layout.parts(A.Ms, "Ms"))


@sharder(ops.Adjoint, ops.Transpose, ops.RealPart, ops.NoDispatch)
def of_one(A: Any, layout: Layout) -> Any:
    """What is wrapped."""
    return A.replace(A=layout.part(A.A, "A"))
