"""The operator itself: products, structure, arithmetic, refusals. Conformance checks the rest."""

import pickle

import numpy as np
import pytest

import cola_core as cola
from cola_circulant import Circulant, Fourier, Hartley
from cola_core.errors import DTypeError, ShapeError

rng = np.random.default_rng(0)


def column(n, dtype="float64", batch=()):
    c = rng.standard_normal((*batch, n))
    return (c + 1j * rng.standard_normal((*batch, n)) if "complex" in dtype else c).astype(dtype)


def dense(c):
    n = c.shape[-1]
    return np.stack([np.roll(c, j, axis=-1) for j in range(n)], axis=-1) if n else np.zeros((0, 0))


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "complex64"])
@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_products(backend, n, dtype):
    c = column(n, dtype)
    C, D = Circulant(backend.asarray(c)), dense(c)
    X = column(n, dtype, (3,)).T
    tol = dict(rtol=1e-4, atol=1e-4) if dtype in ("float32", "complex64") else dict(rtol=1e-12, atol=1e-12)
    for got, want in (
        (C @ backend.asarray(X.copy()), D @ X),
        (C @ backend.asarray(c), D @ c),
        (C.H @ backend.asarray(X.copy()), D.conj().T @ X),
        (C.T @ backend.asarray(X.copy()), D.T @ X),
        (C.conj().to_dense(), D.conj()),
        (backend.asarray(X.T.copy()) @ C, X.T @ D),
    ):
        assert str(got.dtype).endswith(dtype)
        np.testing.assert_allclose(backend.to_numpy(got), want, **tol)


def test_mixed_real_and_complex(backend):
    c, z = column(6), column(6, "complex128")
    np.testing.assert_allclose(
        backend.to_numpy(Circulant(backend.asarray(c)) @ backend.asarray(z)), dense(c) @ z
    )


def test_a_batch_of_operators(backend):
    c, X = column(5, batch=(2, 3)), column(5, batch=(2, 3, 4)).swapaxes(-1, -2)
    C = Circulant(backend.asarray(c))
    assert C.shape == (2, 3, 5, 5)
    D = backend.to_numpy(C.to_dense())
    np.testing.assert_array_equal(D[1, 2], dense(c[1, 2]))
    np.testing.assert_allclose(backend.to_numpy(C @ backend.asarray(X.copy())), D @ X)


def test_empty(backend):
    C = Circulant(backend.asarray(np.zeros(0)))
    assert C.shape == (0, 0)
    assert (C @ backend.asarray(np.zeros((0, 2)))).shape == (0, 2)
    assert C.H.to_dense().shape == (0, 0)


def test_products_and_sums_stay_circulant(backend):
    a, b = column(6), column(6)
    A, B = Circulant(backend.asarray(a)), Circulant(backend.asarray(b))
    for got, want in (
        (A @ B, dense(a) @ dense(b)),
        (A + B, dense(a) + dense(b)),
        (A + 2 * cola.ops.Identity(6), dense(a) + 2 * np.eye(6)),
        (cola.ops.Identity(6) + A, dense(a) + np.eye(6)),
        (A.H @ A, dense(a).T @ dense(a)),
    ):
        assert isinstance(got, Circulant)
        np.testing.assert_allclose(backend.to_numpy(got.to_dense()), want, atol=1e-12)


def test_properties_follow_the_structure():
    A = Circulant(column(5))
    assert not A.isa(cola.SelfAdjoint)  # never read off the values
    G = A.H @ A
    assert G.isa(cola.PSD)
    assert (G @ G).isa(cola.PSD)  # circulants commute
    assert (G + G).isa(cola.PSD)
    cola.check_properties(G @ G)
    for T in (Fourier.of(5, np.zeros(1, complex)), Hartley.of(5, np.zeros(1))):
        cola.check_properties(T)
        assert T.isa(cola.Unitary)


def test_integers_become_floats_and_lists_become_arrays():
    C = Circulant([1, 2, 3])
    np.testing.assert_array_equal(C.to_dense(), [[1.0, 3.0, 2.0], [2.0, 1.0, 3.0], [3.0, 2.0, 1.0]])


def test_pickle_and_precision():
    C = Circulant(column(4))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(C)).to_dense(), C.to_dense())
    assert C.to(dtype="float32").dtype == np.float32
    assert Hartley.of(4, C.column).to(dtype="float32").dtype == np.float32
    assert Fourier.of(4, C.spectrum).to(dtype="float32").dtype == np.complex64


def test_refusals():
    with pytest.raises(ShapeError, match="at least one axis"):
        Circulant(np.array(1.0))
    with pytest.raises(DTypeError, match="float16"):
        Circulant(np.zeros(3, np.float16))
    with pytest.raises(ShapeError, match=r"\(3, 3\).*\(4,\)"):
        Circulant(np.ones(3)) @ np.ones(4)
