"""Kernel operators: values, parts, transposes, bounded memory, gradients in points and parameters."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from compare import close
from zoo import installed

import cola_core as cola
from cola_core import PSD, SelfAdjoint, ops
from cola_core.backends import backend_of
from cola_core.errors import ShapeError


def distances(a, b):
    return (a * a).sum(-1)[:, None] + (b * b).sum(-1)[None, :] - 2 * a @ b.T


def rbf(a, b):
    return backend_of(a).xp.exp(-0.5 * distances(a, b))


def scaled(a, b, p):
    return p["variance"] * backend_of(a).xp.exp(-distances(a, b) / p["length"] ** 2)


def skewed(a, b):
    """Not symmetric, and complex where the points are."""
    return a @ b.T + (a * a).sum(-1)[:, None]


def test_blocks_of_any_size_give_the_same_product(backend, rng):
    a, b, X = rng.normal(size=(7, 2)), rng.normal(size=(5, 2)), rng.normal(size=(2, 5, 3))
    D = rbf(a, b)
    f = backend.asarray
    few = ((None, None), (3, 2))  # JAX compiles every one of them
    for sizes in few if backend.name == "jax" else (*few, (1, 1), (4, None), (None, 2), (100, 100)):
        A = ops.Kernel(f(a), f(b), rbf, *sizes)
        close(backend, A @ f(X), D @ X, "float64")
        close(
            backend, A.T @ f(X[:, :0, :1] if False else rng.normal(size=(7, 0))), np.zeros((5, 0)), "float64"
        )
        close(backend, A.H @ f(np.ones(7)), D.T @ np.ones(7), "float64")
    close(backend, A.to_dense(), D, "float64")


def test_rows_columns_entries_slices_and_diagonals(backend, rng):
    a, b = rng.normal(size=(6, 2)), rng.normal(size=(4, 2))
    f, D = backend.asarray, rbf(a, b)
    A = ops.Kernel(f(a), f(b), rbf)
    for B, M in ((A, D), (A.T, D.T)):
        for i in (0, -1):
            close(backend, B[i], M[i], "float64")
            close(backend, B[:, i], M[:, i], "float64")
            close(backend, B[i, 1:3], M[i, 1:3], "float64")
        close(backend, B[2, 1], M[2, 1], "float64")
        part = B[1:3, [0, 3, 0]]
        assert isinstance(part, ops.Kernel) and part.x1.shape[0] + part.x2.shape[0] == 5
        close(backend, part.to_dense(), M[1:3][:, [0, 3, 0]], "float64")
        for k in (-5, -1, 0, 2, 9):
            close(backend, cola.diag(B, k), np.diag(M, k), "float64")
    K = PSD(ops.Kernel(f(a), None, rbf))
    assert K[1:4, 1:4].isa(PSD) and not K[1:4, 0:3].isa(SelfAdjoint)
    assert isinstance(K[1:4, 1:4], ops.Kernel)
    close(backend, cola.trace(K), 6.0, "float64")
    with pytest.raises(IndexError):
        A[6]
    with pytest.raises(ShapeError, match="out of range"):
        A[[0, 6], :]


def test_diagonals_do_not_evaluate_all_pairs(rng):
    counted = []

    def fn(a, b):
        counted.append(a.shape[0] * b.shape[0])
        return rbf(a, b)

    A = ops.Kernel(rng.normal(size=(3000, 2)), None, fn)
    cola.trace(A), cola.diag(A), A[5], A[:, 5], A[5, 7]
    assert sum(counted) < 3000**2 / 20


def test_complex_points_and_unsymmetric_functions(backend, rng):
    a = rng.normal(size=(4, 2)) + 1j * rng.normal(size=(4, 2))
    A, D = ops.Kernel(backend.asarray(a), None, skewed, 3), skewed(a, a)
    assert not A.isa(SelfAdjoint)
    for B, M in ((A, D), (A.T, D.T), (A.H, D.conj().T), (A.conj(), D.conj()), (A.H.T, D.conj())):
        close(backend, B.to_dense(), M, "complex128")
        close(backend, B @ backend.asarray(a), M @ a, "complex128")
        close(backend, cola.diag(B, 1), np.diag(M, 1), "complex128")


def test_batches_of_points(backend, rng):
    a, b = rng.normal(size=(2, 1, 4, 3)), rng.normal(size=(3, 5, 3))
    D = np.stack([np.stack([rbf(x, y) for y in b]) for x in a[:, 0]])
    A = ops.Kernel(backend.asarray(a), backend.asarray(b), rbf, 3, 2)
    assert A.shape == D.shape
    X = rng.normal(size=(5, 2))
    close(backend, A @ backend.asarray(X), D @ X, "float64")
    close(backend, A.H.to_dense(), D.swapaxes(-1, -2), "float64")
    close(backend, cola.diag(A), np.diagonal(D, axis1=-2, axis2=-1), "float64")
    close(backend, A[1:3, :2].to_dense(), D[..., 1:3, :2], "float64")


def test_memory_of_a_product_is_that_of_a_block(rng):
    n = 4000  # the matrix would take 128 MB
    shapes = []

    def fn(a, b):
        shapes.append((a.shape[0], b.shape[0]))
        return rbf(a, b)

    A = ops.Kernel(rng.normal(size=(n, 2)), None, fn, 200, 500)
    x = rng.normal(size=n)
    shapes.clear()
    tracemalloc.start()
    A @ x
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(p * q for p, q in shapes) <= 200 * 500 and len(shapes) == 20 * 8
    assert peak < 6 * 8 * 200 * 500
    default = ops.Kernel(A.x1, None, fn)
    shapes.clear()
    default @ x
    assert max(p * q for p, q in shapes) <= 2**21


def test_cost_lets_the_size_decide(rng):
    small = PSD(ops.Kernel(rng.normal(size=(50, 2)), None, rbf)) + 0.1 * ops.Identity(50)
    assert "cholesky" in str(cola.explain(cola.solve, small, np.ones(50)))
    one = small.matvec_cost
    assert one.flops > 22 * 50 * 50 and one.memory < 8 * 50 * 60
    assert ops.Kernel(rng.normal(size=(50, 2)), None, rbf).matmat_cost(10).flops < 5 * one.flops


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_gradients_in_points_and_parameters(library, rng):
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    from cola_core.backends import get_backend

    be = get_backend(library)
    arrays = [rng.normal(size=(6, 2)), rng.normal(size=(5, 2)), np.asarray(1.3), np.asarray(0.8)]
    X, W = be.asarray(rng.normal(size=(5, 2))), be.asarray(rng.normal(size=(6, 2)))

    def loss(a, b, variance, length):
        A = ops.Kernel(a, b, scaled, 4, 2, params={"variance": variance, "length": length})
        return be.xp.sum(W * (A @ X)) + be.xp.sum(cola.diag(A) ** 2)

    placed = [be.asarray(x) for x in arrays]
    if library == "torch":
        import torch

        for x in placed:
            x.requires_grad_(True)
        assert torch.autograd.gradcheck(loss, placed)
        assert torch.autograd.gradgradcheck(loss, placed)
        return
    import jax

    grads = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*placed)
    for i, (x, g) in enumerate(zip(arrays, grads, strict=True)):
        d, h = rng.normal(size=x.shape), 1e-6
        ends = [placed[:i] + [be.asarray(x + s * h * d)] + placed[i + 1 :] for s in (1, -1)]
        numeric = (float(loss(*ends[0])) - float(loss(*ends[1]))) / (2 * h)
        assert float(np.sum(np.asarray(g) * d)) == pytest.approx(numeric, rel=1e-6, abs=1e-6)


@pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
def test_the_derivative_keeps_no_block_either(rng):
    import torch

    kept = []

    def pack(t):
        kept.append(t.numel())
        return t

    x = torch.as_tensor(rng.normal(size=(300, 2))).requires_grad_(True)
    A = ops.Kernel(x, None, rbf, 50, 60)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = A @ torch.ones(300, dtype=torch.float64)
    assert max(kept, default=0) <= 600
    y.sum().backward()
    assert x.grad is not None


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
def test_jax_compiles_one_block(rng):
    import jax
    import jax.numpy as jnp

    A = ops.Kernel(jnp.asarray(rng.normal(size=(640, 2))), None, rbf, 32, 40)
    X = jnp.ones((640, 1))
    program = jax.make_jaxpr(lambda A, X: A @ X)(A, X)
    assert str(program).count("exp ") == 1 and "640,640" not in str(program)
    close(backend_of(X), jax.jit(lambda A, X: A @ X)(A, X), A.to_dense() @ X, "float64", 1e3)


def test_wrong_input_is_refused(rng):
    x = rng.normal(size=(4, 2))
    with pytest.raises(TypeError, match="must be a function"):
        ops.Kernel(x, x, None)
    with pytest.raises(ShapeError, match="one dimension"):
        ops.Kernel(x, x[:, :1], rbf)
    with pytest.raises(ShapeError, match="all pairs"):
        ops.Kernel(x, x, lambda a, b: a @ b.T @ b)
    with pytest.raises(ShapeError, match="block_size1"):
        ops.Kernel(x, x, rbf, 0)
    with pytest.raises(ShapeError, match="at least 2 axes"):
        ops.Kernel(x[:, 0], None, rbf)
    empty = ops.Kernel(x[:0], x, rbf)
    assert (empty @ np.ones(4)).shape == (0,) and (empty.T @ np.ones(0)).shape == (4,)
