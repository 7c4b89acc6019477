"""LSQR, LSMR and CGLS: tall, wide, rank-deficient, damped, inconsistent, badly scaled, complex."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from problems import convection_diffusion, with_singular_values

import cola_core as cola
from cola_core import CGLS, LSMR, LSQR, ConvergenceWarning, ops
from cola_core.errors import SingularMatrixError

ALL = [LSMR(), LSQR(), CGLS()]


def name(alg):
    return type(alg).__name__


def least(A, b, alg, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, info = cola.lstsq(A, b, alg, return_info=True, **more)
    assert info.converged
    return x, info


def matrix(m, n, rank, cond=20.0, seed=0, complex_=False):
    values = np.zeros(min(m, n))
    values[:rank] = np.logspace(0, -np.log10(cond), rank)
    return with_singular_values(values, m, n, seed, complex_)


@pytest.mark.parametrize("alg", ALL, ids=name)
class TestLeastSquares:
    @pytest.mark.parametrize("shape", [(50, 20, 20), (20, 50, 20), (50, 20, 12), (20, 50, 12), (30, 30, 30)])
    @pytest.mark.parametrize("seed", range(2))
    def test_least_norm_of_every_shape_and_rank(self, alg, shape, seed):
        m, n, rank = shape
        D = matrix(m, n, rank, seed=seed)
        rng = np.random.default_rng(seed)
        for b in (D @ rng.normal(size=n), rng.normal(size=m)):
            x, info = least(ops.Dense(D), b, replace(alg, tol=1e-11))
            np.testing.assert_allclose(x, np.linalg.pinv(D, rcond=1e-10) @ b, atol=1e-7)
            r = b - D @ x
            assert abs(info.residual - np.linalg.norm(r) / np.linalg.norm(b)) < 1e-12
            compatible = info.residual <= 1.1e-11
            assert info.reason == "converged" if compatible else info.reason.startswith("least-squares")
            if not compatible:
                size = info.normal_residual * info.norm * np.linalg.norm(r)
                assert abs(size - np.linalg.norm(D.T @ r)) <= 1e-12

    def test_all_dtypes_and_several_columns(self, alg, library, dtype, backend, rng):
        D = matrix(24, 10, 10, 5.0, complex_="complex" in dtype).astype(dtype)
        B = rng.normal(size=(24, 3))
        B[:, 1] = 0
        B = B.astype(dtype)
        x, info = least(ops.Dense(backend.asarray(D)), backend.asarray(B), alg)
        got = backend.to_numpy(x)
        assert x.dtype == backend.dtype(dtype) and np.all(got[:, 1] == 0)
        np.testing.assert_allclose(got, np.linalg.pinv(D) @ B, atol=300 * info.tolerance)

    @pytest.mark.parametrize("factor", [2.0**-300, 2.0**-30, 2.0**400])
    def test_scale_changes_nothing(self, alg, factor):
        D, b = matrix(40, 25, 25, 30.0), np.random.default_rng(0).normal(size=40)
        _, plain = least(ops.Dense(D), b, alg)
        x, info = least(ops.Dense(D * factor), b, alg)
        y, info2 = least(ops.Dense(D), b * factor, alg)
        assert info.iterations == info2.iterations == plain.iterations
        np.testing.assert_allclose(x * factor, y / factor, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(
            [info.norm / factor, info.condition], [plain.norm, plain.condition], rtol=0.1
        )

    def test_small_entries_in_single_precision(self, alg):
        D = matrix(30, 30, 30, 3.0)
        b = np.random.default_rng(0).normal(size=(30, 2))
        B, tiny = b.astype(np.float32), (D * 1e-9).astype(np.float32)
        x, info = cola.solve(cola.no_dispatch(ops.Dense(tiny)), B, alg, return_info=True)
        assert info.converged and info.iterations < 60
        np.testing.assert_allclose(x * 1e-9, np.linalg.solve(D, b), atol=1e-3)

    def test_norm_and_condition_number(self, alg):
        D = matrix(60, 30, 30, 100.0)
        _, info = least(ops.Dense(D), np.random.default_rng(0).normal(size=60), replace(alg, tol=1e-12))
        frobenius = np.linalg.norm(D)
        assert 0.5 * frobenius <= info.norm <= 3 * frobenius
        assert 10 <= info.condition <= 1e4

    def test_conlim_ends_with_its_own_reason(self, alg):
        D = matrix(60, 30, 30, 1e6)
        b = np.random.default_rng(0).normal(size=60)
        with pytest.warns(ConvergenceWarning, match="conlim"):
            x, info = cola.lstsq(ops.Dense(D), b, replace(alg, conlim=5.0), return_info=True)
        assert not info.converged and np.all(np.isfinite(x)) and info.condition >= 5

    def test_damping(self, alg):
        D, b = matrix(20, 30, 15, 50.0), np.random.default_rng(1).normal(size=20)
        x, _ = least(ops.Dense(D), b, replace(alg, damp=0.3, tol=1e-11))
        want = np.linalg.solve(D.T @ D + 0.09 * np.eye(30), D.T @ b)
        np.testing.assert_allclose(x, want, atol=1e-8)
        with pytest.raises(ValueError, match="damp"):
            cola.solve(ops.Dense(np.eye(3)), np.ones(3), replace(alg, damp=0.3))

    def test_the_first_guess_is_honoured(self, alg):
        D, b = matrix(40, 25, 25, 30.0), np.random.default_rng(0).normal(size=40)
        x, cold = least(ops.Dense(D), b, alg)
        y, warm = least(ops.Dense(D), b, replace(alg, x0=np.linalg.pinv(D) @ b * (1 + 1e-7)))
        assert warm.iterations < cold.iterations
        np.testing.assert_allclose(x, y, atol=1e-5)
        W = matrix(10, 20, 10, 3.0)
        x0 = np.random.default_rng(1).normal(size=20)
        x, _ = least(ops.Dense(W), b[:10], replace(alg, x0=x0, tol=1e-12))
        # nearest to the guess
        np.testing.assert_allclose(x, x0 + np.linalg.pinv(W) @ (b[:10] - W @ x0), atol=1e-9)

    def test_the_right_preconditioner_is_used(self, alg):
        rng = np.random.default_rng(0)
        scale = 10.0 ** rng.uniform(-3, 3, 25)
        D = matrix(60, 25, 25, 3.0) * scale
        b = rng.normal(size=60)
        calls = []

        def apply(v):
            calls.append(1)
            return (v.T / scale).T

        P = ops.FunctionOperator(apply, (25, 25), rmatvec=apply)
        x, info = least(ops.Dense(D), b, replace(alg, P=P, tol=1e-12))
        assert len(calls) >= info.iterations > 0 and info.iterations < 60
        np.testing.assert_allclose(x * scale, np.linalg.lstsq(D / scale, b, rcond=None)[0], atol=1e-9)

    def test_badly_scaled_rows(self, alg):
        rng = np.random.default_rng(0)
        D = matrix(60, 20, 20, 3.0) * 10.0 ** rng.uniform(-4, 4, 60)[:, None]
        b = D @ rng.normal(size=20)
        x, info = cola.lstsq(
            ops.Dense(D), b, replace(alg, max_iters=2000), return_info=True, on_failure="ignore"
        )
        r = b - D @ x
        assert abs(info.residual - np.linalg.norm(r) / np.linalg.norm(b)) <= 1e-12
        small = np.linalg.norm(D.T @ r) <= 1.2e-8 * info.norm * np.linalg.norm(r)
        assert not info.converged or small or info.residual <= 1.1e-8

    def test_as_a_solver(self, alg):
        M = convection_diffusion(8)
        b = np.random.default_rng(0).normal(size=64)
        x, info = cola.solve(ops.Sparse.from_scipy(M), b, alg, return_info=True)
        assert info.converged and np.linalg.norm(b - M @ x) <= 1.1e-8 * np.linalg.norm(b)
        assert info.condition > 1 and info.norm > 1
        singular = cola.no_dispatch(ops.Dense(np.diag([1.0, 2.0, 0.0])))
        with pytest.warns(ConvergenceWarning, match="not in its range"):
            x, info = cola.solve(singular, np.ones(3), alg, return_info=True)
        np.testing.assert_allclose(x, [1, 0.5, 0], atol=1e-12)
        assert not info.converged
        x, info = cola.solve(singular, np.array([1.0, 2.0, 0.0]), alg, return_info=True)
        assert info.converged and x[2] == 0

    def test_exact_ends(self, alg):
        b = np.arange(40.0)
        for D in (-3 * np.eye(40), np.diag([2.0] * 20 + [5.0] * 20), np.ones((40, 7))):
            x, info = least(ops.Dense(D), b, alg)
            assert info.iterations <= 3
            np.testing.assert_allclose(x, np.linalg.pinv(D) @ b, atol=1e-7)
        for b in (np.zeros(40), np.r_[np.ones(20), -np.ones(20)]):  # zero, and orthogonal to the range
            x, info = least(ops.Dense(np.ones((40, 7))), b, alg)
            np.testing.assert_allclose(x, 0, atol=1e-14)
        assert cola.lstsq(np.zeros((3, 0)), np.ones(3), alg).shape == (0,)
        np.testing.assert_array_equal(cola.lstsq(np.zeros((3, 2)), np.ones(3), alg), 0)

    def test_nan_in_one_column_leaves_the_others(self, alg):
        D = matrix(12, 8, 8, 3.0)
        A = ops.FunctionOperator(
            lambda V: D @ V, (12, 8), rmatvec=lambda V: np.where(np.abs(V[:1]) > 0, np.nan, D.T @ V)
        )
        B = np.random.default_rng(0).normal(size=(12, 2))
        with pytest.warns(ConvergenceWarning, match="NaN"):
            X, info = cola.lstsq(A, B, alg, return_info=True)
        assert not info.converged

    def test_too_few_steps_are_reported(self, alg):
        D = matrix(60, 30, 30, 1e3)
        with pytest.warns(ConvergenceWarning, match="iteration limit"):
            _, info = cola.lstsq(ops.Dense(D), np.ones(60), replace(alg, max_iters=4), return_info=True)
        assert info.iterations == 4 and info.matvecs <= 12

    def test_rcond_is_refused(self, alg):
        with pytest.raises(ValueError, match="rcond"):
            cola.lstsq(np.eye(3), np.ones(3), alg, rcond=1e-3)

    def test_float32_of_a_hundred_thousand_rows(self, alg):
        n = 100_000
        A = ops.Concatenated(
            ops.Diagonal(np.linspace(1, 2, n, dtype=np.float32)), ops.ScalarMul(np.float32(2), n)
        )
        b = np.random.default_rng(0).normal(size=2 * n).astype(np.float32)
        x, info = least(cola.no_dispatch(A), b, alg)
        d = np.linspace(1, 2, n)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, (d * b[:n] + 2 * b[n:]) / (d * d + 4), atol=2e-4)


def test_residuals_agree_with_scipy():
    from scipy.sparse.linalg import lsmr

    D, b = matrix(80, 40, 40, 50.0), np.random.default_rng(3).normal(size=80)
    x, info = least(ops.Dense(D), b, LSMR(tol=1e-9))
    y, _, steps, _, _, norm, _, _ = lsmr(D, b, atol=1e-9, btol=1e-9, conlim=0, maxiter=1000)
    assert abs(info.iterations - steps) <= 1 and abs(info.norm / norm - 1) < 0.1
    np.testing.assert_allclose(x, y, atol=1e-6)


def test_the_normal_residual_of_lsmr_decreases():
    D, b = matrix(80, 40, 40, 1e3), np.random.default_rng(3).normal(size=80)
    sizes = []
    for steps in (5, 10, 20, 40):
        x = cola.lstsq(ops.Dense(D), b, LSMR(max_iters=steps), on_failure="ignore")
        sizes.append(np.linalg.norm(D.T @ (b - D @ x)))
    assert np.all(np.diff(sizes) < 0)


def test_auto_takes_lsmr_for_large_fast_products_and_never_densifies():
    rng = np.random.default_rng(0)
    m, n = 40_000, 9_000
    rows, columns = np.repeat(np.arange(m), 3), rng.integers(0, n, 3 * m)
    A = ops.Sparse(rng.normal(size=3 * m), rows, columns, (m, n))
    b = rng.normal(size=m)
    x, info = least(A, b, "auto")
    assert info.method == "LSMR"
    r = b - A @ x
    assert np.linalg.norm(A.H @ r) <= 1e-7 * info.norm * np.linalg.norm(r)
    _, dense = cola.lstsq(rng.normal(size=(60, 40)), b[:60], return_info=True)
    assert dense.method.startswith("LSTSQ")


@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (6, 6)])
@pytest.mark.parametrize("damp", [0.0, 0.4])
def test_derivatives_on_torch(shape, damp):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    m, n = shape
    D = torch.tensor(matrix(m, n, min(m, n), 3.0), requires_grad=True)
    b = torch.tensor(rng.normal(size=m), requires_grad=True)
    weights = torch.arange(float(n), dtype=torch.float64)
    want = torch.linalg.pinv(D) @ b
    if damp:
        want = torch.linalg.solve(D.mT @ D + damp**2 * torch.eye(n, dtype=torch.float64), D.mT @ b)
    want = torch.autograd.grad((want * weights).sum(), (D, b))
    for alg in (LSMR(tol=1e-13, damp=damp), LSQR(tol=1e-13, damp=damp)):
        got = torch.autograd.grad((cola.lstsq(ops.Dense(D), b, alg) * weights).sum(), (D, b))
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, atol=1e-8, rtol=1e-7)


def test_a_derivative_that_does_not_exist_is_refused():
    """A tall matrix of deficient rank: the answer jumps as the rank does."""
    torch = pytest.importorskip("torch")
    D = torch.tensor(matrix(9, 5, 3, 3.0), requires_grad=True)
    x = cola.lstsq(ops.Dense(D), torch.arange(9.0, dtype=torch.float64), LSMR(tol=1e-12))
    assert torch.all(torch.isfinite(x))
    with pytest.raises(SingularMatrixError, match="does not have full rank"):
        torch.autograd.grad(x.sum(), (D,))


@pytest.mark.parametrize("alg", [LSMR(tol=1e-12), CGLS(tol=1e-12)], ids=name)
def test_under_jit_and_grad(alg):
    jax = pytest.importorskip("jax")
    D, b = matrix(9, 5, 5, 3.0), jax.numpy.asarray(np.random.default_rng(0).normal(size=9))
    x, info = jax.jit(lambda D, b: cola.lstsq(ops.Dense(D), b, alg, return_info=True))(D, b)
    np.testing.assert_allclose(np.asarray(x), np.linalg.pinv(D) @ b, atol=1e-8)
    assert bool(info.converged) and float(info.normal_residual) <= 1.1e-12
    got = jax.jit(jax.grad(lambda D: (cola.lstsq(ops.Dense(D), b, alg) ** 2).sum()))(D)
    want = jax.grad(lambda D: ((jax.numpy.linalg.pinv(D) @ b) ** 2).sum())(D)
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), atol=1e-8)
