r"""The derivative of the log-likelihood in closed form, by one pass back through the filter.

With ``r_k, W_k`` the derivatives of the log-likelihood L by the predicted mean and covariance at time k,
``W = (r r^T - N) / 2`` where ``-N`` is the Hessian by the mean (L is the logarithm of a Gaussian integral,
and those obey the heat equation).  r and N obey the backward recursion of de Jong (1989), "Smoothing and
interpolation with the state-space model", JASA 84; the derivatives by the parameters are those of Koopman &
Shephard (1992), "Exact score for time series models in state space form", Biometrika 79, here for every
parameter::

    dL/dQ_k = W_{k+1}                       dL/dA_k = r_{k+1} m_k^T + 2 W_{k+1} A_k P_k
    dL/dR_k = (e e^T - S^{-1} - K^T M K)/2  dL/dH_k = e x_k^T - K^T (I - M P_k)        dL/dy_k = -e
    e = S^{-1} v - K^T q

with filtered ``m, P``, smoothed ``x = m + P q``, and ``q, -M`` the first and second derivative by the
filtered mean.  Nothing but the innovation's covariance S is inverted: Q, R and P0 may be singular.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .._struct import rebuild
from ..arrays import Array
from . import linear as la
from .affine import backwards
from .filtering import compiled, innovations, likelihood, run_filter
from .linear import mv
from .model import LinearGaussian, Problem, prepare

FIELDS = ("A", "Q", "H", "R", "m0", "P0")


def value_and_gradient(
    model: LinearGaussian, y: Any, mask: Any = None, *, form: str = "auto", method: str = "auto"
) -> tuple[Array, LinearGaussian]:
    """The log-likelihood ``(*batch,)`` and the derivatives of its sum over the batch.

    The derivatives come as a :class:`LinearGaussian` whose fields have the shapes of the model's.  That by
    a covariance is the symmetric G with ``dL = sum(G * dQ)`` for symmetric changes.  Arguments, errors and
    cost (twice the filter) as for :func:`~cola_gp.statespace.kalman_filter`.

    >>> import numpy as np
    >>> from cola_gp import statespace as ss
    >>> walk = ss.LinearGaussian(A=[[1.0]], Q=[[0.1]], H=[[1.0]], R=[[0.5]], m0=[0.0], P0=[[1.0]])
    >>> value, gradient = ss.value_and_gradient(walk, np.array([0.3, 0.5, 0.2]))
    >>> round(float(gradient.R[0, 0]), 3)
    -1.819
    """
    problem = prepare(model, y, mask)
    answer = compiled(_value_and_score, problem, form, method)
    be = problem.backend
    parts = [
        _gathered(be, name, getattr(model, name), g, problem.n)
        for name, g in zip(FIELDS, answer.score, strict=True)
    ]
    return answer.log_likelihood, rebuild(model, tuple(parts))


class _Scored(NamedTuple):
    log_likelihood: Array
    score: tuple[Array, ...]


def _value_and_score(arrays: tuple[Any, ...], *, form: str, method: str) -> _Scored:
    problem = Problem.of(arrays)
    moments = run_filter(problem, form, method)[:4]
    return _Scored(likelihood(problem, *moments[2:]), adjoint(problem, *moments, method)[:6])


def adjoint(problem: Problem, m: Array, P: Array, pm: Array, pP: Array, method: str) -> tuple[Array, ...]:
    """Derivatives by ``A, Q, H, R, m0, P0, y`` for every time and batch, given the filtered and predicted
    moments.

    Time axis first; ``A, Q (n, *batch, s, s)`` with zeros at the last time, ``m0 (*batch, s)``, ``P0
    (*batch, s, s)``.
    """
    be, xp = problem.backend, problem.xp
    p = int(problem.y.shape[-1])
    v, S, H = innovations(problem, pm, pP)
    H = xp.broadcast_to(H, (*v.shape[:-1], *H.shape[-2:]))
    solved = la.solve(be, S, xp.concat([H, v[..., None], H @ pP], axis=-1))
    s = int(H.shape[-1])
    SH, Sv, KT = solved[..., :s], solved[..., s], solved[..., s + 1 :]
    rest = la.eye(be, s, P) - KT.mT @ H
    A = problem.everywhere(problem.A)[:-1]
    zero = xp.zeros_like(problem.P0)[None]
    F = xp.concat([(A @ rest[:-1]).mT, zero], axis=0)
    r, N = backwards(be, (F, mv(H.mT, Sv), la.symmetric(H.mT @ SH)), method)
    W = 0.5 * (la.outer(r, r) - N)
    q = xp.concat([mv(A.mT, r[1:]), xp.zeros_like(r[:1])], axis=0)
    M = xp.concat([A.mT @ N[1:] @ A, zero], axis=0)
    dA = xp.concat([la.outer(r[1:], m[:-1]) + 2.0 * W[1:] @ A @ P[:-1], zero], axis=0)
    dQ = xp.concat([W[1:], zero], axis=0)
    e = Sv - mv(KT, q)
    inverse = la.solve(be, S, xp.broadcast_to(la.eye(be, p, S), S.shape))
    dR = 0.5 * (la.outer(e, e) - inverse - KT @ M @ KT.mT)
    dH = la.outer(e, m + mv(P, q)) - KT @ (la.eye(be, s, P) - M @ P)
    if problem.mask is not None:
        e, dH = e * problem.mask, dH * problem.mask[..., None]
        dR = dR * la.outer(problem.mask, problem.mask)
    return dA, dQ, dH, dR, r[0], W[0], -e


def _gathered(be: Any, name: str, like: Array, g: Array, n: int) -> Array:
    """The derivative for every time and batch, summed over those that share an entry of ``like``."""
    xp = be.xp
    if name not in ("m0", "P0"):
        if like.ndim == 2 or like.shape[-3] == 1:
            g = xp.sum(g, axis=0, keepdims=True)
        elif name in "AQ":
            g = g[: n - 1]
        g = xp.moveaxis(g, 0, -3)
        if like.ndim == 2:
            g = g[..., 0, :, :]
    return summed_to(xp, g, tuple(like.shape))


def summed_to(xp: Any, g: Array, shape: tuple[int, ...]) -> Array:
    """g summed over the axes along which an array of ``shape`` was broadcast to it."""
    extra = g.ndim - len(shape)
    if extra:
        g = xp.sum(g, axis=tuple(range(extra)))
    for axis, size in enumerate(shape):
        if size == 1 and g.shape[axis] != 1:
            g = xp.sum(g, axis=axis, keepdims=True)
    return g


def differentiable_likelihood(problem: Problem, form: str, method: str) -> Array:
    """The log-likelihood with this derivative, for torch and JAX: one pass back instead of the tape of the
    filter.

    The derivative is made of differentiable steps itself, so that there are second ones.
    """
    be, xp = problem.backend, problem.xp
    masked = problem.mask is not None

    def at(xs: tuple[Any, ...]) -> Problem:
        return Problem.of(xs if masked else (*xs, None))

    def run(*xs: Any) -> tuple[tuple[Array], None]:
        here = at(xs)
        return (likelihood(here, *run_filter(here, form, method)[2:4]),), None

    def derivatives(xs: tuple[Any, ...]) -> tuple[Array, ...]:
        here = at(xs)
        return adjoint(here, *run_filter(here, form, method)[:4], method)

    def tangent(d: Any, xs: tuple[Any, ...], outputs: tuple[Array, ...]) -> tuple[Array]:
        total = xp.zeros_like(outputs[0])
        for i, g in enumerate(derivatives(xs)):
            if d.moves(i):
                part = g * d[i]
                own = (0, *range(1 + len(problem.batch), part.ndim)) if i not in (4, 5) else None
                own = own or tuple(range(len(problem.batch), part.ndim))
                total = total + xp.sum(part, axis=own)
        return (total,)

    def cotangent(grads: tuple[Any, ...], xs: tuple[Any, ...], outputs: tuple[Array, ...]) -> tuple[Any, ...]:
        weigh = lambda g: grads[0][(..., *(None,) * (g.ndim - grads[0].ndim))]  # noqa: E731
        parts: list[Any] = []
        for i, (g, x) in enumerate(zip(derivatives(xs), xs, strict=False)):
            w = weigh(g) if i in (4, 5) else weigh(g[0])[None]
            parts.append(summed_to(xp, w * g, tuple(x.shape)))
        return (*parts, None) if masked else tuple(parts)

    inputs = problem.arrays if masked else problem.arrays[:7]
    return be.differentiable(run, tangent, *inputs, cotangent=cotangent)[0][0]  # type: ignore[no-any-return]
