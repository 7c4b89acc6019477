"""Quadratic forms and draws with a covariance: every operator of the zoo, and what needs care."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from compare import close, square
from zoo import SINGULAR, tolerance

import cola_core as cola
from cola_core import PSD, ops


def test_quad_form(pair, backend, dtype, rng):
    A, D = pair
    m, n = D.shape
    X, Y = rng.normal(size=(m, 3)).astype(dtype), rng.normal(size=(n, 3)).astype(dtype)
    f = backend.asarray
    scale = 10 * np.abs(D).sum()
    close(backend, cola.quad_form(A, f(X), f(Y)), np.sum(X.conj() * (D @ Y), axis=0), dtype, scale)
    close(backend, cola.quad_form(A, f(X[:, 0]), f(Y[:, 0])), X[:, 0].conj() @ D @ Y[:, 0], dtype, scale)
    if not square(D):
        with pytest.raises(cola.errors.NonSquareError):
            cola.quad_form(A, f(Y))
        return
    stack = rng.normal(size=(2, n, 2)).astype(dtype)
    got = cola.quad_form(A, f(stack))
    close(backend, got, np.sum(stack.conj() * (D @ stack), axis=-2), dtype, scale)
    if A.isa(cola.SelfAdjoint):
        assert not backend.is_complex(got)


def test_inv_quad_logdet(pair, name, backend, dtype, rng):
    A, D = pair
    if not square(D):
        with pytest.raises(cola.errors.NonSquareError):
            cola.inv_quad_logdet(A, backend.asarray(np.ones(D.shape[0], dtype)))
        return
    if name in SINGULAR:
        return
    B = rng.normal(size=(D.shape[0], 2)).astype(dtype)
    quad = np.sum(B.conj() * np.linalg.solve(D, B), axis=0)
    sign, value = np.linalg.slogdet(D.astype("complex128" if "complex" in dtype else "float64"))
    scale = 10 * np.linalg.cond(D) * np.abs(quad).max()
    for operator in (A, cola.no_dispatch(A)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cola.errors.UnreliableResultWarning)
            got, logdet = cola.inv_quad_logdet(operator, backend.asarray(B))
        close(backend, got, quad.real if A.isa(cola.SelfAdjoint) else quad, dtype, scale)
        if abs(sign - 1) < 1e-10:
            close(backend, logdet, value, dtype, scale=10 * max(abs(value), 1))
        else:
            assert np.isnan(backend.to_numpy(logdet))
    close(
        backend,
        cola.inv_quad(A, backend.asarray(B[:, 0])),
        quad[0].real if A.isa(cola.SelfAdjoint) else quad[0],
        dtype,
        scale,
    )


def test_root_and_sample(pair, backend, dtype):
    A, D = pair
    if not square(D) or not A.isa(PSD):
        return
    for operator in (A, cola.no_dispatch(A)):
        F = backend.to_numpy(cola.root(operator).to_dense())
        np.testing.assert_allclose(F @ F.conj().T, D, atol=100 * tolerance(dtype) * np.abs(D).max())
        X = cola.sample(operator, 3, (2, 5))
        assert tuple(X.shape) == (2, 5, len(D)) and str(X.dtype).endswith(dtype)
        close(backend, cola.sample(operator, 3, (2, 5)), backend.to_numpy(X), dtype, scale=0.0)


@pytest.mark.parametrize("library", ["numpy", "torch"], indirect=False)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_draws_have_the_covariance(backend, dtype, rng):
    complex_ = "complex" in dtype
    G = rng.normal(size=(3, 3)) + (1j * rng.normal(size=(3, 3)) if complex_ else 0)
    K = G @ G.conj().T
    A = cola.kron(PSD(backend.asarray(K.astype(dtype))), PSD(backend.asarray(np.eye(2, dtype=dtype))))
    X = backend.to_numpy(cola.sample(A, 11, 40_000))
    want = np.kron(K, np.eye(2))
    # each entry of the empirical covariance has a standard deviation of at most |A|_max sqrt(2 / draws)
    bound = 6 * np.abs(want).max() * np.sqrt(2 / 40_000)
    assert np.abs(X.T @ X.conj() / len(X) - want).max() < bound
    assert np.abs(X.mean(0)).max() < 6 * np.sqrt(np.abs(want).max() / 40_000)
    if complex_:  # circular: no correlation without conjugation
        assert np.abs(X.T @ X / len(X)).max() < bound


def dense(F):
    return np.asarray(F.to_dense())


def test_roots_keep_structure(rng):
    n = 6
    G = rng.normal(size=(n, 3))
    K = PSD(np.cov(rng.normal(size=(n, 50))))
    B = ops.Dense(G.T)
    cases = {
        "identity": (ops.Identity(n), ops.Identity),
        "scalar": (ops.ScalarMul(4.0, n), ops.ScalarMul),
        "diagonal": (PSD(ops.Diagonal(np.arange(6.0))), ops.Diagonal),
        "kron": (cola.kron(K, K), ops.Kronecker),
        "blocks": (cola.block_diag(K, K), ops.BlockDiag),
        "low rank": (ops.LowRank(G), ops.Dense),
        "gram": (B.H @ B, ops.Dense),
        "gram of three": (B.H @ PSD(ops.Diagonal(np.arange(3.0))) @ B, ops.Product),
        "scaled": (2.0 * cola.kron(K, K), ops.Product),
        "kron plus shift": (cola.kron(K, K) + 0.5 * ops.Identity(n * n), ops.Product),
        "principal": (cola.kron(K, K)[2:9, 2:9], ops.Sliced),
        "inverse": (cola.inv(cola.no_dispatch(K)), None),
    }
    for name, (A, kind) in cases.items():
        F = cola.root(A)
        assert kind is None or isinstance(F, kind), name
        want = A @ np.eye(A.shape[-1])
        np.testing.assert_allclose(dense(F) @ dense(F).T, want, atol=1e-10 * max(1, np.abs(want).max()))


def test_a_low_rank_covariance_needs_only_its_factor(rng):
    U = rng.normal(size=(100_000, 2))
    X = cola.sample(ops.LowRank(U), 0, (3,))
    assert X.shape == (3, 100_000)
    np.testing.assert_allclose(X, X @ np.linalg.pinv(U.T) @ U.T, atol=1e-8)  # in the span of U


def test_semidefinite_and_indefinite_covariances(rng):
    G = rng.normal(size=(5, 2))
    F = cola.root(PSD(G @ G.T))  # no Cholesky factor to working precision
    np.testing.assert_allclose(dense(F) @ dense(F).T, G @ G.T, atol=1e-12)
    with pytest.raises(cola.errors.NotPositiveDefiniteError):
        cola.root(PSD(np.diag([1.0, -1.0])))
    with pytest.raises(cola.errors.NotPositiveDefiniteError):
        cola.root(np.array([[1.0, 2.0], [0.0, 1.0]]))
    with pytest.raises(cola.errors.NotPositiveDefiniteError):
        cola.sample(PSD(ops.Diagonal(np.array([1.0, -1e-3]))), 0)
    with pytest.raises(cola.errors.ShapeError):
        cola.sample(PSD(np.eye(2)), 0, (-1,))


def test_a_large_operator_is_drawn_from_by_its_products():
    n = 3000

    def laplacian(x):
        y = 2.2 * x
        y[1:] -= x[:-1]
        y[:-1] -= x[1:]
        return y

    A = PSD(ops.FunctionOperator(laplacian, (n, n)))
    F = cola.root(A, cola.Lanczos())
    z = np.random.default_rng(0).normal(size=(n, 1))
    np.testing.assert_allclose(F @ (F.H @ z), A @ z, atol=1e-8)
    assert cola.sample(A, 1, (2,), cola.Lanczos()).shape == (2, n)


@pytest.mark.parametrize("library", ["numpy", "torch"], indirect=False)
def test_batches_and_empty_operators(backend, rng):
    f = backend.asarray
    G = rng.normal(size=(2, 4, 4))
    K = G @ G.swapaxes(-1, -2) + np.eye(4)
    b = rng.normal(size=(4, 3))
    quad, value = cola.inv_quad_logdet(PSD(f(K)), f(b))
    close(backend, quad, np.sum(b * np.linalg.solve(K, b[None]), axis=-2), "float64", 1e2)
    close(backend, value, np.linalg.slogdet(K)[1], "float64")
    assert tuple(cola.sample(PSD(f(K)), 0, (5,)).shape) == (5, 2, 4)
    assert tuple(cola.sample(PSD(f(np.zeros((0, 0)))), 0, (5,)).shape) == (5, 0)
    assert tuple(cola.sample(PSD(f(np.eye(3))), 0, (0,)).shape) == (0, 3)
    assert tuple(cola.quad_form(f(np.zeros((0, 0))), f(np.zeros((0, 2)))).shape) == (2,)


def test_one_factorisation_serves_both(monkeypatch, rng):
    from cola_core.backends.numpy_backend import NumpyBackend

    made = []
    cholesky, lu = NumpyBackend.cholesky, NumpyBackend.lu_factor
    monkeypatch.setattr(NumpyBackend, "cholesky", lambda self, A: made.append("L") or cholesky(self, A))
    monkeypatch.setattr(NumpyBackend, "lu_factor", lambda self, A: made.append("LU") or lu(self, A))
    G = rng.normal(size=(5, 5))
    K = PSD(G @ G.T + np.eye(5))
    for A, count in ((K, 1), (ops.Dense(G), 1), (cola.kron(K, K + ops.Identity(5)), 2)):
        made.clear()
        cola.inv_quad_logdet(A, np.ones(A.shape[-1]))
        assert len(made) == count, made


def test_quadratic_forms_are_differentiable_and_compile(rng):
    jax = pytest.importorskip("jax")
    G = rng.normal(size=(3, 3))
    K, b = jax.numpy.asarray(G @ G.T + np.eye(3)), jax.numpy.ones(6)

    def loss(s):
        quad, value = cola.inv_quad_logdet(cola.kron(PSD(s * K), np_eye(jax)), b)
        return quad + value

    value, slope = jax.jit(jax.value_and_grad(loss))(1.5)
    np.testing.assert_allclose(value, loss(1.5), rtol=1e-12)
    h = 1e-6
    np.testing.assert_allclose(slope, (loss(1.5 + h) - loss(1.5 - h)) / (2 * h), rtol=1e-6)
    draws = jax.jit(lambda s: cola.sample(PSD(s * K), 0, (4,)))(2.0)
    np.testing.assert_allclose(draws, cola.sample(PSD(2.0 * K), 0, (4,)), atol=1e-12)


def np_eye(jax):
    return PSD(2 * jax.numpy.eye(2))


def test_torch_gradients_of_a_gaussian_likelihood(rng):
    torch = pytest.importorskip("torch")
    G = torch.as_tensor(rng.normal(size=(4, 4)))

    def loss(s):
        A = cola.kron(PSD(G @ G.T + s * torch.eye(4, dtype=G.dtype)), PSD(torch.eye(2, dtype=G.dtype)))
        quad, value = cola.inv_quad_logdet(A, torch.ones(8, dtype=G.dtype))
        return quad + value

    s = torch.tensor(0.7, dtype=G.dtype, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (s,))
