"""The package stands on public names of the core: all it imports from there is in a module's ``__all__``,
nothing begins with an underscore, and no other package of this repository is needed."""

import ast
import importlib
from pathlib import Path

import cola_gp

SOURCES = sorted(Path(cola_gp.__file__).parent.rglob("*.py"))


def imported():
    """``(file, line, module, name)`` of every import of a package whose name begins with ``cola_``."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level and str(node.module).startswith("cola_"):
                for alias in node.names:
                    yield path.name, node.lineno, node.module, alias.name
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.startswith("cola_"):
                        yield path.name, node.lineno, alias.name, None


def test_only_public_names_of_the_core_are_imported():
    found = list(imported())
    assert len(found) > 100
    for file, line, module, name in found:
        where = f"{file}:{line}: {module} {name}"
        assert module.partition(".")[0] in ("cola_core", "cola_gp"), where
        if module.partition(".")[0] == "cola_gp":
            continue
        assert not any(part.startswith("_") for part in module.split(".")), where
        assert name is None or name in importlib.import_module(module).__all__, where
