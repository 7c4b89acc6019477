"""The package enters the core through entry points: what its metadata name is there, and is all there is."""

import importlib
import pkgutil
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import cola_gp
from cola_core.operators import LinearOperator

GROUPS = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["entry-points"]


def own_operators():
    """Every operator class of the package."""
    for module in pkgutil.walk_packages(cola_gp.__path__, "cola_gp."):
        if module.name == "cola_gp.torch_module":  # imports PyTorch
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if isinstance(cls, type) and issubclass(cls, LinearOperator) and cls.__module__ == module.name:
                yield cls


def test_every_operator_is_an_entry_point():
    registered = {
        EntryPoint(name, value, "cola_core.operators").load()
        for name, value in GROUPS["cola_core.operators"].items()
    }
    # An intermediate of one algorithm, which nobody can ask for.
    assert {cls for cls in own_operators() if cls.__name__ != "PreconditionedGrid"} == registered


def test_rules_algorithms_and_command_come_without_an_import():
    """A fresh process that has never heard of the package asks the core."""
    assert set(GROUPS) == {
        f"cola_core.{g}" for g in ("plugins", "operators", "commands", "domains", "conformance")
    }
    program = """
import sys
from cola_core.cli import main
assert "cola_gp" not in sys.modules
for words in (["rules", "--plugin", "gp"], ["algorithms", "--plugin", "gp"]):
    assert main(words) == 0
try:
    main(["gp", "--help"])
except SystemExit as end:
    assert end.code == 0
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    forms = ("dense", "kronecker", "toeplitz", "low-rank", "inducing", "interpolated", "state-space", "lazy")
    for form in (*forms, "observed-on-grid", "grid-terms"):
        assert f"gp:represent/{form}" in done.stdout
    kinds = (
        "Dense",
        "Kronecker",
        "Toeplitz",
        "LowRank",
        "Inducing",
        "Interpolated",
        "StateSpace",
        "Iterative",
    )
    for kind in (*kinds, "Laplace", "EP", "Observed", "GridIterative"):
        assert f"{kind}Inference" in done.stdout
    for command in ("fit", "predict", "sample", "report", "plot"):
        assert f"\n    {command} " in done.stdout
