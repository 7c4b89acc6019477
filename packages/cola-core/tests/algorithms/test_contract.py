"""What every iterative solver promises: hard and broken systems are solved or refused with their own reason,
never called solved; and nothing of it depends on the scale of A or b, or on n."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from problems import grcar, indefinite, poisson, with_spectrum

import cola_core as cola
from cola_core import ops, reasons
from cola_core.algorithms import CG, FGMRES, GMRES, IDR, MINRES, MINRESQLP, BiCGStab, BlockCG

# a solver joins by one line: what it asks of the operator
DEFINITE, SYMMETRIC, GENERAL = "definite", "self-adjoint", "general"
SOLVERS = {
    CG: DEFINITE,
    BlockCG: DEFINITE,
    MINRES: SYMMETRIC,
    MINRESQLP: SYMMETRIC,
    GMRES: GENERAL,
    FGMRES: GENERAL,
    BiCGStab: GENERAL,
    IDR: GENERAL,
}
FULL = [GMRES, FGMRES]  # those that see the whole Krylov space, so that they end for certain
WORDS = set(reasons.REASONS.values())

every = pytest.mark.parametrize("solver", SOLVERS)
scales = pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
N = 30


def declared(M, solver):
    """An operator that nothing but the solver answers for."""
    A = M if isinstance(M, ops.LinearOperator) else ops.Dense(M)
    kind = SOLVERS[solver]
    if kind != GENERAL:
        A = cola.PSD(A) if kind == DEFINITE else cola.SelfAdjoint(A)
    return cola.no_dispatch(A)


def asked(M, b, solver, **settings):
    return cola.solve(declared(M, solver), b, solver(**settings), return_info=True, on_failure="ignore")


def honest(M, b, x, info):
    """The residual told is the true one, and success is what the tolerance says."""
    M, b, x = (np.asarray(v, dtype=np.result_type(v, np.float64)) for v in (M, b, x))
    size = np.linalg.norm(b)
    true = np.linalg.norm(b - M @ x) / (size if size else 1.0)
    if np.isfinite(true):
        assert abs(true - info.residual) <= 1e-5 * max(true, 1) and (true <= 1.2 * info.tolerance) == bool(
            info.converged
        )
    else:
        assert not info.converged
    assert info.reason in WORDS and (info.reason == "converged") == bool(info.converged)


# -- exact endings -------------------------------------------------------------------------------------------
ENDINGS = {
    "multiple of the identity": (np.full(N, 3.0), 1),
    "two eigenvalues": (np.where(np.arange(N) < 7, 2.0, 5.0), 2),
    "low rank and a multiple": (np.where(np.arange(N) < 3, np.arange(N) + 2.0, 1.0), 4),
}


@every
@scales
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_breakdown_is_an_exact_end(rng, solver, ending, scale):
    values, distinct = ENDINGS[ending]
    M = scale * with_spectrum(values)
    b = rng.normal(size=N)
    x, info = asked(M, b, solver)
    honest(M, b, x, info)
    assert info.converged and np.all(np.isfinite(x))
    if solver not in (BiCGStab, IDR):
        assert info.iterations <= distinct + 1


@every
def test_a_zero_right_side_has_the_zero_solution(backend, solver):
    if backend.name == "jax" and solver not in (CG, MINRES):
        return  # each compiles for seconds
    M = with_spectrum(np.linspace(1, 2, 8))
    for b in (np.zeros(8), np.zeros((8, 2))):
        x, info = asked(backend.asarray(M), backend.asarray(b), solver)
        assert info.converged and info.residual == 0 and not np.any(backend.to_numpy(x))


@every
@pytest.mark.parametrize("n", [0, 1])
def test_tiny_systems(solver, n):
    x, info = asked(2 * np.eye(n), np.ones(n), solver)
    assert x.shape == (n,) and np.allclose(x, 0.5) and info.converged


# -- scale and size ------------------------------------------------------------------------------------------
@every
def test_steps_do_not_depend_on_the_scale_of_the_system(rng, solver):
    M, b = with_spectrum(np.geomspace(1, 1e-3, N)), rng.normal(size=N)
    want, first = asked(M, b, solver)
    assert first.converged
    for a, c in ((2.0**-30, 1.0), (2.0**40, 1.0), (1.0, 2.0**-700), (1.0, 2.0**500), (2.0**-30, 2.0**30)):
        x, info = asked(a * M, c * b, solver)
        honest(a * M, c * b, x, info) if 1e-100 < c < 1e100 else None
        assert info.converged and info.iterations == first.iterations
        np.testing.assert_allclose(x * a / c, want, rtol=1e-6, atol=1e-6 * np.abs(want).max())


@every
def test_single_precision_with_many_unknowns(rng, solver):
    n = 100_000
    b = rng.normal(size=n).astype(np.float32)
    A = ops.FunctionOperator(lambda X: np.float32(0.5) * X, (n, n), dtype=np.float32)
    x, info = cola.solve(declared(A, solver), b, solver(), return_info=True, on_failure="ignore")
    assert info.converged and info.iterations <= 2
    np.testing.assert_allclose(x, 2 * b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("solver", [CG, MINRES])
@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_single_precision_on_a_large_grid(rng, solver, scale):
    M = (scale * poisson(316, 316)).astype(np.float32)
    b = rng.normal(size=M.shape[0]).astype(np.float32)
    A = declared(ops.Sparse.from_scipy(M), solver)
    for settings, claim in (({"tol": 1e-3}, True), ({"tol": 1e-9, "max_iters": 1500}, False)):
        x, info = cola.solve(A, b, solver(**settings), return_info=True, on_failure="ignore")
        M64, b64, x64 = M.astype(float), b.astype(float), np.asarray(x, float)
        true = np.linalg.norm(b64 - M64 @ x64) / np.linalg.norm(b64)
        assert bool(info.converged) is claim and abs(true - info.residual) <= 0.3 * true + 1e-6
        assert info.reason == "converged" or not claim


# -- what cannot work ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("solver", [CG, BlockCG])
@scales
def test_an_indefinite_operator_is_named(rng, solver, scale):
    M = scale * with_spectrum(indefinite(N))
    b = rng.normal(size=N)
    x, info = asked(M, b, solver)
    honest(M, b, x, info)
    assert not info.converged and "not positive definite" in info.reason


@pytest.mark.parametrize("solver", [s for s, kind in SOLVERS.items() if kind != GENERAL])
@scales
def test_a_preconditioner_of_the_wrong_sign_is_named(rng, solver, scale):
    M = scale * with_spectrum(np.geomspace(1, 1e-2, N))
    b = rng.normal(size=N)
    P = ops.Dense(-np.linalg.inv(M))
    x, info = asked(M, b, solver, P=P)
    honest(M, b, x, info)
    assert not info.converged and info.reason == reasons.REASONS[reasons.BAD_PRECONDITIONER]


@every
@scales
def test_a_consistent_singular_system_is_solved(rng, solver, scale):
    values = np.linspace(1, 2, N)
    values[-3:] = 0
    M = scale * with_spectrum(values)
    b = M @ rng.normal(size=N)
    x, info = asked(M, b, solver)
    honest(M, b, x, info)
    assert info.converged or solver in (BiCGStab, IDR)


@every
@scales
def test_an_inconsistent_system_is_never_called_solved(rng, solver, scale):
    values = np.linspace(1, 2, N)
    values[-3:] = 0
    M = scale * with_spectrum(values)
    b = rng.normal(size=N)
    x, info = asked(M, b, solver)
    honest(M, b, x, info)
    assert not info.converged
    if solver in (CG, MINRES, MINRESQLP, *FULL):
        # whether a curvature of zero comes out positive is rounding's choice
        also = "not positive definite" if solver is CG else "singular"
        assert "singular" in info.reason or also in info.reason, info.reason


@pytest.mark.parametrize("solver", FULL)
def test_stagnation_is_named(solver):
    n = 20
    M = np.roll(np.eye(n), 1, axis=0)  # a shift: no restarted method moves before step n
    b = np.eye(n)[:, 0]
    x, info = asked(M, b, solver, restart=5)
    honest(M, b, x, info)
    assert not info.converged and info.reason == reasons.REASONS[reasons.STAGNATED]
    assert info.iterations <= 30


@every
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_from_a_product_is_named(rng, solver, after, bad):
    M, calls = with_spectrum(np.geomspace(1, 1e-3, N)), []

    def product(X):
        calls.append(1)
        Y = M @ X
        if len(calls) > after:
            Y[3] = bad
        return Y

    A = ops.FunctionOperator(product, (N, N), dtype=np.float64)
    calls.clear()
    with np.errstate(all="ignore"):
        x, info = cola.solve(
            declared(A, solver), rng.normal(size=N), solver(), return_info=True, on_failure="ignore"
        )
    assert not info.converged and info.reason == reasons.REASONS[reasons.NONFINITE]


@every
def test_a_non_normal_system_is_solved_or_refused(rng, solver):
    if SOLVERS[solver] != GENERAL:
        return
    M, b = grcar(60), rng.normal(size=60)
    x, info = asked(M, b, solver)
    honest(M, b, x, info)


@every
def test_a_failure_warns_raises_or_is_silent_per_call(rng, solver, recwarn):
    A, b = declared(with_spectrum(np.geomspace(1, 1e-4, N)), solver), rng.normal(size=N)
    alg = solver(max_iters=2)
    cola.solve(A, b, alg, on_failure="ignore")
    assert not recwarn.list
    with pytest.warns(cola.ConvergenceWarning, match="iteration limit reached, residual"):
        cola.solve(A, b, alg)
    with pytest.raises(cola.ConvergenceError, match="tolerance 1e-08"):
        cola.solve(A, b, alg, on_failure="raise")


@pytest.mark.parametrize("solver", [CG, GMRES, MINRES])
def test_reasons_come_out_of_compiled_functions(solver):
    jax = pytest.importorskip("jax")
    jnp = jax.numpy

    @jax.jit
    def solve(M, b):
        return cola.solve(declared(M, solver), b, solver(), return_info=True)[1]

    good = with_spectrum(np.linspace(1, 2, 12))
    bad = np.diag(np.where(np.arange(12) < 11, 1.0, 0.0))
    assert solve(jnp.asarray(good), jnp.ones(12)).reason == "converged"
    info = solve(jnp.asarray(bad), jnp.ones(12))
    assert not bool(info.converged) and info.reason in WORDS - {"converged"}


def test_default_tolerances_follow_the_precision(backend, dtype):
    M = backend.asarray(np.eye(4).astype(dtype))
    _, info = cola.solve(declared(M, CG), backend.asarray(np.ones(4).astype(dtype)), CG(), return_info=True)
    assert info.tolerance == (1e-8 if dtype in ("float64", "complex128") else 1e-5)


def test_a_sparse_matrix_of_one_diagonal_is_no_special_case(rng):
    D = sp.csr_array(sp.diags_array(np.full(50, 1e-200)))
    b = 1e-200 * rng.normal(size=50)
    x, info = cola.solve(declared(ops.Sparse.from_scipy(D), CG), b, CG(), return_info=True)
    assert info.converged and 0 <= info.residual <= 1e-8
    np.testing.assert_allclose(x, b * 1e200, rtol=1e-8)
