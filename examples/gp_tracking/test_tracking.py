"""The example runs, quickly, and its numbers make sense."""

import importlib.util
import json
from pathlib import Path

import pytest


def test_run(tmp_path):
    for name in ("cola_gp", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    spec = importlib.util.spec_from_file_location("tracking", Path(__file__).with_name("tracking.py"))
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    numbers = example.run(tmp_path / "out", n=300, long=2000)
    error = numbers["rmse"]
    assert error["smoothed"] < error["filtered"] < error["measured"]
    assert 0.88 < numbers["coverage_95"] < 0.99
    assert numbers["learned"]["gradient"]["converged"]
    assert abs(numbers["learned"]["error"] - 4.0) < 0.6
    single = numbers["single_precision"]
    assert single["float32, sqrt"]["smallest_eigenvalue"] > -1e-6
    want = single["float64"]["log_likelihood"]
    assert abs(single["float32, sqrt"]["log_likelihood"] / want - 1.0) < 1e-3
    assert json.loads((tmp_path / "out" / "tracking.json").read_text())["steps"] == 300
    assert (tmp_path / "out" / "tracking.png").stat().st_size > 10_000
    assert "95 % intervals" in example.report(numbers)
