"""``Info``: what an iterative, stochastic or direct answer knows about its own error.

Contract: ``residual`` is recomputed from the operator at exit, never the recurrence's own; ``converged``
compares it with ``tolerance``; ``reason`` says in words why the iteration stopped. Fields that do not apply
are None. Under ``jax.jit`` the numeric fields are traced arrays and nothing is warned; outside again they are
numbers, and ``reason`` reads as it would have without.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .backends import backend_of_type
from .errors import ConvergenceError, ConvergenceWarning
from .pytree import node, static
from .reasons import CONVERGED, REASONS, RUNNING, TRACED

__all__ = ["Info", "combine", "failed", "report", "worst_code"]


NUMBERS = (
    *("converged", "iterations", "matvecs", "residual", "tolerance", "error_estimate"),
    *("condition", "norm", "normal_residual"),
)


@node
@dataclass(frozen=True)
class Info:
    """How an answer was reached and how far it can be trusted.

    residual: relative residual norm ``|b - A x| / |b|`` (worst column), recomputed at exit. residuals: the
    same per column; codes: per column why it ended, numbers that ``reasons`` has words for;
    column_iterations: steps per column, where they are counted. tolerance: what the residual was to meet.

    error_estimate: of the answer. Of a linear system, direct or iterative: relative, ``|x - x*| / |x*|`` of
    the worst column, from the condition number and the backward error, with rounding; None with a
    preconditioner where only the condition number with it is known. Of traces, determinants and other
    numbers: absolute, in the norm the algorithm names, without the part that rounding adds.
    standard_error: one standard deviation of a stochastic answer, including the deterministic part
    (truncation) where it is estimated.

    norm, condition: estimates for the operator. Those of an iterative solver are lower bounds, of what the
    right-hand side and the steps have seen of A, or of A with the preconditioner (BlockCG, BiCGStab, IDR: of
    A always); the error estimate has a factor of three for that.

    parts: Infos of the leaves of a composed answer. rank: the numerical rank a least-squares answer rests on.
    gathered: bytes of an operator spread over devices that each of them was given a copy of, for a dense
    factorisation (``dispatch.gathering``).
    jitter: the multiple of the identity that was added (only on request). normal_residual: of a
    least-squares answer, ``|A^H r| / (|A| |r|)`` with ``r = b - A x``, recomputed at exit.
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
    codes: Any = None
    column_iterations: Any = None
    condition: Any = None
    norm: Any = None
    normal_residual: Any = None
    rank: Any = None
    jitter: Any = None
    gathered: float | None = static(default=None)
    rule: str = static(default="")
    plugin: str = static(default="")
    seconds: float | None = static(default=None)
    parts: tuple[Info, ...] = field(default=(), repr=False)

    def replace(self, **changes: Any) -> Info:
        """A copy with some fields changed."""
        return replace(self, **changes)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why each column ended, in words; empty where there are no columns, or under a trace."""
        found = _ints(self.codes)
        return () if found is None else tuple(REASONS.get(c, "unknown") for c in found)

    @property
    def converged_columns(self) -> Any:
        """Per column whether it converged: an array of the backend, or None where there are no columns."""
        return None if self.codes is None else self.codes == CONVERGED

    def concrete(self, be: Any) -> Info:
        """Arrays of one number as Python numbers, where values can be looked at."""
        changes: dict[str, Any] = {}
        for name in NUMBERS:
            value = getattr(self, name)
            if hasattr(value, "shape"):
                value = be.number(value)
                changes[name] = bool(value) if name == "converged" else value
                if name in ("iterations", "matvecs"):
                    changes[name] = int(value)
        return self.replace(reason=self.reason, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Plain Python values, for JSON."""
        out: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "parts":
                value = [p.as_dict() for p in value]
            elif f.name in ("residuals", "codes", "column_iterations") and value is not None:
                value = [float(v) for v in _flat(value)]
            elif value is not None and hasattr(value, "shape"):
                value = value.item() if not value.shape else [float(v) for v in _flat(value)]
            out[f.name] = value
        return out


class _Reason:
    """The field ``reason``: as it was given, or where it was unknown because of a trace, from the codes."""

    def __get__(self, info: Any, owner: type | None = None) -> Any:
        if info is None:
            return self
        given = info.__dict__["reason"]
        if given != TRACED:
            return given
        codes = _ints(info.codes)
        if codes is None:
            flag = _flag(info.converged)
            return given if flag is None else "converged" if flag else "not converged"
        return REASONS.get(_worst(codes), given)

    def __set__(self, info: Any, value: str) -> None:
        info.__dict__["reason"] = value


Info.reason = _Reason()  # type: ignore[assignment]


def worst_code(info: Info) -> int:
    """The code of what is worth telling first among the columns; RUNNING where an Info has none to show."""
    codes = _ints(info.codes)
    return RUNNING if codes is None else _worst(codes)


def _worst(codes: list[int]) -> int:
    """The reason that tells most: the greatest of those that are no success."""
    failed = [c for c in codes if c != CONVERGED]
    return max(failed) if failed else CONVERGED


def _ints(codes: Any) -> list[int] | None:
    """Codes as Python numbers, None where there are none or they are traced."""
    if codes is None or not hasattr(codes, "tolist") or _hidden(codes):
        return None
    try:
        return [int(c) for c in _flat(codes)]
    except Exception:  # noqa: BLE001 - each framework has its own tracer error
        return None


def _hidden(value: Any) -> bool:
    """Whether PyTorch traces: it answers a look at a value with a symbol instead of an error."""
    be = backend_of_type(type(value))
    return be is not None and be.name == "torch" and not be.is_concrete(value)


def _flag(flag: Any) -> bool | None:
    """A concrete truth value (of several: all of them), or None."""
    if _hidden(flag):
        return None
    try:
        return all(_flat(flag)) if getattr(flag, "shape", ()) else bool(flag)
    except Exception:  # noqa: BLE001 - each framework has its own tracer error
        return None


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
    jitters = [p.jitter for p in parts if p.jitter is not None]
    ranks = [p.rank for p in parts if p.rank is not None]
    gathered = [p.gathered for p in parts if p.gathered is not None]
    tolerances = [p.tolerance for p in parts if p.tolerance is not None]
    merged = Info(
        method=" + ".join(dict.fromkeys(p.method for p in parts if p.method)),
        converged=converged,
        reason=first.__dict__["reason"],
        iterations=total("iterations"),
        matvecs=total("matvecs"),
        residual=first.residual if len(parts) == 1 else None,
        residuals=first.residuals if len(parts) == 1 else None,
        codes=first.codes if len(parts) == 1 else None,
        column_iterations=first.column_iterations if len(parts) == 1 else None,
        tolerance=first.tolerance if first.tolerance is not None or not tolerances else tolerances[0],
        error_estimate=total("error_estimate"),
        # a bound without assuming independence: leaves may have used the same random probes
        standard_error=sum(errors[1:], errors[0]) if errors else None,
        condition=first.condition if len(parts) == 1 else None,
        norm=first.norm if len(parts) == 1 else None,
        normal_residual=first.normal_residual if len(parts) == 1 else None,
        jitter=max(jitters) if len(jitters) > 1 else jitters[0] if jitters else None,
        gathered=max(gathered, default=None),
        rank=ranks[0] if len(ranks) == 1 else None,
        rule=first.rule if len(parts) == 1 else "",
        plugin=first.plugin if len(parts) == 1 else "",
        seconds=sum(p.seconds or 0.0 for p in parts),
        parts=tuple(parts) if len(parts) > 1 else parts[0].parts,
    )
    return merged.replace(**changes)


def failed(info: Info) -> bool:
    """Whether an Info is known to tell of a failure."""
    return _is_false(info.converged)


def _is_false(flag: Any) -> bool:
    """True only for a concrete False: a traced flag is neither."""
    return flag is not None and flag is not True and _flag(flag) is False


def report(info: Info, on_failure: str, question: str, operator: str, stacklevel: int = 4) -> None:
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
    warnings.warn(message, ConvergenceWarning, stacklevel=stacklevel)
