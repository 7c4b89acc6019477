"""Sylvester's and Lyapunov's matrix equations, as systems with a Kronecker sum."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..backends import backend_of_type
from ..errors import BackendError, ShapeError
from ..operators import LinearOperator, kronsum
from .operands import square
from .solve import SOLVE, solve

__all__ = ["lyapunov", "sylvester"]


def sylvester(
    A: Any, B: Any, C: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn"
) -> Any:
    """The matrix X with ``A X + X B = C``, as ``scipy.linalg.solve_sylvester``.

    A (*batch, m, m) and B (*batch, n, n): operators or arrays; C (*batch, m, n): an array. Row by row X
    solves ``(A (+) B^T) x = c``, so that structure counts: self-adjoint factors go through their
    eigenvectors, diagonal ones cost nothing, general ones take their Schur forms (Bartels & Stewart 1972).
    Unique where A and -B have no eigenvalue in common; SingularMatrixError, or a warning close to it,
    otherwise. Derivatives in A, B and C are implicit.

    >>> import numpy as np, cola_core as cola
    >>> A, B = np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([[1.0]])
    >>> X = cola.sylvester(A, B, np.array([[5.0], [8.0]]))
    >>> [round(float(x), 6) for x in X[:, 0]]
    [1.0, 2.0]
    """
    A, B = square(A, "sylvester"), square(B, "sylvester")
    return _equation("sylvester", A, B, C, kronsum(A, B.T), alg, return_info, on_failure)


def lyapunov(
    A: Any, Q: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn"
) -> Any:
    """The matrix X with ``A X + X A^H = Q``, as ``scipy.linalg.solve_continuous_lyapunov``.

    A (*batch, n, n): operator or array; Q (*batch, n, n): an array. X is self-adjoint where Q is (to
    rounding). See ``sylvester``.

    >>> import numpy as np, cola_core as cola
    >>> X = cola.lyapunov(np.array([[-1.0, 2.0], [0.0, -3.0]]), -np.eye(2))
    >>> bool(np.all(np.linalg.eigvalsh(X) > 0))
    True
    """
    A = square(A, "lyapunov")
    return _equation("lyapunov", A, A.H, Q, kronsum(A, A.conj()), alg, return_info, on_failure)


sylvester.question = lyapunov.question = SOLVE  # type: ignore[attr-defined]


def _equation(
    name: str, A: Any, B: Any, C: Any, K: LinearOperator, alg: Any, return_info: bool, on_failure: str
) -> Any:
    if isinstance(C, (list, tuple)):
        C = K._concrete_backend().asarray(C)
    be = backend_of_type(type(C))
    if be is None or K.backend not in (None, be):
        raise BackendError(
            f"{name}({A!r}, {B!r}, {type(C).__name__}): the right side must be an array of "
            f"{K.backend.name if K.backend is not None else 'a known library'}, like the operators."
        )
    m, n = A.shape[-1], B.shape[-1]
    if len(C.shape) < 2 or tuple(C.shape[-2:]) != (m, n):
        raise ShapeError(
            f"{name}({A!r}, {B!r}, C): C has shape {tuple(C.shape)}; it must be (*batch, {m}, {n})."
        )
    xp = be.xp
    c = xp.reshape(C, (*C.shape[:-2], m * n, 1))
    out = solve(K, c, alg, return_info=return_info, on_failure=on_failure)
    x, info = out if return_info else (out, None)
    X = xp.reshape(x, (*x.shape[:-2], m, n))
    return (X, info) if return_info else X
