"""``A = K + D`` with D a diagonal term: taken apart where A is written so."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..operators import Diagonal, Identity, LinearOperator, NoDispatch, ScalarMul, Sum
from ..properties import PSD

__all__ = ["split_diagonal"]


def split_diagonal(A: LinearOperator) -> tuple[LinearOperator, Array | None]:
    """``(K, d)``: d of shape () or (n,), the diagonal terms of the sum A taken together; (A, None) if it has
    none."""
    whole = A.A if isinstance(A, NoDispatch) else A
    if not isinstance(whole, Sum):
        return A, None
    rest = [M for M in whole.Ms if not isinstance(M, (Diagonal, ScalarMul, Identity))]
    if len(rest) == len(whole.Ms) or not rest:
        return A, None
    be = A._concrete_backend()
    total: Any = 0
    for M in whole.Ms:
        if isinstance(M, Diagonal):
            total = total + M.diag
        elif isinstance(M, ScalarMul):
            total = total + M.c
        elif isinstance(M, Identity):
            total = total + 1
    d = be.asarray(total, device=A.device)
    d = be.astype(be.xp.real(d) if be.is_complex(d) else d, be.real_dtype(A.dtype))
    K = rest[0] if len(rest) == 1 else Sum(*rest)
    return (PSD(K) if A.isa(PSD) else K), d
