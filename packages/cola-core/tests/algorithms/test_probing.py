"""Probing: colourings, exact for sparse matrices, errors of functions of them, and limits."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from problems import poisson
from zoo import installed

import cola_core as cola
from cola_core import ops
from cola_core.algorithms.coloring import graph_colors, graph_of
from cola_core.backends import get_backend

LIBRARIES = ["numpy", "torch", "jax"]


def laplacian(m, shift):
    return sp.csr_array(poisson(m, m) + shift * sp.eye_array(m * m))


def sparse(S, library="numpy"):
    backend = get_backend(library)
    C = sp.coo_array(S)
    return ops.Sparse(backend.asarray(C.data), C.row, C.col, C.shape)


def asked(question, A, alg, *more):
    return question(A, *more, alg, return_info=True, on_failure="ignore")


@pytest.mark.parametrize("distance", [1, 2, 3])
def test_vertices_of_one_colour_are_apart(distance, rng):
    random = sp.coo_array(sp.random(60, 60, density=0.02, random_state=rng))
    for S in (poisson(8, 8), random):
        colors = graph_colors(graph_of(sparse(S)), S.shape[0], distance)
        P = (np.abs(S.toarray()) + np.abs(S.toarray()).T > 0) | np.eye(S.shape[0], dtype=bool)
        near = np.linalg.matrix_power(P.astype(float), distance) > 0
        same = colors[:, None] == colors
        assert not np.any(near & same & ~np.eye(S.shape[0], dtype=bool))
        assert set(colors) == set(range(colors.max() + 1))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_sparse_matrix_itself_is_exact(library):
    """In a few products, whatever n is; its graph need not be symmetric."""
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    S = sp.csr_array(laplacian(12, 0.5) + sp.diags_array(np.arange(143.0), offsets=1))
    A = cola.no_dispatch(sparse(S, library))
    value, info = asked(cola.trace, A, cola.Probing())
    assert abs(float(value) - S.trace()) < 1e-10 and bool(info.converged) and info.matvecs <= 20
    d, _ = asked(cola.diag, A, cola.Probing(), 0)
    np.testing.assert_allclose(np.asarray(d), S.diagonal(), atol=1e-12)


@pytest.mark.parametrize("question", [cola.trace, cola.diag])
def test_inverses(question):
    """The error reported is the error made; a tighter tolerance takes a larger distance."""
    S = laplacian(20, 1.0)
    A, M = cola.inv(cola.PSD(sparse(S))), np.linalg.inv(S.toarray())
    want = np.trace(M) if question is cola.trace else np.diag(M)
    made = []
    for tol in (1e-1, 1e-3):
        ratios = []
        for key in range(20):
            value, info = asked(question, A, cola.Probing(tol=tol, key=key))
            assert info.converged
            ratios.append(np.linalg.norm(value - want) / info.standard_error)
        made.append(info.matvecs)
        assert np.sum(np.asarray(ratios) > 3) <= 1
    assert made[0] < made[1] < 400


def test_functions_of_bands():
    T = cola.PSD(ops.Tridiagonal(-np.ones(299), 2.5 * np.ones(300), -np.ones(299)))
    w, V = np.linalg.eigh(T.to_dense())
    F = cola.sqrt(cola.no_dispatch(T), cola.Lanczos())
    d, info = asked(cola.diag, F, cola.Probing(tol=1e-5), 0)
    assert info.converged
    np.testing.assert_allclose(d, (V**2) @ np.sqrt(w), atol=1e-4)


def test_colors_of_ones_own_and_limits():
    S = laplacian(10, 0.5)
    A = cola.inv(cola.PSD(sparse(S)))
    want = np.trace(np.linalg.inv(S.toarray()))
    own = cola.Probing(colors=np.arange(100) % 7, samples=4)
    value, info = asked(cola.trace, A, own)
    assert info.matvecs == 28 and abs(value - want) < 4 * info.standard_error
    assert hash(own) and not info.converged and "too large" in info.reason
    value, info = asked(cola.trace, A, cola.Probing(max_iters=20, tol=1e-8))
    assert info.matvecs <= 20 and not info.converged and abs(value - want) < 4 * info.standard_error
    value, info = asked(cola.trace, A, cola.Probing(tol=1e-12))
    assert info.converged and info.standard_error == 0 and abs(value - want) < 1e-10
    dense = cola.no_dispatch(np.eye(30))
    with pytest.raises(NotImplementedError, match="colors"):
        cola.trace(dense, cola.Probing())
    with pytest.raises(NotImplementedError, match="main diagonal"):
        cola.diag(A, 1, cola.Probing())
    with pytest.raises(cola.errors.ShapeError, match="one for each row"):
        cola.trace(A, cola.Probing(colors=(0, 1)))
    with pytest.raises(ValueError, match="spread"):
        cola.Probing(samples=1)


def test_under_jit():
    if not installed("jax"):
        pytest.skip("jax is not installed")
    import jax

    n = 60
    T = ops.Tridiagonal(-jax.numpy.ones(n - 1), 4 * jax.numpy.ones(n), -jax.numpy.ones(n - 1))
    alg = cola.Probing(distance=6)
    d, info = jax.jit(lambda T: asked(cola.diag, cola.inv(cola.no_dispatch(T)), alg, 0))(T)
    want = np.diag(np.linalg.inv(np.asarray(T.to_dense())))
    assert np.linalg.norm(np.asarray(d) - want) < 4 * float(info.standard_error)
