"""The example runs at a small size, and its numbers make sense."""

import importlib.util
import json
from pathlib import Path

import pytest


@pytest.mark.filterwarnings("ignore")
def test_run(tmp_path):
    for name in ("cola_gp", "sklearn", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    spec = importlib.util.spec_from_file_location("diabetes_example", Path(__file__).with_name("diabetes.py"))
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    numbers = example.run(tmp_path / "out", folds=2, max_iters=8, patients=120)
    assert len(numbers["scores"]) == 5
    for part in numbers["scores"].values():
        assert part["rmse"] < 0.95 * numbers["spread"] and 0.85 < part["coverage_95"] <= 1.0
    assert numbers["weights"]["ard"]["determined"] < numbers["weights"]["common"]["determined"]
    assert numbers["weights"]["ard"]["log_evidence"] > numbers["weights"]["common"]["log_evidence"]
    assert json.loads((tmp_path / "out" / "diabetes.json").read_text())["patients"] == 120
    assert (tmp_path / "out" / "diabetes.png").stat().st_size > 10_000
    assert "most relevant" in example.report(numbers)
