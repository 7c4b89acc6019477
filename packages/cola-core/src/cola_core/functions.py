"""Small conversions between arrays and operators, under the names of the CoLA package."""

from __future__ import annotations

from typing import Any

from .errors import ShapeError
from .operators import Identity, LinearOperator, as_operator

__all__ = ["I_like", "densify", "describe", "lazify", "load", "save", "spy", "sum"]


def lazify(A: Any) -> LinearOperator:
    """An operator as is, an array as ``Dense``."""
    return as_operator(A)


def densify(A: Any) -> Any:
    """The matrix of an operator as an array; arrays as they are."""
    return A.to_dense() if isinstance(A, LinearOperator) else A


def I_like(A: Any) -> Identity:
    """The identity of A's size, dtype, array library and device."""
    return Identity.like(as_operator(A))


def save(A: Any, path: Any) -> None:
    """Write an operator to one file that holds data only; complete or not at all. See ``io.saved``."""
    from .io import save as write

    write(A, path)


def load(path: Any, backend: str | None = None, device: Any = None) -> LinearOperator:
    """The operator that ``save`` wrote, without executing anything from the file. See ``io.saved``.

    backend: another array library than the one it was saved with.
    """
    from .io import load as read

    return read(path, backend, device)


def describe(A: Any) -> Any:
    """The composition as a tree of classes, shapes, dtypes, properties, memory and work, to print.

    >>> import numpy as np, cola_core as cola
    >>> print(cola.describe(cola.kron(cola.PSD(np.eye(3)), np.ones((2, 2)))))
    Kronecker  6x6  float64  numpy
    │  104 B, ~60 flop per product
    ├─ Dense  3x3  PSD, (SelfAdjoint)
    │     72 B, ~18 flop per product
    └─ Dense  2x2
          32 B, ~8 flop per product
    """
    from .description import describe as tree

    return tree(as_operator(A))


def spy(A: Any, ax: Any = None, max_size: int = 512, **style: Any) -> Any:
    """Draw the structure of an operator with Matplotlib; returns the axes. See ``picture``."""
    from .picture import spy as draw

    return draw(as_operator(A), ax=ax, max_size=max_size, **style)


def sum(*Ms: Any) -> LinearOperator:
    """The sum of operators or matrices, given one by one or as one list.

    >>> import numpy as np, cola_core as cola
    >>> cola.sum([np.eye(2), cola.ops.Identity(2), np.ones((2, 2))]).to_dense().tolist()
    [[3.0, 1.0], [1.0, 3.0]]
    """
    if len(Ms) == 1 and not isinstance(Ms[0], LinearOperator) and not hasattr(Ms[0], "shape"):
        Ms = tuple(Ms[0])
    if not Ms:
        raise ShapeError("sum of no operators: the shape of the result is not known; use ops.Zero(m, n).")
    out = as_operator(Ms[0])
    for M in Ms[1:]:
        out = out + as_operator(M)
    return out
