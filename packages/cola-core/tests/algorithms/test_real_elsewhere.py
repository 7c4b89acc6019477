"""Real problems on every array library: a mesh that ships with pyamg, and double eigenvalues of a square."""

import numpy as np
import pytest
import scipy.sparse as sp
from problems import poisson, poisson_eigenvalues, pyamg_example

import cola_core as cola
from cola_core.backends import get_backend


def sparse(library, M):
    A = cola.PSD(cola.ops.Sparse.from_scipy(sp.csr_array(M)))
    return A if library == "numpy" else A.to(backend=library)


@pytest.mark.parametrize("alg", ["auto", "cg"])
def test_a_mesh(library, alg):
    be, M = get_backend(library), pyamg_example("airfoil")
    x = np.random.default_rng(0).standard_normal(M.shape[0])
    found, info = cola.solve(sparse(library, M), be.asarray(M @ x), alg, return_info=True)
    assert info.converged and np.linalg.norm(be.to_numpy(found) - x) <= 2e-6 * np.linalg.norm(x)


@pytest.mark.parametrize("alg", ["lanczos"])
def test_double_eigenvalues(library, alg):
    be, w = get_backend(library), poisson_eigenvalues(10, 10)
    found, V = cola.eigh(sparse(library, poisson(10, 10)), 5, "SA", alg)
    assert np.abs(np.sort(be.to_numpy(found)) - w[:5]).max() <= 1e-9 * w[-1]
    assert V.shape == (100, 5)
