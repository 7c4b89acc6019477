"""Gram-Schmidt against a basis: projections, breakdown, and rows that do not count yet."""

import numpy as np
import pytest
from problems import orthogonal

from cola_core.algorithms.orthogonal import normalize, orthogonalize
from cola_core.backends import get_backend


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("count", [None, 2, 0])
def test_what_is_left_is_orthogonal_to_the_rows_in_use(library, complex_, count):
    be = get_backend(library)
    basis = np.stack([orthogonal(7, seed, complex_)[:, :3].T for seed in (1, 2)])
    w = np.random.default_rng(0).standard_normal((2, 7)) + (1j if complex_ else 0)
    left, c, norm, before = orthogonalize(be, be.asarray(basis), be.asarray(w), count)
    used = basis[:, : 3 if count is None else count]
    coefficients = np.einsum("bmn,bn->bm", used.conj(), w)
    reference = w - np.einsum("bmn,bm->bn", used, coefficients)
    assert np.allclose(be.to_numpy(left), reference, atol=1e-14)
    assert np.allclose(be.to_numpy(c)[:, : used.shape[1]], coefficients, atol=1e-14)
    assert np.all(be.to_numpy(c)[:, used.shape[1] :] == 0)
    assert np.allclose(be.to_numpy(norm), np.linalg.norm(reference, axis=-1))
    assert np.allclose(be.to_numpy(before), np.linalg.norm(w, axis=-1))
    q, kept = normalize(be, left, norm, before)
    assert np.allclose(np.linalg.norm(be.to_numpy(q), axis=-1), 1)
    assert np.allclose(be.to_numpy(q) * be.to_numpy(kept)[:, None], reference, atol=1e-14)


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e12])
def test_a_vector_of_the_space_leaves_nothing_at_any_scale(library, scale):
    be = get_backend(library)
    basis = orthogonal(50, 3)[:, :5].T.copy()
    w = scale * (np.arange(1.0, 6) @ basis)
    left, _, norm, before = orthogonalize(be, be.asarray(basis), be.asarray(w))
    q, norm = normalize(be, left, norm, before)
    assert float(norm) == 0
    assert np.all(be.to_numpy(q) == 0)


def test_a_nearly_dependent_vector_keeps_full_orthogonality():
    be = get_backend("numpy")
    basis = orthogonal(200, 4)[:, :20].T.copy()
    w = basis.sum(axis=0) + 1e-10 * np.random.default_rng(1).standard_normal(200)
    left, c, norm, before = orthogonalize(be, basis, w)
    q, kept = normalize(be, left, norm, before)
    assert kept > 0
    assert np.max(np.abs(basis @ q)) < 1e-14
    assert np.allclose(basis.T @ c + q * kept, w, atol=1e-14)
