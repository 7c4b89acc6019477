"""The forward functions: `gelqf, potrf, trsm, syevd, syrk, sumlogdiag`.

Arrays (*batch, m, n) of NumPy, PyTorch or JAX, real float32 or float64; batch axes broadcast in `trsm`.
Names, argument order and results follow LAPACK as in "Auto-Differentiating Linear Algebra"
(arXiv:1710.08717): LQ returns `(Q, L)`, eigenvectors are rows. The unused triangle of a triangular result is
exactly zero.

Values are checked (finite, full rank, positive definite) whenever they can be read; `check=False` omits that,
which saves a device synchronisation. Inside `jax.jit` or `torch.func` a failed Cholesky or a rank-deficient
LQ is NaN.

`trsm`, `syrk` and `sumlogdiag` are made of operations that PyTorch and JAX already differentiate correctly;
the other three carry the derivatives of `formulas.py`.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from cola_core.backends import Backend
from cola_core.errors import NotPositiveDefiniteError, ShapeError, SingularMatrixError

from .checks import matrix_backend, require_finite, require_square

__all__ = ["LQ", "SymmetricEigen", "gelqf", "potrf", "sumlogdiag", "syevd", "syrk", "trsm"]

Array = Any


class LQ(NamedTuple):
    """`A = L Q`: Q (*, m, n) with orthonormal rows, L (*, m, m) lower triangular with positive diagonal."""

    Q: Array
    L: Array


class SymmetricEigen(NamedTuple):
    """`U A = diag(lam) U`: U (*, n, n) with eigenvectors as rows, lam (*, n) ascending."""

    U: Array
    lam: Array


def gelqf(A: Array, *, check: bool = True) -> LQ:
    """LQ factorisation `A = L Q` of A (*, m, n), m <= n, of full row rank.

    Sign convention: LAPACK leaves the signs of the rows of Q free; here the diagonal of L is positive, which
    makes the factorisation unique, equal on all backends and smooth in A.
    Errors: ShapeError if m > n (factor the transpose); SingularMatrixError if a row is, to rounding, a
    combination of the rows before it, because the factorisation is then neither unique nor differentiable;
    NonFiniteError.
    Cost: 2 m^2 (n - m/3) flops, twice that for Q. Source: arXiv:1710.08717, section 3.
    """
    bk = matrix_backend("gelqf", A=A)
    m, n = A.shape[-2:]
    if m > n:
        raise ShapeError(
            f"gelqf: A has shape {tuple(A.shape)}; LQ needs at least as many columns as rows. "
            "Factor the transpose: A = (L Q)^T is its QR factorisation."
        )
    if check:
        require_finite("gelqf", bk, A)
    if m == 0:
        return LQ(A, bk.zeros((*A.shape[:-2], 0, 0), A.dtype, bk.device(A)))
    Q, L = _implementation(bk).gelqf(A)
    if not check:
        return LQ(Q, L)
    deficient = _dependent_rows(bk, L, n)
    if bk.is_concrete(deficient):
        if bool(bk.xp.any(deficient)):
            row = int(bk.xp.argmax(bk.astype(deficient, "int32"))) % m
            raise SingularMatrixError(
                f"gelqf: A of shape {tuple(A.shape)} ({A.dtype}) is rank deficient: row {row} depends on the "
                "rows before it, so Q is not unique and has no derivative. Drop dependent rows or append s*I "
                "as extra columns."
            )
        return LQ(Q, L)
    nan = bk.xp.where(bk.xp.any(deficient, axis=-1), bk.xp.nan, 0.0)[..., None, None]
    nan = bk.astype(nan, A.dtype)
    return LQ(Q + nan, bk.xp.tril(L + nan))


def potrf(A: Array, *, lower: bool = True, check: bool = True) -> Array:
    """Cholesky factor of a symmetric positive definite A (*, n, n): lower L with `A = L L^T`, or upper `A =
    U^T U`.

    Only the chosen triangle of A is read; derivatives are along symmetric perturbations, so gradients are
    symmetric.
    Errors: NotPositiveDefiniteError, NonSquareError, NonFiniteError. Cost: n^3/3 flops.
    """
    bk = matrix_backend("potrf", A=A)
    require_square("potrf", A)
    if check:
        require_finite("potrf", bk, A)
    if A.shape[-1] == 0:
        return A
    L = _implementation(bk).potrf(A if lower else A.mT)
    if check and not bk.all_finite(L):
        raise NotPositiveDefiniteError(
            f"potrf: a matrix of shape {tuple(A.shape)} ({A.dtype}) is not positive definite to working "
            "precision. Add a small multiple of the identity, or use syevd."
        )
    return L if lower else L.mT


def trsm(
    A: Array,
    B: Array,
    *,
    transpose: bool = False,
    rightside: bool = False,
    lower: bool = True,
    alpha: float = 1.0,
) -> Array:
    """Solve `op(A) X = alpha B`, or `X op(A) = alpha B` with `rightside`; A (*, n, n) triangular, `op(A)` A
    or A^T.

    The other triangle of A is not read, and gets gradient zero. Errors: SingularMatrixError for a zero on the
    diagonal; ShapeError. Cost: n^2 flops per right-hand side.
    """
    bk = matrix_backend("trsm", A=A, B=B)
    require_square("trsm", A)
    if B.shape[-1 if rightside else -2] != A.shape[-1]:
        side = "columns" if rightside else "rows"
        raise ShapeError(
            f"trsm: A of shape {tuple(A.shape)} does not fit the {side} of B of shape {tuple(B.shape)}"
        )
    rhs = B.mT if rightside else B
    if transpose != rightside:  # X op(A) = B is op(A)^T X^T = B^T: the two flips cancel
        A, lower = A.mT, not lower
    X = bk.solve_triangular(bk.xp.tril(A) if lower else bk.xp.triu(A), rhs, lower=lower)
    X = X if alpha == 1.0 else alpha * X
    return X.mT if rightside else X


def syevd(A: Array, *, gap_tol: float | None = None, check: bool = True) -> SymmetricEigen:
    """All eigenvalues and eigenvectors of a symmetric A (*, n, n): `U A = diag(lam) U`, rows of U
    orthonormal.

    Only the lower triangle of A is read. Each eigenvector's largest entry is positive, which fixes the sign.
    Pairs of eigenvalues closer than `gap_tol` (default: 64 units of rounding of the largest) count as tied
    and are left out of the derivative: exact for losses that see tied eigenvectors only through their span.
    That exactness holds for first derivatives; second derivatives at an exact tie are those of the masked
    formula. See `syevd_skipped`.
    Errors: NonSquareError, NonFiniteError. Cost: about 9 n^3 flops.
    """
    bk = matrix_backend("syevd", A=A)
    require_square("syevd", A)
    if check:
        require_finite("syevd", bk, A)
    if A.shape[-1] == 0:
        return SymmetricEigen(A, bk.zeros(A.shape[:-1], A.dtype, bk.device(A)))
    return SymmetricEigen(*_implementation(bk).syevd(A, gap_tol))


def syrk(A: Array, *, transpose: bool = False, alpha: float = 1.0) -> Array:
    """`alpha A A^T`, or `alpha A^T A` with `transpose`; A (*, m, n), the result symmetric. Cost: m^2 n
    flops."""
    bk = matrix_backend("syrk", A=A)
    C = bk.xp.matmul(A.mT, A) if transpose else bk.xp.matmul(A, A.mT)
    return C if alpha == 1.0 else alpha * C


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


def _dependent_rows(bk: Backend, L: Array, n: int) -> Array:
    """Rows of A that are combinations of earlier ones up to rounding: `|L_ii|` small against the row's own
    norm.

    The row's norm, not the matrix's, is the yardstick: rows of very different size are harmless in LQ.
    """
    xp = bk.xp
    limit = 4.0 * n**0.5 * float(xp.finfo(L.dtype).eps)
    pivots = xp.abs(xp.linalg.diagonal(L))
    return pivots <= limit * xp.linalg.vector_norm(L, axis=-1)


def _implementation(bk: Backend) -> Any:
    if bk.name not in ("numpy", "torch", "jax"):
        from cola_core.errors import BackendError

        raise BackendError(f"the LAPACK family has no implementation for the {bk.name} backend")
    return importlib.import_module(f".{bk.name}_impl", __package__)
