"""Circulant, Toeplitz and Hankel operators and convolutions against SciPy's dense matrices."""

import numpy as np
import pytest
import scipy.linalg as sl
import scipy.signal as ss
from zoo import tolerance

import cola_core as cola
from cola_core import ops


def draw(rng, *shape, dtype="float64"):
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if "complex" in dtype else x).astype(dtype)


def agree(A, D, backend, rng, dtype):
    tol = tolerance(dtype) * max(np.abs(D).sum(-1).max(initial=1.0), 1.0)
    assert A.shape == D.shape
    np.testing.assert_allclose(backend.to_numpy(A.to_dense()), D, atol=tol)
    forms = ((A, D), (A.H, D.conj().swapaxes(-1, -2)), (A.T, D.swapaxes(-1, -2)), (A.conj(), D.conj()))
    for B, M in forms[: 2 if backend.name == "jax" else 4]:
        X = draw(rng, M.shape[-1], 2, dtype=dtype)
        np.testing.assert_allclose(backend.to_numpy(B @ backend.asarray(X)), M @ X, atol=tol)
        if backend.name != "jax":
            Z = draw(rng, M.shape[-1], dtype="complex128")
            np.testing.assert_allclose(backend.to_numpy(B @ backend.asarray(Z)), M @ Z, atol=tol)


def few(backend, dtype):
    """JAX compiles every shape anew."""
    return backend.name == "jax" and dtype not in ("float64", "complex64")


@pytest.mark.parametrize("n", [1, 2, 5, 8, 113])
def test_circulant(n, backend, dtype, rng):
    if few(backend, dtype) or (backend.name == "jax" and n not in (5, 113)):
        return
    c, d = draw(rng, n, dtype=dtype), draw(rng, n, dtype=dtype)
    C, D = ops.Circulant(backend.asarray(c)), ops.Circulant(backend.asarray(d))
    M, N = sl.circulant(c), sl.circulant(d)
    agree(C, M, backend, rng, dtype)
    eye = np.eye(n)
    for A, a in ((C + D, M + N), (C @ D, M @ N), (-2 * C, -2 * M), (C + 3 * ops.Identity(n), M + 3 * eye)):
        assert type(A) is ops.Circulant
        np.testing.assert_allclose(backend.to_numpy(A.to_dense()), a, atol=100 * n * tolerance(dtype))


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (5, 5), (6, 3), (3, 7)])
def test_toeplitz_and_hankel(shape, backend, dtype, rng):
    if few(backend, dtype) or (backend.name == "jax" and shape != (6, 3)):
        return
    m, n = shape
    c, r = draw(rng, m, dtype=dtype), draw(rng, n, dtype=dtype)
    put = backend.asarray
    agree(ops.Toeplitz(put(c), put(r)), sl.toeplitz(c, r), backend, rng, dtype)
    agree(ops.Toeplitz(put(c)), sl.toeplitz(c), backend, rng, dtype)
    agree(ops.Hankel(put(c)), sl.hankel(c), backend, rng, dtype)
    agree(ops.Hankel(put(c), put(r)), sl.hankel(c, np.append(c[-1:], r[1:])), backend, rng, dtype)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_toeplitz_stays_toeplitz(dtype, rng):
    c, r = draw(rng, 5, dtype=dtype), draw(rng, 5, dtype=dtype)
    H, T, C = ops.Toeplitz(c), ops.Toeplitz(c, r), ops.Circulant(r)
    M, eye = sl.toeplitz(c), np.eye(5)
    for A, a in (
        (2 * H, 2 * M),
        (1j * H, 1j * M),
        (np.asarray(2 + 1j) * H, (2 + 1j) * M),
        (H + (1 + 2j) * ops.Identity(5), M + (1 + 2j) * eye),
        (H - H.H + T, M - M.conj().T + sl.toeplitz(c, r)),
        (T + C, sl.toeplitz(c, r) + sl.circulant(r)),
        (C + T, sl.toeplitz(c, r) + sl.circulant(r)),
    ):
        assert type(A) is ops.Toeplitz
        np.testing.assert_allclose(A.to_dense(), a, atol=1e-13)
    assert type(ops.Hankel(c) + 2 * ops.Hankel(c, r)) is ops.Hankel
    assert type(T.H) is ops.Toeplitz and type(ops.Hankel(c, r[:3]).T) is ops.Hankel


def test_properties_come_from_structure():
    real, cplx = np.array([2.0, 1.0]), np.array([2 + 0j, 1j])
    assert ops.Toeplitz(real).isa(cola.SelfAdjoint) and not ops.Toeplitz(cplx).isa(cola.SelfAdjoint)
    assert not ops.Toeplitz(real, real).isa(cola.SelfAdjoint)
    assert ops.Hankel(real, real).isa(cola.SelfAdjoint) and not ops.Hankel(cplx).isa(cola.SelfAdjoint)
    assert not ops.Circulant(real).isa(cola.SelfAdjoint)
    P = cola.PSD(ops.Toeplitz(cplx))
    assert P.H is P and (2 * P).isa(cola.PSD) and not (-1 * P).isa(cola.PSD)
    assert (P + ops.Identity(2)).isa(cola.PSD)


def test_batches(backend, rng):
    c, r, x = draw(rng, 2, 4), draw(rng, 3), draw(rng, 3, 2)
    A = ops.Toeplitz(backend.asarray(c), backend.asarray(r))
    D = np.stack([sl.toeplitz(k, r) for k in c])
    np.testing.assert_allclose(backend.to_numpy(A @ backend.asarray(x)), D @ x, atol=1e-12)
    np.testing.assert_allclose(backend.to_numpy(A.to_dense()), D)
    C = ops.Circulant(backend.asarray(c))
    y = draw(rng, 2, 4, 3)
    M = np.stack([sl.circulant(k) for k in c])
    np.testing.assert_allclose(backend.to_numpy(C @ backend.asarray(y)), M @ y, atol=1e-12)
    np.testing.assert_allclose(
        backend.to_numpy(cola.solve(C, backend.asarray(y))), np.linalg.solve(M, y), atol=1e-9
    )
    np.testing.assert_allclose(backend.to_numpy(cola.slogdet(C)[1]), np.linalg.slogdet(M)[1], atol=1e-10)


def test_nothing_to_multiply():
    for m, n in ((0, 3), (3, 0), (0, 0)):
        for A in (ops.Toeplitz(np.zeros(m), np.zeros(n)), ops.Hankel(np.zeros(m), np.zeros(n))):
            assert (A @ np.ones((n, 2))).shape == (m, 2) and (A.H @ np.ones((m, 2))).shape == (n, 2)
            assert A.T.to_dense().shape == (n, m)
    C = ops.Circulant(np.zeros(0))
    assert cola.inv(C).shape == (0, 0) and cola.slogdet(C) == (1, 0) and cola.trace(C) == 0


def test_an_array_changed_in_place_is_seen():
    """The transform of the symbol is kept between products, but never believed unseen."""
    c = np.array([1.0, 2.0, 3.0])
    for A, dense in ((ops.Circulant(c), sl.circulant), (ops.Toeplitz(c), sl.toeplitz)):
        x = np.ones(3) + np.arange(3)
        A @ x
        c[1] += 1
        np.testing.assert_allclose(A @ x, dense(c) @ x)
    f = np.ones(40)
    A = ops.ConvolveND(f, 50)
    A @ np.ones(50)
    f[3] = 7
    np.testing.assert_allclose(A @ np.arange(50.0), ss.convolve(np.arange(50.0), f, "same"), atol=1e-9)


FILTERS = [((3,), (5,)), ((4,), (4,)), ((5,), (3,)), ((40,), (64,)), ((2, 3), (4, 3)), ((2, 2, 3), (3, 2, 4))]


def convolved(f, grid, mode):
    columns = []
    for e in np.eye(int(np.prod(grid))):
        full = ss.convolve(e.reshape(grid), f, "full", method="direct")
        start = [0 if mode == "full" else k - 1 if mode == "valid" else (k - 1) // 2 for k in f.shape]
        if mode == "circular":
            y = np.zeros(grid, full.dtype)
            for at in np.ndindex(*full.shape):
                y[tuple(i % n for i, n in zip(at, grid, strict=True))] += full[at]
        else:
            grow = {"full": 1, "valid": -1, "same": 0}[mode]
            size = [n + grow * (k - 1) for n, k in zip(grid, f.shape, strict=True)]
            y = full[tuple(slice(s, s + m) for s, m in zip(start, size, strict=True))]
        columns.append(y.ravel())
    return np.stack(columns, -1)


@pytest.mark.parametrize(("shape", "grid"), FILTERS)
@pytest.mark.parametrize("mode", ["same", "full", "valid", "circular"])
def test_convolutions(shape, grid, mode, backend, dtype, rng):
    if few(backend, dtype) or (backend.name == "jax" and shape != (2, 3)):
        return
    f = draw(rng, *shape, dtype=dtype)
    if mode == "valid" and any(k > n for k, n in zip(shape, grid, strict=True)):
        with pytest.raises(cola.errors.ShapeError, match="fit"):
            ops.ConvolveND(f, grid, mode)
        return
    D = convolved(f, grid, mode)
    A = ops.ConvolveND(backend.asarray(f), grid, mode)
    agree(A, D, backend, rng, dtype)
    for k in (0, 1, -2):
        np.testing.assert_allclose(
            backend.to_numpy(cola.diag(A, k)), np.diag(D, k), atol=tolerance(dtype) * 100
        )
    if backend.name != "jax":
        X = backend.asarray(draw(rng, *grid, 2, dtype=dtype))
        by_fft = backend.to_numpy(A._by_fft(backend, X))
        np.testing.assert_allclose(backend.to_numpy(A._direct(X)), by_fft, atol=1e3 * tolerance(dtype))
    assert isinstance(2 * A + A, ops.ConvolveND) and isinstance(A.H, ops.ConvolveND)


def test_scipy_agrees_about_the_centre():
    for k in (2, 3, 4, 5):
        f, x = np.arange(1.0, k + 1), np.arange(7.0) ** 2
        np.testing.assert_allclose(ops.ConvolveND(f, (7,)) @ x, ss.convolve(x, f, "same"))


def test_the_cheaper_way_is_taken():
    assert ops.ConvolveND(np.ones((2, 3)), (256, 256))._directly()
    assert not ops.ConvolveND(np.ones((31, 31)), (256, 256))._directly()


def test_bad_input():
    for make in (
        lambda: ops.Circulant(np.float64(1.0)),
        lambda: ops.Toeplitz(np.zeros((2, 3)), np.zeros((3, 3))).shape,
        lambda: ops.ConvolveND(np.ones(3), (4, 4)),
        lambda: ops.ConvolveND(np.ones(0), (4,)),
        lambda: ops.ConvolveND(np.ones(3), (4,), "full", offset=(1,)),
    ):
        with pytest.raises(cola.errors.ShapeError):
            make()
    with pytest.raises(cola.errors.UnknownNameError, match="circular"):
        ops.ConvolveND(np.ones(3), (4,), "reflect")
    with pytest.raises(cola.errors.DTypeError, match="single precision"):
        ops.Toeplitz(np.ones(3, np.float16))
