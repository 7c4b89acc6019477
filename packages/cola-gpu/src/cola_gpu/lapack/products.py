"""The products of the family: `gemm, gemm2, trmm, syrk`, and their adjoints.

They are made of operations that PyTorch and JAX differentiate themselves, to any order and in every mode;
where one triangle of an argument is meant, the other is neither read nor given a gradient. Batch axes
broadcast. Names and arguments: arXiv:1710.08717 (and BLAS).
"""

from __future__ import annotations

from typing import Any

from cola_core.backends import Backend
from cola_core.errors import ShapeError

from . import formulas
from .checks import matrix_backend, require_batches, require_shapes, require_square, sum_to

__all__ = [
    "gemm",
    "gemm2",
    "gemm2_backward",
    "gemm_backward",
    "syrk",
    "syrk_backward",
    "trmm",
    "trmm_backward",
]

Array = Any


def gemm(
    A: Array,
    B: Array,
    C: Array,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    beta: float = 1.0,
    axis: int = -2,
) -> Array:
    """`alpha op(A) op(B) + beta C`, `op(X)` X or X^T; A (*, m, k), B (*, k, n), C (*, m, n) if not
    transposed.

    axis: where the rows are, in all three and the result; the columns are the last axis, and what is between
    counts as batch. Errors: ShapeError, DTypeError. Cost: 2 m n k flops.
    """
    bk = matrix_backend("gemm", A=A, B=B, C=C)
    D = _product("gemm", bk, A, B, transpose_a, transpose_b, alpha, axis)
    C_ = _rows_last_but_one(bk, "gemm", C, axis)
    if tuple(C_.shape[-2:]) != tuple(D.shape[-2:]):
        raise ShapeError(
            f"gemm: C of shape {tuple(C.shape)} does not fit the product of A of shape {tuple(A.shape)} and "
            f"B of shape {tuple(B.shape)} (transpose_a={transpose_a}, transpose_b={transpose_b}, axis={axis})"
        )
    return _rows_back(bk, D + (C_ if beta == 1.0 else beta * C_), axis)


def gemm2(
    A: Array,
    B: Array,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    axis: int = -2,
) -> Array:
    """`alpha op(A) op(B)`, as `gemm` without C."""
    bk = matrix_backend("gemm2", A=A, B=B)
    return _rows_back(bk, _product("gemm2", bk, A, B, transpose_a, transpose_b, alpha, axis), axis)


def gemm_backward(
    A: Array,
    B: Array,
    C: Array,
    Dbar: Array,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    beta: float = 1.0,
    axis: int = -2,
) -> tuple[Array, Array, Array]:
    """Cotangents `(Abar, Bbar, Cbar)` of `D = gemm(A, B, C, ...)`: `alpha Dbar op(B)^T`, `alpha op(A)^T Dbar`
    (transposed with their argument), `beta Dbar`; each of the shape of its argument."""
    bk = matrix_backend("gemm_backward", A=A, B=B, C=C, Dbar=Dbar)
    Abar, Bbar = _product_backward("gemm_backward", bk, A, B, Dbar, transpose_a, transpose_b, alpha, axis)
    Cbar = sum_to(bk, _rows_last_but_one(bk, "gemm_backward", beta * Dbar, axis), _rotated_shape(bk, C, axis))
    return Abar, Bbar, _rows_back(bk, Cbar, axis)


def gemm2_backward(
    A: Array,
    B: Array,
    Dbar: Array,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    axis: int = -2,
) -> tuple[Array, Array]:
    """Cotangents `(Abar, Bbar)` of `D = gemm2(A, B, ...)`."""
    bk = matrix_backend("gemm2_backward", A=A, B=B, Dbar=Dbar)
    return _product_backward("gemm2_backward", bk, A, B, Dbar, transpose_a, transpose_b, alpha, axis)


def trmm(
    A: Array,
    B: Array,
    *,
    transpose: bool = False,
    rightside: bool = False,
    lower: bool = True,
    alpha: float = 1.0,
) -> Array:
    """`alpha op(A) B`, or `alpha B op(A)` with `rightside`; A (*, n, n) triangular, `op(A)` A or A^T.

    The other triangle of A is not read, and gets gradient zero. Errors: ShapeError, NonSquareError. Cost: 2
    n^2 flops per column of B.
    """
    bk = matrix_backend("trmm", A=A, B=B)
    require_square("trmm", A)
    if B.shape[-1 if rightside else -2] != A.shape[-1]:
        side = "columns" if rightside else "rows"
        raise ShapeError(
            f"trmm: A of shape {tuple(A.shape)} does not fit the {side} of B of shape {tuple(B.shape)}"
        )
    require_batches("trmm", A=A, B=B)
    T = bk.xp.tril(A) if lower else bk.xp.triu(A)
    T = T.mT if transpose else T
    Y = bk.xp.matmul(B, T) if rightside else bk.xp.matmul(T, B)
    return Y if alpha == 1.0 else alpha * Y


def trmm_backward(
    A: Array,
    B: Array,
    Ybar: Array,
    *,
    transpose: bool = False,
    rightside: bool = False,
    lower: bool = True,
    alpha: float = 1.0,
) -> tuple[Array, Array]:
    """Cotangents `(Abar, Bbar)` of `Y = trmm(A, B, ...)`, of the shapes of A and B; Abar is zero outside the
    stored triangle."""
    bk = matrix_backend("trmm_backward", A=A, B=B, Ybar=Ybar)
    n, k = A.shape[-1], B.shape[-2 if rightside else -1]
    one = (k, n) if rightside else (n, k)
    require_shapes("trmm_backward", A=(A, (n, n)), B=(B, one), Ybar=(Ybar, one))
    X, G = (B.mT, Ybar.mT) if rightside else (B, Ybar)
    Abar, Bbar = formulas.trmm_pullback(
        bk, A, X, G, transposed=transpose != rightside, lower=lower, alpha=alpha
    )
    Bbar = Bbar.mT if rightside else Bbar
    return sum_to(bk, Abar, tuple(A.shape)), sum_to(bk, Bbar, tuple(B.shape))


def syrk(A: Array, *, transpose: bool = False, alpha: float = 1.0) -> Array:
    """`alpha A A^T`, or `alpha A^T A` with `transpose`; A (*, m, n), the result symmetric. Cost: m^2 n
    flops."""
    bk = matrix_backend("syrk", A=A)
    C = bk.xp.matmul(A.mT, A) if transpose else bk.xp.matmul(A, A.mT)
    return C if alpha == 1.0 else alpha * C


def syrk_backward(A: Array, Cbar: Array, *, transpose: bool = False, alpha: float = 1.0) -> Array:
    """`alpha (Cbar + Cbar^T) A`, or `alpha A (Cbar + Cbar^T)` with `transpose`."""
    bk = matrix_backend("syrk_backward", A=A, Cbar=Cbar)
    n = A.shape[-1 if transpose else -2]
    require_shapes("syrk_backward", A=(A, tuple(A.shape[-2:])), Cbar=(Cbar, (n, n)))
    S = Cbar + Cbar.mT
    return alpha * (bk.xp.matmul(A, S) if transpose else bk.xp.matmul(S, A))


def _rows_last_but_one(bk: Backend, routine: str, X: Array, axis: int) -> Array:
    if axis in (-2, X.ndim - 2):
        return X
    if axis in (-1, X.ndim - 1) or not -X.ndim <= axis < X.ndim:
        raise ShapeError(
            f"{routine}: axis={axis} cannot hold the rows of a matrix of shape {tuple(X.shape)}; the columns "
            "are the last axis"
        )
    return bk.xp.moveaxis(X, axis, -2)


def _rows_back(bk: Backend, X: Array, axis: int) -> Array:
    return X if axis in (-2, X.ndim - 2) else bk.xp.moveaxis(X, -2, axis)


def _rotated_shape(bk: Backend, X: Array, axis: int) -> tuple[int, ...]:
    shape = list(X.shape)
    shape.insert(len(shape) - 2, shape.pop(axis))
    return tuple(shape)


def _product(
    routine: str, bk: Backend, A: Array, B: Array, ta: bool, tb: bool, alpha: float, axis: int
) -> Array:
    P, R = (_rows_last_but_one(bk, routine, X, axis) for X in (A, B))
    P, R = (P.mT if ta else P), (R.mT if tb else R)
    if P.shape[-1] != R.shape[-2]:
        raise ShapeError(
            f"{routine}: A of shape {tuple(A.shape)} does not fit B of shape {tuple(B.shape)} "
            f"(transpose_a={ta}, transpose_b={tb}, axis={axis})"
        )
    require_batches(routine, A=P, B=R)
    D = bk.xp.matmul(P, R)
    return D if alpha == 1.0 else alpha * D


def _product_backward(
    routine: str, bk: Backend, A: Array, B: Array, Dbar: Array, ta: bool, tb: bool, alpha: float, axis: int
) -> tuple[Array, Array]:
    P, R, G = (_rows_last_but_one(bk, routine, X, axis) for X in (A, B, Dbar))
    shapes = tuple(P.shape), tuple(R.shape)
    P, R = (P.mT if ta else P), (R.mT if tb else R)
    (m, k), n = P.shape[-2:], R.shape[-1]
    require_shapes(routine, A=(P, (m, k)), B=(R, (k, n)), Dbar=(G, (m, n)))
    Pbar, Rbar = alpha * bk.xp.matmul(G, R.mT), alpha * bk.xp.matmul(P.mT, G)
    Pbar, Rbar = (
        sum_to(bk, Pbar.mT if ta else Pbar, shapes[0]),
        sum_to(bk, Rbar.mT if tb else Rbar, shapes[1]),
    )
    return _rows_back(bk, Pbar, axis), _rows_back(bk, Rbar, axis)
