"""Backends and dtypes that the core's tests run over; a missing library skips visibly."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the zoo and compare, for all tests of the core

from zoo import DTYPES, ZOO, installed  # noqa: E402

if installed("jax"):
    import jax

    jax.config.update("jax_enable_x64", True)

BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
    for name in ("numpy", "torch", "jax")
]


def _pairs(only, sampled):
    for i, name in enumerate(ZOO):
        for library in only or ("numpy", "torch", "jax"):
            present = pytest.mark.skipif(not installed(library), reason=f"{library} is not installed")
            # JAX compiles every shape anew (seconds, not milliseconds): each operator in one of the dtypes
            dtypes = DTYPES[i % 4 : i % 4 + 1] if library in sampled else DTYPES
            for dtype in dtypes:
                yield pytest.param(name, library, dtype, id=f"{name}-{library}-{dtype}", marks=present)


def pytest_generate_tests(metafunc):
    """A test that takes ``pair`` runs on every operator of the zoo, backend and dtype."""
    if "pair" in metafunc.fixturenames:
        only = metafunc.config.getoption("--cola-only-backend")
        sampled = {"jax", *metafunc.config.getoption("--cola-sample-backend")}
        metafunc.parametrize(("name", "library", "dtype"), list(_pairs(only, sampled)))
        return
    marked = {m.args[0] for m in metafunc.definition.iter_markers("parametrize")}
    for argument, values in (("library", BACKENDS), ("dtype", DTYPES)):
        if argument in metafunc.fixturenames and argument not in marked:
            metafunc.parametrize(argument, values)


@pytest.fixture
def backend(library):
    from cola_core.backends import get_backend

    return get_backend(library)


@pytest.fixture
def pair(name, backend, dtype, rng):
    """The operator on this backend in this dtype, and its dense matrix in NumPy."""
    build, D = ZOO[name](rng, "complex" in dtype)

    def asarray(x):
        return backend.asarray(np.asarray(x).astype(dtype))

    return build(asarray), D.astype(dtype)


@pytest.fixture
def rng():
    return np.random.default_rng(20240611)
