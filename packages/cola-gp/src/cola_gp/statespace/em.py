r"""Expectation-maximisation for linear Gaussian state-space models (Shumway & Stoffer 1982).

One step smooths, with which the expected complete-data log-likelihood is a quadratic in the parameters, and
maximises it in closed form; the likelihood never decreases.  Components of an observation that are missing
are latent as well: given the state and the components that are seen they are Gaussian, with the covariance
R between them, and their moments enter the step (they are not left out, which would be no maximum).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cola_core.errors import NotPositiveDefiniteError, ShapeError, UnknownNameError

from ..arrays import Array
from ..kernels.base import follow
from . import linear as la
from .affine import backwards
from .filtering import compiled, likelihood, run_filter
from .linear import mv, outer
from .model import LinearGaussian, Problem, prepare
from .smoothing import backward_elements
from .square_root import join

FIELDS = ("A", "Q", "H", "R", "m0", "P0")
# P0 of a single series is seen once: its maximum likelihood estimate is zero.
DEFAULT = ("A", "Q", "H", "R", "m0")


class Step(NamedTuple):
    """One step of EM: the model after it, and the log-likelihood ``(*batch,)`` of the model before it."""

    model: LinearGaussian
    log_likelihood: Array


@dataclass(frozen=True)
class LearnResult:
    """What a fit of a state-space model found: the best model seen, and how far to trust it.

    log_likelihood: of ``model``, summed over all series; history: of every model on the way, the first one
    included.  converged, reason: whether and why it stopped.  gradient_norm: of the gradient fit, per
    observed value and unit of its parameters, else None.
    """

    model: LinearGaussian
    log_likelihood: float
    converged: bool
    reason: str
    iterations: int
    history: tuple[float, ...]
    gradient_norm: float | None = None


def learnable(model: LinearGaussian, learn: Sequence[str], diagonal: Sequence[str]) -> None:
    """Check names of parameters to be learned; these must be the same at all times and for all series."""
    for name in (*learn, *diagonal):
        if name not in FIELDS:
            raise UnknownNameError(f"unknown parameter {name!r}; a model has {', '.join(FIELDS)}.")
    for name in diagonal:
        if name not in ("Q", "R", "P0"):
            raise UnknownNameError(f"{name} is no covariance; only Q, R and P0 can be kept diagonal.")
    for name in learn:
        shape = tuple(getattr(model, name).shape)
        if len(shape) != (1 if name == "m0" else 2):
            raise ShapeError(
                f"{name} of shape {shape} changes with time or series; only parameters common to all can be "
                f"learned. Leave {name} out of learn=."
            )


def em_step(
    model: LinearGaussian,
    y: Any,
    mask: Any = None,
    *,
    learn: Sequence[str] = DEFAULT,
    diagonal: Sequence[str] = (),
    form: str = "auto",
    method: str = "auto",
) -> Step:
    """One step of EM on observations ``y (*batch, n, p)``; the model's parameters are common to the batch.

    learn: names of the parameters to maximise over; the others stay, and may change with time.  diagonal:
    covariances that are kept diagonal (``("R",)`` for independent noise of the observed values).  Pure, on
    every library.
    """
    learnable(model, learn, diagonal)
    problem = prepare(model, y, mask)
    expected = compiled(_expect, problem, form, method)
    # compiled apart from the smoother on JAX, so that other choices of ``learn`` do not compile that again
    maximise = problem.backend.jit(_maximise, static=("learn", "diagonal"))
    new = maximise(model, problem.arrays, expected, learn=tuple(learn), diagonal=tuple(diagonal))
    return Step(new, expected.log_likelihood)


class _Expected(NamedTuple):
    """Smoothed moments ``m, P`` and the maps ``x_k = G x_{k+1} + g + N(0, D)`` behind them, time axis
    first.
    """

    m: Array
    P: Array
    G: Array
    D: Array
    log_likelihood: Array


def _expect(arrays: tuple[Any, ...], *, form: str, method: str) -> _Expected:
    problem = Problem.of(arrays)
    moments = run_filter(problem, form, method)
    value = likelihood(problem, *moments[2:4])
    maps = backward_elements(problem, *moments)
    if form == "sqrt":
        m, L = backwards(problem.backend, maps, method, join)
        return _Expected(m, L @ L.mT, maps[0], maps[2] @ maps[2].mT, value)
    return _Expected(*backwards(problem.backend, maps, method), maps[0], maps[2], value)


def _maximise(
    model: LinearGaussian,
    arrays: tuple[Any, ...],
    expected: _Expected,
    *,
    learn: tuple[str, ...],
    diagonal: tuple[str, ...],
) -> LinearGaussian:
    problem = Problem.of(arrays)
    be, xp, n = problem.backend, problem.xp, problem.n
    m, P, G, D, _ = expected
    new: dict[str, Array] = {}

    def total(x: Array) -> Array:
        """Sum over times and series."""
        return xp.sum(xp.reshape(x, (-1, *x.shape[-2:])), axis=0)

    def covariance(name: str, x: Array) -> Array:
        x = la.symmetric(x)
        return be.matrix_diag(be.diagonal(x)) if name in diagonal else x

    if n > 1 and ("A" in learn or "Q" in learn):
        A = problem.everywhere(problem.A)[:-1]
        if "A" in learn:
            # the noise of one covariance Q weighs all times alike, so that A is a least-squares fit
            if model.Q.ndim != 2:
                raise ShapeError(
                    "A cannot be learned by EM with a Q that changes with time; fit it by gradient."
                )
            before = P[:-1] + outer(m[:-1], m[:-1])
            mixed = P[1:] @ G[:-1].mT + outer(m[1:], m[:-1])
            new["A"] = la.consistent_solve(be, total(before), total(mixed).mT).mT
            A = new["A"]
        if "Q" in learn:
            # E[(x' - A x)(x' - A x)^T] as a sum of squares, by x given x': rounding cannot make it indefinite
            rest, own = m[1:] - mv(A, m[:-1]), la.eye(be, int(P.shape[-1]), P) - A @ G[:-1]
            spread = own @ P[1:] @ own.mT + A @ D[:-1] @ A.mT + outer(rest, rest)
            new["Q"] = covariance("Q", _mean_of(total, spread))
    if "H" in learn or "R" in learn:
        C, d, S = _complete(problem)
        second = P + outer(m, m)
        yx = C @ second + outer(d, m)
        H = problem.everywhere(problem.H)
        if "H" in learn:
            if model.R.ndim != 2:
                raise ShapeError(
                    "H cannot be learned by EM with an R that changes with time; fit it by gradient."
                )
            new["H"] = la.consistent_solve(be, total(second), total(yx).mT).mT
            H = new["H"]
        if "R" in learn:
            # a sum of squares, as well
            rest = mv(C - H, m) + d
            spread = (C - H) @ P @ (C - H).mT + outer(rest, rest) + S
            new["R"] = covariance("R", _mean_of(total, spread))
    if "m0" in learn or "P0" in learn:
        first = xp.reshape(m[0], (-1, m.shape[-1]))
        middle = follow(model.m0, m)
        if "m0" in learn:
            middle = new["m0"] = xp.mean(first, axis=0)
        if "P0" in learn:
            rest = first - middle
            new["P0"] = covariance(
                "P0", xp.mean(xp.reshape(P[0], (-1, *P.shape[-2:])) + outer(rest, rest), axis=0)
            )
    return model.replace(**new)


def _mean_of(total: Callable[[Array], Array], x: Array) -> Array:
    return total(x) / math.prod(x.shape[:-2])


def _complete(problem: Problem) -> tuple[Array, Array, Array]:
    """``C, d, S`` with ``y | x, seen ~ N(C x + d, S)``: seen components are what they are, others as R
    relates them.
    """
    be, xp = problem.backend, problem.xp
    s = int(problem.m0.shape[-1])
    if problem.mask is None:
        p = int(problem.y.shape[-1])
        nothing = xp.zeros((*problem.y.shape, s), dtype=problem.y.dtype)
        return nothing, problem.y, xp.zeros((*problem.y.shape, p), dtype=problem.y.dtype)
    w, gone = problem.mask, 1.0 - problem.mask
    eye = la.eye(be, int(w.shape[-1]), w)
    Rw = problem.R * outer(w, w) + gone[..., None] * eye
    B = la.consistent_solve(be, Rw, problem.R * outer(w, gone)).mT  # gone x seen
    C = gone[..., None] * problem.H - B @ problem.H
    S = problem.R * outer(gone, gone) - B @ (problem.R * outer(w, gone))
    return C, problem.y + mv(B, problem.y), la.symmetric(S)


def em(
    model: LinearGaussian,
    y: Any,
    mask: Any = None,
    *,
    learn: Sequence[str] = DEFAULT,
    diagonal: Sequence[str] = (),
    max_iters: int = 200,
    tol: float = 1e-6,
    form: str = "auto",
    method: str = "auto",
    callback: Callable[[int, float], None] | None = None,
) -> LearnResult:
    """Repeat :func:`em_step` until a step gains less than ``tol`` per observed value; never loses the best
    model.

    callback: called with the number of steps and the log-likelihood.  EM is robust and slow near the end;
    the gradient fit (:func:`~cola_gp.statespace.gradient_fit`) may go on from its answer.

    >>> import numpy as np
    >>> from cola_gp import statespace as ss
    >>> walk = ss.LinearGaussian(A=[[1.0]], Q=[[1.0]], H=[[1.0]], R=[[1.0]], m0=[0.0], P0=[[1.0]])
    >>> y = np.sin(np.arange(50) / 5)
    >>> result = ss.em(walk, y, learn=("Q", "R"))
    >>> bool(result.log_likelihood > result.history[0])
    True
    """
    if max_iters < 0:
        raise ValueError("max_iters must not be negative.")
    learnable(model, learn, diagonal)
    problem = prepare(model, y, mask)
    be, xp = problem.backend, problem.xp
    count = float(math.prod(problem.y.shape) if problem.mask is None else be.to_numpy(xp.sum(problem.mask)))
    history: list[float] = []
    # from the nearest model that is as it shall be, so that no step has to lose for that
    apart = {name: be.matrix_diag(be.diagonal(getattr(model, name))) for name in diagonal if name in learn}
    model = model.replace(**apart)
    best, converged, reason = model, False, "the iteration limit was reached"
    for iteration in range(max_iters + 1):
        try:
            after, value = em_step(model, y, mask, learn=learn, diagonal=diagonal, form=form, method=method)
        except NotPositiveDefiniteError as error:
            if not history:
                raise
            reason = f"the model degenerated ({error})"
            break
        history.append(float(be.to_numpy(xp.sum(value))))
        if callback is not None:
            callback(iteration, history[-1])
        if len(history) > 1 and history[-1] < history[-2]:
            # a step cannot lose but by rounding
            lost = history[-2] - history[-1]
            converged = lost <= tol * count
            reason = "the likelihood no longer increases" if converged else f"rounding lost {lost:.2g}"
            history.pop()
            break
        best = model
        if len(history) > 1 and history[-1] - history[-2] <= tol * count:
            converged, reason = True, "the likelihood no longer changes"
            break
        model = after
    return LearnResult(best, history[-1], converged, reason, max(0, len(history) - 1), tuple(history))
