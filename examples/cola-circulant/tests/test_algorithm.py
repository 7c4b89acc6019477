"""CirculantCG: found by name, right, and worth its preconditioner."""

import numpy as np
import pytest
import scipy.linalg

import cola_core as cola
from cola_circulant import Circulant, CirculantCG, optimal_circulant

rng = np.random.default_rng(2)


def toeplitz(backend, n=200):
    T = scipy.linalg.toeplitz(0.95 ** np.arange(n))
    return cola.PSD(backend.asarray(T)), T


def test_by_name(backend):
    A, T = toeplitz(backend)
    b = rng.standard_normal((len(T), 2))
    x, info = cola.solve(A, backend.asarray(b), "circulant-cg", return_info=True)
    assert info.converged
    np.testing.assert_allclose(T @ backend.to_numpy(x), b, atol=1e-6)


def test_needs_fewer_steps_than_cg(backend):
    A, T = toeplitz(backend)
    b = backend.asarray(rng.standard_normal(len(T)))
    _, plain = cola.solve(A, b, cola.CG(), return_info=True)
    _, ours = cola.solve(A, b, CirculantCG(), return_info=True)
    assert 5 * ours.iterations < plain.iterations


def test_only_on_request():
    A, T = toeplitz(cola.backends.get_backend("numpy"))
    plan = cola.explain(cola.solve, A, np.ones(len(T)), candidates=True)
    assert ("circulant:solve/circulant-cg", "only on request (alg=...)") in [
        r[:2] for r in plan.root.rejected
    ]


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_preconditioner_is_optimal(dtype):
    """Against the definition: the projection onto powers of the cyclic shift."""
    n = 6
    M = rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if "complex" in dtype else 0)
    want = [np.trace(np.roll(np.eye(n), k, axis=0).T @ M) / n for k in range(n)]
    np.testing.assert_allclose(optimal_circulant(cola.ops.Dense(M), toeplitz=False).column, want)
    T = scipy.linalg.toeplitz(M[0], None)
    T[np.diag_indices(n)] = np.real(T[0, 0])
    A = cola.SelfAdjoint(T)
    got, exact = optimal_circulant(A), optimal_circulant(A, toeplitz=False)
    np.testing.assert_allclose(got.column, exact.column, atol=1e-14)


def test_far_from_toeplitz_is_slow_but_right():
    G = rng.standard_normal((30, 30))
    A, b = cola.PSD(G @ G.T + np.eye(30)), rng.standard_normal(30)
    x, info = cola.solve(A, b, CirculantCG(max_iters=2000), return_info=True)
    assert info.converged
    np.testing.assert_allclose(A @ x, b, atol=1e-6)


def test_its_own_matrix_takes_one_step():
    C = cola.PSD(Circulant(np.array([4.0, 1.0, 0.5, 1.0])))
    b = rng.standard_normal(4)
    # no_dispatch hides the structure from the rules, so that the algorithm gets to see a circulant
    x, info = cola.solve(cola.PSD(cola.no_dispatch(C)), b, CirculantCG(), return_info=True)
    assert info.iterations <= 2
    np.testing.assert_allclose(C @ x, b, atol=1e-8)
