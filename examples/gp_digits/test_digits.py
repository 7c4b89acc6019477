"""The example runs at a small size, and its numbers make sense."""

import importlib.util
import json
from pathlib import Path

import pytest


@pytest.mark.filterwarnings("ignore")
def test_run(tmp_path):
    for name in ("cola_gp", "sklearn", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    spec = importlib.util.spec_from_file_location("digits_example", Path(__file__).with_name("digits.py"))
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    numbers = example.run(tmp_path / "out", train=80, max_iters=4)
    scores = numbers["scores"]
    ours = scores["expectation propagation"]
    assert ours["accuracy"] > 0.8 and ours["calibration_gap"] < 0.35
    assert ours["log_probability"] > scores["Laplace's approximation"]["log_probability"]
    assert numbers["error_among_kept"]["0.80"] < numbers["error_among_kept"]["1.00"]
    assert json.loads((tmp_path / "out" / "digits.json").read_text())["test"] == 1717
    assert (tmp_path / "out" / "digits.png").stat().st_size > 10_000
    assert "wrong among the most certain" in example.report(numbers)
