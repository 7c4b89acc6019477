"""The LAPACK family's forward values and refusals, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from cola_core.errors import (
    BackendError,
    DTypeError,
    NonFiniteError,
    NonSquareError,
    NotPositiveDefiniteError,
    ShapeError,
    SingularMatrixError,
)
from cola_gpu.lapack import gelqf, potrf, sumlogdiag, syevd, syrk, trsm

DTYPES = ["float32", "float64"]
EPS = {"float32": 1e-5, "float64": 1e-13}


def back(bk, *arrays):
    return [bk.to_numpy(a) for a in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(4, 7), (5, 5), (1, 6), (1, 1), (3, 4, 7), (2, 3, 3, 5), (0, 4), (2, 0, 4), (0, 3, 5)]
)
def test_gelqf_factors(backend, rng, shape, dtype):
    A = rng.standard_normal(shape).astype(dtype)
    Q, L = gelqf(backend.asarray(A))
    assert Q.dtype == L.dtype == backend.dtype(dtype)
    Q, L = back(backend, Q, L)
    m = shape[-2]
    assert Q.shape == shape and L.shape == (*shape[:-2], m, m)
    np.testing.assert_allclose(L @ Q, A, atol=10 * EPS[dtype])
    np.testing.assert_allclose(
        Q @ np.swapaxes(Q, -1, -2), np.broadcast_to(np.eye(m), L.shape), atol=EPS[dtype]
    )
    assert (np.triu(L, 1) == 0).all(), "the upper triangle must be exactly zero"
    assert (np.diagonal(L, axis1=-2, axis2=-1) > 0).all(), "the sign convention: a positive diagonal"


def test_gelqf_is_the_same_on_every_backend(backend, rng):
    A = rng.standard_normal((3, 5, 9))
    Q, L = back(backend, *gelqf(backend.asarray(A)))
    Q0, L0 = gelqf(A)
    np.testing.assert_allclose(Q, Q0, atol=1e-13)
    np.testing.assert_allclose(L, L0, atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m,n", [(3, 3), (30, 400)])
def test_gelqf_refuses_rank_deficiency(backend, rng, m, n, dtype):
    A = rng.standard_normal((2, m, n))
    A[1, m - 1] = A[1, : m - 1].T @ rng.standard_normal(m - 1)
    with pytest.raises(SingularMatrixError, match=f"row {m - 1}"):
        gelqf(backend.asarray(A.astype(dtype)))
    with pytest.raises(SingularMatrixError):
        gelqf(backend.asarray(np.zeros((m, n), dtype)))


def test_gelqf_accepts_badly_scaled_and_ill_conditioned_rows(backend, rng):
    A = rng.standard_normal((6, 9))
    A[2] *= 1e-20
    A[5] = A[0] + 1e-11 * A[5]  # condition about 1e11: still full rank in float64
    Q, L = back(backend, *gelqf(backend.asarray(A)))
    np.testing.assert_allclose((L @ Q)[2], A[2], rtol=1e-10, atol=1e-33)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("n,batch", [(1, ()), (5, ()), (5, (3,)), (4, (2, 3)), (0, ()), (0, (2,))])
def test_potrf(backend, rng, n, batch, lower, dtype, spd):
    A = spd(rng, n, batch, dtype) if n else np.zeros((*batch, 0, 0), dtype)
    noise = np.tril(rng.standard_normal(A.shape), -1).astype(dtype)
    noisy = A + (np.swapaxes(noise, -1, -2) if lower else noise)  # the other triangle must not be read
    L = backend.to_numpy(potrf(backend.asarray(noisy), lower=lower))
    assert L.dtype == A.dtype
    assert ((np.triu(L, 1) if lower else np.tril(L, -1)) == 0).all()
    Lt = np.swapaxes(L, -1, -2)
    np.testing.assert_allclose(L @ Lt if lower else Lt @ L, A, atol=20 * EPS[dtype])


def test_potrf_refuses_indefinite(backend, rng, spd):
    A = spd(rng, 4, (3,))
    A[1, 2, 2] = -1.0
    with pytest.raises(NotPositiveDefiniteError, match="positive definite"):
        potrf(backend.asarray(A))
    L = backend.to_numpy(potrf(backend.asarray(A), check=False))
    assert np.isnan(np.tril(L[1])).any() and np.isfinite(L[[0, 2]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("rightside", [False, True])
@pytest.mark.parametrize("lower", [True, False])
def test_trsm(backend, rng, lower, rightside, transpose, dtype):
    A = (rng.standard_normal((3, 4, 4)) + 4 * np.eye(4)).astype(dtype)  # the other triangle is full of noise
    B = rng.standard_normal((2, 1, 2, 4) if rightside else (2, 1, 4, 2)).astype(dtype)
    options = {"transpose": transpose, "rightside": rightside, "lower": lower, "alpha": 0.5}
    X = backend.to_numpy(trsm(backend.asarray(A), backend.asarray(B), **options))
    T = np.tril(A) if lower else np.triu(A)
    T = np.swapaxes(T, -1, -2) if transpose else T
    np.testing.assert_allclose(
        X @ T if rightside else T @ X, np.broadcast_to(0.5 * B, X.shape), atol=10 * EPS[dtype]
    )


def test_trsm_refuses_singular_and_misfits(backend, rng):
    A = np.tril(rng.standard_normal((3, 3)))
    A[1, 1] = 0
    with pytest.raises(SingularMatrixError):
        trsm(backend.asarray(A), backend.asarray(np.ones((3, 2))))
    with pytest.raises(ShapeError, match="columns of B"):
        trsm(backend.asarray(A), backend.asarray(np.ones((3, 2))), rightside=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n,batch", [(1, ()), (6, ()), (5, (3,)), (0, ()), (0, (2,)), (4, (0,))])
def test_syevd(backend, rng, n, batch, dtype):
    S = rng.standard_normal((*batch, n, n)).astype(dtype)
    A = S + np.swapaxes(S, -1, -2)
    noisy = A + np.triu(rng.standard_normal(A.shape), 1).astype(dtype)  # only the lower triangle is read
    U, lam = back(backend, *syevd(backend.asarray(noisy)))
    assert U.shape == A.shape and lam.shape == A.shape[:-1] and U.dtype == lam.dtype == A.dtype
    np.testing.assert_allclose(U @ A, lam[..., None] * U, atol=30 * EPS[dtype])
    np.testing.assert_allclose(
        U @ np.swapaxes(U, -1, -2), np.broadcast_to(np.eye(n), A.shape), atol=EPS[dtype]
    )
    if n:
        assert (np.diff(lam) >= 0).all()
        assert (U.max(-1) == abs(U).max(-1)).all(), "the largest entry of each eigenvector is positive"


@pytest.mark.parametrize("transpose", [False, True])
def test_syrk_and_sumlogdiag(backend, rng, transpose, spd):
    A = rng.standard_normal((2, 3, 5))
    C = backend.to_numpy(syrk(backend.asarray(A), transpose=transpose, alpha=2.0))
    At = np.swapaxes(A, -1, -2)
    np.testing.assert_allclose(C, 2 * (At @ A if transpose else A @ At), atol=1e-13)
    K = spd(rng, 4, (2,))
    half_logdet = backend.to_numpy(sumlogdiag(potrf(backend.asarray(K))))
    np.testing.assert_allclose(2 * half_logdet, np.linalg.slogdet(K)[1], atol=1e-12)


def test_refusals(backend):
    ones = backend.asarray(np.ones((3, 2)))
    with pytest.raises(ShapeError, match="transpose"):
        gelqf(ones)
    with pytest.raises(NonSquareError):
        potrf(ones)
    with pytest.raises(NonSquareError):
        syevd(ones)
    with pytest.raises(ShapeError, match=r"\(\*batch, m, n\)"):
        syevd(backend.asarray(np.ones(3)))
    with pytest.raises(DTypeError, match="int64"):
        gelqf(backend.asarray(np.ones((2, 3), np.int64)))
    with pytest.raises(DTypeError, match="complex64"):
        potrf(backend.asarray(np.eye(2, dtype=np.complex64)))
    with pytest.raises(DTypeError, match="differ"):
        trsm(backend.asarray(np.eye(2)), backend.asarray(np.eye(2, dtype=np.float32)))
    bad = np.eye(3)
    bad[2, 0] = np.nan
    for routine in (gelqf, potrf, syevd):
        with pytest.raises(NonFiniteError, match=routine.__name__):
            routine(backend.asarray(bad))
    with pytest.raises(NotPositiveDefiniteError):
        sumlogdiag(backend.asarray(-np.eye(2)))
    with pytest.raises(BackendError, match="cola_core.linalg"):
        potrf([[1.0]])
