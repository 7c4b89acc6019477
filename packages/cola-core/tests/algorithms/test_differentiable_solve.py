"""The public door for solvers of plugins: values, both derivatives, and a report of the derivative's own."""

from __future__ import annotations

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.algorithms import differentiable_solve
from cola_core.info import Info


def solver(be, A, b, wrong=False):
    """A direct solve that says it converged, but for derivatives if wrong."""

    def value(A, B):
        return be.xp.linalg.solve(A.to_dense(), B), None

    def again(A, B):
        return (
            be.xp.linalg.solve(A.to_dense(), B),
            Info(method="toy", converged=not wrong, residual=0.5),
            None,
        )

    return differentiable_solve(be, A, b, value, again, again, lambda A, X, B, found: Info(method="toy"))


def test_torch(rng):
    torch = pytest.importorskip("torch")
    be = ops.Dense(torch.eye(1)).backend
    M = torch.tensor(rng.standard_normal((4, 4)) + 4 * np.eye(4), requires_grad=True)
    b = torch.tensor(rng.standard_normal((4, 2)), requires_grad=True)
    assert torch.autograd.gradcheck(lambda M, b: solver(be, ops.Dense(M), b), (M, b))
    assert torch.autograd.gradgradcheck(lambda M, b: solver(be, ops.Dense(M), b), (M, b))
    x = solver(be, ops.Dense(M), b, wrong=True)
    with cola.infos() as found, pytest.warns(cola.errors.ConvergenceWarning, match="gradient of solve"):
        x.sum().backward()
    assert [i.method for i in found] == ["gradient of toy"]


def test_jax(rng):
    jax = pytest.importorskip("jax")
    M, b = jax.numpy.asarray(rng.standard_normal((3, 3)) + 4 * np.eye(3)), jax.numpy.ones((3, 1))
    be = ops.Dense(M).backend
    got = jax.grad(lambda M: (solver(be, ops.Dense(M), b) ** 2).sum())(M)
    want = jax.grad(lambda M: (jax.numpy.linalg.solve(M, b) ** 2).sum())(M)
    np.testing.assert_allclose(got, want, rtol=1e-5)
