"""Every operator of the zoo through every eigenquestion, and the matrices that break eigensolvers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
import scipy.sparse as sp
from compare import square
from zoo import tolerance

import cola_core as cola
from cola_core import ops

RANK = {
    "LM": lambda w: -np.abs(w),
    "SM": np.abs,
    "LR": lambda w: -w.real,
    "SR": lambda w: w.real,
    "LI": lambda w: -w.imag,
    "SI": lambda w: w.imag,
}


def matched(got, want):
    """The largest distance of a best matching of two sets of numbers."""
    from scipy.optimize import linear_sum_assignment

    cost = np.abs(np.subtract.outer(got, want))
    rows, cols = linear_sum_assignment(cost)
    return cost[rows, cols].max(initial=0.0)


def sensitivity(D):
    """Bauer-Fike: how far eigenvalues may move per unit of backward error."""
    V = np.linalg.eig(D.astype(complex))[1]
    return min(np.linalg.cond(V), 1e8) * max(np.linalg.norm(D, 2), 1e-300)


def test_eigvals(pair, backend, dtype):
    A, D = pair
    if not square(D):
        with pytest.raises(cola.errors.NonSquareError):
            cola.eigvals(A)
        return
    w = backend.to_numpy(cola.eigvals(A))
    wide = D.astype("complex128" if "complex" in dtype else "float64")
    want = np.linalg.eigvals(wide)
    error = 10 * tolerance(dtype) * sensitivity(wide)
    assert w.shape == want.shape and (np.diff(np.abs(w)) <= 1e-4 * max(np.abs(w).max(), 1)).all()
    if np.linalg.cond(np.linalg.eig(wide)[1]) < 1e6:
        assert matched(w, want) <= error
    assert np.iscomplexobj(w) != A.isa(cola.SelfAdjoint)
    if A.isa(cola.SelfAdjoint):
        v = backend.to_numpy(cola.eigvalsh(A))
        assert (np.diff(v) >= 0).all()
        np.testing.assert_allclose(v, np.sort(want.real), atol=error)


@pytest.mark.parametrize("which", ["LM", "SM", "LR", "SI"])
def test_eig_of_some(pair, backend, dtype, which):
    A, D = pair
    if not square(D) or len(D) < 2:
        return
    wide = D.astype("complex128")
    every = np.linalg.eigvals(wide)
    w, V = cola.eig(A, 2, which)
    w, V = backend.to_numpy(w), backend.to_numpy(V.to_dense())
    scale = sensitivity(wide)
    assert w.shape == (2,) and V.shape == (len(D), 2)
    assert np.abs(wide @ V - V * w).max() <= 30 * tolerance(dtype) * np.linalg.norm(D, 2) * np.abs(V).max()
    rank = RANK["LM" if A.isa(cola.SelfAdjoint) and which == "SI" else which]
    # ties may be broken either way, the ranks may not
    np.testing.assert_allclose(rank(w), np.sort(rank(every))[:2], atol=30 * tolerance(dtype) * scale)


def test_eigh_of_some(pair, backend, dtype):
    A, D = pair
    if not square(D) or not A.isa(cola.SelfAdjoint) or len(D) < 2:
        return
    every = np.linalg.eigvalsh(D.astype("complex128" if "complex" in dtype else "float64"))
    scale = np.abs(every).max()
    for which in ("LM", "SM", "LA", "SA"):
        w, V = cola.eigh(A, 2, which)
        w, V = backend.to_numpy(w), backend.to_numpy(V.to_dense())
        key = {"LM": -np.abs(every), "SM": np.abs(every), "LA": -every, "SA": every}[which]
        want = np.sort(every[np.argsort(key, kind="stable")][:2])
        np.testing.assert_allclose(np.abs(w).sum(), np.abs(want).sum(), atol=20 * tolerance(dtype) * scale)
        assert np.abs(D @ V - V * w).max() <= 100 * tolerance(dtype) * scale
        np.testing.assert_allclose(V.conj().T @ V, np.eye(2), atol=20 * tolerance(dtype))
    sigma = float(every[len(every) // 2] + 1e-3 * scale)
    w, V = cola.eigh(A, 2, sigma=sigma)
    want = np.sort(np.abs(every - sigma))[:2]
    got = np.sort(np.abs(backend.to_numpy(w) - sigma))
    np.testing.assert_allclose(got, want, atol=20 * tolerance(dtype) * scale)


# -- the wrong answers of others -----------------------------------------------------------------------------
def test_which_means_what_it_says(backend, rng):
    a = rng.normal(size=(30, 30))
    w = np.linalg.eigvals(a)
    f, num = backend.asarray, backend.to_numpy
    for which, rank in RANK.items():
        got = num(cola.eig(f(a), 3, which)[0])
        np.testing.assert_allclose(rank(got), np.sort(rank(w))[:3], atol=1e-10)
    b = rng.normal(size=(5, 5))
    K = cola.kron(f(b), f(a[:6, :6]))
    every = np.linalg.eigvals(np.kron(b, a[:6, :6]))
    got = num(cola.eig(K, 3, "LM")[0])
    np.testing.assert_allclose(np.abs(got), np.sort(np.abs(every))[::-1][:3], atol=1e-10)
    got = num(cola.eig(K, 3, "SM")[0])
    np.testing.assert_allclose(np.abs(got), np.sort(np.abs(every))[:3], atol=1e-10)


def test_smallest_modulus_of_an_indefinite_operator(backend, rng):
    a = rng.normal(size=(20, 20))
    s = a + a.T
    w = np.linalg.eigvalsh(s)
    A = cola.SelfAdjoint(backend.asarray(s))
    np.testing.assert_allclose(
        backend.to_numpy(cola.eigh(A, 1, "SM")[0]), w[np.argmin(np.abs(w))], atol=1e-10
    )
    np.testing.assert_allclose(backend.to_numpy(cola.eigmin(A)), w[0], atol=1e-10)
    for sign in (1, -1):
        P = sign * cola.PSD(backend.asarray(a @ a.T))
        for alg in (cola.Auto(), cola.PowerIteration(max_iter=100_000)):
            want = np.linalg.eigvalsh(sign * a @ a.T)
            np.testing.assert_allclose(
                backend.to_numpy(cola.eigmax(P, alg)), want[-1], atol=1e-5 * abs(want).max()
            )
            np.testing.assert_allclose(
                backend.to_numpy(cola.eigmin(P, alg)), want[0], atol=1e-5 * abs(want).max()
            )


def test_early_breakdown_leaves_no_padding(backend):
    d = np.repeat([2.0, 5.0], 30)
    A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(backend.asarray(np.diag(d)))))
    for which, want in (("SM", 2.0), ("LM", 5.0)):
        w, V = cola.eigh(A, 3, which, cola.Lanczos())
        np.testing.assert_allclose(backend.to_numpy(w), [want] * 3, atol=1e-9)
        np.testing.assert_allclose(np.linalg.matrix_rank(backend.to_numpy(V.to_dense())), 3)


# -- difficult matrices --------------------------------------------------------------------------------------
def grcar(n):
    return sl.toeplitz([1.0, -1.0, *[0.0] * (n - 2)], [1.0, 1, 1, 1, *[0.0] * (n - 4)])


def jordan(n, w):
    return w * np.eye(n) + np.diag(np.ones(n - 1), 1)


def test_defective_matrices_have_eigenvalues(backend, dtype):
    eps = 1e-16 if dtype in ("float64", "complex128") else 1e-7
    J = jordan(4, 3.0).astype(dtype)
    w = backend.to_numpy(cola.eigvals(backend.asarray(J)))
    assert np.abs(w - 3).max() < 10 * (10 * eps) ** 0.25
    T = ops.Triangular(backend.asarray(J), lower=False)
    np.testing.assert_array_equal(backend.to_numpy(cola.eigvals(T)), np.full(4, 3.0))
    K = cola.kronsum(T, T)
    np.testing.assert_array_equal(backend.to_numpy(cola.eigvals(K)), np.full(16, 6.0))
    w, V = cola.eig(T)  # one eigenvector, found four times
    V = backend.to_numpy(V.to_dense())
    assert np.abs(J @ V - V * 3).max() < 1e3 * eps and np.isfinite(V).all()


def test_triangular_eigenvectors_under_jit_need_no_gap():
    jax = pytest.importorskip("jax")
    T = np.triu(np.arange(1.0, 26).reshape(5, 5))
    T[3, 3] = T[1, 1]

    def vectors(T):
        w, V = cola.eig(ops.Triangular(T, lower=False))
        return w, V.to_dense()

    for w, V in (vectors(jax.numpy.asarray(T)), jax.jit(vectors)(T)):
        assert np.abs(T @ np.asarray(V) - np.asarray(V) * np.asarray(w)).max() < 1e-12 * np.abs(T).max() * 25


def test_long_chains_of_repeated_eigenvalues_do_not_overflow():
    T = np.triu(np.ones((60, 60)))
    w, V = cola.eig(ops.Triangular(T, lower=False))
    V = V.to_dense()
    assert np.isfinite(V).all() and np.abs(T @ V - V).max() < 1e-12


def test_nonnormal_matrices(backend):
    G = grcar(24)
    want = np.linalg.eigvals(G)
    for which in ("LM", "SM", "LR", "LI"):
        w, V = cola.eig(backend.asarray(G), 4, which)
        w, V = backend.to_numpy(w), backend.to_numpy(V.to_dense())
        assert np.abs(G @ V - V * w).max() < 1e-11
        np.testing.assert_allclose(RANK[which](w), np.sort(RANK[which](want))[:4], atol=1e-5)
    near = backend.to_numpy(cola.eig(backend.asarray(G), 2, sigma=1 + 2j)[0])
    np.testing.assert_allclose(np.abs(near - 1 - 2j), np.sort(np.abs(want - 1 - 2j))[:2], atol=1e-6)


@pytest.mark.parametrize("n", [0, 1])
def test_smallest_sizes(backend, n):
    a = np.full((n, n), 2.0)
    for A in (ops.Dense(backend.asarray(a)), cola.SelfAdjoint(backend.asarray(a))):
        assert tuple(cola.eigvals(A).shape) == (n,)
        w, V = cola.eig(A)
        assert tuple(w.shape) == (n,) and V.shape == (n, n)
        if n:
            np.testing.assert_allclose(backend.to_numpy(cola.eig(A, 1)[0]), [2.0])
            np.testing.assert_allclose(backend.to_numpy(cola.eig(A, 1, sigma=3.0)[0]), [2.0])
    assert tuple(cola.eigvalsh(A).shape) == (n,)


def test_batches(backend, rng):
    a = rng.normal(size=(2, 6, 6))
    f, num = backend.asarray, backend.to_numpy
    w, V = map(num, (lambda w, V: (w, V.to_dense()))(*cola.eig(f(a), 2, "LR")))
    for i in range(2):
        every = np.linalg.eigvals(a[i])
        np.testing.assert_allclose(w[i].real, np.sort(every.real)[::-1][:2], atol=1e-10)
        np.testing.assert_allclose(a[i] @ V[i], V[i] * w[i], atol=1e-10)
    p = a @ a.swapaxes(-1, -2)
    K = cola.kron(cola.PSD(f(p)), cola.PSD(f(p[0])))
    w, V = cola.eigh(K, 2, "LA")
    k = np.stack([np.kron(x, p[0]) for x in p])
    np.testing.assert_allclose(num(w), np.linalg.eigvalsh(k)[:, -2:], rtol=1e-9)
    np.testing.assert_allclose(k @ num(V.to_dense()), num(V.to_dense()) * num(w)[:, None, :], atol=1e-6)
    np.testing.assert_allclose(num(cola.eigmax(K)), np.linalg.eigvalsh(k)[:, -1], rtol=1e-9)
    np.testing.assert_allclose(
        num(cola.eigmax(cola.SelfAdjoint(f(p)))), np.linalg.eigvalsh(p)[:, -1], rtol=1e-9
    )


# -- structure -----------------------------------------------------------------------------------------------
def test_similarity_is_recognised_when_it_is_written(backend, rng):
    U = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    d = rng.normal(size=6)
    V = cola.Unitary(backend.asarray(U))
    A = V @ ops.Diagonal(backend.asarray(d)) @ V.H
    assert cola.explain(cola.eigvals, A).root.by == "core:eigvals/similarity"
    np.testing.assert_array_equal(backend.to_numpy(cola.eigvals(A)), d[np.argsort(-np.abs(d))])
    w, X = cola.eigh(cola.SelfAdjoint(A), 2, "LA")
    np.testing.assert_allclose(
        U * d @ U.T @ backend.to_numpy(X.to_dense()),
        backend.to_numpy(X.to_dense()) * np.sort(d)[-2:],
        atol=1e-12,
    )
    B = V @ ops.Diagonal(backend.asarray(d)) @ cola.Unitary(backend.asarray(U.T))  # equal, but who knows
    assert cola.explain(cola.eigvals, B).root.by != "core:eigvals/similarity"


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 12, 30])
def test_permutation_eigenvalues_are_exact(backend, n):
    rng = np.random.default_rng(n)
    perm = rng.permutation(n)
    w = backend.to_numpy(cola.eigvals(ops.Permutation(backend.asarray(perm), dtype="float64")))
    assert matched(w, np.linalg.eigvals(np.eye(n)[perm])) < 1e-12
    np.testing.assert_allclose(np.abs(w), 1, atol=3e-16)
    w, V = cola.eig(ops.Permutation(backend.asarray(perm), dtype="float64"))
    w, V = backend.to_numpy(w), backend.to_numpy(V.to_dense())
    np.testing.assert_allclose(np.eye(n)[perm] @ V, V * w, atol=1e-14)
    np.testing.assert_allclose(V.conj().T @ V, np.eye(n), atol=1e-13)
    cycle = np.roll(np.arange(8), 1)
    w = backend.to_numpy(cola.eigvals(ops.Permutation(backend.asarray(cycle), dtype="float64")))
    assert {1, -1, 1j, -1j} <= set(w.tolist())  # quarter turns without rounding


def test_low_rank_spectra(backend, rng):
    U, V = rng.normal(size=(9, 2)), rng.normal(size=(9, 2))
    f, num = backend.asarray, backend.to_numpy
    w = num(cola.eigvals(ops.LowRank(f(U), f(V))))
    assert matched(w, np.linalg.eigvals(U @ V.T)) < 1e-10 and (w[2:] == 0).all()
    w, X = cola.eig(ops.LowRank(f(U), f(V)), 2)
    np.testing.assert_allclose(U @ V.T @ num(X.to_dense()), num(X.to_dense()) * num(w), atol=1e-10)
    P = ops.LowRank(f(U))
    w, X = cola.eigh(P)
    X, w = num(X.to_dense()), num(w)
    np.testing.assert_allclose(X.T @ X, np.eye(9), atol=1e-12)
    np.testing.assert_allclose((X * w) @ X.T, U @ U.T, atol=1e-11)
    S = cola.SelfAdjoint(ops.LowRank(f(U), f(U * [1.0, -2.0])))
    w, X = cola.eigh(S, 2, "LM")
    np.testing.assert_allclose(num(w), np.linalg.eigvalsh(U * [1.0, -2.0] @ U.T)[[0, -1]], atol=1e-11)
    E = cola.exp(P + 0.5 * ops.Identity(9))
    np.testing.assert_allclose(num(E.to_dense()), sl.expm(U @ U.T + 0.5 * np.eye(9)), rtol=1e-9, atol=1e-9)


# -- large operators -----------------------------------------------------------------------------------------
def laplacian(n):
    return sp.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1]).tocsr()


def test_shift_invert_of_a_large_sparse_operator():
    n = 20_000
    A = cola.SelfAdjoint(laplacian(n))
    every = 2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1))
    (w, V), info = cola.eigh(A, 4, sigma=1.0, return_info=True)
    want = every[np.argsort(np.abs(every - 1.0))][:4]
    np.testing.assert_allclose(w, np.sort(want), atol=1e-10)
    assert info.converged and "shift-invert" in info.method and V.shape == (n, 4)
    assert np.abs(A @ V.to_dense() - V.to_dense() * w).max() < 1e-9


def test_shift_at_an_eigenvalue():
    d = np.arange(60.0)
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense((Q * d) @ Q.T)))
    w, _ = cola.eigh(A, 3, sigma=7.0, alg=cola.ShiftInvert())
    np.testing.assert_allclose(w, [6, 7, 8], atol=1e-8)
    w, _ = cola.eig(cola.no_dispatch(ops.Dense(np.diag(d))), 3, sigma=7.0, alg=cola.ShiftInvert())
    np.testing.assert_allclose(np.sort(w.real), [6, 7, 8], atol=1e-7)


@pytest.mark.parametrize("which", ["LM", "LR", "SR", "SM"])
def test_arnoldi_finds_copies_of_an_eigenvalue(which):
    rng = np.random.default_rng(1)
    w = np.concatenate([[9.0, 9, 9, -8, 0.1, 0.1], rng.uniform(1, 5, 54)])
    X = np.eye(60) + 0.1 * rng.normal(size=(60, 60))
    M = np.linalg.solve(X, w[:, None] * X)
    alg = cola.ShiftInvert() if which == "SM" else cola.Arnoldi()
    got = cola.eig(cola.no_dispatch(ops.Dense(M)), 3, which, alg)[0]
    np.testing.assert_allclose(RANK[which](got), np.sort(RANK[which](w))[:3], atol=1e-7)


def test_arnoldi_on_every_library(backend, rng):
    M = rng.normal(size=(120, 120)) / 10 + np.diag(np.arange(120.0))
    A = cola.no_dispatch(ops.Dense(backend.asarray(M)))
    every = np.linalg.eigvals(M)
    (w, V), info = cola.eig(A, 3, "LM", cola.Arnoldi(), return_info=True)
    np.testing.assert_allclose(np.abs(backend.to_numpy(w)), np.sort(np.abs(every))[::-1][:3], rtol=1e-8)
    assert info.converged and info.method.startswith("Arnoldi")
    assert (
        np.abs(
            M @ backend.to_numpy(V.to_dense()) - backend.to_numpy(V.to_dense()) * backend.to_numpy(w)
        ).max()
        < 1e-7
    )


# -- misuse --------------------------------------------------------------------------------------------------
def test_misuse_is_named(rng):
    A = ops.Dense(rng.normal(size=(5, 5)))
    S = cola.SelfAdjoint(A)
    with pytest.raises(cola.errors.UnknownNameError, match="LI"):
        cola.eig(A, 2, "XX")
    with pytest.raises(cola.errors.UnknownNameError, match="SM"):
        cola.eigh(S, 2, "LI")
    with pytest.raises(cola.errors.UnknownNameError, match="nearest"):
        cola.eig(A, 2, "SR", sigma=1.0)
    with pytest.raises(cola.errors.ShapeError, match="needs k"):
        cola.eigh(S, sigma=1.0)
    with pytest.raises(cola.errors.ShapeError, match="between 1 and 5"):
        cola.eig(A, 6)
    with pytest.raises(cola.errors.ShapeError, match="integer"):
        cola.eig(A, 2.5)
    with pytest.raises(cola.errors.PropertyError, match="real"):
        cola.eigh(S, 1, sigma=1j)
    with pytest.raises(cola.errors.PropertyError, match="self-adjoint"):
        cola.eigh(A, 2)
    with pytest.raises(cola.errors.PropertyError, match="self-adjoint"):
        cola.eig(A, alg=cola.Eigh())
    with pytest.raises(cola.errors.ShapeError, match="one eigenvalue"):
        cola.eigh(S, 2, "LM", cola.PowerIteration())
    w, _ = cola.eig(A, cola.Eig())  # the algorithm may come second
    assert w.shape == (5,)


def test_eigenvalues_have_derivatives(library, backend, rng):
    if library == "numpy":
        pytest.skip("NumPy has no derivatives")
    a = rng.normal(size=(4, 4)) + np.diag([0.0, 3, 6, 9])
    E = rng.normal(size=(4, 4))

    def value(x):
        w = cola.eigvals(ops.Dense(x))
        return backend.xp.sum(backend.xp.real(w) ** 2)

    h = 1e-6
    want = (float(value(backend.asarray(a + h * E))) - float(value(backend.asarray(a - h * E)))) / (2 * h)
    if library == "torch":
        x = backend.asarray(a).requires_grad_()
        value(x).backward()
        got = float((x.grad.numpy() * E).sum())
    else:
        import jax

        got = float((np.asarray(jax.grad(value)(backend.asarray(a))) * E).sum())
    np.testing.assert_allclose(got, want, rtol=1e-5)
