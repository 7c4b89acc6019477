"""What the LAPACK family accepts, and the errors it gives otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core.backends import Backend, backend_of
from cola_core.errors import BackendError, DTypeError, NonFiniteError, NonSquareError, ShapeError

__all__ = [
    "matrix_backend",
    "require_batches",
    "require_finite",
    "require_shapes",
    "require_square",
    "sum_to",
]

Array = Any


def matrix_backend(routine: str, **matrices: Array) -> Backend:
    """The common backend of real float32/float64 matrices (*, m, n) of one dtype, or a typed error naming
    `routine`."""
    bk = backend_of(*matrices.values())
    for name, X in matrices.items():
        if bk is None or backend_of(X) is None:
            raise BackendError(
                f"{routine}: {name} is a {type(X).__name__}; it takes arrays of NumPy, PyTorch or JAX. "
                "For an operator use the questions of cola_core.linalg, or A.to_dense()."
            )
        if len(X.shape) < 2:
            raise ShapeError(
                f"{routine}: {name} has shape {tuple(X.shape)}; a matrix (*batch, m, n) is needed"
            )
        if X.dtype not in (bk.xp.float32, bk.xp.float64):
            raise DTypeError(
                f"{routine}: {name} has dtype {X.dtype}; this family is real float32 or float64 (convert "
                "with astype; complex and structured operators go through the questions of cola_core.linalg)"
            )
    dtypes = {name: X.dtype for name, X in matrices.items()}
    if len(set(dtypes.values())) > 1:
        raise DTypeError(f"{routine}: dtypes differ, {dtypes}; convert one side")
    assert bk is not None
    return bk


def require_square(routine: str, A: Array) -> None:
    """Error unless the last two axes of A are equal."""
    if A.shape[-1] != A.shape[-2]:
        raise NonSquareError(f"{routine}: needs a square matrix, got shape {tuple(A.shape)}")


def require_batches(routine: str, **matrices: Array) -> tuple[int, ...]:
    """The common batch of matrices, or a ShapeError."""
    try:
        return np.broadcast_shapes(*(tuple(X.shape[:-2]) for X in matrices.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {tuple(X.shape)}" for name, X in matrices.items())
        raise ShapeError(
            f"{routine}: the batches (the axes before the last two) of {shapes} differ"
        ) from None


def require_shapes(routine: str, **wanted: tuple[Array, tuple[int, ...]]) -> None:
    """Error unless every matrix has these last two axes and the batches broadcast."""
    for name, (X, shape) in wanted.items():
        if tuple(X.shape[-2:]) != shape:
            raise ShapeError(
                f"{routine}: {name} has shape {tuple(X.shape)}, beside the other arguments it must be "
                f"(*batch, {shape[0]}, {shape[1]})"
            )
    require_batches(routine, **{name: X for name, (X, _) in wanted.items()})


def require_finite(routine: str, bk: Backend, A: Array) -> None:
    """Error if A is concrete and holds NaN or infinity."""
    if not bk.all_finite(A):
        raise NonFiniteError(f"{routine}: the matrix of shape {tuple(A.shape)} contains NaN or infinity")


def sum_to(bk: Backend, x: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting: sum x over the axes along which `shape` was stretched."""
    while len(x.shape) > len(shape):
        x = bk.xp.sum(x, axis=0)
    stretched = tuple(i for i, (have, want) in enumerate(zip(x.shape, shape, strict=True)) if have != want)
    return bk.xp.sum(x, axis=stretched, keepdims=True) if stretched else x
