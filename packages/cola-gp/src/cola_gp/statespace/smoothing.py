r"""Rauch-Tung-Striebel smoother: the states given all observations.

Given ``x_{k+1}`` and ``y_0 .. y_k`` the state before is ``x_k = G_k x_{k+1} + g_k + N(0, D_k)`` with ``G =
P A^T (P^-)^{-1}``, ``g = m - G m^-`` and ``D = (I - G A) P (I - G A)^T + G Q G^T`` (positive semidefinite
term by term).  These are found for all times at once; what is left is a recursion backwards in time,
sequential or by a tree (Särkkä & García-Fernández 2021).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..arrays import Array
from . import linear as la
from .affine import backwards
from .filtering import compiled, likelihood, run_filter
from .linear import mv
from .model import LinearGaussian, Problem, prepare
from .scans import Tree
from .square_root import backward_gains, join


class Smoothed(NamedTuple):
    """Distributions of the states given all observations.

    mean ``(*batch, n, s)``, covariance ``(*batch, n, s, s)``: of ``x_k``.
    cross_covariance ``(*batch, n-1, s, s)``: ``Cov(x_{k+1}, x_k)`` of neighbours, which EM needs.
    log_likelihood ``(*batch,)``; factor: lower triangular factor of ``covariance`` (square-root form), or
    None.
    """

    mean: Array
    covariance: Array
    cross_covariance: Array
    log_likelihood: Array
    factor: Array | None = None


def kalman_smoother(
    model: LinearGaussian, y: Any, mask: Any = None, *, form: str = "auto", method: str = "auto"
) -> Smoothed:
    """Filter and smooth; arguments, errors and cost as for :func:`~cola_gp.statespace.kalman_filter`.

    >>> import numpy as np
    >>> from cola_gp import statespace as ss
    >>> walk = ss.LinearGaussian(A=[[1.0]], Q=[[1.0]], H=[[1.0]], R=[[1e-4]], m0=[0.0], P0=[[1.0]])
    >>> ss.kalman_smoother(walk, np.array([0.0, np.nan, 2.0])).mean[:, 0].round(2).tolist()
    [0.0, 1.0, 2.0]
    """
    return compiled(_smoothed, prepare(model, y, mask), form, method)  # type: ignore[no-any-return]


def _smoothed(arrays: tuple[Any, ...], *, form: str, method: str) -> Smoothed:
    problem = Problem.of(arrays)
    m, P, pm, pP, L = run_filter(problem, form, method)
    backward = backward_elements(problem, m, P, pm, pP, L)
    be = problem.backend
    if L is None:
        sm, sP = backwards(be, backward, method)
        sL = None
    else:
        sm, sL = backwards(be, backward, method, join)
        sP = sL @ sL.mT
    xp = problem.xp
    cross = sP[1:] @ backward[0][:-1].mT
    value = likelihood(problem, pm, pP)
    back = lambda x, k: xp.moveaxis(x, 0, k)  # noqa: E731
    return Smoothed(back(sm, -2), back(sP, -3), back(cross, -3), value, None if sL is None else back(sL, -3))


def backward_elements(problem: Problem, m: Array, P: Array, pm: Array, pP: Array, L: Array | None) -> Tree:
    """``G, g, D`` at all n times (the last: ``G = 0, g = m, D = P``); with a factor L of P, D is given by a
    factor.
    """
    be, xp = problem.backend, problem.xp
    if L is not None:
        G, D = backward_gains(problem, L)
        last = L[-1:]
    else:
        A, Q = (x[: problem.n - 1] if x.shape[0] > 1 else x for x in (problem.A, problem.Q))
        G = la.consistent_solve(be, pP[1:], A @ P[:-1]).mT
        rest = la.eye(be, int(P.shape[-1]), P) - G @ A
        D = la.symmetric(rest @ P[:-1] @ rest.mT + G @ Q @ G.mT)
        last = P[-1:]
    g = m[:-1] - mv(G, pm[1:])
    return (
        xp.concat([G, xp.zeros_like(P[-1:])], axis=0),
        xp.concat([g, m[-1:]], axis=0),
        xp.concat([D, last], axis=0),
    )
