"""Shared pieces of the tests: float64 in JAX, matrices with prescribed structure."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import re
import socket
import subprocess
import sys
import tempfile
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


# somebody else has taken the port between the moment it was found free and its use
PORT_TAKEN = re.compile(
    r"address already in use|EADDRINUSE|failed to (?:bind|add port|listen)", re.IGNORECASE
)


def _run_together(program, size, *arguments, seconds=480.0, env=None):
    """Run ``program RANK SIZE PORT *arguments`` in ``size`` processes and return what each printed.

    A process that fails or does not end in time ends all of them, and its errors are what is raised; if they
    say that the port was taken, all is run again on another."""
    for last in (False, False, True):
        codes, said, errors = _once_together(program, size, *arguments, seconds=seconds, env=env)
        if last or not any(
            code and PORT_TAKEN.search(text) for code, text in zip(codes, errors, strict=True)
        ):
            break
    for rank, (code, text) in enumerate(zip(codes, errors, strict=True)):
        assert code in (None, 0), f"process {rank} ended with {code}:\n{text[-3000:]}"
    late = [rank for rank, code in enumerate(codes) if code is None]
    assert not late, f"processes {late} did not end within {seconds} s; {said}; {errors[late[0]][-3000:]}"
    return said


def _once_together(program, size, *arguments, seconds, env):
    """What each process ended with (None: it was ended), printed and reported. None of them is left."""
    path = Path(__file__).parent / program
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with contextlib.ExitStack() as stack:
        # files, not pipes: a process whose pipe is full waits, and the others for it
        files = [[stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2)] for _ in range(size)]
        started = []
        try:
            for rank, (out, err) in enumerate(files):
                started.append(
                    subprocess.Popen(
                        [
                            sys.executable,
                            "-W",
                            "ignore",
                            str(path),
                            str(rank),
                            str(size),
                            str(port),
                            *arguments,
                        ],
                        stdout=out,
                        stderr=err,
                        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
                    )
                )
            end = time.monotonic() + seconds
            while any(p.poll() is None for p in started) and time.monotonic() < end:
                if any(p.poll() not in (None, 0) for p in started):
                    time.sleep(1.0)  # the others may have something to say, too
                    break
                time.sleep(0.05)
            codes = [p.poll() for p in started]
        finally:
            for p in started:
                if p.poll() is None:
                    p.kill()
                p.wait()
        for file in itertools.chain.from_iterable(files):
            file.seek(0)
        return codes, [out.read() for out, _ in files], [err.read() for _, err in files]


@pytest.fixture
def run_together():
    """`run_together(program, size, *arguments, seconds=480, env=None)`: processes over loopback."""
    return _run_together
