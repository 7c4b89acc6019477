"""The core's own cases: every operator, alone and in company, and every algorithm. One file per family."""

from __future__ import annotations

from importlib import import_module

from ..case import Case
from .algorithms import algorithm_cases

__all__ = ["algorithm_cases", "cases", "operator_cases"]


FAMILIES = (
    "leaves",
    "composed",
    "functions",
    "spectral",
    "gridded",
    "points",
    "factors",
    "transforms",
    "matrix_functions",
)


def operator_cases() -> list[Case]:
    """All operators of the core, family by family."""
    families = (import_module(f"{__name__}.{family}") for family in FAMILIES)
    return [case for family in families for case in family.operator_cases()]


def cases() -> list[Case]:
    """Operators, algorithms, and every rule of the core on an operator where it steps in."""
    from ..rule_checks import rule_cases

    operators = operator_cases()
    return operators + algorithm_cases() + rule_cases("core", operators)[0]
