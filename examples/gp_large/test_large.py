"""The example runs, quickly, and its numbers make sense."""

import importlib.util
import json
from pathlib import Path

import pytest


def test_run(tmp_path):
    for name in ("cola_gp", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    spec = importlib.util.spec_from_file_location("large", Path(__file__).with_name("large.py"))
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    report = example.run(tmp_path / "out", n=1200, test=200, subset=200, steps=1, rank=150)
    few, all_ = report["scores"].values()
    assert all_["rmse"] < few["rmse"] and all_["rmse"] < 1.4 * example.NOISE
    assert 0.85 < all_["coverage_95"] <= 1 and all_["mean_log_density"] > few["mean_log_density"]
    assert "iterative" in report["all"]["method"]
    assert report["all"]["log_likelihood"] > report["all"]["log_likelihood_before"]
    assert report["all"]["standard_error"] < 1e-3 * 1200
    assert json.loads((tmp_path / "out" / "large.json").read_text())["n"] == 1200
    assert (tmp_path / "out" / "large.png").stat().st_size > 10_000


def test_the_function_is_the_published_one():
    spec = importlib.util.spec_from_file_location("large", Path(__file__).with_name("large.py"))
    example = importlib.util.module_from_spec(spec)
    pytest.importorskip("cola_gp")
    spec.loader.exec_module(example)
    low = example.borehole(example.np.zeros((1, 8)))
    high = example.borehole(example.np.ones((1, 8)))
    # the formula written out at the lower and the upper limits
    assert low[0] == pytest.approx(20.0148, abs=1e-3) and high[0] == pytest.approx(145.6803, abs=1e-3)
