"""``PluginManager``: loads plugins when they are first needed, each in isolation, and remembers what became of them.

States: discovered -> disabled | incompatible | loading -> active | broken. A plugin met by chance that fails costs one
``PluginLoadWarning`` and the core goes on; one asked for by name raises ``PluginLoadError``. ``COLA_STRICT_PLUGINS=1``
raises always. Nothing is retried before ``refresh()``.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..dispatch.registry import REGISTRY
from ..errors import PluginLoadError, PluginLoadWarning, UnknownNameError
from ..pytree import OPERATOR_CLASSES
from .discovery import EntryRecord, Index, Switches
from .info import PLUGIN_API, PluginInfo
from .registrar import Registrar

__all__ = ["MANAGER", "PluginManager", "PluginRecord"]


@dataclass
class PluginRecord:
    """One plugin: where it comes from and what became of it."""

    name: str
    entry: EntryRecord
    state: str = "discovered"
    reason: str = ""
    info: PluginInfo | None = None
    error: BaseException | None = None

    @property
    def distribution(self) -> str:
        return f"{self.entry.distribution} {self.entry.version}".strip()


class PluginManager:
    """See the module docstring. ``MANAGER`` is the one instance."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._reset()

    def _reset(self) -> None:
        self.index: Index | None = None
        self.records: dict[str, PluginRecord] = {}
        self.switches = Switches()
        self._seen: set[Any] = set()
        self._classes = 0
        self._owners: dict[str, str] = {}
        self._triggers: dict[str, list[EntryRecord]] = {}
        self._pluggy: Any = None

    # -- discovery ----------------------------------------------------------------------------------------------
    def discover(self) -> Index:
        """Read the index once; core joins it even when running from a source tree."""
        with self._lock:
            if self.index is not None:
                return self.index
            self.switches = Switches.read()
            index = Index.read()
            core = EntryRecord("plugins", "core", "cola_core.plugins.core_plugin", "cola-core", _core_version())
            index.entries = [core] + [e for e in index.entries if not (e.group == "plugins" and e.name == "core")]
            for entry in index.group("plugins"):
                if entry.name in self.records:
                    other = self.records[entry.name].entry
                    if other.value != entry.value:
                        # neither may win by load order: both are out until one is renamed or uninstalled
                        self._fail(
                            self.records[entry.name],
                            PluginLoadError(
                                f"two distributions provide a plugin called {entry.name!r}: {other.distribution} "
                                f"({other.value}) and {entry.distribution} ({entry.value}). Uninstall one, or "
                                f"disable both with COLA_DISABLE_PLUGINS={entry.name}."
                            ),
                            "broken",
                        )
                    continue
                record = PluginRecord(entry.name, entry)
                refused = self.switches.refuses(entry.name)
                if refused:
                    record.state, record.reason = "disabled", refused
                self.records[entry.name] = record
                for e in index.entries:
                    if e.distribution == entry.distribution and entry.name != "core":
                        self._owners.setdefault(e.module.partition(".")[0], entry.name)
            for entry in index.group("rules"):
                self._triggers.setdefault(entry.name, []).append(entry)
            unknown = (self.switches.disabled | (self.switches.allowed or frozenset())) - set(self.records) - {"*"}
            if unknown:
                warnings.warn(
                    f"COLA_PLUGINS/COLA_DISABLE_PLUGINS name unknown plugins: {', '.join(sorted(unknown))}; known are "
                    f"{', '.join(sorted(self.records))}.",
                    PluginLoadWarning,
                    stacklevel=2,
                )
            self.index = index
            return index

    # -- triggers -----------------------------------------------------------------------------------------------
    def ensure(self, A: Any) -> None:
        """Load what an operand on this backend needs. Two lookups after the first time.

        A plugin's operators may sit deep inside a composition, so every class defined since the last question counts,
        not only the operand's own: answers must not depend on what was asked before.
        """
        backend = A.backend
        key = None if backend is None else backend.name
        if key in self._seen and self._classes == len(OPERATOR_CLASSES):
            return
        with self._lock:
            self.discover()
            self.load("core", "always", explicit=True)
            self.trigger("always")
            while self._classes < len(OPERATOR_CLASSES):  # loading a plugin may define more
                cls = OPERATOR_CLASSES[self._classes]
                self._classes += 1
                owner = self._owners.get(cls.__module__.partition(".")[0])
                if owner is not None:
                    self.load(owner, "operator")
            if backend is not None:
                self.trigger(f"backend.{backend.name}")
                device = getattr(A.device, "type", None) or getattr(A.device, "platform", None)
                if device:
                    self.trigger(f"device.{'cuda' if device == 'gpu' else device}")
            self._seen.add(key)

    def trigger(self, name: str) -> None:
        """Load the rules every plugin keeps for this trigger, each plugin in its own transaction."""
        if ("trigger", name) in self._seen:
            return
        self._seen.add(("trigger", name))
        for entry in self._triggers.get(name, ()):
            for plugin in self.discover().plugin_of(entry.distribution):
                record = self.load(plugin.name, name)
                if record is None or record.state != "active":
                    continue
                try:
                    target = entry.load()
                    register = target if callable(target) else target.register
                    registrar = Registrar(record.name, record.entry.version)
                    register(registrar)
                    registrar.commit()
                except Exception as error:  # noqa: BLE001 - isolation: a plugin may fail in any way
                    self._fail(record, error, "broken")
                    self._announce(record, explicit=False)

    # -- loading ------------------------------------------------------------------------------------------------
    def load(self, name: str, trigger: str, explicit: bool = False) -> PluginRecord | None:
        """Bring a plugin to its final state. explicit: raise instead of warning if that is not "active"."""
        with self._lock:
            self.discover()
            record = self.records.get(name)
            if record is None:
                if explicit:
                    raise UnknownNameError(f"no plugin {name!r}; installed are {', '.join(sorted(self.records))}.")
                return None
            if record.state == "discovered":
                record.state = "loading"
                self._activate(record, trigger)
                if record.state != "active" and not explicit:
                    self._announce(record, explicit=False)
            if explicit and record.state in ("broken", "incompatible", "disabled"):
                raise PluginLoadError(self._message(record)) from record.error
            return record

    def _activate(self, record: PluginRecord, trigger: str) -> None:
        try:
            module = record.entry.load()
            manager = self._hooks()
            manager.register(module, name=record.name)
            info = self._call(record.name, "cola_plugin_info")
            if not isinstance(info, PluginInfo):
                raise PluginLoadError(f"cola_plugin_info() returned {type(info).__name__}, not a PluginInfo")
            record.info = info
            if info.api != PLUGIN_API:
                record.state = "incompatible"
                record.reason = (
                    f"it was written for plugin API {info.api}, this core speaks {PLUGIN_API}; "
                    f"{'upgrade cola-core' if info.api > PLUGIN_API else f'upgrade {record.entry.distribution}'}"
                )
                manager.unregister(name=record.name)
                return
            registrar = Registrar(record.name, record.entry.version or info.version)
            self._call(record.name, "cola_register", registrar=registrar, trigger=trigger)
            registrar.commit()
            record.state = "active"
        except Exception as error:  # noqa: BLE001 - isolation: a plugin may fail in any way
            self._fail(record, error, "broken")

    def _fail(self, record: PluginRecord, error: BaseException, state: str) -> None:
        record.state, record.error = state, error
        record.reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if self._pluggy is not None and self._pluggy.has_plugin(record.name):
            self._pluggy.unregister(name=record.name)

    def _announce(self, record: PluginRecord, explicit: bool) -> None:
        if record.state not in ("broken", "incompatible"):
            return
        if self.switches.strict:
            raise PluginLoadError(self._message(record)) from record.error
        warnings.warn(self._message(record), PluginLoadWarning, stacklevel=2)

    def _message(self, record: PluginRecord) -> str:
        if record.state == "disabled":
            return f"plugin {record.name} ({record.distribution}) is {record.reason}."
        return (
            f"plugin {record.name} ({record.distribution}) was skipped: {record.reason} (set "
            f"COLA_DISABLE_PLUGINS={record.name} to silence, `cola-core plugins errors` for details)"
        )

    # -- hooks --------------------------------------------------------------------------------------------------
    def _hooks(self) -> Any:
        if self._pluggy is None:
            import pluggy

            from . import hookspecs

            self._pluggy = pluggy.PluginManager("cola_core")
            self._pluggy.add_hookspecs(hookspecs)
        return self._pluggy

    def _call(self, plugin: str, hook: str, **kwargs: Any) -> Any:
        """Call one plugin's implementation of a hook (None if it has none)."""
        for impl in getattr(self._hooks().hook, hook).get_hookimpls():
            if impl.plugin_name == plugin:
                return impl.function(**{k: kwargs[k] for k in impl.argnames})
        return None

    def advice(self, question: Any, args: tuple[Any, ...], candidates: tuple[Any, ...]) -> Any:
        """The first active plugin's recommendation among the candidates, in name order; failures only warn."""
        for name in sorted(self.records):
            if self.records[name].state != "active":
                continue
            try:
                found = self._call(name, "cola_choose", question=question, args=args, candidates=candidates)
            except Exception as error:  # noqa: BLE001 - isolation
                warnings.warn(
                    f"plugin {name}: cola_choose raised {type(error).__name__}: {error}; its advice is ignored.",
                    PluginLoadWarning,
                    stacklevel=2,
                )
                continue
            if found is not None and any(found is c for c in candidates):
                return found
        return None

    # -- names --------------------------------------------------------------------------------------------------
    def algorithm(self, question: str, name: str) -> type:
        """The algorithm class called ``name`` (or ``distribution:name``) for a question, loading its plugin."""
        self.load("core", "always", explicit=True)
        entry = REGISTRY.algorithm(question, name)
        if entry is not None:
            return entry.cls
        return self._named("algorithms", f"{question}.", name, f"algorithm for {question}")

    def operator(self, name: str) -> type:
        """The operator class a plugin publishes as ``name``."""
        return self._named("operators", "", name, "operator")

    def _named(self, group: str, prefix: str, name: str, what: str) -> Any:
        wanted, _, short = name.rpartition(":")
        found = [
            e
            for e in self.discover().group(group)
            if e.name == prefix + short and (not wanted or e.distribution == wanted)
        ]
        if len({e.value for e in found}) > 1:
            choices = ", ".join(f"{e.distribution}:{short}" for e in found)
            raise UnknownNameError(f"{what} {short!r} is provided by several distributions; say which: {choices}.")
        if not found:
            known = sorted(e.name.removeprefix(prefix) for e in self.discover().group(group) if e.name.startswith(prefix))
            if group == "algorithms":
                known = sorted({*known, *(e.name for e in REGISTRY.algorithms.get(prefix[:-1], ()))})
            raise UnknownNameError(f"no {what} called {name!r}; known are {', '.join(known) or 'none'}.")
        entry = found[0]
        for plugin in self.discover().plugin_of(entry.distribution):
            self.load(plugin.name, "name", explicit=True)
        try:
            return entry.load()
        except Exception as error:
            raise PluginLoadError(
                f"{what} {name!r} of {entry.distribution} {entry.version} cannot be loaded: "
                f"{type(error).__name__}: {error}"
            ) from error

    # -- control ------------------------------------------------------------------------------------------------
    def refresh(self) -> None:
        """Forget everything and read the index again at the next use (after installing, in notebooks)."""
        with self._lock:
            self._reset()
            REGISTRY.restore()

    @contextmanager
    def only(self, *names: str, disable: tuple[str, ...] = ()) -> Iterator[None]:
        """Within the block only these plugins (and core) exist, or all but ``disable``; for tests. Not thread-safe."""
        import os

        saved = (self.__dict__.copy(), REGISTRY.state())
        environment = {k: os.environ.get(k) for k in ("COLA_PLUGINS", "COLA_DISABLE_PLUGINS")}
        try:
            if disable:
                os.environ["COLA_DISABLE_PLUGINS"] = ",".join(disable)
            else:
                os.environ["COLA_PLUGINS"] = ",".join(names or ("core",))
            self.refresh()
            yield
        finally:
            for k, v in environment.items():
                os.environ.pop(k, None) if v is None else os.environ.__setitem__(k, v)
            self.__dict__.update(saved[0])
            REGISTRY.restore(saved[1])


def _core_version() -> str:
    from .. import __version__

    return __version__


MANAGER = PluginManager()
