"""Edges of the factorisations: structure kept, sizes 0 and 1, batches, rank decisions, scales, iterations
that end early, derivatives, errors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from compare import close
from zoo import installed

import cola_core as cola
from cola_core import CG, LSTSQ, QR, LanczosSVD, ops
from cola_core.backends import get_backend
from cola_core.errors import (
    ConvergenceWarning,
    NonFiniteError,
    NoRuleError,
    NotPositiveDefiniteError,
    ShapeError,
    SingularMatrixError,
    UnknownNameError,
    UnreliableResultWarning,
)

D = ops.Dense


def dense(A):
    return A.to_dense()


def random(rng, *shape, cplx=False):
    x = rng.normal(size=shape)
    return x + 1j * rng.normal(size=shape) if cplx else x


def unitary(rng, n):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


# -- singular values -----------------------------------------------------------------------------------------
def test_singular_values_are_not_negative_and_signs_go_into_the_left_vectors():
    U, S, V = cola.svd(ops.Diagonal(np.array([-1.0, 2.0])))
    assert S.diag.tolist() == [2.0, 1.0]
    np.testing.assert_array_equal(dense(U @ S @ V.H), np.diag([-1.0, 2.0]))
    U, S, V = cola.svd(ops.ScalarMul(-2j, 3))
    np.testing.assert_allclose(S.diag, [2, 2, 2])
    np.testing.assert_allclose(dense(U @ S @ V.H), -2j * np.eye(3))


def test_structured_answers_stay_structured(rng):
    A, B = random(rng, 30, 20), random(rng, 40, 30)
    K = cola.kron(A, B)

    U, S, V = cola.svd(K)
    assert max(U.Ms[0].Ms[0].array.shape) == 30 and isinstance(V.Ms[0], ops.Kronecker)
    Q, R = cola.qr(K)
    assert isinstance(Q, ops.Kronecker) and isinstance(R, ops.Kronecker)
    assert all(isinstance(M, ops.Triangular) for M in R.Ms)
    P, L, W = cola.lu(cola.kron(A.T @ A, B.T @ B))
    assert isinstance(P, ops.Kronecker) and isinstance(L, ops.Kronecker) and isinstance(W, ops.Kronecker)
    T, Z = cola.schur(cola.kronsum(A.T @ A + 0j, random(rng, 4, 4) + 0j))
    assert isinstance(T, ops.KronSum) and isinstance(Z, ops.Kronecker)
    N = cola.nullspace(cola.block_diag(np.ones((1, 3)), np.eye(2)))
    assert isinstance(N, ops.Sliced) and isinstance(N.A, ops.BlockDiag) and N.shape == (5, 2)
    L, Q = cola.lq(cola.block_diag(A, B))
    assert isinstance(L, ops.BlockDiag) and isinstance(Q, ops.BlockDiag)
    low = ops.LowRank(random(rng, 500, 3), random(rng, 400, 3))
    U, S, V = cola.svd(low)
    assert U.shape == (500, 3) and S.shape == (3, 3) and V.shape == (400, 3)
    assert cola.svdvals(low).shape == (400,)


def test_some_singular_triples_of_structure_take_columns_only(rng):
    A = cola.kron(random(rng, 8, 6), random(rng, 7, 5))
    want = np.linalg.svd(dense(A), compute_uv=False)
    for which, part in (("LM", want[:4]), ("SM", want[-4:])):
        U, S, V = cola.svd(A, 4, which)
        np.testing.assert_allclose(S.diag, part)
        assert isinstance(U, ops.Sliced) and U.shape == (56, 4)
        np.testing.assert_allclose(dense(A @ V), dense(U @ S), atol=1e-12)


def test_the_number_of_triples_and_which_are_checked(rng):
    A = random(rng, 5, 3)
    for k in (0, 4, 1.5):
        with pytest.raises(ShapeError, match="between 1 and 3"):
            cola.svd(A, k)
    with pytest.raises(UnknownNameError, match="LM"):
        cola.svd(A, 2, "LA")


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_sizes_zero_and_one(library, shape):
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    be = get_backend(library)
    A = D(be.asarray(np.full(shape, 2.0)))
    m, n = shape
    k = min(m, n)
    U, S, V = cola.svd(A)
    assert (U.shape, S.shape, V.shape) == ((m, k), (k, k), (n, k))
    for first, second in (cola.qr(A), cola.lq(A)):
        assert first.shape == (m, k) and second.shape == (k, n)
    P, L, W = cola.lu(A)
    assert (P.shape, L.shape, W.shape) == ((m, m), (m, k), (k, n))
    assert cola.svdvals(A).shape == (k,)
    assert int(cola.rank(A)) == k
    assert cola.nullspace(A).shape == (n, n - k) and cola.orth(A).shape == (m, k)
    assert cola.lstsq(A, be.asarray(np.ones(m))).shape == (n,)
    assert cola.pinv(A).to_dense().shape == (n, m)
    for ord in ("fro", 2, 1, np.inf, "nuc"):
        assert float(cola.norm(A, ord)) == (2.0 if k else 0.0)
    if m == n:
        T, Z = cola.schur(A)
        assert T.shape == Z.shape == (n, n)
        assert float(cola.det(A)) == (2.0 if n else 1.0)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_batches(library, rng):
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    be = get_backend(library)
    for shape in ((2, 4, 3), (2, 3, 4)):
        x = rng.normal(size=shape)
        b = rng.normal(size=(2, shape[1], 2))
        for A in (
            D(be.asarray(x)),
            cola.kron(D(be.asarray(x)), D(be.asarray(np.array([[2.0, 1.0], [0.0, 1.0]])))),
        ):
            M = be.to_numpy(A.to_dense())
            U, S, V = cola.svd(A)
            close(be, (U @ S @ V.H).to_dense(), M, "float64", 10)
            close(be, S.diag, np.linalg.svd(M, compute_uv=False), "float64", 10)
            for F, G in (cola.qr(A), cola.lq(A)):
                close(be, (F @ G).to_dense(), M, "float64", 10)
            close(be, cola.pinv(A).to_dense(), np.linalg.pinv(M), "float64", 100)
            for ord in ("fro", 2, 1, np.inf, "nuc"):
                close(be, cola.norm(A, ord), np.linalg.norm(M, ord, axis=(-2, -1)), "float64", 10)
            assert be.to_numpy(cola.rank(A)).tolist() == [len(M[0].T) if shape[2] == 3 else len(M[0])] * 2
        A = D(be.asarray(x))
        close(be, cola.lstsq(A, be.asarray(b)), np.linalg.pinv(x) @ b, "float64", 100)
        P, L, W = cola.lu(A)
        close(be, (P @ L @ W).to_dense(), x, "float64", 10)
        with pytest.raises(ShapeError, match="batch"):
            cola.nullspace(A)
    s = rng.normal(size=(2, 3, 3))
    T, Z = cola.schur(be.asarray(s))
    close(be, (Z @ T @ Z.H).to_dense(), s, "float64", 10)


# -- ranks and least squares ---------------------------------------------------------------------------------
def test_the_rank_of_a_kronecker_product_is_decided_on_the_whole():
    A = np.diag([1.0, 1e-9])
    K = cola.kron(A, A)  # singular values 1, 1e-9, 1e-9, 1e-18: the last is rounding of the whole
    assert int(cola.rank(K)) == 3 == np.linalg.matrix_rank(dense(K))
    np.testing.assert_allclose(np.diag(cola.pinv(K).to_dense()), [1, 1e9, 1e9, 0])
    assert cola.nullspace(K).shape == (4, 1) and cola.orth(K).shape == (4, 3)
    B = cola.block_diag(np.array([[1.0]]), np.array([[1e-18]]))
    assert int(cola.rank(B)) == 1
    np.testing.assert_allclose(cola.pinv(B).to_dense(), np.diag([1.0, 0.0]))


def test_the_pseudoinverse_of_a_diagonal_keeps_zeros():
    assert cola.pinv(ops.Diagonal(np.array([0.0, 2.0]))).diag.tolist() == [0.0, 0.5]
    assert cola.pinv(ops.ScalarMul(0, 3)).c == 0
    assert cola.pinv(ops.Zero(2, 3)).shape == (3, 2)


@pytest.mark.parametrize("cplx", [False, True])
@pytest.mark.parametrize(("m", "n", "r"), [(8, 5, 5), (8, 5, 3), (5, 8, 5), (5, 8, 2), (6, 6, 4), (6, 6, 6)])
def test_least_squares_is_of_least_norm_at_any_rank(rng, m, n, r, cplx):
    A = random(rng, m, r, cplx=cplx) @ random(rng, r, n, cplx=cplx)
    b = random(rng, m, 2, cplx=cplx)
    want = np.linalg.lstsq(A, b, rcond=None)[0]
    for alg in (cola.Auto(), LSTSQ()):
        x, info = cola.lstsq(A, b, alg, return_info=True)
        np.testing.assert_allclose(x, want, atol=1e-10)
        assert info.rank == r and info.converged
        residual = np.linalg.norm(b - A @ x, axis=0) / np.linalg.norm(b, axis=0)
        assert info.residual == pytest.approx(residual.max(), abs=1e-12)
    P = cola.pinv(A)
    np.testing.assert_allclose(P @ b, want, atol=1e-10)
    np.testing.assert_allclose(dense(P.H), np.linalg.pinv(A).conj().T, atol=1e-10)
    np.testing.assert_allclose(dense(P.T), np.linalg.pinv(A).T, atol=1e-10)
    np.testing.assert_allclose(dense(P.conj()), np.linalg.pinv(A).conj(), atol=1e-10)


def test_the_cutoff_of_least_squares_can_be_given(rng):
    U, V = unitary(rng, 6), unitary(rng, 4)
    A = U[:, :4] * np.array([1.0, 0.5, 1e-3, 1e-4]) @ V.T
    b = rng.normal(size=6)
    for M in (D(A), cola.kron(A, np.eye(1))):
        x, info = cola.lstsq(M, b, rcond=1e-2, return_info=True)
        np.testing.assert_allclose(x, np.linalg.lstsq(A, b, rcond=1e-2)[0], atol=1e-12)
        assert info.rank == 2
        np.testing.assert_allclose(cola.pinv(M, rcond=1e-2) @ b, x, atol=1e-12)
    with pytest.raises(ValueError, match="negative"):
        cola.lstsq(A, b, rcond=-1)


def test_badly_scaled_least_squares(rng):
    A = rng.normal(size=(9, 4))
    b = rng.normal(size=9)
    want = np.linalg.lstsq(A, b, rcond=None)[0]
    for scale in (1e-150, 1e150):
        x, info = cola.lstsq(scale * A, b, return_info=True)
        np.testing.assert_allclose(x * scale, want, rtol=1e-10)
        assert info.rank == 4
    # a well-posed problem at condition 1e7: QR keeps what the normal equations lose
    U, V = unitary(rng, 9), unitary(rng, 4)
    A = U[:, :4] * np.logspace(0, -7, 4) @ V.T
    x = rng.normal(size=4)
    np.testing.assert_allclose(cola.lstsq(A, A @ x), x, atol=1e-7)


def test_least_squares_by_conjugate_gradients_tells_how_far_it_came(rng):
    A, b = rng.normal(size=(40, 12)), rng.normal(size=40)
    x, info = cola.lstsq(A, b, CG(), return_info=True)
    np.testing.assert_allclose(x, np.linalg.lstsq(A, b, rcond=None)[0], atol=1e-6)
    assert info.converged and info.residual == pytest.approx(np.linalg.norm(b - A @ x) / np.linalg.norm(b))
    wide = rng.normal(size=(6, 20))
    x = cola.lstsq(wide, b[:6], CG())  # least norm, too
    np.testing.assert_allclose(x, np.linalg.pinv(wide) @ b[:6], atol=1e-6)
    with pytest.warns(ConvergenceWarning):
        cola.lstsq(A, b, CG(max_iters=2))
    with pytest.raises(ValueError, match="rcond"):
        cola.lstsq(A, b, CG(), rcond=1e-3)


def test_large_sparse_least_squares_chooses_products(rng):
    M = sp.random(6000, 3000, 1e-3, random_state=1) + sp.eye(6000, 3000)
    A, x = ops.Sparse.from_scipy(M), rng.normal(size=3000)
    assert cola.explain(cola.lstsq, A, np.ones(6000)).nodes()[0].by in ("core:lstsq/lsmr", "core:lstsq/cg")
    np.testing.assert_allclose(cola.lstsq(A, M @ x), x, atol=1e-4)


def test_wrong_right_sides_are_refused(rng):
    with pytest.raises(ShapeError, match=r"must be \(5,\)"):
        cola.lstsq(rng.normal(size=(5, 3)), np.ones(3))
    bad = rng.normal(size=(5, 3))
    bad[1, 1] = np.nan
    for f in (cola.svd, cola.qr, cola.lq, cola.lu, cola.svdvals, cola.rank, cola.nullspace):
        with pytest.raises(NonFiniteError):
            f(bad)
    with pytest.raises(NonFiniteError):
        cola.lstsq(bad, np.ones(5))


# -- iterations ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cplx", [False, True])
@pytest.mark.parametrize(("m", "n"), [(60, 40), (40, 60), (50, 50)])
def test_lanczos_finds_the_largest_triples(rng, m, n, cplx):
    A = random(rng, m, n, cplx=cplx)
    want = np.linalg.svd(A, compute_uv=False)
    (U, S, V), info = cola.svd(cola.no_dispatch(D(A)), 3, alg=LanczosSVD(), return_info=True)
    assert info.converged and info.method == "LanczosSVD" and info.residual < 1e-9
    np.testing.assert_allclose(S.diag, want[:3], rtol=1e-10)
    np.testing.assert_allclose(A @ dense(V), dense(U) * S.diag, atol=1e-8)
    np.testing.assert_allclose(A.conj().T @ dense(U), dense(V) * S.diag, atol=1e-8)
    assert float(cola.norm(A, 2, LanczosSVD())) == pytest.approx(want[0])


@pytest.mark.parametrize(
    "s",
    [
        np.ones(40),
        np.r_[3.0, 3, 3, 2, 2, np.ones(35)],
        np.r_[5.0, 5, np.zeros(38)],
        np.zeros(40),
        10.0 ** -np.arange(40.0),
    ],
)
def test_lanczos_breakdowns_and_copies(rng, s):
    A = unitary(rng, 50)[:, :40] * s @ unitary(rng, 40).T
    (U, S, V), info = cola.svd(A, 4, alg=LanczosSVD(), return_info=True)
    assert info.converged
    np.testing.assert_allclose(S.diag, s[:4], rtol=1e-9, atol=1e-13)
    for X in (dense(U), dense(V)):
        np.testing.assert_allclose(X.T @ X, np.eye(4), atol=1e-12)


def test_lanczos_in_single_precision_and_small_units(backend, dtype, rng):
    A = random(rng, 50, 45, cplx="complex" in dtype).astype(dtype)
    want = np.linalg.svd(A, compute_uv=False)[:2]
    for scale in (1.0, 1e-9):
        (_, S, _), info = cola.svd(D(backend.asarray(scale * A)), 2, alg=LanczosSVD(), return_info=True)
        assert info.converged
        close(backend, S.diag / scale, want, dtype, scale=10 * want[0])


def test_lanczos_says_when_it_was_stopped(rng):
    with pytest.warns(ConvergenceWarning, match="LanczosSVD"):
        cola.svd(rng.normal(size=(200, 200)), 2, alg=LanczosSVD(max_iters=10))
    with pytest.raises(UnknownNameError, match="largest"):
        cola.svd(rng.normal(size=(200, 200)), 2, "SM", LanczosSVD())


def test_auto_takes_products_for_large_operators_and_triples():
    M = sp.random(4000, 3000, 1e-3, random_state=0)
    A = ops.Sparse.from_scipy(M)
    plan = cola.explain(cola.svd, A, 3)
    assert plan.nodes()[0].question == "svd" or plan.nodes()[0].by == "core:svds/lanczossvd"
    assert cola.explain(cola.norm, A, 2).nodes()[0].by == "core:norm/lanczossvd"


# -- norms, conditions, determinants -------------------------------------------------------------------------
def test_the_frobenius_norm_of_a_kronecker_sum_does_not_cancel(rng):
    A, B = rng.normal(size=(3, 3)), rng.normal(size=(4, 4))
    K = cola.kronsum(A, B)
    assert float(cola.norm(K)) == pytest.approx(np.linalg.norm(dense(K)))
    E = 1e-9 * A
    C = cola.kronsum(np.eye(3) + E, -np.eye(4))  # the identities cancel, E remains
    assert float(cola.norm(C)) == pytest.approx(np.linalg.norm(np.kron(E, np.eye(4))), rel=1e-6)


def test_norms_of_large_sparse_operators_read_the_entries(rng):
    rows, cols = rng.integers(0, 50_000, 20_000), rng.integers(0, 40_000, 20_000)
    M = sp.coo_array((rng.normal(size=20_000), (rows, cols)), (50_000, 40_000)).tocsr()
    A = ops.Sparse.from_scipy(M)
    assert float(cola.norm(A)) == pytest.approx(sp.linalg.norm(M))
    for ord in (1, np.inf):
        want = abs(M).sum(axis=0 if ord == 1 else 1).max()
        assert float(cola.norm(A, ord)) == pytest.approx(want)
        assert float(cola.norm(2 * A, ord)) == pytest.approx(2 * want)


def test_condition_numbers_of_singular_operators_are_infinite():
    A = np.array([[1.0, 2.0], [2.0, 4.0]])
    assert cola.cond(A) > 1e15
    assert cola.cond(A, 1) == np.inf
    assert cola.cond(ops.Diagonal(np.array([1.0, 0.0]))) == np.inf
    assert cola.cond(ops.Diagonal(np.array([1.0, 0.0])), 1) == np.inf
    with pytest.raises(UnknownNameError, match="fro"):
        cola.norm(A, 3)


def test_an_inverse_has_the_reciprocal_singular_values(rng):
    a = rng.normal(size=(4, 4))
    A = cola.inv(D(a))
    np.testing.assert_allclose(cola.svdvals(A), np.linalg.svd(np.linalg.inv(a), compute_uv=False))
    assert float(cola.cond(A)) == pytest.approx(np.linalg.cond(a))
    np.testing.assert_allclose(dense(cola.pinv(A)), a)
    with pytest.raises(SingularMatrixError):
        cola.svd(cola.inv(cola.no_dispatch(ops.Diagonal(np.array([1.0, 0.0])))))


def test_determinants_out_of_range_are_announced():
    big, small = ops.Diagonal(np.full(400, 10.0)), ops.Diagonal(np.full(400, 0.1))
    for A, want in ((big, np.inf), (small, 0.0)):
        with pytest.warns(UnreliableResultWarning, match="slogdet"):
            assert cola.det(A) == want
    with pytest.warns(UnreliableResultWarning, match="slogdet"):
        assert not np.isnan(cola.det(ops.Diagonal(np.full(401, 10j))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cola.det(ops.Diagonal(np.array([0.0, 1.0]))) == 0
        assert cola.det(np.array([[0.0, 1.0], [1.0, 0.0]])) == pytest.approx(-1)


def test_unitary_operators_have_trivial_factors(rng):
    Q = cola.Unitary(D(unitary(rng, 5)))
    U, S, V = cola.svd(Q)
    assert U is Q and isinstance(V, ops.Identity) and (S.diag == 1).all()
    assert cola.cond(Q) == 1 and cola.norm(Q, 2) == 1 and int(cola.rank(Q)) == 5
    assert cola.nullspace(Q).shape == (5, 0)
    thin = cola.Stiefel(D(unitary(rng, 5)[:, :2]))
    Q2, R = cola.qr(thin)
    assert Q2 is thin and isinstance(R, ops.Identity)
    A = Q @ D(rng.normal(size=(5, 3)))
    plan = cola.explain(cola.norm, A)
    assert plan.nodes()[0].by == "core:norm/orthonormal-factor"


def test_signs_of_the_dense_factors_can_be_left_to_the_library(rng):
    A = rng.normal(size=(5, 3))
    _, R = cola.qr(A, QR(positive=False))
    np.testing.assert_allclose(np.abs(dense(R)), np.abs(np.linalg.qr(A)[1]))
    assert (np.diagonal(dense(cola.qr(A)[1])) > 0).all()


def test_the_cholesky_factor_of_a_gram_matrix_keeps_the_digits_of_its_root(rng):
    B = D(unitary(rng, 8)[:, :3] * np.array([1.0, 1e-5, 1e-9]))
    L = cola.cholesky(B.H @ B)  # formed, the last pivot would be rounding
    np.testing.assert_allclose(np.diagonal(dense(L)), [1, 1e-5, 1e-9], rtol=1e-6)
    with pytest.raises(NotPositiveDefiniteError, match="dependent"):
        C = D(np.ones((4, 2)))
        cola.cholesky(C.H @ C)


# -- transformations -----------------------------------------------------------------------------------------
@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
def test_jax_compiles_and_differentiates(rng):
    import jax
    import jax.numpy as jnp

    a, b, y = (jnp.asarray(rng.normal(size=s)) for s in ((3, 2), (2, 2), (6,)))

    def f(a, b, y):
        A = cola.kron(a, b)
        Q, R = cola.qr(A)
        x = cola.lstsq(cola.no_dispatch(A), y)
        return x @ x + cola.norm(A) + cola.svdvals(A)[0] + (R @ x)[0] + cola.cond(A)

    value = f(a, b, y)
    np.testing.assert_allclose(jax.jit(f)(a, b, y), value)
    g = jax.grad(f)(a, b, y)
    e = jnp.asarray(rng.normal(size=(3, 2)))
    h = 1e-6
    want = (f(a + h * e, b, y) - f(a - h * e, b, y)) / (2 * h)
    np.testing.assert_allclose(jnp.sum(g * e), want, rtol=1e-5)
    with pytest.raises(NoRuleError, match="traced"):
        jax.jit(lambda a: cola.nullspace(a).to_dense())(a)


@pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
def test_torch_differentiates(rng):
    import torch

    a = torch.tensor(rng.normal(size=(5, 3)), requires_grad=True)
    y = torch.tensor(rng.normal(size=5), requires_grad=True)

    def f(a, y):
        L, Q = cola.lq(a.mT)
        return (cola.lstsq(a, y), cola.norm(a, 2), cola.pinv(a) @ y, L.to_dense(), cola.cond(a))

    assert torch.autograd.gradcheck(f, (a, y))
    with pytest.raises(NotImplementedError, match="Schur"):
        cola.schur(a[:3])
    T, Z = cola.schur(a.detach()[:3])
    assert torch.allclose(Z.to_dense() @ T.to_dense() @ Z.to_dense().mT, a[:3].detach())


def test_single_precision_stays_single(rng):
    A = D(rng.normal(size=(5, 3)).astype(np.float32))
    U, S, V = cola.svd(A)
    assert {U.dtype, S.dtype, V.dtype} == {np.dtype(np.float32)}
    assert cola.lstsq(A, np.ones(5, np.float32)).dtype == np.float32
    assert cola.norm(A).dtype == np.float32 and cola.cond(A).dtype == np.float32
