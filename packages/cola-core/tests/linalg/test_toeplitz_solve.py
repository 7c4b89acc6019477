"""Toeplitz and Hankel systems and determinants: Levinson's recursion, its fallback, and preconditioned CG."""

import warnings

import numpy as np
import pytest
import scipy.linalg as sl
from zoo import installed, tolerance

import cola_core as cola
from cola_core import ops
from cola_core.algorithms.levinson import toeplitz_factor


def entries(rng, n, dtype):
    c, r = rng.normal(size=n) / 8, rng.normal(size=n) / 8
    if "complex" in dtype:
        c, r = c + 1j * rng.normal(size=n) / 8, r + 1j * rng.normal(size=n) / 8
    c[0] = 2
    return c.astype(dtype), r.astype(dtype)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 90])
def test_the_recursion(n, backend, dtype, rng):
    if backend.name == "jax" and (n != 17 or dtype not in ("float64", "complex64")):
        return
    c, r = entries(rng, n, dtype)
    for T, D in (
        (ops.Toeplitz(backend.asarray(c), backend.asarray(r)), sl.toeplitz(c, r)),
        (cola.SelfAdjoint(ops.Toeplitz(backend.asarray(c))), sl.toeplitz(c)),
    ):
        D = D.astype("complex128" if "complex" in dtype else "float64")
        F = toeplitz_factor(T)
        inverse, host, tol = np.linalg.inv(D), backend.to_numpy, 100 * tolerance(dtype)
        np.testing.assert_allclose(host(F.f), inverse[:, 0], atol=tol)
        np.testing.assert_allclose(host(F.g), inverse[:, -1], atol=tol)
        minors = [np.linalg.slogdet(D[:k, :k]) for k in range(1, n + 1)]
        sign, value = F.slogdet()
        np.testing.assert_allclose(host(sign), minors[-1][0], atol=tol)
        np.testing.assert_allclose(host(value), minors[-1][1], atol=tol * n)
        B = rng.normal(size=(n, 3)).astype(dtype)
        np.testing.assert_allclose(host(F.solve(backend.asarray(B))), inverse @ B, atol=tol)


@pytest.mark.parametrize("seed", range(4))
def test_general_systems_by_rule(seed):
    rng = np.random.default_rng(seed)
    for dtype in ("float64", "complex128", "float32"):
        c, r = rng.normal(size=100).astype(dtype), rng.normal(size=100).astype(dtype)
        T, D = ops.Toeplitz(c, r), sl.toeplitz(c, r).astype(np.result_type(dtype, "float64"))
        b = rng.normal(size=(100, 2)).astype(dtype)
        x = cola.solve(T, b)
        cond = np.linalg.cond(D)
        error = np.abs(x - np.linalg.solve(D, b)).max() / np.abs(x).max()
        assert error <= 100 * cond * np.finfo(dtype).eps
        np.testing.assert_allclose(cola.slogdet(T)[1], np.linalg.slogdet(D)[1], rtol=20 * tolerance(dtype))
        np.testing.assert_allclose(cola.inv(T) @ b, x, atol=10 * error * np.abs(x).max() + 1e-12)
    assert "solve/toeplitz" in str(cola.explain(cola.solve, T, b))


def test_a_singular_leading_minor_is_left_to_elimination():
    """Entry (0, 0) is zero: the recursion cannot even start, the matrix is perfectly regular."""
    n = 70
    rng = np.random.default_rng(0)
    for first in (0.0, 1e-14):
        c, r = rng.normal(size=n), rng.normal(size=n)
        c[0] = r[0] = first
        D, b = sl.toeplitz(c, r), rng.normal(size=n)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            x, info = cola.solve(ops.Toeplitz(c, r), b, return_info=True)
            np.testing.assert_allclose(cola.slogdet(ops.Toeplitz(c, r)), np.linalg.slogdet(D), rtol=1e-9)
        np.testing.assert_allclose(D @ x, b, atol=1e-9)
        if first == 0:
            assert info.rule != "core:solve/toeplitz"
            with pytest.raises(cola.errors.SingularMatrixError, match="leading minor"):
                cola.solve(ops.Toeplitz(c, r), b, cola.Levinson())


def test_positive_definite_by_cost():
    n = 2000
    column = 1 / (1.0 + np.arange(n)) ** 2
    column[0] = 2
    T, b = cola.PSD(ops.Toeplitz(column)), np.random.default_rng(0).normal(size=n)
    want = sl.solve_toeplitz(column, b)
    for alg in (cola.Auto(), cola.Levinson(), cola.ToeplitzCG(), cola.ToeplitzCG(preconditioner="strang")):
        x, info = cola.solve(T, b, alg, return_info=True)
        np.testing.assert_allclose(x, want, atol=1e-6)
        assert info.converged
    plain = cola.solve(T, b, cola.CG(), return_info=True)[1]
    better = cola.solve(T, b, cola.ToeplitzCG(), return_info=True)[1]
    assert better.iterations < plain.iterations
    assert "levinson" in str(cola.explain(cola.slogdet, T)).lower()


def test_preconditioner():
    c = np.array([4.0, 1.0, 0.5, 0.25, 0.1, 0.05])
    T = cola.PSD(ops.Toeplitz(c))
    k = np.arange(6)
    chan = ((6 - k) * c + k * np.append(0, c[:0:-1])) / 6
    P = cola.circulant_preconditioner(T)
    np.testing.assert_allclose(P.to_dense(), np.linalg.inv(sl.circulant(chan)), atol=1e-14)
    assert P.isa(cola.PSD)
    strang = cola.circulant_preconditioner(T, "strang")
    np.testing.assert_allclose(
        strang.to_dense(), np.linalg.inv(sl.circulant([4.0, 1.0, 0.5, 0.25, 0.5, 1.0])), atol=1e-14
    )
    near = cola.PSD(ops.Dense(sl.toeplitz(c)))
    np.testing.assert_allclose(cola.circulant_preconditioner(near).to_dense(), P.to_dense(), atol=1e-14)
    row = np.array([4.0, 0.3, 0.2, 0.1, 0.0, 0.1])
    general = ops.Toeplitz(c, row)
    x, info = cola.solve(
        general, np.ones(6), cola.GMRES(P=cola.circulant_preconditioner(general)), return_info=True
    )
    np.testing.assert_allclose(sl.toeplitz(c, row) @ x, np.ones(6), atol=1e-7)
    with pytest.raises(cola.errors.UnknownNameError, match="strang"):
        cola.circulant_preconditioner(T, "best")
    with pytest.raises(cola.errors.NonSquareError):
        cola.circulant_preconditioner(ops.Toeplitz(np.ones(2), np.ones(3)))


def test_false_claims_and_bad_entries():
    n = 80
    c = np.cos(np.arange(n) * 2.0)
    c[0] = 0.5  # indefinite
    with pytest.raises(cola.errors.NotPositiveDefiniteError, match="leading minor"):
        cola.solve(cola.PSD(ops.Toeplitz(c)), np.ones(n), cola.Levinson())
    c[5] = np.nan
    for T in (ops.Toeplitz(c), cola.PSD(ops.Toeplitz(c))):
        with pytest.raises(cola.errors.NonFiniteError):
            cola.solve(T, np.ones(n))
    with pytest.raises(TypeError, match="Toeplitz"):
        cola.solve(ops.Dense(np.eye(3)), np.ones(3), cola.Levinson())


def test_ill_conditioned_is_announced():
    n = 100
    c = np.exp(-((np.arange(n) / 20.0) ** 2))  # condition number beyond 1e16
    with pytest.warns(cola.errors.IllConditionedWarning):
        cola.solve(ops.Toeplitz(c), np.ones(n))


@pytest.mark.parametrize("n", [1, 2, 5, 70, 71])
def test_hankel(n, backend, dtype, rng):
    if backend.name == "jax" and (n != 5 or dtype not in ("float64", "complex64")):
        return
    c, r = entries(rng, n, dtype)
    c = c[::-1].copy()
    D = sl.hankel(c, np.append(c[-1:], r[1:])).astype("complex128" if "complex" in dtype else "float64")
    H = ops.Hankel(backend.asarray(c), backend.asarray(r))
    b = rng.normal(size=n).astype(dtype)
    x = backend.to_numpy(cola.solve(H, backend.asarray(b)))
    np.testing.assert_allclose(x, np.linalg.solve(D, b), atol=200 * tolerance(dtype))
    sign, value = cola.slogdet(H)
    np.testing.assert_allclose(backend.to_numpy(sign), np.linalg.slogdet(D)[0], atol=1e-3)
    np.testing.assert_allclose(backend.to_numpy(value), np.linalg.slogdet(D)[1], atol=200 * tolerance(dtype))
    np.testing.assert_allclose(backend.to_numpy(cola.trace(H)), np.trace(D), atol=200 * tolerance(dtype))


def test_batches_of_columns():
    rng = np.random.default_rng(1)
    c = rng.normal(size=(2, 66)) / 20
    c[:, 0] = 2
    b = rng.normal(size=(2, 66, 3))
    D = np.stack([sl.toeplitz(k) for k in c])
    for T in (ops.Toeplitz(c), cola.PSD(ops.Toeplitz(c))):
        np.testing.assert_allclose(cola.solve(T, b), np.linalg.solve(D, b), atol=1e-10)
        np.testing.assert_allclose(cola.slogdet(T)[1], np.linalg.slogdet(D)[1], atol=1e-9)
    T = cola.PSD(ops.Toeplitz(c))
    np.testing.assert_allclose(cola.solve(T, b, cola.Levinson()), np.linalg.solve(D, b), atol=1e-10)
    np.testing.assert_allclose(cola.solve(T, b, cola.ToeplitzCG()), np.linalg.solve(D, b), atol=1e-6)


def test_badly_scaled():
    c, r = entries(np.random.default_rng(2), 70, "float64")
    b = np.ones(70)
    x = cola.solve(ops.Toeplitz(c, r), b)
    np.testing.assert_allclose(cola.solve(ops.Toeplitz(1e-150 * c, 1e-150 * r), b) * 1e-150, x, rtol=1e-9)


@pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
def test_gradients_in_torch():
    import torch

    c, r = (torch.tensor(x, requires_grad=True) for x in entries(np.random.default_rng(5), 64, "float64"))
    b = torch.ones(64, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda c, r, b: cola.solve(ops.Toeplitz(c, r), b), (c, r, b), fast_mode=True)
    torch.autograd.gradcheck(lambda c, r: cola.slogdet(ops.Toeplitz(c, r))[1], (c, r), fast_mode=True)
    psd = lambda c, b: cola.solve(cola.PSD(ops.Toeplitz(c)), b, cola.Levinson())  # noqa: E731
    torch.autograd.gradcheck(psd, (c, b), fast_mode=True)


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
def test_jit_and_gradients_in_jax():
    import jax

    c, r = entries(np.random.default_rng(6), 12, "float64")
    b = jax.numpy.ones(12)

    @jax.jit
    def f(c):
        T = cola.PSD(ops.Toeplitz(c))
        return cola.solve(T, b, cola.Levinson()).sum() + cola.slogdet(T, cola.Levinson())[1]

    h, d = 1e-6, np.random.default_rng(7).normal(size=12)
    c = jax.numpy.asarray(c)
    numeric = (f(c + h * d) - f(c - h * d)) / (2 * h)
    np.testing.assert_allclose(jax.grad(f)(c) @ d, numeric, rtol=1e-6)
