"""What a plugin says about itself before it may register anything."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PLUGIN_API", "PluginInfo"]

PLUGIN_API = 1
"""Version of the plugin contract (hooks, registrar, rule and algorithm protocol).
Changes only when that breaks."""


@dataclass(frozen=True)
class PluginInfo:
    """name: the entry point's name. api: the ``PLUGIN_API`` the plugin was written for."""

    name: str
    api: int
    summary: str = ""
    version: str = ""
    homepage: str = ""
