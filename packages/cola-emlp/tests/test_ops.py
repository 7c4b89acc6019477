"""The structured operators: products, adjoints, properties, pytrees."""

import pickle

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.errors import ColaError
from cola_emlp import EquivariantProjector, OrbitBasis, OrbitProjector
from cola_emlp.ops import orbit_frame, range_frame, row_norms_squared

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


def test_orbit_frame_diagonalises_the_projector():
    for labels in (LABELS, np.arange(4), np.zeros(5, int), np.array([1, 0, 1, 1, 0, 2, 3, 3])):
        weights = 1 / np.sqrt(np.bincount(labels))
        P = OrbitProjector(labels, weights)
        w, frame = orbit_frame(P)
        v = np.asarray(frame.to_dense())
        assert np.allclose(v @ v.T, np.eye(len(labels)), atol=1e-14) and frame.isa(cola.Unitary)
        assert np.allclose(v @ np.diag(w) @ v.T, np.asarray(P.to_dense()), atol=1e-14)
        assert w.sum() == len(weights)


def test_row_norms_follow_structure():
    rng = np.random.default_rng(2)
    q = cola.Stiefel(ops.Dense(np.linalg.qr(rng.standard_normal((4, 2)))[0]))
    z = cola.Stiefel(
        ops.Dense(np.linalg.qr(rng.standard_normal((3, 2)) + 1j * rng.standard_normal((3, 2)))[0])
    )
    blocks = ops.BlockDiag(q, ops.Kronecker(OrbitBasis(LABELS, WEIGHTS), q), multiplicities=(2, 1))
    shuffled = ops.Permutation(rng.permutation(blocks.shape[0])) @ blocks
    for Q in (q, z, blocks, shuffled, ops.Identity(3), ops.Dense(np.zeros((3, 0)))):
        dense = np.asarray(Q.to_dense())
        assert np.allclose(row_norms_squared(Q), (np.abs(dense) ** 2).sum(axis=1))


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_other_array_libraries(name):
    pytest.importorskip(name)
    Q, P = OrbitBasis(LABELS, WEIGHTS).to(backend=name), OrbitProjector(LABELS, WEIGHTS).to(backend=name)
    frame = orbit_frame(P)[1]
    dense = DENSE.astype(str(P.dtype).removeprefix("torch."))
    for A, expected in ((Q, dense), (P, dense @ dense.T), (Q.H, dense.T), (frame @ frame, np.eye(6))):
        assert A.backend.name == name
        assert np.allclose(np.asarray(A.to_dense()), expected, atol=1e-6)


def test_range_frame_applies_to_vectors_and_stacks():
    rng = np.random.default_rng(3)
    for q in (np.linalg.qr(rng.standard_normal((6, 2)))[0],
              np.linalg.qr(rng.standard_normal((6, 3)) + 1j * rng.standard_normal((6, 3)))[0]):  # fmt: skip
        w, frame = range_frame(EquivariantProjector(cola.Stiefel(ops.Dense(q)), q.shape[1]))
        full = np.asarray(frame.to_dense())
        assert np.allclose(full @ np.diag(w) @ full.conj().T, q @ q.conj().T)
        for x in (rng.standard_normal(6), rng.standard_normal((6, 2)), rng.standard_normal((2, 6, 2))):
            assert np.allclose(frame @ x, full @ x) and np.allclose(frame.H @ x, full.conj().T @ x)
