"""Block conjugate gradients: fewer steps, dependent and finished columns, breakdown, flags per column."""

from __future__ import annotations

import numpy as np
import pytest
from problems import poisson, spectrum, with_spectrum
from zoo import installed

import cola_core as cola
from cola_core import CG, BlockCG, ConvergenceWarning, ops

EAGER = [
    "numpy",
    pytest.param("torch", marks=pytest.mark.skipif(not installed("torch"), reason="torch is not installed")),
]


def hidden(backend, M):
    """The matrix as an operator that only multiplies."""
    return cola.no_dispatch(cola.PSD(ops.Dense(backend.asarray(M))))


def relative(M, X, B):
    size = np.linalg.norm(B, axis=0)
    return np.linalg.norm(B - M @ X, axis=0) / np.where(size > 0, size, 1)


@pytest.mark.parametrize("library", EAGER)
@pytest.mark.parametrize("name", ["decaying", "clustered", "step", "flat"])
def test_fewer_steps_than_one_by_one(backend, dtype, name):
    n, k = 80, 6
    M = with_spectrum(spectrum(name, n, 100), 2, "complex" in dtype).astype(dtype)
    B = np.random.default_rng(0).standard_normal((n, k)).astype(dtype)
    X, info = cola.solve(hidden(backend, M), backend.asarray(B), BlockCG(), return_info=True)
    _, single = cola.solve(hidden(backend, M), backend.asarray(B), CG(), return_info=True)
    assert info.converged
    if dtype in ("float64", "complex128"):
        assert info.iterations <= max(single.iterations, 2)
    if name == "decaying":
        assert info.iterations < 0.6 * single.iterations
    assert np.all(relative(M, backend.to_numpy(X), B) <= 1.2 * info.tolerance)


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_dependent_zero_and_badly_scaled_columns(seed, preconditioned):
    rng = np.random.default_rng(seed)
    M = with_spectrum(spectrum("decaying", 60, 1e3), seed, seed == 1)
    B = rng.standard_normal((60, 8))
    B[:, 3] = 0
    B[:, 4] = 1e6 * B[:, 0]
    B[:, 5] = B[:, 1] + B[:, 2]
    B[:, 6] *= 1e-9
    B[:, 7] = B[:, 0] + 1e-12 * B[:, 7]
    P = cola.PSD(ops.Diagonal(1 / np.diag(M).real)) if preconditioned else None
    A = cola.no_dispatch(cola.PSD(ops.Dense(M)))
    X, info = cola.solve(A, B, BlockCG(P=P), return_info=True)
    assert info.converged and np.all(relative(M, X, B) <= 1.2e-8)
    assert not np.any(X[:, 3]) and info.iterations < 60


@pytest.mark.parametrize("seed", range(3))
def test_ill_conditioned_blocks_do_not_break_down(seed):
    rng = np.random.default_rng(seed)
    M = with_spectrum(spectrum("decaying", 80, 1e7), seed)
    A = cola.no_dispatch(cola.PSD(ops.Dense(M)))
    X, info = cola.solve(A, rng.standard_normal((80, 10)), BlockCG(), return_info=True)
    assert info.converged


def test_a_column_that_needs_one_step_beside_others():
    M = np.diag(np.linspace(1.0, 50, 90))
    B = np.random.default_rng(0).standard_normal((90, 4))
    B[:, 0] = np.eye(90)[7]
    B[:, 1] = np.eye(90)[3] + np.eye(90)[60]
    X, info = cola.solve(cola.no_dispatch(cola.PSD(ops.Dense(M))), B, BlockCG(), return_info=True)
    assert info.converged
    np.testing.assert_allclose(M @ X, B, atol=1e-6)


@pytest.mark.parametrize("library", EAGER)
def test_few_eigenvalues_end_early_and_exactly(backend):
    B = np.random.default_rng(1).standard_normal((40, 5))
    for D in (3 * np.eye(40), np.diag([2.0] * 20 + [5.0] * 20), np.eye(40) + np.ones((40, 40))):
        X, info = cola.solve(hidden(backend, D), backend.asarray(B), BlockCG(), return_info=True)
        assert info.converged and info.iterations <= 3
        np.testing.assert_allclose(D @ backend.to_numpy(X), B, atol=1e-9)


@pytest.mark.parametrize("library", EAGER)
@pytest.mark.parametrize("shape", [(5, 9), (1, 3), (0, 2), (4, 0), (4, 1), (4,)])
def test_shapes(backend, shape):
    n = shape[0]
    M = np.diag(np.arange(1.0, n + 1))
    X = cola.solve(hidden(backend, M), backend.asarray(np.ones(shape)), BlockCG())
    assert tuple(X.shape) == shape
    want = (1 / np.arange(1.0, n + 1))[(...,) + (None,) * (len(shape) - 1)] * np.ones(shape)
    np.testing.assert_allclose(backend.to_numpy(X), want)


@pytest.mark.parametrize("library", EAGER)
def test_batches(backend):
    M = np.stack([with_spectrum(spectrum("decaying", 12, 20), s) for s in range(3)])
    B = np.random.default_rng(0).standard_normal((3, 12, 3))
    B[1, :, 2] = B[1, :, 0]
    A = cola.PSD(ops.Dense(backend.asarray(M)))
    X = cola.solve(A, backend.asarray(B), BlockCG())
    np.testing.assert_allclose(backend.to_numpy(X), np.linalg.solve(M, B), atol=1e-6)


def test_what_goes_wrong_is_named():
    B = np.random.default_rng(0).standard_normal((30, 4))
    M = with_spectrum(np.r_[-3.0, np.linspace(1, 9, 29)])
    with pytest.warns(ConvergenceWarning, match="not positive definite"):
        cola.solve(cola.no_dispatch(cola.PSD(ops.Dense(M))), B, BlockCG())
    M = np.diag(np.r_[0.0, np.ones(29)])
    _, info = cola.solve(
        cola.no_dispatch(cola.PSD(ops.Dense(M))), B, BlockCG(), return_info=True, on_failure="ignore"
    )
    assert not info.converged
    A = cola.PSD(ops.FunctionOperator(lambda v: v * np.nan, (30, 30)))
    with pytest.warns(ConvergenceWarning, match="NaN"):
        cola.solve(A, B, BlockCG())
    A = cola.no_dispatch(cola.PSD(ops.Dense(np.diag(np.arange(1.0, 31)))))
    wrong = cola.PSD(ops.Diagonal(-np.ones(30)))
    with pytest.warns(ConvergenceWarning, match="preconditioner"):
        cola.solve(A, B, BlockCG(P=wrong))
    _, info = cola.solve(A, B, BlockCG(max_iters=2), return_info=True, on_failure="ignore")
    assert info.iterations == 2 and not info.converged and len(info.reasons) == 4


def test_preconditioner_and_first_guess_are_used():
    M = with_spectrum(spectrum("decaying", 50, 1e4), 1)
    B = np.random.default_rng(0).standard_normal((50, 3))
    A, inverse, calls = cola.no_dispatch(cola.PSD(ops.Dense(M))), np.linalg.inv(M), []

    def apply(v):
        calls.append(1)
        return inverse @ v

    P = cola.PSD(ops.FunctionOperator(apply, (50, 50), matmat=apply))
    _, info = cola.solve(A, B, BlockCG(P=P), return_info=True)
    assert info.converged and info.iterations <= 2 and calls
    _, info = cola.solve(A, B, BlockCG(x0=inverse @ B), return_info=True)
    assert info.converged and info.iterations == 0


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_units_change_nothing(scale):
    M = poisson(12, 11).toarray()
    B = np.random.default_rng(0).standard_normal((132, 5))
    steps = [
        cola.solve(cola.no_dispatch(cola.PSD(ops.Dense(s * M))), t * B, BlockCG(), return_info=True)[1]
        for s, t in ((1.0, 1.0), (scale, 1.0), (1.0, scale))
    ]
    assert all(info.converged for info in steps) and len({info.iterations for info in steps}) == 1


def test_float32_of_many_unknowns():
    M = poisson(200, 250).astype(np.float32)
    A = cola.PSD(ops.Sparse.from_scipy(M))
    B = np.random.default_rng(0).standard_normal((M.shape[0], 8)).astype(np.float32)
    X, info = cola.solve(A, B, BlockCG(tol=1e-3), return_info=True)
    assert info.converged and X.dtype == np.float32


def test_compiled_and_differentiated_by_jax():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    M = with_spectrum(spectrum("decaying", 12, 10), 1)
    B = np.random.default_rng(0).standard_normal((12, 3))
    B[:, 2] = B[:, 0]

    def solve(M, B):
        return cola.solve(cola.no_dispatch(cola.PSD(ops.Dense(M))), B, BlockCG(tol=1e-11), return_info=True)

    X, info = jax.jit(solve)(jnp.asarray(M), jnp.asarray(B))
    np.testing.assert_allclose(X, np.linalg.solve(M, B), atol=1e-8)
    assert bool(info.converged)
    got = jax.grad(lambda M: jnp.sum(solve(M, jnp.asarray(B))[0]))(jnp.asarray(M))
    want = -np.linalg.solve(M, np.ones((12, 3))) @ np.linalg.solve(M, B).T
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_derivatives_in_torch():
    torch = pytest.importorskip("torch")
    M = torch.tensor(with_spectrum(spectrum("flat", 8), 1), requires_grad=True)
    B = torch.tensor(np.random.default_rng(0).standard_normal((8, 2)), requires_grad=True)

    def f(M, B):
        A = cola.no_dispatch(cola.PSD(ops.Dense((M + M.T) / 2)))
        return cola.solve(A, B, BlockCG(tol=1e-12))

    assert torch.autograd.gradcheck(f, (M, B))


def test_chosen_for_many_right_sides():
    n = 200_000
    A = cola.PSD(ops.FunctionOperator(lambda v: 3 * v - np.roll(v, 1) - np.roll(v, -1), (n, n)))
    assert "block" in str(cola.explain(cola.solve, A, np.ones((n, 8)))).lower()
    assert "block" not in str(cola.explain(cola.solve, A, np.ones(n))).lower()
