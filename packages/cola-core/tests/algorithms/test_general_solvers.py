"""GMRES, FGMRES, BiCGStab and IDR(s) on non-normal, singular, badly scaled and complex systems."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from problems import convection_diffusion, grcar, with_singular_values

import cola_core as cola
from cola_core import FGMRES, GMRES, IDR, BiCGStab, ConvergenceWarning, ops

ALL = [GMRES(), FGMRES(), BiCGStab(), IDR(), IDR(s=1)]
SHORT = [BiCGStab(), IDR(), IDR(s=1)]  # a fixed number of vectors


def name(alg):
    return f"{type(alg).__name__}{getattr(alg, 's', '')}"


def solved(A, b, alg, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, info = cola.solve(A, b, alg, return_info=True, **more)
    assert info.converged and info.reason == "converged"
    return x, info


@pytest.mark.parametrize("alg", ALL, ids=name)
class TestSquareSystems:
    @pytest.mark.parametrize("seed", range(3))
    def test_convection_diffusion(self, alg, seed):
        M = convection_diffusion(24)
        b = np.random.default_rng(seed).normal(size=M.shape[0])
        x, info = solved(ops.Sparse.from_scipy(M), b, alg)
        true = np.linalg.norm(b - M @ x) / np.linalg.norm(b)
        assert true <= 1.1e-8 and abs(true - info.residual) < 1e-12
        assert info.matvecs <= 600

    def test_all_dtypes_and_several_columns(self, alg, library, dtype, backend, rng):
        n = 30
        D = rng.normal(size=(n, n)) / n**0.5 + 3 * np.eye(n)
        B = rng.normal(size=(n, 3))
        if "complex" in dtype:
            D, B = D + 1j * rng.normal(size=(n, n)) / n**0.5, B + 1j
        B[:, 1] = 0
        D, B = D.astype(dtype), B.astype(dtype)
        x, info = solved(ops.Dense(backend.asarray(D)), backend.asarray(B), alg)
        assert np.all(backend.to_numpy(x)[:, 1] == 0)
        assert x.dtype == backend.dtype(dtype)
        np.testing.assert_allclose(backend.to_numpy(x), np.linalg.solve(D, B), atol=30 * info.tolerance)

    @pytest.mark.parametrize("factor", [1e-100, 1e-9, 1e120])
    def test_scale_changes_nothing(self, alg, factor):
        M = convection_diffusion(10)
        b = np.random.default_rng(0).normal(size=100)
        _, plain = solved(ops.Sparse.from_scipy(M), b, alg)
        x, info = solved(ops.Sparse.from_scipy(M * factor), b, alg)
        y, info2 = solved(ops.Sparse.from_scipy(M), b * factor, alg)
        assert info.iterations == info2.iterations == plain.iterations
        np.testing.assert_allclose(x * factor, y / factor, rtol=1e-5, atol=1e-8)

    def test_float32_of_a_hundred_thousand_unknowns(self, alg):
        n = 100_000
        A = ops.Tridiagonal(
            -np.ones(n - 1, np.float32), 3 * np.ones(n, np.float32), -0.5 * np.ones(n - 1, np.float32)
        )
        x, info = solved(cola.no_dispatch(A), np.ones(n, np.float32), alg)
        assert x.dtype == np.float32 and info.residual <= 1.1e-5

    def test_few_distinct_eigenvalues_end_at_once(self, alg):
        for D in (-2.0 * np.eye(40), np.diag([2.0] * 20 + [5.0] * 20), np.eye(40) + np.ones((40, 40))):
            b = np.arange(40.0)
            x, info = solved(ops.Dense(D), b, alg)
            assert info.matvecs <= 12
            np.testing.assert_allclose(D @ x, b, atol=1e-6)

    def test_singular_and_inconsistent_is_a_miss(self, alg):
        D = np.diag([1.0, 2.0, 3.0, 0.0])
        with pytest.warns(ConvergenceWarning):
            x, info = cola.solve(cola.no_dispatch(ops.Dense(D)), np.ones(4), alg, return_info=True)
        assert not info.converged and info.residual >= 0.49 and np.all(np.isfinite(x))
        assert info.iterations < 2000

    def test_singular_and_consistent_is_solved(self, alg):
        D = np.diag([1.0, 2.0, 3.0, 0.0])
        x, _ = solved(ops.Dense(D), np.array([1.0, 2.0, 3.0, 0.0]), alg)
        np.testing.assert_allclose(x[:3], 1, rtol=1e-7)

    def test_nan_in_one_column_leaves_the_others(self, alg):
        D = np.diag(np.linspace(1, 2, 12))

        def product(V):
            return np.where(np.abs(V[:1]) > 0, np.nan, D @ V)

        A = ops.FunctionOperator(product, (12, 12), rmatvec=product)
        B = np.ones((12, 2))
        B[0, 0] = 0
        with pytest.warns(ConvergenceWarning, match="NaN"):
            X, info = cola.solve(A, B, alg, return_info=True)
        assert not info.converged and bool(info.converged_columns[0]) and not bool(info.converged_columns[1])
        np.testing.assert_allclose(D @ X[:, 0], B[:, 0], atol=1e-7)

    def test_the_preconditioner_is_used(self, alg):
        M = convection_diffusion(16)
        A = ops.Sparse.from_scipy(M)
        exact, calls = cola.inv(A, "sparselu"), []

        def apply(v):
            calls.append(1)
            return exact @ v

        b = np.random.default_rng(1).normal(size=256)
        x, info = solved(A, b, type(alg)(P=ops.FunctionOperator(apply, A.shape)))
        assert 0 < info.iterations <= 3 and len(calls) >= info.iterations

    def test_the_first_guess_is_honoured(self, alg):
        M = convection_diffusion(12)
        A, b = ops.Sparse.from_scipy(M), np.ones(144)
        x, cold = solved(A, b, alg)
        _, warm = solved(A, b, type(alg)(x0=x))
        assert warm.iterations == 0
        _, near = solved(A, b, type(alg)(x0=x * (1 + 1e-5)))
        assert 0 < near.iterations < cold.iterations

    def test_badly_scaled_rows(self, alg):
        M = convection_diffusion(12)
        rows = 10.0 ** np.random.default_rng(3).uniform(-4, 4, 144)
        A = ops.Sparse.from_scipy(M.multiply(rows[:, None]).tocsr())
        P = cola.inv(ops.Diagonal(rows * 4))  # the diagonal: scaled from the right
        x, info = cola.solve(A, rows, type(alg)(P=P), on_failure="ignore", return_info=True)
        true = np.linalg.norm(rows - A @ x) / np.linalg.norm(rows)
        assert info.converged == (true <= 1.1e-8) and abs(true - info.residual) <= 1e-6 * true

    def test_too_few_steps_are_reported(self, alg):
        M = convection_diffusion(20)
        with pytest.warns(ConvergenceWarning, match="iteration limit"):
            x, info = cola.solve(
                ops.Sparse.from_scipy(M), np.ones(400), type(alg)(max_iters=7), return_info=True
            )
        assert info.iterations == 7
        assert abs(info.residual - np.linalg.norm(1 - M @ x) / 20) < 1e-12

    def test_sizes_zero_and_one(self, alg):
        assert cola.solve(ops.Dense(np.zeros((0, 0))), np.zeros(0), alg).shape == (0,)
        np.testing.assert_allclose(cola.solve(ops.Dense([[4.0]]), np.array([2.0]), alg), [0.5])

    def test_batches(self, alg):
        rng = np.random.default_rng(5)
        D = rng.normal(size=(3, 8, 8)) / 3 + 3 * np.eye(8)
        B = rng.normal(size=(3, 8, 2))
        X, _ = solved(ops.Dense(D), B, alg)
        np.testing.assert_allclose(X, np.linalg.solve(D, B), atol=1e-6)


@pytest.mark.parametrize("alg", [GMRES(restart=100), IDR(s=8, max_iters=2000)], ids=name)
def test_grcar(alg):
    G = grcar(100)
    b = np.random.default_rng(0).normal(size=100)
    x, info = solved(ops.Dense(G), b, alg)
    np.testing.assert_allclose(G @ x, b, atol=1e-6)


@pytest.mark.parametrize("alg", SHORT, ids=name)
def test_breakdown_is_reported(alg):
    """Rotations by a right angle: the first residual is orthogonal to its product."""
    J = np.kron(np.eye(4), [[0.0, 1.0], [-1.0, 0.0]])
    x, info = cola.solve(ops.Dense(J), np.arange(1.0, 9.0), alg, on_failure="ignore", return_info=True)
    assert np.all(np.isfinite(x))
    assert info.converged or info.reason != "converged"
    true = np.linalg.norm(np.arange(1.0, 9.0) - J @ x) / np.linalg.norm(np.arange(1.0, 9.0))
    assert info.converged == (true <= 1.1e-8) and true <= 1 + 1e-12


def test_the_answer_is_the_best_iterate():
    D = with_singular_values(np.logspace(0, -8, 60), 60, 60, seed=2)
    b = np.random.default_rng(1).normal(size=60)
    for alg in (BiCGStab(max_iters=40), IDR(max_iters=80)):
        x, info = cola.solve(ops.Dense(D), b, alg, on_failure="ignore", return_info=True)
        assert not info.converged and info.residual <= 1 + 1e-9


class TestGMRES:
    def test_restarts_that_make_no_progress_are_stagnation(self):
        n = 40
        S = ops.Sparse(np.ones(n), np.arange(n), (np.arange(n) + 1) % n, (n, n))
        for alg in (GMRES(restart=10), FGMRES(restart=10)):
            with pytest.warns(ConvergenceWarning, match="stopped decreasing"):
                cola.solve(S, np.eye(n)[0], alg)

    def test_steps_and_residuals_are_those_of_scipy(self):
        from scipy.sparse.linalg import gmres

        M = convection_diffusion(20)
        b = np.random.default_rng(2).normal(size=400)
        seen, ours = [], []
        gmres(M, b, rtol=1e-8, restart=30, callback=seen.append, callback_type="pr_norm", maxiter=100)
        _, info = solved(ops.Sparse.from_scipy(M), b, GMRES(restart=30, callback=lambda i, r: ours.append(r)))
        assert abs(info.iterations - len(seen)) <= 2
        m = min(len(seen), len(ours)) - 2
        np.testing.assert_allclose(np.array(ours)[:m] / np.linalg.norm(b), seen[:m], rtol=1e-4)

    def test_the_residual_decreases_inside_a_cycle(self):
        said = []
        b = np.random.default_rng(0).normal(size=100)
        cola.solve(ops.Dense(grcar(100)), b, GMRES(restart=100, callback=lambda i, r: said.append(r)))
        assert len(said) > 20 and np.all(np.diff(said) <= 1e-12 * said[0])

    def test_long_vectors_take_the_same_steps(self):
        """Long vectors are orthogonalised otherwise."""
        m = 110
        M = convection_diffusion(m)
        b = np.random.default_rng(0).normal(size=m * m)
        x, info = solved(ops.Sparse.from_scipy(M), b, GMRES(tol=1e-5, restart=60, max_iters=2000))
        X, several = solved(
            ops.Sparse.from_scipy(M), np.stack([b, b], 1) + 0j, GMRES(tol=1e-5, restart=60, max_iters=2000)
        )
        assert abs(info.iterations - several.iterations) <= 3
        assert np.linalg.norm(b - M @ x) <= 1.1e-5 * np.linalg.norm(b)


class TestFGMRES:
    def test_an_inner_iteration(self):
        A = ops.Sparse.from_scipy(convection_diffusion(30))
        b = np.random.default_rng(0).normal(size=900)
        inner = cola.inv(A, GMRES(tol=1e-1, max_iters=15))
        _, info = solved(A, b, FGMRES(P=inner, restart=30))
        assert info.method == "FGMRES" and info.iterations < 30

    def test_a_preconditioner_that_changes(self):
        M = convection_diffusion(12)
        A, b = ops.Sparse.from_scipy(M), np.ones(144)
        turn = [0]

        def apply(v):
            turn[0] += 1
            return v / 4 if turn[0] % 2 else v / 4 - 0.01 * (M @ v)

        P = ops.FunctionOperator(apply, A.shape)
        x, info = solved(A, b, FGMRES(P=P))
        assert turn[0] == info.iterations  # each product is used, none is repeated

    def test_equal_to_gmres_with_a_fixed_preconditioner(self):
        M = convection_diffusion(12)
        A, b = ops.Sparse.from_scipy(M), np.ones(144)
        P = ops.Diagonal(np.linspace(0.2, 0.3, 144))
        x, one = solved(A, b, GMRES(P=P))
        y, two = solved(A, b, FGMRES(P=P))
        assert one.iterations == two.iterations
        np.testing.assert_allclose(x, y, atol=1e-8)


def test_idr_needs_fewer_products_with_more_shadow_vectors():
    A = ops.Sparse.from_scipy(convection_diffusion(30, peclet=60.0))
    b = np.random.default_rng(0).normal(size=900)
    one, four = (solved(A, b, IDR(s=s))[1].matvecs for s in (1, 8))
    assert four < one
    with pytest.raises(ValueError, match="shadow"):
        IDR(s=0)


def test_names():
    A, b = ops.Dense(np.diag([1.0, 2.0])), np.ones(2)
    for text in ("fgmres", "bicgstab", "idr"):
        np.testing.assert_allclose(cola.solve(A, b, alg=text), [1, 0.5])


@pytest.mark.parametrize("alg", [FGMRES(), BiCGStab(tol=1e-12), IDR(tol=1e-12)], ids=name)
def test_derivatives_on_torch(alg):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    D = torch.tensor(rng.normal(size=(8, 8)) / 3 + 3 * np.eye(8), requires_grad=True)
    b = torch.tensor(rng.normal(size=8), requires_grad=True)
    P = ops.Diagonal(torch.full((8,), 0.3, dtype=torch.float64))
    from dataclasses import replace

    alg = replace(alg, P=P, tol=1e-12)
    weights = torch.arange(8.0, dtype=torch.float64)
    got = torch.autograd.grad((cola.solve(ops.Dense(D), b, alg) * weights).sum(), (D, b))
    want = torch.autograd.grad((torch.linalg.solve(D, b) * weights).sum(), (D, b))
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize("alg", [GMRES(restart=5), BiCGStab(), IDR(s=2)], ids=name)
def test_under_jit(alg):
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(0)
    D, b = rng.normal(size=(8, 8)) / 3 + 3 * np.eye(8), rng.normal(size=8)
    x, info = jax.jit(lambda D, b: cola.solve(ops.Dense(D), b, alg, return_info=True))(D, b)
    np.testing.assert_allclose(np.asarray(x), np.linalg.solve(D, b), atol=1e-6)
    assert bool(info.converged) and info.reason == "converged" and int(info.iterations) < 60
