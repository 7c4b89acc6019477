"""Plugin ``gp``: what the core reads when it meets this package; imports nothing heavy."""

from __future__ import annotations

from typing import Any

from cola_core.plugins import PLUGIN_API, PluginInfo, hookimpl


@hookimpl
def cola_plugin_info() -> PluginInfo:
    return PluginInfo(
        name="gp",
        api=PLUGIN_API,
        summary="Gaussian processes whose inference follows from structure",
        version="0.1.0",
    )


@hookimpl
def cola_register(registrar: Any, trigger: str) -> None:
    from . import rules

    rules.register(registrar)
