"""NumPy's Cholesky factors, solves and inverses, for every order of the entries in memory."""

import numpy as np
import pytest

from cola_core.backends import get_backend
from cola_core.errors import NotPositiveDefiniteError, SingularMatrixError

ORDERS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "strided": lambda A: np.repeat(A, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("order", list(ORDERS))
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("n", [1, 2, 131])
def test_factor_solve_and_inverse(n, dtype, order):
    be = get_backend("numpy")
    rng = np.random.default_rng(n)
    A = rng.normal(size=(n, n)).astype(dtype)
    if dtype == "complex128":
        A = A + 1j * rng.normal(size=(n, n))
    A = A @ A.conj().T / n + np.eye(n, dtype=dtype)
    upper = np.triu(np.full((n, n), np.nan), 1)  # only the lower triangle is read
    given = ORDERS[order](np.where(np.isnan(upper), upper, A).astype(dtype))
    before = given.copy()
    L = be.cholesky(given)
    tol = 2e-5 if dtype == "float32" else 1e-12
    assert L.dtype == A.dtype and np.array_equal(L, np.tril(L))
    np.testing.assert_allclose(L @ L.conj().T, A, atol=tol)
    np.testing.assert_array_equal(given, before)
    for factor in (np.ascontiguousarray(L), np.asfortranarray(L)):
        inverse = be.cholesky_inverse(factor)
        np.testing.assert_allclose(inverse @ A, np.eye(n), atol=10 * tol)
        np.testing.assert_allclose(inverse, inverse.conj().T, atol=tol)
        B = rng.normal(size=(n, 3)).astype(dtype)
        np.testing.assert_allclose(A @ be.cholesky_solve(factor, B), B, atol=10 * tol)


def test_failures_are_said():
    be = get_backend("numpy")
    with pytest.raises(NotPositiveDefiniteError):
        be.cholesky(np.diag([1.0, -1.0]))
    assert np.isnan(be.cholesky(np.diag([1.0, -1.0]), check=False)[1, 1])
    with pytest.raises(SingularMatrixError, match="entry 1"):
        be.cholesky_inverse(np.diag([1.0, 0.0]))


def test_the_diagonal_is_added_to_a_copy():
    be = get_backend("numpy")
    M = np.ones((2, 3, 3))
    out = be.add_diagonal(M, np.arange(3.0))
    np.testing.assert_array_equal(out, M + np.diag(np.arange(3.0)))
    assert M.max() == 1 and be.add_diagonal(M[0], np.asarray(2.0)).trace() == 9
