"""Every test runs on every array library that is installed; jax in double precision."""

import pytest

from cola_core.backends import get_backend


@pytest.fixture(params=["numpy", "torch", "jax"])
def backend(request):
    pytest.importorskip(request.param)
    if request.param != "jax":
        yield get_backend(request.param)
        return
    import jax

    with jax.enable_x64(True):
        yield get_backend("jax")
