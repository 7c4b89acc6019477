"""Rules that are wrong in exactly one way; they are never registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ... import ops
from ...algorithms import Algorithm
from ...cost import Cost
from ...dispatch import Provenance, Rule
from .. import data
from ..case import Case
from .common import Mutant
from .derivatives import stopped

__all__ = ["RULES"]


def trace_diagonal(A: Any, *, alg: Any) -> Any:
    """A correct rule."""
    return A.xp.sum(A.diag, axis=-1)


def double_trace(A: Any, *, alg: Any) -> Any:
    """Twice the trace."""
    return 2 * A.xp.sum(A.diag, axis=-1)


def by_value(A: Any, *, alg: Any) -> bool:
    """A guard that reads an entry."""
    return float(A.xp.real(A.diag[0])) == float(A.xp.real(A.diag[0]))


def detached_trace(A: Any, *, alg: Any) -> Any:
    """The trace, as a constant."""
    return A.xp.sum(stopped(A._concrete_backend().name, A.diag), axis=-1)


def logdet_first(A: Any, *, alg: Any) -> Any:
    """The logarithm of the determinant with a first derivative and none after that."""
    xp, d = A.xp, A.diag
    fixed = stopped(A._concrete_backend().name, d)
    sign = xp.prod(fixed / xp.abs(fixed), axis=-1)
    return sign, xp.sum(xp.log(xp.abs(fixed)) + xp.real((d - fixed) / fixed), axis=-1)


GOOD = Rule(
    id="mutant:trace/diagonal",
    question="trace",
    types=(ops.Diagonal, Algorithm),
    fn=trace_diagonal,
    provenance=Provenance.of(trace_diagonal, "mutant", "0"),
    source="definition",
    precedence=1,
)

CHANGES: dict[str, dict[str, Any]] = {
    "rule.signature": {"types": (ops.Diagonal | ops.Dense, Algorithm)},
    "rule.identity": {"source": ""},
    "rule.guard": {"when": by_value},
    "rule.answer": {"fn": double_trace},
    "rule.grad": {"fn": detached_trace},
    "rule.grad-second": {"fn": logdet_first, "question": "slogdet", "id": "mutant:slogdet/diagonal"},
    "rule.cost": {"cost": lambda A, *, alg: Cost(flops=float("nan"))},
    "rule.unambiguous": {"precedence": 0, "question": "slogdet", "id": "mutant:slogdet/diagonal"},
}


def _mutant(changes: dict[str, Any], folder: Path) -> Mutant:
    return Mutant(
        Case(
            "mutant",
            kind="rule",
            rule=GOOD.id,
            subject=replace(GOOD, **changes),
            factory=lambda backend, dtype, seed: ops.Diagonal(
                backend.asarray(data.normal(seed, (5,), dtype))
            ),
            reference=lambda dtype, seed: _diagonal(data.normal(seed, (5,), dtype)),
        )
    )


def _diagonal(d: Any) -> Any:
    import numpy as np

    return np.diag(d)


RULES: dict[str, Callable[[Path], Mutant]] = {
    check: partial(_mutant, changes) for check, changes in CHANGES.items()
}
