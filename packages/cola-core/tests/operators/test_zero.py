"""``Zero``: arithmetic with it, and every question answered without an array of its size."""

from __future__ import annotations

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops


def test_normal_forms(backend, dtype):
    A = ops.Dense(backend.asarray(np.ones((3, 4), dtype)))
    D = ops.Diagonal(backend.asarray(np.ones(3, dtype)))
    Z = ops.Zero(3, 4)
    assert A + Z is A and Z + A is A and A + 0 is A and 0 + A is A and sum([A, A]).shape == (3, 4)
    for got, shape in (
        (A.H @ Z, (4, 4)),
        (ops.Zero(2, 3) @ A, (2, 4)),
        (cola.kron(Z, A), (9, 16)),
        (0 * A, (3, 4)),
        (0 * D, (3, 3)),
        (ops.ScalarMul(0, 3) @ A, (3, 4)),
        (2j * Z, (3, 4)),
        (Z.T, (4, 3)),
        (Z.H, (4, 3)),
        (ops.Zero(3) @ D, (3, 3)),
    ):
        assert isinstance(got, ops.Zero) and got.shape == shape
    product = A.H @ Z
    assert product.backend is backend and str(product.dtype).endswith(dtype)
    x = backend.asarray(np.full(4, np.nan, dtype))
    y = Z @ x
    assert y.shape == (3,) and y.dtype == x.dtype and not np.any(backend.to_numpy(y))  # whatever x holds


def test_one_notion_of_zero():
    D = ops.Diagonal(np.ones(3))
    assert D + ops.ScalarMul(0, 3) is D and D + ops.Zero(3) is D and D + 0 * D is D
    assert ops.is_zero(ops.ScalarMul(0.0, 3)) and ops.is_zero(ops.Zero(2, 3))
    assert not ops.is_zero(ops.ScalarMul(np.asarray(0.0), 3)), "an array's value is not structure"
    assert isinstance(ops.Zero(3) + ops.Zero(3), ops.Zero)


def test_batches():
    A = ops.Dense(np.ones((4, 4)))
    Z = ops.Zero(4, batch=(2,))
    assert (A + Z).shape == (2, 4, 4) and (Z + A).shape == (2, 4, 4)
    np.testing.assert_array_equal((A + Z).to_dense(), np.ones((2, 4, 4)))
    assert (A @ Z).shape == (2, 4, 4) and (Z @ np.ones((3, 1, 4, 2))).shape == (3, 2, 4, 2)
    B = ops.Dense(np.ones((2, 4, 4)))
    assert B + Z is B
    sign, value = cola.slogdet(Z)
    np.testing.assert_array_equal(sign, np.zeros(2))
    np.testing.assert_array_equal(value, np.full(2, -np.inf))
    assert cola.trace(Z).shape == (2,) and cola.diag(Z).shape == (2, 4)


def test_questions_of_a_large_zero():
    """Nothing of size n x n is made: this one would take eight terabytes."""
    n = 10**6
    Z = ops.Zero(n)
    assert cola.slogdet(Z) == (0, -np.inf) and cola.trace(Z) == 0
    assert cola.diag(Z, 3).shape == (n - 3,) and cola.eigmax(Z) == 0
    np.testing.assert_array_equal(cola.exp(Z) @ np.ones(n), np.ones(n))
    for ask in (lambda: cola.solve(Z, np.ones(n)), lambda: cola.inv(Z)):
        with pytest.raises(cola.errors.SingularMatrixError, match="singular"):
            ask()
    with pytest.raises(cola.errors.NotPositiveDefiniteError):
        cola.cholesky(Z)


def test_empty():
    Z = ops.Zero(0)
    assert cola.slogdet(Z) == (1, 0) and cola.solve(Z, np.ones(0)).shape == (0,)
    assert cola.inv(Z) is Z and cola.cholesky(Z) is Z
    assert (ops.Zero(3, 0) @ np.ones((0, 2))).shape == (3, 2)
    assert ops.Zero((2, 3, 4)).shape == (2, 3, 4)
    for wrong in (lambda: ops.Zero(-1), lambda: ops.Zero((3,)), lambda: ops.Zero((3, 4), 4)):
        with pytest.raises(cola.errors.ShapeError):
            wrong()


def test_derivative_is_zero_not_missing(backend):
    if backend.name == "torch":
        x = backend.xp.ones((3,), requires_grad=True)
        (ops.Zero(2, 3) @ x).sum().backward()
        assert not x.grad.any()
    elif backend.name == "jax":
        import jax

        g = jax.grad(lambda x: (ops.Zero(2, 3) @ x).sum())(backend.xp.ones(3))
        assert not np.asarray(g).any()
