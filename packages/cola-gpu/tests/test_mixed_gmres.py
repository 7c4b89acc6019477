"""GMRES iterative refinement: accuracy, honesty, factors, columns, batches, complex numbers, derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from cola_core import ops
from cola_core.backends import get_backend
from cola_core.errors import (
    ConvergenceWarning,
    DTypeError,
    NonFiniteError,
    ShapeError,
    UnknownNameError,
)
from cola_core.linalg import inv, solve
from cola_gpu import MixedPrecisionGMRES


def general(rng, n, condition, dtype=np.float64):
    """A matrix with singular values in geometric progression from 1 to 1 / condition."""

    def basis():
        X = rng.standard_normal((n, n))
        return np.linalg.qr(X + 1j * rng.standard_normal((n, n)) if np.dtype(dtype).kind == "c" else X)[0]

    return ((basis() * np.geomspace(1, 1 / condition, n)) @ basis()).astype(dtype)


def run(A, b, **settings):
    """(x, info, relative residual per column recomputed here)."""
    bk = A.backend
    x, info = MixedPrecisionGMRES(**settings).run(A, bk.asarray(b))
    dense, solution = bk.to_numpy(A.to_dense()), bk.to_numpy(x)
    axis = -2 if b.ndim > 1 else 0
    norm = np.linalg.norm(b, axis=axis)
    left = np.linalg.norm(b - dense @ solution, axis=axis)
    return solution, info, left / np.where(norm > 0, norm, 1)


SETTINGS = [{}, {"precision": "tfloat32"}, {"factor": "float16"}, {"factor": "bfloat16"}, {"P": "lu"}]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_reaches_the_working_residual(backend, rng, settings, dtype):
    if backend.name == "jax" and (dtype != "float64" or settings.get("factor") == "bfloat16"):
        dtype, settings = "float64", {"precision": "bfloat16"}  # a structure compiles for seconds
    M = general(rng, 24, 1e2, dtype)
    b = rng.standard_normal((24, 2)).astype(dtype)
    x, info, residual = run(ops.Dense(backend.asarray(M)), b, tol=1e-11, **settings)
    assert info.converged and info.reason.startswith("converged") and "promoted" not in info.reason
    assert x.dtype == dtype and residual.max() <= 1.1e-11
    assert info.residual == pytest.approx(residual.max(), rel=0.05)


def test_structured_operators(rng):
    n = 30
    T = ops.Toeplitz(np.r_[4.0, -1.0, 0.3, np.zeros(n - 3)], np.r_[4.0, -2.0, np.zeros(n - 2)])
    S = ops.Sparse(np.full(n, 0.5), np.arange(n), np.roll(np.arange(n), 3), (n, n))
    K = ops.Kronecker(ops.Dense(general(rng, 5, 5)), ops.Dense(general(rng, 6, 3)))
    for A in (T, T + S, K, ops.Sum(T, ops.LowRank(rng.standard_normal((n, 2)), rng.standard_normal((n, 2))))):
        for settings in ({}, {"precision": "tfloat32"}, {"factor": "float16"}):
            _, info, residual = run(A, rng.standard_normal(n), tol=1e-11, **settings)
            assert info.converged and residual <= 1.1e-11


def test_columns_stop_on_their_own_and_batches_are_solved(backend, rng):
    M = np.stack([general(rng, 12, 30.0) for _ in range(3)])
    b = rng.standard_normal((3, 12, 3))
    b[:, :, 1] = 0
    b[1, :, 2] *= 1e150
    for settings in ({}, {"factor": "float32"}):
        x, info, residual = run(ops.Dense(backend.asarray(M)), b, **settings)
        assert x.shape == b.shape and info.converged and residual.max() <= 1.01e-8
        assert (x[:, :, 1] == 0).all() and tuple(info.residuals.shape) == (3, 3)


def test_short_restarts_and_preconditioners(rng):
    M = general(rng, 60, 20.0) + np.diag(np.linspace(5, 50, 60))
    A, b = ops.Dense(M), rng.standard_normal((60, 2))
    P = ops.Dense(np.linalg.inv(M + 0.1 * rng.standard_normal((60, 60))))
    _, plain, _ = run(A, b, restart=10)
    _, info, residual = run(A, b, restart=10, P=P)
    assert plain.converged and info.converged and residual.max() <= 1.01e-8
    assert info.iterations < plain.iterations
    _, again, _ = run(A, b, restart=10, P=lambda A: P)
    assert again.iterations == info.iterations


def test_sizes_one_and_zero(backend):
    one = ops.Dense(backend.asarray(np.array([[-4.0]])))
    for settings in ({}, {"factor": "float16"}):
        x, info, _ = run(one, np.array([2.0]), **settings)
        assert info.converged and x == pytest.approx(-0.5, rel=1e-12)
    x, info = MixedPrecisionGMRES().run(
        ops.Dense(backend.asarray(np.zeros((0, 0)))), backend.asarray(np.zeros((0, 2)))
    )
    assert tuple(x.shape) == (0, 2) and info.converged
    x, info = MixedPrecisionGMRES().run(one, backend.asarray(np.zeros((1, 0))))
    assert tuple(x.shape) == (1, 0) and info.converged


def test_singular_matrices_are_told(rng):
    M = general(rng, 12, 10.0)
    M[:, 3] = M[:, 5]
    for settings in ({}, {"factor": "float16"}, {"factor": "float64"}):
        x, info, residual = run(ops.Dense(M), rng.standard_normal(12), **settings)
        assert not info.converged and residual > 1e-8 and "converged" not in info.reason
        noise = 100 * 2e-16 * np.linalg.norm(x)  # what rounding leaves of a residual of an x of 1e16
        assert info.residual == pytest.approx(residual, rel=0.05, abs=noise) and np.isfinite(x).all()
        _, info, residual = run(ops.Dense(M), M @ rng.standard_normal(12), **settings)
        assert info.converged == (residual <= 1.01e-8)
    for Z in (np.zeros((4, 4)), np.diag([1.0, 0.0, 2.0])):
        _, info, _ = run(ops.Dense(Z), np.ones(len(Z)), factor="float16")
        assert not info.converged


def test_a_rounded_matrix_that_is_singular_is_promoted():
    M = np.array([[1.0, 1.0], [1.0, 1.0 + 2.0**-14]])  # one row twice in half precision
    x, info, residual = run(ops.Dense(M), np.array([1.0, 2.0]), factor="float16", max_iters=3)
    assert info.converged == (residual <= 1.01e-8)
    x, info, residual = run(ops.Dense(M), np.array([1.0, 2.0]), factor="float16")
    assert info.converged and residual <= 1.01e-8


def test_nan_and_overflow_are_told(backend, rng):
    M = general(rng, 6, 10.0)
    with pytest.raises(NonFiniteError, match="right-hand side"):
        run(ops.Dense(backend.asarray(M)), np.full(6, np.inf))
    M[2, 2] = np.nan
    for settings in ({}, {"factor": "float32"}):
        x, info, _ = run(ops.Dense(backend.asarray(M)), np.ones(6), **settings)
        assert not info.converged and "NaN" in info.reason and np.isnan(x).all()


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1e9, 1e200])
@pytest.mark.parametrize("settings", [{}, {"precision": "tfloat32"}, {"factor": "float16"}])
def test_scale_of_the_operator_is_irrelevant(rng, scale, settings):
    M, b = general(rng, 20, 30.0), rng.standard_normal(20)
    x, info, _ = run(ops.Dense(scale * M), b, **settings)
    assert info.converged and "promoted" not in info.reason
    np.testing.assert_allclose(x * scale, np.linalg.solve(M, b), rtol=1e-5, atol=1e-6)


def test_half_factors_need_the_scaling(rng):
    """Rows and columns over thirty orders of magnitude leave the range of float16 (and of float32)."""
    D, E = np.geomspace(1, 1e30, 25), np.geomspace(1e15, 1e-15, 25)
    M = D[:, None] * (general(rng, 25, 10.0) + np.eye(25)) * E
    b = M @ rng.standard_normal(25)
    _, info, residual = run(ops.Dense(M), b, factor="float16", tol=1e-12)
    assert info.converged and residual <= 1.1e-12 and "promoted" not in info.reason and info.iterations < 20


def test_failure_warns(rng):
    A, b = ops.Dense(general(rng, 30, 1e9)), rng.standard_normal(30)
    with pytest.warns(ConvergenceWarning, match="mixed|Mixed"):
        solve(A, b, MixedPrecisionGMRES(max_iters=6, tol=1e-12))


def test_single_working_precision(rng):
    M = general(rng, 20, 10.0, np.float32)
    for settings in ({}, {"precision": "tfloat32"}, {"factor": "float16"}, {"factor": "float64"}):
        x, info, residual = run(ops.Dense(M), rng.standard_normal(20).astype(np.float32), **settings)
        assert info.converged and x.dtype == np.float32 and residual <= 1.1e-5


def test_refusals(rng):
    A, b = ops.Dense(general(rng, 4, 3.0)), np.ones(4)
    with pytest.raises(UnknownNameError, match="float16"):
        MixedPrecisionGMRES(factor="fp8").run(A, b)
    with pytest.raises(UnknownNameError, match="bfloat16"):
        MixedPrecisionGMRES(precision="half").run(A, b)
    with pytest.raises(UnknownNameError, match="lu"):
        MixedPrecisionGMRES(P="jacobi").run(A, b)
    with pytest.raises(UnknownNameError, match="preconditioner"):
        MixedPrecisionGMRES(P=A, factor="float16").run(A, b)
    with pytest.raises(ShapeError, match="not square"):
        MixedPrecisionGMRES().run(ops.Dense(np.ones((3, 4))), b)
    with pytest.raises(ShapeError, match="do not fit"):
        MixedPrecisionGMRES().run(A, np.ones(5))
    with pytest.raises(DTypeError, match="float16"):
        MixedPrecisionGMRES().run(ops.Dense(np.ones((4, 4), np.float16)), b.astype(np.float16))


def test_torch_differentiates(rng):
    torch = pytest.importorskip("torch")
    M = torch.tensor(general(rng, 5, 10.0), requires_grad=True)
    b = torch.tensor(rng.standard_normal((5, 2)), requires_grad=True)
    for settings in ({}, {"factor": "float16"}, {"P": ops.Dense(torch.linalg.inv(M.detach()) + 0.01)}):

        def ours(M, b, settings=settings):
            return solve(ops.Dense(M), b, MixedPrecisionGMRES(tol=1e-13, **settings))

        assert torch.autograd.gradcheck(ours, (M, b))
    assert torch.autograd.gradgradcheck(ours, (M, b))
    Z = torch.tensor(general(rng, 4, 5.0, np.complex128), requires_grad=True)
    c = torch.tensor(rng.standard_normal(4) + 1j, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda Z, c: solve(ops.Dense(Z), c, MixedPrecisionGMRES(tol=1e-13)), (Z, c)
    )


def test_a_failing_derivative_says_so(rng):
    torch = pytest.importorskip("torch")
    M = torch.tensor(general(rng, 30, 1e6), requires_grad=True)
    b = M.detach() @ torch.ones(30, dtype=torch.float64)
    with pytest.warns(ConvergenceWarning, match="^solve"):
        x = solve(ops.Dense(M), b, MixedPrecisionGMRES(max_iters=8))
    with pytest.warns(ConvergenceWarning, match="gradient of solve"):
        x.sum().backward()


def test_jax_traces_and_differentiates(rng):
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    M, b = jnp.asarray(general(rng, 6, 10.0)), jnp.asarray(rng.standard_normal(6))

    def ours(M, b):
        x, info = solve(ops.Dense(M), b, MixedPrecisionGMRES(tol=1e-12, P="lu"), return_info=True)
        return (x**3).sum(), info

    def dense(M, b):
        return (jnp.linalg.solve(M, b) ** 3).sum()

    (value, info), got = jax.jit(jax.value_and_grad(ours, (0, 1), has_aux=True))(M, b)
    want = jax.grad(dense, (0, 1))(M, b)
    assert bool(info.converged) and info.reason == "converged" and float(info.residual) <= 1.1e-12
    np.testing.assert_allclose(value, dense(M, b), rtol=1e-9)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)


def test_loops_on_accelerators_look_seldom(rng, monkeypatch):
    """Steps beyond the end, which an accelerator may make, change nothing."""
    torch = pytest.importorskip("torch")
    from cola_core import PSD
    from cola_gpu import MixedPrecisionCG, gmres_inner, refinement

    M = general(rng, 30, 50.0)
    S = M @ M.T + np.eye(30)
    b = rng.standard_normal((30, 3))
    b[:, 1] = np.linalg.eigh(S)[1][:, 0]  # one step of CG

    def answers():
        cg, one = MixedPrecisionCG(tol=1e-12).run(PSD(ops.Dense(torch.tensor(S))), torch.tensor(b))
        gm, two = MixedPrecisionGMRES(tol=1e-12).run(ops.Dense(torch.tensor(M)), torch.tensor(b))
        assert one.converged and two.converged
        return cg, gm, one.iterations + two.iterations

    before = answers()
    for module in (refinement, gmres_inner):
        monkeypatch.setattr(module, "look_every", lambda bk, r: 8)
    after = answers()
    for x, y in zip(before[:2], after[:2], strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-11)
    assert before[2] <= after[2] <= before[2] + 8 * 10


def test_factors_of_what_is_spread_over_devices_are_for_the_core_to_refuse():
    assert MixedPrecisionGMRES(factor="float16").gathers == "entries"
    assert MixedPrecisionGMRES(P="lu").gathers == "entries" and MixedPrecisionGMRES().gathers == ""


@pytest.mark.parametrize("factor", [None, "float32"])
def test_structured_operators_are_solved_part_by_part(rng, factor):
    """`factor` is a setting here, and not the method of a direct solver."""
    backend = get_backend("numpy")
    alg = MixedPrecisionGMRES(factor=factor, tol=1e-10)
    M, N = (rng.standard_normal((n, n)) + 4 * np.eye(n) for n in (2, 3))
    A, B = (ops.Dense(backend.asarray(X)) for X in (M, N))
    for C, want in (
        (ops.Kronecker(A, B), np.kron(M, N)),
        (ops.BlockDiag(A, B), np.block([[M, np.zeros((2, 3))], [np.zeros((3, 2)), N]])),
        (ops.Product(A, A), M @ M),
    ):
        b = rng.standard_normal((len(want), 2))
        x = backend.to_numpy(solve(C, backend.asarray(b), alg))
        np.testing.assert_allclose(want @ x, b, atol=1e-8)
        y = backend.to_numpy(inv(C, alg) @ backend.asarray(b))
        np.testing.assert_allclose(want @ y, b, atol=1e-8)
