"""What the core reads first. Light on purpose:
the rules are imported when they are registered, not before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cola_core.plugins import PLUGIN_API, PluginInfo, hookimpl

from . import __version__

__all__ = ["cola_conformance_cases", "cola_plugin_info", "cola_register"]


@hookimpl
def cola_plugin_info() -> PluginInfo:
    """The entry point's name, the plugin API this was written for,
    and a line for `cola-core plugins list`."""
    return PluginInfo(
        name="circulant",
        api=PLUGIN_API,
        summary="circulant matrices by FFT, and CG with the optimal circulant preconditioner",
        version=__version__,
    )


@hookimpl
def cola_register(registrar: Any, trigger: str) -> None:
    """Stage rules and algorithms; the core validates all of them and then commits all or none."""
    from .rules import register

    register(registrar)


@hookimpl
def cola_conformance_cases() -> Iterable[Any]:
    """The cases that the conformance kit runs for this plugin."""
    from .conformance import cases

    return cases()
