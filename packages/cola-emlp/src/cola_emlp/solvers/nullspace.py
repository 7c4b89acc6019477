"""The general path: nullspace of the stacked constraints drho(A) x = 0 and (rho(h) - 1) x = 0, for small N.

Gram matrix and eigh propose a slightly too large space; a singular value decomposition of the constraints
restricted to it decides, at full precision. Every constraint is scaled to norm about 1 first. `restrict` is
that second half alone and also takes discrete generators into account after a Lie-algebra solve.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import BasisError
from .tensor import algebra_action, group_action

Constraint = Callable[[np.ndarray], np.ndarray]
ZERO, NONZERO = 1e-9, 1e-6
"""Relative singular values below ZERO belong to the nullspace, above NONZERO do not; between them is no
answer.
"""


def lie_constraint(a: np.ndarray, word: tuple[bool, ...]) -> Constraint:
    scale = max(np.linalg.norm(a, 2) * len(word), 1e-300)
    return lambda x: algebra_action(a, x, word) / scale


def discrete_constraint(h: np.ndarray, word: tuple[bool, ...]) -> Constraint:
    inverse = np.linalg.inv(h)
    scale = 1.0
    for letter in word:
        scale *= max(1.0, float(np.linalg.norm(inverse if letter else h, 2)))
    return lambda x: (group_action(h, x, word) - x) / (1.0 + scale)


def restrict(q: np.ndarray, constraints: list[Constraint]) -> np.ndarray:
    """Orthonormal basis of the vectors in the column space of q that satisfy all constraints."""
    for constraint in constraints:
        if not q.shape[1]:
            break
        residual = constraint(q)
        _, s, vh = np.linalg.svd(residual, full_matrices=False)
        unclear = s[(s > ZERO) & (s < NONZERO)]
        if len(unclear):
            raise BasisError(
                "the dimension is not numerically determined: a constraint has relative singular value "
                f"{unclear.max():.1e}, between {ZERO:g} (zero) and {NONZERO:g} (not). Give the generators "
                "more precisely, or remove one that repeats another only approximately."
            )
        keep = s <= ZERO
        if not keep.all():
            q = q @ vh[keep].conj().T
    return q


def nullspace_invariants(n: int, dtype: np.dtype, constraints: list[Constraint]) -> np.ndarray:
    """Orthonormal basis (N, r). Dense N x N work: O(N^3) time, 8 N^2 bytes per constraint."""
    gram = np.zeros((n, n), dtype)
    eye = np.eye(n, dtype=dtype)
    for constraint in constraints:
        c = constraint(eye)
        gram += c.conj().T @ c
    w, v = np.linalg.eigh(gram)
    if not np.isfinite(w).all():
        raise BasisError("the eigenvalue solver returned NaN for the Gram matrix of the constraints")
    candidates = v[:, w <= 1e-9 * max(float(w[-1]), 1e-300)]
    return restrict(candidates, constraints)
