"""The operators on every backend, dtype and right-hand side shape, against dense matrices built elsewhere."""

import pickle

import numpy as np
import pytest

from cola_core.backends import get_backend
from cola_core.errors import ShapeError, UnknownNameError
from cola_core.properties import PSD, SelfAdjoint, Unitary, check_properties
from cola_pde import BoundaryError, Diffusion1D, GridError, Laplacian1D, Transform, transforms
from cola_pde.spectrum import end_weights, smallest_size, unit_diagonal

TOLERANCE = {"float64": 1e-12, "float32": 3e-5}


def dense(n, kind, centring, dense_axis):
    """Reference: assembled, symmetrised, from the number of unknowns."""
    known = 0 if centring == "cell" or kind == "P" else kind.count("D") - 1
    A, _ = dense_axis(n + known, 1.0, centring, kind)
    first, last = end_weights(centring, kind)
    w = np.ones(n)
    w[0] *= first
    w[-1] *= last
    return np.sqrt(w)[:, None] * A / np.sqrt(w)


@pytest.mark.parametrize(
    ("n", "dtype"), [(1, "float64"), (2, "float32"), (3, "float64"), (8, "float32"), (9, "float64")]
)
def test_laplacian_product(backend_name, dtype, combination, n, rng, dense_axis):
    centring, kind = combination
    n = max(n, smallest_size(centring, kind))
    shapes = [(n,), (n, 3), (2, n, 3)]
    if backend_name == "jax":  # eager JAX compiles every shape anew
        n, dtype, shapes = 9, "float64", [(9, 9)]
    be = get_backend(backend_name)
    A = Laplacian1D(be.asarray(2.5, dtype=dtype), n, kind, centring)
    S = 2.5 * dense(n, kind, centring, dense_axis)
    assert A.shape == (n, n) and A.dtype == be.dtype(dtype) and A.backend is be
    np.testing.assert_allclose(be.to_numpy(A.to_dense()), S, atol=TOLERANCE[dtype])
    for shape in shapes:
        x = rng.standard_normal(shape)
        y = A @ be.asarray(x, dtype=dtype)
        assert y.dtype == be.dtype(dtype)
        np.testing.assert_allclose(be.to_numpy(y), S @ x, atol=10 * TOLERANCE[dtype])
    w, V = be.to_numpy(A.eigenvalues()), be.to_numpy(A.eigenvectors().to_dense())
    assert w.dtype == np.dtype(dtype) and V.dtype == np.dtype(dtype)
    np.testing.assert_allclose(V @ (w[:, None] * V.T), S, atol=10 * TOLERANCE[dtype])
    np.testing.assert_allclose(be.to_numpy(A.diagonal()), np.diag(S), atol=TOLERANCE[dtype])


def test_laplacian_properties_and_probes(combination):
    centring, kind = combination
    A = Laplacian1D(0.3, 7, kind, centring)
    assert A.isa(PSD) and A.H is A and A.T is A
    check_properties(A)
    V = A.eigenvectors()
    assert V.isa(Unitary)
    check_properties(V)
    np.testing.assert_allclose((V.H @ V.to_dense()), np.eye(7), atol=1e-14)


def test_batched_scale(rng):
    scale = np.array([[1.0], [2.0], [0.5]])
    A = Laplacian1D(scale, 5, "DN", "cell")
    assert A.shape == (3, 1, 5, 5)
    x = rng.standard_normal((4, 5, 2))
    np.testing.assert_allclose(A @ x, scale[..., None, None] * (Laplacian1D(1.0, 5, "DN") @ x), atol=1e-14)
    np.testing.assert_allclose(A.eigenvalues(), scale[..., None] * Laplacian1D(1.0, 5, "DN").eigenvalues())


def test_complex_and_integer_right_hand_sides(backend_name, combination, rng):
    centring, kind = combination
    be = get_backend(backend_name)
    A = Laplacian1D(be.asarray(1.0, dtype="float64"), 6, kind, centring)
    x = rng.standard_normal((6, 6)) + 1j * rng.standard_normal((6, 6))
    dense = be.to_numpy(A.to_dense())
    np.testing.assert_allclose(be.to_numpy(A @ be.asarray(x)), dense @ x, atol=1e-13)
    V = A.eigenvectors()
    np.testing.assert_allclose(be.to_numpy(V @ be.asarray(x)), be.to_numpy(V.to_dense()) @ x, atol=1e-13)
    ones = np.arange(6)
    np.testing.assert_allclose(be.to_numpy(A @ be.asarray(ones)), dense @ ones, atol=1e-4)


def test_mixed_precision_promotes():
    A = Laplacian1D(1.0, 4)
    assert (A @ np.ones(4, np.float32)).dtype == np.float64
    assert (Laplacian1D(np.float32(1), 4) @ np.ones(4)).dtype == np.float64


@pytest.mark.parametrize("n", [2, 3, 6])
def test_diffusion_with_constant_coefficient_is_the_laplacian(backend_name, combination, n, rng):
    centring, kind = combination
    be = get_backend(backend_name)
    links = np.ones(n if kind == "P" else n - 1)
    end = 2.0 if centring == "cell" else 1.0
    ends = np.array([end * (kind[0] == "D"), end * (kind[-1] == "D")]) if kind != "P" else np.zeros(2)
    A = Diffusion1D(be.asarray(links), be.asarray(ends), kind, centring)
    S = Laplacian1D(1.0, n, kind, centring).to_dense()
    np.testing.assert_allclose(be.to_numpy(A.to_dense()), S, atol=1e-14)
    x = rng.standard_normal((2, n, 3))
    np.testing.assert_allclose(be.to_numpy(A @ be.asarray(x)), S @ x, atol=1e-13)
    d, e, corner = A.bands()
    np.testing.assert_allclose(be.to_numpy(d), unit_diagonal(n, centring, kind), atol=1e-14)
    assert A.isa(PSD)


@pytest.mark.parametrize("name", transforms.NAMES)
def test_transform_operator(name):
    V = Transform(None, name, 9)
    M = transforms.matrix(name, 9)
    np.testing.assert_allclose(V.to_dense(), M, atol=1e-14)
    np.testing.assert_allclose(V.H.to_dense(), M.T, atol=1e-14)
    assert V.isa(SelfAdjoint) == np.allclose(M, M.T)
    check_properties(V)


def test_pytrees_and_pickles(backend_name):
    be = get_backend(backend_name)
    A = Laplacian1D(be.asarray(2.0, dtype="float64"), 5, "DN", "vertex")
    if backend_name == "numpy":
        B = pickle.loads(pickle.dumps(A))
        assert B.kind == "DN" and B.n == 5
        np.testing.assert_array_equal(B.to_dense(), A.to_dense())
    assert A.to(dtype="float32").dtype == be.dtype("float32")
    if backend_name == "jax":
        import jax

        g = jax.grad(lambda s: (Laplacian1D(s, 5, "DN") @ jax.numpy.ones(5)).sum())(be.asarray(2.0))
        assert np.isfinite(g)
        y = jax.jit(lambda A, x: A @ x)(A, be.asarray(np.ones(5)))
        np.testing.assert_allclose(np.asarray(y), be.to_numpy(A @ be.asarray(np.ones(5))), atol=1e-14)


@pytest.mark.parametrize(
    ("error", "make"),
    [
        (BoundaryError, lambda: Laplacian1D(1.0, 4, "DX")),
        (BoundaryError, lambda: Diffusion1D(np.ones(3), np.ones(2), "R")),
        (GridError, lambda: Laplacian1D(1.0, 4, "DD", "face")),
        (GridError, lambda: Laplacian1D(-1.0, 4)),
        (GridError, lambda: Laplacian1D(np.nan, 4)),
        (GridError, lambda: Laplacian1D(1j, 4)),
        (GridError, lambda: Diffusion1D(np.array([1.0, -1.0]), np.ones(2))),
        (GridError, lambda: Diffusion1D(np.ones(2), np.ones(2), "DD", "middle")),
        (ShapeError, lambda: Laplacian1D(1.0, 0)),
        (ShapeError, lambda: Laplacian1D(1.0, 1, "NN", "vertex")),
        (ShapeError, lambda: Laplacian1D(1.0, 2.5)),
        (ShapeError, lambda: Diffusion1D(np.ones((2, 2)), np.ones(2))),
        (ShapeError, lambda: Diffusion1D(np.ones(2), np.ones(3))),
        (ShapeError, lambda: Transform(None, "dct1", 1)),
        (UnknownNameError, lambda: Transform(None, "dct9", 4)),
        (ShapeError, lambda: Laplacian1D(1.0, 4) @ np.ones(5)),
    ],
)
def test_bad_input_is_refused_with_words(error, make):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value)
