"""Plugins and examples stand on public names of the core: whatever they import from one of its modules, or
read from such a module, is in that module's ``__all__``; no plugin of this repository needs another one."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import cola_core

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["cola_emlp", "cola_gp", "cola_gpu", "cola_pde"]


def folder(package: str) -> Path:
    return (
        ROOT / "examples" if package == "examples" else ROOT / "packages" / package.replace("_", "-") / "src"
    )


def names_used(tree: ast.AST) -> Iterator[tuple[int, str, str | None]]:
    """``(line, module, name)`` of what a file takes from packages whose name begins with ``cola_``, by an
    import or as an attribute of an imported module; name is None for the import of a module itself."""
    modules = {}  # what the file calls it: the module
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and str(node.module).startswith("cola_"):
            for alias in node.names:
                yield node.lineno, node.module, alias.name
                if node.module == "cola_core" and isinstance(
                    getattr(cola_core, alias.name, None), ModuleType
                ):
                    modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("cola_"):
                    yield node.lineno, alias.name, None
                    modules[alias.asname or alias.name] = alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield node.lineno, modules[node.value.id], node.attr


def private(module: str, name: str | None) -> str:
    """Why a name of the core is not public, or nothing."""
    if any(part.startswith("_") for part in module.split(".")):
        return f"{module} is private"
    public = name is None or name in importlib.import_module(module).__all__
    return "" if public else f"{name} is not in {module}.__all__"


@pytest.mark.parametrize("package", [*PACKAGES, "examples"])
def test_only_public_names_of_the_core_are_used(package):
    found, wrong = 0, []
    for path in sorted(folder(package).rglob("*.py")):
        for line, module, name in names_used(ast.parse(path.read_text(encoding="utf-8"))):
            owner = module.partition(".")[0]
            where = f"{path.relative_to(ROOT)}:{line}"
            if owner != "cola_core":
                if package in PACKAGES and owner != package:
                    wrong.append(f"{where}: a plugin needs {module}")
                continue
            found += 1
            if why := private(module, name):
                wrong.append(f"{where}: {why}")
    assert found > 20 and wrong == []


@pytest.mark.parametrize(
    "line, why",
    [
        ("from cola_core.operators import loop_form", "not in"),
        ("from cola_core import compiling", "not in"),
        ("from cola_core._secret import x", "private"),
        ("import cola_core as cola; cola.backend_of", "not in"),
        ("from cola_core import ops; ops.SparseRows", "not in"),
    ],
)
def test_what_is_not_public_is_found(line, why):
    assert any(why in private(module, name) for _, module, name in names_used(ast.parse(line)))


def test_what_is_public_is_left_alone():
    line = "import cola_core as cola; from cola_core import ops; cola.solve(ops.Dense, cola.PSD)"
    assert [private(module, name) for _, module, name in names_used(ast.parse(line))] == [""] * 5
