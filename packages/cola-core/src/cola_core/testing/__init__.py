"""The conformance kit: what it means to be an operator, an algorithm, a rule, a plugin of cola-core.

A ``Case`` names a factory, an independent dense reference and typed ``Capabilities``; pure checks verify it.
Three front ends: ``check_case`` and ``check_plugin`` return results, ``parametrize_with_checks`` makes
pytest tests (the only part that needs pytest), ``cola-core check-plugin NAME`` is for the command line. See
docs/conformance.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .capabilities import OPEN, Capabilities, Capability, Selection, closed, only
from .case import Case
from .errors import ConformanceError

if TYPE_CHECKING:
    from . import data
    from .plugin_checks import check_plugin
    from .pytest_front import parametrize_with_checks
    from .registry import Check, all_checks
    from .run import CheckResult, Job, check_case, jobs

__all__ = [
    "OPEN",
    "Capabilities",
    "Capability",
    "Case",
    "Check",
    "CheckResult",
    "ConformanceError",
    "Job",
    "Selection",
    "all_checks",
    "check_case",
    "check_plugin",
    "closed",
    "data",
    "jobs",
    "only",
    "parametrize_with_checks",
]

_LAZY = {
    "Check": "registry",
    "CheckResult": "run",
    "Job": "run",
    "all_checks": "registry",
    "check_case": "run",
    "check_plugin": "plugin_checks",
    "jobs": "run",
    "parametrize_with_checks": "pytest_front",
}


def __getattr__(name: str) -> Any:
    # the checks load when they are first used: a plugin's conformance.py needs only Case and Capabilities
    from importlib import import_module

    if name == "data":
        return import_module(".data", __name__)
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
