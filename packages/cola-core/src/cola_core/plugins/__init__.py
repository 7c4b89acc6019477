"""How others join: entry points are the index, pluggy hooks carry behaviour,
a registrar commits all or nothing.

A plugin is a distribution with an entry point ``cola_core.plugins`` naming a light module that implements
``cola_plugin_info`` and ``cola_register`` (see ``hookspecs``). Nothing is imported to list plugins; a plugin
is loaded when one of its names, operators or triggers is first met, in isolation: if it breaks, the core
goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .info import PLUGIN_API, PluginInfo
from .rulebook import RuleBook

if TYPE_CHECKING:
    from .hookspecs import hookimpl, hookspec
    from .manager import MANAGER, PluginManager, PluginRecord
    from .registrar import Registrar

__all__ = [
    "MANAGER",
    "PLUGIN_API",
    "PluginInfo",
    "PluginManager",
    "PluginRecord",
    "Registrar",
    "RuleBook",
    "hookimpl",
    "hookspec",
]

_LAZY = {
    "MANAGER": "manager",
    "PluginManager": "manager",
    "PluginRecord": "manager",
    "Registrar": "registrar",
    "hookimpl": "hookspecs",
    "hookspec": "hookspecs",
}


def __getattr__(name: str) -> Any:
    # pluggy and importlib_metadata load at first use, not with `import cola_core`
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
