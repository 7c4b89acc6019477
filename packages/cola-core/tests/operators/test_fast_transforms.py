"""FFT, Hartley, DCT, DST and WalshHadamard against SciPy's transforms of the identity."""

import numpy as np
import pytest
import scipy.fft
import scipy.linalg as sl
from zoo import tolerance

import cola_core as cola
from cola_core import ops
from cola_core.operators.fourier import good_length

SIZES = (1, 2, 3, 4, 5, 8, 13)


def cases(n):
    eye = np.eye(n)
    F = np.fft.fft(eye, norm="ortho")
    yield ops.FFT(n), F
    yield ops.FFT(n, inverse=True), F.conj()
    yield ops.Hartley(n), F.real - F.imag
    for kind, cls in (("dct", ops.DCT), ("dst", ops.DST)):
        for type in (1, 2, 3, 4):
            if (kind, type, n) == ("dct", 1, 1):
                yield cls(n, type), eye
                continue
            yield cls(n, type), getattr(scipy.fft, kind)(eye, type=type, axis=0, norm="ortho")
    if n & (n - 1) == 0:
        yield ops.WalshHadamard(n), sl.hadamard(n) / n**0.5


def test_lengths_are_those_of_scipy():
    for n in (*range(1, 2000), 99_991, 131_071, 10**6 + 3):
        assert good_length(n) == scipy.fft.next_fast_len(n, real=True)


@pytest.mark.parametrize("n", SIZES)
def test_products(n, backend, dtype, rng):
    if backend.name == "jax" and (n not in (5, 8) or dtype not in ("float64", "complex64")):
        return  # every shape is compiled anew
    X = rng.normal(size=(n, 2)) + (1j * rng.normal(size=(n, 2)) if "complex" in dtype else 0)
    X = X.astype(dtype)
    for A, D in cases(n):
        tol = tolerance(dtype)
        x = backend.asarray(X)
        for B, M in ((A, D), (A.H, D.conj().T), (A.T, D.T), (A.conj(), D.conj())):
            got = backend.to_numpy(B @ x)
            np.testing.assert_allclose(got, M @ X, atol=tol, err_msg=f"{B} {dtype}")
            assert got.dtype == np.result_type(X.dtype, np.complex64 if np.iscomplexobj(D) else X.dtype)


@pytest.mark.parametrize("n", SIZES)
def test_answers_in_closed_form(n):
    for A, D in cases(n):
        cola.check_properties(A)
        np.testing.assert_allclose(A.to_dense(), D, atol=1e-13)
        sign, value = cola.slogdet(A)
        np.testing.assert_allclose(sign, np.linalg.slogdet(D)[0], atol=1e-9)
        assert value == 0
        np.testing.assert_allclose(cola.trace(A), np.trace(D), atol=1e-12)
        for k in (0, 1, -2):
            np.testing.assert_allclose(cola.diag(A, k), np.diag(D, k), atol=1e-12)
        b = np.arange(n) + 1.0
        np.testing.assert_allclose(cola.solve(A, b), D.conj().T @ b, atol=1e-12)
        assert isinstance(A @ A.H, ops.Identity) and isinstance(A.H @ A, ops.Identity)
        assert type(cola.inv(A)) is type(A)


@pytest.mark.parametrize("n", range(1, 40))
def test_signs_of_determinants(n):
    for A, D in cases(n):
        np.testing.assert_allclose(A.determinant(), np.linalg.slogdet(D)[0], atol=1e-9, err_msg=str(A))


@pytest.mark.parametrize("grid", [(2, 3), (4, 5), (3, 1, 7), (6, 6)])
def test_hartley_of_several_axes(grid):
    n = int(np.prod(grid))
    F = np.fft.fftn(np.eye(n).reshape(*grid, n), axes=range(len(grid)), norm="ortho").reshape(n, n)
    A, D = ops.Hartley(grid), F.real - F.imag
    np.testing.assert_allclose(A.to_dense(), D, atol=1e-13)
    np.testing.assert_allclose(A @ np.eye(n), D, atol=1e-13)
    assert A.determinant() == round(np.linalg.det(D))


def test_precision_and_place():
    x = np.ones(4, np.float32)
    assert (ops.FFT(4) @ x).dtype == np.complex64 and (ops.DCT(4) @ x).dtype == np.float32
    assert ops.FFT(4, dtype="float64").dtype == np.complex128
    assert ops.FFT(4).dtype == np.complex128 and ops.DCT(4).dtype == np.float64
    assert (ops.DCT(4, dtype="float32").to(dtype="float64")).dtype == np.float64
    assert (ops.DCT(4) @ np.arange(4)).dtype == np.float64
    mixed = ops.DCT(4) @ ops.Diagonal(x)
    assert mixed.dtype == np.float32
    assert (ops.FFT(4) @ ops.Diagonal(x)).dtype == np.complex64


def test_bad_sizes_and_types():
    for make in (lambda: ops.WalshHadamard(6), lambda: ops.WalshHadamard(0), lambda: ops.FFT(-1)):
        with pytest.raises(cola.errors.ShapeError):
            make()
    with pytest.raises(cola.errors.ShapeError, match="types 1, 2, 3 and 4"):
        ops.DCT(4, 5)
    with pytest.raises(cola.errors.DTypeError, match="single precision"):
        ops.FFT(4) @ np.ones(4, np.float16)
    for A in (ops.FFT(0), ops.DCT(0), ops.DST(0), ops.Hartley(0)):
        assert (A @ np.ones((0, 2))).shape == (0, 2) and A.to_dense().shape == (0, 0)
        assert cola.slogdet(A)[0] == 1
