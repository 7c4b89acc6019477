"""``Sparse``: any order and duplicates, arithmetic that stays sparse, batches, other libraries, SuperLU."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from compare import close
from zoo import tolerance

import cola_core as cola
from cola_core import ops
from cola_core.algorithms import SparseLU, loop_form

N = 8


def entries(rng, dtype, m=N, n=N):
    """Shuffled positions with duplicates, and the dense matrix of their sums."""
    rows, cols = rng.integers(0, m, 25), rng.integers(0, n, 25)
    if m == n:
        rows, cols = np.concatenate([rows, np.arange(n)]), np.concatenate([cols, np.arange(n)])
    data = rng.normal(size=rows.size) + (1j * rng.normal(size=rows.size) if "complex" in dtype else 0)
    data = data.astype(dtype)
    data[25:] += 6
    D = np.zeros((m, n), dtype)
    np.add.at(D, (rows, cols), data)
    return data, rows, cols, D


def build(backend, data, rows, cols, size):
    return ops.Sparse(backend.asarray(data), rows, cols, size)


def test_any_order_and_duplicates(backend, dtype, rng):
    """CoLA 0.0.7 multiplies by another matrix on PyTorch, and on JAX unless the columns are sorted."""
    for m, n in ((N, N), (5, 9), (9, 4)):
        data, rows, cols, D = entries(rng, dtype, m, n)
        A = build(backend, data, rows, cols, (m, n))
        x, y = rng.normal(size=(n, 2)).astype(dtype), rng.normal(size=m).astype(dtype)
        close(backend, A.to_dense(), D, dtype)
        close(backend, A @ backend.asarray(x), D @ x, dtype, 50)
        close(backend, A.H @ backend.asarray(y), D.conj().T @ y, dtype, 50)
        close(backend, backend.asarray(y) @ A, y @ D, dtype, 50)
        close(backend, A.T.to_dense(), D.T, dtype)
        for k in (-2, 0, 3):
            close(backend, cola.diag(A, k), np.diag(D, k), dtype)


def test_arithmetic_stays_sparse(backend, dtype, rng):
    (da, ra, ca, a), (db, rb, cb, b) = entries(rng, dtype), entries(rng, dtype)
    A, B = build(backend, da, ra, ca, (N, N)), build(backend, db, rb, cb, (N, N))
    d = rng.normal(size=N).astype(dtype)
    D = ops.Diagonal(backend.asarray(d))
    for made, want in (
        (A @ B, a @ b),
        (A + B, a + b),
        (A - A.H, a - a.conj().T),
        (2 * A, 2 * a),
        (A @ D, a * d),
        (D @ A, d[:, None] * a),
        (A + D, a + np.diag(d)),
        (3.0 * ops.Identity(N) - A, 3 * np.eye(N) - a),
        (A.H @ A, a.conj().T @ a),
    ):
        assert isinstance(made, ops.Sparse), made
        close(backend, made.to_dense(), want.astype(dtype), dtype, 200)
        assert str(made.dtype).endswith(dtype)
    assert (A.H @ A).isa(cola.PSD)
    assert (A.H @ A + ops.Identity(N)).isa(cola.PSD)


def test_products_that_fill_stay_products():
    n = 2000  # an arrow: its square is dense
    i = np.arange(n)
    zero = np.zeros(n, int)
    A = ops.Sparse(np.ones(2 * n), np.concatenate([i, zero]), np.concatenate([zero, i]), (n, n))
    assert isinstance(A @ A, ops.Product)
    assert isinstance(ops.Identity(n) + A, ops.Sparse)


def test_batches_share_a_pattern(backend, rng):
    data = rng.normal(size=(3, 5))
    rows, cols = np.array([2, 0, 1, 2, 0]), np.array([1, 3, 1, 1, 0])  # one duplicate, not in order
    D = np.zeros((3, 3, 4))
    for i in range(3):
        np.add.at(D[i], (rows, cols), data[i])
    A = ops.Sparse(backend.asarray(data), rows, cols, (3, 4))
    assert A.shape == (3, 3, 4) and A.nnz == 4
    x = rng.normal(size=(4, 2))
    close(backend, A @ backend.asarray(x), D @ x, "float64")
    close(backend, A.H.to_dense(), D.swapaxes(1, 2), "float64")
    close(backend, (A @ A.H).to_dense(), D @ D.swapaxes(1, 2), "float64")
    close(backend, cola.diag(A, 1), np.diagonal(D, 1, 1, 2), "float64")
    square = ops.Sparse(backend.asarray(data[:, :3]), [0, 1, 2], [0, 1, 2], (3, 3))
    close(backend, cola.trace(square), data[:, :3].sum(-1), "float64")
    close(
        backend, (square + ops.Identity(3)).to_dense(), data[:, :3, None] * np.eye(3) + np.eye(3), "float64"
    )
    b = rng.normal(size=3)
    got = cola.solve(square, backend.asarray(b[:, None]))
    close(backend, got, b[:, None] / data[:, :3, None], "float64", 1e4)
    with pytest.raises(cola.errors.ShapeError, match="batch"):
        A.to_scipy()


def test_to_and_from_other_libraries(backend, rng):
    data, rows, cols, D = entries(rng, "float64")
    A = build(backend, data, rows, cols, (N, N))
    np.testing.assert_allclose(A.to_scipy().toarray(), D)
    np.testing.assert_allclose(
        ops.Sparse.from_scipy(sp.coo_array((data, (rows, cols)), (N, N))).to_dense(), D
    )
    if backend.name == "torch":
        import torch

        t = torch.sparse_coo_tensor(np.stack([rows, cols]), data, (N, N))
        for made in (t, t.to_sparse_csr(), A.to_torch(), A.to_torch("coo")):
            close(backend, ops.Sparse.from_torch(made).to_dense(), D, "float64")
            assert isinstance(ops.as_operator(made), ops.Sparse)
    if backend.name == "jax":
        from jax.experimental import sparse

        M = sparse.BCOO((backend.asarray(data), np.stack([rows, cols], axis=1)), shape=(N, N))
        for made in (M, sparse.BCSR.from_bcoo(M.sum_duplicates()), A.to_jax(), A.to_jax("bcsr")):
            close(backend, ops.Sparse.from_jax(made).to_dense(), D, "float64")
            assert isinstance(ops.as_operator(made), ops.Sparse)


def test_superlu_on_every_library(backend, dtype, rng):
    data, rows, cols, D = entries(rng, dtype)
    A = build(backend, data, rows, cols, (N, N))
    b = rng.normal(size=(2, N, 3)).astype(dtype)
    x = cola.solve(A, backend.asarray(b), SparseLU())
    assert x.dtype == A.dtype
    close(backend, x, np.linalg.solve(D, b), dtype, 20)
    sign, value = cola.slogdet(A, SparseLU())
    close(backend, sign, np.linalg.slogdet(D)[0], dtype, 10)
    close(backend, value, np.linalg.slogdet(D)[1], dtype, 100)
    Ainv = cola.inv(A, SparseLU())
    close(backend, Ainv @ backend.asarray(b[0]), np.linalg.solve(D, b[0]), dtype, 20)
    close(backend, Ainv.H @ backend.asarray(b[0]), np.linalg.solve(D.conj().T, b[0]), dtype, 20)
    close(backend, cola.slogdet(Ainv)[1], -np.linalg.slogdet(D)[1], dtype, 100)


def test_superlu_singular():
    S = ops.Sparse(np.ones(2), [0, 1], [0, 0], (2, 2))
    with pytest.raises(cola.errors.SingularMatrixError):
        cola.solve(S, np.ones(2), SparseLU())
    assert cola.slogdet(S, SparseLU()) == (0, -np.inf)


@pytest.mark.parametrize("lower", [True, False])
def test_triangular_pattern_does_not_fill(lower, rng):
    n = 3000
    M = sp.coo_array(sp.random(n, n, 2e-3, random_state=rng)) + sp.diags_array(np.full(n, 4.0))
    M = (sp.tril if lower else sp.triu)(M)
    A = ops.Sparse.from_scipy(M)
    factor = SparseLU()._factor(A)
    assert factor.superlu.L.nnz + factor.superlu.U.nnz <= A.nnz + n
    b = rng.normal(size=n)
    x = cola.solve(A, b)
    np.testing.assert_allclose(x, spl.spsolve_triangular(M.tocsr(), b, lower=lower), atol=1e-10)


def test_derivatives(backend, rng):
    data, rows, cols, _ = entries(rng, "float64")
    b = rng.normal(size=(N, 2))

    def loss(d, rhs):
        A = ops.Sparse(d, rows, cols, (N, N))
        return (cola.solve(A, rhs, SparseLU()) ** 2).sum() + ((A @ rhs) ** 2).sum()

    want = [(loss(data + e, b) - loss(data - e, b)) / 2e-6 for e in 1e-6 * np.eye(data.size)]
    if backend.name == "torch":
        d, rhs = backend.asarray(data).requires_grad_(), backend.asarray(b).requires_grad_()
        loss(d, rhs).backward()
        got = d.grad.numpy(), rhs.grad.numpy()
    elif backend.name == "jax":
        import jax

        # traced entries at positions that are known: what CoLA's Sparse cannot do
        got = jax.jit(jax.grad(loss, argnums=(0, 1)))(backend.asarray(data), backend.asarray(b))
    else:
        return
    np.testing.assert_allclose(got[0], want, rtol=1e-5, atol=1e-5)
    e = np.zeros_like(b)
    e[3, 1] = 1e-6
    np.testing.assert_allclose(got[1][3, 1], (loss(data, b + e) - loss(data, b - e)) / 2e-6, rtol=1e-5)


def test_inside_jit(rng):
    jax = pytest.importorskip("jax")
    data, rows, cols, D = entries(rng, "float64")
    A, b = ops.Sparse(jax.numpy.asarray(data), rows, cols, (N, N)), rng.normal(size=N)
    np.testing.assert_allclose(jax.jit(lambda A, b: A.H @ (A @ b))(A, b), D.T @ (D @ b), atol=1e-10)
    x = jax.jit(lambda A, b: cola.solve(A.H, b, SparseLU()))(A, b)
    np.testing.assert_allclose(x, np.linalg.solve(D.T, b), atol=1e-10)
    shifted = jax.jit(lambda A, b: cola.solve(A + ops.Identity(N), b, SparseLU()))(A, b)
    np.testing.assert_allclose(shifted, np.linalg.solve(D + np.eye(N), b), atol=1e-10)
    kept = jax.numpy.asarray(rows)  # positions as arrays of JAX, known although the function is traced
    put = jax.numpy.asarray(b)
    y = jax.jit(lambda d: ops.Sparse(d, kept, cols, (N, N)) @ put)(data)
    np.testing.assert_allclose(y, D @ b, atol=tolerance("float64"))
    with pytest.raises(cola.errors.ShapeError, match="structure, not data"):
        jax.jit(lambda r: ops.Sparse(data, r, cols, (N, N)) @ put)(rows)


def test_a_loop_on_jax_factors_its_preconditioner_once_for_all_steps(monkeypatch):
    jnp = pytest.importorskip("jax").numpy
    n, made, factor = 40, [], SparseLU._factor
    monkeypatch.setattr(SparseLU, "_factor", lambda alg, A: (made.append(A), factor(alg, A))[1])
    i, j = np.arange(n), np.arange(n - 1)
    rows, cols = np.concatenate([i, i[1:], j]), np.concatenate([i, j, i[1:]])

    def mesh(scale):
        data = np.concatenate([3 + scale * np.cos(i), np.full(2 * n - 2, -1.0)])
        return cola.PSD(ops.Sparse(jnp.asarray(data), rows, cols, (n, n)))

    A = mesh(0.0)
    for scale in (0.6, 0.5):  # other entries in the same program are other factors
        x, info = cola.solve(A, jnp.ones(n), cola.CG(P=cola.inv(mesh(scale), SparseLU())), return_info=True)
        assert info.converged and 4 < info.iterations < 15
        np.testing.assert_allclose(A @ x, np.ones(n), atol=1e-6)
    assert len(made) <= 4


def test_nothing_of_size_n_by_n():
    n = 10_000  # dense: 800 MB
    i = np.arange(n)
    rows, cols = np.concatenate([i, i[1:], i[:-1]]), np.concatenate([i, i[:-1], i[1:]])
    A = ops.Sparse(np.concatenate([np.full(n, 2.5), np.full(2 * n - 2, -1.0)]), rows, cols, (n, n))
    tracemalloc.start()
    B = cola.PSD(A @ A + ops.Identity(n))
    x = cola.solve(B, np.ones(n), SparseLU())
    cola.slogdet(B), cola.trace(A @ A), cola.diag(B, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * 8 * n
    assert np.linalg.norm(B @ x - 1) < 1e-8


def test_other_entries_at_the_same_positions(backend, rng):
    data, rows, cols = rng.standard_normal(6), np.array([0, 0, 1, 3, 4, 4]), np.array([1, 4, 2, 0, 3, 4])
    A = cola.PSD(ops.Sparse(backend.asarray(data), rows, cols, (5, 5)))
    X = rng.standard_normal((5, 2))
    for dtype, rtol in (("float64", 1e-12), ("float32", 1e-5)):
        B = A.with_entries(backend.asarray(2 * data, dtype=dtype))
        got = B @ backend.asarray(X, dtype=dtype)
        np.testing.assert_allclose(
            backend.to_numpy(got), 2 * A.to_scipy().toarray() @ X, rtol=rtol, atol=1e-6
        )
        assert not B.isa(cola.PSD), "nothing is known of other entries"
    assert A.with_entries(backend.asarray(rng.standard_normal((3, 6)))).shape == (3, 5, 5)
    with pytest.raises(cola.errors.ShapeError, match="6 entries"):
        A.with_entries(backend.asarray(np.ones(5)))


def test_the_form_for_loops_is_the_same_matrix(backend, rng):
    data, rows, cols, D = entries(rng, "float64")
    A = ops.Sparse(backend.asarray(data), rows, cols, (N, N)) + 2.0 * ops.Identity(N)
    B, X = loop_form(A), rng.normal(size=(N, 3))
    assert B.shape == A.shape and B.dtype == A.dtype and (B is A) == (backend.name != "jax")
    D = D + 2 * np.eye(N)
    close(backend, B @ backend.asarray(X), D @ X, "float64")
    close(backend, B.H @ backend.asarray(X), D.T @ X, "float64")
    assert loop_form("no operator") == "no operator"
