"""Interpolated operators and interpolation weights."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
from compare import close
from scipy.interpolate import RegularGridInterpolator
from zoo import installed
from zoo.common import draw, spd

import cola_core as cola
from cola_core import PSD, SelfAdjoint, ops
from cola_core.errors import ShapeError


def matrix(index, weights, extent):
    W = np.zeros((*weights.shape[:-1], extent), weights.dtype)
    for place in np.ndindex(*weights.shape):
        W[(*place[:-1], index[place[-index.ndim :]])] += weights[place]
    return W


def bases(rng):
    """Operators of size 6 with single entries at hand, and one without."""
    a, b, u = rng.normal(size=(2, 2)), rng.normal(size=(3, 3)), rng.normal(size=(6, 2))
    full, d = rng.normal(size=(6, 6)), rng.normal(size=6)
    sparse = np.zeros((6, 6))
    sparse[np.arange(6), [0, 1, 2, 2, 1, 0]] = d
    return [
        (lambda f: ops.Dense(f(full)), full),
        (lambda f: ops.Diagonal(f(d)), np.diag(d)),
        (lambda f: cola.kron(ops.Dense(f(a)), ops.Dense(f(b))), np.kron(a, b)),
        (lambda f: ops.LowRank(f(u)) + 2.0 * ops.Dense(f(full)), u @ u.T + 2 * full),
        (lambda f: ops.Kernel(f(u), None, lambda a, b: a @ b.T + 1), u @ u.T + 1),
        (lambda f: ops.Toeplitz(f(full[0]), f(full[1])), sl.toeplitz(full[0], full[1])),
        (lambda f: ops.Circulant(f(full[0])), sl.circulant(full[0])),
        (lambda f: ops.Sparse(f(d), np.arange(6), np.array([0, 1, 2, 2, 1, 0]), (6, 6)), sparse),
        (lambda f: ops.Dense(f(full)) + 0.5 * ops.Identity(6), full + 0.5 * np.eye(6)),
        (lambda f: ops.Dense(f(full)) @ ops.Dense(f(full)), full @ full),
    ]


def test_products_diagonals_and_parts(backend, rng):
    f = backend.asarray
    li, lw = rng.integers(0, 6, (5, 3)), rng.normal(size=(5, 3))
    ri, rw = rng.integers(0, 6, (7, 2)), rng.normal(size=(7, 2))
    W, V, X = matrix(li, lw, 6), matrix(ri, rw, 6), rng.normal(size=(2, 7, 2))
    for build, K in bases(rng):
        A, D = ops.Interpolated(build(f), f(li), f(lw), f(ri), f(rw)), W @ K @ V.T
        close(backend, A.to_dense(), D, "float64")
        close(backend, A @ f(X), D @ X, "float64")
        close(backend, A.H.to_dense(), D.T, "float64")
        for k in (0, 2, -3):
            close(backend, cola.diag(A, k), np.diag(D, k), "float64")
        close(backend, A[1], D[1], "float64")
        close(backend, A[:, -1], D[:, -1], "float64")
        part = A[1:3, [4, 0]]
        assert isinstance(part, ops.Interpolated)
        close(backend, part.to_dense(), D[1:3][:, [4, 0]], "float64")
        B = ops.Interpolated(build(f), f(li), f(lw))
        close(backend, cola.trace(B), np.trace(W @ K @ W.T), "float64", 10)


def test_properties_and_complex_entries(backend, rng):
    f = backend.asarray
    K, w, index = spd(rng, 6, True), draw(rng, 4, 2, cplx=True), rng.integers(0, 6, (4, 2))
    W = matrix(index, w, 6)
    A = ops.Interpolated(PSD(ops.Dense(f(K))), index, f(w))
    assert A.isa(PSD) and A[1:3, 1:3].isa(PSD) and not A[1:3, 0:2].isa(SelfAdjoint)
    D = W @ K @ W.conj().T
    for B, M in ((A, D), (A.T, D.T), (A.conj(), D.conj())):
        close(backend, B.to_dense(), M, "complex128")
    cola.check_properties(A)
    general = draw(rng, 6, 6, cplx=True)
    B = ops.Interpolated(ops.Dense(f(general)), index, f(w))
    D = W @ general @ W.conj().T
    assert not B.properties
    for C, M in ((B.H, D.conj().T), (B.T, D.T), (B.conj(), D.conj())):
        close(backend, C.to_dense(), M, "complex128")
    close(backend, cola.diag(B), np.diag(D), "complex128")


def test_batches_of_weights_and_of_bases(backend, rng):
    f = backend.asarray
    index, w = rng.integers(0, 4, (3, 5, 2)), rng.normal(size=(3, 5, 2))
    K, Ks = rng.normal(size=(4, 4)), rng.normal(size=(2, 1, 4, 4))
    W = matrix(index, w, 4)
    for base in (K, Ks):
        D = W @ base @ W.swapaxes(-1, -2)
        A = ops.Interpolated(ops.Dense(f(base)), f(index), f(w))
        assert A.shape == D.shape
        close(backend, A.to_dense(), D, "float64")
        X = rng.normal(size=(5, 2))
        close(backend, A @ f(X), D @ X, "float64")
        close(backend, A.T.to_dense(), D.swapaxes(-1, -2), "float64")
        close(backend, cola.diag(A), np.diagonal(D, axis1=-2, axis2=-1), "float64")
    same = ops.Interpolated(ops.Dense(f(K)), f(index[0]), f(w))
    V = matrix(index[0], w, 4)
    close(backend, same.to_dense(), V @ K @ V.swapaxes(-1, -2), "float64")


@pytest.mark.parametrize("order", ["linear", "cubic"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_weights_against_scipy_and_polynomials(backend, dtype, order, rng):
    grid = np.linspace(-1, 2, 7).astype(dtype)
    x = np.concatenate([rng.uniform(-1, 2, 20), [-1, 2, -0.99, 1.99], grid]).astype(dtype)
    index, w = interpolation(backend, grid, x, order)
    W = matrix(index, w, 7)
    close(backend, backend.asarray(W.sum(1)), np.ones(len(x)), dtype)
    assert (w.dtype == dtype) and w.shape[1] == (4 if order == "cubic" else 2)
    for power in range(3 if order == "cubic" else 2):
        np.testing.assert_allclose(W @ grid**power, x**power, atol=1e-12 if dtype == "float64" else 1e-5)
    np.testing.assert_allclose(W[24:], np.eye(7), atol=1e-12 if dtype == "float64" else 1e-5)
    if order == "linear" and dtype == "float64":
        want = RegularGridInterpolator((grid,), np.sin(grid))(x[:, None])
        np.testing.assert_allclose(W @ np.sin(grid), want, atol=1e-12)


def interpolation(backend, grid, x, order):
    index, w = ops.interpolation_weights(grid, backend.asarray(x), order=order)
    return backend.to_numpy(index), backend.to_numpy(w)


def test_cubic_interpolation_has_third_order(rng):
    errors = []
    x = rng.uniform(0, 1, 200)
    for g in (20, 40, 80):
        grid = np.linspace(0, 1, g)
        index, w = ops.interpolation_weights(grid, x)
        errors.append(np.abs((w * np.sin(5 * grid)[index]).sum(1) - np.sin(5 * x)).max())
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (rates > 2.6).all(), rates


def test_product_grids(backend, rng):
    axes = (np.linspace(0, 1, 5), np.linspace(-1, 1, 4))
    x = np.stack([rng.uniform(0, 1, 9), rng.uniform(-1, 1, 9)], axis=1)
    index, w = interpolation(backend, axes, x, "linear")
    values = rng.normal(size=(5, 4))
    want = RegularGridInterpolator(axes, values)(x)
    np.testing.assert_allclose((w * values.ravel()[index]).sum(1), want, atol=1e-12)
    index, w = interpolation(backend, axes, x, "cubic")
    values = (axes[0] ** 2)[:, None] * axes[1] + axes[1] ** 2
    assert w.shape == (9, 16)
    np.testing.assert_allclose(
        (w * values.ravel()[index]).sum(1), x[:, 0] ** 2 * x[:, 1] + x[:, 1] ** 2, atol=1e-12
    )


def test_structured_kernel_interpolation_solves(backend, rng):
    f = backend.asarray
    grid, x = np.linspace(0, 1, 40), rng.uniform(0, 1, 60)
    K = np.exp(-0.5 * (grid[:, None] - grid[None]) ** 2 / 0.3**2)
    index, w = ops.interpolation_weights(f(grid), f(x))
    A = ops.Interpolated(PSD(ops.Dense(f(K))), index, w) + 0.1 * ops.Identity(60)
    exact = np.exp(-0.5 * (x[:, None] - x[None]) ** 2 / 0.3**2) + 0.1 * np.eye(60)
    np.testing.assert_allclose(backend.to_numpy(A.to_dense()), exact, atol=1e-4)
    b = rng.normal(size=60)
    got, info = cola.solve(A, f(b), cola.CG(tol=1e-8), return_info=True)
    assert info.converged
    D = backend.to_numpy(A.to_dense())
    np.testing.assert_allclose(
        backend.to_numpy(got), np.linalg.solve(D, b), atol=1e-5 * np.abs(b).max() / 0.1
    )


def test_cost_does_not_know_the_square(rng):
    n, p, r = 5000, 4, 100
    A = ops.Interpolated(ops.Diagonal(np.ones(r)), rng.integers(0, r, (n, p)), rng.normal(size=(n, p)))
    assert A.matvec_cost.flops <= 4 * n * p + 10 * r


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_gradients_in_weights_base_and_places(library, rng):
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    from cola_core.backends import get_backend

    be = get_backend(library)
    grid = np.linspace(0, 1, 6)
    v, h = be.asarray(rng.normal(size=4)), 1e-6
    x0, K0 = rng.uniform(0.05, 0.95, 4), rng.normal(size=(6, 6))

    def loss(x, K):
        index, w = ops.interpolation_weights(be.asarray(grid), x)
        A = ops.Interpolated(ops.Dense(K), index, w)
        return be.xp.sum(v * (A @ v)) + be.xp.sum(cola.diag(A) ** 2)

    placed = [be.asarray(x0), be.asarray(K0)]
    if library == "torch":
        import torch

        assert torch.autograd.gradcheck(loss, [x.requires_grad_(True) for x in placed])
        return
    import jax

    grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(*placed)
    for i, x in enumerate((x0, K0)):
        d = rng.normal(size=x.shape)
        ends = [placed[:i] + [be.asarray(x + s * h * d)] + placed[i + 1 :] for s in (1, -1)]
        numeric = (float(loss(*ends[0])) - float(loss(*ends[1]))) / (2 * h)
        assert float(np.sum(np.asarray(grads[i]) * d)) == pytest.approx(numeric, rel=1e-5, abs=1e-6)


def test_wrong_input_is_refused(rng):
    K, w = ops.Dense(rng.normal(size=(4, 4))), rng.normal(size=(3, 2))
    index = np.array([[0, 1], [2, 3], [1, 1]])
    for build, text in (
        (lambda: ops.Interpolated(K, index + 1, w), "outside"),
        (lambda: ops.Interpolated(K, index[:2], w), "must both be"),
        (lambda: ops.Interpolated(K, index * 1.0, w), "integers"),
        (lambda: ops.Interpolated(K, index, w, index), "together"),
        (lambda: ops.Interpolated(np.ones((3, 4)), index, w), "rectangular"),
        (lambda: ops.interpolation_weights(np.array([0, 1, 3.0]), w[:, 0], "linear"), "equally spaced"),
        (lambda: ops.interpolation_weights(np.linspace(0, 1, 5), np.array([1.5])), "outside the grid"),
        (lambda: ops.interpolation_weights(np.linspace(0, 1, 2), np.array([0.5])), "at least 3"),
        (lambda: ops.interpolation_weights(np.linspace(0, 1, 5), np.ones((3, 2))), r"\(n, 1\)"),
        (lambda: ops.interpolation_weights(np.linspace(0, 1, 5), np.ones(3), "quintic"), "cubic"),
    ):
        with pytest.raises(ShapeError, match=text):
            build()
