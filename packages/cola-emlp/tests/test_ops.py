"""The structured operators: products, adjoints, properties, pytrees."""

import pickle

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.errors import ColaError
from cola_emlp import EquivariantProjector, OrbitBasis, OrbitProjector

LABELS = np.array([0, 1, 0, 2, 1, 0])
WEIGHTS = 1 / np.sqrt(np.array([3.0, 2, 1]))
DENSE = np.zeros((6, 3))
DENSE[np.arange(6), LABELS] = WEIGHTS[LABELS]


def test_orbit_basis_is_its_matrix():
    Q = OrbitBasis(LABELS, WEIGHTS)
    rng = np.random.default_rng(0)
    assert Q.shape == (6, 3) and Q.isa(cola.Stiefel) and np.allclose(np.asarray(Q.to_dense()), DENSE)
    for x in (rng.standard_normal(3), rng.standard_normal((3, 4)), rng.standard_normal((2, 3, 4))):
        assert np.allclose(Q @ x, DENSE @ x)
    for x in (rng.standard_normal(6), rng.standard_normal((6, 4)), rng.standard_normal((2, 6, 4))):
        assert np.allclose(Q.H @ x, DENSE.T @ x) and np.allclose(Q.T @ x, DENSE.T @ x)


def test_orbit_projector_is_its_matrix():
    P = OrbitProjector(LABELS, WEIGHTS)
    x = np.random.default_rng(0).standard_normal((6, 2))
    assert P.isa(cola.PSD) and P.isa(cola.SelfAdjoint) and P.rank == 3
    assert np.allclose(P @ x, DENSE @ DENSE.T @ x) and P.H is P and P.T is P
    assert np.allclose(np.asarray(P.Q.to_dense()), DENSE)
    assert (P @ P) is P
    complex_x = x + 1j * x[::-1]
    assert np.allclose(P @ complex_x, DENSE @ DENSE.T @ complex_x)


def test_equivariant_projector_is_its_matrix():
    rng = np.random.default_rng(1)
    for q in (np.linalg.qr(rng.standard_normal((5, 2)))[0],
              np.linalg.qr(rng.standard_normal((5, 2)) + 1j * rng.standard_normal((5, 2)))[0]):  # fmt: skip
        P = EquivariantProjector(cola.Stiefel(ops.Dense(q)), 2)
        x = rng.standard_normal((5, 3)) + 1j * rng.standard_normal((5, 3))
        full = q @ q.conj().T
        assert np.allclose(P @ x, full @ x) and np.allclose(P.H @ x, full @ x)
        assert np.allclose(P.T @ x, full.T @ x) and np.allclose(P.conj() @ x, full.conj() @ x)
        assert P.isa(cola.PSD) and (P @ P) is P and P.dtype == q.dtype


@pytest.mark.parametrize("make", [
    lambda: OrbitBasis(LABELS, WEIGHTS),
    lambda: OrbitProjector(LABELS, WEIGHTS),
    lambda: EquivariantProjector(cola.Stiefel(ops.Dense(DENSE)), 3),
])  # fmt: skip
def test_operators_pickle(make):
    A = make()
    again = pickle.loads(pickle.dumps(A))
    assert type(again) is type(A) and np.array_equal(np.asarray(again.to_dense()), np.asarray(A.to_dense()))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: OrbitBasis(LABELS[None], WEIGHTS), "one-dimensional"),
        (lambda: OrbitProjector(LABELS, 3.0), "one-dimensional"),
        (lambda: EquivariantProjector(ops.Dense(DENSE), 3), "orthonormal"),
        (lambda: EquivariantProjector(cola.Stiefel(ops.Dense(DENSE)), 2), "3 columns"),
    ],
)
def test_bad_operators_are_refused(build, words):
    with pytest.raises(ColaError, match=words):
        build()
