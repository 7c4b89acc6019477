"""What iterative solvers say of the condition number and of the error of their answers."""

from __future__ import annotations

import numpy as np
import problems
import pytest

import cola_core as cola
from cola_core import CG, FGMRES, GMRES, IDR, MINRES, BiCGStab, BlockCG, ops

pytestmark = pytest.mark.filterwarnings("ignore::cola_core.errors.ConvergenceWarning")
SEEDS = range(20)


def definite(name):
    return lambda seed: problems.with_spectrum(problems.spectrum(name, 60, 1e4), seed)


def close_to_two(seed):
    return 2 * np.eye(60) + np.random.default_rng(seed + 100).standard_normal((60, 60)) / 8


DEFINITE = {name: definite(name) for name in problems.SPECTRA}
INDEFINITE = {"indefinite": lambda seed: problems.with_spectrum(problems.indefinite(60, 1e3), seed)}
GENERAL = {
    "grcar": lambda seed: problems.grcar(50),
    "convection": lambda seed: problems.convection_diffusion(7, 30.0).toarray(),
    "clustered": close_to_two,
    "definite": DEFINITE["polynomial"],
}
CASES = [
    *((solver, name, make) for solver in (CG, BlockCG, MINRES) for name, make in DEFINITE.items()),
    *((MINRES, name, make) for name, make in INDEFINITE.items()),
    *((s, name, make) for s in (GMRES, FGMRES, BiCGStab, IDR) for name, make in GENERAL.items()),
]


def declared(M, solver):
    A = ops.Dense(M)
    A = cola.PSD(A) if solver in (CG, BlockCG) else cola.SelfAdjoint(A) if solver is MINRES else A
    return cola.no_dispatch(A)


def error(x, want):
    return np.max(np.linalg.norm(x - want, axis=0) / np.linalg.norm(want, axis=0))


@pytest.mark.parametrize("tol", [1e-3, 1e-8])
@pytest.mark.parametrize(("solver", "name", "make"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_estimates_cover_the_error_and_are_not_absurd(solver, name, make, tol):
    missed = 0
    for seed in SEEDS:
        M = make(seed)
        b = np.random.default_rng(seed).standard_normal((len(M), 3 if solver is BlockCG else 1))
        x, info = cola.solve(declared(M, solver), b, solver(tol=tol, max_iters=3000), return_info=True)
        condition = np.linalg.cond(M)
        missed += error(x, np.linalg.solve(M, b)) > 10 * info.error_estimate
        assert info.error_estimate <= 10 * condition * (info.residual + 1e-15)
        assert 1 <= info.condition <= 1.001 * condition
        assert info.norm <= 1.001 * np.linalg.norm(M, 2)
    assert missed <= 1


@pytest.mark.parametrize("solver", [CG, MINRES, GMRES, BiCGStab, IDR])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_they_do_not_see_the_scale(solver, scale):
    M = problems.with_spectrum(problems.spectrum("decaying", 30, 1e3))
    b = np.random.default_rng(0).standard_normal(30)
    one = cola.solve(declared(M, solver), b, solver(), return_info=True)[1]
    other = cola.solve(declared(scale * M, solver), b / scale, solver(), return_info=True)[1]
    assert one.condition > 100
    loose = solver in (BiCGStab, IDR)  # whose steps rounding alters
    np.testing.assert_allclose(np.log(other.condition / one.condition), 0, atol=1.5 if loose else 0.05)
    np.testing.assert_allclose(other.norm, scale * one.norm, rtol=0.5 if loose else 0.05)


@pytest.mark.parametrize("solver", [CG, BlockCG, MINRES, GMRES, FGMRES, BiCGStab, IDR])
def test_every_backend_and_dtype(backend, dtype, solver):
    if backend.name == "jax" and dtype not in ("float64", "complex64"):
        pytest.skip("two dtypes are compiled")
    values = problems.spectrum("decaying", 40, 1e3)
    M = problems.with_spectrum(values, complex_="complex" in dtype).astype(dtype)
    b = np.random.default_rng(0).standard_normal((40, 2)).astype(dtype)
    A = declared(backend.asarray(M), solver)
    x, info = cola.solve(A, backend.asarray(b), solver(), return_info=True)
    assert isinstance(info.error_estimate, float) and isinstance(info.condition, float)
    assert error(backend.to_numpy(x), np.linalg.solve(M.astype("complex128"), b)) <= 3 * info.error_estimate
    assert 30 <= info.condition <= 1010


@pytest.mark.parametrize("solver", [CG, MINRES, GMRES, BiCGStab, IDR])
def test_with_a_preconditioner(solver):
    d = np.logspace(0, 4, 60)
    M = np.diag(d) + problems.with_spectrum(np.linspace(0, 1, 60))
    b = np.random.default_rng(0).standard_normal(60)
    P = cola.no_dispatch(cola.PSD(ops.Diagonal(1 / np.diagonal(M))))
    x, info = cola.solve(declared(M, solver), b, solver(P=P), return_info=True)
    if solver in (BiCGStab, IDR):  # of A itself
        assert error(x[:, None], np.linalg.solve(M, b)[:, None]) <= 10 * info.error_estimate
    else:  # of A with P: it would bound the error in another norm
        assert info.error_estimate is None and info.condition < 10


@pytest.mark.parametrize("solver", [CG, MINRES, GMRES, BiCGStab, IDR])
def test_nothing_is_known_where_no_step_was_made(solver):
    M = problems.with_spectrum(np.linspace(1, 2, 9))
    info = cola.solve(declared(M, solver), np.zeros(9), solver(), return_info=True)[1]
    assert info.converged and info.condition is None and info.error_estimate is None


@pytest.mark.parametrize("solver", [CG, BlockCG])
def test_the_best_iterate_of_an_inconsistent_system(backend, solver):
    for seed in range(3):
        values = np.linspace(1, 2, 40)
        values[-3:] = 0
        M = problems.with_spectrum(values, seed)
        b = np.random.default_rng(seed).standard_normal((40, 2))
        A = declared(backend.asarray(M), solver)
        x, info = cola.solve(A, backend.asarray(b), solver(), return_info=True)
        x = backend.to_numpy(x)
        assert not info.converged and info.residual <= 1 + 1e-12
        assert np.all(np.linalg.norm(b - M @ x, axis=0) <= np.linalg.norm(b, axis=0) * (1 + 1e-12))
        assert np.linalg.norm(x) < 1e3


@pytest.mark.parametrize("solver", [CG, MINRES, BiCGStab])
def test_steps_are_counted_per_column(solver):
    M = np.diag(np.linspace(1, 2, 30))
    b = np.stack([np.eye(30)[0], np.ones(30), np.zeros(30)], axis=1)
    info = cola.solve(declared(M, solver), b, solver(), return_info=True)[1]
    first, second, third = (int(k) for k in info.column_iterations)
    assert third == 0 and first == 1 and second == info.iterations > 2
    assert info.as_dict()["column_iterations"] == [first, second, third]


def test_inside_jit():
    jax = pytest.importorskip("jax")
    M = problems.with_spectrum(problems.spectrum("decaying", 40, 1e3))
    b = np.random.default_rng(0).standard_normal(40)
    ask = jax.jit(lambda A, b, s: cola.solve(A, b, s(), return_info=True), static_argnums=2)
    for solver in (CG, MINRES, GMRES):
        A = declared(jax.numpy.asarray(M), solver)
        plain = cola.solve(declared(M, solver), b, solver(), return_info=True)[1]
        x, info = ask(A, jax.numpy.asarray(b), solver)
        np.testing.assert_allclose(float(info.condition), plain.condition, rtol=0.2)
        assert error(np.asarray(x)[:, None], np.linalg.solve(M, b)[:, None]) <= 3 * float(info.error_estimate)


def test_a_program_computes_estimates_where_somebody_looks_at_them():
    jax = pytest.importorskip("jax")
    A = cola.PSD(ops.Dense(jax.numpy.asarray(np.diag(np.arange(1.0, 9)))))
    b = jax.numpy.ones(8)

    def size(ask):
        return len(str(jax.make_jaxpr(ask)(A, b)))

    plain = size(lambda A, b: cola.solve(A, b, CG()))
    told = size(lambda A, b: cola.solve(A, b, CG(), return_info=True))
    with cola.infos() as found:
        collected = size(lambda A, b: cola.solve(A, b, CG()))
    assert plain < 0.8 * told and collected > 0.9 * told
    assert found[-1].condition is not None

    def loss(b):
        return cola.solve(A, b, CG()).sum()

    value = len(str(jax.make_jaxpr(loss)(b)))
    assert len(str(jax.make_jaxpr(jax.grad(loss))(b))) < 2.2 * value
