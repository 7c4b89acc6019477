"""The example runs, quickly, and its numbers make sense."""

import importlib.util
import json
from pathlib import Path

import pytest


def test_run(tmp_path):
    for name in ("cola_gp", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    spec = importlib.util.spec_from_file_location("time_series", Path(__file__).with_name("time_series.py"))
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    numbers = example.run(tmp_path / "out", n=3000, max_iters=12)
    assert numbers["method"] == "state space (Kalman)" and numbers["states"] == 5
    assert numbers["outages"]["rmse"] < 0.95 * numbers["outages"]["baseline_rmse"]
    assert 0.85 < numbers["outages"]["coverage_95"] <= 1.0
    assert json.loads((tmp_path / "out" / "time_series.json").read_text())["readings"] == numbers["readings"]
    assert (tmp_path / "out" / "time_series.png").stat().st_size > 10_000
    assert "outages: RMSE" in example.report(numbers)
