"""Sums of Kronecker products: shared eigenvectors, simultaneous diagonalisation, diagonals through them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
from compare import close
from zoo.common import spd, sym, well

import cola_core as cola
from cola_core import PSD, SelfAdjoint, ops


def cases(rng, f, c):
    """(operator, matrix, rules that may solve it)"""
    a, b, g, h = spd(rng, 3, c), spd(rng, 4, c), sym(rng, 3, c), spd(rng, 4, c)
    A, B, G, H = PSD(f(a)), PSD(f(b)), SelfAdjoint(f(g)), PSD(f(h))
    eye3, eye4 = np.eye(3), np.eye(4)
    yield (
        cola.kron(A, B) + 2 * cola.kron(A, ops.Identity(4)) + 0.5 * ops.Identity(12),
        np.kron(a, b) + 2 * np.kron(a, eye4) + 0.5 * np.eye(12),
        "shared-bases",
    )
    yield (
        cola.kron(A @ A, B) + cola.kronsum(A, B) + 0.5 * ops.Identity(12),
        np.kron(a @ a, b) + np.kron(a, eye4) + np.kron(eye3, b) + 0.5 * np.eye(12),
        "shared-bases",
    )
    yield (
        cola.kron(A, B) + cola.kron(PSD(f(a + eye3)), H),
        np.kron(a, b) + np.kron(a + eye3, h),
        "kronecker-pencil",
    )
    yield (
        cola.kron(G, B) + 3 * cola.kron(A, ops.Identity(4)) + 20 * cola.kron(A, B),
        np.kron(g, b) + 3 * np.kron(a, eye4) + 20 * np.kron(a, b),
        "kronecker-pencil",
    )


@pytest.mark.parametrize("index", range(4))
def test_solve_and_determinant(backend, dtype, rng, index):
    c = "complex" in dtype
    A, D, rule = list(cases(rng, lambda x: backend.asarray(x.astype(dtype)), c))[index]
    D = D.astype(dtype)
    rhs = well(rng, 12, c).astype(dtype)[:, :2]
    x, info = cola.solve(A, backend.asarray(rhs), return_info=True)
    assert info.rule == f"core:solve/{rule}"
    close(backend, x, np.linalg.solve(D, rhs), dtype, scale=np.linalg.cond(D))
    sign, value = cola.slogdet(A)
    wide = D.astype("complex128" if c else "float64")
    close(backend, value, np.linalg.slogdet(wide)[1], dtype, scale=100)
    close(backend, sign, np.linalg.slogdet(wide)[0], dtype)
    assert cola.explain(cola.solve, A, backend.asarray(rhs)).root.by == f"core:solve/{rule}"
    close(
        backend, cola.inv(A) @ backend.asarray(rhs), np.linalg.solve(D, rhs), dtype, scale=np.linalg.cond(D)
    )


def test_spectrum_functions_and_diagonals_of_shared_bases(backend, rng):
    f, num = backend.asarray, backend.to_numpy
    a, b = spd(rng, 3), spd(rng, 4)
    A, B = PSD(f(a)), PSD(f(b))
    S = cola.kron(A, B) + 2 * cola.kron(A, ops.Identity(4)) + 0.5 * ops.Identity(12)
    D = np.kron(a, b) + 2 * np.kron(a, np.eye(4)) + 0.5 * np.eye(12)
    np.testing.assert_allclose(num(cola.eigvalsh(S)), np.linalg.eigvalsh(D), rtol=1e-10)
    w, V = cola.eigh(S, 3, "LA")
    np.testing.assert_allclose(D @ num(V.to_dense()), num(V.to_dense()) * num(w), atol=1e-9)
    for g, want in ((cola.sqrt, sl.sqrtm(D)), (cola.log, sl.logm(D)), (cola.inv, np.linalg.inv(D))):
        np.testing.assert_allclose(num(cola.diag(g(S))), np.diag(want), atol=1e-9)
    assert cola.explain(cola.diag, cola.sqrt(S)).root.by == "core:diag/sandwich"
    K = cola.kronsum(A, B)
    dense = np.kron(a, np.eye(4)) + np.kron(np.eye(3), b)
    np.testing.assert_allclose(num(cola.diag(cola.inv(K))), np.diag(np.linalg.inv(dense)), atol=1e-11)
    np.testing.assert_allclose(num(cola.trace(cola.inv(K))), np.trace(np.linalg.inv(dense)), atol=1e-11)


def test_general_shared_factors(backend, rng):
    f, num = backend.asarray, backend.to_numpy
    a, b = well(rng, 3), well(rng, 2)
    A, B = ops.Dense(f(a)), ops.Dense(f(b))
    S = cola.kron(A, B) + cola.kron(A, ops.Identity(2)) - 2 * cola.kron(ops.Identity(3), B)
    D = np.kron(a, b) + np.kron(a, np.eye(2)) - 2 * np.kron(np.eye(3), b)
    w, V = cola.eig(S)
    np.testing.assert_allclose(D @ num(V.to_dense()), num(V.to_dense()) * num(w), atol=1e-9)
    assert cola.explain(cola.eig, S).root.by == "core:eig/shared-bases"
    sign, value = cola.slogdet(S)
    want = np.linalg.slogdet(D)
    np.testing.assert_allclose([float(sign), float(value)], [want[0], want[1]], atol=1e-9)


def test_equal_values_are_not_the_same_operator(rng):
    a, b = spd(rng, 3), spd(rng, 4)
    S = cola.kron(PSD(a), PSD(b)) + cola.kron(PSD(a.copy()), ops.Identity(4))
    assert cola.explain(cola.solve, S, np.ones(12)).root.by == "core:solve/kronecker-pencil"
    x = cola.solve(S, np.ones(12))
    np.testing.assert_allclose(S @ x, np.ones(12), atol=1e-10)


def test_nearly_singular_definite_factors_fall_back(rng):
    """Cholesky of the nearly singular one loses everything; the whole is well conditioned."""
    u = rng.normal(size=(4, 1))
    low = u @ u.T + 1e-14 * np.eye(4)
    a, b, d = spd(rng, 3), low, spd(rng, 4)
    S = cola.kron(PSD(a), PSD(b)) + cola.kron(PSD(np.eye(3) + a), PSD(d))
    D = np.kron(a, b) + np.kron(np.eye(3) + a, d)
    rhs = rng.normal(size=12)
    np.testing.assert_allclose(cola.solve(S, rhs), np.linalg.solve(D, rhs), atol=1e-8)
    np.testing.assert_allclose(cola.logdet(S), np.linalg.slogdet(D)[1], rtol=1e-8)
    zero = np.zeros((4, 4))
    S = cola.kron(PSD(a), PSD(zero)) + cola.kron(PSD(np.eye(3) + a), PSD(d))  # semidefinite is PSD, too
    np.testing.assert_allclose(cola.solve(S, rhs), np.linalg.solve(np.kron(np.eye(3) + a, d), rhs), atol=1e-9)


def test_derivatives(library, backend, rng):
    if library == "numpy":
        pytest.skip("NumPy has no derivatives")
    arrays = [spd(rng, 2), spd(rng, 3), spd(rng, 2), spd(rng, 3)]
    f = backend.asarray
    tangents = [sym(rng, len(x)) for x in arrays]

    def value(a, b, c, d):
        S = cola.kron(PSD(ops.Dense(a)), PSD(ops.Dense(b))) + cola.kron(PSD(ops.Dense(c)), PSD(ops.Dense(d)))
        T = cola.kron(PSD(ops.Dense(a)), PSD(ops.Dense(b))) + 2 * cola.kron(
            PSD(ops.Dense(a)), ops.Identity(3)
        )
        one = f(np.arange(6.0))
        return backend.xp.sum(cola.solve(S, one) ** 2) + backend.xp.sum(cola.solve(T, one)) + cola.logdet(S)

    h = 1e-6
    up, down = ([f(x + s * h * t) for x, t in zip(arrays, tangents, strict=True)] for s in (1, -1))
    want = (float(value(*up)) - float(value(*down))) / (2 * h)
    if library == "torch":
        xs = [f(x).requires_grad_() for x in arrays]
        value(*xs).backward()
        grads = [x.grad.numpy() for x in xs]
    else:
        import jax

        grads = jax.jit(jax.grad(value, argnums=(0, 1, 2, 3)))(*map(f, arrays))
    got = sum(float((np.asarray(g) * t).sum()) for g, t in zip(grads, tangents, strict=True))
    np.testing.assert_allclose(got, want, rtol=1e-4)
