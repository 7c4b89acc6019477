"""The explicit adjoints against finite differences, and against each other on every backend."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from cola_core.errors import BackendError, ShapeError, UnreliableResultWarning
from cola_gpu import lapack


def central(f, x, direction, h=1e-6):
    return (f(x + h * direction) - f(x - h * direction)) / (2 * h)


def inner(a, b):
    return float((a * b).sum())


@pytest.mark.parametrize("shape", [(4, 7), (5, 5), (1, 6), (1, 1), (3, 4, 6)])
def test_gelqf_backward(rng, shape):
    A, dA = rng.standard_normal(shape), rng.standard_normal(shape)
    Q, L = lapack.gelqf(A)
    Qbar, Lbar = rng.standard_normal(Q.shape), rng.standard_normal(L.shape)

    def loss(A):
        Q, L = lapack.gelqf(A)
        return inner(Q, Qbar) + inner(L, Lbar)

    Abar = lapack.gelqf_backward(Q, L, Qbar, Lbar)
    assert inner(Abar, dA) == pytest.approx(central(loss, A, dA), rel=1e-7)


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("n,batch", [(5, ()), (1, ()), (4, (3,))])
def test_potrf_backward(rng, n, batch, lower, spd):
    A = spd(rng, n, batch)
    dA = rng.standard_normal(A.shape)
    dA = dA + np.swapaxes(dA, -1, -2)
    L = lapack.potrf(A, lower=lower)
    Lbar = rng.standard_normal(A.shape)
    Abar = lapack.potrf_backward(L, Lbar, lower=lower)
    np.testing.assert_array_equal(Abar, np.swapaxes(Abar, -1, -2))
    slope = central(lambda A: inner(lapack.potrf(A, lower=lower), Lbar), A, dA)
    assert inner(Abar, dA) == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("rightside", [False, True])
@pytest.mark.parametrize("lower", [True, False])
def test_trsm_backward(rng, lower, rightside, transpose):
    options = {"transpose": transpose, "rightside": rightside, "lower": lower, "alpha": 0.7}
    A, dA = rng.standard_normal((4, 4)) + 4 * np.eye(4), rng.standard_normal((4, 4))
    B, dB = rng.standard_normal((2, 3, 4, 4)), rng.standard_normal((2, 3, 4, 4))
    X = lapack.trsm(A, B, **options)
    Xbar = rng.standard_normal(X.shape)
    Abar, Bbar = lapack.trsm_backward(A, X, Xbar, **options)
    assert Abar.shape == A.shape and Bbar.shape == B.shape
    assert ((np.triu(Abar, 1) if lower else np.tril(Abar, -1)) == 0).all()
    slope = central(lambda t: inner(lapack.trsm(A + t * dA, B + t * dB, **options), Xbar), 0.0, 1.0)
    assert inner(Abar, dA) + inner(Bbar, dB) == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize("n,batch", [(5, ()), (1, ()), (4, (3,))])
def test_syevd_backward(rng, n, batch):
    A, dA = rng.standard_normal((2, *batch, n, n))
    A, dA = A + np.swapaxes(A, -1, -2), dA + np.swapaxes(dA, -1, -2)
    U, lam = lapack.syevd(A)
    Ubar, lambar = rng.standard_normal(U.shape), rng.standard_normal(lam.shape)

    def loss(A):
        U, lam = lapack.syevd(A)
        return inner(U, Ubar) + inner(lam, lambar)

    Abar = lapack.syevd_backward(U, lam, Ubar, lambar)
    np.testing.assert_array_equal(Abar, np.swapaxes(Abar, -1, -2))
    assert inner(Abar, dA) == pytest.approx(central(loss, A, dA), rel=1e-6)


def test_syrk_and_sumlogdiag_backward(rng, spd):
    A, dA = rng.standard_normal((2, 3, 4, 4)) + 3 * np.eye(4)
    for transpose in (False, True):
        Cbar = rng.standard_normal((3, 4, 4))
        Abar = lapack.syrk_backward(A, Cbar, transpose=transpose, alpha=1.5)
        slope = central(
            lambda A, t=transpose, C=Cbar: inner(lapack.syrk(A, transpose=t, alpha=1.5), C), A, dA
        )
        assert inner(Abar, dA) == pytest.approx(slope, rel=1e-7)
    K = spd(rng, 4, (3,))
    g = rng.standard_normal(3)
    slope = central(lambda K: inner(lapack.sumlogdiag(K), g), K, dA)
    assert inner(lapack.sumlogdiag_backward(K, g), dA) == pytest.approx(slope, rel=1e-6)


def test_adjoints_agree_on_every_backend(backend, rng, spd):
    A = rng.standard_normal((2, 4, 6))
    K = spd(rng, 5, (2,))
    Q, L = lapack.gelqf(A)
    C = lapack.potrf(K)
    U, lam = lapack.syevd(K)
    X = lapack.trsm(C, K)
    G = rng.standard_normal
    Qbar, Lbar, Kbar, lambar = G(Q.shape), G(L.shape), G(K.shape), G(lam.shape)
    calls = [
        (lapack.gelqf_backward, (Q, L, Qbar, Lbar)),
        (lapack.potrf_backward, (C, Kbar)),
        (lapack.syevd_backward, (U, lam, Kbar, lambar)),
        (lapack.trsm_backward, (C, X, Kbar)),
        (lapack.syrk_backward, (A, G((2, 4, 4)))),
        (lapack.sumlogdiag_backward, (C, G(2))),
    ]
    for function, arguments in calls:
        here = function(*arguments)
        there = function(*(backend.asarray(x) for x in arguments))
        pairs = zip(here, there, strict=True) if isinstance(here, tuple) else [(here, there)]
        for a, b in pairs:
            np.testing.assert_allclose(backend.to_numpy(b), a, atol=1e-12, err_msg=function.__name__)


@pytest.mark.parametrize("shape", [(1, 4), (3, 3), (20, 50)])
def test_float32_adjoint_has_float32_accuracy(backend, rng, shape):
    A = rng.standard_normal(shape)
    Q, L = lapack.gelqf(A)
    Qbar, Lbar = rng.standard_normal(Q.shape), rng.standard_normal(L.shape)
    exact = lapack.gelqf_backward(Q, L, Qbar, Lbar)
    single = [backend.asarray(x.astype(np.float32)) for x in (Qbar, Lbar)]
    got = lapack.gelqf_backward(*lapack.gelqf(backend.asarray(A.astype(np.float32))), *single)
    assert got.dtype == backend.dtype("float32")
    np.testing.assert_allclose(backend.to_numpy(got), exact, atol=2e-4 * abs(exact).max())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_adjoints_of_badly_scaled_matrices(backend, seed, spd):
    # gradients of log det(D K D), sum(X) of X = L^-1 B, entry by entry: they span 24 orders of magnitude
    rng = np.random.default_rng(seed)
    K, scale = spd(rng, 6), np.logspace(-6, 6, 6)
    inverse = np.linalg.inv(K) / scale / scale[:, None]
    L = lapack.potrf(backend.asarray(K * scale * scale[:, None]))
    bar = lapack.sumlogdiag_backward(L, backend.asarray(np.array(1.0)))
    np.testing.assert_allclose(backend.to_numpy(lapack.potrf_backward(L, bar)), inverse / 2, rtol=1e-10)
    np.testing.assert_allclose(backend.to_numpy(lapack.potri(L)), inverse, rtol=1e-10)
    log = lapack.slogdet(backend.asarray(K * scale * scale[:, None])).logabsdet
    assert float(log) == pytest.approx(np.linalg.slogdet(K)[1], rel=1e-10)


@pytest.mark.parametrize("seed", [0, 1])
def test_adjoint_of_an_ill_conditioned_lq(backend, seed):
    # <Q, W> + <L, V> in the direction of scaling the rows, along which dL = D L and dQ = 0 exactly
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((5, 8))
    A[4] = A[0] + 1e-7 * A[4]
    d = rng.standard_normal(5)
    Q, L = lapack.gelqf(backend.asarray(A))
    W, V = rng.standard_normal((5, 8)), np.tril(rng.standard_normal((5, 5)))
    Abar = lapack.gelqf_backward(Q, L, backend.asarray(W), backend.asarray(V))
    along = inner(backend.to_numpy(Abar), d[:, None] * A)
    assert along == pytest.approx(inner(V, d[:, None] * backend.to_numpy(L)), rel=1e-6)


# --- tied eigenvalues ----------------------------------------
# The loss <C, P> with P the projector onto the two lowest eigenvectors does not see the basis inside that
# plane, so its derivative exists however close the two eigenvalues are. It follows from the spectrum alone.


def projector_case(rng, with_spectrum, gap, rotate=True):
    eigenvalues = np.array([1.0, 1.0 + gap, 2.5, 3.1, 4.7, 6.0])
    A = with_spectrum(rng, eigenvalues) if rotate else np.diag(eigenvalues)
    C, dA = rng.standard_normal((2, 6, 6))
    C, dA = C + C.T, dA + dA.T
    w, V = np.linalg.eigh(A)
    low, high = V[:, :2], V[:, 2:]
    # dP = sum over (low i, high j) of v_j v_j^T dA v_i v_i^T / (w_i - w_j), plus its transpose; the shared
    # low value may be used for both when they are tied
    quotient = 1.0 / (w[:2][None, :] - w[2:][:, None])
    dP = high @ (quotient * (high.T @ dA @ low)) @ low.T
    return A, C, dA, inner(C, dP + dP.T)


@pytest.mark.parametrize(
    "gap,rotate", [(1e-2, True), (1e-6, True), (1e-10, True), (1e-14, True), (0.0, True), (0.0, False)]
)
def test_projector_loss_is_exact_through_ties(backend, rng, with_spectrum, gap, rotate):
    A, C, dA, expected = projector_case(rng, with_spectrum, gap, rotate)
    U, lam = lapack.syevd(backend.asarray(A))
    Ubar = np.zeros((6, 6))
    Ubar[:2] = 2 * backend.to_numpy(U)[:2] @ C  # d <C, sum_i u_i u_i^T> / dU
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no complaint: this derivative exists
        Abar = lapack.syevd_backward(U, lam, backend.asarray(Ubar), backend.asarray(np.zeros(6)))
    assert inner(backend.to_numpy(Abar), dA) == pytest.approx(
        expected, rel=1e-9 if gap not in (1e-6, 1e-10) else 1e-4
    )

    def loss(A):
        V = np.linalg.eigh(A)[1][:, :2]
        return inner(C, V @ V.T)

    assert expected == pytest.approx(central(loss, A, dA, 1e-5), rel=1e-6)


def test_the_unmasked_formula_would_be_wrong(rng, with_spectrum):
    A, C, dA, expected = projector_case(rng, with_spectrum, 0.0)
    U, lam = lapack.syevd(A)
    Ubar = np.zeros((6, 6))
    Ubar[:2] = 2 * U[:2] @ C
    assert 0 < lam[1] - lam[0] < 1e-14, "the tie is split by rounding"
    Abar = lapack.syevd_backward(U, lam, Ubar, np.zeros(6), gap_tol=0.0)
    assert abs(inner(Abar, dA) - expected) > 1e-3 * abs(expected)


def test_a_basis_dependent_loss_at_a_tie_is_reported(backend, rng):
    U, lam = lapack.syevd(backend.asarray(np.diag([1.0, 1.0, 3.0])))
    Ubar = backend.asarray(rng.standard_normal((3, 3)))
    assert float(lapack.syevd_skipped(U, lam, Ubar)) > 0.1
    with pytest.warns(UnreliableResultWarning, match="arbitrary basis"):
        lapack.syevd_backward(U, lam, Ubar, lam)


@pytest.mark.parametrize("shape", [(3, 5), (60, 70)])
def test_a_cotangent_may_be_a_factor_that_is_overwritten(backend, rng, shape):
    m, n = shape
    Q, L = lapack.gelqf(rng.standard_normal(shape))
    Q, L, Lbar = np.ascontiguousarray(Q), np.ascontiguousarray(L), rng.standard_normal((m, m))
    want = lapack.gelqf_backward(Q, L, Q.copy(), Lbar)
    q = backend.asarray(Q.copy())
    if backend.name == "jax":
        with pytest.raises(BackendError, match="donate_argnums"):
            lapack.gelqf_backward(q, backend.asarray(L), q, backend.asarray(Lbar), overwrite=True)
        return
    found = lapack.gelqf_backward(q, backend.asarray(L), q, backend.asarray(Lbar), overwrite=True)
    assert found is q
    np.testing.assert_allclose(backend.to_numpy(found), want, atol=1e-12 * np.abs(want).max())
    L = backend.asarray(np.tril(rng.standard_normal((m, m))) + 10 * np.eye(m))
    eye, copy = backend.asarray(np.eye(m)), backend.asarray(backend.to_numpy(L).copy())
    want = backend.to_numpy(lapack.gelqf_backward(eye, copy, copy, copy))
    found = backend.to_numpy(lapack.gelqf_backward(eye, L, L, copy, overwrite=True))
    np.testing.assert_allclose(found, want, atol=1e-12 * np.abs(want).max())


def test_what_stands_in_the_ignored_triangle_of_a_cotangent_does_not_matter(backend, rng):
    """The logarithm of a factor, say, has an infinite cotangent where the factor is zero."""
    S = rng.standard_normal((4, 4))
    Q, L = (backend.asarray(np.ascontiguousarray(x)) for x in lapack.gelqf(S))
    Lbar = rng.standard_normal((4, 4))
    wild = backend.asarray(np.where(np.triu(np.ones((4, 4)), 1) > 0, np.inf, Lbar))
    tame = backend.asarray(np.tril(Lbar))
    for f in (lambda X: lapack.gelqf_backward(Q, L, Q, X), lambda X: lapack.potrf_backward(L, X)):
        np.testing.assert_allclose(backend.to_numpy(f(wild)), backend.to_numpy(f(tame)), rtol=1e-12)
    if backend.name == "torch":
        import torch

        A = (Q @ Q.mT + torch.eye(4)).requires_grad_()
        for f in (lapack.potrf, lambda A: lapack.gelqf(A)[1]):
            found, want = (torch.autograd.grad(f(A), A, X)[0] for X in (wild, tame))
            torch.testing.assert_close(found, want)
    if backend.name == "jax":
        import jax

        A = Q @ Q.mT + np.eye(4)
        for f in (lapack.potrf, lambda A: lapack.gelqf(A)[1]):
            pull = jax.vjp(f, A)[1]
            np.testing.assert_allclose(pull(wild)[0], pull(tame)[0], rtol=1e-12)


def test_a_function_of_tied_eigenvalues_and_their_vectors_is_warned_of(rng):
    """`sum(C * exp(A))` by hand at the identity: the cotangents do not tell its derivative."""
    C = np.diag([1.0, 2.0, 3.0]) + rng.uniform(size=(1, 1))
    U, lam = lapack.syevd(np.eye(3))
    Ubar, lambar = 2 * np.e * U @ C, np.e * np.diagonal(U @ C @ U.T)
    with pytest.warns(UnreliableResultWarning, match="weighs tied"):
        lapack.syevd_backward(U, lam, Ubar, lambar)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lapack.syevd_backward(U, lam, 0 * Ubar, np.ones(3))


def test_cotangents_of_other_shapes_are_errors(rng):
    """Some were answers of another shape: BLAS broadcasts, and LAPACK only prints."""
    one = rng.standard_normal
    wrong = [
        lambda: lapack.trsm_backward(np.eye(3), one((2, 2)), one((2, 2))),
        lambda: lapack.trmm_backward(np.eye(3), one((3, 2)), one((3, 1))),
        lambda: lapack.gelqf_backward(one((2, 3)), np.eye(2), one((2, 3)), one((1, 1))),
        lambda: lapack.potrf_backward(np.eye(3), one((1, 1))),
        lambda: lapack.potri_backward(np.eye(3), np.eye(3), one((1, 1))),
        lambda: lapack.inverse_backward(np.eye(3), one((3, 1))),
        lambda: lapack.syrk_backward(one((2, 3)), one((1, 1))),
        lambda: lapack.syevd_backward(np.eye(3), np.arange(3.0), np.eye(3), np.ones(1)),
        lambda: lapack.gemm2_backward(one((2, 3)), one((3, 4)), one((1, 4))),
        lambda: lapack.trsm(one((2, 3, 3)), one((3, 3, 1))),
        lambda: lapack.trmm(one((2, 3, 3)), one((3, 3, 1))),
        lambda: lapack.gemm2(one((2, 3, 3)), one((3, 3, 1))),
    ]
    for f in wrong:
        with pytest.raises(ShapeError, match=r"shape|batches"):
            f()
