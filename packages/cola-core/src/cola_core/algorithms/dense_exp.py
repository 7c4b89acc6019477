"""The matrix exponential by scaling and squaring with Padé approximants, and sine and cosine through it.
Al-Mohy & Higham, SIMAX 31 (2009) 970; Higham 2008, eq. 12.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from .base import Algorithm
from .dense_cost import batch_size, dense_memory, with_entries
from .dense_function import answer, only_for
from .factor import dense_entries

__all__ = ["ScalingSquaring"]

KINDS = ("exp", "sin", "cos")


@dataclass(frozen=True)
class ScalingSquaring(Algorithm):
    """``exp(A)`` of any square matrix that fits, defective ones included: about ``30 n^3`` flops.

    ``sin(A)`` and ``cos(A)``: imaginary and real part of ``exp(i A)`` for real A.
    """

    gathers: ClassVar[str] = "entries"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        f = operands[0]
        return True if f.kind in KINDS else f"computes exp, sin and cos only, not {f.name}"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, b = A.shape[-1], batch_size(A)
        times = 1.0 if operands and operands[0].kind == "exp" else 4.0
        work = Cost(
            times * b * 30.0 * n**3, times * b * A.itemsize * n * n * 30, 6 * times * dense_memory(A), 0, 12
        )
        return with_entries(A, work)

    def apply_unary(self, A: Any, f: Any) -> Any:
        only_for(self, A, f, *KINDS)
        be = A._concrete_backend()
        M = dense_entries(A)
        return answer(A, f, be.expm(M) if f.kind == "exp" else _circular(be, M, f.kind))


def _circular(be: Any, M: Array, kind: str) -> Array:
    xp = be.xp
    forward = be.expm(1j * M)
    if not be.is_complex(M):
        return xp.imag(forward) if kind == "sin" else xp.real(forward)
    backward = be.expm(-1j * M)
    return (forward - backward) / 2j if kind == "sin" else (forward + backward) / 2
