"""The example runs, quickly, and the deep kernel does better than the plain one."""

import importlib.util
import json
from pathlib import Path

import pytest


def test_run(tmp_path):
    for name in ("cola_gp", "torch", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    spec = importlib.util.spec_from_file_location("deep_kernel", Path(__file__).with_name("deep_kernel.py"))
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    numbers = example.run(tmp_path / "out", quick=True)
    rbf, deep = numbers["rbf"], numbers["deep"]
    assert deep["log_likelihood"] > rbf["log_likelihood"] + 50
    assert deep["rmse"] < 0.95 * rbf["rmse"] and deep["nlpd"] < rbf["nlpd"]
    assert 0.85 < deep["coverage_95"] <= 1.0
    assert deep["parameters"] > 100 * rbf["parameters"]
    assert json.loads((tmp_path / "out" / "deep_kernel.json").read_text())["points"] == 300
    assert (tmp_path / "out" / "deep_kernel.png").stat().st_size > 10_000
    assert "deep kernel: " in example.report(numbers)
