"""Checks of plugins as installed: entry points, laziness, isolation, equivalence;
and ``check_plugin``, which runs all.

Each looks at facts gathered in fresh processes (``plugin_probe``). A case of kind "plugin" has the plugin's
name; its subject may be a folder to put on the path first (used for plugins that are not installed).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ColaError
from ..plugins.info import PLUGIN_API
from .case import Case
from .compare import expect
from .registry import check
from .run import CheckResult, check_case

__all__ = ["check_plugin", "plugin_cases"]

NAME = re.compile(r"[a-z][a-z0-9_-]*")
TRIGGER = re.compile(r"always|backend\.[a-z]+|device\.[a-z]+")


@lru_cache(maxsize=64)
def _run(mode: str, name: str, path: str) -> dict[str, Any]:
    env = {
        k: v
        for k, v in os.environ.items()
        if k not in ("COLA_PLUGINS", "COLA_DISABLE_PLUGINS", "COLA_STRICT_PLUGINS")
    }
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (path, env.get("PYTHONPATH", ""))))
    if mode == "off":
        env["COLA_DISABLE_PLUGINS"] = name
    done = subprocess.run(
        [sys.executable, "-m", "cola_core.testing.plugin_probe", mode, name],
        capture_output=True,
        text=True,
        env=env,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"crash": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    return dict(json.loads(lines[-1]))


def facts(case: Any, mode: str) -> dict[str, Any]:
    """What was seen in a fresh process; a crash there fails the check."""
    found = _run(mode, case.name, str(case.subject or ""))
    expect("crash" not in found, f"plugin {case.name}, mode {mode}: the process died: {found.get('crash')}")
    return found


@check("plugin.names", "plugin")
def check_names(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Names of the plugin and its entry points are legal:
    lower case, "question.name" for algorithms, known triggers."""
    from ..dispatch import question_of

    found = facts(case, "load")
    expect(
        bool(NAME.fullmatch(case.name)) and case.name != "core",
        f"plugin name {case.name!r}: lower case, not 'core'",
    )
    expect(
        found["info_name"] in (None, case.name),
        f"cola_plugin_info() says {found['info_name']!r}, the entry point {case.name!r}",
    )
    for group, name, value in found["entries"]:
        if group == "algorithms":
            question, _, short = name.partition(".")
            try:
                question_of(question)
            except ColaError:
                expect(False, f"algorithm entry {name!r}: {question!r} is not a question")
            expect(bool(NAME.fullmatch(short)), f"algorithm entry {name!r} is not 'question.name'")
        elif group == "rules":
            expect(
                bool(TRIGGER.fullmatch(name)),
                f"rules entry {name!r} is not always, backend.NAME or device.NAME",
            )
        else:
            expect(bool(NAME.fullmatch(name)), f"{group} entry {name!r} is not a lower-case name")
        expect(bool(re.fullmatch(r"[\w.]+(:[\w.]+)?", value)), f"{group} entry {name!r} = {value!r}")


@check("plugin.entries-resolve", "plugin")
def check_entries(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Every entry point of the distribution imports."""
    missing = facts(case, "load")["unresolved"]
    expect(not missing, f"entry points that do not resolve: {'; '.join(missing)}")


@check("plugin.lazy", "plugin")
def check_lazy(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Importing and listing by the core does not import the plugin."""
    found = facts(case, "load")["imported_with_core"]
    expect(not found, f"import cola_core also imports {', '.join(found)}")


@check("plugin.light", "plugin")
def check_light(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The module with the hooks imports, and none of torch, jax, scipy with it."""
    found = facts(case, "load")
    expect("light_error" not in found, f"the plugin module does not import: {found.get('light_error')}")
    expect(
        not found["light"],
        f"importing the plugin module also imports {', '.join(found['light'])}: import them in functions",
    )


@check("plugin.api", "plugin")
def check_api(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The plugin was written for this version of the plugin contract."""
    found = facts(case, "load")
    expect(
        found["api"] == PLUGIN_API,
        f"plugin API {found['api']}, this core speaks {PLUGIN_API} ({found['reason']})",
    )


@check("plugin.loads", "plugin")
def check_loads(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The plugin becomes active without a warning."""
    found = facts(case, "load")
    expect(found["state"] == "active", f"state {found['state']}: {found['reason']}")
    expect(not found["warnings"], f"loading warns: {'; '.join(found['warnings'])}")


@check("plugin.idempotent", "plugin")
def check_idempotent(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Registering a second time changes nothing and raises nothing."""
    found = facts(case, "load")
    expect("again_error" not in found, f"the second registration fails: {found.get('again_error')}")
    again = set(found.get("again", found["registered"]))
    expect(
        again == set(found["registered"]),
        f"the second registration adds {sorted(again - set(found['registered']))}",
    )


@check("plugin.on-off", "plugin")
def check_on_off(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Core questions on core operators have the same answers with the plugin and without;
    it can be switched off."""
    on, without = facts(case, "load"), facts(case, "off")
    expect(
        without["state"] == "disabled",
        f"with COLA_DISABLE_PLUGINS={case.name} the plugin is {without['state']}",
    )
    _same_answers(on["answers"], without["answers"], "the plugin on against off")


@check("plugin.survivable", "plugin")
def check_survivable(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """If its module fails to import, the core goes on with one warning that names the plugin."""
    found = facts(case, "broken")
    expect(found["state"] == "broken", f"with an ImportError in its module the plugin is {found['state']}")
    told = found["warnings"]
    expect(len(told) == 1, f"{len(told)} warnings about the broken plugin, expected one: {told}")
    expect(case.name in told[0], f"the warning does not name the plugin: {told[0]}")
    _same_answers(found["answers"], facts(case, "off")["answers"], "the plugin broken against off")


def _same_answers(a: dict[str, Any], b: dict[str, Any], what: str) -> None:
    for side in (a, b):
        expect("error" not in side, f"{what}: the core fails: {side.get('error')}")
    for name, want in b.items():
        same = np.allclose(np.array(a[name]), np.array(want), rtol=1e-10, atol=1e-12)
        expect(same, f"{what}: {name} is {a[name]}, was {want}")


@check("plugin.overrides", "plugin")
def check_overrides(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """A rule on other packages' operators says so (``replaces=`` or ``precedence=``)."""
    silent = [rule for rule, declared in facts(case, "load").get("overrides", []) if not declared]
    expect(not silent, f"rules that change other packages' operators without saying so: {', '.join(silent)}")


@check("plugin.unambiguous", "plugin")
def check_unambiguous(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """No operator class that exists makes a rule of the plugin tie with another."""
    found = facts(case, "load").get("ambiguous", [])
    expect(not found, f"ambiguous rules: {'; '.join(found)}")


@check("plugin.typed", "plugin")
def check_typed(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The package ships ``py.typed``."""
    for top in {value.partition(":")[0].partition(".")[0] for _, _, value in facts(case, "load")["entries"]}:
        folder = Path(case.subject) / top if case.subject else _folder(top)
        expect(folder is not None and (folder / "py.typed").is_file(), f"package {top} has no py.typed")


def _folder(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


@check("plugin.upper-bound", "plugin")
def check_upper_bound(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The distribution requires cola-core below some version:
    a contract that may break is never open-ended."""
    from importlib_metadata import distributions

    name = facts(case, "load")["distribution"]
    paths = {"path": [str(case.subject)]} if case.subject else {}
    found = [d for d in distributions(**paths) if re.sub(r"[-_.]+", "-", d.name or "").lower() == name]
    expect(bool(found), f"no metadata of distribution {name}")
    wanted = [
        r for r in (found[0].requires or []) if re.match(r"cola[-_.]core\b", r, re.I) and "extra ==" not in r
    ]
    expect(bool(wanted), f"{name} does not require cola-core")
    bounded = any(re.search(r"<|==|~=", r.partition(";")[0]) for r in wanted)
    expect(bounded, f"{name} requires {wanted[0]!r}: add an upper bound such as <0.2")


def plugin_cases(name: str) -> list[Case]:
    """The cases a plugin publishes, by its entry point ``cola_core.conformance`` or hook
    ``cola_conformance_cases``."""
    from ..plugins.manager import MANAGER

    record = MANAGER.load(name, "conformance", explicit=True)
    assert record is not None
    out: list[Case] = []
    for entry in MANAGER.discover().group("conformance"):
        if entry.distribution == record.entry.distribution and entry.name in (
            name,
            record.entry.distribution,
        ):
            target = entry.load()
            out += list(target() if callable(target) else target.cases())
    return out or list(MANAGER._call(name, "cola_conformance_cases") or ())


def check_plugin(
    name: str,
    backends: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    callback: Callable[[CheckResult], None] | None = None,
) -> list[CheckResult]:
    """Everything about an installed plugin:
    itself, all its cases, and each of its rules on some operator of them.

    Raises PluginLoadError or UnknownNameError if it cannot be loaded; failures of checks are results.
    """
    from .rule_checks import rule_cases

    out: list[CheckResult] = []

    def note(result: CheckResult) -> None:
        out.append(result)
        if callback is not None:
            callback(result)

    cases = plugin_cases(name)
    if name != "core":
        check_case(Case(name, kind="plugin"), callback=note)
    for case in cases:
        check_case(case, backends, dtypes, note)
    own = {c.rule for c in cases if c.kind == "rule"}
    rules, left = rule_cases(name, cases, own)
    for case in rules:
        check_case(case, backends, dtypes, note)
    for rule in left:
        note(
            CheckResult(
                "plugin.rules-covered",
                rule.id,
                "plugin",
                "advisory",
                "failed",
                message="no operator case makes this rule step in: add one",
            )
        )
    return out
