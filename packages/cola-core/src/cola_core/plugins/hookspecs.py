"""The hooks a plugin may implement. They are called one plugin at a time, never broadcast: one raising
implementation would abort the call for everybody."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from .info import PluginInfo

__all__ = ["hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("cola_core")
hookimpl = pluggy.HookimplMarker("cola_core")


@hookspec
def cola_plugin_info() -> PluginInfo:  # type: ignore[empty-body]
    """Name, plugin API version and a one-line summary. Called before anything else."""


@hookspec
def cola_register(registrar: Any, trigger: str) -> None:
    """Register rules and algorithms. ``trigger`` says why now:
    "always", "operator", "name", "backend.torch", ..."""


@hookspec
def cola_choose(question: Any, args: Any, candidates: Any) -> Any:
    """Advise which algorithm to take: one of ``candidates`` (``dispatch.Candidate``, cheapest first) or None.

    Asked only under ``Auto(advice=True)``, plugin by plugin in the order of their names; the first answer
    counts. One that raises, or answers with something else, is ignored with a warning.
    """


@hookspec
def cola_conformance_cases() -> Iterable[Any]:  # type: ignore[empty-body]
    """The plugin's cases for ``cola_core.testing`` (operators, algorithms, domain modules)."""
