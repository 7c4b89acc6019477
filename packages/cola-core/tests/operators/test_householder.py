"""Reflections and their compact products, against explicit matrices and LAPACK's geqrf."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
from compare import close
from zoo import tolerance

import cola_core as cola
from cola_core import ops


def draw(rng, dtype, *shape):
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if "complex" in dtype else x).astype(dtype)


def test_what_is_claimed(dtype, rng):
    v = draw(rng, dtype, 5)
    H = ops.Householder(v)
    assert H.isa(cola.Unitary) and H.isa(cola.SelfAdjoint) and H.H is H
    cola.check_properties(H)
    K = ops.Householder(v, 0.7)
    assert K.isa(cola.SelfAdjoint) and not K.isa(cola.Unitary)
    assert not ops.Householder(v, 0.7j).properties
    assert ops.HouseholderProduct(v[:, None]).isa(cola.Unitary)
    assert not ops.HouseholderProduct(v[:, None], np.ones(1, dtype)).properties


def test_questions(backend, dtype, rng):
    v, b = draw(rng, dtype, 5), draw(rng, dtype, 5)
    for beta in (None, 0.3, -0.2):
        H = ops.Householder(backend.asarray(v), beta)
        D = np.eye(5) - (2 / np.vdot(v, v).real if beta is None else beta) * np.outer(v, v.conj())
        close(backend, cola.solve(H, backend.asarray(b)), np.linalg.solve(D, b), dtype, 20)
        sign, value = cola.slogdet(H)
        want = np.linalg.slogdet(D)
        close(backend, sign, want[0], dtype)
        close(backend, value, want[1], dtype, 20)
        close(backend, cola.trace(H), np.trace(D), dtype, 20)
        close(backend, cola.diag(H, -2), np.diag(D, -2), dtype, 20)
        w, V = cola.eigh(H)
        close(backend, w, np.linalg.eigvalsh(D), dtype, 20)
        Vd = backend.to_numpy(V.to_dense())
        np.testing.assert_allclose(
            Vd * backend.to_numpy(w) @ Vd.conj().T,
            D,
            atol=20 * tolerance(dtype),
        )
        close(backend, cola.exp(H).to_dense(), sl.expm(D), dtype, 50)


def test_edges():
    zero = ops.Householder(np.zeros(3))  # nothing to reflect at: the identity
    np.testing.assert_array_equal(zero.to_dense(), np.eye(3))
    assert cola.slogdet(zero) == (1, 0) and cola.slogdet(ops.Householder(np.ones(3)))[0] == -1
    np.testing.assert_allclose(cola.eigvalsh(zero), np.ones(3))
    empty = ops.Householder(np.ones(0))
    assert empty.to_dense().shape == (0, 0) and cola.eigvalsh(empty).shape == (0,)
    np.testing.assert_array_equal(ops.Householder(np.ones(1)).to_dense(), [[-1.0]])
    singular = ops.Householder(np.array([1.0, 0.0]), 1.0)
    with pytest.raises(cola.errors.SingularMatrixError, match="singular"):
        cola.solve(singular, np.ones(2))
    assert cola.slogdet(singular) == (0, -np.inf)
    with pytest.raises(cola.errors.ShapeError, match="one tau"):
        ops.HouseholderProduct(np.ones((4, 2)), np.ones(3))
    with pytest.raises(cola.errors.ShapeError, match="at most m"):
        ops.HouseholderProduct(np.ones((2, 3)))
    none = ops.HouseholderProduct(np.ones((4, 0)))
    np.testing.assert_array_equal(none @ np.ones(4), np.ones(4))


def test_geqrf_as_it_is(dtype, rng):
    A = draw(rng, dtype, 9, 4)
    (raw, tau), R = sl.qr(A, mode="raw")
    Q = cola.Unitary(ops.HouseholderProduct(raw, tau))
    want = sl.qr(A)[0]
    tol = 100 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(Q.to_dense(), want, atol=tol)
    np.testing.assert_allclose(Q[:, :4].to_dense() @ np.triu(raw[:4]), A, atol=10 * tol)
    np.testing.assert_allclose(Q.H @ A, np.vstack([np.triu(raw[:4]), np.zeros((5, 4))]), atol=10 * tol)
    np.testing.assert_allclose(Q.T.to_dense(), want.T, atol=tol)
    np.testing.assert_allclose(cola.solve(Q, A), Q.H @ A, atol=tol)
    cola.check_properties(Q)
    for M, D in ((Q, want), (Q.H, want.conj().T)):
        sign, value = cola.slogdet(M)
        np.testing.assert_allclose(sign, np.linalg.slogdet(D)[0], atol=tol)
        np.testing.assert_allclose(value, 0, atol=tol)
        for k in (-8, -1, 0, 3):
            np.testing.assert_allclose(cola.diag(M, k), np.diag(D, k), atol=tol)


def test_general_products_invert(backend, rng):
    V, tau = rng.normal(size=(2, 6, 3)), 0.3 * rng.normal(size=(2, 3))
    tau[0, 1] = 0  # a factor that is the identity
    Q = ops.HouseholderProduct(backend.asarray(V), backend.asarray(tau))
    D = backend.to_numpy(Q.to_dense())
    b = rng.normal(size=(6, 2))
    for M, m in ((Q, D), (Q.H, D.swapaxes(1, 2))):
        close(
            backend, cola.solve(M, backend.asarray(b)), np.linalg.solve(m, np.stack([b, b])), "float64", 100
        )
        close(backend, (cola.inv(M) @ M).to_dense(), np.stack([np.eye(6)] * 2), "float64", 100)


def test_derivative(backend, rng):
    v, b = rng.normal(size=5), rng.normal(size=5)

    def loss(x, rhs):
        return (cola.solve(ops.Householder(x, 0.3), rhs) ** 2).sum() + cola.slogdet(ops.Householder(x, 0.3))[
            1
        ]

    want = [(loss(v + e, b) - loss(v - e, b)) / 2e-6 for e in 1e-6 * np.eye(5)]
    if backend.name == "torch":
        x = backend.asarray(v).requires_grad_()
        loss(x, backend.asarray(b)).backward()
        np.testing.assert_allclose(x.grad, want, atol=1e-6)
    elif backend.name == "jax":
        import jax

        got = jax.jit(jax.grad(loss))(backend.asarray(v), backend.asarray(b))
        np.testing.assert_allclose(got, want, atol=1e-6)
