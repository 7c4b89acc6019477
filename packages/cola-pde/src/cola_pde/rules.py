"""Rules of this package: what is known in closed form about one-dimensional second derivatives.

With an eigendecomposition of each factor, the core's Kronecker-sum rules answer solve, logdet, exp and any function of the
n-dimensional operator; nothing here knows about more than one dimension.
"""

from __future__ import annotations

from typing import Any

from cola_core import ops as core_ops
from cola_core.cost import Cost
from cola_core.errors import SingularMatrixError
from cola_core.linalg import diag, eigh, slogdet, solve, trace
from cola_core.properties import Unitary

from .ops import Diffusion1D, Laplacian1D

STRANG = "Strang, The discrete cosine transform, SIAM Review 41 (1999)"


def eigh_laplacian(A: Laplacian1D, *, alg: Any = None, **options: Any) -> Any:
    """Closed-form eigenvalues; the eigenbasis is a fast transform."""
    return A.eigenvalues(), A.eigenvectors()


def eigh_tridiagonal(A: Diffusion1D, *, alg: Any = None, **options: Any) -> Any:
    """LAPACK's symmetric tridiagonal eigensolver, O(n^2) to O(n^3) with a small constant."""
    from scipy.linalg import eigh_tridiagonal as lapack

    d, e, _ = A.bands()
    w, V = lapack(d, e)
    return w, Unitary(core_ops.Dense(V))


def _tridiagonal_numpy(A: Diffusion1D, *operands: Any, **options: Any) -> Any:
    if A.backend is None or A.backend.name != "numpy":
        return "LAPACK's tridiagonal eigensolver works on NumPy arrays"
    if A.kind == "P" and A.n > 2:
        return "a periodic operator has corners and is not tridiagonal"
    return True
