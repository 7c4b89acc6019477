"""Shared pieces of the tests: float64 in JAX, matrices with prescribed structure."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))  # for the modules beside the tests

if importlib.util.find_spec("jax"):
    import jax

    jax.config.update("jax_enable_x64", True)
    # compiling is most of what the tests of small matrices do
    jax.config.update("jax_disable_most_optimizations", True)

BACKENDS = ["numpy", *(name for name in ("torch", "jax") if importlib.util.find_spec(name))]


@pytest.fixture(params=BACKENDS)
def backend(request):
    from cola_core.backends import get_backend

    return get_backend(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


def _spd(rng, n, batch=(), dtype=np.float64):
    X = rng.standard_normal((*batch, n, n + 3))
    return (X @ np.swapaxes(X, -1, -2) / n + np.eye(n)).astype(dtype)


def _with_spectrum(rng, eigenvalues):
    """A symmetric matrix with the given eigenvalues in a random basis."""
    n = len(eigenvalues)
    V, _ = np.linalg.qr(rng.standard_normal((n, n)))
    A = (V * eigenvalues) @ V.T
    return (A + A.T) / 2


@pytest.fixture
def spd():
    """`spd(rng, n, batch=(), dtype=float64)`: well conditioned symmetric positive definite matrices."""
    return _spd


@pytest.fixture
def with_spectrum():
    """`with_spectrum(rng, eigenvalues)`."""
    return _with_spectrum


def _run_together(program, size, *arguments, seconds=240.0, env=None):
    """Run ``program RANK SIZE PORT *arguments`` in ``size`` processes and return what each printed.

    A process that fails or does not end in time ends all of them, and its errors are what is raised."""
    path = Path(__file__).parent / program
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(path), str(rank), str(size), str(port), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        )
        for rank in range(size)
    ]
    try:
        end, told = time.monotonic() + seconds, []
        while any(p.poll() is None for p in started) and time.monotonic() < end:
            if any(p.poll() not in (None, 0) for p in started):
                time.sleep(1.0)  # the others may have something to say, too
                break
            time.sleep(0.05)
        late = [rank for rank, p in enumerate(started) if p.poll() is None]
        for rank in late:
            started[rank].kill()
        for rank, p in enumerate(started):
            out, err = p.communicate(timeout=10)
            told.append(out)
            assert rank in late or p.returncode == 0, f"process {rank}:\n{err[-3000:]}"
        assert not late, f"processes {late} did not end within {seconds} s; {told}"
        return told
    finally:
        for p in started:
            if p.poll() is None:
                p.kill()
                p.wait(timeout=10)


@pytest.fixture
def run_together():
    """`run_together(program, size, *arguments, seconds=240, env=None)`: processes over loopback."""
    return _run_together
