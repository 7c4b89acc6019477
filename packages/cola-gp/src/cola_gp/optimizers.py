"""Minimisers under simple bounds: L-BFGS-B of SciPy, and Adam (Kingma & Ba 2015, algorithm 1).

Both take an objective that returns a value and a gradient, ask it at points inside of the bounds only, and
say why they stopped.  Adam projects every step onto the bounds; when the value has not improved for a while
it goes back to its best point and halves the step, and it stops when the steps are too small to matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]
# Called after every iteration; raises to stop the minimisation.
Report = Callable[[], None]

OPTIMIZERS = ("l-bfgs", "adam")

WITHIN_TOLERANCE = "the gradient is within tolerance"
NO_CHANGE = "the likelihood no longer changes"
LIMIT = "the iteration limit was reached"


@dataclass(frozen=True)
class Optimum:
    """Where a minimiser ended.  ``exhausted``: a limit of iterations or evaluations stopped it."""

    x: np.ndarray
    value: float
    gradient: np.ndarray
    iterations: int
    reason: str
    exhausted: bool = False


def projected_norm(x: np.ndarray, gradient: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """Largest entry of the gradient that does not push against a bound."""
    step = np.clip(x - gradient, lower, upper) - x
    return float(np.max(np.abs(step))) if step.size else 0.0


def lbfgs(
    objective: Objective,
    start: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    max_iters: int,
    tol: float,
    report: Report,
) -> Optimum:
    """L-BFGS-B with 20 corrections; ``tol`` is on the largest entry of the projected gradient."""
    from scipy.optimize import minimize

    answer = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(lower, upper, strict=True)),
        callback=lambda _: report(),
        options={"maxiter": max_iters, "maxfun": 20 * max_iters, "gtol": tol, "ftol": 1e-12, "maxcor": 20},
    )
    # status 1 is an exhausted budget; 2 a line search lost in rounding, which a small gradient excuses.
    return Optimum(
        np.asarray(answer.x),
        float(answer.fun),
        np.asarray(answer.jac),
        int(answer.nit),
        _reason(str(answer.message)),
        answer.status == 1,
    )


# SciPy's messages, which name Fortran variables, in words.
_REASONS = {
    "NORM OF PROJECTED GRADIENT": WITHIN_TOLERANCE,
    "RELATIVE REDUCTION OF F": NO_CHANGE,
    "ITERATIONS REACHED LIMIT": LIMIT,
    "EVALUATIONS EXCEEDS LIMIT": "the limit of evaluations was reached",
    "ABNORMAL": "the line search found no better point",
}


def _reason(message: str) -> str:
    return next((words for key, words in _REASONS.items() if key in message.upper()), message)


def adam(
    objective: Objective,
    start: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    max_iters: int,
    tol: float,
    report: Report,
    learning_rate: float = 0.1,
    patience: int = 10,
    betas: tuple[float, float] = (0.9, 0.99),
) -> Optimum:
    """Adam with projection and with a step that is halved after ``patience`` iterations without progress.

    ``learning_rate`` is the length of the first steps, per parameter (logarithms, for positive ones).  The
    end: a projected gradient within ``tol``, steps below a thousandth of the first, or ``max_iters``.
    """
    x = np.clip(start, lower, upper)
    value, gradient = objective(x)
    best = (x, value, gradient)
    first, second = np.zeros_like(x), np.zeros_like(x)
    rate, age, stale = learning_rate, 0, 0
    for iteration in range(max_iters):
        if projected_norm(best[0], best[2], lower, upper) <= tol:
            return Optimum(*best, iteration, WITHIN_TOLERANCE)
        age += 1
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        direction = (first / (1 - betas[0] ** age)) / (np.sqrt(second / (1 - betas[1] ** age)) + 1e-300)
        x = np.clip(x - rate * direction, lower, upper)
        value, gradient = objective(x)
        # Progress below rounding of the value is none.
        stale = 0 if value < best[1] - 1e-10 * (1 + abs(best[1])) else stale + 1
        if value < best[1]:
            best = (x, value, gradient)
        report()
        if stale >= patience:
            rate, age, stale = rate / 2, 0, 0
            x, value, gradient = best
            first, second = np.zeros_like(x), np.zeros_like(x)
            if rate < 1e-3 * learning_rate:
                return Optimum(*best, iteration + 1, NO_CHANGE)
    if projected_norm(best[0], best[2], lower, upper) <= tol:
        return Optimum(*best, max_iters, WITHIN_TOLERANCE)
    return Optimum(*best, max_iters, LIMIT, True)
