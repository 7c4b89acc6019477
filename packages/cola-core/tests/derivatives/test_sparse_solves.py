"""Solves with a sparse operator under ``torch.func``, whose adjoint is not stored in order there."""

import numpy as np
import pytest

from cola_core import algorithms, ops, solve
from cola_core.testing.derivatives import check_derivatives


def test_an_iteration_on_a_sparse_operator_differentiates_under_torch_func():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    M = np.where(rng.random((7, 7)) < 0.4, rng.standard_normal((7, 7)), 0) + 4 * np.eye(7)
    rows, cols = np.nonzero(M)
    entries, b = M[rows, cols], rng.standard_normal(7)

    def dense(a):
        N = np.zeros((7, 7))
        N[rows, cols] = a[0]
        return (np.linalg.solve(N, a[1]) ** 2).sum()

    pattern = torch.as_tensor(rows), torch.as_tensor(cols)

    def loss(a):
        A = ops.Sparse(a[0], *pattern, (7, 7))
        return (solve(A, a[1], algorithms.GMRES(tol=1e-12)) ** 2).sum()

    check_derivatives("torch", loss, dense, [entries, b], rtol=1e-5)
    found = torch.func.grad(loss)([torch.as_tensor(entries), torch.as_tensor(b)])
    entries = torch.as_tensor(entries).requires_grad_(True)
    (want,) = torch.autograd.grad(loss([entries, torch.as_tensor(b)]), entries)
    torch.testing.assert_close(found[0], want, rtol=1e-8, atol=1e-10)
