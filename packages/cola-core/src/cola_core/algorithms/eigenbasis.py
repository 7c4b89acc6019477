"""``f(A) = V f(W) V^{-1}`` of a general matrix, with the condition of the eigenbasis looked at."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..backends import backend_of
from ..backends.base import Array
from ..errors import ColaError, IllConditionedWarning, SingularMatrixError
from .spectral_form import spectral_form

__all__ = ["through_eigenvectors"]


def through_eigenvectors(be: Any, A: Any, f: Any, M: Array, values: Callable[[Array], Array]) -> Array:
    """The (complex) matrix of f(A); values: f of an array of eigenvalues, with what is to be checked of them.

    Derivatives are those of ``spectral_form``, right at equal eigenvalues; f must be holomorphic for them.
    The error is about ``eps cond(V)`` (Higham 2008, sec. 4.5). Concrete input: an error where no digit is
    left, a warning where half of them are gone. A defective matrix is an error.
    """
    xp, name = be.xp, f.name
    differentiated = be.name != "abstract" and be.differentiating(M)
    w, V = be.eig(be.constant(M) if differentiated else M)
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
    if differentiated:
        values(w)  # the checks
        checked = f if f.kind else replace(f, slope=lambda: _holomorphic(f))
        back = be.adjoint(be.lu_solve(factors, be.eye(V.shape[-1], V.dtype, be.device(V)) + 0 * V))
        return spectral_form(be, checked, M, w, V, back)
    # solve from the right: f(A) V = V f(W)
    return be.adjoint(be.lu_solve(factors, be.adjoint(V * values(w)[..., None, :])))


def _holomorphic(f: Any) -> Any:
    """f', with a look at whether it is the same in the directions 1 and i; where not an error, or NaN."""
    slope = f.derivative()

    def checked(xp: Any, w: Array) -> Array:
        be: Any = backend_of(w)
        along = slope.fn(xp, w)
        if not be.is_complex(w):
            return along
        across = be.jvp(lambda x: f.fn(xp, x), (w,), (1j * xp.ones_like(w),))[1]
        size = xp.abs(along) + xp.abs(across)
        eps = float(xp.finfo(size.dtype).eps)
        wrong = xp.abs(across - 1j * along) > 1e3 * eps * size
        if be.is_concrete(wrong) and bool(xp.any(wrong)):
            raise NotImplementedError(
                f"the derivative of {f.name} of an operator that is not self-adjoint: {f.name} is not "
                "holomorphic at its eigenvalues (it takes conjugates, real parts or absolute values), so "
                "f(A) has no Frechet derivative by eigenvectors. Use a holomorphic f, or SelfAdjoint(A)."
            )
        return xp.where(wrong, xp.full_like(along, float("nan")), along)

    return replace(slope, fn=checked, slope=lambda: _holomorphic(slope))
