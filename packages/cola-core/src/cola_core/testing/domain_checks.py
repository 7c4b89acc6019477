"""Checks of domain modules: importable bare, right on reference values, built on public names only."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .compare import close, expect
from .registry import check

__all__ = ["private_uses"]

PUBLIC = tuple(
    ["", "algorithms", "autodiff", "backends", "cli", "cost", "dispatch", "errors", "info", "io", "reasons"]
    + ["fns", "linalg", "operators", "ops", "plugins", "preconditioners", "properties", "testing"]
)
"""Modules of the core (without the prefix) that are public; in each, what ``__all__`` lists."""

_BARE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "jax", "jaxlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import importlib
importlib.import_module(sys.argv[1])
"""


@check("domain.bare-import", "domain")
def check_bare_import(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The module imports where torch and jax do not exist."""
    done = subprocess.run(
        [sys.executable, "-c", _BARE, case.module], capture_output=True, text=True, env=_environment(case)
    )
    lines = done.stderr.strip().splitlines() or ["?"]
    expect(done.returncode == 0, f"import {case.module} without torch and jax: {lines[-1]}")


@check("domain.values", "domain", backends=("numpy", "torch", "jax"))
def check_values(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Every reference value of the case holds on this backend."""
    for name, value in case.values.items():
        result = value(backend)
        if result is None:
            continue  # asserts by itself
        got, want, *rest = result
        close(got, want, f"{case.module}: {name}", float(rest[0]) if rest else 1e-8 * case.tolerance)


@check("domain.public-names", "domain")
def check_public_names(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Its source uses only public names of the core: public modules, and of those what ``__all__`` lists."""
    found = private_uses(_source(case))
    expect(not found, f"{case.module} uses private names of cola_core: {'; '.join(found[:5])}")


def _environment(case: Any) -> dict[str, str]:
    import os

    env = dict(os.environ)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(case.subject or ""), env.get("PYTHONPATH", ""))))
    return env


def _source(case: Any) -> Path:
    if case.subject:
        root = Path(case.subject) / case.module.replace(".", "/")
        return root if root.is_dir() else root.with_suffix(".py")
    spec = find_spec(case.module)
    if spec is None or spec.origin is None:
        expect(False, f"no module {case.module}")
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin)
    return path.parent if path.name == "__init__.py" else path


def private_uses(root: Path) -> list[str]:
    """Places (file:line: what) where Python files under ``root`` use names of
    cola_core that are not public."""
    found = []
    for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        modules: dict[str, str] = {}  # local name -> module of the core
        for node in ast.walk(tree):
            where = f"{file.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.ImportFrom) and not node.level and _ours(node.module):
                for alias in node.names:
                    problem = _import_problem(node.module or "", alias.name)
                    if problem:
                        found.append(f"{where}: {problem}")
                    modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if _ours(alias.name):
                        if not _is_public(alias.name):
                            found.append(f"{where}: import {alias.name}")
                        local = alias.asname or alias.name.partition(".")[0]
                        modules[local] = alias.name if alias.asname else "cola_core"
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, (ast.Name, ast.Attribute)):
                module = _module_of(node.value, modules)
                if (
                    module
                    and _is_module(module)
                    and node.attr.startswith("_")
                    and not node.attr.startswith("__")
                ):
                    found.append(f"{file.name}:{node.lineno}: {module}.{node.attr}")
    return found


def _ours(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == "cola_core"


def _is_public(module: str) -> bool:
    head, _, tail = module.partition(".")
    return head == "cola_core" and tail in PUBLIC


def _import_problem(module: str, name: str) -> str:
    text = f"from {module} import {name}"
    if not _is_public(module):
        return text
    if name == "*" or (module == "cola_core" and name in PUBLIC):
        return ""
    if name.startswith("_") and not (name.startswith("__") and name.endswith("__")):
        return text
    home = import_module(module)
    listed = getattr(home, "__all__", None)
    return (
        text
        if listed is not None
        and name not in listed
        and name != "__version__"
        and not _is_public(f"{module}.{name}")
        else ""
    )


def _is_module(name: str) -> bool:
    return name in sys.modules or (_ours(name) and name.partition(".")[2] in PUBLIC)


def _module_of(node: Any, modules: dict[str, str]) -> str:
    """The module of the core a dotted expression names, or an empty string."""
    if isinstance(node, ast.Name):
        return modules.get(node.id, "")
    if isinstance(node, ast.Attribute):
        head = _module_of(node.value, modules)
        return f"{head}.{node.attr}" if head else ""
    return ""
