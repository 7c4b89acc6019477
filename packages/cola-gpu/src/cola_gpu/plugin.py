"""What the core reads first: who we are, and where our registrations are. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from cola_core.plugins import PLUGIN_API, PluginInfo, hookimpl

__all__ = ["cola_plugin_info", "cola_register"]


@hookimpl
def cola_plugin_info() -> PluginInfo:
    """Name, API version and purpose of this plugin."""
    return PluginInfo(
        name="gpu",
        api=PLUGIN_API,
        summary="device-resident and mixed-precision solvers, fused kernels, LAPACK, many devices",
        version="0.1.0",
    )


@hookimpl
def cola_register(registrar: Any, trigger: str) -> None:
    """Register the algorithms."""
    from .rules import register

    register(registrar)
