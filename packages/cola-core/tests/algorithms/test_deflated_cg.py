"""Deflated conjugate gradients: what one solve gathers makes the next cheaper, exact or not."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from problems import poisson, with_spectrum
from zoo import installed

import cola_core as cola
from cola_core import CG, DeflatedCG, Recycle, ops
from cola_core.errors import ShapeError

EAGER = [
    "numpy",
    pytest.param("torch", marks=pytest.mark.skipif(not installed("torch"), reason="torch is not installed")),
]
LOW = np.r_[np.logspace(-4, -1, 8), np.linspace(1, 2, 142)]


def steps(A, b, alg):
    x, info = cola.solve(A, b, alg, return_info=True)
    assert info.converged and info.residual <= 1.1 * info.tolerance
    return info.iterations


@pytest.mark.parametrize("library", EAGER)
@pytest.mark.parametrize("complex_", [False, True])
def test_the_next_system_is_cheaper(backend, complex_):
    rng = np.random.default_rng(0)
    M = with_spectrum(LOW, 1, complex_)
    A = cola.no_dispatch(cola.PSD(ops.Dense(backend.asarray(M))))
    space, made = Recycle(8), []
    for _ in range(3):
        b = backend.asarray(rng.standard_normal(150).astype(M.dtype))
        made.append(steps(A, b, DeflatedCG(recycle=space)))
    assert made[1] < made[0] / 2 and made[2] < made[0] / 2
    values, V = np.linalg.eigh(M)
    W = backend.to_numpy(space.basis)
    np.testing.assert_allclose(W.conj().T @ W, np.eye(8), atol=1e-10)
    assert np.linalg.norm(V[:, :6] - W @ (W.conj().T @ V[:, :6]), 2) < 1e-3


def test_nearby_operators_share_it():
    M, rng, space = poisson(30, 31), np.random.default_rng(1), Recycle(10)
    ours, plain = [], []
    for k in range(4):
        A = cola.no_dispatch(cola.PSD(ops.Sparse.from_scipy(M + 1e-3 * k * sp.eye_array(930))))
        b = rng.standard_normal(930)
        ours.append(steps(A, b, DeflatedCG(recycle=space)))
        plain.append(steps(A, b, CG()))
    assert ours[0] == plain[0] and max(ours[2:]) < 0.65 * min(plain[2:])


def test_a_useless_subspace_does_no_harm():
    rng = np.random.default_rng(2)
    M = with_spectrum(LOW, 3)
    A, b = cola.no_dispatch(cola.PSD(ops.Dense(M))), rng.standard_normal(150)
    W = np.linalg.qr(rng.standard_normal((150, 4)))[0]
    assert steps(A, b, DeflatedCG(recycle=Recycle(4, W))) <= steps(A, b, CG()) + 3


def test_columns_preconditioner_first_guess_and_units():
    rng = np.random.default_rng(3)
    M = with_spectrum(LOW, 4) + np.diag(np.linspace(0, 3, 150))
    A, P = cola.no_dispatch(cola.PSD(ops.Dense(M))), cola.PSD(ops.Diagonal(1 / np.diag(M)))
    space = Recycle(6)
    for scale in (1.0, 1e-9, 1e9):
        B = rng.standard_normal((150, 3))
        B[:, 1] = 0
        X, info = cola.solve(scale * A, B, DeflatedCG(P=P, recycle=space), return_info=True)
        assert info.converged and not np.any(np.abs(X[:, 1]) > 0)
        np.testing.assert_allclose(scale * M @ X, B, atol=1e-6)
    x = np.linalg.solve(M, B[:, 0])
    assert steps(A, B[:, 0], DeflatedCG(x0=x, recycle=space)) == 0


def test_without_a_subspace_it_is_conjugate_gradients():
    M = with_spectrum(LOW, 5)
    A, b = cola.no_dispatch(cola.PSD(ops.Dense(M))), np.ones(150)
    assert abs(steps(A, b, DeflatedCG()) - steps(A, b, CG())) <= 1


def test_what_goes_wrong_is_named():
    space = Recycle(3)
    A = cola.no_dispatch(cola.PSD(ops.Dense(np.diag(np.arange(1.0, 21)))))
    cola.solve(A, np.ones(20), DeflatedCG(recycle=space))
    assert space.basis.shape == (20, 3)
    with pytest.raises(ShapeError, match="Recycle"):
        cola.solve(cola.PSD(ops.Dense(np.eye(4))), np.ones(4), DeflatedCG(recycle=space))
    space.clear()
    assert space.basis is None
    bad = cola.no_dispatch(cola.PSD(ops.Dense(np.diag(np.r_[-1.0, np.arange(1.0, 20)]))))
    _, info = cola.solve(bad, np.ones(20), DeflatedCG(recycle=space), return_info=True, on_failure="ignore")
    assert not info.converged and "positive" in info.reason
    with pytest.raises(ShapeError):
        Recycle(0)


def test_compiled_by_jax():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    M = with_spectrum(np.r_[1e-3, 1e-2, np.linspace(1, 2, 38)], 1)
    A = cola.no_dispatch(cola.PSD(ops.Dense(jnp.asarray(M))))
    b, space = jnp.ones(40), Recycle(2)
    first = steps(A, b, DeflatedCG(recycle=space))
    assert steps(A, b + jnp.arange(40.0), DeflatedCG(recycle=space)) < first
    x = jax.jit(lambda A, b: cola.solve(A, b, DeflatedCG(recycle=space)))(A, b)
    np.testing.assert_allclose(x, np.linalg.solve(M, np.ones(40)), rtol=1e-5, atol=1e-5)
