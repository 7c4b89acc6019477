"""Logarithms and fractional powers of general matrices: ``InverseScalingSquaring``.

Square roots until the matrix is close to the identity, then the diagonal Padé approximant of ``log(1 + x)``
in
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..backends.base import Array
from ..cost import Cost
from ..errors import SingularMatrixError
from .base import Algorithm
from .dense_function import answer, dense_function_cost, inverse, one_norm, only_for, warn_if_nearly_singular
from .factor import dense_entries
from .frechet import with_frechet
from .matrix_root import square_roots

__all__ = ["InverseScalingSquaring"]

# the approximant of degree 7 is accurate to 2^-53 up to 0.264: Higham 2008, table 11.1
DEGREE, RADIUS = 8, 0.25
MOST_ROOTS = 24  # under a trace; enough for |log A| up to 4e6


@dataclass(frozen=True)
class InverseScalingSquaring(Algorithm):
    """``log(A)`` and ``A^p`` of any regular square matrix that fits, defective ones included."""

    gathers: ClassVar[str] = "entries"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        f = operands[0]
        return True if f.kind in ("log", "power") else f"computes log and powers only, not {f.name}"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return dense_function_cost(A, 200.0)

    def apply_unary(self, A: Any, f: Any) -> Any:
        only_for(self, A, f, "log", "power")
        be = A._concrete_backend()
        M = dense_entries(A)
        if 0 in M.shape or be.name == "abstract":
            return answer(A, f, M)
        if f.needs_nonzero:
            try:
                warn_if_nearly_singular(be, A, M, f.name)
            except SingularMatrixError:
                raise _singular(A, f) from None
        if f.kind == "log":
            return answer(A, f, with_frechet(be, lambda M: _log(be, A, f, M), M))
        p = f.exponent
        whole = int(np.round(p))
        out = _whole_power(be, M, whole)
        if p != whole:
            rest = be.expm((p - whole) * with_frechet(be, lambda M: _log(be, A, f, M), M))
            out = rest if out is None else be.matmul(out, rest)
        elif out is None:
            out = be.eye(M.shape[-1], M.dtype, be.device(M)) + 0 * M
        return answer(A, f, out)


def _whole_power(be: Any, M: Array, k: int) -> Array | None:
    """``M^k`` by repeated squaring; None for the identity."""
    if k < 0:
        M, k = inverse(be, M), -k
    out = None
    while k:
        if k & 1:
            out = M if out is None else be.matmul(out, M)
        k >>= 1
        if k:
            M = be.matmul(M, M)
    return out


def _log(be: Any, A: Any, f: Any, M: Array) -> Array:
    xp = be.xp
    one = be.eye(M.shape[-1], M.dtype, be.device(M))
    X, roots = M, 0
    if be.is_concrete(M):
        while bool(xp.any(one_norm(be, X - one) > RADIUS)):
            if roots == 100:
                raise _singular(A, f)
            try:
                X, roots = square_roots(be, A, f, X)[0], roots + 1
            except SingularMatrixError:
                raise _singular(A, f) from None
        return _pade(be, X - one) * 2**roots
    count = 0 * one_norm(be, M)
    if be.name == "jax":
        import jax

        def take(state: Any) -> Any:
            X, count = state
            return square_roots(be, A, f, X)[0], count + 1

        def maybe(_: Any, state: Any) -> Any:
            far = xp.any(one_norm(be, state[0] - one) > RADIUS)
            return jax.lax.cond(far, take, lambda s: s, state)

        X, count = jax.lax.fori_loop(0, MOST_ROOTS, maybe, (X, count))
    else:
        for _ in range(MOST_ROOTS // 2):
            X, count = square_roots(be, A, f, X)[0], count + 1
    out = _pade(be, X - one) * (2.0 ** be.constant(count))[..., None, None]
    near = (one_norm(be, X - one) <= 2 * RADIUS)[..., None, None]
    return xp.where(near, out, xp.full_like(out, float("nan")))


def _pade(be: Any, X: Array) -> Array:
    """``log(I + X)`` for ``|X| <= RADIUS``: Gauss-Legendre quadrature of ``int_0^1 X (I + t X)^{-1} dt``."""
    nodes, weights = np.polynomial.legendre.leggauss(DEGREE)
    one = be.eye(X.shape[-1], X.dtype, be.device(X))
    out: Any = 0
    for t, w in zip((nodes + 1) / 2, weights / 2, strict=True):
        out = out + float(w) * be.lu_solve(be.lu_factor(one + float(t) * X), X)
    return out


def _singular(A: Any, f: Any) -> SingularMatrixError:
    return SingularMatrixError(
        f"{f.name}({A!r}): the matrix is singular, so {f.name} of it is not defined. Add a multiple of the "
        "identity."
    )
