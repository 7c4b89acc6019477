"""Direct solutions are checked, too: condition, residual, error estimate, and a second try where it pays."""

from __future__ import annotations

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.algorithms.condition import inverse_norm1


def growing(n):
    """Wilkinson's matrix: well conditioned, but partial pivoting multiplies its last column by 2^(n-1)."""
    W = np.eye(n) - np.tril(np.ones((n, n)), -1)
    W[:, -1] = 1
    return W


@pytest.mark.parametrize("n", [33, 60])
def test_an_unstable_factorisation_is_noticed_and_mended(backend, rng, n):
    W = growing(n)
    for M in (W, W.T.copy()):
        x = rng.normal(size=n)
        b = M @ x
        got = cola.solve(ops.Dense(backend.asarray(M)), backend.asarray(b))
        np.testing.assert_allclose(backend.to_numpy(got), x, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e12])
@pytest.mark.parametrize("algorithm", [cola.LU])
def test_the_error_estimate_of_a_direct_solution_covers_its_error(backend, rng, algorithm, scale):
    n = 24
    Q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    for condition in (1e1, 1e6, 1e12):
        M = scale * (Q * np.geomspace(1, 1 / condition, n)) @ Q.T
        x = rng.normal(size=n)
        A = ops.Dense(backend.asarray(M))
        got, info = cola.solve(A, backend.asarray(M @ x), algorithm(), return_info=True)
        error = np.abs(backend.to_numpy(got) - x).sum() / np.abs(x).sum()
        assert error <= info.error_estimate <= 1e5 * max(error, 1e-16 * condition)
        assert condition / n <= info.condition <= n**2 * condition
        assert info.residual < 1e-12


def test_condition_estimates_from_solves_are_close(backend, rng):
    for n in (1, 2, 7, 30):
        M = rng.normal(size=(n, n))
        inverse = np.linalg.inv(M)
        got = inverse_norm1(
            backend,
            lambda b, inverse=inverse: backend.asarray(inverse) @ b,
            lambda b, inverse=inverse: backend.asarray(inverse.T.copy()) @ b,
            n,
            "float64",
        )
        want = np.linalg.norm(inverse, 1)
        assert want / 4 <= float(got) <= want * (1 + 1e-12)


def test_inside_a_compiled_function(rng):
    jax = pytest.importorskip("jax")
    a, x = rng.normal(size=(9, 9)), rng.normal(size=9)
    solve = jax.jit(lambda a, b: cola.solve(ops.Dense(a), b, cola.LU(), return_info=True))
    got, info = solve(jax.numpy.asarray(a), jax.numpy.asarray(a @ x))
    np.testing.assert_allclose(got, x, atol=1e-10)
    condition = np.linalg.cond(a, 1)
    assert condition / 10 < float(info.condition) <= condition * 1.01 and float(info.residual) < 1e-12
    assert float(info.error_estimate) < 1e-8
