"""Shared pieces of the tests: float64 in JAX, matrices with prescribed structure."""

from __future__ import annotations

import importlib.util
import sys
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
