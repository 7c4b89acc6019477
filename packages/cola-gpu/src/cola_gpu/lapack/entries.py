"""Diagonals and triangles as vectors and back: `extractdiag, makediag, extracttrian, maketrian`;
`sumlogdiag`.

Gathers of entries by a table of positions made once per shape; what is not taken gets a gradient that is
exactly zero. Each is the adjoint of its opposite, which is what its `..._backward` is.

offset: 0 for the main diagonal, k > 0 for the k-th above it, k < 0 below. The triangle at an offset reaches
from that diagonal outwards: above it for offset > 0, below it for offset < 0; at offset 0 `lower` decides,
and only there. Vectors of triangles are row by row. Source: arXiv:1710.08717 and the operators of its
authors.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any

import numpy as np

from cola_core.backends import Backend, backend_of
from cola_core.errors import BackendError, DTypeError, NotPositiveDefiniteError, ShapeError

from .checks import matrix_backend, require_square

__all__ = [
    "extractdiag",
    "extractdiag_backward",
    "extracttrian",
    "extracttrian_backward",
    "makediag",
    "makediag_backward",
    "maketrian",
    "maketrian_backward",
    "sumlogdiag",
    "sumlogdiag_backward",
]

Array = Any


def extractdiag(A: Array, *, offset: int = 0) -> Array:
    """The diagonal of A (*, n, n) at `offset`, shape (*, n - |offset|). Errors: ShapeError if |offset| >
    n."""
    bk = matrix_backend("extractdiag", A=A)
    return _taken("extractdiag", bk, A, offset, _diagonal)


def makediag(d: Array, *, offset: int = 0) -> Array:
    """The matrix (*, n, n), n = k + |offset|, with d (*, k) on the diagonal at `offset` and zeros
    elsewhere."""
    bk = _vectors("makediag", d)
    n = d.shape[-1] + abs(offset)
    return _spread(bk, d, n, _diagonal(n, offset))


def extracttrian(A: Array, *, offset: int = 0, lower: bool = True) -> Array:
    """The triangle of A (*, n, n) at `offset` as vectors (*, k (k + 1) / 2), k = n - |offset|, row by row.

    Errors: ShapeError if |offset| > n.
    """
    bk = matrix_backend("extracttrian", A=A)
    return _taken("extracttrian", bk, A, offset, partial(_triangle, lower=lower))


def maketrian(a: Array, *, offset: int = 0, lower: bool = True) -> Array:
    """The matrix (*, n, n), n = k + |offset|, whose triangle at `offset` is a (*, k (k + 1) / 2), row by row;
    zeros elsewhere.

    Errors: ShapeError if a has no such length.
    """
    bk = _vectors("maketrian", a)
    p = a.shape[-1]
    k = (math.isqrt(8 * p + 1) - 1) // 2
    if k * (k + 1) // 2 != p:
        raise ShapeError(
            f"maketrian: vectors of shape {tuple(a.shape)} do not fill a triangle; that of k rows has "
            f"k (k + 1) / 2 entries, {k * (k + 1) // 2} or {(k + 1) * (k + 2) // 2} here"
        )
    n = k + abs(offset)
    return _spread(bk, a, n, _triangle(n, offset, lower))


def extractdiag_backward(dbar: Array, *, offset: int = 0) -> Array:
    """`makediag(dbar)`, from (*, n - |offset|) to (*, n, n)."""
    return makediag(dbar, offset=offset)


def makediag_backward(Abar: Array, *, offset: int = 0) -> Array:
    """`extractdiag(Abar)`."""
    return extractdiag(Abar, offset=offset)


def extracttrian_backward(abar: Array, *, offset: int = 0, lower: bool = True) -> Array:
    """`maketrian(abar)`: exactly zero outside the triangle."""
    return maketrian(abar, offset=offset, lower=lower)


def maketrian_backward(Abar: Array, *, offset: int = 0, lower: bool = True) -> Array:
    """`extracttrian(Abar)`."""
    return extracttrian(Abar, offset=offset, lower=lower)


def sumlogdiag(A: Array, *, check: bool = True) -> Array:
    """`sum_i log A_ii` over the diagonal of A (*, n, n), shape (*,): half the log-determinant, from a
    Cholesky factor.

    Errors: NotPositiveDefiniteError if a diagonal entry is not positive.
    """
    bk = matrix_backend("sumlogdiag", A=A)
    require_square("sumlogdiag", A)
    d = bk.xp.linalg.diagonal(A)
    positive = bk.xp.all(d > 0)
    if check and bk.is_concrete(positive) and not bool(positive):
        raise NotPositiveDefiniteError(
            f"sumlogdiag: the diagonal of the matrix of shape {tuple(A.shape)} has entries that are "
            "not positive"
        )
    return bk.xp.sum(bk.xp.log(d), axis=-1)


def sumlogdiag_backward(A: Array, gbar: Array) -> Array:
    """The diagonal matrix with entries `gbar / A_ii`; gbar has shape (*,)."""
    bk = matrix_backend("sumlogdiag_backward", A=A)
    return bk.matrix_diag(gbar[..., None] / bk.xp.linalg.diagonal(A))


def _vectors(routine: str, x: Array) -> Backend:
    bk = backend_of(x)
    if bk is None:
        raise BackendError(f"{routine}: takes an array of NumPy, PyTorch or JAX, got {type(x).__name__}")
    if len(x.shape) < 1:
        raise ShapeError(f"{routine}: a number was given; vectors (*batch, k) are needed")
    if x.dtype not in (bk.xp.float32, bk.xp.float64):
        raise DTypeError(f"{routine}: dtype {x.dtype}; this family is real float32 or float64")
    return bk


@lru_cache(maxsize=64)
def _diagonal(n: int, offset: int) -> np.ndarray:
    """Positions of a diagonal in the row-major n x n matrix."""
    i = np.arange(n - abs(offset))
    return (i + max(-offset, 0)) * n + i + max(offset, 0)


@lru_cache(maxsize=64)
def _triangle(n: int, offset: int, lower: bool) -> np.ndarray:
    below = offset < 0 or (offset == 0 and lower)
    rows, columns = (np.tril_indices if below else np.triu_indices)(n, offset)
    return rows * n + columns


def _taken(routine: str, bk: Backend, A: Array, offset: int, positions: Any) -> Array:
    require_square(routine, A)
    n = A.shape[-1]
    if abs(offset) > n:
        raise ShapeError(f"{routine}: offset {offset} lies outside of a matrix of shape {tuple(A.shape)}")
    flat = bk.xp.reshape(A, (*A.shape[:-2], n * n))
    where = positions(n, offset)
    if not where.size:
        return flat[..., :0]
    return bk.xp.take(flat, bk.asarray(where, device=bk.device(A)), axis=-1)


def _spread(bk: Backend, x: Array, n: int, where: np.ndarray) -> Array:
    """The n x n matrix with x at these positions; the other entries are gathered from a zero that is
    appended."""
    k, batch = x.shape[-1], tuple(x.shape[:-1])
    if not k:
        return bk.zeros((*batch, n, n), x.dtype, bk.device(x))
    source = np.full(n * n, k)
    source[where] = np.arange(k)
    padded = bk.xp.concat([x, bk.xp.zeros_like(x[..., :1])], axis=-1)
    taken = bk.xp.take(padded, bk.asarray(source, device=bk.device(x)), axis=-1)
    return bk.xp.reshape(taken, (*batch, n, n))
