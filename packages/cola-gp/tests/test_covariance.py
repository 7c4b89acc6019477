"""The lazy covariance operator: products in blocks, rows, diagonal, and the rules registered for it."""

import pickle

import numpy as np
import pytest

import cola_core as cola
import cola_gp as gp
from cola_core.errors import BackendError, ShapeError
from cola_gp._struct import leaves, with_leaves

KERNELS = {
    "rbf": 1.5 * gp.RBF(0.7),
    "white": gp.Matern32([0.7, 1.2]) + gp.White(0.4) * gp.Constant(2.0),
    "linear": gp.Linear([0.5, 2.0]) + gp.Constant(0.3),
}


@pytest.fixture(params=sorted(KERNELS))
def kernel(request):
    return KERNELS[request.param]


def test_symmetric_products_in_blocks(kernel, rng):
    X, V = rng.normal(size=(11, 2)), rng.normal(size=(11, 3))
    K = kernel(X)
    for block in (1, 8 * 11 * 4, 2**26):
        A = gp.CovarianceOperator(kernel, X, block_bytes=block)
        np.testing.assert_allclose(A @ V, K @ V, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(A @ V[:, 0], K @ V[:, 0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(A.H @ V, K @ V, rtol=1e-12, atol=1e-12)
    assert A.isa(cola.PSD) and A.isa(cola.SelfAdjoint)
    np.testing.assert_allclose(A.to_dense(), K)


def test_rectangular_products(kernel, rng):
    X, Z = rng.normal(size=(7, 2)), rng.normal(size=(4, 2))
    A = gp.CovarianceOperator(kernel, X, Z, block_bytes=100)
    K = kernel(X, Z)
    assert A.shape == (7, 4) and not A.isa(cola.PSD)
    np.testing.assert_allclose(A @ np.eye(4), K, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(A.H @ np.eye(7), K.T, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(A.T.to_dense(), K.T, rtol=1e-12)


def test_rows(kernel, rng):
    X, Z = rng.normal(size=(6, 2)), rng.normal(size=(4, 2))
    for A, K in [
        (gp.CovarianceOperator(kernel, X), kernel(X)),
        (gp.CovarianceOperator(kernel, X, Z), kernel(X, Z)),
    ]:
        for index in (0, -1, 3, slice(1, 4), np.array([5, 0, 0])):
            np.testing.assert_allclose(A.rows(index), K[index], rtol=1e-13, atol=1e-15)


def test_memory_stays_bounded(rng):
    import tracemalloc

    X = rng.normal(size=(3000, 2))
    A = gp.CovarianceOperator(gp.RBF(1.0), X, block_bytes=2**20)
    v = rng.normal(size=3000)
    tracemalloc.start()
    A @ v
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24 < 8 * 3000**2  # a handful of blocks, never the matrix


def test_questions_by_rule(kernel, rng):
    X, Z = rng.normal(size=(8, 2)), rng.normal(size=(8, 2))
    A = gp.CovarianceOperator(kernel, X)
    K = kernel(X)
    np.testing.assert_allclose(cola.diag(A), np.diagonal(K), rtol=1e-12)
    np.testing.assert_allclose(cola.diag(A, 1), np.diagonal(K, 1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(cola.trace(A), np.trace(K), rtol=1e-12)
    B = gp.CovarianceOperator(kernel, X, Z)
    np.testing.assert_allclose(cola.diag(B), np.diagonal(kernel(X, Z)), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(cola.trace(B), np.trace(kernel(X, Z)), rtol=1e-10)


def test_cholesky_solve_and_logdet_through_the_core(rng):
    X, y = rng.normal(size=(9, 2)), rng.normal(size=9)
    A = gp.CovarianceOperator(1.5 * gp.RBF(0.7) + gp.White(0.1), X)
    K = A.to_dense()
    L = cola.cholesky(A).to_dense()
    np.testing.assert_allclose(L @ L.T, K, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(cola.solve(A, y), np.linalg.solve(K, y), rtol=1e-6)
    assert float(cola.logdet(A)) == pytest.approx(np.linalg.slogdet(K)[1], rel=1e-6)
    S = gp.CovarianceOperator(1.5 * gp.RBF(0.7), X) + cola.PSD(cola.ops.ScalarMul(0.1, 9))
    np.testing.assert_allclose(cola.solve(S, y), np.linalg.solve(K, y), rtol=1e-6)


def test_explain_names_our_rule(rng):
    A = gp.CovarianceOperator(gp.RBF(0.7), rng.normal(size=(9, 2)))
    assert "trace/covariance" in str(cola.explain(cola.trace, A))
    assert "cholesky/covariance" in str(cola.explain(cola.cholesky, A))


def test_too_large_to_store_is_evaluated_by_products(rng):
    X = rng.normal(size=(60, 2))
    y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=60)
    model, data = gp.GP(1.0 * gp.RBF(1.0), noise=0.1), gp.Data(X, y)
    expected = gp.Posterior(model, data)
    posterior = gp.Posterior(model, data, "iterative")
    assert posterior.method.startswith("iterative")
    Z = rng.normal(size=(5, 2))
    np.testing.assert_allclose(posterior.mean(Z), expected.mean(Z), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(posterior.variance(Z), expected.variance(Z), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(posterior.covariance(Z), expected.covariance(Z), rtol=1e-3, atol=1e-5)


def test_bad_input():
    with pytest.raises(TypeError, match="needs a Kernel"):
        gp.CovarianceOperator("rbf", np.zeros((3, 1)))
    with pytest.raises(ShapeError, match="different dimensions"):
        gp.CovarianceOperator(gp.RBF(1.0), np.zeros((3, 1)), np.zeros((3, 2)))
    with pytest.raises(ShapeError, match="3x2 covariance"):
        gp.CovarianceOperator(gp.RBF(1.0), np.zeros((3, 1)), np.zeros((2, 1))).diagonal()
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(BackendError, match="same array library"):
        gp.CovarianceOperator(gp.RBF(1.0), np.zeros((3, 1)), torch.zeros((3, 1)))


def test_products_are_differentiable_in_the_kernels_parameters(rng):
    X, v, w = rng.normal(size=(9, 2)), rng.normal(size=9), rng.normal(size=9)
    kernel = 1.5 * gp.RBF([0.7, 1.1]) + gp.White(0.2)
    expected = kernel.evaluate(X)[1](np.outer(w, v))
    torch = pytest.importorskip("torch", reason="torch is not installed")
    params = [torch.tensor(p, requires_grad=True) for p in leaves(kernel)]
    A = gp.CovarianceOperator(with_leaves(kernel, params), torch.tensor(X), block_bytes=8 * 9 * 4)
    (torch.tensor(w) @ (A @ torch.tensor(v))).backward()
    for ours, theirs in zip(expected, params, strict=True):
        np.testing.assert_allclose(theirs.grad.numpy(), ours, rtol=1e-10)


def test_operator_is_a_pytree_for_jax(rng):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    X, v, w = rng.normal(size=(9, 2)), rng.normal(size=9), rng.normal(size=9)
    kernel = 1.5 * gp.RBF([0.7, 1.1]) + gp.White(0.2)
    expected = kernel.evaluate(X)[1](np.outer(w, v))
    with jax.enable_x64(True):
        params = [jax.numpy.asarray(p) for p in leaves(kernel)]
        A = gp.CovarianceOperator(with_leaves(kernel, params), jax.numpy.asarray(X), block_bytes=8 * 9 * 4)
        gradient = jax.jit(jax.grad(lambda A, v, w: w @ (A @ v)))(
            A, jax.numpy.asarray(v), jax.numpy.asarray(w)
        )
        assert isinstance(gradient, gp.CovarianceOperator)
        for ours, theirs in zip(expected, leaves(gradient.kernel), strict=True):
            np.testing.assert_allclose(np.asarray(theirs), ours, rtol=1e-10)


def test_pickle_and_move(rng):
    A = gp.CovarianceOperator(1.5 * gp.RBF([0.7, 1.1]), rng.normal(size=(5, 2)))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(A)).to_dense(), A.to_dense())
    single = A.to(dtype="float32")
    assert single.to_dense().dtype == np.float32
    np.testing.assert_allclose(single.to_dense(), A.to_dense(), rtol=1e-5)
    pytest.importorskip("torch", reason="torch is not installed")
    moved = A.to(backend="torch")
    np.testing.assert_allclose(moved.to_dense().numpy(), A.to_dense(), rtol=1e-12)
