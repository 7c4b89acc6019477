"""Names of classes in files: ``package:Class``, found among the classes that installed code has registered.

A name in a file never makes anything be imported but plugins that are installed and publish operators through
the entry points ``cola_core.operators`` or ``cola_core.plugins``; nothing in a file is called.
"""

from __future__ import annotations

from typing import Any

from ..errors import FileFormatError, PluginLoadError
from ..pytree import OPERATOR_CLASSES

__all__ = ["class_name", "find_class", "setting_classes"]


def setting_classes() -> list[type]:
    """Every algorithm class there is now: settings that an operator may carry."""
    from ..algorithms.base import Algorithm

    found: list[type] = []
    stack = [Algorithm]
    while stack:
        cls = stack.pop()
        found.append(cls)
        stack.extend(cls.__subclasses__())
    return found


def class_name(cls: type, classes: list[type]) -> str | None:
    """The name that ``find_class`` turns into ``cls``; None if it is not one of ``classes``, or is local."""
    if not any(c is cls for c in classes) or "<locals>" in cls.__qualname__:
        return None
    short = f"{_package(cls)}:{cls.__qualname__}"
    if _named(short, classes) == [cls]:
        return short
    long = f"{cls.__module__}:{cls.__qualname__}"
    return long if _named(long, classes) == [cls] else None


def find_class(name: str, kind: str, path: Any) -> type:
    """The class of a name in a file. kind: "operator" or "algorithm"."""
    package = name.partition(":")[0].partition(".")[0]
    found = _named(name, _classes(kind))
    if not found:
        _load_plugins(package)
        found = _named(name, _classes(kind))
    if not found:
        advice = (
            "it was written by another version of cola-core"
            if package == "cola_core"
            else f"install (or enable, or import) the package that provides {package}"
        )
        raise FileFormatError(f"{path}: unknown {kind} class {name!r}; {advice}.")
    if len(found) > 1:
        raise FileFormatError(f"{path}: the {kind} class {name!r} is ambiguous in this process.")
    return found[0]


def _classes(kind: str) -> list[type]:
    return OPERATOR_CLASSES if kind == "operator" else setting_classes()


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _named(name: str, classes: list[type]) -> list[type]:
    where, _, qualname = name.partition(":")
    found = [c for c in classes if c.__qualname__ == qualname and where in (_package(c), c.__module__)]
    return list(dict.fromkeys(found))


def _load_plugins(package: str) -> None:
    """Load what installed distributions publish from this top-level package."""
    from ..plugins.manager import MANAGER

    for entry in MANAGER.discover().entries:
        if entry.module.partition(".")[0] != package or entry.group not in ("plugins", "operators"):
            continue
        owner = entry.name if entry.group == "plugins" else MANAGER.owner_of(entry)
        if owner is not None:
            try:
                MANAGER.load(owner, "name", explicit=True)
            except PluginLoadError:
                continue  # switched off or broken: its classes stay unknown
        if entry.group == "operators":
            try:
                entry.load()
            except Exception:  # noqa: BLE001, S112 - a broken plugin leaves its classes unknown
                continue
