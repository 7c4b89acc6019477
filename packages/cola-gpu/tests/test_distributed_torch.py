"""Operators of DTensors in two processes over gloo: products, algorithms made of them, their derivatives, and
the refusal of what DTensor would copy onto every process."""

import importlib.util
import subprocess
import sys

import pytest

pytest.importorskip("torch")


def test_two_processes(run_together):
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("this PyTorch is built without gloo")
    told = run_together("distributed_torch_program.py", 2)
    assert all(text.strip().splitlines()[-1].startswith("done") for text in told)


def test_without_a_mesh():
    import torch

    import cola_core as cola
    from cola_gpu.sharding import distribute, distribution_report

    A = cola.ops.Dense(torch.eye(2, dtype=torch.float64)) + 1.0 * cola.ops.Identity(2)
    report = distribution_report(A)
    assert report.replicated == report.leaves and all("plain" in leaf.reason for leaf in report.leaves)
    assert report.bytes_per_device >= 32

    class Grid:
        ndim = 2

    with pytest.raises(ValueError, match="one axis"):
        distribute(A, Grid())


def test_plain_tensors_open_no_door():
    import torch

    from cola_core.backends.torch_spread import Products, door, holds_spread
    from cola_core.ops import Dense

    A = Dense(torch.eye(3))
    assert not holds_spread(A) and not holds_spread(A.array)
    assert not isinstance(door(A, torch.ones(3)), Products)
    with Products():
        assert bool(torch.all(torch.linalg.cholesky(A.array) == A.array)), "plain tensors are left alone"


def test_importing_needs_no_library():
    code = (
        "import sys, cola_gpu.sharding as s; assert 'distribute' in s.__all__;"
        "assert 'torch' not in sys.modules and 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert importlib.util.find_spec("cola_gpu.sharding.distributed") is not None
