"""Plugins and domain modules that are wrong in exactly one way,
written into a folder as if installed there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..case import Case
from .common import Mutant

__all__ = ["GOOD", "PLUGINS", "write_plugin"]

GOOD: dict[str, str] = {
    "mutantpkg/__init__.py": "",
    "mutantpkg/py.typed": "",
    "mutantpkg/plugin.py": """
from cola_core.plugins import PLUGIN_API, PluginInfo, hookimpl

@hookimpl
def cola_plugin_info():
    return PluginInfo("mutant", PLUGIN_API, "a plugin for tests", "0.1")

@hookimpl
def cola_register(registrar, trigger):
    from .rules import register
    register(registrar)
""",
    "mutantpkg/rules.py": """
from cola_core import ops
from cola_core.linalg import trace
from cola_core.operators import operator

@operator
class Mine(ops.Diagonal):
    pass

def trace_mine(A, *, alg):
    return A.xp.sum(A.diag, axis=-1)

def register(registrar):
    registrar.rule(trace, (Mine,), id="trace/mine", source="definition")(trace_mine)
""",
    "mutant-0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: mutant\nVersion: "
    "0.1\nRequires-Dist: cola-core<0.2,>=0.1\n",
    "mutant-0.1.dist-info/entry_points.txt": "[cola_core.plugins]\nmutant = mutantpkg.plugin\n",
}

_DIRECT = """
from cola_core import ops
from cola_core.algorithms import Algorithm
from cola_core.dispatch import REGISTRY, Provenance, Rule

def trace_dense(A, *, alg):
    return 2 * A.xp.sum(A.diag, axis=-1)

def register(registrar):
    rule = Rule("mutant:{question}/mine", "{question}", (ops.Diagonal, Algorithm), trace_dense,
                Provenance.of(trace_dense, "mutant", "0.1"), source="none")
    REGISTRY.rules["{question}"] = [*REGISTRY.rules["{question}"], rule]
    REGISTRY._tiers = {{}}
"""

FILES: dict[str, dict[str, str]] = {
    "plugin.names": {
        "mutant-0.1.dist-info/entry_points.txt": GOOD["mutant-0.1.dist-info/entry_points.txt"]
        + "[cola_core.algorithms]\nnonsense.mine = mutantpkg.rules:Mine\n"
    },
    "plugin.entries-resolve": {
        "mutant-0.1.dist-info/entry_points.txt": GOOD["mutant-0.1.dist-info/entry_points.txt"]
        + "[cola_core.operators]\nmine = mutantpkg.rules:Missing\n"
    },
    "plugin.lazy": {"sitecustomize.py": "import mutantpkg\n"},
    "plugin.light": {"mutantpkg/plugin.py": "import scipy.linalg\n" + GOOD["mutantpkg/plugin.py"]},
    "plugin.api": {
        "mutantpkg/plugin.py": GOOD["mutantpkg/plugin.py"].replace(
            '"mutant", PLUGIN_API', '"mutant", PLUGIN_API + 1'
        )
    },
    "plugin.loads": {"mutantpkg/rules.py": "def register(registrar):\n    raise RuntimeError('not today')\n"},
    "plugin.idempotent": {
        "mutantpkg/rules.py": GOOD["mutantpkg/rules.py"].replace(
            "(trace_mine)\n", "(lambda A, *, alg: trace_mine(A, alg=alg))\n"
        )
    },
    "plugin.on-off": {
        "mutantpkg/rules.py": """
from cola_core import ops
from cola_core.linalg import trace

def trace_diagonal(A, *, alg):
    return 2 * A.xp.sum(A.diag, axis=-1)

def register(registrar):
    registrar.rule(trace, (ops.Diagonal,), id="trace/mine", source="none", precedence=9)(trace_diagonal)
"""
    },
    "plugin.survivable": {
        "sitecustomize.py": "import cola_core.plugins.manager as m\nm.PluginManager._announce = "
        "lambda *a, **k: None\n"
    },
    "plugin.overrides": {"mutantpkg/rules.py": _DIRECT.format(question="cholesky")},
    "plugin.unambiguous": {"mutantpkg/rules.py": _DIRECT.format(question="slogdet")},
    "plugin.typed": {"mutantpkg/py.typed": ""},
    "plugin.upper-bound": {
        "mutant-0.1.dist-info/METADATA": GOOD["mutant-0.1.dist-info/METADATA"].replace("<0.2,>=0.1", ">=0.1")
    },
}

DOMAINS: dict[str, str] = {
    "domain.bare-import": "import torch\n",
    "domain.values": "",
    "domain.public-names": "from cola_core.operators.dense import Dense\n",
}


def write_plugin(folder: Path, changes: dict[str, str], without: tuple[str, ...] = ()) -> None:
    """Write the good plugin with some files changed or left out."""
    for name, text in {**GOOD, **changes}.items():
        if name in without:
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _plugin(check: str, folder: Path) -> Mutant:
    write_plugin(folder, FILES[check], ("mutantpkg/py.typed",) if check == "plugin.typed" else ())
    return Mutant(Case("mutant", kind="plugin", subject=str(folder)))


def _wrong_value(backend: Any) -> tuple[float, float]:
    return 1.0, 2.0


def _domain(check: str, folder: Path) -> Mutant:
    (folder / "mutantdomain").mkdir(parents=True, exist_ok=True)
    (folder / "mutantdomain" / "__init__.py").write_text(DOMAINS[check], encoding="utf-8")
    case = Case(
        "mutant", kind="domain", module="mutantdomain", values={"one": _wrong_value}, subject=str(folder)
    )
    return Mutant(case)


PLUGINS: dict[str, Callable[[Path], Mutant]] = {
    **{check: partial(_plugin, check) for check in FILES},
    **{check: partial(_domain, check) for check in DOMAINS},
}
