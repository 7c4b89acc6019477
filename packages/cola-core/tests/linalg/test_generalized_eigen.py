"""``A v = w B v``: definite and general, dense and structured, few and all."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
import scipy.sparse as sp
from compare import square
from zoo import tolerance
from zoo.common import draw, spd, sym

import cola_core as cola
from cola_core import PSD, SelfAdjoint, ops


def test_zoo_with_a_definite_b(pair, backend, dtype, rng):
    A, D = pair
    if not square(D) or not A.isa(SelfAdjoint):
        return
    n = len(D)
    M = spd(rng, n, "complex" in dtype).astype(dtype)
    B = PSD(ops.Dense(backend.asarray(M)))
    want = sl.eigh(D, M, eigvals_only=True)
    w, V = cola.eigh(A, B=B)
    w, V = backend.to_numpy(w), backend.to_numpy(V.to_dense())
    scale = 100 * max(np.abs(want).max(), 1)
    np.testing.assert_allclose(w, want, atol=tolerance(dtype) * scale)
    np.testing.assert_allclose(V.conj().T @ M @ V, np.eye(n), atol=100 * tolerance(dtype))
    np.testing.assert_allclose(D @ V, M @ V * w, atol=10 * tolerance(dtype) * scale * np.linalg.norm(M, 2))
    if n > 1:
        top = backend.to_numpy(cola.eigh(A, 1, "LA", B=B)[0])
        np.testing.assert_allclose(top, want[-1:], atol=tolerance(dtype) * scale)


@pytest.mark.parametrize("seed", range(3))
def test_general_b(backend, dtype, seed):
    rng = np.random.default_rng(seed)
    c = "complex" in dtype
    a, b = (draw(rng, 6, 6, cplx=c).astype(dtype) for _ in range(2))
    w, V = cola.eig(backend.asarray(a), B=backend.asarray(b))
    w, V = backend.to_numpy(w), backend.to_numpy(V.to_dense())
    size = np.linalg.norm(a, 2) + np.abs(w) * np.linalg.norm(b, 2)
    assert (np.abs(a @ V - b @ V * w).max(0) <= 100 * tolerance(dtype) * size * np.abs(V).max(0)).all()
    assert (np.diff(np.abs(w)) <= 1e-3 * np.abs(w).max()).all()
    few = backend.to_numpy(cola.eig(backend.asarray(a), 2, "SM", B=backend.asarray(b))[0])
    np.testing.assert_allclose(np.abs(few), np.sort(np.abs(w))[:2], rtol=1e3 * tolerance(dtype))
    near = backend.to_numpy(cola.eig(backend.asarray(a), 1, sigma=0.3, B=backend.asarray(b))[0])
    np.testing.assert_allclose(np.abs(near - 0.3), np.abs(w - 0.3).min(), rtol=1e3 * tolerance(dtype))


def test_structured_pairs(backend, rng):
    f, num = backend.asarray, backend.to_numpy
    a1, a2, m1, m2 = sym(rng, 3), sym(rng, 4), spd(rng, 3), spd(rng, 4)
    K1, K2, M1, M2 = SelfAdjoint(f(a1)), SelfAdjoint(f(a2)), PSD(f(m1)), PSD(f(m2))
    mass, dense_mass = cola.kron(M1, M2), np.kron(m1, m2)
    for A, D, rule in (
        (cola.kron(K1, K2), np.kron(a1, a2), "core:geigh/kronecker"),
        (
            cola.kron(K1, M2) + 3 * cola.kron(M1, K2),
            np.kron(a1, m2) + 3 * np.kron(m1, a2),
            "core:geigh/shared-mass",
        ),
    ):
        (w, V), info = cola.eigh(A, B=mass, return_info=True)
        assert info.rule == rule
        V, w = num(V.to_dense()), num(w)
        np.testing.assert_allclose(w, sl.eigh(D, dense_mass, eigvals_only=True), atol=1e-10)
        np.testing.assert_allclose(V.T @ dense_mass @ V, np.eye(12), atol=1e-10)
        w, V = cola.eigh(A, 3, "LM", B=mass)
        np.testing.assert_allclose(D @ num(V.to_dense()), dense_mass @ num(V.to_dense()) * num(w), atol=1e-9)
        sigma = 0.2
        w = num(cola.eigh(A, 2, sigma=sigma, B=mass)[0])
        every = sl.eigh(D, dense_mass, eigvals_only=True)
        np.testing.assert_allclose(np.sort(np.abs(w - sigma)), np.sort(np.abs(every - sigma))[:2], atol=1e-9)
    A, B = cola.block_diag(K1, K2), cola.block_diag(M1, M2)
    w = num(cola.eigh(A, B=B)[0])
    np.testing.assert_allclose(
        w, sl.eigh(sl.block_diag(a1, a2), sl.block_diag(m1, m2), eigvals_only=True), atol=1e-10
    )
    d = np.abs(rng.normal(size=12)) + 1
    w, V = cola.eigh(cola.kron(K1, K2), B=PSD(ops.Diagonal(f(d))))
    np.testing.assert_allclose(num(w), sl.eigh(np.kron(a1, a2), np.diag(d), eigvals_only=True), atol=1e-10)
    w, V = cola.eigh(cola.kron(K1, K2), B=2.5 * ops.Identity(12))
    np.testing.assert_allclose(num(w), np.linalg.eigvalsh(np.kron(a1, a2)) / 2.5, atol=1e-10)
    np.testing.assert_allclose(num(V.to_dense()).T @ num(V.to_dense()), np.eye(12) / 2.5, atol=1e-10)
    w = num(cola.eig(cola.kron(f(a1), f(a2)), B=cola.kron(f(m1 + a1), f(m2)))[0])
    every = sl.eigvals(np.kron(a1, a2), np.kron(m1 + a1, m2))
    np.testing.assert_allclose(np.sort(np.abs(w)), np.sort(np.abs(every)), rtol=1e-8)


def test_singular_b_has_infinite_eigenvalues():
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.diag([1.0, 0.0])
    w, _ = cola.eig(a, B=b)
    assert np.isinf(w[0]) and abs(w[1] - (1 - 2 * 3 / 4)) < 1e-14
    w, _ = cola.eig(SelfAdjoint(a + a.T), B=PSD(b))  # semidefinite: not eigh's problem
    assert np.isinf(w[0])
    with pytest.raises(cola.errors.NotPositiveDefiniteError):
        cola.eigh(SelfAdjoint(a + a.T), B=PSD(b))
    with pytest.raises(cola.errors.SingularMatrixError, match="null vector"):
        cola.eig(np.diag([1.0, 0.0]), B=b)


def test_large_sparse_pairs():
    n = 400
    K = sp.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1]).tocsr()
    M = sp.diags_array([np.ones(n - 1), 4 * np.ones(n), np.ones(n - 1)], offsets=[-1, 0, 1]).tocsr() / 6
    t = np.pi * np.arange(1, n + 1) / (n + 1)
    every = (2 - 2 * np.cos(t)) / ((2 + np.cos(t)) / 3)
    A, B = PSD(K), PSD(M)
    auto = cola.Auto(memory=1e6)
    (w, V), info = cola.eigh(A, 3, "LA", auto, B=B, return_info=True)
    np.testing.assert_allclose(w, np.sort(every)[-3:], rtol=1e-8)
    assert "ARPACK" in info.method and info.converged
    w, V = cola.eigh(A, 3, sigma=1.0, alg=cola.Arnoldi(), B=B)
    np.testing.assert_allclose(w, np.sort(every[np.argsort(np.abs(every - 1.0))][:3]), rtol=1e-8)
    X = V.to_dense()
    np.testing.assert_allclose(X.T @ (M @ X), np.eye(3), atol=1e-8)
    w, _ = cola.eig(
        cola.no_dispatch(ops.Dense(K[:60, :60].toarray())), 2, "LM", cola.Arnoldi(), B=M[:60, :60]
    )
    want = sl.eigvals(K[:60, :60].toarray(), M[:60, :60].toarray())
    np.testing.assert_allclose(np.abs(w), np.sort(np.abs(want))[::-1][:2], rtol=1e-8)


def test_misuse(rng):
    A, B = SelfAdjoint(sym(rng, 4)), spd(rng, 4)
    with pytest.raises(cola.errors.PropertyError, match=r"PSD\(B\)"):
        cola.eigh(A, B=B)
    with pytest.raises(cola.errors.ShapeError, match="agree"):
        cola.eigh(A, B=PSD(spd(rng, 5)))
    with pytest.raises(cola.errors.NonSquareError):
        cola.eig(A, B=np.ones((4, 3)))
    with pytest.raises(cola.errors.ShapeError, match="needs k"):
        cola.eigh(A, sigma=1.0, B=PSD(B))


def test_plan_of_a_pair(rng):
    M1, M2 = PSD(spd(rng, 3)), PSD(spd(rng, 4))
    A = cola.kron(SelfAdjoint(sym(rng, 3)), M2) + cola.kron(M1, SelfAdjoint(sym(rng, 4)))
    plan = cola.explain(cola.eigh, A, B=cola.kron(M1, M2))
    assert plan.root.by == "core:geigh/shared-mass"
    assert [n.operator for n in plan.nodes()][1:] == ["Dense[3x3]", "Dense[4x4]"]


def test_batches_and_derivatives(library, backend, rng):
    f, num = backend.asarray, backend.to_numpy
    a, b = np.stack([sym(rng, 4), sym(rng, 4)]), np.stack([spd(rng, 4), spd(rng, 4)])
    w = num(cola.eigh(SelfAdjoint(f(a)), B=PSD(f(b)))[0])
    np.testing.assert_allclose(
        w, [sl.eigh(x, y, eigvals_only=True) for x, y in zip(a, b, strict=True)], atol=1e-10
    )
    if library == "numpy":
        return

    def value(x):
        return backend.xp.sum(cola.eigh(SelfAdjoint(ops.Dense(x)), B=PSD(f(b[0])))[0] ** 3)

    E = sym(rng, 4)
    h = 1e-6
    want = (float(value(f(a[0] + h * E))) - float(value(f(a[0] - h * E)))) / (2 * h)
    if library == "torch":
        x = f(a[0]).requires_grad_()
        value(x).backward()
        got = x.grad.numpy()
    else:
        import jax

        got = np.asarray(jax.jit(jax.grad(value))(f(a[0])))
    np.testing.assert_allclose((got * E).sum(), want, rtol=1e-5)
