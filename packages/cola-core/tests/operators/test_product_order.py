"""The order in which products are multiplied, and low rank written as products of thin factors."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import cola_core as cola
from cola_core import PSD, ops
from cola_core.dispatch import explain
from cola_core.operators.chain import plan


def chain(rng, *sizes):
    Ms = [rng.normal(size=shape) for shape in zip(sizes, sizes[1:], strict=False)]
    return Ms, ops.Product(*map(ops.Dense, Ms))


def dense(Ms):
    out = Ms[0]
    for M in Ms[1:]:
        out = out @ M
    return out


def counted(monkeypatch, A, X):
    """Multiplications of numbers in ``A @ X``."""
    made = []
    matmat = ops.Dense._matmat

    def count(self, X):
        made.append(self.shape[-2] * self.shape[-1] * X.shape[-1])
        return matmat(self, X)

    monkeypatch.setattr(ops.Dense, "_matmat", count)
    out = A @ X
    monkeypatch.undo()
    return out, sum(made)


@pytest.mark.parametrize(
    "sizes", [(4, 50, 4), (3, 40, 40, 3), (40, 3, 40), (5, 5, 5), (1, 9, 1, 9), (6, 2, 7, 1, 8)]
)
@pytest.mark.parametrize("columns", [1, 4, 300])
def test_every_order_gives_the_product(rng, sizes, columns):
    Ms, A = chain(rng, *sizes)
    X = rng.normal(size=(sizes[-1], columns))
    np.testing.assert_allclose(A @ X, dense(Ms) @ X, atol=1e-9)
    np.testing.assert_allclose(A.H @ (A @ X), dense(Ms).T @ dense(Ms) @ X, atol=1e-7)
    np.testing.assert_allclose(A.to_dense(), dense(Ms), atol=1e-9)


def test_many_columns_take_the_cheap_order(monkeypatch, rng):
    Ms, A = chain(rng, 10, 500, 10)
    out, made = counted(monkeypatch, A, np.ones((10, 2000)))
    np.testing.assert_allclose(out, dense(Ms) @ np.ones((10, 2000)), atol=1e-8)
    assert made < 2 * 10 * 500 * 10 + 2 * 10 * 10 * 2000  # from right to left it were 2 10^7
    _, made = counted(monkeypatch, A, np.ones((10, 1)))
    assert made == 2 * 10 * 500  # thin right sides go from right to left


def test_the_order_is_the_best_of_all(rng):
    from itertools import pairwise

    def cost(tree, sizes):
        if not isinstance(tree, tuple):
            return 0
        left, right = tree

        def ends(t):
            return (t, t) if not isinstance(t, tuple) else (ends(t[0])[0], ends(t[1])[1])

        i, s, j = ends(left)[0], ends(left)[1], ends(right)[1]
        return cost(left, sizes) + cost(right, sizes) + sizes[i] * sizes[s + 1] * sizes[j + 1]

    for seed in range(20):
        sizes = [int(x) for x in np.random.default_rng(seed).integers(20, 400, size=5)]
        Ms = tuple(ops.Dense(np.ones(pair)) for pair in pairwise(sizes))
        tree = plan(Ms, None, 8)
        right_to_left = (0, (1, (2, 3)))
        assert cost(tree or right_to_left, sizes) <= cost(right_to_left, sizes) * 1.001


def test_no_intermediate_array_is_larger_than_those_from_right_to_left(rng):
    n = 2000
    A = ops.Product(ops.Dense(rng.normal(size=(n, 3))), ops.Dense(rng.normal(size=(3, n))))
    X = rng.normal(size=(n, 50))
    A @ X
    tracemalloc.start()
    A @ X
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.2 * n * n * 8


@pytest.mark.parametrize("library", ["numpy", "torch"], indirect=False)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_products_of_thin_factors_take_woodbury(backend, dtype, rng):
    n, k = 60, 3
    U, V = rng.normal(size=(n, k)).astype(dtype), rng.normal(size=(n, k)).astype(dtype)
    C = rng.normal(size=(k, k)).astype(dtype)
    d = (3 + np.abs(rng.normal(size=n))).astype(dtype)
    if dtype == "complex128":
        U, C = U * 1j + V, C * (1 + 1j)
    f = backend.asarray
    D = ops.Diagonal(f(d))
    B = ops.Dense(f(V.conj().T))
    b = rng.normal(size=(n, 2)).astype(dtype)
    cases = {
        "U C V": (ops.Dense(f(U)) @ ops.Dense(f(C)) @ ops.Dense(f(V.conj().T)) + D, U @ C @ V.conj().T),
        "U V": (ops.Dense(f(U)) @ ops.Dense(f(V.conj().T)) + D, U @ V.conj().T),
        "-2 U V": (D - 2 * (ops.Dense(f(U)) @ ops.Dense(f(V.conj().T))), -2 * U @ V.conj().T),
        "B.H B": (B.H @ B + PSD(D), V @ V.conj().T),
    }
    for name, (A, low) in cases.items():
        M = low + np.diag(d)
        assert explain(cola.solve, A, f(b)).root.by == "core:solve/woodbury", name
        np.testing.assert_allclose(backend.to_numpy(cola.solve(A, f(b))), np.linalg.solve(M, b), atol=1e-9)
        sign, value = np.linalg.slogdet(M)
        got = cola.slogdet(A)
        np.testing.assert_allclose(complex(got[0]), sign, atol=1e-9)
        np.testing.assert_allclose(float(got[1]), value, atol=1e-9)


def test_a_wide_inner_dimension_is_not_low_rank(rng):
    U = rng.normal(size=(6, 4))
    A = ops.Dense(U) @ ops.Dense(U.T) + ops.Diagonal(np.full(6, 2.0))
    assert explain(cola.solve, A, np.ones(6)).root.by != "core:solve/woodbury"
    np.testing.assert_allclose(A @ cola.solve(A, np.ones(6)), 1, atol=1e-10)


def test_square_products_of_rectangular_factors_solve(rng):
    Ms, A = chain(rng, 4, 9, 4)
    b = rng.normal(size=4)
    np.testing.assert_allclose(cola.solve(A, b), np.linalg.solve(dense(Ms), b), atol=1e-10)
    np.testing.assert_allclose(cola.inv(A).to_dense(), np.linalg.inv(dense(Ms)), atol=1e-10)
    np.testing.assert_allclose(cola.slogdet(A)[1], np.linalg.slogdet(dense(Ms))[1], atol=1e-10)


def test_pseudoinverse_beside_an_isometry(rng):
    Q = cola.Stiefel(np.linalg.qr(rng.normal(size=(8, 3)))[0])
    M = rng.normal(size=(3, 5))
    for A in (Q @ ops.Dense(M), ops.Dense(M.T) @ Q.H):
        np.testing.assert_allclose(cola.pinv(A).to_dense(), np.linalg.pinv(A.to_dense()), atol=1e-10)


def test_determinant_of_a_multiple(rng):
    M = rng.normal(size=(5, 5))
    sign, value = cola.slogdet(-3.0 * ops.Dense(M))
    want = np.linalg.slogdet(-3 * M)
    np.testing.assert_allclose((sign, value), want, atol=1e-12)


def test_products_compile_and_differentiate(rng):
    jax = pytest.importorskip("jax")
    A, B = (jax.numpy.asarray(rng.normal(size=s)) for s in ((3, 40), (40, 3)))
    X = jax.numpy.asarray(rng.normal(size=(3, 100)))
    value = jax.jit(lambda A: jax.numpy.sum((ops.Dense(A) @ ops.Dense(B) @ X) ** 2))
    np.testing.assert_allclose(value(A), jax.numpy.sum((A @ (B @ X)) ** 2), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(value)(A), 2 * (A @ (B @ X)) @ (B @ X).T, rtol=1e-9)
