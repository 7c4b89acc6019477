"""Band matrices: storage, arithmetic that keeps the band, direct methods, and no n x n array anywhere."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.linalg as sl
from compare import close

import cola_core as cola
from cola_core import ops
from cola_core.algorithms import BandedCholesky, BandedEigh, BandedLU
from cola_core.algorithms.band_scan import cholesky_bands, lu_slogdet, lu_solve
from cola_core.errors import (
    IllConditionedWarning,
    NotPositiveDefiniteError,
    ShapeError,
    SingularMatrixError,
)


def draw(rng, dtype, *shape):
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if "complex" in dtype else x).astype(dtype)


def dense(bands, low, high, m=None):
    n = bands.shape[-1]
    m = n if m is None else m
    out = np.zeros((*bands.shape[:-2], m, n), bands.dtype)
    for i in range(m):
        for j in range(max(0, i - low), min(n, i + high + 1)):
            out[..., i, j] = bands[..., high + i - j, j]
    return out


SHAPES = [(5, 5, 2, 1), (6, 4, 1, 3), (3, 7, 5, 2), (1, 1, 0, 0), (4, 4, 0, 0), (5, 5, 4, 4), (2, 2, 1, 0)]


@pytest.mark.parametrize(("m", "n", "low", "high"), SHAPES)
def test_storage_and_products(m, n, low, high, rng):
    bands = rng.normal(size=(2, low + high + 1, n))
    A, D = ops.Banded(bands, (low, high), (m, n)), dense(bands, low, high, m)
    np.testing.assert_array_equal(A.to_dense(), D)
    X = rng.normal(size=(n, 2))
    np.testing.assert_allclose(A @ X, D @ X, atol=1e-13)
    np.testing.assert_allclose(A.T.to_dense(), D.swapaxes(1, 2))
    np.testing.assert_allclose((A.T @ A).to_dense(), D.swapaxes(1, 2) @ D, atol=1e-13)
    np.testing.assert_allclose((2 * A - A).to_dense(), D, atol=1e-13)
    for k in range(-m, n + 1):
        np.testing.assert_array_equal(cola.diag(A, k), np.diagonal(D, k, 1, 2))


def test_empty_and_wrong():
    E = ops.Banded(np.ones((2, 0)), (1, 0), (3, 0))
    assert E.shape == (3, 0) and (E @ np.ones((0, 2))).shape == (3, 2) and E.T.shape == (0, 3)
    T = ops.Tridiagonal(np.ones(0), np.ones(0), np.ones(0))
    assert cola.solve(T, np.ones(0)).shape == (0,) and cola.slogdet(T) == (1, 0)
    one = ops.Tridiagonal(np.ones(0), np.full(1, 2.0))
    assert cola.solve(one, np.ones(1)) == 0.5 and cola.eigvalsh(one) == 2
    with pytest.raises(ShapeError, match="lengths 3, 3, 2"):
        ops.Tridiagonal(np.ones(3), np.ones(3), np.ones(2))
    for widths in ((1, 1), (-1, 2)):
        with pytest.raises(ShapeError, match="bands"):
            ops.Banded(np.ones((2, 4)), widths)


def test_arithmetic_keeps_the_band(backend, dtype, rng):
    a, b, g, d = (draw(rng, dtype, k) for k in (5, 6, 5, 6))
    T, D = ops.Tridiagonal(*map(backend.asarray, (a, b, g))), ops.Diagonal(backend.asarray(d))
    t = np.diag(a, -1) + np.diag(b) + np.diag(g, 1)
    eye = np.eye(6)
    for made, want, kind in (
        (T + D, t + np.diag(d), ops.Tridiagonal),
        (D - T, np.diag(d) - t, ops.Tridiagonal),
        (T + 2.0 * ops.Identity(6), t + 2 * eye, ops.Tridiagonal),
        (T - T.H, t - t.conj().T, ops.Tridiagonal),
        (3 * T, 3 * t, ops.Tridiagonal),
        (D @ T, np.diag(d) @ t, ops.Tridiagonal),
        (T @ D, t @ np.diag(d), ops.Tridiagonal),
        (T @ T, t @ t, ops.Banded),
        (T @ T.T + T, t @ t.T + t, ops.Banded),
        (0.5 * (T @ T) @ D, 0.5 * t @ t @ np.diag(d), ops.Banded),
    ):
        assert type(made) is kind, made
        close(backend, made.to_dense(), want, dtype, 30)
        assert str(made.dtype).endswith(dtype)
    G = T.H @ T + ops.Identity(6)
    assert G.isa(cola.PSD) and isinstance(G, ops.Banded) and G.widths == (2, 2)


def test_real_symmetric_form_and_signs():
    T = ops.Tridiagonal(np.ones(3), np.full(4, 4.0))
    assert T.isa(cola.SelfAdjoint) and T.H is T and (2.0 * T).isa(cola.SelfAdjoint)
    assert not ops.Tridiagonal(np.ones(3) * 1j, np.ones(4)).isa(cola.SelfAdjoint)
    P = cola.PSD(T)
    assert (2.0 * P).isa(cola.PSD) and not (-P).isa(cola.PSD) and (-P).isa(cola.SelfAdjoint)


def test_wide_products_stay_products():
    n = 200
    B = ops.Banded(np.ones((61, n)), (30, 30))
    assert isinstance(B @ B, ops.Product)


def problems(rng, dtype):
    """Not diagonally dominant: elimination without interchanges would lose all digits."""
    bands = draw(rng, dtype, 5, 9)
    bands[3] *= 1e-9  # a nearly vanishing main diagonal
    yield bands, (1, 3)
    yield draw(rng, dtype, 3, 8), (1, 1)
    yield draw(rng, dtype, 2, 4, 6), (2, 1)


def test_solve_and_determinant(backend, dtype, rng):
    eps = float(np.finfo(dtype).eps)
    for bands, (low, high) in problems(rng, dtype):
        A, D = ops.Banded(backend.asarray(bands), (low, high)), dense(bands, low, high)
        b = draw(rng, dtype, D.shape[-1], 2)
        put = backend.asarray(b)
        sign, value = np.linalg.slogdet(D)
        for x in (
            cola.solve(A, put, BandedLU()),
            cola.inv(A, BandedLU()) @ put,
            lu_solve(backend, A, put + 0 * (A @ put)),
        ):
            x = backend.to_numpy(x)
            size = np.linalg.norm(D, axis=(-2, -1)).max() * np.linalg.norm(x, axis=-2).max()
            assert np.linalg.norm(D @ x - b, axis=-2).max() < 100 * eps * size
        for s, v in (cola.slogdet(A, BandedLU()), lu_slogdet(backend, A)):
            np.testing.assert_allclose(backend.to_numpy(s), sign, atol=3e3 * eps)
            np.testing.assert_allclose(backend.to_numpy(v), value, atol=3e3 * eps)
        P = cola.PSD(A.H @ A + ops.Identity(D.shape[-1]))
        L = cola.cholesky(P)
        assert isinstance(L, ops.Banded) and L.widths[1] == 0
        M = D.conj().swapaxes(-1, -2) @ D + np.eye(D.shape[-1])
        factor = backend.to_numpy(L.to_dense())
        np.testing.assert_allclose(factor, np.linalg.cholesky(M), atol=300 * eps * np.abs(M).max())
        np.testing.assert_allclose(
            backend.to_numpy(cholesky_bands(backend, P)),
            backend.to_numpy(L.bands),
            atol=300 * eps * np.abs(M).max(),
        )
        x = backend.to_numpy(cola.solve(P, put, BandedCholesky()))
        assert np.abs(M @ x - b).max() < 1e3 * eps * np.abs(M).max() * np.abs(x).max()


def test_batches_of_right_hand_sides(backend, rng):
    bands = rng.normal(size=(2, 3, 6))
    bands[:, 1] += 4
    A, D = ops.Banded(backend.asarray(bands), (1, 1)), dense(bands, 1, 1)
    one, d = ops.Banded(backend.asarray(bands[0]), (1, 1)), D[0]
    B = rng.normal(size=(3, 1, 6, 2))
    for M, m in ((A, D), (one, d)):
        x = backend.to_numpy(cola.solve(M, backend.asarray(B), BandedLU()))
        np.testing.assert_allclose(m @ x, np.broadcast_to(B, x.shape), atol=1e-12)
    c = B[0, 0] + 1j
    x = backend.to_numpy(cola.solve(one, backend.asarray(c), BandedLU()))
    np.testing.assert_allclose(d @ x, c, atol=1e-12)


def test_singular_and_nearly_so():
    S = ops.Tridiagonal(np.zeros(2), np.array([1.0, 0.0, 1.0]), np.zeros(2))
    for ask in (lambda: cola.solve(S, np.ones(3), BandedLU()), lambda: cola.inv(S, BandedLU()) @ np.ones(3)):
        with pytest.raises(SingularMatrixError, match="pivot"):
            ask()
    assert cola.slogdet(S, BandedLU()) == (0, -np.inf)
    with pytest.raises(NotPositiveDefiniteError, match="minor of order 2"):
        cola.cholesky(cola.PSD(ops.Tridiagonal(np.ones(2), np.ones(3))))
    n = 60  # -1 on and above the diagonal inside the band: one tiny singular value, no tiny pivot
    bad = ops.Banded(np.stack([np.full(n, -2.0), np.ones(n)]), (0, 1))
    with pytest.warns(IllConditionedWarning, match="condition number"):
        cola.solve(bad, np.ones(n), BandedLU())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cola.slogdet(bad, BandedLU())
    with pytest.raises(cola.errors.NonFiniteError):
        cola.solve(ops.Tridiagonal(np.ones(1), np.full(2, np.nan)), np.ones(2), BandedLU())


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128"])
@pytest.mark.parametrize("low", [0, 1, 3])
def test_eigenvalues(low, dtype, rng):
    n = 9
    bands = draw(rng, dtype, low + 1, n)
    bands[0] = bands[0].real
    B = ops.Banded(bands, (low, 0))
    D = dense(bands, low, 0)
    A = cola.SelfAdjoint(B + B.H - ops.Diagonal(bands[0]))
    D = D + D.conj().T - np.diag(bands[0])
    tol = 300 * float(np.finfo(dtype).eps)
    want = np.linalg.eigvalsh(D)
    w, V = cola.eigh(A, alg=cola.algorithms.BandedEigh())
    np.testing.assert_allclose(w, want, atol=tol)
    np.testing.assert_allclose(D @ V.to_dense(), V.to_dense() * w, atol=tol)
    for which, part in (("SA", want[:2]), ("LA", want[-2:]), ("LM", want[np.argsort(-np.abs(want))[:2]])):
        w, V = cola.eigh(A, 2, which, cola.algorithms.BandedEigh())
        np.testing.assert_allclose(w, np.sort(part), atol=tol)
        np.testing.assert_allclose(D @ V.to_dense(), V.to_dense() * w, atol=tol)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_condition_estimate_by_solves(dtype, rng):
    from cola_core.algorithms.band_lapack import _norm1_of_inverse

    for n in (1, 2, 7, 30):
        M = draw(rng, dtype, n, n)
        estimate = _norm1_of_inverse(
            lambda x, how, M=M: np.linalg.solve(M.conj().T if how else M, x), n, np.dtype(dtype)
        )
        exact = np.linalg.norm(np.linalg.inv(M), 1)
        assert exact / 5 < estimate <= exact * (1 + 1e-9)


def test_nothing_of_size_n_by_n():
    n = 20_000  # dense: 3.2 GB
    T = ops.Tridiagonal(np.full(n - 1, -1.0), np.full(n, 2.0), np.full(n - 1, -1.0))
    P = cola.PSD(T @ T + ops.Identity(n))
    b = np.ones(n)
    tracemalloc.start()
    x, y = cola.solve(T, b), cola.solve(P, b)
    cola.slogdet(T), cola.slogdet(P), cola.cholesky(P), cola.trace(P), cola.diag(T, 1), cola.inv(T) @ b
    w, V = cola.eigh(cola.SelfAdjoint(T), 2, "LA")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 8 * n
    reference = sl.solve_banded((1, 1), np.stack([np.full(n, -1.0), np.full(n, 2.0), np.full(n, -1.0)]), b)
    np.testing.assert_allclose(x, reference, rtol=1e-9)
    assert np.linalg.norm(P @ y - b) < 1e-9
    exact = 2 - 2 * np.cos(np.arange(n - 1, n + 1) * np.pi / (n + 1))
    np.testing.assert_allclose(w, exact, atol=1e-10)
    np.testing.assert_allclose(cola.slogdet(T)[1], np.log(n + 1), atol=1e-8)


def _loss(A, b):
    return (cola.solve(A, b, BandedLU()) ** 2).sum() + cola.slogdet(A, BandedLU())[1]


def test_derivatives(backend, rng):
    bands, b = rng.normal(size=(4, 6)), rng.normal(size=(6, 2))
    bands[1] += 3

    def value(x, rhs):
        return float(_loss(ops.Banded(x, (2, 1)), rhs))

    want = np.zeros_like(bands)
    for i in np.ndindex(*bands.shape):
        e = np.zeros_like(bands)
        e[i] = 1e-6
        want[i] = (value(bands + e, b) - value(bands - e, b)) / 2e-6
    if backend.name == "torch":
        x = backend.asarray(bands).requires_grad_()
        _loss(ops.Banded(x, (2, 1)), backend.asarray(b)).backward()
        got = x.grad.numpy()
    elif backend.name == "jax":
        import jax

        put = backend.asarray(b)
        got = jax.jit(jax.grad(lambda x: _loss(ops.Banded(x, (2, 1)), put)))(backend.asarray(bands))
    else:
        got = want
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(
    "ask",
    [
        lambda A: cola.solve(A, np.ones(4), BandedLU()),
        lambda A: cola.solve(A, np.ones(4), BandedCholesky()),
        lambda A: cola.slogdet(A, BandedLU()),
        lambda A: cola.cholesky(A, BandedCholesky()),
        lambda A: cola.eigh(A, alg=BandedEigh()),
        lambda A: cola.eigh(A, 2, alg=BandedEigh()),
        lambda A: cola.eigvalsh(A, BandedEigh()),
    ],
)
def test_a_matrix_without_bands_is_refused_by_name(ask):
    with pytest.raises(NotImplementedError, match=r"Banded.*Dense\[4x4\].*ops\.Banded"):
        ask(cola.PSD(cola.ops.Dense(2 * np.eye(4))))


def test_a_plan_says_that_there_are_no_bands():
    plan = cola.explain(cola.solve, ops.Dense(2 * np.eye(4)), np.ones(4), alg=BandedLU())
    assert "BandedLU works on Banded and Tridiagonal operators" in str(plan)
