"""Derivatives of linear systems by every algorithm, against differences of dense NumPy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.testing.derivatives import check_derivatives

N = 6

POSITIVE = [
    cola.CG(tol=1e-12),
    cola.BlockCG(tol=1e-12),
    cola.DeflatedCG(tol=1e-12),
    cola.DeflatedCG(tol=1e-12, recycle=cola.Recycle(2)),
    cola.MINRES(tol=1e-12),
    cola.MINRESQLP(tol=1e-12),
    cola.Cholesky(),
    cola.LDL(),
    cola.AlternatingProjections(tol=1e-11, block=3),
    cola.StochasticDualDescent(tol=1e-9, max_iters=20_000),
]
GENERAL = [
    cola.GMRES(tol=1e-12),
    cola.FGMRES(tol=1e-12),
    cola.BiCGStab(tol=1e-12),
    cola.IDR(tol=1e-12),
    cola.LSQR(tol=1e-12),
    cola.LSMR(tol=1e-12),
    cola.CGLS(tol=1e-12),
    cola.LU(),
    cola.IterativeRefinement(),
    cola.IterativeRefinement(inner=cola.GMRES(tol=1e-3)),
]


def name(alg):
    return type(alg).__name__


def entries(rng, *shape, complex_=False):
    x = rng.normal(size=shape)
    return x + 1j * rng.normal(size=shape) if complex_ else x


def least(xp, x, w):
    """A real loss that sees size and direction."""
    return (abs(x) ** 2).sum() + (xp.real(x * w)).sum()


def reference(build):
    def loss(arrays):
        *parts, B = arrays
        x = np.linalg.solve(build(*parts), B)
        return float(np.sum(np.abs(x) ** 2) + np.sum(np.real(x)))

    return loss


def library_of(name):
    return pytest.importorskip("torch" if name == "torch" else "jax.numpy")


def held(library, wrap, alg, build, arrays, **more):
    """The loss of ``solve(wrap(arrays), B, alg)`` against that of ``build`` in NumPy."""
    xp = library_of(library)

    def loss(found):
        *parts, B = found
        return least(xp, cola.solve(wrap(xp, *parts), B, alg), 1.0)

    check_derivatives(library, loss, reference(build), arrays, **more)


def gram(xp, F):
    eye = np.eye(F.shape[-1])
    A = F @ F.conj().swapaxes(-1, -2)
    return cola.PSD(ops.Dense(A)) + 2.0 * ops.Identity(eye.shape[0])


def gram_of(F):
    return F @ F.conj().T + 2.0 * np.eye(F.shape[0])


@pytest.mark.parametrize("alg", POSITIVE, ids=name)
@pytest.mark.parametrize("complex_", [False, True])
def test_positive_definite_systems_on_torch(alg, complex_):
    rng = np.random.default_rng(1)
    F, B = entries(rng, N, N, complex_=complex_), entries(rng, N, 2, complex_=complex_)
    loose = {"rtol": 1e-4} if name(alg) == "StochasticDualDescent" else {}
    held("torch", gram, alg, gram_of, [F, B], **loose)


@pytest.mark.parametrize("alg", GENERAL, ids=name)
@pytest.mark.parametrize("complex_", [False, True])
def test_general_systems_on_torch(alg, complex_):
    rng = np.random.default_rng(2)
    D = 4 * np.eye(N) + entries(rng, N, N, complex_=complex_)
    b = entries(rng, N, complex_=complex_)
    held("torch", lambda xp, D: ops.Dense(D), alg, lambda D: D, [D, b])


@pytest.mark.parametrize("alg", [cola.CG(tol=1e-12), cola.GMRES(tol=1e-12)], ids=name)
def test_systems_on_jax(alg):
    rng = np.random.default_rng(3)
    F, b = entries(rng, N, N, complex_=True), entries(rng, N, complex_=True)
    held("jax", gram, alg, gram_of, [F, b], jit=True)


def toeplitz(xp, t):
    return cola.PSD(ops.Toeplitz(t))


def toeplitz_of(t):
    i = np.arange(t.shape[0])
    return t[np.abs(i[:, None] - i)]


@pytest.mark.parametrize("alg", [cola.Levinson(), cola.ToeplitzCG(tol=1e-12)], ids=name)
def test_toeplitz_systems_on_torch(alg):
    rng = np.random.default_rng(4)
    held("torch", toeplitz, alg, toeplitz_of, [np.array([4.0, 1.0, 0.5, 0.2, 0.1]), entries(rng, 5, 2)])


ROWS, COLUMNS = np.array([0, 1, 2, 3, 4, 0, 2, 4]), np.array([0, 1, 2, 3, 4, 3, 1, 0])


def sparse(xp, data):
    return ops.Sparse(data, ROWS, COLUMNS, (5, 5))


def sparse_of(data):
    D = np.zeros((5, 5), data.dtype)
    D[ROWS, COLUMNS] = data
    return D


def banded(xp, bands):
    return ops.Banded(bands, (1, 1))


def banded_of(bands):
    n = bands.shape[-1]
    D = np.zeros((n, n))
    for j in range(n):
        for i in range(max(0, j - 1), min(n, j + 2)):
            D[i, j] = bands[1 + i - j, j]
    return D


def test_sparse_and_banded_systems_on_torch():
    rng = np.random.default_rng(5)
    data = np.concatenate([4 + rng.normal(size=5), rng.normal(size=3)])
    held("torch", sparse, cola.SparseLU(), sparse_of, [data, entries(rng, 5)])
    bands = rng.normal(size=(3, 5)) + np.array([[0.0], [5.0], [0.0]])
    held("torch", banded, cola.BandedLU(), banded_of, [bands, entries(rng, 5)])


def test_composed_operators_through_rules_and_iterations():
    """Woodbury and Kronecker rules with CG at the leaves; a product of factors by GMRES."""
    rng = np.random.default_rng(6)
    d, U, b = 1 + rng.random(N), entries(rng, N, 2), entries(rng, N)

    def low_rank(xp, d, U):
        return cola.PSD(ops.Diagonal(d)) + ops.LowRank(U)

    held("torch", low_rank, "auto", lambda d, U: np.diag(d) + U @ U.T, [d, U, b])
    F, G = entries(rng, 2, 2), entries(rng, 3, 3)

    def kron(xp, F, G):
        return cola.kron(gram(xp, F), gram(xp, G))

    held("torch", kron, cola.CG(tol=1e-12), lambda F, G: np.kron(gram_of(F), gram_of(G)), [F, G, b])

    def product(xp, F, G):
        return cola.no_dispatch(ops.Dense(F) @ ops.Dense(G))

    shifted = 3 * np.eye(N) + entries(rng, N, N), 3 * np.eye(N) + entries(rng, N, N)
    held("torch", product, cola.GMRES(tol=1e-12), lambda F, G: F @ G, [*shifted, b])


@pytest.mark.parametrize("size", [0, 1])
def test_no_and_one_unknown(size):
    torch = pytest.importorskip("torch")
    D = torch.full((size, size), 2.0, dtype=torch.float64, requires_grad=True)
    b = torch.ones(size, dtype=torch.float64, requires_grad=True)
    for alg in (cola.CG(), cola.GMRES(), cola.LSMR(), cola.LDL()):
        x = cola.solve(cola.PSD(ops.Dense(D)), b, alg)
        g, h = torch.autograd.grad(x.sum(), (D, b), allow_unused=True)
        if size:
            torch.testing.assert_close(g, torch.full_like(D, -0.25))
            torch.testing.assert_close(h, torch.full_like(b, 0.5))


def test_inverses_and_prepared_solvers_have_the_same_derivatives():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    D = torch.tensor(gram_of(entries(rng, N, N)), requires_grad=True)
    b = torch.tensor(entries(rng, N), requires_grad=True)
    want = torch.autograd.grad(torch.linalg.solve(D, b).square().sum(), (D, b))
    A = cola.PSD(ops.Dense(D))
    for alg in (cola.CG(tol=1e-12), cola.Cholesky(), cola.LU()):
        for x in (cola.inv(A, alg) @ b, cola.prepare(cola.solve, A, alg)(b), cola.pinv(A) @ b):
            got = torch.autograd.grad(x.square().sum(), (D, b))
            # Cholesky reads one triangle: what counts are symmetric directions
            torch.testing.assert_close(got[0] + got[0].T, want[0] + want[0].T, rtol=1e-8, atol=1e-10)
            torch.testing.assert_close(got[1], want[1], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_single_precision_gradients_are_as_good_as_values(library):
    xp = library_of(library)
    rng = np.random.default_rng(8)
    n = 40
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    M, b = (Q * np.logspace(0, 3, n)) @ Q.T, rng.normal(size=n)
    x = np.linalg.solve(M, b)
    want = -np.outer(np.linalg.solve(M, 2 * x), x)

    def asarray(a):
        return xp.tensor(a, dtype=xp.float32) if library == "torch" else xp.asarray(a, "float32")

    def loss(D):
        return (cola.solve(cola.PSD(ops.Dense(D)), asarray(b), cola.CG()) ** 2).sum()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = cola.solve(cola.PSD(ops.Dense(asarray(M))), asarray(b), cola.CG())
        if library == "torch":
            D = asarray(M).requires_grad_()
            (g,) = xp.autograd.grad(loss(D), D)
        else:
            import jax

            g = jax.grad(loss)(asarray(M))
    error = np.linalg.norm(np.asarray(value) - x) / np.linalg.norm(x)
    assert np.linalg.norm(np.asarray(g) - want) <= 5 * (error + 1e-5) * np.linalg.norm(want)
