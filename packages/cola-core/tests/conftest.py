"""Backends and dtypes that the core's tests run over; a missing library skips visibly."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the zoo and compare, for all tests of the core

from zoo import DTYPES, ZOO, installed  # noqa: E402

if installed("jax"):
    import jax

    jax.config.update("jax_enable_x64", True)

LIBRARIES = ("numpy", "torch", "jax")

BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
    for name in LIBRARIES
]


JAX_SHARE = 24  # JAX compiles every shape anew: each question asks one in so many operators, in turn

JAX_DTYPES = ("float64", "complex64")  # what takes a dtype runs in one of these on JAX


def _pairs(only, sampled, question):
    for i, name in enumerate(ZOO):
        for library in only or LIBRARIES:
            present = pytest.mark.skipif(not installed(library), reason=f"{library} is not installed")
            # JAX compiles every shape anew (seconds, not milliseconds): each operator in one of the dtypes
            dtypes = DTYPES[i % 4 : i % 4 + 1] if library in sampled else DTYPES
            left_out = library == "jax" and (i + len(question)) % JAX_SHARE > 0
            turn = pytest.mark.skipif(left_out, reason=f"on JAX one in {JAX_SHARE} operators is asked this")
            for dtype in dtypes:
                yield pytest.param(
                    name, library, dtype, id=f"{name}-{library}-{dtype}", marks=(present, turn)
                )


def pytest_generate_tests(metafunc):
    """A test that takes ``pair`` runs on every operator of the zoo, backend and dtype."""
    if "pair" in metafunc.fixturenames:
        only = metafunc.config.getoption("--cola-only-backend")
        sampled = {"jax", *metafunc.config.getoption("--cola-sample-backend")}
        metafunc.parametrize(
            ("name", "library", "dtype"), list(_pairs(only, sampled, metafunc.function.__name__))
        )
        return
    marked = {m.args[0] for m in metafunc.definition.iter_markers("parametrize")}
    wanted = {"library", "dtype"} & set(metafunc.fixturenames) - marked
    if wanted == {"library", "dtype"}:
        question = metafunc.function.__name__
        metafunc.parametrize(("library", "dtype"), [p for name in LIBRARIES for p in _dtypes(name, question)])
    elif "library" in wanted:
        metafunc.parametrize("library", BACKENDS)
    elif "dtype" in wanted:
        metafunc.parametrize("dtype", DTYPES)


def _dtypes(library, question):
    """All dtypes; on JAX one of two in turn, a real and a complex one."""
    present = pytest.mark.skipif(not installed(library), reason=f"{library} is not installed")
    only = JAX_DTYPES[len(question) % len(JAX_DTYPES)]
    for dtype in DTYPES:
        left_out = library == "jax" and dtype != only
        turn = pytest.mark.skipif(left_out, reason="on JAX in one of two dtypes, in turn")
        yield pytest.param(library, dtype, id=f"{library}-{dtype}", marks=(present, turn))


def pytest_collection_finish(session):
    """Tens of thousands of tests stay until the end: no collection of garbage need look at them."""
    gc.collect()
    gc.freeze()


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


_FINISHED = [0]


@pytest.fixture(autouse=True)
def _forget_programs():
    """JAX keeps every program it has compiled: thousands of tests would fill the memory with them."""
    yield
    _FINISHED[0] += 1
    if _FINISHED[0] % 200 == 0 and "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
