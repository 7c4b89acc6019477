"""The factorisations and the triangular solve: `gelqf, potrf, potri, trsm, syevd`.

Arrays (*batch, m, n) of NumPy, PyTorch or JAX, real float32 or float64; batch axes broadcast in `trsm`.
Names, argument order and results follow LAPACK as in "Auto-Differentiating Linear Algebra"
(arXiv:1710.08717): LQ returns `(Q, L)`, eigenvectors are rows. The unused triangle of a triangular result is
exactly zero.

Values are checked (finite, full rank, positive definite) whenever they can be read; `check=False` omits that,
which saves a device synchronisation. Inside `jax.jit` or `torch.func` a failed Cholesky or a rank-deficient
LQ is NaN.

`potrf` and `syevd` are the core's `Backend.cholesky` and `Backend.eigh` with LAPACK's conventions,
derivatives included; `gelqf` states its own (`lq.py`); `trsm` and `potri` are made of operations that
PyTorch and JAX already differentiate correctly, on the stored triangle alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from cola_core.backends import Backend
from cola_core.errors import BackendError, NotPositiveDefiniteError, ShapeError, SingularMatrixError

from .checks import matrix_backend, require_batches, require_finite, require_square
from .formulas import copyltu
from .lq import Gelqf, refuse_dependent

__all__ = ["LQ", "SymmetricEigen", "gelqf", "potrf", "potri", "syevd", "trsm"]

Array = Any


class LQ(NamedTuple):
    """`A = L Q`: Q (*, m, n) with orthonormal rows, L (*, m, m) lower triangular with positive diagonal."""

    Q: Array
    L: Array


class SymmetricEigen(NamedTuple):
    """`U A = diag(lam) U`: U (*, n, n) with eigenvectors as rows, lam (*, n) ascending."""

    U: Array
    lam: Array


def gelqf(A: Array, *, check: bool = True, overwrite: bool = False) -> LQ:
    """LQ factorisation `A = L Q` of A (*, m, n), m <= n, of full row rank.

    Sign convention: LAPACK leaves the signs of the rows of Q free; here the diagonal of L is positive, which
    makes the factorisation unique, equal on all backends and smooth in A.
    overwrite: Q takes the place of A in memory (NumPy, PyTorch on any device), and in PyTorch the backward
    pass puts the gradient of A where the cotangent of Q was, if nobody else holds that: then forward and
    backward together need, beyond A and that cotangent, L and one more m x m matrix. A must be row-major; in
    PyTorch no leaf that requires grad, and in reverse mode only. In JAX, donate the argument of a compiled
    function instead (`jax.jit(f, donate_argnums=...)`).
    Errors: ShapeError if m > n (factor the transpose); SingularMatrixError if a row is, to rounding, a
    combination of the rows before it, because the factorisation is then neither unique nor differentiable;
    NonFiniteError; BackendError if A cannot be overwritten.
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
    if not overwrite:
        return LQ(*bk.derived(Gelqf(check), A))
    Q, L = overwriting_buffers("gelqf", bk, A).gelqf_overwriting(A)
    if check:
        refuse_dependent(bk, Q, bk.constant(L), overwritten=True)
    return LQ(Q, L)


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
    try:
        L = bk.cholesky(A if lower else A.mT, check=check)
    except NotPositiveDefiniteError:
        raise NotPositiveDefiniteError(
            f"potrf: a matrix of shape {tuple(A.shape)} ({A.dtype}) is not positive definite to working "
            "precision. Add a small multiple of the identity, or use syevd."
        ) from None
    return L if lower else L.mT


def potri(A: Array, *, lower: bool = True) -> Array:
    """Inverse of a positive definite matrix from its Cholesky factor A (*, n, n): `(A A^T)^{-1}`, or `(A^T
    A)^{-1}` of an upper factor; symmetric, both triangles filled.

    Only the chosen triangle of A is read, and only it gets a gradient. To solve systems, `trsm` is cheaper
    and more accurate. Errors: SingularMatrixError for a zero on the diagonal. Cost: 2/3 n^3 flops, with
    derivatives 3 n^3.
    """
    bk = matrix_backend("potri", A=A)
    require_square("potri", A)
    if A.shape[-1] == 0:
        return A
    L = bk.xp.tril(A if lower else A.mT)
    d = bk.xp.linalg.diagonal(L)
    if bk.is_concrete(d) and bool(bk.xp.any(d == 0)):
        raise SingularMatrixError(
            f"potri: the triangular factor of shape {tuple(A.shape)} ({A.dtype}) has a zero on its diagonal"
        )
    if not bk.differentiating(A):
        return copyltu(bk, bk.cholesky_inverse(L))
    eye = bk.xp.broadcast_to(bk.eye(A.shape[-1], A.dtype, bk.device(A)), tuple(A.shape))
    R = bk.solve_triangular(L, eye, lower=True)
    return copyltu(bk, bk.xp.matmul(R.mT, R))


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
    require_batches("trsm", A=A, B=B)
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
    Eigenvalues linked by steps of at most `gap_tol` (default: `max(64, n)` units of rounding of the largest)
    count as tied. Derivatives, first and second, are exact for losses that see tied eigenvectors only through
    their span; for others there is none, which is an error where the cotangents can be seen and NaN where
    not (docs/derivatives.md, "Eigenvectors, ties and gauge").
    Errors: NonSquareError, NonFiniteError. Cost: about 9 n^3 flops.
    """
    bk = matrix_backend("syevd", A=A)
    require_square("syevd", A)
    if check:
        require_finite("syevd", bk, A)
    if 0 in A.shape:
        return SymmetricEigen(A, bk.zeros(A.shape[:-1], A.dtype, bk.device(A)))
    lam, V = bk.eigh(A, gap=gap_tol)
    U = V.mT
    fixed = bk.constant(U)
    up = bk.xp.max(fixed, axis=-1) >= -bk.xp.min(fixed, axis=-1)
    sign = bk.astype(bk.xp.where(up, 1.0, -1.0), A.dtype)
    return SymmetricEigen(sign[..., None] * U, lam)


def overwriting_buffers(routine: str, bk: Backend, A: Array) -> Any:
    """The module that works in A's memory, or an error that says why none can."""
    if bk.name == "torch":
        from . import torch_buffers as buffers
    elif bk.name == "numpy":
        from . import numpy_buffers as buffers  # type: ignore[no-redef]
    else:
        raise BackendError(
            f"{routine}: overwrite=True needs memory that can be written, arrays of {bk.name} have none. Let "
            "a compiled function reuse its argument instead: jax.jit(f, donate_argnums=0)."
        )
    reason = buffers.unsuitable(A)
    if reason is not None:
        raise BackendError(f"{routine}: A of shape {tuple(A.shape)} cannot be overwritten, {reason}.")
    return buffers
