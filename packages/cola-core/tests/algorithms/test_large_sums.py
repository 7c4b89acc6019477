"""SVRG, stochastic dual descent and alternating projections: they converge where they claim to, and say so
where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from compare import close
from problems import with_spectrum

import cola_core as cola
from cola_core import PSD, SVRG, AlternatingProjections, StochasticDualDescent, ops
from cola_core.errors import NotPositiveDefiniteError


def many(rng, count=40, n=25, scale=None, complex_=False):
    """A sum of positive definite terms, and its matrix."""
    F = rng.standard_normal((count, n, n))
    if complex_:
        F = F + 1j * rng.standard_normal((count, n, n))
    terms = F @ F.conj().swapaxes(1, 2) / n
    if scale is not None:
        terms = terms * np.asarray(scale)[:, None, None]
    return terms


def as_sum(backend, terms, dtype="float64", extra=()):
    parts = [PSD(ops.Dense(backend.asarray(T.astype(dtype)))) for T in terms]
    return PSD(ops.Sum(*parts, *extra))


def kernel(n, noise, d=2, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, d))
    x = x[np.argsort(x[:, 0])]
    return np.exp(-((x[:, None] - x) ** 2).sum(-1) / 2), noise


def residual(M, x, b):
    return np.linalg.norm(b - M @ x, axis=0) / np.linalg.norm(b, axis=0)


class TestVarianceReduction:
    def test_a_sum_of_a_hundred_terms(self, backend, dtype, rng):
        if backend.name == "jax" and dtype != "float64":
            pytest.skip("on JAX in one dtype")
        terms = many(rng, 100, 30, complex_="complex" in dtype)
        A = as_sum(backend, terms, dtype)
        M = terms.sum(0).astype(dtype)
        B = rng.standard_normal((30, 3)).astype(dtype)
        tol = 1e-6 if dtype in ("float64", "complex128") else 1e-4
        X, info = cola.solve(A, backend.asarray(B), SVRG(tol=tol), return_info=True)
        assert bool(info.converged) and residual(M, backend.to_numpy(X), B).max() <= 1.1 * tol
        assert int(info.matvecs) < 100

    @pytest.mark.parametrize("key", range(5))
    def test_terms_of_very_different_size(self, key, rng):
        terms = many(rng, 50, 20, scale=10.0 ** rng.uniform(-3, 3, 50))
        M = terms.sum(0)
        A = as_sum(
            cola.backends.get_backend("numpy"), terms, extra=(0.1 * np.trace(M) / 20 * ops.Identity(20),)
        )
        b = rng.standard_normal(20)
        x, info = cola.solve(A, b, SVRG(tol=1e-7, key=key), return_info=True)
        assert info.converged
        assert residual(A.to_dense(), x, b) <= 1.1e-7

    def test_columns_of_a_gram_matrix(self, rng):
        X = rng.standard_normal((500, 20)) * np.linspace(1, 3, 20)
        low = ops.LowRank(X.T) + 50.0 * ops.Identity(20)
        F = ops.Dense(X)
        gram = F.H @ F + 50.0 * ops.Identity(20)
        b = rng.standard_normal(20)
        want = np.linalg.solve(X.T @ X + 50 * np.eye(20), b)
        for A in (low, gram, ops.Sum(0.5 * ops.LowRank(np.sqrt(2) * X.T), 50.0 * ops.Identity(20))):
            x, info = cola.solve(PSD(A), b, SVRG(tol=1e-9), return_info=True)
            assert info.converged
            np.testing.assert_allclose(x, want, rtol=1e-7)

    @pytest.mark.parametrize("bs", [1, 7, 40, 1000])
    def test_terms_at_a_time(self, bs, rng):
        terms = many(rng)
        A = as_sum(cola.backends.get_backend("numpy"), terms)
        x, info = cola.solve(A, np.ones(25), SVRG(tol=1e-8, bs=bs), return_info=True)
        assert info.converged and residual(terms.sum(0), x, np.ones(25)) < 1.1e-8

    @pytest.mark.parametrize("scale", [1e-9, 1e9])
    def test_units(self, scale, rng):
        terms = many(rng)
        nb = cola.backends.get_backend("numpy")
        x, one = cola.solve(as_sum(nb, terms), np.ones(25), SVRG(), return_info=True)
        y, two = cola.solve(as_sum(nb, terms * scale), np.ones(25), SVRG(), return_info=True)
        z, three = cola.solve(as_sum(nb, terms), np.ones(25) * scale, SVRG(), return_info=True)
        assert one.iterations == two.iterations == three.iterations
        np.testing.assert_allclose(y * scale, x, rtol=1e-6)
        np.testing.assert_allclose(z / scale, x, rtol=1e-6)

    def test_a_step_much_too_long_is_halved(self, rng):
        terms = many(rng)
        A = as_sum(cola.backends.get_backend("numpy"), terms)
        x, info = cola.solve(A, np.ones(25), SVRG(tol=1e-6, rate=1.0), return_info=True)
        assert info.converged and residual(terms.sum(0), x, np.ones(25)) < 1.1e-6

    def test_budgets_and_failures_are_told(self, rng):
        nb = cola.backends.get_backend("numpy")
        A = as_sum(nb, many(rng))
        _, info = cola.solve(A, np.ones(25), SVRG(max_iters=2), return_info=True, on_failure="ignore")
        assert not info.converged and info.reason == "iteration limit reached" and 0 < info.residual < 1
        indefinite = PSD(ops.Sum(*(ops.Dense(with_spectrum(np.linspace(-1, 1, 20), s)) for s in range(3))))
        _, info = cola.solve(indefinite, np.ones(20), SVRG(), return_info=True, on_failure="ignore")
        assert not info.converged and info.residual > 1e-8
        singular = as_sum(
            nb, np.einsum("i,j->ij", np.r_[1, np.zeros(3)], np.r_[1, np.zeros(3)])[None] * np.ones((3, 1, 1))
        )
        _, info = cola.solve(singular, np.ones(4), SVRG(max_iters=50), return_info=True, on_failure="ignore")
        assert not info.converged and info.residual >= 0.5
        bad = as_sum(nb, np.full((3, 4, 4), np.nan))
        _, info = cola.solve(bad, np.ones(4), SVRG(), return_info=True, on_failure="ignore")
        assert not info.converged and "NaN" in info.reason

    def test_refusals(self, rng):
        with pytest.raises(NotImplementedError, match="sums of many terms"):
            cola.solve(PSD(ops.Dense(np.eye(3))), np.ones(3), SVRG())
        A = as_sum(cola.backends.get_backend("numpy"), many(rng))
        with pytest.raises(NotImplementedError, match="preconditioner"):
            cola.solve(A, np.ones(25), SVRG(P=cola.Jacobi()))

    def test_first_guess(self, rng):
        terms = many(rng)
        A = as_sum(cola.backends.get_backend("numpy"), terms)
        x = np.linalg.solve(terms.sum(0), np.ones(25))
        _, info = cola.solve(A, np.ones(25), SVRG(x0=x), return_info=True)
        assert info.converged and info.iterations == 0

    @pytest.mark.parametrize("k", [1, 3])
    def test_leading_eigenvectors(self, k, backend, rng):
        if backend.name == "jax" and k > 1:
            pytest.skip("on JAX once")
        X = rng.standard_normal((400, 15)) * np.sqrt(np.r_[9.0, 6.0, 4.0, np.linspace(1.5, 1, 12)])
        A = PSD((1 / 400) * ops.LowRank(backend.asarray(X.T)))
        (w, V), info = cola.eigh(A, k, "LM", SVRG(tol=1e-7), return_info=True)
        want = np.linalg.eigvalsh(X.T @ X / 400)[::-1][:k]
        close(backend, backend.xp.sort(w), np.sort(want), "float64")
        M, V = X.T @ X / 400, backend.to_numpy(V.to_dense())
        np.testing.assert_allclose(M @ V, V * backend.to_numpy(w), atol=2e-6)
        np.testing.assert_allclose(V.T @ V, np.eye(k), atol=1e-10)
        assert bool(info.converged) and info.method == "SVRG"

    def test_eigenvectors_of_a_sum_and_a_budget(self, rng):
        spike = np.ones((25, 25))
        A = as_sum(cola.backends.get_backend("numpy"), many(rng, 20) + spike)
        (w, V), info = cola.eigh(A, 1, "LA", SVRG(tol=1e-8), return_info=True)
        assert info.converged and w[0] == pytest.approx(np.linalg.eigvalsh(A.to_dense())[-1])
        _, info = cola.eigh(A, 2, "LM", SVRG(max_iters=1), return_info=True, on_failure="ignore")
        assert not info.converged and info.residual > 1e-8
        with pytest.raises(NotImplementedError, match="largest"):
            cola.eigh(A, 1, "SA", SVRG())


BLOCKWISE = [
    AlternatingProjections(tol=1e-5, block=30),
    StochasticDualDescent(tol=1e-5, batch=30),
]


@pytest.mark.parametrize("alg", BLOCKWISE, ids=lambda a: type(a).__name__)
class TestBlocksOfUnknowns:
    def test_kernel_and_noise(self, alg, backend, rng):
        K, noise = kernel(150, 1.0)
        A = PSD(ops.Dense(backend.asarray(K)) + noise * ops.Identity(150))
        B = rng.standard_normal((150, 2))
        X, info = cola.solve(A, backend.asarray(B), alg, return_info=True)
        assert bool(info.converged)
        assert residual(K + noise * np.eye(150), backend.to_numpy(X), B).max() <= 1.1e-5

    @pytest.mark.parametrize("dtype", ["float32", "complex128"])
    def test_precisions(self, alg, dtype, rng):
        M = with_spectrum(np.linspace(1, 20, 70), complex_="complex" in dtype).astype(dtype)
        b = rng.standard_normal(70).astype(dtype)
        x, info = cola.solve(PSD(ops.Dense(M)), b, alg, return_info=True)
        assert info.converged and residual(M, x, b) <= 2e-5 and x.dtype == dtype

    def test_a_kernel_that_is_never_formed(self, alg, rng):
        x = np.sort(rng.standard_normal((200, 1)), axis=0)
        largest = []

        def fn(a, b):
            largest.append(a.shape[0] * b.shape[0])
            return np.exp(-((a[:, None] - b) ** 2).sum(-1))

        A = PSD(ops.Kernel(x, fn=fn, block_size1=40, block_size2=50) + 2.0 * ops.Identity(200))
        y, info = cola.solve(A, np.ones(200), alg, return_info=True)
        assert info.converged and max(largest) <= 40 * 50
        assert residual(A.to_dense(), y, np.ones(200)) <= 1.1e-5

    @pytest.mark.parametrize("scale", [1e-9, 1e9])
    def test_units(self, alg, scale, rng):
        K, noise = kernel(80, 2.0)
        b = rng.standard_normal(80)
        one, other = (
            cola.solve(PSD(ops.Dense(c * (K + noise * np.eye(80)))), b, alg, return_info=True)
            for c in (1.0, scale)
        )
        assert one[1].iterations == other[1].iterations
        np.testing.assert_allclose(other[0] * scale, one[0], rtol=1e-5, atol=1e-8)

    @pytest.mark.parametrize("n", [0, 1, 31])
    def test_sizes_that_do_not_divide(self, alg, n, rng):
        M = with_spectrum(np.linspace(1, 3, n)) if n else np.zeros((0, 0))
        x = cola.solve(PSD(ops.Dense(M)), np.ones(n), alg)
        np.testing.assert_allclose(M @ x, np.ones(n), atol=1e-4)

    def test_batches_of_right_sides_and_a_zero_column(self, alg, rng):
        M = with_spectrum(np.linspace(1, 9, 40))
        B = rng.standard_normal((2, 3, 40, 2))
        B[1, 1] = 0
        X, info = cola.solve(PSD(ops.Dense(M)), B, alg, return_info=True)
        assert X.shape == B.shape and info.residuals.shape == (2, 3, 2) and (X[1, 1] == 0).all()
        assert np.abs(M @ X - B).max() < 1e-3

    def test_budgets_are_ordinary_ends(self, alg, rng):
        K, noise = kernel(150, 1e-6)
        A = PSD(ops.Dense(K) + noise * ops.Identity(150))
        with pytest.warns(cola.ConvergenceWarning, match="iteration limit reached"):
            cola.solve(A, rng.standard_normal(150), replace(alg, max_iters=20))
        b = rng.standard_normal(150)
        x, info = cola.solve(A, b, replace(alg, max_iters=20), return_info=True, on_failure="ignore")
        assert not info.converged and info.residual == pytest.approx(residual(A.to_dense(), x, b), rel=1e-6)

    def test_indefinite_and_singular(self, alg):
        with pytest.raises(NotPositiveDefiniteError) if alg is BLOCKWISE[0] else _nothing():
            M = np.diag(np.r_[np.ones(39), -1.0])
            _, info = cola.solve(PSD(ops.Dense(M)), np.ones(40), alg, return_info=True, on_failure="ignore")
            assert not info.converged
        # definite blocks, indefinite whole
        M = np.kron(np.array([[1.0, 2.0], [2.0, 1.0]]), np.eye(30))
        _, info = cola.solve(PSD(ops.Dense(M)), np.arange(60.0), alg, return_info=True, on_failure="ignore")
        assert not info.converged and "positive definite" in info.reason

    def test_first_guess_and_callback(self, alg):
        M = with_spectrum(np.linspace(1, 9, 40))
        x = np.linalg.solve(M, np.ones(40))
        _, info = cola.solve(PSD(ops.Dense(M)), np.ones(40), type(alg)(x0=x), return_info=True)
        assert info.converged and info.iterations == 0
        seen = []
        stop = type(alg)(callback=lambda step, error: seen.append((step, error)) or len(seen) >= 2, tol=1e-12)
        _, info = cola.solve(PSD(ops.Dense(M)), np.ones(40), stop, return_info=True, on_failure="ignore")
        assert len(seen) <= 2

    def test_gradients(self, alg):
        torch = pytest.importorskip("torch")
        M = torch.tensor(with_spectrum(np.linspace(1, 9, 40)), requires_grad=True)
        tight = type(alg)(tol=1e-9, **({"block": 10} if alg is BLOCKWISE[0] else {"batch": 10}))
        x = cola.solve(PSD(ops.Dense(M)), torch.ones(40, dtype=torch.float64), tight)
        (grad,) = torch.autograd.grad(x.sum(), M)
        y = torch.linalg.solve(M.detach(), torch.ones(40, dtype=torch.float64))
        np.testing.assert_allclose(grad, -torch.outer(y, y), atol=1e-6)


def _nothing():
    from contextlib import nullcontext

    return nullcontext()


def test_memory_of_alternating_projections_is_that_of_its_blocks():
    cost = AlternatingProjections(block=100).cost("solve", PSD(ops.Dense(np.eye(1000))), np.ones(1000))
    assert cost.memory < 8 * 1000 * 120


def test_on_jax_inside_jit():
    jax = pytest.importorskip("jax")
    K = jax.numpy.asarray(kernel(60, 1.0)[0])

    def answers(K, b):
        A = PSD(ops.Dense(K) + 1.0 * ops.Identity(60))
        S = PSD(ops.Sum(*(PSD(ops.Dense(K + c * jax.numpy.eye(60))) for c in (1.0, 2.0, 3.0))))
        return (
            cola.solve(A, b, AlternatingProjections(tol=1e-6, block=25)),
            cola.solve(A, b, StochasticDualDescent(tol=1e-6, batch=25)),
            3 * cola.solve(S, b, SVRG(tol=1e-6)),
        )

    b = jax.numpy.ones(60)
    x, y, z = jax.jit(answers)(K, b)
    for found, shift in ((x, 1.0), (y, 1.0), (z, 2.0)):
        np.testing.assert_allclose((K + shift * np.eye(60)) @ found, b, atol=1e-4)


def test_seeds():
    terms = many(np.random.default_rng(0))
    A = as_sum(cola.backends.get_backend("numpy"), terms)
    same = [cola.solve(A, np.ones(25), SVRG(tol=1e-3, key=k)) for k in (1, 1, 2)]
    assert (same[0] == same[1]).all() and (same[0] != same[2]).any()
