"""Random pivots proposed in blocks, and recurrences that stop at a residual."""

import numpy as np
import pytest

import cola_core as cola
from cola_core.algorithms import lanczos_tridiagonal
from cola_core.backends import get_backend
from cola_core.preconditioners import RPCholesky


def kernel(n, d, seed):
    x = np.random.default_rng(seed).uniform(size=(n, d))
    return np.exp(-8 * ((x[:, None] - x) ** 2).sum(-1))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_blocks_are_as_good_as_single_steps(seed):
    K = kernel(300, 2, seed)
    A = cola.PSD(cola.ops.Dense(K))
    errors = {}
    for block in (1, 5, 25):
        found = RPCholesky(rank=60, tol=0.0, key=seed, block=block).approximate(A)
        rest = K - found.factor @ found.factor.T
        assert found.factor.shape == (300, 60) and len(set(found.pivots.tolist())) == 60
        np.testing.assert_allclose(np.diag(rest), found.residual, atol=1e-12)
        np.testing.assert_allclose(rest[found.pivots], 0, atol=1e-10)  # interpolates at the pivots
        assert np.linalg.eigvalsh(rest)[0] > -1e-12
        errors[block] = float(found.trace_error)
    assert max(errors.values()) < 3 * min(errors.values())


def test_blocks_stop_early_and_where_nothing_is_left():
    K = kernel(300, 1, 0)
    found = RPCholesky(rank=200, tol=1e-4, block=4).approximate(cola.PSD(cola.ops.Dense(K)))
    assert found.factor.shape[1] < 60 and float(found.trace_error) <= 1e-4 * 300
    ones = cola.PSD(cola.ops.Dense(np.ones((150, 150))))
    assert RPCholesky(rank=120, tol=0.0).approximate(ones).factor.shape == (150, 1)
    assert RPCholesky(rank=120).approximate(cola.PSD(cola.ops.Dense(np.zeros((150, 150))))).factor.shape == (
        150,
        0,
    )


def test_blocks_of_a_torch_operator():
    torch = pytest.importorskip("torch")
    K = kernel(200, 2, 3)
    found = RPCholesky(rank=100, key=1).approximate(cola.PSD(cola.ops.Dense(torch.asarray(K))))
    want = RPCholesky(rank=100, key=1).approximate(cola.PSD(cola.ops.Dense(K)))
    assert found.pivots.tolist() == want.pivots.tolist()
    np.testing.assert_allclose(found.factor.numpy(), want.factor, atol=1e-8)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_lanczos_stops_at_a_residual_and_solves(library):
    pytest.importorskip(library)
    be = get_backend(library)
    rng = np.random.default_rng(0)
    M = np.eye(80) + kernel(80, 2, 1)
    B = rng.normal(size=(80, 3))
    A = cola.PSD(cola.ops.Dense(be.asarray(M)))
    T = lanczos_tridiagonal(A, be.asarray(B), 60, tol=1e-6)
    assert T.alpha.shape[0] < 40 or library == "jax"
    left = be.to_numpy(T.residuals(be))
    X = be.to_numpy(T.solve(be))
    true = np.linalg.norm(B - M @ X, axis=0) / np.linalg.norm(B, axis=0)
    assert true.max() < 2e-6
    if library != "jax":
        np.testing.assert_allclose(left, true, rtol=1e-3)
    w, Q = np.linalg.eigh(M)
    want = ((Q.T @ B) ** 2 * np.log(w)[:, None]).sum(0)
    np.testing.assert_allclose(be.to_numpy(T.quadrature(be, be.xp.log)), want, rtol=1e-9)


def test_lanczos_after_a_breakdown_is_exact():
    A = cola.PSD(cola.ops.Diagonal(np.repeat([1.0, 3.0], 20)))
    B = np.random.default_rng(1).normal(size=(40, 2))
    T = lanczos_tridiagonal(A, B, 10)
    be = get_backend("numpy")
    np.testing.assert_allclose(A @ T.solve(be), B, atol=1e-12)
    assert T.residuals(be).max() == 0


@cola.operators.operator
class Told(cola.operators.LinearOperator):
    """An operator of a plugin that can tell its columns, and whose products are counted."""

    array: object

    def _shape(self):
        return self.array.shape

    def _matmat(self, X):
        raise AssertionError("columns are to be read, not multiplied for")

    def columns(self, index):
        return self.array[:, index]


def test_columns_of_an_operator_that_can_tell_them():
    K = kernel(120, 2, 0)
    told = cola.PSD(Told(K))
    with_rule = RPCholesky(rank=20, tol=0.0)
    want = with_rule.approximate(cola.PSD(cola.ops.Dense(K)))
    from cola_core.operators.selection import some_columns

    np.testing.assert_array_equal(some_columns(told, np.array([3, 5])), K[:, [3, 5]])
    assert want.factor.shape == (120, 20)
