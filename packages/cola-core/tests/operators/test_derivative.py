"""Jacobians, Hessians, Gauss-Newton and Fisher operators against derivatives worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from compare import close
from zoo import installed

import cola_core as cola
from cola_core import PSD, SelfAdjoint, ops
from cola_core.errors import BackendError, DTypeError, ShapeError, UnknownNameError

AUTODIFF = [
    pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
    for name in ("torch", "jax")
]
each = pytest.mark.parametrize("library", AUTODIFF)


def problem(backend, rng, m=4, n=3, dtype="float64"):
    """f(x) = sin(W x)^2 with its Jacobian and the Hessian of sum(f)."""
    W0, x0 = rng.normal(size=(m, n)).astype(dtype), rng.normal(size=n).astype(dtype)
    W, x, xp = backend.asarray(W0), backend.asarray(x0), backend.xp

    def f(x):
        return xp.sin(W @ x) ** 2

    z = W0 @ x0
    return f, x, np.diag(np.sin(2 * z)) @ W0, W0.T @ np.diag(2 * np.cos(2 * z)) @ W0


@each
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_products_and_dense_forms(backend, library, dtype, rng):
    for m, n in ((4, 3), (2, 5), (1, 1)):
        f, x, J, H = problem(backend, rng, m, n, dtype)
        A = ops.Jacobian(f, x, block=2)
        close(backend, A.to_dense(), J, dtype)
        close(backend, A.H.to_dense(), J.T, dtype)
        X, U = rng.normal(size=(2, n, 3)).astype(dtype), rng.normal(size=(m, 0)).astype(dtype)
        close(backend, A @ backend.asarray(X), J @ X, dtype)
        close(backend, A.T @ backend.asarray(U), J.T @ U, dtype)
        z = (rng.normal(size=m) + 1j * rng.normal(size=m)).astype("complex128")
        close(backend, A.H @ backend.asarray(z), J.T @ z, dtype)
        B = ops.Hessian(lambda x, f=f: backend.xp.sum(f(x)), x)
        assert B.isa(SelfAdjoint) and not B.isa(PSD)
        close(backend, B.to_dense(), H, dtype)
        assert str(B.to_dense().dtype).endswith(dtype)
    cola.check_properties(B)


@each
def test_complex_points_and_complex_values(backend, library, rng):
    W0, x0 = rng.normal(size=(3, 3)), rng.normal(size=3) + 1j * rng.normal(size=3)
    W = backend.asarray(W0.astype(complex))
    J = np.diag(2j * (W0 @ x0)) @ W0
    A = ops.Jacobian(lambda x: 1j * (W @ x) ** 2, backend.asarray(x0))
    for B, D in ((A, J), (A.H, J.conj().T), (A.T, J.T), (A.conj(), J.conj())):
        close(backend, B.to_dense(), D, "complex128")
    real = ops.Jacobian(lambda x: 1j * (W @ (x + 0j)) ** 2, backend.asarray(x0.real))
    J = np.diag(2j * (W0 @ x0.real)) @ W0
    close(backend, real.to_dense(), J, "complex128")
    close(backend, real.H @ backend.asarray(x0), J.conj().T @ x0, "complex128")
    H = ops.Hessian(lambda x: backend.xp.sum((W @ x) ** 3), backend.asarray(x0))
    D = W0.T @ np.diag(6 * (W0 @ x0)) @ W0
    assert not H.isa(SelfAdjoint)
    close(backend, H.to_dense(), D, "complex128")
    close(backend, H.H.to_dense(), D.conj().T, "complex128")
    with pytest.raises(DTypeError, match="real and imaginary parts"):
        ops.Jacobian(lambda x: backend.xp.abs(x), backend.asarray(x0))
    with pytest.raises(DTypeError, match="real or imaginary part"):
        ops.Hessian(lambda x: backend.xp.sum(1j * x), backend.asarray(x0.real))


@each
def test_trees_of_arrays(backend, library, rng):
    a, b = rng.normal(size=(2, 2)), rng.normal(size=3)
    x = {"b": [backend.asarray(b)], "a": backend.asarray(a)}

    def f(x):
        return (backend.xp.sum(x["a"] ** 2) * x["b"][0], x["a"][0])

    J = ops.Jacobian(f, x)
    D = np.zeros((5, 7))
    D[:3, :4] = np.outer(b, 2 * a.ravel())
    D[:3, 4:] = (a**2).sum() * np.eye(3)
    D[3:, :2] = np.eye(2)
    close(backend, J.to_dense(), D, "float64")
    v = rng.normal(size=7)
    tree = J.unravel(backend.asarray(v))
    close(backend, tree["a"], v[:4].reshape(2, 2), "float64")
    close(backend, tree["b"][0], v[4:], "float64")
    close(backend, J.ravel(tree), v, "float64")
    first, second = J.unravel_value(J @ J.ravel(tree))
    assert tuple(first.shape) == (3,) and tuple(second.shape) == (2,)
    close(backend, second, v[:2], "float64")


@each
def test_gauss_newton_and_fisher(backend, library, rng):
    f, x, J, _ = problem(backend, rng)
    xp = backend.xp
    G = ops.GaussNewton(f, x)
    assert G.isa(PSD)
    close(backend, G.to_dense(), J.T @ J, "float64")
    y = backend.asarray(rng.normal(size=4))
    G = ops.GaussNewton(f, x, lambda z, y: xp.sum((z - y) ** 4), y)
    assert not G.isa(PSD) and G.isa(SelfAdjoint)
    r = backend.to_numpy(f(x) - y)
    close(backend, G.to_dense(), J.T @ np.diag(12 * r**2) @ J, "float64")
    pairs = ops.GaussNewton(f, x, lambda z, y: xp.sum((z - y["t"]) ** 4), {"t": y})
    close(backend, pairs.to_dense(), J.T @ np.diag(12 * r**2) @ J, "float64")
    z = backend.to_numpy(f(x))
    p = 1 / (1 + np.exp(-z))
    for likelihood, F in (("gaussian", np.ones(4)), ("bernoulli", p * (1 - p)), ("poisson", np.exp(z))):
        A = ops.Fisher(f, x, likelihood)
        assert A.isa(PSD) and A.count == 4
        close(backend, A.to_dense(), J.T @ np.diag(F) @ J / 4, "float64")
    by_function = ops.Fisher(f, x, lambda z: xp.sum(xp.log(1 + xp.exp(z))), mean=False)
    close(backend, by_function.to_dense(), J.T @ np.diag(p * (1 - p)) @ J, "float64")
    A = cola.ops.FIM(lambda t: xp.reshape(f(t), (2, 2)), x)
    q = np.exp(z.reshape(2, 2))
    q /= q.sum(1, keepdims=True)
    F = np.zeros((4, 4))
    for i in range(2):
        F[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = np.diag(q[i]) - np.outer(q[i], q[i])
    close(backend, A.to_dense(), J.T @ F @ J / 2, "float64")
    cola.check_properties(A)


@each
def test_questions_go_through_the_general_algorithms(backend, library, rng):
    f, x, J, H = problem(backend, rng, 8, 6)
    b = rng.normal(size=6)
    A = ops.GaussNewton(f, x) + 0.5 * ops.Identity(6)
    got, info = cola.solve(A, backend.asarray(b), cola.CG(tol=1e-10), return_info=True)
    assert info.converged
    close(backend, got, np.linalg.solve(J.T @ J + 0.5 * np.eye(6), b), "float64", 1e3)
    B = ops.Hessian(lambda x: backend.xp.sum(f(x)), x)
    want = np.linalg.eigvalsh(H)
    w, V = cola.eigh(B, 2, "LA", cola.Lanczos())
    close(backend, w, want[-2:], "float64", 1e3)
    close(backend, B @ V.to_dense(), H @ backend.to_numpy(V.to_dense()), "float64", 1e2)
    close(backend, cola.trace(B), np.trace(H), "float64", 10)
    close(backend, cola.diag(ops.Jacobian(f, x), -1), np.diag(J, -1), "float64")
    assert "solve/cg" in str(cola.explain(cola.solve, A, backend.asarray(b), cola.CG()))


@each
def test_derivatives_through_the_point(backend, library, rng):
    f, x, J, _ = problem(backend, rng)
    v, w = backend.asarray(rng.normal(size=3)), backend.asarray(rng.normal(size=4))
    xp, h = backend.xp, 1e-6

    def total(f):
        return lambda x: xp.sum(f(x))

    losses = [
        lambda x: xp.sum(w * (ops.Jacobian(f, x) @ v)),
        lambda x: xp.sum(v * (ops.Hessian(total(f), x) @ v)),
        lambda x: xp.sum(
            v * cola.solve(ops.GaussNewton(f, x) + 0.1 * ops.Identity(3), v, cola.CG(tol=1e-12))
        ),
    ]
    for loss in losses:
        if library == "torch":
            import torch

            fresh = x.clone().requires_grad_(True)
            (grad,) = torch.autograd.grad(loss(fresh), fresh)
        else:
            import jax

            grad = jax.jit(jax.grad(loss))(x)
        numeric = (float(loss(x + h * v)) - float(loss(x - h * v))) / (2 * h)
        analytic = float(xp.sum(grad * v))
        assert analytic == pytest.approx(numeric, rel=1e-5, abs=1e-6)


@each
def test_a_kept_linearisation_is_the_same_matrix(backend, library, rng):
    f, x, J, H = problem(backend, rng)
    L = ops.Jacobian(f, x).linearized()
    close(backend, L.to_dense(), J, "float64")
    close(backend, L.H.to_dense(), J.T, "float64")
    B = ops.Hessian(lambda x: backend.xp.sum(f(x)), x).linearized()
    assert B.isa(SelfAdjoint)
    close(backend, B.to_dense(), H, "float64")


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
def test_many_right_sides_are_one_vectorised_call():
    import jax.numpy as jnp

    calls = []

    def f(x):
        calls.append(1)
        return x**2

    A = ops.Jacobian(f, jnp.arange(3.0))
    calls.clear()
    A @ jnp.ones((3, 40))
    assert len(calls) == 1


def square(x):
    return x * x


def test_numpy_says_what_to_do():
    A = ops.Jacobian(square, np.ones(3))  # the shape is known, products are not
    assert A.shape == (3, 3)
    for act in (lambda: A @ np.ones(3), lambda: A.H @ np.ones(3), A.to_dense):
        with pytest.raises(BackendError, match="PyTorch or JAX"):
            act()


def test_wrong_input_is_refused():
    with pytest.raises(ShapeError, match="one number"):
        ops.Hessian(square, np.ones(3))
    with pytest.raises(TypeError, match="must be a function"):
        ops.Jacobian(np.ones((2, 2)), np.ones(2))
    with pytest.raises(UnknownNameError, match="categorical"):
        ops.Fisher(square, np.ones(3), "student")
    with pytest.raises(ShapeError, match="classes"):
        ops.Fisher(np.sum, np.ones(3))
    with pytest.raises(ShapeError, match="block"):
        ops.Jacobian(square, np.ones(3), block=0)
    with pytest.raises(DTypeError, match="real model"):
        ops.GaussNewton(square, np.ones(3) + 0j, np.sum)
