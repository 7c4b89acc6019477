"""Fit a state-space model by L-BFGS-B on its likelihood, with the derivative in closed form.

Covariances are varied as ``L L^T`` with the logarithm of the diagonal of L, so that they stay positive
definite; A, H and m0 freely.  A fit never loses its best point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cola_core.errors import NotPositiveDefiniteError

from .em import DEFAULT, LearnResult, learnable
from .model import LinearGaussian, prepare
from .score import value_and_gradient

COVARIANCES = ("Q", "R", "P0")
# A singular covariance has no logarithm: it starts from this, relative to its largest variance.
FLOOR = 1e-10
# A derivative of the log-likelihood too small in total to matter to anyone.
NEGLIGIBLE = 0.1
# Iterations that together have to gain more than tol per observed value: near a singular covariance, whose
# logarithm is far away, the likelihood stops changing long before the parameters do.
PATIENCE = 20


class _Vector:
    """The learned parameters of a model as one vector of free numbers."""

    def __init__(self, model: LinearGaussian, learn: Sequence[str], diagonal: Sequence[str]):
        self.model, self.learn, self.diagonal = model, tuple(dict.fromkeys(learn)), diagonal

    def start(self) -> np.ndarray:
        parts = [np.zeros(0)]
        for name in self.learn:
            value = np.asarray(getattr(self.model, name), dtype=float)
            if name not in COVARIANCES:
                parts.append(value.ravel())
                continue
            floor = FLOOR * (np.max(np.diagonal(value)) or 1.0)
            if name in self.diagonal:
                parts.append(0.5 * np.log(np.maximum(np.diagonal(value), floor)))
                continue
            w, V = np.linalg.eigh(value)
            L = np.linalg.cholesky((V * np.maximum(w, floor)) @ V.T)
            np.fill_diagonal(L, np.log(np.diagonal(L)))
            parts.append(L[np.tril_indices(len(L))])
        return np.concatenate(parts)

    def build(self, theta: np.ndarray) -> LinearGaussian:
        new, at = {}, 0
        for name in self.learn:
            shape = getattr(self.model, name).shape
            if name not in COVARIANCES:
                size = math.prod(shape)
                new[name] = theta[at : at + size].reshape(shape)
            else:
                L, size = self._factor(name, theta, at)
                new[name] = L @ L.T
            at += size
        return self.model.replace(**new)

    def _factor(self, name: str, theta: np.ndarray, at: int) -> tuple[np.ndarray, int]:
        s = getattr(self.model, name).shape[-1]
        if name in self.diagonal:
            return np.diag(np.exp(theta[at : at + s])), s
        size = s * (s + 1) // 2
        L = np.zeros((s, s))
        L[np.tril_indices(s)] = theta[at : at + size]
        np.fill_diagonal(L, np.exp(np.diagonal(L)))
        return L, size

    def gradient(self, theta: np.ndarray, by: LinearGaussian) -> np.ndarray:
        """The derivatives by the vector, from those by the parameters."""
        parts, at = [np.zeros(0)], 0
        for name in self.learn:
            g = np.asarray(getattr(by, name))
            if name not in COVARIANCES:
                parts.append(g.ravel())
                at += g.size
                continue
            L, size = self._factor(name, theta, at)
            dL = 2.0 * g @ L
            if name in self.diagonal:
                parts.append(np.diagonal(dL) * np.diagonal(L))
            else:
                np.fill_diagonal(dL, np.diagonal(dL) * np.diagonal(L))
                parts.append(dL[np.tril_indices(len(dL))])
            at += size
        return np.concatenate(parts)


def gradient_fit(
    model: LinearGaussian,
    y: Any,
    mask: Any = None,
    *,
    learn: Sequence[str] = DEFAULT,
    diagonal: Sequence[str] = (),
    max_iters: int = 200,
    tol: float = 1e-5,
    form: str = "auto",
    method: str = "auto",
    callback: Callable[[int, float], None] | None = None,
) -> LearnResult:
    """Maximise the likelihood of NumPy observations ``y (*batch, n, p)`` over the parameters named in
    ``learn``.

    tol: on the largest derivative per observed value, and on what twenty iterations gain per observed
    value.  Other arguments as for :func:`~cola_gp.statespace.em`.  On torch and JAX differentiate
    :func:`~cola_gp.statespace.log_likelihood` with an optimiser of your own.
    """
    from scipy.optimize import minimize

    if max_iters < 0:
        raise ValueError("max_iters must not be negative.")
    learnable(model, learn, diagonal)
    y = np.asarray(y, dtype=float)
    problem = prepare(model, y, mask)
    count = float(math.prod(problem.y.shape) if problem.mask is None else np.sum(problem.mask)) or 1.0
    space = _Vector(model, learn, diagonal)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    history: list[float] = []
    failure, worst = "", 0.0

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best, failure, worst
        try:
            with np.errstate(all="ignore"):
                value, by = value_and_gradient(space.build(theta), y, mask, form=form, method=method)
                slope = -space.gradient(theta, by) / count
            loss = -float(np.sum(value)) / count
        except (NotPositiveDefiniteError, np.linalg.LinAlgError, ValueError) as error:
            loss, slope, failure = math.inf, np.full(theta.shape, math.nan), str(error)
        if not (math.isfinite(loss) and np.all(np.isfinite(slope))):
            # a finite wall, higher than anything seen, so that the line search steps back
            failure = failure or "the likelihood is not finite"
            return 10.0 * abs(worst) + 1e3, np.zeros_like(theta)
        worst = max(worst, loss)
        if best is None or loss < best[0]:
            best = loss, theta.copy(), slope
        return loss, slope

    def report(_: np.ndarray) -> None:
        if best is not None:
            history.append(-best[0] * count)
            if callback is not None:
                callback(len(history) - 1, history[-1])
        if len(history) > PATIENCE and history[-1] - history[-1 - PATIENCE] <= tol * count:
            raise StopIteration

    start = space.start()
    objective(start)
    if best is None:
        raise NotPositiveDefiniteError(f"no finite likelihood at the initial parameters: {failure}")
    report(start)
    if max_iters == 0 or start.size == 0:
        return _result(space, best, count, start.size == 0, "nothing was varied", 0, history)
    answer = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        callback=report,
        options={"maxiter": max_iters, "maxfun": 20 * max_iters, "gtol": tol, "ftol": 1e-10, "maxcor": 20},
    )
    steepest = float(np.max(np.abs(best[2])))
    if steepest <= 10 * tol or steepest * count <= NEGLIGIBLE:
        converged, reason = True, "the gradient is within tolerance"
    elif len(history) > PATIENCE and history[-1] - history[-1 - PATIENCE] <= tol * count:
        converged, reason = True, "the likelihood no longer changes"
    else:
        converged = False
        reason = (
            "the iteration limit was reached"
            if answer.status == 1
            else f"the optimiser stopped: {answer.message}"
        )
    return _result(space, best, count, converged, reason, int(answer.nit), history)


def _result(
    space: _Vector,
    best: Any,
    count: float,
    converged: bool,
    reason: str,
    iterations: int,
    history: list[float],
) -> LearnResult:
    loss, theta, slope = best
    norm = float(np.max(np.abs(slope))) if slope.size else 0.0
    model = space.build(theta)
    return LearnResult(model, -loss * count, converged, reason, iterations, tuple(history), norm)
