"""LDL, Cholesky with jitter, iterative refinement, and orthogonal factorisations as solvers."""

from __future__ import annotations

import numpy as np
import pytest
from problems import indefinite, orthogonal, with_spectrum

import cola_core as cola
from cola_core import ops


def put(backend, M, dtype=None):
    return backend.asarray(np.asarray(M).astype(dtype or M.dtype))


# -- LDL -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 41])
def test_ldl_solves_and_knows_determinant_and_inertia(backend, rng, dtype, n):
    if backend.name == "jax":
        pytest.skip("JAX has no LDL factorisation")
    for seed in range(3):
        values = indefinite(n, 1e2) if n > 1 else -np.ones(n)
        M = with_spectrum(values, seed, "complex" in dtype).astype(dtype) if n else np.zeros((0, 0), dtype)
        A = cola.SelfAdjoint(ops.Dense(backend.asarray(M)))
        x = rng.normal(size=(n, 2)).astype(dtype)
        got, info = cola.solve(A, backend.asarray(M @ x), cola.LDL(), return_info=True)
        tol = 1e-10 if dtype in ("float64", "complex128") else 2e-2
        np.testing.assert_allclose(backend.to_numpy(got), x, atol=tol)
        sign, log = cola.slogdet(A, cola.LDL())
        want = np.linalg.slogdet(M.astype(complex if "complex" in dtype else float))
        np.testing.assert_allclose(complex(sign), complex(want[0]), atol=1e-4)
        np.testing.assert_allclose(float(log), float(want[1]), rtol=1e-4, atol=1e-4)
        assert cola.LDL().factor(A).inertia() == (int((values > 0).sum()), int((values < 0).sum()), 0)
        if n > 1:
            assert info.method == "LDL" and info.residual < 1e3 * tol and info.condition >= 10


def test_ldl_pivots_where_the_diagonal_is_zero(library):
    if library == "jax":
        pytest.skip("JAX has no LDL factorisation")
    from cola_core.backends import get_backend

    be = get_backend(library)
    M = np.kron(np.eye(3), np.array([[0.0, 2.0], [2.0, 0.0]])) * 1e-200
    A = cola.SelfAdjoint(ops.Dense(be.asarray(M)))
    np.testing.assert_allclose(
        be.to_numpy(cola.solve(A, be.asarray(M @ np.arange(6.0)), cola.LDL())), range(6)
    )
    sign, log = cola.slogdet(A, "ldl")
    assert float(sign) == -1 and np.isclose(float(log), 6 * np.log(2e-200))
    assert cola.LDL().factor(A).inertia() == (3, 3, 0)


def test_ldl_refuses_what_it_cannot_do(rng):
    with pytest.raises(cola.errors.PropertyError, match="not self-adjoint"):
        cola.solve(rng.normal(size=(4, 4)), np.ones(4), cola.LDL())
    stack = cola.SelfAdjoint(ops.Dense(np.stack([np.eye(3)] * 2)))
    with pytest.raises(NotImplementedError, match="LDL does not support batches"):
        cola.solve(stack, np.ones((2, 3, 1)), cola.LDL())
    with pytest.raises(cola.errors.SingularMatrixError):
        cola.solve(cola.SelfAdjoint(np.zeros((3, 3))), np.ones(3), cola.LDL())
    with pytest.warns(cola.errors.IllConditionedWarning, match="LDL"):
        M = with_spectrum(np.array([1.0, -1.0, 1e-18, 0.5]))
        cola.solve(cola.SelfAdjoint(M), np.ones(4), cola.LDL())


def test_ldl_on_jax_points_to_lu():
    pytest.importorskip("jax")
    from cola_core.backends import get_backend

    be = get_backend("jax")
    A = cola.SelfAdjoint(ops.Dense(be.asarray(np.eye(3))))
    with pytest.raises(NotImplementedError, match="use LU"):
        cola.solve(A, be.asarray(np.ones(3)), cola.LDL())


def test_derivatives_through_ldl():
    torch = pytest.importorskip("torch")
    a = torch.tensor(with_spectrum(indefinite(5)), requires_grad=True)
    b = torch.ones(5, dtype=torch.float64, requires_grad=True)

    def f(a, b, alg):
        return (cola.solve(cola.SelfAdjoint(ops.Dense((a + a.T) / 2)), b, alg) ** 2).sum()

    got = torch.autograd.grad(f(a, b, cola.LDL()), (a, b))
    want = torch.autograd.grad(f(a, b, cola.LU()), (a, b))
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-8, atol=1e-8)
    log = cola.slogdet(cola.SelfAdjoint(ops.Dense((a + a.T) / 2)), cola.LDL())[1]
    torch.testing.assert_close(torch.autograd.grad(log, a)[0], torch.linalg.inv(a).mT, rtol=1e-8, atol=1e-8)


# -- Cholesky with jitter ------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
def test_jitter_is_relative_only_on_request_and_reported(backend, scale):
    M = scale * np.ones((6, 6))
    A = cola.PSD(ops.Dense(backend.asarray(M)))
    with pytest.raises(cola.errors.NotPositiveDefiniteError):
        cola.cholesky(cola.PSD(ops.Dense(backend.asarray(M - scale * 1e-3 * np.eye(6)))))
    L, info = cola.cholesky(A, cola.Cholesky(jitter=1e-4), return_info=True)
    assert info.jitter == pytest.approx(1e-4 * scale)
    L = backend.to_numpy(L.to_dense())
    np.testing.assert_allclose(L @ L.T, M + 1e-4 * scale * np.eye(6), rtol=1e-10, atol=1e-14 * scale)
    _, info = cola.solve(A, backend.asarray(np.arange(6.0)), cola.Cholesky(jitter=1e-4), return_info=True)
    assert info.jitter == pytest.approx(1e-4 * scale) and info.residual > 0.1  # that of A itself


# -- iterative refinement ------------------------------------------------------------------------------------
@pytest.mark.parametrize("complex_", [False, True])
def test_a_factorisation_in_single_precision_is_refined_to_double(backend, rng, complex_):
    n = 30
    M = (orthogonal(n, 0, complex_) * np.geomspace(1, 1e-4, n)) @ orthogonal(n, 1, complex_)
    x = rng.normal(size=(n, 2)) + (1j * rng.normal(size=(n, 2)) if complex_ else 0)
    A = ops.Dense(backend.asarray(M))
    alg = cola.IterativeRefinement(precision="float32")
    got, info = cola.solve(A, backend.asarray(M @ x), alg, return_info=True)
    assert info.converged and info.residual < 1e-13 and 1 < info.iterations < 20
    assert info.method == "iterative refinement of LU"
    np.testing.assert_allclose(backend.to_numpy(got), x, atol=1e-9)


def test_a_loose_iteration_is_refined(rng):
    M = with_spectrum(np.geomspace(1, 1e-3, 40))
    b = rng.normal(size=40)
    alg = cola.IterativeRefinement(inner=cola.CG(tol=1e-2), tol=1e-12)
    _, info = cola.solve(cola.PSD(M), b, alg, return_info=True)
    assert info.converged and info.residual < 1.2e-12 and 3 < info.iterations < 12
    x0 = np.linalg.solve(M, b)
    _, info = cola.solve(cola.PSD(M), b, cola.IterativeRefinement(tol=1e-9, x0=x0), return_info=True)
    assert info.iterations == 0


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_refinement_that_does_not_contract_is_no_success(rng, scale):
    M = with_spectrum(np.geomspace(1, 1e-12, 30)) * scale
    with pytest.warns(cola.errors.IllConditionedWarning):
        _, info = cola.solve(
            M, rng.normal(size=30), cola.IterativeRefinement(), return_info=True, on_failure="ignore"
        )
    assert info.converged == (info.residual <= 1.1 * info.tolerance)
    rough = cola.IterativeRefinement(inner=cola.CG(max_iters=1), max_iters=3)
    M = cola.PSD(with_spectrum(np.geomspace(1, 1e-6, 30)))
    _, info = cola.solve(M, rng.normal(size=30), rough, return_info=True, on_failure="ignore")
    assert not info.converged and info.reason in (
        "the residual stopped decreasing",
        "iteration limit reached",
    )


def test_refinement_has_callbacks_and_derivatives(rng):
    torch = pytest.importorskip("torch")
    seen = []
    M = with_spectrum(np.geomspace(1, 1e-3, 10))
    alg = cola.IterativeRefinement(callback=lambda step, error: seen.append(step))
    cola.solve(M, np.ones(10), alg)
    assert seen and seen == list(range(1, len(seen) + 1))
    a = torch.tensor(M, requires_grad=True)
    got = torch.autograd.grad(cola.solve(ops.Dense(a), torch.ones(10).double(), alg).sum(), a)[0]
    want = torch.autograd.grad(torch.linalg.solve(a, torch.ones(10).double()).sum(), a)[0]
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_refinement_inside_a_compiled_function(rng):
    jax = pytest.importorskip("jax")
    M = with_spectrum(np.geomspace(1, 1e-3, 10)) + np.eye(10, k=1)
    solve = jax.jit(lambda M, b: cola.solve(ops.Dense(M), b, cola.IterativeRefinement(), return_info=True))
    x, info = solve(jax.numpy.asarray(M), jax.numpy.ones(10))
    assert bool(info.converged) and info.reason == "converged"
    np.testing.assert_allclose(M @ x, 1, atol=1e-12)


# -- orthogonal factorisations as solvers --------------------------------------------------------------------
@pytest.mark.parametrize("name", ["qr", "lq", "svd", "lu", "ldl", "cholesky"])
def test_direct_solvers_by_name(library, rng, name):
    from cola_core.backends import get_backend

    if library == "jax" and name == "ldl":
        pytest.skip("JAX has no LDL factorisation")
    be = get_backend(library)
    M = with_spectrum(np.linspace(1, 2, 9))
    x = rng.normal(size=9)
    got, info = cola.solve(cola.PSD(ops.Dense(be.asarray(M))), be.asarray(M @ x), name, return_info=True)
    np.testing.assert_allclose(be.to_numpy(got), x, atol=1e-12)
    assert name in info.method.lower() and info.residual < 1e-13
    if name in ("qr", "lq", "svd"):
        with pytest.warns(cola.errors.IllConditionedWarning):
            singular = with_spectrum(np.geomspace(1, 1e-18, 5))
            cola.solve(cola.no_dispatch(ops.Dense(be.asarray(singular))), be.asarray(np.ones(5)), name)
