"""How the core finds this package: facts and registration hooks, importing no numerical code."""

from __future__ import annotations

from typing import Any

from cola_core.plugins import PLUGIN_API, PluginInfo, hookimpl

from . import __version__


@hookimpl
def cola_plugin_info() -> PluginInfo:
    return PluginInfo(
        name="pde",
        api=PLUGIN_API,
        summary="grids, discretised differential operators and PDE solvers",
        version=__version__,
    )


@hookimpl
def cola_register(registrar: Any, trigger: str) -> None:
    from . import rules

    rules.register(registrar)
