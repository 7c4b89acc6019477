"""Mixed-precision CG: accuracy, honesty, precisions, columns, preconditioners, structure, derivatives."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from cola_core import PSD, ops
from cola_core.errors import (
    ConvergenceError,
    ConvergenceWarning,
    DTypeError,
    NonFiniteError,
    NotPositiveDefiniteError,
    ShapeError,
    UnknownNameError,
)
from cola_core.linalg import solve
from cola_gpu import MixedPrecisionCG

PRECISIONS = ["auto", "float64", "bfloat16", "float16"]


def run(A, b, **settings):
    """(x, info, relative residual per column recomputed here in float64)."""
    bk = A.backend
    x, info = MixedPrecisionCG(**settings).run(A, bk.asarray(b))
    dense = bk.to_numpy(A.to_dense())
    dense = dense.astype(np.result_type(dense, np.float64))
    solution = bk.to_numpy(x)
    norm = np.linalg.norm(b, axis=-2 if b.ndim > 1 else 0)
    left = np.linalg.norm(b - dense @ solution, axis=-2 if b.ndim > 1 else 0)
    return solution, info, np.where(norm > 0, left / np.where(norm > 0, norm, 1), left)


def geometric(n, condition):
    return np.logspace(0, -np.log10(condition), n)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("condition", [1e1, 1e2, 1e4])
def test_reaches_the_float64_residual(backend, rng, with_spectrum, condition, precision):
    A = PSD(ops.Dense(backend.asarray(with_spectrum(rng, geometric(80, condition)))))
    x, info, residual = run(A, rng.standard_normal((80, 2)), precision=precision, tol=1e-10, max_iters=3000)
    assert info.converged and info.reason.startswith("converged")
    assert x.dtype == np.float64 and residual.max() <= 1.01e-10
    assert info.residual == pytest.approx(residual.max(), rel=1e-2)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("condition", [1e6, 1e8, 1e10, 1e12])
def test_converges_or_says_it_does_not(backend, rng, with_spectrum, condition, precision):
    if backend.name != "numpy" and precision in ("auto", "float64"):
        precision = {"auto": "bfloat16", "float64": "float16"}[precision]  # single and double: NumPy's turn
    A = PSD(ops.Dense(backend.asarray(with_spectrum(rng, geometric(60, condition)))))
    _, info, residual = run(A, rng.standard_normal((60, 2)), precision=precision, max_iters=2000)
    assert info.converged == bool(residual.max() <= 1.01e-8)
    assert info.residual == pytest.approx(residual.max(), rel=0.05), "the reported residual is the true one"
    if not info.converged:
        assert "converged" not in info.reason


def test_promotes_step_by_step_and_says_so(rng, with_spectrum):
    torch = pytest.importorskip("torch")
    A = PSD(ops.Dense(torch.tensor(with_spectrum(rng, geometric(60, 1e4)))))
    _, info, residual = run(A, rng.standard_normal(60), precision="bfloat16", max_iters=2000)
    assert info.converged and residual <= 1.01e-8
    assert "promoted from bfloat16 to float32)" in info.reason
    A = PSD(ops.Dense(torch.tensor(with_spectrum(rng, geometric(60, 1e9)))))
    _, info, residual = run(A, rng.standard_normal(60), precision="bfloat16", max_iters=2000)
    assert not info.converged and "promoted from bfloat16 to float32 to float64" in info.reason


def test_failure_is_a_warning_or_an_error(backend, rng, with_spectrum):
    A = PSD(ops.Dense(backend.asarray(with_spectrum(rng, geometric(50, 1e9)))))
    b = backend.asarray(rng.standard_normal(50))
    with pytest.warns(ConvergenceWarning, match="iteration limit"):
        solve(A, b, MixedPrecisionCG(max_iters=40))
    with pytest.raises(ConvergenceError):
        solve(A, b, MixedPrecisionCG(max_iters=40), on_failure="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(A, b, MixedPrecisionCG(max_iters=40), on_failure="ignore")


def test_columns_stop_on_their_own(backend, rng, with_spectrum):
    spectrum = geometric(60, 1e3)
    M = with_spectrum(rng, spectrum)
    easy = np.linalg.eigh(M)[1][:, -1]  # an eigenvector: one step
    b = np.stack([easy, rng.standard_normal(60), np.zeros(60), 1e150 * rng.standard_normal(60)], axis=1)
    x, info, residual = run(PSD(ops.Dense(backend.asarray(M))), b, tol=1e-9)
    assert info.converged and (residual <= 1.01e-9).all()
    assert (x[:, 2] == 0).all(), "a zero right-hand side has solution zero"
    assert len(info.residuals) == 4


@pytest.mark.parametrize("scale", [1e-9, 1e-200, 1e200, 1e9])
@pytest.mark.parametrize("precision", ["auto", "float16"])
def test_scale_of_the_operator_is_irrelevant(backend, rng, with_spectrum, scale, precision):
    M, b = with_spectrum(rng, geometric(50, 1e2)), rng.standard_normal(50)
    one = run(PSD(ops.Dense(backend.asarray(M))), b, precision=precision)
    other = run(PSD(ops.Dense(backend.asarray(scale * M))), b, precision=precision)
    # no scale here is a power of two, so that entries round differently, in half precision by a thousandth
    few = 0.1 * one[1].iterations if precision == "float16" else 3
    assert other[1].converged and abs(one[1].iterations - other[1].iterations) <= few
    np.testing.assert_allclose(other[0] * scale, one[0], rtol=1e-5, atol=1e-6)


def test_large_single_precision():
    n = 100_000
    d = np.linspace(1.0, 100.0, n, dtype=np.float32)
    b = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    x, info = MixedPrecisionCG().run(PSD(ops.Diagonal(d)), b)
    assert info.converged and x.dtype == np.float32
    assert np.linalg.norm(b - d * x.astype(np.float64)) <= 1.1e-5 * np.linalg.norm(b)


def test_large_sparse_single_in_double():
    n = 100_000
    i = np.arange(n - 1)
    rows, cols = np.r_[np.arange(n), i, i + 1], np.r_[np.arange(n), i + 1, i]
    A = PSD(ops.Sparse(np.r_[np.full(n, 2.0025), -np.ones(2 * n - 2)], rows, cols, (n, n)))
    b = np.random.default_rng(1).standard_normal(n)
    x, info = solve(A, b, MixedPrecisionCG(tol=1e-12), return_info=True)
    assert info.converged and info.method == "MixedPrecisionCG[float32 in float64]"
    assert np.linalg.norm(b - A @ x) <= 1.01e-12 * np.linalg.norm(b)


def test_easy_spectra_are_exact(backend):
    for d in (np.full(30, 3.0), np.where(np.arange(30) < 7, 1.0, 5.0), np.ones(1)):
        A = PSD(ops.Diagonal(backend.asarray(d)))
        x, info, _ = run(A, np.ones(len(d)), tol=1e-14)
        assert info.converged and info.iterations <= 8
        np.testing.assert_allclose(x, 1 / d, rtol=1e-14)


def test_indefinite_is_flagged(backend, rng, with_spectrum):
    A = PSD(ops.Dense(backend.asarray(with_spectrum(rng, np.linspace(-1, 1, 40)))))
    _, info, _ = run(A, rng.standard_normal(40))
    assert not info.converged and "not positive definite" in info.reason


def test_singular_inconsistent_is_flagged_and_consistent_is_solved(backend):
    A = PSD(ops.Diagonal(backend.asarray(np.array([0.0, 1.0, 2.0, 3.0]))))
    _, info, _ = run(A, np.ones(4))
    assert not info.converged
    x, info, _ = run(A, np.array([0.0, 1.0, 1.0, 1.0]))
    assert info.converged
    np.testing.assert_allclose(x, [0, 1, 1 / 2, 1 / 3], atol=1e-8)


def test_nan_is_flagged(backend, rng, with_spectrum):
    M = with_spectrum(rng, geometric(10, 10))
    with pytest.raises(NonFiniteError, match="right-hand side"):
        solve(PSD(ops.Dense(backend.asarray(M))), backend.asarray(np.full(10, np.nan)), MixedPrecisionCG())
    M[3, 3] = np.nan
    x, info, _ = run(PSD(ops.Dense(backend.asarray(M))), np.ones(10))
    assert not info.converged and "NaN" in info.reason and np.isnan(x).all()


def test_half_precision_overflow_is_survived(rng):
    """Entries that the scaling cannot see (a function) overflow float16: promoted, not NaN."""
    torch = pytest.importorskip("torch")
    d = torch.linspace(1e6, 2e6, 40, dtype=torch.float64)
    A = PSD(ops.FunctionOperator(lambda x: d.to(x.dtype) * x, (40, 40), "float64", backend="torch"))
    _, info, residual = run(A, rng.standard_normal(40), precision="float16")
    assert info.converged and residual <= 1.01e-8 and "promoted from float16" in info.reason


def test_scaling_keeps_large_entries_in_half_precision(rng, with_spectrum):
    torch = pytest.importorskip("torch")
    A = PSD(ops.Dense(torch.tensor(1e6 * with_spectrum(rng, geometric(40, 50)))))
    _, info, residual = run(A, rng.standard_normal(40), precision="float16")
    assert info.converged and residual <= 1.01e-8 and "promoted" not in info.reason


def psd(dense, to):
    return PSD(ops.Dense(to(dense)))


STRUCTURES = {
    "sparse": lambda M, to: ops.Sparse(to(M[np.nonzero(M)]), *np.nonzero(M), M.shape),
    "sum": lambda M, to: ops.Sum(psd(M, to), ops.Diagonal(to(1e3 + np.arange(len(M))))),
    "scaled": lambda M, to: 1e-6 * psd(M, to),
    "kronecker": lambda M, to: ops.Kronecker(psd(1e4 * M, to), psd(M[:3, :3], to)),
    "lowrank": lambda M, to: ops.Sum(ops.LowRank(to(M[:, :2])), ops.Identity(len(M))),
    "block": lambda M, to: ops.BlockDiag(psd(M, to), psd(M[:4, :4], to)),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structured_operators(backend, rng, spd, name):
    precision = "auto" if backend.name == "numpy" else "float16"
    dense = spd(rng, 9)
    dense[abs(dense) < 0.1] = 0.0
    A = PSD(STRUCTURES[name](dense, backend.asarray))
    _, info, residual = run(A, rng.standard_normal((A.shape[-1], 2)), precision=precision, tol=1e-9)
    assert info.converged and residual.max() <= 1.01e-9


@pytest.mark.parametrize(
    "P,precision", [("jacobi", "auto"), ("jacobi", "float16"), ("operator", "auto"), ("function", "auto")]
)
def test_preconditioners_help(backend, rng, spd, precision, P):
    D = np.logspace(0, 4, 60)
    M = D[:, None] ** 0.5 * spd(rng, 60) * D**0.5
    A, b = PSD(ops.Dense(backend.asarray(M))), rng.standard_normal((60, 2))
    inverse = ops.Diagonal(backend.asarray(1 / np.diag(M)))
    P = {"jacobi": "jacobi", "operator": inverse, "function": lambda A: inverse}[P]
    _, plain, _ = run(A, b, precision="float64", max_iters=5000)
    _, info, residual = run(A, b, precision=precision, P=P)
    assert info.converged and residual.max() <= 1.01e-8
    assert info.iterations < 0.5 * plain.iterations


def test_batches_and_vectors(backend, rng, spd):
    M, b = spd(rng, 12, (3,)), rng.standard_normal((3, 12, 2))
    A = PSD(ops.Dense(backend.asarray(M)))
    x, info, residual = run(A, b)
    assert x.shape == (3, 12, 2) and info.converged and residual.max() <= 1.01e-8
    one = PSD(ops.Dense(backend.asarray(M[0])))
    assert run(one, b[0, :, 0])[0].shape == (12,)
    x, _, residual = run(one, b)  # one matrix, a batch of right-hand sides
    assert x.shape == (3, 12, 2) and residual.max() <= 1.01e-8


def test_warm_start(backend, rng, with_spectrum):
    M, b = with_spectrum(rng, geometric(40, 100)), rng.standard_normal(40)
    A = PSD(ops.Dense(backend.asarray(M)))
    x, cold, _ = run(A, b)
    _, warm, residual = run(A, b, x0=backend.asarray(x * (1 + 1e-6)))
    assert warm.converged and residual <= 1.01e-8 and warm.iterations < cold.iterations


def test_refusals(backend):
    A = PSD(ops.Diagonal(backend.asarray(np.array([1.0, -1.0]))))
    ones = backend.asarray(np.ones(2))
    with pytest.raises(NotPositiveDefiniteError, match="diagonal"):
        MixedPrecisionCG(P="jacobi").run(A, ones)
    with pytest.raises(UnknownNameError, match="jacobi"):
        MixedPrecisionCG(P="ilu").run(A, ones)
    with pytest.raises(UnknownNameError, match="bfloat16"):
        MixedPrecisionCG(precision="fp8").run(A, ones)
    with pytest.raises(ShapeError, match="x0"):
        MixedPrecisionCG(x0=backend.asarray(np.ones(3))).run(A, ones)
    if backend.name != "numpy":
        half = PSD(ops.Diagonal(backend.asarray(np.ones(2), dtype="float16")))
        with pytest.raises(DTypeError, match="float16"):
            MixedPrecisionCG().run(half, backend.asarray(np.ones(2), dtype="float16"))


def test_applies_to_what_is_declared_psd(backend, rng, spd):
    M = backend.asarray(spd(rng, 5))
    assert MixedPrecisionCG().applicable("solve", PSD(ops.Dense(M)), M) is True
    assert "PSD" in MixedPrecisionCG().applicable("solve", ops.Dense(M), M)


def test_jax_traces_and_differentiates(rng, spd):
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    M, b = jnp.asarray(spd(rng, 8)), jnp.asarray(rng.standard_normal(8))

    def ours(M, b):
        return solve(PSD(ops.Dense(0.5 * (M + M.T))), b, MixedPrecisionCG(tol=1e-12))

    def dense(M, b):
        return jnp.linalg.solve(0.5 * (M + M.T), b)

    np.testing.assert_allclose(jax.jit(ours)(M, b), dense(M, b), rtol=1e-8)
    got = jax.jit(jax.grad(lambda M, b: (ours(M, b) ** 3).sum(), (0, 1)))(M, b)
    want = jax.grad(lambda M, b: (dense(M, b) ** 3).sum(), (0, 1))(M, b)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)

    def curvature(f):  # of the loss along b: forward over reverse
        return jax.jvp(jax.grad(lambda b: (f(M, b) ** 3).sum()), (b,), (b,))[1]

    np.testing.assert_allclose(curvature(ours), curvature(dense), rtol=1e-6, atol=1e-8)


def test_torch_differentiates(rng, spd):
    torch = pytest.importorskip("torch")
    M = torch.tensor(spd(rng, 6), requires_grad=True)
    b = torch.tensor(rng.standard_normal((6, 2)), requires_grad=True)

    def ours(M, b):
        return solve(PSD(ops.Dense(0.5 * (M + M.mT))), b, MixedPrecisionCG(tol=1e-13))

    assert torch.autograd.gradcheck(ours, (M, b))
