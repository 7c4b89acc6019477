"""MINRES and MINRES-QLP against dense references: indefinite, singular, inconsistent, badly scaled."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from problems import indefinite, poisson, with_spectrum
from zoo import installed

import cola_core as cola
from cola_core import MINRES, MINRESQLP, ConvergenceWarning, ops
from cola_core.reasons import REASONS

BOTH = [MINRES, MINRESQLP]
# JAX compiles for seconds; what it is asked is in tests of its own
EAGER = [
    "numpy",
    pytest.param("torch", marks=pytest.mark.skipif(not installed("torch"), reason="torch is not installed")),
]
INCONSISTENT = "not in its range"


def hidden(backend, M, claim=cola.SelfAdjoint):
    """The matrix as an operator that only multiplies."""
    return cola.no_dispatch(claim(ops.Dense(backend.asarray(M))))


def singular(n, rank, seed=0, complex_=False):
    """A self-adjoint indefinite matrix of this rank."""
    return with_spectrum(np.r_[indefinite(rank, 50), np.zeros(n - rank)], seed, complex_)


@pytest.mark.parametrize("solver", BOTH)
def test_indefinite_systems(solver, backend, dtype, rng):
    n = 60
    M = with_spectrum(indefinite(n, 30), 3, "complex" in dtype).astype(dtype)
    B = rng.standard_normal((n, 3)).astype(dtype)
    B[:, 1] = 0
    X, info = cola.solve(hidden(backend, M), backend.asarray(B), solver(), return_info=True)
    assert info.converged and info.method == solver._method
    error = np.linalg.norm(backend.to_numpy(X) - np.linalg.solve(M, B))
    assert error <= 100 * info.tolerance * np.linalg.norm(B)
    assert not np.any(backend.to_numpy(X)[:, 1])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("solver", BOTH)
@pytest.mark.parametrize("complex_", [False, True])
def test_singular_consistent_systems_have_the_least_solution(solver, seed, complex_):
    M = singular(80, 60, seed, complex_)
    b = M @ np.random.default_rng(seed).standard_normal(80)
    A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(M)))
    x, info = cola.solve(A, b, solver(tol=1e-10), return_info=True)
    assert info.converged
    least = np.linalg.pinv(M, rcond=1e-10, hermitian=True) @ b
    assert np.linalg.norm(x - least) <= 1e-7 * np.linalg.norm(least)


@pytest.mark.parametrize("tol", [1e-4, 1e-8, 1e-12])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("solver", BOTH)
def test_systems_without_a_solution_are_named_and_answered_by_least_squares(solver, seed, tol):
    M = singular(120, 100, seed, seed == 2)
    b = np.random.default_rng(seed).standard_normal(120)
    A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(M)))
    with pytest.warns(ConvergenceWarning, match=INCONSISTENT):
        x, info = cola.solve(A, b, solver(tol=tol), return_info=True)
    assert not info.converged and info.iterations < 1000
    r = b - M @ x
    least = np.linalg.pinv(M, rcond=1e-10, hermitian=True) @ b
    best = np.linalg.norm(b - M @ least)
    assert np.linalg.norm(M @ r) <= 10 * max(tol, 1e-7) * best
    assert abs(np.linalg.norm(r) - best) <= 1e-6 * best
    if solver is MINRESQLP:
        assert np.linalg.norm(x - least) <= 100 * max(tol, 1e-8) * np.linalg.norm(least)
    else:
        assert np.linalg.norm(x) < 1e3 * np.linalg.norm(least)  # it has not run away along the null space


@pytest.mark.parametrize("library", EAGER)
@pytest.mark.parametrize("solver", BOTH)
def test_small_systems_without_a_solution(solver, backend):
    M = np.diag([2.0, -3.0, 0.0])
    x, info = cola.solve(
        hidden(backend, M), backend.asarray(np.ones(3)), solver(), return_info=True, on_failure="ignore"
    )
    assert INCONSISTENT in info.reason
    np.testing.assert_allclose(backend.to_numpy(x), [0.5, -1 / 3, backend.to_numpy(x)[2]], atol=1e-7)
    if solver is MINRESQLP:
        np.testing.assert_allclose(backend.to_numpy(x)[2], 0, atol=1e-7)


@pytest.mark.parametrize("solver", BOTH)
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_units_change_nothing(solver, scale):
    M = with_spectrum(indefinite(50, 100), 1)
    b = np.random.default_rng(0).standard_normal(50)
    steps = []
    for s, t in ((1.0, 1.0), (scale, 1.0), (1.0, scale)):
        A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(s * M)))
        x, info = cola.solve(A, t * b, solver(), return_info=True)
        assert info.converged
        np.testing.assert_allclose(x * s / t, np.linalg.solve(M, b), rtol=1e-4, atol=1e-4)
        steps.append(info.iterations)
    assert max(steps) - min(steps) <= 2
    flat, reasons = singular(30, 20), []
    for s in (1.0, scale):
        A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(s * flat)))
        _, info = cola.solve(A, s * b[:30], solver(), return_info=True, on_failure="ignore")
        reasons.append(info.reason)
    # that the right-hand side is not in its range is lost where rounding lets the iterates grow
    assert reasons[0] == reasons[1] and "the operator is singular" in reasons[0]


@pytest.mark.parametrize("solver", BOTH)
def test_float32_of_a_hundred_thousand_unknowns(solver):
    M = poisson(250, 400).astype(np.float32)
    A = cola.SelfAdjoint(ops.Sparse.from_scipy(M))
    b = np.random.default_rng(0).standard_normal(M.shape[0]).astype(np.float32)
    x, info = cola.solve(A, b, solver(tol=1e-3), return_info=True)
    assert info.converged and x.dtype == np.float32


@pytest.mark.parametrize("solver", BOTH)
def test_few_eigenvalues_end_early_and_exactly(solver):
    b = np.arange(40.0)
    for D in (3 * np.eye(40), np.diag([2.0] * 20 + [-5.0] * 20), -np.eye(40) + np.ones((40, 40))):
        A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(D)))
        x, info = cola.solve(A, b, solver(), return_info=True)
        assert info.converged and info.iterations <= 3
        np.testing.assert_allclose(D @ x, b, atol=1e-9)


@pytest.mark.parametrize("solver", BOTH)
def test_near_ties_and_ill_conditioning(solver):
    w = np.concatenate([1 + 1e-9 * np.arange(30), -1 - 1e-9 * np.arange(30)])
    M, b = with_spectrum(w, 5), np.random.default_rng(1).standard_normal(60)
    A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(M)))
    x, info = cola.solve(A, b, solver(), return_info=True)
    assert info.converged and info.iterations <= 10
    # consistent, and so badly conditioned that A r is tiny long before r is
    M = with_spectrum(np.r_[np.full(5, 1e-7), indefinite(35, 10)], 6)
    b = np.random.default_rng(2).standard_normal(40)
    A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(M)))
    _, info = cola.solve(A, b, solver(tol=1e-7), return_info=True, on_failure="ignore")
    assert info.converged


@pytest.mark.parametrize("library", EAGER)
@pytest.mark.parametrize("solver", BOTH)
def test_warm_start_is_measured_against_b(solver, backend):
    M = with_spectrum(indefinite(60, 50), 2)
    A, b = hidden(backend, M), np.random.default_rng(0).standard_normal(60)
    x = np.linalg.solve(M, b)
    rhs = backend.asarray(b)
    _, cold = cola.solve(A, rhs, solver(), return_info=True)
    _, near = cola.solve(A, rhs, solver(x0=backend.asarray(x + 1e-6)), return_info=True)
    _, there = cola.solve(A, rhs, solver(x0=backend.asarray(x)), return_info=True)
    assert near.converged and near.iterations < cold.iterations and there.iterations == 0


@pytest.mark.parametrize("solver", BOTH)
@pytest.mark.parametrize("complex_", [False, True])
def test_the_preconditioner_is_used(solver, complex_):
    w = indefinite(80, 1e3)
    M = with_spectrum(w, 7, complex_)
    values, V = np.linalg.eigh(M)
    inverse = (V / np.abs(values)) @ V.conj().T  # |A|^{-1}: the preconditioned matrix has eigenvalues +-1
    calls = []

    def apply(v):
        calls.append(1)
        return inverse @ v

    P = cola.PSD(ops.FunctionOperator(apply, M.shape, dtype=M.dtype))
    A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(M)))
    b = np.random.default_rng(3).standard_normal(80)
    x, info = cola.solve(A, b, solver(P=P), return_info=True)
    assert info.converged and info.iterations <= 4 and len(calls) > info.iterations
    np.testing.assert_allclose(M @ x, b, atol=1e-6)
    wrong = cola.PSD(ops.Dense(-inverse))
    _, info = cola.solve(A, b, solver(P=wrong), return_info=True, on_failure="ignore")
    assert not info.converged and "preconditioner" in info.reason
    mixed = cola.PSD(ops.Diagonal(np.where(np.arange(80) % 3, 1.0, -1.0)))
    _, info = cola.solve(A, b, solver(P=mixed), return_info=True, on_failure="ignore")
    assert info.converged or "preconditioner" in info.reason


@pytest.mark.parametrize("solver", BOTH)
def test_nan_and_budgets(solver):
    A = cola.SelfAdjoint(ops.FunctionOperator(lambda v: v * np.nan, (5, 5)))
    with pytest.warns(ConvergenceWarning, match="NaN"):
        cola.solve(A, np.ones(5), solver())
    M = with_spectrum(indefinite(60, 1e3), 2)
    A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(M)))
    _, info = cola.solve(A, np.ones(60), solver(max_iters=7), return_info=True, on_failure="ignore")
    assert info.iterations == 7 and info.reason == REASONS[0]
    seen = []
    _, info = cola.solve(
        A,
        np.ones(60),
        solver(callback=lambda step, error: seen.append(error) or step >= 5),
        return_info=True,
        on_failure="ignore",
    )
    assert info.iterations == 5 and all(b <= a * (1 + 1e-12) for a, b in zip(seen, seen[1:], strict=False))


@pytest.mark.parametrize("solver", BOTH)
def test_one_bad_column_leaves_the_others_alone(solver):
    M = np.diag([1.0, -2.0, 0.0, 3.0])
    A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(M)))
    B = np.array([[1.0, 2.0, 0, 1.0], [1.0, 1.0, 1.0, 1.0]]).T
    X, info = cola.solve(A, B, solver(), return_info=True, on_failure="ignore")
    assert info.reasons[0] == "converged" and INCONSISTENT in info.reasons[1]
    np.testing.assert_allclose(X[:, 0], [1, -1, 0, 1 / 3], atol=1e-12)


@pytest.mark.parametrize("library", EAGER)
@pytest.mark.parametrize("solver", BOTH)
@pytest.mark.parametrize("shape", [(0,), (1,), (3, 0)])
def test_small_shapes(solver, shape, backend):
    n = shape[0]
    A = hidden(backend, -2.0 * np.eye(n))
    x = cola.solve(A, backend.asarray(np.ones(shape)), solver())
    assert tuple(x.shape) == shape
    np.testing.assert_allclose(backend.to_numpy(x), -0.5 * np.ones(shape))


@pytest.mark.parametrize("library", EAGER)
@pytest.mark.parametrize("solver", BOTH)
def test_batches(solver, backend):
    M = np.stack([with_spectrum(indefinite(12, 20), s) for s in range(3)])
    B = np.random.default_rng(0).standard_normal((3, 12, 2))
    A = cola.SelfAdjoint(ops.Dense(backend.asarray(M)))
    X = cola.solve(A, backend.asarray(B), solver())
    np.testing.assert_allclose(backend.to_numpy(X), np.linalg.solve(M, B), atol=1e-6)


@pytest.mark.parametrize("solver", BOTH)
def test_derivatives_in_torch(solver):
    torch = pytest.importorskip("torch")
    M = torch.tensor(with_spectrum(indefinite(10, 5), 1), requires_grad=True)
    b = torch.ones(10, dtype=torch.float64, requires_grad=True)

    def f(M, b):
        S = (M + M.T) / 2
        A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(S)))
        return cola.solve(A, b, solver(tol=1e-12))

    assert torch.autograd.gradcheck(f, (M, b))


def test_compiled_by_jax():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    M, N = with_spectrum(indefinite(14, 5), 1), np.diag([1.0] * 13 + [0.0])
    b = np.arange(1.0, 15)

    @jax.jit
    def run(M, b):
        A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(M)))
        x, info = cola.solve(A, b, MINRES(), return_info=True)
        return x, info

    x, info = run(jnp.asarray(M), jnp.asarray(b))
    np.testing.assert_allclose(x, np.linalg.solve(M, b), atol=1e-6)
    assert bool(info.converged)
    _, info = run(jnp.asarray(N), jnp.asarray(b))
    assert not bool(info.converged) and INCONSISTENT in info.reason

    def total(M):
        A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(M)))
        return jnp.sum(cola.solve(A, jnp.asarray(b), MINRESQLP(tol=1e-12)))

    got = jax.grad(total)(jnp.asarray(M))
    want = -np.outer(np.linalg.solve(M, np.ones(14)), np.linalg.solve(M, b))
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_norm_and_condition_are_estimated():
    M = with_spectrum(indefinite(60, 40), 4)
    A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(5 * M)))
    _, info = cola.solve(A, np.ones(60), MINRESQLP(), return_info=True)
    assert 4 < info.norm < 10 and 20 < info.condition < 80


def test_chosen_for_large_indefinite_operators():
    n = 300_000
    A = cola.SelfAdjoint(ops.FunctionOperator(lambda v: np.roll(v, 1) + np.roll(v, -1) - v, (n, n)))
    plan = cola.explain(cola.solve, A, np.ones(n))
    assert "minres" in str(plan).lower()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "cg" in str(cola.explain(cola.solve, cola.PSD(A), np.ones(n))).lower()
