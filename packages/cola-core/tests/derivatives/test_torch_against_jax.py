"""The same gradients from PyTorch and JAX, which differ by a conjugate, with all their digits."""

import numpy as np
import pytest
from grid import cells, derivatives

from cola_core.testing.compare import host
from cola_core.testing.precision import precision

SAMPLE = (
    "solve/kronecker/auto",
    "slogdet/toeplitz/auto",
    "inv_quad_logdet/nested-lowrank-diagonal/auto",
    "eigh/dense-selfadjoint/auto",
    "exp/dense/auto",
    "solve/problem/cg",
)


@pytest.mark.parametrize("name", SAMPLE)
def test_gradients_agree(name):
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    (cell,) = (c for c in cells() if c.id == name)
    found = {}
    for library in ("torch", "jax"):
        f = derivatives(cell, library, "complex128")
        with precision(library, "complex128"):
            found[library] = [host(g) for g in f.modes.gradient(f.loss, f.put(f.arrays))]
    for ours, theirs in zip(found["torch"], found["jax"], strict=True):
        np.testing.assert_allclose(ours, np.conj(theirs), rtol=1e-7, atol=1e-8 * np.abs(ours).max())
