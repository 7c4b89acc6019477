"""Questions about projectors, through the core's public functions, against dense NumPy."""

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.errors import ColaError, SingularMatrixError
from cola_emlp import (
    SO,
    EquivariantProjector,
    OrbitFrame,
    OrbitProjector,
    RangeFrame,
    S,
    T,
    U,
    V,
    equivariant_projector,
)

ORBIT = equivariant_projector(V >> V, S(4))
ROTATION = equivariant_projector((V + T(2)) >> V, SO(3))
UNITARY = equivariant_projector(T(1, 1) + V, U(2))
MIXED = equivariant_projector(V >> V, S(2) * SO(3))
ALL = [ORBIT, ROTATION, UNITARY, MIXED]
IDS = ["orbit", "rotation", "unitary", "mixed"]


def dense(op):
    return np.asarray(op.to_dense())


def answered_by(question, *args):
    return cola.explain(question, *args).root.by


@pytest.mark.parametrize("P", ALL, ids=IDS)
def test_trace_and_diagonal(P):
    full = dense(P)
    assert np.isclose(cola.trace(P), np.trace(full)) and np.isclose(cola.trace(P), P.rank)
    assert np.allclose(cola.diag(P), np.diag(full))
    assert np.allclose(cola.diag(P, 1), np.diag(full, 1))
    assert "projector" in answered_by(cola.trace, P) and "projector" in answered_by(cola.diag, P)


@pytest.mark.parametrize("P", ALL, ids=IDS)
def test_functions_of_a_projector(P):
    full, n = dense(P), P.shape[0]
    assert np.allclose(dense(cola.exp(P)), np.eye(n) + (np.e - 1) * full)
    assert np.allclose(dense(cola.sqrt(P)), full)
    cubic = cola.apply_unary(lambda w: 2 * w**3 - w + 5, P)
    assert np.allclose(dense(cubic), 5 * np.eye(n) + full)
    assert "projector" in answered_by(cola.exp, P)


@pytest.mark.parametrize("P", ALL, ids=IDS)
def test_a_projector_is_singular_and_says_so(P):
    sign, value = cola.slogdet(P)
    assert sign == 0 and value == -np.inf
    with pytest.raises(SingularMatrixError, match="rank"):
        cola.solve(P, np.ones(P.shape[0]))
    for f in (cola.isqrt, cola.log):
        with pytest.raises(ColaError):
            f(P)


def test_the_full_projector_is_the_identity():
    P = OrbitProjector(np.arange(3), np.ones(3))
    b = np.array([1.0, 2, 3])
    assert np.allclose(cola.solve(P, b), b) and cola.slogdet(P) == (1, 0)
    assert np.allclose(dense(cola.exp(P)), np.e * np.eye(3))
    assert np.allclose(dense(cola.isqrt(P)), np.eye(3))


@pytest.mark.parametrize("P", ALL, ids=IDS)
def test_all_eigenvectors_are_structured(P):
    w, frame = cola.eigh(P)
    v, full = dense(frame), dense(P)
    assert np.all(np.diff(w) >= 0) and w.sum() == P.rank
    assert np.allclose(v @ np.diag(w) @ v.conj().T, full) and np.allclose(v.conj().T @ v, np.eye(len(full)))
    x = np.random.default_rng(0).standard_normal((len(full), 2))
    assert np.allclose(frame.H @ x, v.conj().T @ x)
    assert any(isinstance(M, OrbitFrame | RangeFrame) for M in getattr(frame, "Ms", (frame,)))


@pytest.mark.parametrize("P", ALL, ids=IDS)
def test_a_few_eigenvectors(P):
    w, some = cola.eigh(P, min(2, P.rank), "LA")
    v = dense(some)
    assert np.allclose(w, 1) and np.allclose(dense(P) @ v, v)
    assert np.allclose(v.conj().T @ v, np.eye(v.shape[1]))


@pytest.mark.parametrize("P", ALL, ids=IDS)
def test_shifted_projectors_and_products_follow_from_the_core(P):
    n = P.shape[0]
    b = np.random.default_rng(0).standard_normal(n)
    A = P + 0.5 * ops.Identity(n)
    assert np.allclose(cola.solve(A, b), np.linalg.solve(dense(A), b))
    assert answered_by(cola.solve, A, b) == "core:solve/shift"
    assert np.isclose(cola.logdet(A), np.linalg.slogdet(dense(A))[1])
    K = cola.kron(P, cola.PSD(np.diag([1.0, 2.0]))) + 0.1 * ops.Identity(2 * n)
    assert np.isclose(cola.logdet(K), np.linalg.slogdet(dense(K))[1])


def test_structure_survives():
    assert isinstance(ORBIT, OrbitProjector) and isinstance(ROTATION, EquivariantProjector)
    large = equivariant_projector(T(2) >> T(2), S(20))  # 160000 x 160000
    assert cola.trace(large) == 15.0
    E = cola.exp(large)
    x = np.ones(160_000)
    assert np.allclose(E @ x, np.e * x)


@pytest.mark.parametrize("rank", [0, 4])
def test_the_zero_and_the_full_projector(rank):
    q = cola.Stiefel(ops.Dense(np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0][:, :rank]))
    P = EquivariantProjector(q, rank)
    w, frame = cola.eigh(P)
    assert np.array_equal(w, np.ones(4) * (rank == 4)) and np.allclose(dense(frame.H @ frame), np.eye(4))
    assert cola.trace(P) == rank and np.allclose(cola.diag(P), w)
    assert np.allclose(dense(cola.exp(P)), np.exp(w[0]) * np.eye(4))
    assert np.allclose(cola.solve(P + 0.5 * ops.Identity(4), np.ones(4)), 1 / (0.5 + w[0]))
