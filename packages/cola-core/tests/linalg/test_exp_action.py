"""``exp(A) @ b`` from products with A: accuracy on non-normal operators, and honesty."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
import scipy.sparse as sp

import cola_core as cola
from cola_core import ops
from cola_core.algorithms import ExpAction

N = 12


def matrices(rng):
    g = rng.normal(size=(N, N))
    return {
        "general": g,
        "large": 20 * g,
        "nilpotent": np.diag(30 * np.ones(N - 1), 1),
        "jordan": np.diag(-2 * np.ones(N)) + np.diag(np.ones(N - 1), 1),
        "decaying": g - 60 * np.eye(N),  # terms of the series cancel unless it is shifted
        "skew": g - g.T,
        "zero": np.zeros((N, N)),
        "tiny": 1e-300 * g,
    }


@pytest.mark.parametrize("name", list(matrices(np.random.default_rng(0))))
@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128"])
@pytest.mark.parametrize("library", ["numpy", "torch"], indirect=False)
def test_against_the_dense_exponential(backend, dtype, name, rng):
    M = matrices(rng)[name].astype(dtype)
    if dtype == "complex128":
        M = M * np.exp(0.3j)
    b = rng.normal(size=(N, 3)).astype(dtype)
    E = cola.exp(cola.no_dispatch(ops.Dense(backend.asarray(M))), ExpAction())
    eps = np.finfo(dtype).eps
    wide = M.astype("complex128" if "complex" in dtype else "float64")
    size = 1 + np.abs(wide).sum(0).max()
    for F, W in ((E, sl.expm(wide)), (E.H, sl.expm(wide.conj().T)), (E.T, sl.expm(wide.T))):
        got = backend.to_numpy(F @ backend.asarray(b))
        assert got.dtype == np.dtype(dtype)
        bound = 300 * eps * size * np.linalg.norm(W) * np.linalg.norm(b)
        assert np.abs(got - W @ b).max() <= max(bound, 1e-300), name
    np.testing.assert_allclose(
        backend.to_numpy(E @ backend.asarray(b[:, 0])),
        backend.to_numpy(E @ backend.asarray(b))[:, 0],
        rtol=1e-4,
    )


def test_a_large_operator_is_never_formed():
    n = 200_000
    ones = np.ones(n)
    A = ops.Sparse.from_scipy(sp.diags([ones[1:], -3 * ones, 2 * ones[1:]], [-1, 0, 1]))
    E = cola.exp(A)
    x = np.zeros(n)
    x[n // 2] = 1
    y = E @ x
    m = 40  # entries far from the middle are zero
    small = sl.expm(np.diag(ones[: 2 * m], -1) - 3 * np.eye(2 * m + 1) + np.diag(2 * ones[: 2 * m], 1))[:, m]
    np.testing.assert_allclose(y[n // 2 - m : n // 2 + m + 1], small, atol=1e-14)
    back = cola.inv(E) @ y
    np.testing.assert_allclose(back, x, atol=1e-9)
    assert np.isclose(cola.logdet(E), -3.0 * n)
    with pytest.raises(cola.errors.MemoryBudgetError):
        E.to_dense()


def test_operators_without_adjoint_batches_and_complex_vectors(rng):
    M = rng.normal(size=(N, N))
    A = ops.FunctionOperator(lambda v: M @ v, (N, N))
    b = rng.normal(size=(2, N, 2)) + 1j * rng.normal(size=(2, N, 2))
    np.testing.assert_allclose(cola.exp(A, ExpAction()) @ b, sl.expm(M) @ b, atol=1e-10)
    Ms = rng.normal(size=(3, N, N))
    E = cola.exp(ops.Dense(Ms), ExpAction())
    np.testing.assert_allclose(E @ b[0].real, sl.expm(Ms) @ b[0].real, atol=1e-10)
    np.testing.assert_allclose(E.to_dense(), sl.expm(Ms), atol=1e-10)
    for n in (0, 1):
        E = cola.exp(ops.Dense(2 * np.ones((n, n))), ExpAction())
        np.testing.assert_allclose(E @ np.ones((n, 2)), np.exp(2) * np.ones((n, 2)), rtol=1e-14)


def test_too_few_steps_are_announced(rng):
    M = 50 * rng.normal(size=(N, N))
    with pytest.warns(cola.ConvergenceWarning):
        cola.exp(M, ExpAction(steps=1)) @ np.ones(N)
    with pytest.raises(cola.errors.NonFiniteError):
        cola.exp(M, ExpAction()) @ np.full(N, np.nan)


def test_torch_gradients(rng):
    torch = pytest.importorskip("torch")
    M = torch.as_tensor(rng.normal(size=(4, 4)), dtype=torch.float64).requires_grad_()
    b = torch.as_tensor(rng.normal(size=(4,)), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda M, b: cola.exp(ops.Dense(M), ExpAction()) @ b, (M, b))


def test_jax_compiles_and_differentiates(rng):
    jax = pytest.importorskip("jax")
    M, b = jax.numpy.asarray(rng.normal(size=(N, N))), jax.numpy.asarray(rng.normal(size=N))
    D = jax.numpy.asarray(rng.normal(size=(N, N)))

    def value(t):
        return jax.numpy.sum(cola.exp(ops.Dense(M + t * D), ExpAction()) @ b)

    want = float(np.sum(sl.expm(np.asarray(M)) @ np.asarray(b)))
    h = 1e-5
    ends = [np.sum(sl.expm(np.asarray(M + s * h * D)) @ np.asarray(b)) for s in (1, -1)]
    got, slope = jax.jit(jax.value_and_grad(value))(0.0)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * h), rtol=1e-6)
    np.testing.assert_allclose(value(0.0), want, rtol=1e-12)  # run as it is written
