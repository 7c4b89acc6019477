"""Square roots of general matrices: ``DenmanBeavers``.

NumPy: the Schur method of Björck & Hammarling 1983 as SciPy has it. PyTorch and JAX, which have no Schur
form: the scaled product form of the Denman-Beavers iteration, Cheng, Higham, Kenney & Laub, SIMAX 22 (2001)
1112; Higham 2008, eq. 6.29.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..errors import SingularMatrixError
from .base import Algorithm
from .dense_function import (
    answer,
    dense_function_cost,
    inverse,
    not_real,
    one_norm,
    only_for,
    real_if,
    repeat,
    warn_if_nearly_singular,
)
from .factor import dense_entries
from .frechet import with_frechet

__all__ = ["DenmanBeavers", "square_roots"]

MOST_STEPS = 40


@dataclass(frozen=True)
class DenmanBeavers(Algorithm):
    """The principal ``A^{1/2}`` and ``A^{-1/2}`` of any square matrix that fits, defective ones included.

    No eigenvalue may lie on the closed negative axis; for matrices of a complex dtype those on the open
    axis belong to the branch above it (NumPy), or need a usable eigenbasis (PyTorch, JAX).
    """

    gathers: ClassVar[str] = "entries"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        f = operands[0]
        return True if f.kind in ("sqrt", "isqrt") else f"computes sqrt and isqrt only, not {f.name}"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return dense_function_cost(A, 60.0)

    def apply_unary(self, A: Any, f: Any) -> Any:
        only_for(self, A, f, "sqrt", "isqrt")
        be = A._concrete_backend()
        M = dense_entries(A)
        if 0 in M.shape:
            return answer(A, f, M)
        if f.needs_nonzero:
            warn_if_nearly_singular(be, A, M, f.name)
        inverted = f.kind == "isqrt"
        F = with_frechet(be, lambda M: square_roots(be, A, f, M, inverted)[int(inverted)], M)
        return answer(A, f, F)


def square_roots(be: Any, A: Any, f: Any, M: Array, inverted: bool = False) -> tuple[Array, Array]:
    """``M^{1/2}`` and (where wanted) ``M^{-1/2}``, as arrays."""
    if be.name == "numpy":
        root = _schur_root(be, A, f, M)
        return root, inverse(be, root) if inverted else root
    if be.name == "abstract":
        return M, M
    xp, n = be.xp, M.shape[-1]
    eye = be.eye(n, M.dtype, be.device(M))
    eps = float(xp.finfo(M.dtype).eps)

    def step(state: Any) -> Any:
        P, X, Y, gap = state
        factors = be.lu_factor(P)
        size = be.constant(xp.exp(-be.lu_slogdet(factors)[1] / (2 * n)))
        # near the limit the iteration converges quadratically by itself, and scaling would disturb it
        mu = xp.where(gap > 1e-2, size, xp.ones_like(size))[..., None, None]
        mu = be.astype(mu, M.dtype)
        back = be.lu_solve(factors, eye + 0 * P) / mu**2
        P = (eye + (mu**2 * P + back) / 2) / 2
        half = (eye + back) * (mu / 2)
        return P, be.matmul(X, half), be.matmul(Y, half), one_norm(be, P - eye)

    start = (M, M, eye + 0 * M, one_norm(be, M - eye) + 1)
    try:
        _, X, Y, gap = repeat(be, step, start, MOST_STEPS, lambda s: be.xp.all(s[3] <= 10 * n * eps))
    except SingularMatrixError:
        raise SingularMatrixError(
            f"{f.name}({A!r}): the matrix is singular, and only its structure or an eigenbasis could tell "
            "whether it has a square root. Declare PSD(A) if it is."
        ) from None
    if be.is_concrete(X):
        size = be.number(be.xp.max(one_norm(be, M)))
        residual = be.number(be.xp.max(one_norm(be, be.matmul(X, X) - M)))
        if not residual <= eps**0.5 * size * n:
            return _by_eigenvectors(be, A, f, M)
    return X, Y


def _schur_root(be: Any, A: Any, f: Any, M: Array) -> Array:
    import numpy as np
    from scipy.linalg import sqrtm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what SciPy would say is checked below
        # older SciPys take one matrix at a time, and answer complex ones in extended precision
        each = [np.asarray(sqrtm(m)) for m in M.reshape((-1, *M.shape[-2:]))]
        roots = [r.astype(np.complex128 if r.dtype.kind == "c" else np.float64) for r in each]
        root = np.stack(roots).reshape(M.shape) if roots else M
    if not np.isfinite(root).all() or not np.allclose(
        root @ root, M, rtol=0, atol=np.finfo(M.dtype).eps ** 0.5 * max(np.abs(M).max(), 1e-300) * M.shape[-1]
    ):
        raise SingularMatrixError(
            f"{f.name}({A!r}): the matrix is singular (or nearly) and has no square root to working "
            "precision. Shift it, or declare PSD(A) if it is."
        )
    root = real_if(be, A, f, root, M.dtype.kind != "c", float(np.finfo(M.dtype).eps) ** 0.5)
    return root.astype(M.dtype, copy=False)


def _by_eigenvectors(be: Any, A: Any, f: Any, M: Array) -> tuple[Array, Array]:
    """Where the iteration fails, eigenvalues lie on the negative axis: a complex matrix then has the
    principal branch of its eigenvectors, a real one has no real root."""
    from .eigenbasis import through_eigenvectors

    if not be.is_complex(M):
        raise not_real(A, f)
    xp = be.xp
    from ..linalg.scalar_function import SQRT

    root = through_eigenvectors(be, A, SQRT, M, lambda w: xp.sqrt(w))
    return root, inverse(be, root) if f.needs_nonzero else root
