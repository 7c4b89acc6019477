"""How the core finds this package: facts and registration hooks. Importing this module imports no
torch, no jax and no part of SciPy."""

from __future__ import annotations

from typing import Any

from cola_core.plugins import PLUGIN_API, PluginInfo, hookimpl

from . import __version__


@hookimpl
def cola_plugin_info() -> PluginInfo:
    return PluginInfo(
        name="emlp",
        api=PLUGIN_API,
        summary="groups, representations and equivariant bases",
        version=__version__,
    )


@hookimpl
def cola_register(registrar: Any, trigger: str) -> None:
    if trigger == "always":
        from . import rules

        rules.register(registrar)
