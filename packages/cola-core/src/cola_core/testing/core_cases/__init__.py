"""The core's own cases: every operator, alone and in company, and every algorithm. One file per family."""

from __future__ import annotations

from typing import Any

from ..case import Case
from .algorithms import algorithm_cases

__all__ = ["algorithm_cases", "cases", "operator_cases"]


def operator_cases() -> list[Case]:
    """All operators of the core, family by family."""
    from . import composed, functions, gridded, leaves, points, spectral

    families: tuple[Any, ...] = (leaves, composed, functions, spectral, gridded, points)
    return [case for family in families for case in family.operator_cases()]


def cases() -> list[Case]:
    """Operators, algorithms, and every rule of the core on an operator where it steps in."""
    from ..rule_checks import rule_cases

    operators = operator_cases()
    return operators + algorithm_cases() + rule_cases("core", operators)[0]
