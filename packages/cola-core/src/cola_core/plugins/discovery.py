"""The index of plugins, read from entry points without importing anything."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any

__all__ = ["GROUPS", "EntryRecord", "Index", "Switches"]

GROUPS = ("plugins", "operators", "algorithms", "rules", "domains", "conformance", "commands")


@dataclass(frozen=True)
class EntryRecord:
    """One entry point: group (without prefix), name, value and the distribution it comes from."""

    group: str
    name: str
    value: str
    distribution: str
    version: str
    location: str = ""

    @property
    def module(self) -> str:
        return self.value.partition(":")[0].strip()

    def load(self) -> Any:
        """Import and return the object."""
        from importlib import import_module

        found: Any = import_module(self.module)
        for attribute in filter(None, self.value.partition(":")[2].strip().split(".")):
            found = getattr(found, attribute)
        return found


@dataclass
class Index:
    """All entry points of our groups, sorted by distribution, group and name;
    identical duplicates dropped."""

    entries: list[EntryRecord] = field(default_factory=list)

    @classmethod
    def read(cls) -> Index:
        """One pass over the installed distributions' entry points."""
        from importlib_metadata import entry_points

        found: dict[tuple[str, ...], EntryRecord] = {}
        for group in GROUPS:
            for ep in entry_points(group=f"cola_core.{group}"):
                dist = ep.dist
                name = re.sub(r"[-_.]+", "-", dist.name).lower() if dist is not None else "?"
                record = EntryRecord(
                    group, ep.name, ep.value, name, dist.version if dist is not None else "", _location(dist)
                )
                found.setdefault((record.distribution, group, ep.name, ep.value), record)
        return cls([found[key] for key in sorted(found)])

    def group(self, group: str) -> list[EntryRecord]:
        """Entries of one group."""
        return [e for e in self.entries if e.group == group]

    def plugin_of(self, distribution: str) -> list[EntryRecord]:
        """The plugins a distribution provides."""
        return [e for e in self.entries if e.group == "plugins" and e.distribution == distribution]


def _location(dist: Any) -> str:
    try:
        return str(dist.locate_file(""))
    except Exception:  # noqa: BLE001 - a distribution without files on disk still lists
        return ""


@dataclass(frozen=True)
class Switches:
    """Environment switches: names are comma separated; ``*`` means all."""

    disabled: frozenset[str] = frozenset()
    allowed: frozenset[str] | None = None
    strict: bool = False

    @classmethod
    def read(cls) -> Switches:
        """From COLA_DISABLE_PLUGINS, COLA_PLUGINS and COLA_STRICT_PLUGINS."""

        def names(variable: str) -> frozenset[str]:
            return frozenset(filter(None, (s.strip() for s in os.environ.get(variable, "").split(","))))

        allowed = names("COLA_PLUGINS") if os.environ.get("COLA_PLUGINS", "").strip() else None
        return cls(
            names("COLA_DISABLE_PLUGINS"),
            allowed,
            os.environ.get("COLA_STRICT_PLUGINS", "") not in ("", "0"),
        )

    def refuses(self, name: str) -> str | None:
        """Why a plugin is switched off, or None."""
        if name == "core":
            return None
        if "*" in self.disabled or name in self.disabled:
            return "disabled by COLA_DISABLE_PLUGINS"
        if self.allowed is not None and "*" not in self.allowed and name not in self.allowed:
            return "not listed in COLA_PLUGINS"
        return None
