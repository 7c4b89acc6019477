"""Rules of this package: what is known in closed form about one-dimensional second derivatives.

With an eigendecomposition of each factor, the core's Kronecker-sum rules answer solve, logdet, exp and any
function of the n-dimensional operator; nothing here knows about more than one dimension.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core import ops as core_ops
from cola_core.algorithms import Algorithm
from cola_core.cost import Cost
from cola_core.errors import SingularMatrixError
from cola_core.linalg import EIGSH, apply_unary, diag, eigh, slogdet, solve, trace
from cola_core.properties import Stiefel

from .ops import Laplacian1D
from .spectrum import unit_eigenvalues
from .tridiagonal import Tridiagonal

SOURCE = "Strang, The discrete cosine transform, SIAM Review 41 (1999)"


def register(registrar: Any) -> None:
    """Register everything; called by the plugin hook."""
    for question, name, rule, guard in (
        (eigh, "eigh", eigh_laplacian, None),
        (EIGSH, "eigsh", eigsh_laplacian, unbatched),
        (solve, "solve", solve_laplacian, None),
        (slogdet, "slogdet", slogdet_laplacian, None),
        (apply_unary, "function", function_laplacian, None),
        (trace, "trace", trace_laplacian, None),
        (diag, "diag", diag_laplacian, main_diagonal),
    ):
        registrar.rule(
            question,
            (Laplacian1D,),
            id=f"{name}/laplacian1d",
            source=SOURCE,
            when=guard,
            cost=closed_form_cost,
        )(rule)
    for question in (eigh, solve):
        registrar.algorithm(question, Tridiagonal, name="tridiagonal")


def closed_form_cost(A: Laplacian1D, *operands: Any, alg: Algorithm) -> Cost:
    n = A.shape[-1]
    return Cost(20.0 * n, 3.0 * A.itemsize * n, 2.0 * A.itemsize * n, 0, 3)


def eigh_laplacian(A: Laplacian1D, *, alg: Algorithm) -> Any:
    """Closed-form eigenvalues; the eigenbasis is a fast transform. O(n)."""
    return A.eigenvalues(), A.eigenvectors()


def unbatched(A: Laplacian1D, *operands: Any, alg: Algorithm) -> bool | str:
    return "batches of operators are not supported" if A.batch_shape else True


def eigsh_laplacian(A: Laplacian1D, k: int, which: str, *, alg: Algorithm) -> Any:
    """The wanted end of the closed-form spectrum: values are >= 0, so magnitude and value order alike."""
    order = np.argsort(unit_eigenvalues(A.n, A.centring, A.kind), kind="stable")
    chosen = order[:k] if which[0] == "S" else order[::-1][:k].copy()
    be = A._concrete_backend()
    index = be.asarray(chosen, device=A.device)
    return A.eigenvalues()[index], core_ops.Sliced(
        A.eigenvectors(), None, index, declared=frozenset({Stiefel})
    )


def solve_laplacian(A: Laplacian1D, b: Any, *, alg: Algorithm) -> Any:
    """Two transforms and a division, O(n log n) per column."""
    if A.singular:
        raise SingularMatrixError(
            f"{A!r} with kind {A.kind!r} is singular: constants are in its null space. Fix a value on one "
            "side, add a multiple of the identity, or use cola_pde.poisson for the mean-zero solution."
        )
    V = A.eigenvectors()
    return V._matmat(V._rmatmat(b) / A.eigenvalues()[..., :, None])


def slogdet_laplacian(A: Laplacian1D, *, alg: Algorithm) -> Any:
    """The determinant of the diagonal of eigenvalues. O(n)."""
    return slogdet(core_ops.Diagonal(A.eigenvalues()))


def function_laplacian(A: Laplacian1D, f: Any, *, alg: Algorithm) -> Any:
    """``f(A) = V f(W) V^H`` with a fast V, as an operator. O(n)."""
    V = A.eigenvectors()
    middle = core_ops.Diagonal(f.on(A._concrete_backend(), A.eigenvalues()))
    return core_ops.Product(V, middle, V.H, declared=f.properties(A))


def trace_laplacian(A: Laplacian1D, *, alg: Algorithm) -> Any:
    """Sum of the closed-form diagonal. O(n)."""
    return A._concrete_backend().xp.sum(A.diagonal(), axis=-1)


def main_diagonal(A: Laplacian1D, k: int, *, alg: Algorithm) -> bool | str:
    return True if k == 0 else "only the main diagonal is in closed form"


def diag_laplacian(A: Laplacian1D, k: int, *, alg: Algorithm) -> Any:
    """The closed-form diagonal. O(n)."""
    return A.diagonal()
