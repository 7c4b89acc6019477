"""Dense Schur decomposition (LAPACK gees). Golub & Van Loan, 4th ed., sec. 7.4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..cost import Cost
from ..properties import Unitary
from .base import Algorithm
from .dense_cost import batch_size, dense_memory, with_entries
from .factor import dense_entries

__all__ = ["Schur"]


@dataclass(frozen=True)
class Schur(Algorithm):
    """``A = Z T Z^H``: about ``25 n^3`` flops. SciPy on NumPy, on the host for PyTorch (which has none);
    XLA with LAPACK on JAX (CPU only). No derivative is offered."""

    gathers: ClassVar[str] = "entries"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, b = A.shape[-1], batch_size(A)
        return with_entries(
            A,
            Cost(
                0.0,
                b * A.itemsize * n * n * 10,
                4 * dense_memory(A),
                0,
                8,
                eigen=b * 40.0 * n**3,
                steps=b * 60.0 * n,
            ),
        )

    def schur(self, A: Any, output: str) -> tuple[Any, Any]:
        from ..operators import Dense, Triangular

        be = A._concrete_backend()
        M = dense_entries(A)
        if output == "complex" and not be.is_complex(M):
            M = be.astype(M, be.xp.result_type(M.dtype, be.dtype("complex64")))
        T, Z = be.schur(M)
        upper = Triangular(T, lower=False) if be.is_complex(M) else Dense(T)
        return upper, Dense(Z, declared=frozenset({Unitary}))
