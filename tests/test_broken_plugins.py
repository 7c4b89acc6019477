"""Plugins that fail in every way there is:
the core goes on, says so once, keeps nothing of them, and tells who asked.

Each case gets an installed distribution of its own (a `*.dist-info` folder on the path) and a fresh
interpreter.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "broken_plugins"

# plugin: what its warning says besides its name
BROKEN = {
    "import_error": "ModuleNotFoundError: No module named 'a_library_that_is_not_there'",
    "syntax_error": "SyntaxError",
    "api_new": "written for plugin API 2, this core speaks 1; upgrade cola-core",
    "api_old": "written for plugin API 0, this core speaks 1; upgrade some-api-old",
    "raising_info": "OSError: libaccelerator.so.3",
    "not_info": "returned dict, not a PluginInfo",
    "no_hooks": "returned nothing (is there a @hookimpl def cola_plugin_info?)",
    "wrong_name": "calls itself 'right_name'",
    "bad_hook": "weather",
    "raising_register": "RuntimeError: out of memory on device 0",
    "bad_annotation": "the annotations of solve_doubled cannot be resolved (NameError: name 'Doubled'",
    "unfaithful": "not a class",
    "no_alg": "must accept the keyword alg",
    "duplicate_algorithm": "algorithm name solve.cg of plugin duplicate_algorithm",
    "mute_algorithm": "has no method slogdet(A, ...)",
    "ambiguous": "ambiguous rules: ambiguous:solve/times-half",
    "undeclared_override": "changes how other packages' operators answer solve (Kronecker, Algorithm)",
    "replaces_nothing": "replaces 'core:solve/no-such-rule', which is not registered",
    "late": "KeyError: 'no such device'",
}


class Site:
    """A folder of installed distributions, and interpreters that see it."""

    def __init__(self, folder: Path):
        self.folder = folder
        shutil.copy(HERE / "common.py", folder)

    def install(
        self, plugin: str, module: str = "", source: str = "", dist: str = "", **entries: str
    ) -> None:
        """A distribution with one plugin; entries: further entry points, group=lines."""
        module = module or plugin
        if source or not (HERE / f"{module}.py").is_file():
            (self.folder / f"{module}.py").write_text(source)
        else:
            shutil.copy(HERE / f"{module}.py", self.folder)
        dist = dist or f"some-{plugin.replace('_', '-')}"
        info = self.folder / f"{dist.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
        entries = {
            "plugins": f"{plugin} = {module}",
            "rules": f"always = {module}:register_always",
            **entries,
        }
        groups = (f"[cola_core.{group}]\n{lines}\n" for group, lines in entries.items())
        (info / "entry_points.txt").write_text("\n".join(groups))

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
        """python ARGUMENTS, its environment free of our switches but for those given."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("COLA_")}
        paths = [str(self.folder), *filter(None, [clean.get("PYTHONPATH")])]
        environment = {"PYTHONWARNINGS": "default", "PYTHONPATH": os.pathsep.join(paths), **environment}
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env=clean | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def probe(self, *names: str, **environment: str) -> dict:
        """See broken_plugins/probe.py."""
        done = self.run(HERE / "probe.py", *names, **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def code(self, text: str, **environment: str) -> str:
        """What a piece of Python prints; it must not fail."""
        done = self.run("-c", text, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def naming(report: dict, name: str) -> list[str]:
    return [w for w in report["warnings"] if f"plugin {name} " in w]


def install(site: Site, name: str) -> None:
    site.install(name, source="def cola_plugin_info(:\n" if name == "syntax_error" else "")


# -- one by one ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", BROKEN)
def test_met_by_chance_it_costs_one_warning(site, name):
    install(site, name)
    report = site.probe(name)
    assert report["answers"]
    (warning,) = naming(report, name)
    assert warning.startswith("PluginLoadWarning: ")
    assert f"(some-{name.replace('_', '-')} 1.0) was skipped" in warning
    assert BROKEN[name] in warning
    assert f"COLA_DISABLE_PLUGINS={name}" in warning
    state = report["states"][name]
    assert state["state"] == ("incompatible" if name.startswith("api_") else "broken")
    assert state["traceback"]
    # nothing of it is there: not even the rule that was staged before the one that is wrong
    assert report["registered"] == []
    # whoever asks for it by name is told, with the cause
    asked = report["by_name"][name]
    assert asked["error"] == "PluginLoadError"
    assert name in asked["message"] and BROKEN[name] in asked["message"]
    assert asked["cause"] is not None


@pytest.mark.parametrize(
    "name", ["import_error", "api_new", "raising_register", "undeclared_override", "late"]
)
def test_disabled_it_is_silent(site, name):
    install(site, name)
    report = site.probe(name, COLA_DISABLE_PLUGINS=name)
    assert report["answers"]
    assert report["states"][name] == {
        "state": "disabled",
        "reason": "disabled by COLA_DISABLE_PLUGINS",
        "traceback": False,
    }
    assert naming(report, name) == []
    assert report["by_name"][name]["error"] == "PluginLoadError"
    assert "disabled by COLA_DISABLE_PLUGINS" in report["by_name"][name]["message"]


@pytest.mark.parametrize("name", ["import_error", "api_old", "raising_register", "late"])
def test_strict_it_is_an_error(site, name):
    install(site, name)
    report = site.probe(name, COLA_STRICT_PLUGINS="1", COLA_PLUGINS=name)
    assert not report["answers"]
    assert report["raised"].startswith("PluginLoadError: ")
    assert BROKEN[name] in report["raised"]


def test_strict_it_stays_an_error(site):
    install(site, "raising_register")
    code = """
import numpy as np, cola_core as cola
for _ in range(2):
    try:
        cola.solve(np.eye(2), np.ones(2))
    except cola.errors.PluginLoadError as error:
        print("raised")
"""
    assert site.code(code, COLA_STRICT_PLUGINS="1", COLA_PLUGINS="raising_register").split() == ["raised"] * 2


# -- switches ------------------------------------------------------------------------------------------------
def test_all_can_be_disabled(site):
    for name in ("import_error", "raising_register"):
        install(site, name)
    report = site.probe(COLA_DISABLE_PLUGINS="*")
    assert report["answers"] and report["warnings"] == []
    assert {name for name, s in report["states"].items() if s["state"] == "active"} == {"core"}


def test_a_list_of_allowed_plugins(site):
    for name in ("import_error", "raising_register"):
        install(site, name)
    report = site.probe(COLA_PLUGINS="raising_register")
    assert report["states"]["import_error"]["reason"] == "not listed in COLA_PLUGINS"
    assert naming(report, "import_error") == []
    assert len(naming(report, "raising_register")) == 1


@pytest.mark.parametrize("variable", ["COLA_PLUGINS", "COLA_DISABLE_PLUGINS"])
def test_unknown_names_are_told(site, variable):
    report = site.probe(**{variable: "core,no_such_plugin"})
    assert report["answers"]
    (warning,) = report["warnings"]
    assert "no_such_plugin" in warning and variable in warning and "core" in warning


def test_listing_imports_no_plugin(site):
    install(site, "import_error")
    code = """
import sys
from cola_core.plugins import MANAGER
MANAGER.discover()
print(MANAGER.records["import_error"].state, "import_error" in sys.modules)
"""
    assert site.code(code) == "discovered False"


def test_the_command_line(site):
    install(site, "import_error")
    done = site.run("-m", "cola_core", "plugins", "list")
    assert done.returncode == 0 and "import_error" in done.stdout
    done = site.run("-m", "cola_core", "plugins", "errors", COLA_PLUGINS="import_error")
    assert done.returncode == 1 and "a_library_that_is_not_there" in done.stdout
    done = site.run("-m", "cola_core", "plugins", "show", "import_error")
    assert done.returncode != 0
    assert "a_library_that_is_not_there" in done.stderr and "Traceback" not in done.stderr


# -- names ---------------------------------------------------------------------------------------------------
SOUND = """
from dataclasses import dataclass
from common import info
from cola_core.algorithms import Algorithm
from cola_core.linalg import solve
from cola_core.plugins import hookimpl

@dataclass(frozen=True)
class Own(Algorithm):
    def solve(self, A, b):
        return b

@hookimpl
def cola_plugin_info():
    return info({name!r})

@hookimpl
def cola_register(registrar, trigger):
    {register}

def register_always(registrar):
    pass
"""


def sound(name: str, register: str = "pass") -> str:
    return SOUND.format(name=name, register=register)


@pytest.mark.parametrize("disabled", [False, True])
def test_two_distributions_with_one_plugin_name(site, disabled):
    site.install("twin", module="twin_one", source=sound("twin"), dist="dist-one")
    site.install("twin", module="twin_two", source=sound("twin"), dist="dist-two")
    if disabled:
        report = site.probe("twin", COLA_DISABLE_PLUGINS="twin")
        assert report["answers"] and naming(report, "twin") == []
        return
    report = site.probe("twin")
    assert report["answers"] and report["states"]["twin"]["state"] == "broken"
    (warning,) = naming(report, "twin")
    assert "dist-one (twin_one)" in warning and "dist-two (twin_two)" in warning
    assert report["by_name"]["twin"]["error"] == "PluginLoadError"


def test_two_distributions_with_one_algorithm_name(site):
    for name in ("one", "two"):
        site.install(name, source=sound(name), dist=f"dist-{name}", algorithms=f"solve.own = {name}:Own")
    code = """
import numpy as np, cola_core as cola
A, b = np.eye(2), np.ones(2)
try:
    cola.solve(A, b, "own")
except cola.errors.UnknownNameError as error:
    print(error)
print(cola.solve(A, b, "dist-two:own"))
"""
    lines = site.code(code).splitlines()
    assert "dist-one:own, dist-two:own" in lines[0] and lines[1] == "[1. 1.]"
    # switching one off settles it
    code = "import numpy as np, cola_core as cola; print(cola.solve(np.eye(2), np.ones(2), 'own'))"
    assert site.code(code, COLA_DISABLE_PLUGINS="one") == "[1. 1.]"


def test_names_that_lead_nowhere(site):
    site.install("one", source=sound("one"), algorithms="solve.lost = one:Lost\nsolve.odd = one:info")
    code = """
import numpy as np, cola_core as cola
for name in ("lost", "odd", "never-heard-of"):
    try:
        cola.solve(np.eye(2), np.ones(2), name)
    except cola.errors.ColaError as error:
        print(type(error).__name__, str(error))
"""
    lost, odd, unknown = site.code(code).splitlines()
    assert lost.startswith("PluginLoadError") and "one:Lost" in lost
    assert odd.startswith("PluginLoadError") and "not a subclass of Algorithm" in odd
    assert unknown.startswith("UnknownNameError") and "cholesky" in unknown and "odd" in unknown


# -- two plugins that contradict each other ------------------------------------------------------------------
RULE = """
from common import info
from cola_core.linalg import solve
from cola_core.ops import Kronecker
from cola_core.plugins import hookimpl

@hookimpl
def cola_plugin_info():
    return info({name!r})

def guard(A, b, *, alg):
    return True

def cost(A, b, *, alg):
    from cola_core.cost import Cost
    return Cost({flops})

@hookimpl
def cola_register(registrar, trigger):
    @registrar.rule(solve, (Kronecker,), id="solve/mine", {metadata})
    def mine(A, b, *, alg):
        return {factor} * b

def register_always(registrar):
    pass
"""


def rival(site: Site, name: str, factor: int, metadata: str, flops: float = 1.0) -> None:
    site.install(name, source=RULE.format(name=name, factor=factor, metadata=metadata, flops=flops))


USE = """
import sys, warnings
import numpy as np, cola_core as cola
from cola_core.plugins import MANAGER
warnings.simplefilter("ignore")
for name in sys.argv[1:]:
    MANAGER.load(name, "operator")
K = cola.kron(np.eye(2), np.eye(2))
def ask(**options):
    try:
        return str(cola.solve(K, np.ones(4), **options)[0])
    except cola.errors.ColaError as error:
        return f"{type(error).__name__}: {error}"
"""

ORDERS = [("a", "b", "c"), ("c", "b", "a"), ("b", "a", "c"), ("a", "c", "b")]


@pytest.mark.parametrize("metadata", ["precedence=1", "replaces='core:solve/kronecker'"])
def test_contradictions_do_not_depend_on_the_order(site, metadata):
    """Neither of two plugins that claim one rule wins by coming first,
    nor does a third that comes in between."""
    for factor, name in enumerate("abc", start=10):
        rival(site, name, factor, metadata)
    code = USE + "print(ask(), *(f'{n}:{MANAGER.records[n].state}' for n in 'abc'))"
    found = {site.run("-c", code, *order).stdout.strip() for order in ORDERS}
    assert found == {"1.0 a:broken b:broken c:broken"}
    report = site.probe("a", "b", "c")
    for name in "abc":
        (warning,) = naming(report, name)
        assert sum(f"{other}.py:" in warning for other in "abc") == 2  # both sides, with file and line
    # with one rival left the declared override holds
    assert site.code(USE + "print(ask())", COLA_DISABLE_PLUGINS="a,c") == "11.0"


def test_a_tie_found_at_run_time_names_both(site):
    """Guards keep two rules apart until both hold: then the question is an error, in any order."""
    for factor, name in ((10, "a"), (11, "b")):
        rival(site, name, factor, "precedence=1, when=guard")
    code = USE + "print(ask()); print(ask(alg=cola.Auto(rules=('b:solve/mine',))))"
    found = {site.run("-c", code, *order).stdout for order in ("ab", "ba")}
    assert len(found) == 1
    tie, pinned = found.pop().strip().splitlines()
    assert tie.startswith("AmbiguousRuleError")
    for name in "ab":
        assert re.search(rf"{name}:solve/mine \[{name} 1\.0 \(\S*/{name}\.py:\d+\)\]", tie)
    for remedy in ("Auto(rules=('a:solve/mine',))", "COLA_DISABLE_PLUGINS=b", "precedence="):
        assert remedy in tie
    assert pinned == "11.0"


@pytest.mark.parametrize(
    "one, two, answer",
    [
        ("precedence=1", "precedence=2", "11.0"),
        ("precedence=2", "precedence=1", "10.0"),
        ("precedence=1, when=guard, cost=cost", "precedence=1, when=guard, cost=cost", "11.0"),
        ("precedence=1", "replaces='core:solve/kronecker'", "10.0"),
    ],
    ids=["precedence", "precedence-reversed", "cost", "replaces"],
)
def test_what_settles_a_tie(site, one, two, answer):
    rival(site, "a", 10, one, flops=2e9)
    rival(site, "b", 11, two, flops=1e9)
    for order in ("ab", "ba"):
        assert site.run("-c", USE + "print(ask())", *order).stdout.strip() == answer


def test_replacing_another_plugins_rule_loads_that_first(site):
    rival(site, "a", 10, "precedence=1")
    rival(site, "b", 11, "replaces='a:solve/mine'")
    for order in ("ab", "ba", "b"):
        assert site.run("-c", USE + "print(ask())", *order).stdout.strip() == "11.0"
    assert "b:solve/mine" in site.run("-m", "cola_core", "plugins", "overrides").stdout


def test_nothing_depends_on_the_seed_of_hashes(site):
    for name in ("import_error", "late"):
        install(site, name)
    rival(site, "a", 10, "precedence=1, when=guard")
    rival(site, "b", 11, "precedence=1, when=guard")
    reports = [
        site.probe("import_error", "late", "a", "b", PYTHONHASHSEED=seed)
        for seed in ("0", "1", "2", "random")
    ]
    for report in reports:
        report["warnings"].sort()
    assert all(report == reports[0] for report in reports)


# -- advice --------------------------------------------------------------------------------------------------
ADVISOR = """
from common import info
from cola_core.plugins import hookimpl

@hookimpl
def cola_plugin_info():
    return info({name!r})

@hookimpl
def cola_choose(question, args, candidates):
    return {advice}

def register_always(registrar):
    pass
"""

ASK_ADVICE = """
import warnings
import numpy as np, cola_core as cola
A, b = cola.PSD(np.diag([1.0, 2.0])), np.ones(2)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    advised = cola.explain(cola.solve, A, b, alg=cola.Auto(advice=True))
    print(cola.explain(cola.solve, A, b).root.by, advised.root.by)
    assert np.allclose(A @ cola.solve(A, b, cola.Auto(advice=True)), b)
print(*sorted({str(w.message) for w in caught}), sep="\\n")
"""


def test_advice_is_taken_only_on_request(site):
    site.install(
        "sage", source=ADVISOR.format(name="sage", advice="next(c for c in candidates if c.name == 'lu')")
    )
    assert site.code(ASK_ADVICE).splitlines()[0] == "core:solve/cholesky core:solve/lu"


@pytest.mark.parametrize(
    "advice, said", [(None, "ZeroDivisionError: no data yet"), ("'lu'", "none of the candidates")]
)
def test_bad_advice_is_ignored_with_a_warning(site, advice, said):
    if advice is None:
        site.install("raising_choose")
        name = "raising_choose"
    else:
        name = "fool"
        site.install(name, source=ADVISOR.format(name=name, advice=advice))

    lines = site.code(ASK_ADVICE).splitlines()
    assert lines[0] == "core:solve/cholesky core:solve/cholesky"
    (warning,) = lines[1:]
    assert f"plugin {name}: cola_choose failed" in warning and said in warning


def test_a_guard_that_raises_is_named(site):
    rival(site, "a", 10, "precedence=1, when=lambda A, b, *, alg: 1 / 0")
    code = """
import numpy as np, cola_core as cola
try:
    cola.solve(cola.kron(np.eye(2), np.eye(2)), np.ones(4))
except ZeroDivisionError as error:
    print(*error.__notes__)
"""
    assert "guard of rule a:solve/mine" in site.code(code)
