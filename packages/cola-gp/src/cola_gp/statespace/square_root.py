r"""Square-root forms: covariances by triangular factors, updated by LQ factorisations.

``tria(M)`` is a lower triangular L with ``L L^T = M M^T``.  With factors ``P = L L^T``, ``Q = U U^T``, ``R
= V V^T`` (Kailath, Sayed & Hassibi 2000, "Linear Estimation", section 12.3)::

    measurement   tria [[V, H L], [0, L]] = [[S^1/2, 0], [K S^1/2, L_new]]
    time          L_next = tria [A L, U]
    smoothing     tria [[A L, U], [L, 0]] = [[F, 0], [G F, D^1/2]]

The scanned forms of the filter are those of Yaghoobi et al. (see :mod:`~cola_gp.statespace.parallel`).
"""

from __future__ import annotations

from typing import Any

from ..arrays import Array
from . import linear as la
from .filtering import measurement
from .linear import mv, tria
from .model import Problem
from .scans import Tree, sequential


def join(be: Any, L1: Array, L2: Array) -> Array:
    """The factor of ``L1 L1^T + L2 L2^T``."""
    return tria(be, la.block(be.xp, [[L1, L2]]))


def condition(be: Any, L: Array, H: Array, V: Array) -> tuple[Array, Array, Array]:
    """Factor of the innovation's covariance, gain ``K`` and factor of the covariance after an observation."""
    p = int(V.shape[-1])
    zero = be.xp.zeros_like(H).mT
    T = tria(be, la.block(be.xp, [[V, H @ L], [zero, L]]))
    root = T[..., :p, :p]
    K = la.solve(be, root.mT, T[..., p:, :p].mT).mT
    return root, K, T[..., p:, p:]


def filter_steps(problem: Problem) -> tuple[Array, Array, Array, Array, Array]:
    """The sequential filter: moments and predictions, time axis first, and the factors of the covariances."""
    be = problem.backend

    def step(carry: Tree, inputs: Tree) -> tuple[Tree, Tree]:
        pm, pL = carry
        A, U, H, V, y, w = inputs
        if w is not None:
            H = H * w[..., None]
        _, K, L = condition(be, pL, H, V)
        m = pm + mv(K, y - mv(H, pm))
        return (mv(A, m), join(be, A @ L, U)), (m, L, pm, pL)

    U = la.factor(be, problem.Q)
    V = noise_factors(problem)
    start = (problem.m0, la.factor(be, problem.P0))
    inputs = (problem.A, U, problem.H, V, problem.y, problem.mask)
    m, L, pm, pL = sequential(be, step, start, inputs, problem.n)
    return m, L @ L.mT, pm, pL @ pL.mT, L


def noise_factors(problem: Problem) -> Array:
    """Factors of R at all times where something may be missing, else of R as given."""
    be = problem.backend
    if problem.mask is None:
        return la.factor(be, problem.R)
    return la.factor(be, measurement(be, problem.H, problem.R, problem.mask)[1])


def backward_gains(problem: Problem, L: Array) -> tuple[Array, Array]:
    """``G`` and the factor of ``D`` of the smoother for the first n-1 times, from the filtered factors."""
    be, xp = problem.backend, problem.xp
    s = int(L.shape[-1])
    A, U = (x[: problem.n - 1] if x.shape[0] > 1 else x for x in (problem.A, la.factor(be, problem.Q)))
    L = L[:-1]
    T = tria(be, la.block(xp, [[A @ L, U], [L, xp.zeros_like(L)]]))
    F = T[..., :s, :s]
    return la.consistent_solve(be, F.mT, T[..., s:, :s].mT, hermitian=False).mT, T[..., s:, s:]


def elements(problem: Problem, A: Array, Q: Array, c: Array) -> Tree:
    """Elements of the scan, ``A, b, U, eta, Z`` with ``C = U U^T`` and ``J = Z Z^T``."""
    be, xp = problem.backend, problem.xp
    H = problem.H if problem.mask is None else problem.H * problem.mask[..., None]
    V = noise_factors(problem)
    root, K, U = condition(be, la.factor(be, Q), H, V)
    rest = la.eye(be, int(A.shape[-1]), A) - K @ H
    b = c + mv(K, problem.y - mv(H, c))
    HA = xp.broadcast_to(H @ A, (*A.shape[:-2], *H.shape[-2:]))
    W = la.solve(be, root, HA).mT  # J = W W^T
    eta = mv(W, la.solve(be, root, problem.y[..., None])[..., 0])
    return rest @ A, b, U, eta, tria(be, W)


def combine(be: Any, one: Tree, two: Tree) -> Tree:
    """Two neighbouring elements as one."""
    A1, b1, U1, e1, Z1 = one
    A2, b2, U2, e2, Z2 = two
    xp, s = be.xp, int(A1.shape[-1])
    unit = xp.broadcast_to(la.eye(be, s, A1), A1.shape)
    T = tria(be, la.block(xp, [[U1.mT @ Z2, unit], [Z2, xp.zeros_like(Z2)]]))
    T11, T21, T22 = T[..., :s, :s], T[..., s:, :s], T[..., s:, s:]
    # X X^T = (I + C1 J2)^{-1} C1 and T21 = J2 X.  A mean is moved by X X^T (eta2 - J2 b1); by way of C1 eta2,
    # of the size of a vague prior, the answer would be a difference of huge numbers.
    X = la.solve(be, T11, U1.mT).mT
    rest = e2 - mv(Z2, mv(Z2.mT, b1))
    return (
        A2 @ (A1 - X @ (T21.mT @ A1)),
        mv(A2, b1 + mv(X, mv(X.mT, rest))) + b2,
        tria(be, xp.concat([A2 @ X, U2], axis=-1)),
        mv(A1.mT, rest - mv(T21, mv(X.mT, rest))) + e1,
        tria(be, xp.concat([A1.mT @ T22, Z1], axis=-1)),
    )
