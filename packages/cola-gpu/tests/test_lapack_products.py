"""`gemm, gemm2, trmm, potri` and the vectors of diagonals and triangles: values, adjoints, every mode of
derivative."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cola_core.errors import (
    BackendError,
    DTypeError,
    NonSquareError,
    ShapeError,
    SingularMatrixError,
)
from cola_gpu import lapack

EPS = {"float32": 2e-5, "float64": 1e-12}
OFFSETS = [(0, True), (0, False), (1, True), (-1, False), (2, False), (-2, True)]


def t(X):
    return np.swapaxes(X, -1, -2)


def central(f, h=1e-6):
    return (f(h) - f(-h)) / (2 * h)


def inner(a, b):
    return float((np.asarray(a) * np.asarray(b)).sum())


# --- values ----------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ta,tb", [*itertools.product([False, True], repeat=2)])
def test_gemm(backend, rng, ta, tb, dtype):
    A, B, C = (rng.standard_normal(s).astype(dtype) for s in [(2, 3, 5), (5, 4), (2, 3, 4)])
    a, b = backend.asarray(t(A) if ta else A), backend.asarray(t(B) if tb else B)
    D = lapack.gemm(a, b, backend.asarray(C), transpose_a=ta, transpose_b=tb, alpha=0.5, beta=-2.0)
    assert D.dtype == backend.dtype(dtype)
    np.testing.assert_allclose(backend.to_numpy(D), 0.5 * A @ B - 2 * C, atol=EPS[dtype])
    D = lapack.gemm2(a, b, transpose_a=ta, transpose_b=tb)
    np.testing.assert_allclose(backend.to_numpy(D), A @ B, atol=EPS[dtype])


def test_gemm_with_rows_on_another_axis(backend, rng):
    A, B, C = rng.standard_normal((3, 2, 5)), rng.standard_normal((5, 2, 4)), rng.standard_normal((3, 2, 4))
    D = lapack.gemm(*map(backend.asarray, (A, B, C)), axis=0)
    np.testing.assert_allclose(backend.to_numpy(D), np.einsum("ibk,kbj->ibj", A, B) + C, atol=1e-13)
    D = lapack.gemm2(
        backend.asarray(t(A.swapaxes(0, 1)).swapaxes(0, 1)), backend.asarray(B), transpose_a=True, axis=-3
    )
    np.testing.assert_allclose(backend.to_numpy(D), np.einsum("ibk,kbj->ibj", A, B), atol=1e-13)


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("transpose,rightside,lower", [*itertools.product([False, True], repeat=3)])
def test_trmm_is_the_inverse_of_trsm(backend, rng, n, transpose, rightside, lower):
    A = rng.standard_normal((3, n, n)) + 4 * np.eye(n)  # the other triangle is full of noise
    B = rng.standard_normal((2, 1, 2, n) if rightside else (2, 1, n, 2))
    T = np.tril(A) if lower else np.triu(A)
    T = t(T) if transpose else T
    options = {"transpose": transpose, "rightside": rightside, "lower": lower}
    Y = lapack.trmm(backend.asarray(A), backend.asarray(B), alpha=0.5, **options)
    np.testing.assert_allclose(backend.to_numpy(Y), 0.5 * (B @ T if rightside else T @ B), atol=1e-13)
    X = lapack.trsm(backend.asarray(A), Y, alpha=2.0, **options)
    np.testing.assert_allclose(backend.to_numpy(X), np.broadcast_to(B, X.shape), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n,batch", [(0, ()), (1, (2,)), (5, ()), (4, (2, 3))])
def test_potri(backend, rng, n, batch, dtype, spd):
    K = spd(rng, n, batch, dtype) if n else np.zeros((*batch, 0, 0), dtype)
    L = np.linalg.cholesky(K) if n else K
    noise = np.triu(rng.standard_normal(K.shape), 1).astype(dtype)  # not to be read
    for lower in (True, False):
        X = lapack.potri(backend.asarray(L + noise if lower else t(L + noise)), lower=lower)
        assert X.dtype == backend.dtype(dtype)
        X = backend.to_numpy(X)
        np.testing.assert_array_equal(X, t(X))
        np.testing.assert_allclose(X, np.linalg.inv(K), atol=20 * EPS[dtype])


@pytest.mark.parametrize("offset,lower", OFFSETS)
@pytest.mark.parametrize("n,batch", [(2, ()), (3, (2,)), (5, (2, 1))])
def test_diagonals_and_triangles(backend, rng, n, batch, offset, lower):
    A = rng.standard_normal((*batch, n, n))
    a = backend.asarray(A)
    d = backend.to_numpy(lapack.extractdiag(a, offset=offset))
    np.testing.assert_array_equal(d, np.diagonal(A, offset, -2, -1))
    D = backend.to_numpy(lapack.makediag(backend.asarray(d), offset=offset))
    i, j = np.indices((n, n))
    np.testing.assert_array_equal(D, np.where(j - i == offset, A, 0))
    inside = (j - i <= offset) if offset < 0 or (offset == 0 and lower) else (j - i >= offset)
    v = backend.to_numpy(lapack.extracttrian(a, offset=offset, lower=lower))
    np.testing.assert_array_equal(v, A[..., inside])
    T = backend.to_numpy(lapack.maketrian(backend.asarray(v), offset=offset, lower=lower))
    np.testing.assert_array_equal(T, np.where(inside, A, 0))


def test_the_triangles_of_the_source(backend):
    A = backend.asarray(np.array([[1.0, 2.0], [3.0, 4.0]]))
    cases = [((0, True), [1, 3, 4]), ((0, False), [1, 2, 4]), ((1, True), [2]), ((-1, True), [3])]
    for (offset, lower), expected in cases:
        found = backend.to_numpy(lapack.extracttrian(A, offset=offset, lower=lower))
        np.testing.assert_array_equal(found, expected)


def test_empty_vectors_and_matrices(backend):
    empty = backend.asarray(np.zeros((2, 0)))
    assert tuple(lapack.makediag(empty, offset=-2).shape) == (2, 2, 2)
    assert tuple(lapack.maketrian(empty).shape) == (2, 0, 0)
    assert tuple(lapack.maketrian(empty, offset=3).shape) == (2, 3, 3)
    A = backend.asarray(np.zeros((2, 0, 0)))
    assert tuple(lapack.extractdiag(A).shape) == tuple(lapack.extracttrian(A).shape) == (2, 0)


def test_refusals(backend):
    def of(*shape):
        return backend.asarray(np.ones(shape))

    with pytest.raises(ShapeError, match=r"gemm2: A of shape \(3, 2\) does not fit B of shape \(3, 2\)"):
        lapack.gemm2(of(3, 2), of(3, 2))
    with pytest.raises(ShapeError, match="gemm: C of shape"):
        lapack.gemm(of(3, 2), of(2, 3), of(2, 3))
    with pytest.raises(ShapeError, match="axis=-1"):
        lapack.gemm2(of(3, 3), of(3, 3), axis=-1)
    with pytest.raises(DTypeError, match="differ"):
        lapack.trmm(of(2, 2), backend.asarray(np.ones((2, 2), np.float32)))
    with pytest.raises(ShapeError, match="trmm.*columns"):
        lapack.trmm(of(2, 2), of(2, 3), rightside=True)
    with pytest.raises(NonSquareError, match="potri"):
        lapack.potri(of(2, 3))
    with pytest.raises(SingularMatrixError, match="potri"):
        lapack.potri(backend.asarray(np.diag([1.0, 0.0])))
    for routine in (lapack.extractdiag, lapack.extracttrian):
        with pytest.raises(NonSquareError):
            routine(of(2, 3))
        with pytest.raises(ShapeError, match="offset 4"):
            routine(of(3, 3), offset=4)
    with pytest.raises(ShapeError, match="3 or 6"):
        lapack.maketrian(of(5))
    with pytest.raises(DTypeError, match="int64"):
        lapack.makediag(backend.asarray(np.ones(3, np.int64)))
    with pytest.raises(BackendError, match="makediag"):
        lapack.makediag([1.0])


# --- adjoints ----------------------------------------


@pytest.mark.parametrize(
    "ta,tb,axis", [(False, False, -2), (True, False, -2), (False, True, -3), (True, True, -2)]
)
def test_gemm_backward(backend, rng, ta, tb, axis):
    # A without the batch axis of the others: its cotangent is summed over that
    A, B, C = rng.standard_normal((3, 3)), rng.standard_normal((2, 3, 3)), rng.standard_normal((2, 3, 3))
    if axis == -3:
        A = rng.standard_normal((3, 2, 3))
        B, C = B.swapaxes(0, 1), C.swapaxes(0, 1)
    options = {"transpose_a": ta, "transpose_b": tb, "alpha": 1.5, "axis": axis}
    dA, dB, dC = (rng.standard_normal(X.shape) for X in (A, B, C))
    Dbar = rng.standard_normal(C.shape)
    bars = lapack.gemm_backward(*map(backend.asarray, (A, B, C, Dbar)), beta=0.3, **options)
    bars = [backend.to_numpy(x) for x in bars]
    assert [x.shape for x in bars] == [A.shape, B.shape, C.shape]
    slope = central(
        lambda h: inner(lapack.gemm(A + h * dA, B + h * dB, C + h * dC, beta=0.3, **options), Dbar)
    )
    assert sum(map(inner, bars, (dA, dB, dC))) == pytest.approx(slope, rel=1e-7)
    two = lapack.gemm2_backward(*map(backend.asarray, (A, B, Dbar)), **options)
    np.testing.assert_allclose(backend.to_numpy(two[0]), bars[0])


@pytest.mark.parametrize("transpose,rightside,lower", [*itertools.product([False, True], repeat=3)])
def test_trmm_backward(backend, rng, transpose, rightside, lower):
    options = {"transpose": transpose, "rightside": rightside, "lower": lower, "alpha": 0.7}
    A, dA = rng.standard_normal((2, 4, 4))
    B, dB = rng.standard_normal((2, 3, 4, 4))
    Ybar = rng.standard_normal(B.shape)
    Abar, Bbar = lapack.trmm_backward(*map(backend.asarray, (A, B, Ybar)), **options)
    Abar, Bbar = backend.to_numpy(Abar), backend.to_numpy(Bbar)
    assert Abar.shape == A.shape and Bbar.shape == B.shape
    assert ((np.triu(Abar, 1) if lower else np.tril(Abar, -1)) == 0).all()
    slope = central(lambda h: inner(lapack.trmm(A + h * dA, B + h * dB, **options), Ybar))
    assert inner(Abar, dA) + inner(Bbar, dB) == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("n,batch", [(1, ()), (4, (2,)), (5, ())])
def test_potri_backward(backend, rng, n, batch, lower, spd):
    L = np.linalg.cholesky(spd(rng, n, batch))
    L = L if lower else t(L)
    dL, Xbar = rng.standard_normal((2, *L.shape))
    args = map(backend.asarray, (L, lapack.potri(L, lower=lower), Xbar))
    Lbar = backend.to_numpy(lapack.potri_backward(*args, lower=lower))
    assert ((np.triu(Lbar, 1) if lower else np.tril(Lbar, -1)) == 0).all()
    slope = central(lambda h: inner(lapack.potri(L + h * dL, lower=lower), Xbar))
    assert inner(Lbar, dL) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("offset,lower", OFFSETS)
def test_adjoints_of_extraction(backend, rng, offset, lower):
    A, d = rng.standard_normal((2, 4, 4)), rng.standard_normal((2, 4 - abs(offset)))
    D = backend.to_numpy(lapack.extractdiag_backward(backend.asarray(d), offset=offset))
    assert inner(D, A) == pytest.approx(inner(lapack.extractdiag(A, offset=offset), d))
    back = backend.to_numpy(lapack.makediag_backward(backend.asarray(A), offset=offset))
    assert inner(back, d) == pytest.approx(inner(lapack.makediag(d, offset=offset), A))
    v = rng.standard_normal(lapack.extracttrian(A, offset=offset, lower=lower).shape)
    T = backend.to_numpy(lapack.extracttrian_backward(backend.asarray(v), offset=offset, lower=lower))
    assert inner(T, A) == pytest.approx(inner(lapack.extracttrian(A, offset=offset, lower=lower), v))
    back = backend.to_numpy(lapack.maketrian_backward(backend.asarray(A), offset=offset, lower=lower))
    assert inner(back, v) == pytest.approx(inner(lapack.maketrian(v, offset=offset, lower=lower), A))


# --- derivatives of the libraries ----------------------------------------


def all_of_them(A, B, d):
    """Everything of this file at once: A (3, 3), B (3, 3), d (3,)."""
    L = lapack.maketrian(lapack.extracttrian(A)) + lapack.makediag(d**2 + 2.0)
    return (
        lapack.gemm(A, B, lapack.makediag(d), transpose_a=True, alpha=0.5, beta=2.0),
        lapack.gemm2(A, B, transpose_b=True),
        lapack.trmm(A, B, transpose=True, alpha=2.0),
        lapack.trmm(A, B, rightside=True, lower=False),
        lapack.potri(L),
        lapack.potri(L.mT, lower=False),
        lapack.extractdiag(A, offset=-1) * lapack.extracttrian(B, offset=1)[..., :2],
        lapack.syrk(A, transpose=True),
    )


def inputs(rng, batch=()):
    return (
        rng.standard_normal((*batch, 3, 3)),
        rng.standard_normal((*batch, 3, 3)),
        rng.standard_normal((*batch, 3)),
    )


def test_torch_derivatives(rng):
    torch = pytest.importorskip("torch")
    xs = [torch.tensor(x, requires_grad=True) for x in inputs(rng)]
    assert torch.autograd.gradcheck(all_of_them, xs, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(all_of_them, xs, check_fwd_over_rev=True)
    batch = [torch.tensor(x) for x in inputs(rng, (4,))]
    for mapped, batched in zip(torch.func.vmap(all_of_them)(*batch), all_of_them(*batch), strict=True):
        torch.testing.assert_close(mapped, batched)
    assert torch.equal(
        torch.triu(torch.autograd.grad(lapack.potri(xs[0]).sum(), xs[0])[0], 1), torch.zeros(3, 3).double()
    )
    A = xs[0].detach().requires_grad_()
    (g,) = torch.autograd.grad(lapack.trmm(A, xs[1].detach()).pow(2).sum(), A, create_graph=True)
    (gg,) = torch.autograd.grad(g.pow(2).sum(), A)
    assert (torch.triu(g, 1) == 0).all() and (torch.triu(gg, 1) == 0).all()


def test_jax_derivatives(rng):
    jax = pytest.importorskip("jax")
    from jax.test_util import check_grads

    xs = [jax.numpy.asarray(x) for x in inputs(rng)]
    check_grads(jax.jit(all_of_them), xs, order=2, modes=("fwd", "rev"))
    batch = [jax.numpy.asarray(x) for x in inputs(rng, (4,))]
    for mapped, batched in zip(jax.jit(jax.vmap(all_of_them))(*batch), all_of_them(*batch), strict=True):
        np.testing.assert_allclose(mapped, batched, atol=1e-12)
    H = jax.jit(jax.hessian(lambda A: lapack.potri(A).sum() + (lapack.trmm(A, A) ** 2).sum()))(xs[0])
    H = np.asarray(H).reshape(3, 3, 9)
    upper = np.triu(np.ones((3, 3)), 1) > 0
    assert (
        np.isfinite(H).all()
        and (np.asarray(jax.grad(lambda A: lapack.potri(A).sum())(xs[0]))[upper] == 0).all()
    )
