"""Backends and dtypes that the core's tests run over; a missing library skips visibly."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the zoo, for the tests beside this file

from zoo import DTYPES, installed  # noqa: E402

if installed("jax"):
    import jax

    jax.config.update("jax_enable_x64", True)

BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
    for name in ("numpy", "torch", "jax")
]


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
