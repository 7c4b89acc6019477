"""The example runs, quickly, and its numbers make sense."""

import importlib.util
import json
from pathlib import Path

import pytest


def test_run(tmp_path):
    for name in ("cola_gp", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    spec = importlib.util.spec_from_file_location("multitask", Path(__file__).with_name("multitask.py"))
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    numbers = example.run(tmp_path / "out", n=80)
    assert numbers["tasks"] == 5 and numbers["missing"] > 40
    assert numbers["rmse_multitask"] < numbers["rmse_single"] / 3
    assert "Schur" in numbers["method"] and numbers["converged"]
    assert json.loads((tmp_path / "out" / "multitask.json").read_text())["missing"] == numbers["missing"]
    assert (tmp_path / "out" / "multitask.png").stat().st_size > 10_000
    assert str(numbers["missing"]) in example.report(numbers)
