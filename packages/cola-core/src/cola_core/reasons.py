"""Why an iteration ended, as numbers: they travel through compiled loops, one per column, and are words again
outside (``Info.reason``). The numbers grow with what is worth telling first when columns ended differently.
"""

from __future__ import annotations

__all__ = [
    "BAD_PRECONDITIONER",
    "BREAKDOWN",
    "CONVERGED",
    "DIVERGED",
    "DRIFTED",
    "ILL_CONDITIONED",
    "INCONSISTENT",
    "INDEFINITE",
    "NONFINITE",
    "OUTSIDE",
    "REASONS",
    "RUNNING",
    "SINGULAR",
    "STAGNATED",
    "STOPPED",
    "TIMEOUT",
    "TRACED",
    "UNDERFLOW",
]

(
    RUNNING,
    CONVERGED,
    STAGNATED,
    DRIFTED,
    BREAKDOWN,
    TIMEOUT,
    STOPPED,
    DIVERGED,
    SINGULAR,
    ILL_CONDITIONED,
    INCONSISTENT,
    INDEFINITE,
    BAD_PRECONDITIONER,
    UNDERFLOW,
    OUTSIDE,
    NONFINITE,
) = range(16)

REASONS: dict[int, str] = {
    RUNNING: "iteration limit reached",
    CONVERGED: "converged",
    STAGNATED: "the residual stopped decreasing",
    DRIFTED: "rounding errors keep the residual above the tolerance; ask for less, or use a higher precision",
    BREAKDOWN: "the recurrence broke down before it converged",
    TIMEOUT: "the time budget was used up",
    STOPPED: "stopped by the callback",
    DIVERGED: "the iteration diverged with every step size tried; is the operator positive definite?",
    SINGULAR: "the operator is singular to working precision",
    ILL_CONDITIONED: "the estimated condition number passed its limit (conlim)",
    INCONSISTENT: "the operator is singular and the right-hand side is not in its range",
    INDEFINITE: "a direction of non-positive curvature was met: the operator is not positive definite",
    BAD_PRECONDITIONER: "the preconditioner is not positive definite",
    UNDERFLOW: "the squares of the right-hand side underflow; scale it, or use a higher precision",
    NONFINITE: "a product with the operator gave NaN or infinity",
    OUTSIDE: "an eigenvalue lies outside of the interval: give wider bounds",
}

TRACED = "unknown under a trace"
