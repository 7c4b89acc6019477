"""Layouts of operators whose products need no communication of their own, and of those that stay whole.

``Diagonal`` and the factors of ``LowRank`` lie like vectors. A product with ``LowRank`` sends one sum of
k x c numbers for rank k and c right-hand sides. What is no larger than a vector, or is applied step by step,
lies whole on every device.
"""

from __future__ import annotations

from typing import Any

from cola_core import ops

from .table import Layout, sharder

__all__ = ["diagonal", "low_rank"]


@sharder(ops.Diagonal)
def diagonal(A: Any, layout: Layout) -> Any:
    """Entries in blocks, like a vector."""
    return A.replace(diag=layout.spread(A.diag, "diag", axis=-1))


@sharder(ops.LowRank)
def low_rank(A: Any, layout: Layout) -> Any:
    """Both factors in row blocks."""
    V = None if A.V is None else layout.spread(A.V, "V")
    return A.replace(U=layout.spread(A.U, "U"), V=V)


def _stays(reason: str, *classes: type) -> None:
    @sharder(*classes)
    def whole(A: Any, layout: Layout) -> Any:
        return layout.keep_all(A, reason)


_stays("a number for each matrix of the batch", ops.ScalarMul)
_stays("nothing is stored", ops.Identity, ops.Zero)
_stays("substitution goes through the rows one after the other", ops.Triangular)
_stays("a product is a Fourier transform of the whole vector", ops.Hankel)
_stays("each factor is small beside the product", ops.KhatriRao)
_stays("its function decides what it reads", ops.FunctionOperator, ops.Jacobian, ops.Hessian)
