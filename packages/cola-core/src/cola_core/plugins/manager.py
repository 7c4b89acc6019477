"""``PluginManager``: loads plugins when they are first needed, each in isolation,
and remembers what became of them.

States: discovered -> disabled | incompatible | loading -> active | broken. A plugin met by chance that fails
costs one ``PluginLoadWarning`` and the core goes on; one asked for by name raises ``PluginLoadError``.
``COLA_STRICT_PLUGINS=1`` raises always. Nothing is retried before ``refresh()``. What a plugin depends on is
decided by names, never by who came first: two that contradict each other are both out, whichever was loaded
first.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..dispatch.placement import device_kind
from ..dispatch.registry import REGISTRY
from ..errors import PluginLoadError, PluginLoadWarning, RegistrationError, UnknownNameError
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
    announced: bool = False

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

    # -- discovery -------------------------------------------------------------------------------------------
    def discover(self) -> Index:
        """Read the index once; core joins it even when running from a source tree."""
        with self._lock:
            if self.index is not None:
                return self.index
            self.switches = Switches.read()
            index = Index.read()
            core = EntryRecord(
                "plugins", "core", "cola_core.plugins.core_plugin", "cola-core", _core_version()
            )
            index.entries = [core] + [
                e for e in index.entries if not (e.group == "plugins" and e.name == "core")
            ]
            for entry in index.group("plugins"):
                self._record(entry)
            for entry in index.entries:
                owner = self.owner_of(entry, index)
                if owner is not None and owner != "core":
                    self._owners.setdefault(entry.module.partition(".")[0], owner)
            for entry in index.group("rules"):
                self._triggers.setdefault(entry.name, []).append(entry)
            unknown = (
                (self.switches.disabled | (self.switches.allowed or frozenset())) - set(self.records) - {"*"}
            )
            if unknown:
                warnings.warn(
                    "COLA_PLUGINS/COLA_DISABLE_PLUGINS name unknown plugins: "
                    f"{', '.join(sorted(unknown))}; known are {', '.join(sorted(self.records))}.",
                    PluginLoadWarning,
                    stacklevel=2,
                )
            self.index = index
            return index

    def _record(self, entry: EntryRecord) -> None:
        """A plugin's record; two distributions with a plugin of one name are both
        out until one of them goes."""
        record = self.records.get(entry.name)
        if record is None:
            record = self.records[entry.name] = PluginRecord(entry.name, entry)
            refused = self.switches.refuses(entry.name)
            if refused:
                record.state, record.reason = "disabled", refused
        elif record.state != "disabled" and record.entry.value != entry.value:
            other = record.entry
            self._fail(
                record,
                PluginLoadError(
                    f"two distributions provide a plugin called {entry.name!r}: {other.distribution} "
                    f"({other.value}) and {entry.distribution} ({entry.value}). Uninstall one"
                ),
            )

    def owner_of(self, entry: EntryRecord, index: Index | None = None) -> str | None:
        """The plugin an entry point belongs to:
        its distribution's, or the one of the same package if it has several."""
        plugins = (index or self.discover()).plugin_of(entry.distribution)
        top = entry.module.partition(".")[0]
        same = [p for p in plugins if p.module.partition(".")[0] == top]
        found = same or plugins
        return found[0].name if found else None

    # -- triggers --------------------------------------------------------------------------------------------
    def ensure(self, A: Any) -> None:
        """Load what an operand on this backend needs. Two lookups after the first time.

        A plugin's operators may sit deep inside a composition, so every class defined since the last
        question counts, not only the operand's own: answers must not depend on what was asked before.
        """
        backend = A.backend
        key: Any = None if backend is None else backend.name
        if key is not None and key != "numpy":
            device = A.device
            kind = getattr(device, "type", None) or getattr(device, "platform", None)
            # tracers and spread arrays of JAX have no one device
            key = key, kind or (device_kind(A) if key == "jax" else None)
        if key in self._seen and self._classes == len(OPERATOR_CLASSES):
            return
        with self._lock:
            self.discover()
            self.load("core", "always", explicit=True)
            self.trigger("always")
            while self._classes < len(OPERATOR_CLASSES):  # loading a plugin may define more
                at = self._classes
                owner = self._owners.get(OPERATOR_CLASSES[at].__module__.partition(".")[0])
                if owner is not None:
                    self.load(owner, "operator")
                # after a failure in strict mode the class is met again
                self._classes = max(self._classes, at + 1)
            if isinstance(key, tuple):
                self.trigger(f"backend.{key[0]}")
                if key[1]:
                    self.trigger(f"device.{'cuda' if key[1] == 'gpu' else key[1]}")
            elif key is not None:
                self.trigger(f"backend.{key}")
            self._seen.add(key)

    def ensure_class(self, cls: type) -> None:
        """Load the plugin that a class (an explicit algorithm's) comes from, so that it is known as its."""
        self.discover()
        owner = self._owners.get(cls.__module__.partition(".")[0])
        if owner is not None:
            self.load(owner, "name")

    def trigger(self, name: str) -> None:
        """Load the rules every plugin keeps for this trigger, each plugin in its own transaction."""
        with self._lock:
            self.discover()
            for entry in self._triggers.get(name, ()):
                owner = self.owner_of(entry)
                if owner is None or ("trigger", name, entry) in self._seen:
                    continue
                record = self.load(owner, name)
                if record is not None and record.state == "active":
                    try:
                        target = entry.load()
                        registrar = Registrar(record.name, record.entry.version)
                        (target if callable(target) else target.register)(registrar)
                        self._commit(registrar)
                    except Exception as error:  # noqa: BLE001 - isolation: a plugin may fail in any way
                        self._fail(record, error)
                        self._announce(record)
                self._seen.add(("trigger", name, entry))

    def load(self, name: str, trigger: str, explicit: bool = False) -> PluginRecord | None:
        """Bring a plugin to its final state. explicit: raise instead of warning if that is not "active"."""
        with self._lock:
            self.discover()
            record = self.records.get(name)
            if record is None:
                if explicit:
                    raise UnknownNameError(
                        f"no plugin {name!r}; installed are {', '.join(sorted(self.records))}."
                    )
                return None
            if record.state == "discovered":
                record.state = "loading"
                self._activate(record, trigger)
            if explicit and record.state in ("broken", "incompatible", "disabled"):
                record.announced = True
                raise PluginLoadError(self._message(record)) from record.error
            self._announce(record)
            return record

    def _activate(self, record: PluginRecord, trigger: str) -> None:
        try:
            module = record.entry.load()
            self._hooks().register(module, name=record.name)
            info = self._call(record.name, "cola_plugin_info")
            self._check_info(record, info)
            if record.state == "incompatible":
                self._hooks().unregister(name=record.name)
                return
            registrar = Registrar(record.name, record.entry.version or info.version)
            self._call(record.name, "cola_register", registrar=registrar, trigger=trigger)
            self._commit(registrar)
            # a plugin loaded on the way may have turned out to contradict this one
            if record.state == "loading":
                record.state = "active"
        except Exception as error:  # noqa: BLE001 - isolation: a plugin may fail in any way
            self._fail(record, error)

    def _check_info(self, record: PluginRecord, info: Any) -> None:
        if not isinstance(info, PluginInfo):
            what = (
                "nothing (is there a @hookimpl def cola_plugin_info?)"
                if info is None
                else type(info).__name__
            )
            raise PluginLoadError(f"cola_plugin_info() returned {what}, not a PluginInfo")
        record.info = info
        if info.name != record.name:
            raise PluginLoadError(
                f"it calls itself {info.name!r}, its entry point {record.name!r}; they must agree"
            )
        if info.api != PLUGIN_API:
            newer = isinstance(info.api, int) and info.api > PLUGIN_API
            record.state = "incompatible"
            record.reason = (
                f"it was written for plugin API {info.api}, this core speaks {PLUGIN_API}; "
                f"upgrade {'cola-core' if newer else record.entry.distribution}"
            )
            record.error = RegistrationError(record.reason)

    def _commit(self, registrar: Registrar) -> None:
        """Commit; where another plugin contradicts this one, that one goes too, as if it had come second."""
        for needed in registrar.depends_on():
            self.load(needed, "name")
        try:
            registrar.commit()
        except RegistrationError as error:
            rival = self.records.get(error.rival)
            if rival is not None and rival.state == "active":
                REGISTRY.withdraw(rival.name)
                self._fail(rival, RegistrationError(str(error), rival=registrar.plugin))
                self._announce(rival)
            raise

    def _fail(self, record: PluginRecord, error: BaseException) -> None:
        record.state, record.error = "broken", error
        text = " ".join(f"{type(error).__name__}: {error}".split())  # one line
        record.reason = text if len(text) < 1000 else text[:997] + "..."
        if self._pluggy is not None and self._pluggy.has_plugin(record.name):
            self._pluggy.unregister(name=record.name)

    def _announce(self, record: PluginRecord) -> None:
        """Say once that a plugin met by chance was skipped;
        under COLA_STRICT_PLUGINS that is an error every time."""
        if record.state not in ("broken", "incompatible"):
            return
        if self.switches.strict:
            raise PluginLoadError(self._message(record)) from record.error
        if not record.announced:
            record.announced = True
            warnings.warn(self._message(record), PluginLoadWarning, stacklevel=2)

    def _message(self, record: PluginRecord) -> str:
        if record.state == "disabled":
            return f"plugin {record.name} ({record.distribution}) is {record.reason}."
        return (
            f"plugin {record.name} ({record.distribution}) was skipped: {record.reason} (set "
            f"COLA_DISABLE_PLUGINS={record.name} to silence, `cola-core plugins errors` for details)"
        )

    # -- hooks -----------------------------------------------------------------------------------------------
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
        """The recommendation of the first active plugin, in name order, that has one; failures only warn."""
        for name in sorted(self.records):
            if self.records[name].state != "active":
                continue
            try:
                found = self._call(name, "cola_choose", question=question, args=args, candidates=candidates)
                if found is not None and not any(found is c for c in candidates):
                    raise TypeError(f"it returned {found!r}, which is none of the candidates")
            except Exception as error:  # noqa: BLE001 - isolation
                warnings.warn(
                    f"plugin {name}: cola_choose failed ({type(error).__name__}: {error}); its advice "
                    f"is ignored.",
                    PluginLoadWarning,
                    stacklevel=2,
                )
                continue
            if found is not None:
                return found
        return None

    # -- names -----------------------------------------------------------------------------------------------
    def algorithm(self, question: str, name: str) -> type:
        """The algorithm class called ``name`` (or ``distribution:name``) for a question,
        loading its plugin. Hyphens, underscores and capitals of the core's names are free: ``block-cg``."""
        from ..algorithms.base import Algorithm

        self.load("core", "always", explicit=True)
        published = self._published("algorithms", f"{question}.", name)
        entry = REGISTRY.algorithm(question, name) or REGISTRY.algorithm(question, _plain(name))
        if entry is not None and (entry.provenance.plugin == "core" or not published):
            return entry.cls
        return self._named(
            published, "algorithms", f"{question}.", name, f"algorithm for {question}", Algorithm
        )

    def operator(self, name: str) -> type:
        """The operator class a plugin publishes as ``name``."""
        from ..operators import LinearOperator

        return self._named(
            self._published("operators", "", name), "operators", "", name, "operator", LinearOperator
        )

    def _published(self, group: str, prefix: str, name: str) -> list[EntryRecord]:
        """The entry points of this name;
        those of plugins that are switched off only if there are no others."""
        wanted, _, short = name.rpartition(":")
        entries = self.discover().group(group)
        found = [e for e in entries if e.name == prefix + short and wanted in ("", e.distribution)]

        def on(e: EntryRecord) -> bool:
            owner = self.owner_of(e)
            return owner is None or self.records[owner].state != "disabled"

        return [e for e in found if on(e)] or found

    def _named(
        self, found: list[EntryRecord], group: str, prefix: str, name: str, what: str, base: type
    ) -> Any:
        short = name.rpartition(":")[2]
        if len({e.value for e in found}) > 1:
            choices = ", ".join(f"{e.distribution}:{short}" for e in found)
            raise UnknownNameError(
                f"{what} {short!r} is provided by several distributions; say which: {choices}."
            )
        if not found:
            entries = self.discover().group(group)
            known = sorted(e.name.removeprefix(prefix) for e in entries if e.name.startswith(prefix))
            if group == "algorithms":
                known = sorted({*known, *(e.name for e in REGISTRY.algorithms.get(prefix[:-1], ()))})
            raise UnknownNameError(f"no {what} called {name!r}; known are {', '.join(known) or 'none'}.")
        entry = found[0]
        owner = self.owner_of(entry)
        if owner is not None:
            self.load(owner, "name", explicit=True)
        where = f"{what} {name!r} of {entry.distribution} {entry.version} ({entry.value})"
        try:
            cls = entry.load()
        except Exception as error:
            raise PluginLoadError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise PluginLoadError(f"{where} is not a subclass of {base.__name__} but {cls!r}.")
        return cls

    # -- control ---------------------------------------------------------------------------------------------
    def refresh(self) -> None:
        """Forget everything and read the index again at the next use (after installing, in notebooks)."""
        with self._lock:
            self._reset()
            REGISTRY.restore()

    @contextmanager
    def only(self, *names: str, disable: tuple[str, ...] = ()) -> Iterator[None]:
        """Within the block only these plugins (and core) exist, or all but ``disable``;
        for tests. Not thread-safe."""
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


def _plain(name: str) -> str:
    """A name of an algorithm as the registry writes it."""
    return name.lower().replace("-", "").replace("_", "")
