"""``Info``: what an iterative, stochastic or direct answer knows about its own error.

Contract: ``residual`` is recomputed from the operator at exit, never the recurrence's own; ``converged``
compares it with ``tolerance``; ``reason`` says in a word why the iteration stopped. Fields that do not apply
are None. Under ``jax.jit`` the numeric fields are traced arrays and nothing is warned.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .errors import ConvergenceError, ConvergenceWarning
from .pytree import node, static

__all__ = ["Info", "combine", "report"]


@node
@dataclass(frozen=True)
class Info:
    """How an answer was reached and how far it can be trusted.

    residual: relative residual norm ``|b - A x| / |b|`` (worst column), recomputed at exit.
    residuals: the same per column. standard_error: one standard deviation of a stochastic answer, including
    the deterministic part (truncation) where it is estimated. parts: Infos of the leaves of a composed
    answer. rank: the numerical rank a least-squares answer rests on.
    """

    method: str = static(default="")
    converged: Any = True
    reason: str = static(default="exact")
    iterations: Any = None
    matvecs: Any = None
    residual: Any = None
    tolerance: Any = None
    error_estimate: Any = None
    standard_error: Any = None
    residuals: Any = None
    condition: Any = None
    rank: Any = None
    rule: str = static(default="")
    plugin: str = static(default="")
    seconds: float | None = static(default=None)
    parts: tuple[Info, ...] = field(default=(), repr=False)

    def replace(self, **changes: Any) -> Info:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Plain Python values, for JSON."""
        out: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "parts":
                value = [p.as_dict() for p in value]
            elif f.name == "residuals" and value is not None:
                value = [float(v) for v in _flat(value)]
            elif value is not None and hasattr(value, "shape"):
                value = value.item() if not value.shape else [float(v) for v in _flat(value)]
            out[f.name] = value
        return out


def _flat(value: Any) -> list[Any]:
    return list(value.reshape(-1).tolist()) if hasattr(value, "reshape") else list(value)


def combine(parts: Sequence[Info], **changes: Any) -> Info:
    """One Info for an answer composed of several: converged if all are, products and iterations added up."""
    if not parts:
        return Info(**changes)
    failed = [p for p in parts if _is_false(p.converged)]

    def total(name: str) -> Any:
        values = [getattr(p, name) for p in parts if getattr(p, name) is not None]
        return sum(values[1:], values[0]) if values else None

    first = failed[0] if failed else parts[0]
    converged: Any = True
    for p in parts:
        converged = p.converged if converged is True else (converged & p.converged)
    errors = [p.standard_error for p in parts if p.standard_error is not None]
    merged = Info(
        method=" + ".join(dict.fromkeys(p.method for p in parts if p.method)),
        converged=converged,
        reason=first.reason,
        iterations=total("iterations"),
        matvecs=total("matvecs"),
        residual=first.residual if len(parts) == 1 else None,
        residuals=first.residuals if len(parts) == 1 else None,
        tolerance=first.tolerance,
        error_estimate=total("error_estimate"),
        # a bound without assuming independence: leaves may have used the same random probes
        standard_error=sum(errors[1:], errors[0]) if errors else None,
        condition=first.condition if len(parts) == 1 else None,
        rank=first.rank if len(parts) == 1 else None,
        rule=first.rule if len(parts) == 1 else "",
        plugin=first.plugin if len(parts) == 1 else "",
        seconds=sum(p.seconds or 0.0 for p in parts),
        parts=tuple(parts) if len(parts) > 1 else parts[0].parts,
    )
    return merged.replace(**changes)


def _is_false(flag: Any) -> bool:
    """True only for a concrete False: a traced flag is neither."""
    if flag is True or flag is None:
        return False
    try:
        return not bool(flag)
    except Exception:  # noqa: BLE001 - each framework has its own tracer error
        return False


def report(info: Info, on_failure: str, question: str, operator: str) -> None:
    """Warn, raise or stay silent about a missed tolerance, with the numbers."""
    if on_failure == "ignore" or not _is_false(info.converged):
        return
    numbers = [f"reason: {info.reason}"]
    for name in ("residual", "tolerance", "standard_error", "iterations", "matvecs"):
        value = getattr(info, name)
        if value is not None:
            number = float(value)
            numbers.append(f"{name.replace('_', ' ')} {number:.3g}")
    message = (
        f"{question}({operator}) by {info.method} did not converge ({', '.join(numbers)}). "
        "Give more iterations, a looser tol, a preconditioner or another algorithm; "
        'on_failure="raise" makes this an error, "ignore" silences it.'
    )
    if on_failure == "raise":
        raise ConvergenceError(message)
    warnings.warn(message, ConvergenceWarning, stacklevel=4)
