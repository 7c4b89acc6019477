"""Rules of this package: what is known in closed form about one-dimensional second derivatives.

With an eigendecomposition of each factor, the core's Kronecker-sum rules answer solve, logdet, exp and any
function of the n-dimensional operator; nothing here knows about more than one dimension.
"""

from __future__ import annotations

from typing import Any

from cola_core.algorithms import Algorithm
from cola_core.linalg import diag, eigh, solve, trace

from .ops import Laplacian1D
from .tridiagonal import Tridiagonal

STRANG = "Strang, The discrete cosine transform, SIAM Review 41 (1999)"


def register(registrar: Any) -> None:
    """Register everything; called by the plugin hook."""
    registrar.rule(eigh, (Laplacian1D,), id="eigh/laplacian1d", source=STRANG)(eigh_laplacian)
    registrar.rule(trace, (Laplacian1D,), id="trace/laplacian1d", source=STRANG)(trace_laplacian)
    registrar.rule(diag, (Laplacian1D,), id="diag/laplacian1d", when=main_diagonal, source=STRANG)(
        diag_laplacian
    )
    for question in (eigh, solve):
        registrar.algorithm(question, Tridiagonal, name="tridiagonal")


def eigh_laplacian(A: Laplacian1D, *, alg: Algorithm) -> Any:
    """Closed-form eigenvalues; the eigenbasis is a fast transform. O(n)."""
    return A.eigenvalues(), A.eigenvectors()


def trace_laplacian(A: Laplacian1D, *, alg: Algorithm) -> Any:
    """Sum of the closed-form diagonal. O(n)."""
    return A._concrete_backend().xp.sum(A.diagonal(), axis=-1)


def main_diagonal(A: Laplacian1D, k: int, *, alg: Algorithm) -> bool | str:
    return True if k == 0 else "only the main diagonal is in closed form"


def diag_laplacian(A: Laplacian1D, k: int, *, alg: Algorithm) -> Any:
    """The closed-form diagonal. O(n)."""
    return A.diagonal()
