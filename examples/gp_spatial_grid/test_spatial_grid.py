"""The example runs, quickly, and its numbers make sense."""

import importlib.util
import json
from pathlib import Path

import pytest


def test_run(tmp_path):
    for name in ("cola_gp", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    spec = importlib.util.spec_from_file_location("spatial_grid", Path(__file__).with_name("spatial_grid.py"))
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    numbers = example.run(tmp_path / "out", n=40)
    assert numbers["points"] == 1600 and 20 <= numbers["missing"] <= 40
    assert numbers["rmse"] < 0.1 and numbers["rmse_gaps"] < numbers["rmse_mean_in_gaps"] / 3
    assert numbers["noise_std"] == pytest.approx(0.3, rel=0.1)
    assert "Schur" in numbers["method"] and numbers["converged"]
    assert json.loads((tmp_path / "out" / "spatial_grid.json").read_text())["missing"] == numbers["missing"]
    assert (tmp_path / "out" / "spatial_grid.png").stat().st_size > 10_000
    assert str(numbers["missing"]) in example.report(numbers)
