"""Diagonals and traces of products, and off-diagonals of Kronecker compositions: values, and who answers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
from compare import close
from hypothesis import given, settings
from hypothesis import strategies as st

import cola_core as cola
from cola_core import ops

TWO = pytest.mark.parametrize("dtype", ["float32", "complex128"])


def draw(rng, dtype, *shape):
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if "complex" in dtype else x).astype(dtype)


def _kronsum(*Ms):
    out, sizes = 0, [len(M) for M in Ms]
    for i, M in enumerate(Ms):
        out = out + np.kron(np.kron(np.eye(int(np.prod(sizes[:i]))), M), np.eye(int(np.prod(sizes[i + 1 :]))))
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 4))
def test_every_diagonal_of_kronecker_compositions(seed, sizes, rows):
    rng = np.random.default_rng(seed)
    squares = [rng.normal(size=(n, n)) for n in sizes]
    first = rng.normal(size=(rows, sizes[0]))
    K = ops.Kronecker(*map(ops.Dense, (first, *squares[1:])))
    D = K.to_dense()
    for k in range(-D.shape[0] - 1, D.shape[1] + 2):
        want = np.diag(D, k) if -D.shape[0] < k < D.shape[1] else np.zeros(0)
        np.testing.assert_allclose(cola.diag(K, k), want, atol=1e-13)
    S, E = ops.KronSum(*map(ops.Dense, squares)), _kronsum(*squares)
    for k in range(-len(E), len(E) + 1):
        want = np.diag(E, k) if abs(k) < len(E) else np.zeros(0)
        np.testing.assert_allclose(cola.diag(S, k), want, atol=1e-13)
    B, F = cola.block_diag(*squares, multiplicities=[2] * len(squares)), []
    for M in squares:
        F += [M, M]
    F = sl.block_diag(*F)
    for k in range(-len(F) + 1, len(F)):
        np.testing.assert_allclose(cola.diag(B, k), np.diag(F, k), atol=1e-13)


@TWO
def test_off_diagonals_on_every_backend(backend, dtype, rng):
    a, b, c = draw(rng, dtype, 2, 3, 3), draw(rng, dtype, 2, 2), draw(rng, dtype, 2, 1, 2)
    A, B, C = (ops.Dense(backend.asarray(x)) for x in (a, b, c))
    K, S = cola.kron(A, B), cola.kronsum(A, B)
    D = np.stack([np.kron(x, b) for x in a])
    E = np.stack([_kronsum(x, b) for x in a])
    G = np.stack([sl.block_diag(b, x) for x in c])
    for k in (-5, -1, 1, 2, 3):
        close(backend, cola.diag(K, k), np.stack([np.diag(x, k) for x in D]), dtype)
        close(backend, cola.diag(S, k), np.stack([np.diag(x, k) for x in E]), dtype)
    for k in (-2, 0, 1, 3):
        close(backend, cola.diag(cola.block_diag(B, C), k), np.stack([np.diag(x, k) for x in G]), dtype)
    for question in (K, S):
        assert cola.explain(cola.diag, question, 1).root.kind.startswith("rule")


@TWO
def test_products_of_all_kinds(backend, dtype, rng):
    f = backend.asarray
    n = 6
    a, b, u, v = (
        draw(rng, dtype, n, n),
        draw(rng, dtype, n, n),
        draw(rng, dtype, n, 2),
        draw(rng, dtype, n, 2),
    )
    p, q, d = draw(rng, dtype, 2, 2), draw(rng, dtype, 3, 3), draw(rng, dtype, n)
    i, j = np.nonzero(rng.random((n, n)) < 0.4)
    e = draw(rng, dtype, len(i))
    s = np.zeros((n, n), dtype)
    s[i, j] = e
    perm = rng.permutation(n)
    kinds = {
        "dense": (ops.Dense(f(a)), a),
        "other": (ops.Dense(f(b)), b),
        "lowrank": (ops.LowRank(f(u), f(v)), u @ v.conj().T),
        "kron": (cola.kron(f(p), f(q)), np.kron(p, q)),
        "diagonal": (ops.Diagonal(f(d)), np.diag(d)),
        "sparse": (ops.Sparse(f(e), i, j, (n, n)), s),
        "permutation": (ops.Permutation(f(perm)), np.eye(n)[perm].astype(dtype)),
    }
    names = list(kinds)
    pairs = [(x, y) for x in names for y in names] + [
        ("kron", "lowrank", "sparse"), ("sparse", "kron", "diagonal"), ("kron", "sparse", "kron"),
        ("permutation", "dense", "lowrank"), ("lowrank", "lowrank", "kron"), ("dense", "kron", "diagonal"),
    ]  # fmt: skip
    if backend.name == "jax":
        pairs = pairs[::13]
    for names in pairs:
        A, D = kinds[names[0]]
        for name in names[1:]:
            A, D = A @ kinds[name][0], D @ kinds[name][1]
        scale = 10 * np.abs(D).sum()
        close(backend, cola.trace(A), np.trace(D), dtype, scale)
        close(backend, cola.trace(-2 * A), -2 * np.trace(D), dtype, scale)
        for k in (0, -2, 1):
            close(backend, cola.diag(A, k), np.diag(D, k), dtype, scale)


@pytest.mark.parametrize(
    ("factors", "rule"),
    [
        ("DD", "trace/product"),
        ("SD", "trace/sparse-product"),
        ("DS", "trace/sparse-product"),
        ("SS", "trace/sparse-product"),
        ("LK", "trace/product"),
        ("KLK", "trace/product"),
        ("KDK", "trace/product"),
    ],
)
def test_who_takes_the_trace_of_a_product(factors, rule):
    rng = np.random.default_rng(2)
    i = np.arange(6)
    make = {
        "D": lambda: ops.Dense(rng.normal(size=(6, 6))),
        "S": lambda: ops.Sparse(rng.normal(size=6), i, rng.permutation(6), (6, 6)),
        "L": lambda: ops.LowRank(rng.normal(size=(6, 2)), rng.normal(size=(6, 2))),
        "K": lambda: ops.no_dispatch(cola.kron(rng.normal(size=(2, 2)), rng.normal(size=(3, 3)))),
    }
    A = ops.Product(*(make[c]() for c in factors))
    assert cola.explain(cola.trace, A).root.by == f"core:{rule}"
    np.testing.assert_allclose(cola.trace(A), np.trace(A.to_dense()))
    np.testing.assert_allclose(cola.diag(A), np.diag(A.to_dense()), atol=1e-12)
    if "S" in factors:
        assert cola.explain(cola.diag, A).root.by == "core:diag/sparse-product"


def test_the_trace_of_a_low_rank_product_needs_only_its_columns():
    count = []
    n = 500
    d = np.linspace(1, 2, n)

    def product(X):
        count.append(X.shape[-1] if X.ndim > 1 else 1)
        return d[:, None] * X if X.ndim > 1 else d * X

    F = ops.FunctionOperator(product, (n, n), "float64", rmatvec=product)
    rng = np.random.default_rng(0)
    U, V = rng.normal(size=(n, 3)), rng.normal(size=(n, 3))
    for A in (F @ ops.LowRank(U, V), ops.LowRank(U, V) @ F, F @ ops.LowRank(U, V) @ F):
        count.clear()
        got = cola.trace(A)
        assert sum(count) <= 6, count
        dense = {2: d, 3: d**2}[len(A.Ms)]
        np.testing.assert_allclose(got, np.sum(dense[:, None] * U * V))


def test_long_products_in_strips():
    rng = np.random.default_rng(1)
    n = 300  # three strips of at most 128
    a, b = rng.normal(size=(n, n)), rng.normal(size=(n, n))
    A = ops.Dense(a) @ ops.Dense(b)
    np.testing.assert_allclose(cola.trace(A), np.trace(a @ b))
    for k in (0, 5, -299):
        np.testing.assert_allclose(cola.diag(A, k), np.diag(a @ b, k), atol=1e-10)


def test_an_estimate_that_was_asked_for_is_not_replaced():
    rng = np.random.default_rng(3)
    A = ops.Dense(rng.normal(size=(30, 30))) @ ops.Dense(rng.normal(size=(30, 30)))
    _, info = cola.trace(A, cola.Hutchinson(key=0, tol=0.5), return_info=True, on_failure="ignore")
    assert info.standard_error is not None
    H = ops.HadamardProduct(A, A)
    _, info = cola.diag(H, 0, cola.Hutchinson(key=0, tol=0.5), return_info=True, on_failure="ignore")
    assert info.standard_error is not None or info.error_estimate is not None
