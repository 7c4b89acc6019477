"""The explicit adjoints: what a loss's derivative in the outputs becomes in the inputs.

`f_backward(outputs or inputs of f, their cotangents)` returns the cotangents of the inputs of `f`, on arrays
of any backend and over batch axes. Formulas and derivations: `formulas.py`. Cost: one to two times the
forward's, BLAS-3 only.
"""

from __future__ import annotations

import warnings
from typing import Any

from cola_core.errors import ShapeError, UnreliableResultWarning

from . import formulas
from .checks import matrix_backend, require_shapes, sum_to
from .family import overwriting_buffers

__all__ = [
    "gelqf_backward",
    "potrf_backward",
    "potri_backward",
    "syevd_backward",
    "syevd_skipped",
    "trsm_backward",
]

Array = Any


def gelqf_backward(Q: Array, L: Array, Qbar: Array, Lbar: Array, *, overwrite: bool = False) -> Array:
    """`Abar = L^{-T} (Qbar + copyltu(M) Q)`, `M = L^T Lbar - Qbar Q^T`; shapes of `Q, L = gelqf(A)`, result
    (*, m, n).

    The upper triangle of Lbar is ignored. overwrite: the result takes the place of Qbar in memory (NumPy,
    PyTorch; nothing is recorded then). Source: arXiv:1710.08717.
    """
    bk = matrix_backend("gelqf_backward", Q=Q, L=L, Qbar=Qbar, Lbar=Lbar)
    m, n = Q.shape[-2:]
    require_shapes("gelqf_backward", Q=(Q, (m, n)), L=(L, (m, m)), Qbar=(Qbar, (m, n)), Lbar=(Lbar, (m, m)))
    if overwrite:
        buffers = overwriting_buffers("gelqf_backward", bk, Qbar)
        return buffers.pullback_overwriting(Q, L, Qbar, Lbar)
    if bk.name == "torch" and not bk.differentiating(Q, L, Qbar, Lbar):
        from .torch_buffers import pullback

        return pullback(Q, L, Qbar, Lbar)
    return formulas.gelqf_pullback(bk, Q, L, Qbar, Lbar)


def potrf_backward(L: Array, Lbar: Array, *, lower: bool = True) -> Array:
    """`Abar = 1/2 L^{-T} copyltu(L^T Lbar) L^{-1}`, symmetric (*, n, n); with `lower=False` of the upper
    factor."""
    bk = matrix_backend("potrf_backward", L=L, Lbar=Lbar)
    n = L.shape[-1]
    require_shapes("potrf_backward", L=(L, (n, n)), Lbar=(Lbar, (n, n)))
    return formulas.potrf_pullback(bk, L, Lbar) if lower else formulas.potrf_pullback(bk, L.mT, Lbar.mT)


def potri_backward(A: Array, X: Array, Xbar: Array, *, lower: bool = True) -> Array:
    """`Abar = -tril(X (Xbar + Xbar^T) A^{-T})` of `X = potri(A)`, zero outside the stored triangle; shapes
    (*, n, n)."""
    bk = matrix_backend("potri_backward", A=A, X=X, Xbar=Xbar)
    n = A.shape[-1]
    require_shapes("potri_backward", A=(A, (n, n)), X=(X, (n, n)), Xbar=(Xbar, (n, n)))
    if n == 0:
        return A
    return formulas.potri_pullback(bk, A, X, Xbar) if lower else formulas.potri_pullback(bk, A.mT, X, Xbar).mT


def trsm_backward(
    A: Array,
    X: Array,
    Xbar: Array,
    *,
    transpose: bool = False,
    rightside: bool = False,
    lower: bool = True,
    alpha: float = 1.0,
) -> tuple[Array, Array]:
    """Cotangents `(Abar, Bbar)` of `X = trsm(A, B, ...)`; Abar is zero outside the stored triangle.

    Where A was broadcast against the batch of B, Abar is summed back to the shape of A (and Bbar keeps X's
    shape).
    """
    bk = matrix_backend("trsm_backward", A=A, X=X, Xbar=Xbar)
    n, k = A.shape[-1], X.shape[-2 if rightside else -1]
    one = (k, n) if rightside else (n, k)
    require_shapes("trsm_backward", A=(A, (n, n)), X=(X, one), Xbar=(Xbar, one))
    if rightside:
        X, Xbar = X.mT, Xbar.mT
    Abar, Bbar = formulas.trsm_pullback(
        bk, A, X, Xbar, transposed=transpose != rightside, lower=lower, alpha=alpha
    )
    return sum_to(bk, Abar, tuple(A.shape)), (Bbar.mT if rightside else Bbar)


def syevd_backward(
    U: Array, lam: Array, Ubar: Array, lambar: Array, *, gap_tol: float | None = None
) -> Array:
    """`Abar = U^T (Y + diag(lambar)) U`, `Y_ij = (X_ij - X_ji) / (2 (lam_i - lam_j))`, `X = Ubar U^T`; tied
    pairs 0.

    Warns (UnreliableResultWarning) if the loss depends on the arbitrary basis of tied eigenvectors, see
    `syevd_skipped`, or weighs tied eigenvalues differently, as a function of the matrix `U^T f(lam) U` does.
    """
    bk = matrix_backend("syevd_backward", U=U, Ubar=Ubar)
    n = U.shape[-1]
    require_shapes("syevd_backward", U=(U, (n, n)), Ubar=(Ubar, (n, n)))
    for name, x in (("lam", lam), ("lambar", lambar)):
        if tuple(x.shape) != tuple(U.shape[:-1]):
            raise ShapeError(
                f"syevd_backward: {name} has shape {tuple(x.shape)}, that of the eigenvalues of U of shape "
                f"{tuple(U.shape)} is {tuple(U.shape[:-1])}"
            )
    if U.shape[-1]:
        skipped = bk.xp.max(formulas.syevd_skipped(bk, U, lam, Ubar, gap_tol))
        scale = bk.xp.max(bk.xp.abs(Ubar))
        apart = formulas.syevd_uneven(bk, lam, lambar, gap_tol)
        if bk.is_concrete(apart) and bool(bk.xp.any(apart)):
            warnings.warn(
                "syevd_backward: the loss weighs tied eigenvalues differently; each is then the derivative "
                "along a vector of an arbitrary basis, and the result is not that of the loss. For functions "
                "of a matrix use cola_core (exp, sqrt, apply_unary, trace).",
                UnreliableResultWarning,
                stacklevel=2,
            )
        noise = 1e3 * U.shape[-1] * float(bk.xp.finfo(U.dtype).eps)
        if bk.is_concrete(skipped, scale) and bool(skipped > noise * scale):
            warnings.warn(
                "syevd_backward: the loss depends on the arbitrary basis of tied eigenvectors (asymmetry "
                f"{float(skipped):.3g} against gradients of size {float(scale):.3g}); it has no derivative "
                "at this matrix.",
                UnreliableResultWarning,
                stacklevel=2,
            )
    return formulas.syevd_pullback(bk, U, lam, Ubar, lambar, gap_tol)


def syevd_skipped(U: Array, lam: Array, Ubar: Array, *, gap_tol: float | None = None) -> Array:
    """Largest `|X_ij - X_ji|`, `X = Ubar U^T`, over tied pairs, shape (*,): at rounding level the derivative
    exists."""
    bk = matrix_backend("syevd_skipped", U=U, Ubar=Ubar)
    return formulas.syevd_skipped(bk, U, lam, Ubar, gap_tol)
