"""The matrix sign function by Newton's iteration with determinantal scaling. Higham 2008, alg. 5.14."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..errors import PropertyError, SingularMatrixError
from .base import Algorithm
from .dense_function import answer, dense_function_cost, inverse, one_norm, only_for, repeat
from .factor import dense_entries
from .frechet import with_frechet

__all__ = ["NewtonSign"]

# in as many steps of the iteration as there are bits, rounding alone moves eigenvalues off the imaginary axis
SHARE_OF_BITS = 0.75


@dataclass(frozen=True)
class NewtonSign(Algorithm):
    """``sign(A)``: the square root of the identity with A's eigenvectors, +1 for those of eigenvalues in the
    right half-plane, -1 in the left. No eigenvalue may lie on the imaginary axis (PropertyError).
    """

    gathers: ClassVar[str] = "entries"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return True if operands[0].kind == "sign" else f"computes sign only, not {operands[0].name}"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return dense_function_cost(A, 30.0)

    def apply_unary(self, A: Any, f: Any) -> Any:
        only_for(self, A, f, "sign")
        be = A._concrete_backend()
        M = dense_entries(A)
        if 0 in M.shape or be.name == "abstract":
            return answer(A, f, M)
        return answer(A, f, with_frechet(be, lambda M: _sign(be, A, M), M))


def _sign(be: Any, A: Any, M: Array) -> Array:
    xp, n = be.xp, M.shape[-1]
    eps = float(xp.finfo(M.dtype).eps)

    most = round(-SHARE_OF_BITS * math.log2(eps)) + 2

    def step(state: Any) -> Any:
        X, change = state
        factors = be.lu_factor(X)
        size = be.constant(xp.exp(-be.lu_slogdet(factors)[1] / n))
        mu = be.astype(xp.where(change > 1e-2, size, xp.ones_like(size))[..., None, None], M.dtype)
        back = be.lu_solve(factors, be.eye(n, M.dtype, be.device(M)) + 0 * X)
        following = (mu * X + back / mu) / 2
        return following, one_norm(be, following - X) / one_norm(be, following)

    try:
        S, _ = repeat(be, step, (M, one_norm(be, M) * 0 + 1), most, lambda s: xp.all(s[1] <= 10 * n * eps))
    except SingularMatrixError:
        raise _undefined(A) from None
    if be.is_concrete(S):
        gap = be.number(xp.max(one_norm(be, S - inverse(be, S)) / one_norm(be, S)))
        if not gap <= eps**0.5 * n:
            raise _undefined(A)
    return S


def _undefined(A: Any) -> PropertyError:
    return PropertyError(
        f"sign({A!r}): an eigenvalue lies on (or next to) the imaginary axis, where the sign is not defined. "
        "Shift the operator."
    )
