"""`gpu bench`: the arithmetic of roofs, the shape of the report, what is missing. No times are judged."""

from __future__ import annotations

import argparse
import json
import sys
import types

import numpy as np
import pytest

from cola_core.cost import Cost
from cola_core.errors import DeviceError, UnknownNameError
from cola_gpu import cli, devices, missing
from cola_gpu.bench import case, ceilings, dense_cases, eigen_cases, kernel_cases, run, sparse_cases, target
from cola_gpu.bench.ceilings import Ceilings
from cola_gpu.bench.roofline import ARITHMETIC, BANDWIDTH, Phase, roof
from cola_gpu.bench.run import all_cases, as_text
from cola_gpu.devices import Device

MACHINE = Ceilings(
    bandwidth={"copy": 80.0, "triad": 100.0, "read": 60.0},
    matmul={"float64": 50.0, "float32": 200.0},
    missing={"tf32": "none", "bfloat16": "none", "float16": "none"},
)


def command(*words):
    parser = argparse.ArgumentParser(prog="cola-core")
    cli.register(parser.add_subparsers())
    args = parser.parse_args(["gpu", *words])
    return args.func(args)


# -- roofs ---------------------------------------------------------------------------------------------------
def test_the_larger_of_arithmetic_and_traffic_binds():
    ridge = 50e9 / 100e9  # flops per byte where both take as long
    traffic = roof([Phase(0.5 * ridge * 1e9, 1e9)], MACHINE)
    assert traffic.seconds == pytest.approx(1e9 / 100e9) and traffic.bound == BANDWIDTH
    work = roof([Phase(2 * ridge * 1e9, 1e9)], MACHINE)
    assert work.seconds == pytest.approx(2 * ridge * 1e9 / 50e9) and work.bound == ARITHMETIC
    assert traffic.fraction(0.02) == pytest.approx(0.5) and traffic.fraction(0.005) == pytest.approx(2.0)


def test_each_dtype_has_its_ceiling_and_unknown_ones_that_of_float32():
    assert roof([Phase(2e9, 0.0, "float32")], MACHINE).seconds == pytest.approx(0.01)
    assert roof([Phase(2e9, 0.0, "float64")], MACHINE).seconds == pytest.approx(0.04)
    assert roof([Phase(2e9, 0.0, "bfloat16")], MACHINE).seconds == pytest.approx(0.01)


def test_phases_follow_one_another():
    low, high = Phase(1e6, 3e9, "float32"), Phase(1e9, 1e3)
    both = roof([low, high], MACHINE)
    assert both.seconds == pytest.approx(0.03 + 0.02) and both.bound == BANDWIDTH
    assert roof([low, 2 * high], MACHINE).bound == ARITHMETIC
    assert roof([high * 3], MACHINE).seconds == pytest.approx(3 * roof([high], MACHINE).seconds)
    assert roof([], MACHINE).seconds == 0.0


def test_counts_of_the_dense_factorisations():
    """Against a count of the multiply-adds of the textbook's loops."""
    m, n = 30, 90
    reflections = sum(4 * (m - j) * (n - j) for j in range(m))  # each applied to the rows behind it
    assert dense_cases.lq_work(m, n).flops == pytest.approx(2 * reflections, rel=0.05)
    cholesky = sum(2 * j * (n - j) for j in range(n))
    assert dense_cases.potrf_work(n).flops == pytest.approx(cholesky, rel=0.05)
    assert dense_cases.lq_backward_work(m, n).flops == 2 * 2 * m * m * n + m * m * n + m**3
    assert dense_cases.potrf_work(n, "float32").bytes == 8 * n * n
    products, rest = dense_cases.syevd_work(n)
    # Householder's reduction: a product with the remaining matrix and an update of rank two per column
    reduction = sum(2 * j * j + 2 * j * j for j in range(n))
    assert products.flops == pytest.approx(reduction / 2, rel=0.05)
    assert products.flops + rest.flops == pytest.approx(reduction + 2 * n**3, rel=0.05)
    assert products.bytes == pytest.approx(sum(8 * j * j / 2 for j in range(n)), rel=0.05)


def test_counts_of_the_kernel_product():
    work = kernel_cases.product_work(7, 5, 10, columns=3)
    assert work.flops == 2 * 35 * (10 + 1 + 3) and work.bytes == 4 * (12 * 10 + 12 * 3)
    assert roof([kernel_cases.product_work(10**4, 10**4, 10)], MACHINE).bound == ARITHMETIC


def test_counts_of_gram_schmidt():
    # steps 1, 2, 3 read 1, 2, 3 blocks of two vectors of ten numbers, four times each
    assert eigen_cases.basis_reads(3, 2, 10) == 4 * (1 + 2 + 3) * 2 * 10
    read = sparse_cases.step_work(Cost(), 480, "float64", columns=2)
    assert (read.flops, read.bytes) == (2 * 480 * 2, 8 * 480)


def test_counts_of_a_step_of_cg():
    here = target.choose("numpy")
    problem = sparse_cases._cg(here, "short")
    n = problem.size["n"]
    A, _ = sparse_cases.five_diagonals(n)
    nonzeros = 5 * n - 2 - 2 * int(n**0.5)
    _, info = answer = problem.run()
    (phase,) = problem.phases(answer)
    step = phase.bytes / int(info.iterations)
    # values and indices (4 or 8 bytes each) of the matrix, two vectors of the product, ten passes
    assert 12 * nonzeros + 12 * 8 * n <= step <= 16 * nonzeros + 14 * 8 * n + 64
    assert info.converged and roof([phase], MACHINE).bound == BANDWIDTH
    # the same in single precision has between half and three quarters of the traffic
    low = sparse_cases.step_work(A.to(dtype="float32").matvec_cost, 10 * n, "float32")
    assert 0.5 * step < low.bytes < 0.75 * step


# -- the report ----------------------------------------------------------------------------------------------
KEYS = {"backend", "device", "kind", "description", "size", "versions", "ceilings", "algorithms"}


def check(result, names):
    assert KEYS <= set(result) and result["size"] == "short"
    assert set(result["ceilings"]["bandwidth_GBps"]) == {"copy", "triad", "read"}
    assert all(rate > 0 for rate in result["ceilings"]["bandwidth_GBps"].values())
    rates, lacking = result["ceilings"]["matmul_GFLOPs"], result["ceilings"]["missing"]
    assert set(rates) == set(ceilings.DTYPES)
    assert all((rate is None) == (dtype in lacking) for dtype, rate in rates.items())
    assert rates["float32"] > 0 and rates["float64"] > 0 and rates["tf32"] is None
    assert [row["name"] for row in result["algorithms"]] == names
    for row in result["algorithms"]:
        assert "missing" not in row, row
        assert row["bound"] in (BANDWIDTH, ARITHMETIC) and row["model"] and row["title"]
        assert row["fraction"] == pytest.approx(row["roof_seconds"] / row["seconds"])
    assert json.loads(json.dumps(result)) == result


def test_everything_on_numpy(capsys, tmp_path):
    names = [c.name for c in all_cases()]
    assert {"cg", "mixed-cg", "mixed-gmres", "slq", "lanczos", "block-lanczos", "lobpcg"} <= set(names)
    assert {"kernel-product", "lq", "lq-backward", "potrf", "syevd"} <= set(names)
    file = tmp_path / "new" / "bench.json"
    assert command("bench", "--short", "--backend", "numpy", "--json", "--out", str(file)) == 0
    assert capsys.readouterr().out == ""
    result = json.loads(file.read_text(encoding="utf-8"))
    check(result, names)
    rows = {row["name"]: row for row in result["algorithms"]}
    assert rows["cg"]["converged"] and rows["mixed-cg"]["converged"]
    assert rows["mixed-cg"]["residual"] <= 1.1e-10 and rows["mixed-gmres"]["residual"] <= 1.1e-10
    assert rows["lanczos"]["steps"] == 100 and rows["lobpcg"]["steps"] == 20
    assert rows["cg"]["method"] == "DeviceCG" and rows["lanczos"]["method"] == "DeviceLanczos"
    assert result["mixed_speedup"] == pytest.approx(rows["cg"]["seconds"] / rows["mixed-cg"]["seconds"])
    assert result["device"] == "cpu" and "numpy" in result["versions"]
    text = as_text(result)
    assert all(name in text for name in names) and "GB/s" in text and "none (tensor cores" in text


def test_some_on_every_library(backend):
    result = run(backend.name, size="short", names=("mixed-cg", "kernel-product", "lq-backward", "potrf"))
    check(result, ["mixed-cg", "kernel-product", "lq-backward", "potrf"])
    assert result["backend"] == backend.name and "mixed_speedup" not in result


def test_the_command_prints(capsys):
    assert command("bench", "potrf", "--short", "--backend", "numpy") == 0
    out = capsys.readouterr().out
    assert "potrf" in out and "of roof" in out and "n = 40" in out


def test_a_case_that_cannot_run_does_not_stop_the_others(monkeypatch):
    def refuses(here, size):
        raise NotImplementedError("no such kernel here")

    def answer():
        return np.ones(3)

    cases = [
        case.Case("a", "A", "m", refuses),
        case.Case("b", "B", "m", lambda here, size: None, libraries=("jax",)),
        case.Case(
            "c", "C", "m", lambda here, size: case.Problem(answer, lambda a: [Phase(a.sum(), 1)], {"n": 3})
        ),
    ]
    module = sys.modules["cola_gpu.bench.run"]
    monkeypatch.setattr(module, "all_cases", lambda: cases)
    result = run("numpy", size="short")
    first, second, third = result["algorithms"]
    assert "no such kernel here" in first["missing"] and "jax" in second["missing"]
    assert third["seconds"] > 0
    assert "not measured: NotImplementedError: no such kernel here" in as_text(result)


def test_what_is_asked_for_must_exist():
    with pytest.raises(UnknownNameError, match="known are cg, mixed-cg"):
        run("numpy", size="short", names=("cgg",))
    with pytest.raises(UnknownNameError, match="short, quick, full"):
        run("numpy", size="huge")
    with pytest.raises(SystemExit):
        command("bench", "--short", "--full")


# -- devices -------------------------------------------------------------------------------------------------
def test_a_missing_device_is_an_error_that_says_what_there_is():
    with pytest.raises(DeviceError, match="numpy/cpu"):
        target.choose(None, "tpu")
    with pytest.raises(DeviceError, match="cuda:93 .*numpy/cpu"):
        run(None, "cuda:93", size="short")


def test_a_missing_gpu_is_an_error_that_says_how_to_get_one(monkeypatch):
    absent = [missing.Part("driver", "no driver", "buy a GPU"), missing.Part("jax-gpu", "here")]
    monkeypatch.setattr(missing, "parts", lambda: absent)
    with pytest.raises(DeviceError, match="Missing: driver: no driver, buy a GPU") as caught:
        target.choose("jax", "gpu:7")
    assert "jax-gpu" not in str(caught.value)


def test_an_accelerator_is_preferred_and_sizes_grow(monkeypatch):
    found = [
        Device("numpy", "cpu", "cpu", "a processor"),
        Device("torch", "cpu", "cpu", "a processor"),
        Device("torch", "cuda:0", "cuda", "a GPU"),
        Device("jax", "cuda:0", "cuda", "a GPU"),
    ]
    monkeypatch.setattr(target, "devices", lambda: found)
    here = target.choose()
    assert (here.framework, here.device, here.accelerated) == ("torch", "cuda:0", True)
    assert target.choose("jax").framework == "jax" and target.choose("jax", "gpu").device == "cuda:0"
    assert target.choose("numpy").accelerated is False and target.choose(None, "cpu").framework == "numpy"
    for large, small in (
        (sparse_cases.SOLVE_ON_ACCELERATORS, sparse_cases.SOLVE),
        (kernel_cases.POINTS_ON_ACCELERATORS, kernel_cases.POINTS),
        (dense_cases.SQUARE_ON_ACCELERATORS, dense_cases.SQUARE),
    ):
        assert set(large) == set(small) == set(target.SIZES)
        assert all(large[size] > small[size] for size in target.SIZES)


def fake_torch(cuda, available):
    module = types.ModuleType("torch")
    module.__version__ = "9.9"
    module.version = types.SimpleNamespace(cuda=cuda, hip=None)
    module.cuda = types.SimpleNamespace(is_available=lambda: available)
    return module


@pytest.mark.parametrize(
    "cuda, available, said",
    [(None, False, "without CUDA"), ("13.0", False, "sees no device"), ("13.0", True, "")],
)
def test_what_pytorch_lacks(monkeypatch, cuda, available, said):
    monkeypatch.setitem(sys.modules, "torch", fake_torch(cuda, available))
    monkeypatch.setattr(missing, "find_spec", lambda name: object())
    part = missing._torch_cuda()
    assert part.complete == available and (said in part.found if said else part.found.endswith("CUDA 13.0"))


def test_what_is_broken_is_reported(monkeypatch):
    monkeypatch.setattr(missing, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it raises
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setitem(sys.modules, "jax", None)
    named = {p.name: p for p in missing.parts()}
    assert all("is broken" in named[name].found for name in ("torch-cuda", "triton", "jax-gpu"))
    assert "jax-gpu" in missing.remedies("jax") and "torch-cuda" not in missing.remedies("jax")


def test_jax_names_nvidia_devices_like_pytorch():
    gpu = types.SimpleNamespace(platform="gpu", id=1)
    assert devices.jax_name(gpu) == "cuda:1"
    assert devices.jax_name(types.SimpleNamespace(platform="cpu", id=0)) == "cpu:0"


def test_the_path_of_a_gpu_is_taken_when_there_is_one(monkeypatch):
    """A processor that says it is a GPU: sizes, waits, and products in tf32 that leave the switch alone."""
    torch = pytest.importorskip("torch")
    waits, switches = [], []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: waits.append(device))
    here = target.Target("torch", "cpu", "cuda", "a processor")
    monkeypatch.setitem(ceilings.ON_ACCELERATORS, "short", 2**10)
    monkeypatch.setitem(ceilings.ORDERS_ON_ACCELERATORS, "short", 32)
    name = "fp32_precision" if hasattr(torch.backends.cuda.matmul, "fp32_precision") else "allow_tf32"
    before = getattr(torch.backends.cuda.matmul, name)
    product = ceilings._product

    def watched(*args):
        with ceilings._tf32(here, args[1] == "tf32"):
            switches.append((args[1], getattr(torch.backends.cuda.matmul, name)))
        return product(*args)

    monkeypatch.setattr(ceilings, "_product", watched)
    found = ceilings.measure(here, "short")
    assert set(found.matmul) == set(ceilings.DTYPES) and not found.missing
    assert dict(switches)["tf32"] in (True, "tf32") and dict(switches)["float32"] in (False, "ieee")
    assert getattr(torch.backends.cuda.matmul, name) == before
    assert len(waits) >= 2 * (3 + len(ceilings.DTYPES))
    problem = dense_cases._potrf(here, "short")
    assert problem.size["n"] == dense_cases.SQUARE_ON_ACCELERATORS["short"]
