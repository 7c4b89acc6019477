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
    # Whatever first needs this package (one of its operators, its name), all of its rules go in at once.
    from . import rules

    rules.register(registrar)
