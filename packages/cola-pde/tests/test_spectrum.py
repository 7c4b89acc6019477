"""Closed forms against dense matrices assembled by ghost elimination, and against the published formulas."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cola_core.backends import get_backend
from cola_pde import spectrum, transforms
from cola_pde.sums import multiplicities, smallest_sums

pytestmark = pytest.mark.filterwarnings("error")


def symmetrised(A, centring, kind):
    first, last = spectrum.end_weights(centring, kind)
    w = np.ones(len(A))
    w[0] *= first
    w[-1] *= last
    return np.sqrt(w)[:, None] * A / np.sqrt(w)


@pytest.mark.parametrize("cells", [2, 3, 4, 5, 8, 17])
def test_eigenpairs_of_every_combination(combination, cells, dense_axis):
    centring, kind = combination
    A, _ = dense_axis(cells, 1.0, centring, kind)
    n = spectrum.unknowns(cells, centring, kind)
    assert A.shape == (n, n)
    S = symmetrised(A, centring, kind)
    np.testing.assert_allclose(S, S.T, atol=1e-13)
    w = spectrum.unit_eigenvalues(n, centring, kind)
    VH = transforms.matrix(spectrum.forward_transform(centring, kind), n)
    np.testing.assert_allclose(VH @ VH.T, np.eye(n), atol=1e-13)
    np.testing.assert_allclose(VH.T @ (w[:, None] * VH), S, atol=1e-12)
    np.testing.assert_allclose(np.diag(S), spectrum.unit_diagonal(n, centring, kind), atol=1e-13)


def test_smallest_axes(combination, dense_axis):
    centring, kind = combination
    cells = 2 if (centring, kind) == ("vertex", "DD") else 1
    A, _ = dense_axis(cells, 1.0, centring, kind)
    n = len(A)
    np.testing.assert_allclose(
        np.sort(spectrum.unit_eigenvalues(n, centring, kind)), np.sort(np.linalg.eigvals(A).real), atol=1e-14
    )


def test_published_one_dimensional_formulas():
    n = 12
    k = np.arange(1, n + 1)
    h = 1 / (n + 1)
    np.testing.assert_allclose(
        spectrum.unit_eigenvalues(n, "vertex", "DD") / h**2,
        4 / h**2 * np.sin(k * np.pi * h / 2) ** 2,
        rtol=1e-13,
    )
    k = np.arange(n)
    np.testing.assert_allclose(
        spectrum.unit_eigenvalues(n, "cell", "NN"), 4 * np.sin(k * np.pi / (2 * n)) ** 2, rtol=1e-13
    )
    np.testing.assert_allclose(
        spectrum.unit_eigenvalues(n, "cell", "P"), 4 * np.sin(k * np.pi / n) ** 2, atol=1e-13
    )


def test_small_eigenvalues_keep_relative_accuracy():
    n = 10**6
    exact = (np.pi / (n + 1)) ** 2 * (1 - (np.pi / (n + 1)) ** 2 / 12)
    assert abs(spectrum.unit_eigenvalues(n, "vertex", "DD")[0] / exact - 1) < 1e-14


def test_continuous_spectrum_of_an_interval():
    for kind, waves in {"DD": [1, 2, 3], "NN": [0, 1, 2], "DN": [0.5, 1.5, 2.5], "P": [0, 2, 2]}.items():
        np.testing.assert_allclose(
            spectrum.continuous_eigenvalues(3, 2.0, kind), [(w * math.pi / 2) ** 2 for w in waves]
        )


@pytest.mark.parametrize("name", transforms.NAMES)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 8, 33])
def test_transform_equals_its_matrix(name, n, backend_name, rng):
    if name == "dct1" and n == 1:
        assert transforms.transform(name, np.ones((1, 1)), np) == 1  # degenerate, but defined
        return
    if backend_name == "jax" and n > 1:
        n = 8 + n % 2  # eager JAX compiles every shape anew: two parities are enough
    be = get_backend(backend_name)
    M = transforms.matrix(name, n)
    np.testing.assert_allclose(M @ M.T, np.eye(n), atol=1e-13)
    np.testing.assert_allclose(transforms.matrix(transforms.inverse_name(name), n), M.T, atol=1e-13)
    dtypes = (
        ["float64", "complex64"]
        if backend_name == "jax"
        else ["float64", "complex128", "float32", "complex64"]
    )
    for dtype in dtypes:  # eager JAX compiles each anew
        tol = 1e-13 if dtype in ("float64", "complex128") else 1e-5
        X = rng.standard_normal((2, n, 3))
        if "complex" in dtype:
            X = X + 1j * rng.standard_normal(X.shape)
        Y = transforms.transform(name, be.asarray(X, dtype=dtype), be.xp)
        assert Y.dtype == be.dtype(dtype)
        np.testing.assert_allclose(be.to_numpy(Y), M @ X, atol=10 * tol, rtol=0)


@given(
    st.lists(st.lists(st.floats(-10, 10), min_size=1, max_size=6), min_size=1, max_size=3),
    st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_smallest_sums_against_all_sums(lists, k):
    arrays = [np.array(a) for a in lists]
    values, indices = smallest_sums(arrays, k)
    grid = arrays[0]
    for a in arrays[1:]:
        grid = np.add.outer(grid, a)
    expected = np.sort(grid.ravel())[:k]
    np.testing.assert_allclose(values, expected, atol=1e-13)
    assert len({tuple(i) for i in indices}) == len(values)
    np.testing.assert_allclose(sum(a[indices[:, i]] for i, a in enumerate(arrays)), values, atol=1e-13)


def test_multiplicities():
    assert multiplicities(np.array([0.0, 1.0, 1.0 + 1e-13, 2.0])) == [(0.0, 1), (1.0, 2), (2.0, 1)]
    assert multiplicities(np.array([])) == []
