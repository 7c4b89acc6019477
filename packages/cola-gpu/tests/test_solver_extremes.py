"""Solvers at the ends of the range of a dtype: what is reported is true of what is returned."""

import numpy as np
import pytest

import cola_core as cola
from cola_core import PSD, ops
from cola_gpu import MixedPrecisionCG, MixedPrecisionGMRES
from cola_gpu.krylov import DeviceCG

pytestmark = pytest.mark.filterwarnings("ignore::cola_core.errors.ConvergenceWarning")
MIXED = [MixedPrecisionCG(tol=1e-8), MixedPrecisionGMRES(tol=1e-8), MixedPrecisionGMRES(factor="float32")]


@pytest.mark.parametrize("alg", MIXED, ids=lambda a: f"{type(a).__name__}-{a.precision}")
def test_a_solution_beyond_the_range_is_not_called_converged(backend, rng, spd, alg):
    M = spd(rng, 6)
    for size, scale in ((1e-200, 1e150), (1e200, 1e-150)):  # x is infinite, x is zero
        A = PSD(ops.Dense(backend.asarray(size * M)))
        b = rng.standard_normal((6, 2))
        b[:, 1] *= scale
        x, info = cola.solve(A, backend.asarray(b), alg, return_info=True)
        x = backend.to_numpy(x)
        assert not info.converged and "range" in info.reason
        residuals = backend.to_numpy(info.residuals)
        assert residuals[0] <= 1e-8 and residuals[1] > 0.9
        np.testing.assert_allclose(x[:, 0] * size, np.linalg.solve(M, b[:, 0]), atol=1e-6)
        assert np.isinf(x[:, 1]).any() if size < 1 else not x[:, 1].any()


@pytest.mark.parametrize("alg", [MixedPrecisionCG, MixedPrecisionGMRES])
def test_a_guess_of_no_use_is_left_out(backend, rng, spd, alg):
    M = spd(rng, 6)
    A, b = PSD(ops.Dense(backend.asarray(1e200 * M))), rng.standard_normal((6, 2))
    for x0 in (np.ones((6, 2)), np.ones(6)):  # with a residual whose square overflows; for every column
        chosen = alg(tol=1e-8, x0=backend.asarray(x0))
        x, info = cola.solve(A, backend.asarray(b), chosen, return_info=True)
        assert info.converged
        np.testing.assert_allclose(1e200 * backend.to_numpy(x), np.linalg.solve(M, b), atol=1e-6)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_gmres_in_the_working_precision_at_any_scale(rng, spd, size):
    M, b = spd(rng, 7) + rng.standard_normal((7, 7)), rng.standard_normal((7, 2))
    for A in (ops.Dense(size * M), ops.Dense(size * M - size * np.eye(7)) + ops.Diagonal(np.full(7, size))):
        for settings in ({"precision": "float64"}, {"factor": "float32"}, {"factor": "float64"}, {}):
            x, info = cola.solve(A, b, MixedPrecisionGMRES(tol=1e-12, **settings), return_info=True)
            assert info.converged, (settings, info.reason)
            np.testing.assert_allclose(size * x, np.linalg.solve(M, b), atol=1e-10)


@pytest.mark.parametrize("alg", [DeviceCG(), DeviceCG(check_every=1), cola.CG()], ids=str)
def test_the_scale_of_an_operator_does_not_make_it_singular(backend, rng, spd, alg):
    M = spd(rng, 7)
    A, b = PSD(ops.Dense(backend.asarray(1e-200 * M))), rng.standard_normal((7, 2))
    x, info = cola.solve(A, backend.asarray(b), alg, return_info=True)
    assert info.converged and info.iterations <= 10
    np.testing.assert_allclose(1e-200 * backend.to_numpy(x), np.linalg.solve(M, b), atol=1e-6)


def test_the_best_iterate_outlives_a_product_that_is_not_finite(rng, with_spectrum):
    """An operator that fails late: what had been reached at the last look is returned, not zeros."""
    M = with_spectrum(rng, np.logspace(0, -4, 40))
    made = []

    def product(X):
        made.append(1)
        return M @ X if len(made) <= 12 else np.nan * X

    A = PSD(ops.FunctionOperator(product, (40, 40), dtype=np.float64))
    x, info = cola.solve(A, M @ np.ones(40), DeviceCG(check_every=4, tol=1e-12), return_info=True)
    assert not info.converged and "NaN" in info.reason
    assert np.isfinite(x).all() and np.linalg.norm(M @ (x - 1)) < 0.1 * np.linalg.norm(M @ np.ones(40))


def test_a_badly_scaled_system_is_solved_where_its_residual_says_so():
    rng = np.random.default_rng(623)
    solved = 0
    for _ in range(20):
        V = np.linalg.qr(rng.standard_normal((16, 16)))[0]
        d = 10.0 ** rng.uniform(-4, 4, 16)
        M = d[:, None] * ((V * rng.uniform(1, 10, 16)) @ V.T) * d
        A, b = PSD(ops.Dense((M + M.T) / 2)), rng.standard_normal(16)
        x, info = cola.solve(A, b, DeviceCG(tol=1e-3, max_iters=1000), return_info=True)
        assert info.converged == (np.linalg.norm(b - A @ x) <= 1.1e-3 * np.linalg.norm(b))
        solved += info.converged
    assert solved >= 12
