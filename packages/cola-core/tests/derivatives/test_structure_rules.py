"""Answers of structured operators whose derivative is not that of their steps: Toeplitz, band and sparse
systems and determinants. All modes, real and complex, against dense references."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
from zoo import installed

import cola_core as cola
from cola_core import ops
from cola_core.backends import get_backend
from cola_core.testing.derivatives import MODES, check_derivatives

torch_only = pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
FIELDS = pytest.mark.parametrize("field", ["real", "complex"])


def _draw(rng, field, *shape):
    x = rng.normal(size=shape)
    return x + 1j * rng.normal(size=shape) if field == "complex" else x


def _determinant(be, A):
    """A function of the sign's phase and of the logarithm, both of which move."""
    sign, value = cola.slogdet(A)
    return 0.1 * value**2 + be.xp.real(sign * sign)


def _numpy_determinant(M):
    sign, value = np.linalg.slogdet(M)
    return 0.1 * value**2 + np.real(sign * sign)


def _weighted(be, x):
    n, k = x.shape
    w = be.asarray(np.cos(np.arange(n * k)).reshape(n, k))
    return be.xp.sum(w * be.xp.real(x * be.conj(x)))


@torch_only
@FIELDS
@pytest.mark.parametrize("kind", ["toeplitz", "hankel"])
def test_toeplitz_determinant_and_solution(field, kind, rng):
    n, be = 66, get_backend("torch")
    c, r = _draw(rng, field, n) / n, _draw(rng, field, n) / n
    c[0 if kind == "toeplitz" else -1] = 2
    B = _draw(rng, field, n, 2)
    make = ops.Toeplitz if kind == "toeplitz" else ops.Hankel
    flip = slice(None) if kind == "toeplitz" else slice(None, None, -1)

    def dense(c, r):
        if kind == "toeplitz":
            return sl.toeplitz(c, r)
        return sl.hankel(c, np.append(c[-1:], r[1:]))

    check_derivatives(
        be, lambda a: _determinant(be, make(*a)), lambda a: _numpy_determinant(dense(*a)), [c, r]
    )
    check_derivatives(
        be,
        lambda a: _weighted(be, cola.solve(make(a[0], a[1]), a[2])),
        lambda a: _weighted(get_backend("numpy"), np.linalg.solve(dense(a[0], a[1]), a[2])),
        [c, r, B[flip]],
    )


@torch_only
def test_a_toeplitz_solve_runs_the_recursion_once_for_both_ways(monkeypatch, rng):
    import torch

    from cola_core.linalg import toeplitz

    made = []
    factor = toeplitz.toeplitz_factor
    monkeypatch.setattr(toeplitz, "toeplitz_factor", lambda T: made.append(T) or factor(T))
    c, r = (torch.tensor(rng.normal(size=80) / 80, requires_grad=True) for _ in range(2))
    shift = torch.zeros(80, dtype=torch.float64)
    shift[0] = 3
    x = cola.solve(ops.Toeplitz(c + shift, r), torch.ones(80, dtype=torch.float64))
    torch.autograd.grad(x.sum(), (c, r))
    assert len(made) == 1


@torch_only
def test_a_toeplitz_with_a_singular_minor_has_derivatives_too(rng):
    n, be = 70, get_backend("torch")
    c, r = rng.normal(size=n), rng.normal(size=n)
    c[0] = 0  # the recursion breaks down at once, the matrix is regular
    check_derivatives(
        be,
        lambda a: _determinant(be, ops.Toeplitz(*a)),
        lambda a: _numpy_determinant(sl.toeplitz(*a)),
        [c, r],
        ("reverse", "forward"),
    )


@FIELDS
@pytest.mark.parametrize("library", [pytest.param("torch", marks=torch_only), "jax"])
@pytest.mark.parametrize("definite", [False, True])
def test_band_determinant(library, field, definite, rng):
    """Several panels of rows; pivots are exchanged."""
    if library == "jax" and (not installed("jax") or definite == (field == "real")):
        pytest.skip("on JAX one of two, where it is installed")
    n, be = 40, get_backend(library)
    a, b, g = _draw(rng, field, n - 1), _draw(rng, field, n) + 3, _draw(rng, field, n - 1)
    modes = ("reverse", "forward-reverse") if library == "jax" else MODES

    def dense(a, b, g):
        return np.diag(a, -1) + np.diag(b) + np.diag(g, 1)

    if not definite:
        numbers = [a, b, g]
        check_derivatives(
            be,
            lambda x: _determinant(be, ops.Tridiagonal(*x)),
            lambda x: _numpy_determinant(dense(*x)),
            numbers,
            modes,
            jit=library == "jax",
        )
        return
    b = 4 + np.abs(b)
    check_derivatives(
        be,
        lambda x: _determinant(be, cola.PSD(ops.Tridiagonal(*x))),
        lambda x: _numpy_determinant(dense(x[0], x[1], np.conj(x[0]))),
        [a, b if field == "real" else b + 0j],
        modes,
        directions=[[_draw(rng, field, n - 1), rng.normal(size=n)] for _ in range(2)],
        jit=library == "jax",
    )


@pytest.mark.parametrize(
    ("n", "l", "u"), [(1, 0, 0), (2, 1, 0), (31, 1, 1), (32, 1, 3), (100, 2, 1), (70, 40, 30)]
)
def test_panels_of_a_band_meet_everywhere(backend, n, l, u, rng):  # noqa: E741
    from cola_core.algorithms.band_scan import cholesky_logdet, lu_slogdet

    if backend.name == "jax":
        pytest.skip("what JAX compiles is tested above")
    A = ops.Banded(backend.asarray(rng.normal(size=(2, l + u + 1, n))), (l, u))
    M = backend.to_numpy(A.to_dense())
    sign, value = (backend.to_numpy(x) for x in lu_slogdet(backend, A))
    want = np.linalg.slogdet(M)
    np.testing.assert_allclose(sign, want[0], atol=1e-12)
    np.testing.assert_allclose(value, want[1], atol=1e-10)
    if l == u:
        low = np.tril(M, -1)
        P = low + np.swapaxes(low, -1, -2) + (4 * l + 9) * np.eye(n)
        d = {k: np.diagonal(P, k, -2, -1) for k in range(-l, l + 1)}
        bands = np.stack(
            [np.pad(d[k], ((0, 0), (max(k, 0), max(-k, 0)))) for k in range(l, -l - 1, -1)], axis=-2
        )
        B = ops.Banded(backend.asarray(bands), (l, l))
        got = backend.to_numpy(cholesky_logdet(backend, B))
        np.testing.assert_allclose(got, np.linalg.slogdet(P)[1], atol=1e-10)


@torch_only
def test_a_band_that_is_not_definite_is_refused_in_derivatives_too():
    import torch

    d = torch.full((40,), -1.0, dtype=torch.float64, requires_grad=True)
    A = cola.PSD(ops.Tridiagonal(torch.zeros(39, dtype=torch.float64), d))
    with pytest.raises(cola.errors.NotPositiveDefiniteError):
        cola.logdet(A, cola.BandedCholesky())


@torch_only
@FIELDS
def test_sparse_determinant(field, rng):
    """By SuperLU on the host, its derivatives by entries of the inverse; in torch.func as well."""
    n, be = 40, get_backend("torch")
    i, j = rng.integers(n, size=(2, 60))
    rows, cols = np.concatenate([np.arange(n), i]), np.concatenate([np.arange(n), j])
    data = np.concatenate([3 + np.abs(rng.normal(size=n)), rng.normal(size=60)]) + 0 * _draw(
        rng, field, n + 60
    )
    S = ops.Sparse(data, rows, cols, (n, n))

    def build(a):
        return ops.Sparse(a[0], S.rows, S.cols, (n, n)) + ops.Diagonal(a[1])

    def loss(a):
        sign, value = cola.slogdet(build(a), cola.SparseLU())
        return 0.1 * value**2 + be.xp.real(sign * sign)

    moved = rng.normal(size=n) + 0 * S.data[:1]
    check_derivatives(be, loss, lambda a: _numpy_determinant(build(a).to_dense()), [S.data, moved])


@torch_only
def test_sparse_determinant_takes_blocks_of_columns(monkeypatch, rng):
    import torch

    from cola_core.algorithms import sparse_inverse

    monkeypatch.setattr(sparse_inverse, "COLUMNS", 7)
    n, be = 25, get_backend("torch")
    off = rng.normal(size=n - 1)
    data = np.concatenate([off, np.full(n, 4.0), off])
    k = np.arange(n)
    S = ops.Sparse(
        be.asarray(data), np.concatenate([k[1:], k, k[:-1]]), np.concatenate([k[:-1], k, k[1:]]), (n, n)
    )
    x = S.data.clone().requires_grad_()
    (g,) = torch.autograd.grad(cola.logdet(S.replace(data=x), cola.SparseLU()), x)
    want = np.linalg.inv(S.to_dense().numpy())[S.cols.numpy(), S.rows.numpy()]
    np.testing.assert_allclose(g.numpy(), want, atol=1e-12)


@torch_only
@pytest.mark.parametrize("name", ["sqrt", "exp"])
def test_functions_of_low_rank_have_derivatives_although_most_eigenvalues_are_zero(name, rng):
    """The root has no derivative at zero; the zeros of a rank do not move."""
    be, f = get_backend("torch"), {"sqrt": np.sqrt, "exp": np.exp}[name]

    def reference(a):
        U, b = a
        w, W = np.linalg.eigh(U.T @ U)
        V = U @ W / np.sqrt(w)
        return np.sum((f(0.0) * (b - V @ (V.T @ b)) + V @ (f(w)[:, None] * (V.T @ b))) ** 2)

    check_derivatives(
        be,
        lambda a: be.xp.sum((getattr(cola, name)(ops.LowRank(a[0])) @ a[1]) ** 2),
        reference,
        [rng.normal(size=(12, 2)), rng.normal(size=(12, 1))],
        ("reverse", "forward", "vmap"),
    )
