"""``f(A) = V f(W) V^{-1}`` of a general matrix, with the condition of the eigenbasis looked at."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..backends.base import Array
from ..errors import ColaError, IllConditionedWarning, SingularMatrixError

__all__ = ["through_eigenvectors"]


def through_eigenvectors(be: Any, A: Any, name: str, M: Array, values: Callable[[Array], Array]) -> Array:
    """The (complex) matrix of f(A); values: f of an array of eigenvalues.

    The error is about ``eps cond(V)`` (Higham 2008, sec. 4.5). Concrete input: an error where no digit is
    left, a warning where half of them are gone. A defective matrix is an error.
    """
    xp = be.xp
    w, V = be.eig(M)
    if 0 in M.shape:
        return V
    eps = float(xp.finfo(be.real_dtype(M.dtype)).eps)
    try:
        factors = be.lu_factor(be.adjoint(V))
        if be.is_concrete(V):
            back = be.lu_solve(factors, be.eye(V.shape[-1], V.dtype, be.device(V)) + 0 * V)
            condition = be.number(xp.max(xp.linalg.matrix_norm(V) * xp.linalg.matrix_norm(back)))
        else:
            condition = 0.0
    except SingularMatrixError:
        condition = float("inf")
    if not condition * eps <= 1e-2:
        raise ColaError(
            f"{name}({A!r}): the eigenvector basis is too ill-conditioned (condition number "
            f"{condition:.1e}); the matrix is defective or close to it. exp, log, sqrt, isqrt, sin, cos, "
            "sign and pow have methods that do without."
        )
    if condition * eps > eps**0.5:
        warnings.warn(
            f"{name}({A!r}): the eigenvector basis has condition number {condition:.1e}, so that about "
            f"{condition * eps:.1e} of the answer's size is lost; the matrix is close to a defective one.",
            IllConditionedWarning,
            stacklevel=4,
        )
    # solve from the right: f(A) V = V f(W)
    return be.adjoint(be.lu_solve(factors, be.adjoint(V * values(w)[..., None, :])))
