"""Every question of circulants and circular convolutions against dense answers."""

import numpy as np
import pytest
import scipy.linalg as sl
from zoo import installed, tolerance

import cola_core as cola
from cola_core import ops


def column(rng, n, dtype, symmetric):
    c = rng.normal(size=n) / 3 + (1j * rng.normal(size=n) / 3 if "complex" in dtype else 0)
    if symmetric:
        c = (c + np.roll(c[::-1], 1).conj()) / 2
    c[0] = 4
    return c.astype(dtype)


@pytest.mark.parametrize("n", [1, 2, 7, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_questions(n, symmetric, backend, dtype, rng):
    if backend.name == "jax" and (n != 7 or dtype not in ("float64", "complex64")):
        return
    c = column(rng, n, dtype, symmetric)
    D = sl.circulant(c).astype("complex128" if "complex" in dtype else "float64")
    C = ops.Circulant(backend.asarray(c))
    C = cola.PSD(C) if symmetric else C
    host, tol = backend.to_numpy, 50 * tolerance(dtype)
    b = rng.normal(size=(n, 2)).astype(dtype)
    np.testing.assert_allclose(host(cola.solve(C, backend.asarray(b))), np.linalg.solve(D, b), atol=tol)
    for A, M in (
        (cola.inv(C), np.linalg.inv(D)),
        (cola.pinv(C), np.linalg.inv(D)),
        (cola.exp(C), sl.expm(D)),
        (cola.sqrt(C), sl.sqrtm(D)) if symmetric else (C, D),
        (cola.log(C), sl.logm(D)) if symmetric else (C, D),
    ):
        assert type(A) is ops.Circulant
        np.testing.assert_allclose(host(A.to_dense()), M, atol=tol * max(np.abs(M).max(), 1))
    sign, value = cola.slogdet(C)
    np.testing.assert_allclose(host(sign), np.linalg.slogdet(D)[0], atol=tol)
    np.testing.assert_allclose(host(value), np.linalg.slogdet(D)[1], atol=tol)
    np.testing.assert_allclose(host(cola.trace(C)), np.trace(D), atol=tol)
    w, V = cola.eig(C)
    W = host(V.to_dense())
    np.testing.assert_allclose(D @ W, W * host(w), atol=tol)
    U, S, V = cola.svd(C)
    assert host(U.to_dense()).dtype == np.dtype(dtype)
    whole = host((U @ S @ V.H).to_dense())
    np.testing.assert_allclose(whole, D, atol=tol)
    np.testing.assert_allclose(host(cola.svdvals(C)), np.linalg.svd(D)[1], atol=tol)
    for ord in ("fro", 2, 1, np.inf, "nuc"):
        np.testing.assert_allclose(host(cola.norm(C, ord)), np.linalg.norm(D, ord), rtol=tol)
    np.testing.assert_allclose(host(cola.cond(C)), np.linalg.cond(D), rtol=tol)
    if symmetric:
        w, V = cola.eigh(C)
        W = host(V.to_dense())
        assert W.dtype == np.dtype(dtype)
        np.testing.assert_allclose((W * host(w)) @ W.conj().T, D, atol=tol)
        np.testing.assert_allclose(host(cola.eigmax(C)), np.linalg.eigvalsh(D)[-1], atol=tol)


def test_convolution_with_several_axes():
    rng = np.random.default_rng(3)
    f = rng.normal(size=(3, 2)) / 4
    f[0, 0] = 3
    A = ops.ConvolveND(f, (4, 5), "circular")
    D = A.to_dense()
    b = rng.normal(size=20)
    np.testing.assert_allclose(D @ cola.solve(A, b), b, atol=1e-12)
    for B, M in ((cola.inv(A), np.linalg.inv(D)), (cola.exp(A), sl.expm(D)), (A @ A, D @ D)):
        assert isinstance(B, ops.ConvolveND) and B.mode == "circular"
        np.testing.assert_allclose(B.to_dense(), M, atol=1e-10)
    np.testing.assert_allclose(cola.slogdet(A), np.linalg.slogdet(D), atol=1e-11)
    w, V = cola.eig(A)
    np.testing.assert_allclose(D @ V.to_dense(), V.to_dense() * w, atol=1e-12)
    S = cola.PSD(A.H @ A)
    w, V = cola.eigh(S)
    np.testing.assert_allclose((V.to_dense() * w) @ V.to_dense().T, D.T @ D, atol=1e-11)
    assert V.dtype == np.float64


def test_several_levels():
    rng = np.random.default_rng(4)
    a, b = column(rng, 5, "float64", True), column(rng, 6, "float64", True)
    K = cola.kron(cola.PSD(ops.Circulant(a)), cola.PSD(ops.Circulant(b))) + 0.3 * ops.Identity(30)
    D = np.kron(sl.circulant(a), sl.circulant(b)) + 0.3 * np.eye(30)
    x = rng.normal(size=30)
    np.testing.assert_allclose(D @ cola.solve(K, x), x, atol=1e-11)
    np.testing.assert_allclose(cola.logdet(K), np.linalg.slogdet(D)[1])
    assert "eigh/periodic" in str(cola.explain(cola.solve, K, x))


def test_large_ones_stay_small():
    n = 200_000
    c = np.zeros(n)
    c[:2], c[-1] = (4, 1), 1
    C = cola.PSD(ops.Circulant(c))
    b = np.ones(n)
    np.testing.assert_allclose(cola.solve(C, b), b / 6, atol=1e-12)
    np.testing.assert_allclose(cola.exp(C) @ b, np.exp(6) * b, rtol=1e-10)
    w, V = cola.eigh(C, 3, "LA")
    np.testing.assert_allclose(w[-1], 6)
    assert V.shape == (n, 3) and cola.logdet(C) > 0


def test_singular_circulants():
    ones = ops.Circulant(np.ones(6))
    for question in (lambda: cola.solve(ones, np.ones(6)), lambda: cola.inv(ones)):
        with pytest.raises(cola.errors.SingularMatrixError, match="exactly zero"):
            question()
    assert cola.slogdet(ones) == (0, -np.inf)
    np.testing.assert_allclose(cola.pinv(ones).to_dense(), np.ones((6, 6)) / 36, atol=1e-15)
    assert cola.rank(ones) == 1
    with pytest.warns(cola.errors.IllConditionedWarning):
        cola.solve(ops.Circulant(np.array([1.0, 1.0, 1.0, 1 + 4e-16, 1.0])), np.ones(5))
    with pytest.raises(cola.errors.NotPositiveDefiniteError, match="declared PSD"):
        cola.slogdet(cola.PSD(ops.Circulant(np.array([0.0, 1.0, 1.0, 0.0]) + [1, 1, 0, 1])))


def test_an_explicit_algorithm_is_kept():
    c = column(np.random.default_rng(1), 9, "float64", True)
    C, b = cola.PSD(ops.Circulant(c)), np.ones(9)
    _, info = cola.solve(C, b, cola.CG(), return_info=True)
    assert info.method == "CG"
    _, info = cola.solve(C, b, return_info=True)
    assert info.rule == "core:solve/periodic"


def test_badly_scaled():
    c = column(np.random.default_rng(2), 16, "float64", False)
    b = np.ones(16)
    x = cola.solve(ops.Circulant(c), b)
    np.testing.assert_allclose(cola.solve(ops.Circulant(1e-200 * c), b) * 1e-200, x, rtol=1e-12)


@pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
def test_gradients_in_torch():
    import torch

    c = torch.tensor(column(np.random.default_rng(5), 5, "float64", False), requires_grad=True)
    b = torch.ones(5, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda c, b: cola.solve(ops.Circulant(c), b), (c, b))
    torch.autograd.gradcheck(lambda c: cola.slogdet(ops.Circulant(c))[1], (c,))
    torch.autograd.gradcheck(lambda c: cola.exp(ops.Circulant(c)) @ b.detach(), (c,))


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
def test_jit_and_gradient_in_jax():
    import jax

    c = column(np.random.default_rng(5), 5, "float64", False)
    f = jax.jit(lambda c: cola.slogdet(ops.Circulant(c))[1])
    got = jax.grad(f)(jax.numpy.asarray(c))
    inverse = np.linalg.inv(sl.circulant(c))
    # d log|det C| / d c_k is the sum of the k-th wrapped diagonal of C^{-T}
    want = [sum(inverse[(j) % 5, (j + k) % 5] for j in range(5)) for k in range(5)]
    np.testing.assert_allclose(got, want, atol=1e-12)
