"""The example runs, quickly, and its numbers make sense."""

import importlib.util
import json
from pathlib import Path

import pytest


def test_run(tmp_path):
    for name in ("cola_gp", "statsmodels", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    spec = importlib.util.spec_from_file_location("mauna_loa", Path(__file__).with_name("mauna_loa.py"))
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    numbers = example.run(tmp_path / "out", quick=True)
    assert numbers["months"] == 521 and numbers["converged"] and numbers["jitter"] == 0.0
    assert numbers["held_out_months"]["rmse"] < 0.35
    assert numbers["held_out_months"]["rmse"] < numbers["held_out_months"]["baseline_rmse"] / 2
    assert numbers["years_ahead"]["rmse"] < 2.0
    assert json.loads((tmp_path / "out" / "mauna_loa.json").read_text())["months"] == 521
    assert (tmp_path / "out" / "mauna_loa.png").stat().st_size > 10_000
    assert "forecast for 20" in example.report(numbers)
