"""Backends and dtypes that the core's tests run over; a missing library skips visibly."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the zoo, for the tests beside this file


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


if installed("jax"):
    import jax

    jax.config.update("jax_enable_x64", True)

BACKENDS = [
    pytest.param("numpy"),
    pytest.param("torch", marks=pytest.mark.skipif(not installed("torch"), reason="torch is not installed")),
    pytest.param("jax", marks=pytest.mark.skipif(not installed("jax"), reason="jax is not installed")),
]
DTYPES = ["float64", "float32", "complex128", "complex64"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    from cola_core.backends import get_backend

    return get_backend(request.param)


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20240611)
