"""Iterations for some singular triples against dense answers, and the error they report."""

import numpy as np
import problems
import pytest
from compare import close

import cola_core as cola
from cola_core import BlockKrylovSVD, LanczosSVD, RandomizedSVD, ops
from cola_core.errors import ConvergenceWarning, UnknownNameError

ALGORITHMS = {
    "lanczos": LanczosSVD(),
    "randomized": RandomizedSVD(tol=1e-6, max_iters=400),
    "block krylov": BlockKrylovSVD(),
}


def lazy(backend, M):
    return cola.no_dispatch(ops.Dense(backend.asarray(M)))


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("spectrum", problems.SPECTRA)
def test_prescribed_singular_values(name, spectrum):
    for m, n, complex_ in ((100, 70, False), (60, 90, True)):
        s = problems.spectrum(spectrum, min(m, n))
        M = problems.with_singular_values(s, m, n, 2, complex_)
        tight = spectrum == "clustered" and name == "randomized"
        alg = RandomizedSVD(tol=1e-4) if tight else ALGORITHMS[name]  # values 1e-6 apart: any mixture of them
        (U, S, V), info = cola.svd(cola.no_dispatch(ops.Dense(M)), 4, alg=alg, return_info=True)
        U, V = U.to_dense(), V.to_dense()
        assert info.converged and info.residuals.shape == (4,)
        np.testing.assert_allclose(S.diag, s[:4], atol=3e-6)
        for X in (U, V):
            np.testing.assert_allclose(X.conj().T @ X, np.eye(4), atol=1e-11)
        gap = np.linalg.norm(M.conj().T @ U - V * S.diag, axis=0).max()
        assert gap <= max(2 * info.tolerance * s[0], 1e-11)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_backend_dtype_and_scale(backend, dtype, name):
    s = np.r_[5, 4, 3, np.linspace(1, 0.1, 50)]
    M = problems.with_singular_values(s, 70, 53, 0, "complex" in dtype).astype(dtype)
    for scale in (1.0, 1e-9):
        (_, S, _), info = cola.svd(lazy(backend, scale * M), 3, alg=ALGORITHMS[name], return_info=True)
        assert info.converged
        close(backend, S.diag / scale, s[:3], "float32" if name == "randomized" else dtype, scale=50)
        if backend.name == "jax":
            return


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize(
    "M",
    [np.zeros((30, 20)), np.ones((20, 30)), 2 * np.eye(25), np.arange(1.0, 7).reshape(2, 3), np.ones((1, 1))],
    ids=["zero", "rank one", "c*I", "2 x 3", "1 x 1"],
)
def test_breakdowns_and_sizes(name, M):
    for k in sorted({1, min(2, *M.shape), min(M.shape) if min(M.shape) < 4 else 4}):
        (U, S, V), info = cola.svd(cola.no_dispatch(ops.Dense(M)), k, alg=ALGORITHMS[name], return_info=True)
        assert info.converged
        np.testing.assert_allclose(S.diag, np.linalg.svd(M)[1][:k], atol=1e-10)
        for X in (U.to_dense(), V.to_dense()):
            np.testing.assert_allclose(X.T @ X, np.eye(k), atol=1e-10)


@pytest.mark.parametrize("cls", [RandomizedSVD, BlockKrylovSVD])
def test_the_probed_error_bounds_the_error(cls):
    for seed in range(10):
        s = problems.spectrum("decaying", 60, 1e3)
        M = problems.with_singular_values(s, 80, 60, seed)
        (U, S, V), info = cola.svd(ops.Dense(M), 5, alg=cls(key=seed), return_info=True)
        error = np.linalg.norm(M - (U.to_dense() * S.diag) @ V.to_dense().T, 2)
        assert error <= info.error_estimate <= 200 * error


def test_a_flat_spectrum_is_a_miss_that_is_told():
    M = np.random.default_rng(0).normal(size=(150, 150))
    for alg in (RandomizedSVD(tol=1e-6), LanczosSVD(max_iters=10), BlockKrylovSVD(tol=1e-9, max_iters=2)):
        with pytest.warns(ConvergenceWarning, match=type(alg).__name__):
            info = cola.svd(M, 3, alg=alg, return_info=True)[1]
        assert not info.converged and info.residual > info.tolerance


def test_few_passes_over_the_operator():
    M = problems.with_singular_values(problems.spectrum("polynomial", 80), 90, 80)
    calls = []

    def product(X, M=M):
        calls.append(X.shape)
        return M @ X

    A = ops.FunctionOperator(product, (90, 80), rmatvec=lambda X: product(X, M.T), dtype="float64")
    info = cola.svd(A, 5, alg=RandomizedSVD(), return_info=True)[1]
    assert len(calls) <= info.matvecs + 4 and info.matvecs <= 110


def test_misuse_is_named():
    M = np.random.default_rng(0).normal(size=(60, 50))
    for alg in (RandomizedSVD(), LanczosSVD(), BlockKrylovSVD()):
        with pytest.raises(UnknownNameError, match="largest"):
            cola.svd(M, 2, "SM", alg)


def test_inside_jit():
    jax = pytest.importorskip("jax")
    s = np.r_[5, 4, 3, np.linspace(1, 0.1, 50)]
    M = jax.numpy.asarray(problems.with_singular_values(s, 60, 53), dtype="float64")
    for alg in (LanczosSVD(), RandomizedSVD(), BlockKrylovSVD()):

        def values(a, alg=alg):
            (_, S, _), info = cola.svd(a, 3, alg=alg, return_info=True)
            return S.diag, info

        got, info = jax.jit(values)(M)
        np.testing.assert_allclose(got, s[:3], atol=1e-4)
        assert bool(info.converged)
