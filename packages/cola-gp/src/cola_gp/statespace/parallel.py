r"""The filter as a scan of an associative operation: O(log n) vectorised operations for n times.

Element k is the pair of functions ``p(x_k | y_k, x_{k-1}) = N(x_k; A x_{k-1} + b, C)`` and ``p(y_k |
x_{k-1}) ~ N(x_{k-1}; J^{-1} eta, J^{-1})``; two neighbours combine into one of the same form.  The prefix
up to k holds the filtered moments ``b, C``.  Särkkä & García-Fernández (2021), "Temporal parallelization of
Bayesian smoothers", IEEE TAC 66(1); the square-root form is that of Yaghoobi, Corenflos, Hassan & Särkkä
(2025), "Parallel square-root statistical linear regression for inference in nonlinear state space models",
SIAM J. Sci. Comput.

An element needs the covariance ``H Q H^T + R`` of an observation given the state before it to be invertible.
"""

from __future__ import annotations

from typing import Any

from ..arrays import Array
from . import linear as la
from .filtering import measurement, predict
from .linear import mv
from .model import Problem
from .scans import Tree, parallel


def _steps(problem: Problem) -> tuple[Array, Array, Array]:
    """``A, Q, c`` with ``x_k = A_k x_{k-1} + c_k + N(0, Q_k)``; the prior is the step from nowhere: A = 0."""
    xp = problem.xp
    A, Q = (problem.everywhere(x)[:-1] for x in (problem.A, problem.Q))
    A = xp.concat([xp.zeros_like(problem.P0)[None], A], axis=0)
    Q = xp.concat([problem.P0[None], Q], axis=0)
    c = xp.concat([problem.m0[None], xp.zeros((problem.n - 1, *problem.m0.shape), dtype=A.dtype)], axis=0)
    return A, Q, c


def filter_tree(problem: Problem, form: str) -> tuple[Array, Array, Array, Array, Array | None]:
    """Filtered and predicted moments, time axis first, and the factor of the square-root form."""
    xp = problem.xp
    if form == "sqrt":
        from .square_root import combine, elements

        scanned = parallel(
            problem.backend, lambda a, b: combine(problem.backend, a, b), elements(problem, *_steps(problem))
        )
        m, L = scanned[1], scanned[2]
        P = L @ L.mT
    else:
        scanned = parallel(problem.backend, lambda a, b: _combine(problem.backend, a, b), _elements(problem))
        m, P, L = scanned[1], scanned[2], None
    A, Q = (x[: problem.n - 1] if x.shape[0] > 1 else x for x in (problem.A, problem.Q))
    pm, pP = predict(m[:-1], P[:-1], A, Q)
    pm = xp.concat([problem.m0[None], pm], axis=0)
    pP = xp.concat([problem.P0[None], pP], axis=0)
    return m, P, pm, pP, L


def _elements(problem: Problem) -> Tree:
    be = problem.backend
    A, Q, c = _steps(problem)
    H, R = measurement(be, problem.H, problem.R, problem.mask)
    HQ = H @ Q
    S = la.symmetric(HQ @ H.mT + R)
    K = la.solve(be, S, HQ).mT
    rest = la.eye(be, int(A.shape[-1]), A) - K @ H
    HA = problem.xp.broadcast_to(H @ A, (*A.shape[:-2], *H.shape[-2:]))
    SHA = la.solve(be, S, HA)
    b = c + mv(K, problem.y - mv(H, c))
    C = la.symmetric(rest @ Q @ rest.mT + K @ R @ K.mT)
    return rest @ A, b, C, mv(SHA.mT, problem.y), la.symmetric(HA.mT @ SHA)


def _combine(be: Any, one: Tree, two: Tree) -> Tree:
    A1, b1, C1, e1, J1 = one
    A2, b2, C2, e2, J2 = two
    s = A1.shape[-1]
    # one factorisation of (I + C1 J2)^T for all that is divided by it
    M = la.eye(be, int(s), A1) + J2 @ C1
    right = be.xp.concat([A2.mT, J2 @ A1, (e2 - mv(J2, b1))[..., None]], axis=-1)
    X = la.solve(be, M, right)
    AM = X[..., :s].mT
    # (I + J2 C1)^{-1} (eta2 - J2 b1): a mean is moved by C1 times that, no difference of huge numbers
    moved = X[..., 2 * s]
    A1T = A1.mT
    return (
        AM @ A1,
        mv(A2, b1 + mv(C1, moved)) + b2,
        la.symmetric(AM @ C1 @ A2.mT) + C2,
        mv(A1T, moved) + e1,
        la.symmetric(A1T @ X[..., s : 2 * s]) + J1,
    )


__all__ = ["filter_tree"]
