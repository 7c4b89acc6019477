"""The example runs, quickly, and its numbers make sense."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest


def example():
    pytest.importorskip("cola_gp", reason="cola_gp is not installed")
    spec = importlib.util.spec_from_file_location("large", Path(__file__).with_name("large.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore::cola_core.errors.ConvergenceWarning")
def test_run(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    large = example()
    out = tmp_path / "out"
    report = large.run(out, n=1500, test=150, subset=200, few=300, points=60, rank=300)
    few, everything, sparse = report["scores"].values()
    for score in (few, sparse):
        assert everything["rmse_of_the_function"] < 0.95 * score["rmse_of_the_function"]
        assert everything["nlpd"] < score["nlpd"]
    assert 0.8 < everything["coverage_95"] <= 1
    found = report["all"]
    assert 0 < found["standard_error"] < 0.01 * 1500
    shapes = [np.shape(g) for g in found["kernel_gradient"]]
    assert shapes == [np.shape(e) for e in found["kernel_gradient_error"]]
    assert json.loads((out / "large.json").read_text())["n"] == 1500
    assert (out / "large.png").stat().st_size > 10_000


def test_the_function_is_a_draw_of_the_process():
    large = example()
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(2, 8))
    large.FEATURES = 300
    draws = np.array([large.draw_function(X, seed) for seed in range(1500)])
    scaled = np.sqrt(3.0 * np.sum(((X[0] - X[1]) / large.LENGTHSCALES) ** 2))
    want = np.array([[1.0, (1 + scaled) * np.exp(-scaled)]] * 2)
    want[1] = want[1][::-1]
    np.testing.assert_allclose(draws.T @ draws / 1500, want, atol=0.15)
