"""The benchmarks run, in their shortest form. What they measure is not judged here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_they_run(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--short", "--out", str(tmp_path)],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("COLA_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    names = {r["name"] for r in found["results"]}
    assert {"import", "dense-numpy", "kron-small", "kron-large", "woodbury", "cg-poisson"} <= names
    assert all(r["met"] is None for r in found["results"]), "short runs judge nothing"
    text = (tmp_path / "results.md").read_text()
    assert text == done.stdout.rstrip("\n") + "\n"
    for private in (os.uname().nodename, str(ROOT), str(Path.home())):
        assert private not in text or len(private) < 4


def test_the_grid_runs(tmp_path):
    """Every cell in its small size, with every algorithm that applies; the answers are checked, no times."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "grid", "--short", "--out", str(tmp_path)],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("COLA_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "grid.json").read_text())
    cells = found["cells"]
    assert len(cells) >= 60 and len({c["cell"].split(" | ")[1] for c in cells}) >= 12
    assert len({c["cell"].split(" | ")[0] for c in cells}) >= 8
    for cell in cells:
        assert cell["contenders"][0]["name"] == "Auto" and not cell["contenders"][0]["problem"], cell
        assert not cell["taken"].startswith("?"), cell
    assert sum(len(c["contenders"]) for c in cells) > 3 * len(cells)


def gpu(*words):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "gpu", *words],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("COLA_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_programs_for_a_gpu_run_on_a_cpu(tmp_path):
    """With the answers checked: rows of the kernel matrix in float64, residuals, equal gradients."""
    pytest.importorskip("torch")
    pytest.importorskip("cola_gpu")
    done = gpu("--device", "cpu", "--short", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    assert file.name == "gpu-cpu-torch.md"
    text = file.read_text(encoding="utf-8")
    assert text == done.stdout
    for said in (
        "product, n = 300",
        "solve, n = 300",
        "converged",
        "MixedPrecisionCG, float32",
        "gelqf",
        "100 steps",
    ):
        assert said in text
    assert "torch.linalg.qr of the transpose" in text and "| matrix product, float32 |" in text
    assert "not measured: DeviceError" not in text and "potrf (Cholesky), float64 | n = 40" in text
    for private in (os.uname().nodename, str(ROOT), str(Path.home())):
        assert private not in text or len(private) < 4


def test_the_programs_for_a_gpu_say_what_is_missing():
    torch = pytest.importorskip("torch")
    pytest.importorskip("cola_gpu")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = gpu("--device", "cuda")
    assert done.returncode == 1 and done.stdout == ""
    assert "there is no device cuda for torch" in done.stderr and "driver" in done.stderr
    assert gpu("lanczoss").returncode == 2
