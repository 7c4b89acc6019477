"""Sylvester and Lyapunov equations, Kronecker sums and shifted Kronecker products of general factors."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.linalg as sl
from compare import close

import cola_core as cola
from cola_core import ops
from cola_core.errors import IllConditionedWarning, NonSquareError, ShapeError, SingularMatrixError


def well(rng, n, dtype, shift=4.0):
    a = rng.normal(size=(n, n)) + (1j * rng.normal(size=(n, n)) if "complex" in dtype else 0)
    return (a + shift * np.eye(n)).astype(dtype)


def kronsum(*Ms):
    return functools.reduce(lambda A, B: np.kron(A, np.eye(len(B))) + np.kron(np.eye(len(A)), B), Ms)


@pytest.mark.parametrize(("m", "n"), [(3, 5), (1, 4), (7, 1), (0, 3), (80, 70)])
def test_against_scipy(backend, dtype, rng, m, n):
    if m == 80 and backend.name == "jax":
        pytest.skip("LAPACK on the host, as on NumPy")
    A, B = well(rng, m, dtype, 10), well(rng, n, dtype, 10)
    C = well(rng, max(m, n), dtype)[:m, :n]
    X = cola.sylvester(*map(backend.asarray, (A, B, C)))
    want = sl.solve_sylvester(A, B, C) if m else np.zeros((0, n))
    close(backend, X, want, dtype, scale=100)
    assert str(X.dtype).endswith(dtype)


def test_structured_and_mixed_operands(backend, rng):
    f, num = backend.asarray, backend.to_numpy
    a, d, C = well(rng, 4, "float64"), rng.normal(size=3) + 6, rng.normal(size=(4, 3))
    X = num(cola.sylvester(ops.Triangular(f(a)), ops.Diagonal(f(d)), f(C)))
    np.testing.assert_allclose(np.tril(a) @ X + X * d, C, atol=1e-12)
    s = a + a.T
    X, info = cola.sylvester(cola.PSD(f(s @ s)), cola.PSD(f(np.eye(3))), f(C), return_info=True)
    np.testing.assert_allclose(s @ s @ num(X) + num(X), C, atol=1e-10)
    assert info.rule == "core:solve/kronsum" and info.residual < 1e-12
    Z = num(cola.sylvester(f(a + 1j * s), f(np.diag(d)), f(C)))
    np.testing.assert_allclose((a + 1j * s) @ Z + Z * d, C, atol=1e-12)


def test_lyapunov(backend, rng):
    a = rng.normal(size=(5, 5)) - 6 * np.eye(5)
    q = rng.normal(size=(5, 5))
    X = backend.to_numpy(cola.lyapunov(backend.asarray(a), backend.asarray(-q @ q.T)))
    np.testing.assert_allclose(X, sl.solve_continuous_lyapunov(a, -q @ q.T), atol=1e-11)
    assert np.linalg.eigvalsh((X + X.T) / 2).min() > 0


def test_batches(backend, rng):
    f = backend.asarray
    A = np.stack([well(rng, 3, "float64", 5) for _ in range(4)]).reshape(2, 2, 3, 3)
    B, C = np.stack([well(rng, 4, "float64", 5) for _ in range(2)]), rng.normal(size=(2, 2, 3, 4))
    X = backend.to_numpy(cola.sylvester(f(A), f(B), f(C)))
    np.testing.assert_allclose(A @ X + X @ B, C, atol=1e-12)
    X = backend.to_numpy(cola.sylvester(f(A), f(B), f(C[0, 0])))
    np.testing.assert_allclose(A @ X + X @ B, np.broadcast_to(C[0, 0], X.shape), atol=1e-12)
    K = cola.kron(f(A), f(B)) + 0.5 * ops.Identity(12)
    b = rng.normal(size=(12, 2))
    x = backend.to_numpy(cola.solve(K, f(b)))
    np.testing.assert_allclose(backend.to_numpy(K.to_dense()) @ x, np.broadcast_to(b, x.shape), atol=1e-11)


@pytest.mark.parametrize("seed", range(3))
def test_three_factors_and_shifts(backend, dtype, seed):
    rng = np.random.default_rng(seed)
    f = backend.asarray
    a, b, c = (well(rng, n, dtype) for n in (2, 3, 4))
    z = 1.5 - 0.5j if "complex" in dtype else 1.5
    rhs = well(rng, 24, dtype)[:, :2]
    for A, D in (
        (cola.kronsum(f(a), f(b), f(c)), kronsum(a, b, c)),
        (cola.kron(f(a), f(b), f(c)) + z * ops.Identity(24), np.kron(np.kron(a, b), c) + z * np.eye(24)),
        (2 * cola.kronsum(f(a), f(b), f(c)) + z * ops.Identity(24), 2 * kronsum(a, b, c) + z * np.eye(24)),
    ):
        x, info = cola.solve(A, f(rhs), return_info=True)
        assert info.rule in ("core:solve/kronsum-schur", "core:solve/kronecker-shift")
        close(backend, x, np.linalg.solve(D, rhs), dtype, scale=10)
        close(backend, cola.inv(A).H @ f(rhs), np.linalg.solve(D.conj().T, rhs), dtype, scale=10)
        sign, value = cola.slogdet(A)
        want = np.linalg.slogdet(D.astype("complex128" if "complex" in dtype else "float64"))
        close(backend, value, want[1], dtype, scale=100)
        close(backend, sign, want[0], dtype, scale=10)


def test_far_from_normal_factors_lose_nothing():
    """An eigenvector basis of these has a condition number beyond 1/eps: it would lose everything."""
    n = 24
    J = 3 * np.eye(n) + np.diag(np.ones(n - 1), 1)
    C = np.random.default_rng(0).normal(size=(n, n))
    X = cola.sylvester(J, J.T, C)
    np.testing.assert_allclose(J @ X + X @ J.T, C, atol=1e-11)
    K = cola.kron(J, J) + 1.0 * ops.Identity(n * n)
    b = C.reshape(-1)
    np.testing.assert_allclose(K @ cola.solve(K, b), b, atol=1e-10)


def test_badly_scaled():
    rng = np.random.default_rng(3)
    for scale in (1e-150, 1e150):
        A, B, C = well(rng, 5, "float64") * scale, well(rng, 6, "float64") * scale, rng.normal(size=(5, 6))
        X = cola.sylvester(A, B, C)
        np.testing.assert_allclose(A @ X + X @ B, C, atol=1e-11)


def test_singular_equations(backend):
    f = backend.asarray
    A, C = f(np.array([[100.0, 2.0], [0.0, 3.0]])), f(np.ones((2, 1)))
    with pytest.raises(SingularMatrixError, match="in common"):
        cola.sylvester(A, f(np.array([[-3.0]])), C)
    with pytest.warns(IllConditionedWarning):
        cola.sylvester(A, f(np.array([[-3.0 + 5e-16]])), C)


def test_misuse():
    A = np.eye(3)
    with pytest.raises(NonSquareError):
        cola.sylvester(np.ones((2, 3)), A, A)
    with pytest.raises(ShapeError, match="3, 2"):
        cola.sylvester(A, np.eye(2), np.ones((2, 3)))
    with pytest.raises(cola.errors.BackendError):
        cola.lyapunov(A, "Q")


def test_explicit_algorithms_are_respected(rng):
    A = cola.kronsum(well(rng, 3, "float64"), well(rng, 4, "float64"))
    b = rng.normal(size=12)
    for alg in (cola.LU(), cola.GMRES()):
        x, info = cola.solve(A, b, alg, return_info=True)
        assert info.rule == "" and np.abs(A @ x - b).max() < 1e-6


def test_plan_shows_the_schur_forms(rng):
    A = cola.kronsum(well(rng, 3, "float64"), well(rng, 4, "float64"))
    plan = cola.explain(cola.solve, A, rng.normal(size=12))
    assert plan.root.by == "core:solve/kronsum-schur"
    assert [n.question for n in plan.nodes()] == ["solve", "schur", "schur"]


def test_derivatives(library, backend, rng):
    if library == "numpy":
        pytest.skip("NumPy has no derivatives")
    arrays = [well(rng, 3, "float64"), well(rng, 2, "float64"), rng.normal(size=(3, 2))]
    tangents = [rng.normal(size=x.shape) for x in arrays]
    f = backend.asarray

    def value(A, B, C):
        b = backend.xp.reshape(C, (6,))
        x = cola.solve(cola.kron(A, B) + 0.5 * ops.Identity(6), b)
        return backend.xp.sum(cola.sylvester(A, B, C) ** 2) + backend.xp.sum(x**2)

    h = 1e-6
    up, down = ([f(x + s * h * t) for x, t in zip(arrays, tangents, strict=True)] for s in (1, -1))
    want = (float(value(*up)) - float(value(*down))) / (2 * h)
    if library == "torch":
        xs = [f(x).requires_grad_() for x in arrays]
        value(*xs).backward()
        grads = [x.grad.numpy() for x in xs]
    else:
        import jax

        grads = jax.jit(jax.grad(value, argnums=(0, 1, 2)))(*map(f, arrays))
    got = sum(float((np.asarray(g) * t).sum()) for g, t in zip(grads, tangents, strict=True))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_compiled_agrees_with_eager(rng):
    jax = pytest.importorskip("jax")
    a, b, c = (well(rng, n, "float64") for n in (2, 3, 2))
    rhs = rng.normal(size=12)

    def solve(a, b, c, rhs):
        K = cola.kronsum(a, b, c)
        P = cola.kron(a, b, c) + 0.5 * ops.Identity(12)
        return cola.solve(K, rhs), cola.solve(P, rhs), cola.slogdet(P)[1]

    for got, want in zip(jax.jit(solve)(a, b, c, rhs), solve(a, b, c, rhs), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_no_square_array_of_the_whole_size():
    import tracemalloc

    rng = np.random.default_rng(0)
    n = 48
    A = cola.kronsum(well(rng, n, "float64", 20), well(rng, n, "float64", 20))
    S = cola.kron(well(rng, n, "float64", 20), well(rng, n, "float64", 20)) + 0.5 * ops.Identity(n * n)
    b = rng.normal(size=n * n)
    for op in (A, S):
        cola.solve(op, b)
        tracemalloc.start()
        cola.solve(op, b)
        cola.slogdet(op)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * n**4 / 8, peak  # the dense matrix takes 42 MB


def test_complex_right_sides_of_real_kronecker_sums():
    """Real Schur forms have 2 x 2 blocks, which a complex triangular method would not see."""
    turn = np.array([[2.0, 1.0], [-3.0, 2.0]])
    b = np.array([1.0, 2.0, -1.0, 0.5]) + 1j * np.array([0.5, 1.0, 0.0, 2.0])
    K = cola.kronsum(turn, turn.T + np.eye(2))
    np.testing.assert_allclose(K @ cola.solve(K, b), b, atol=1e-12)
