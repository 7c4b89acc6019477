"""Real and imaginary parts, sums of entries, sums of operators, small helpers, and operators given by
functions."""

from __future__ import annotations

import numpy as np
import pytest
from compare import close
from zoo import ZOO, installed
from zoo.common import draw, spd, sym

import cola_core as cola
from cola_core import PSD, SelfAdjoint, ops
from cola_core.backends import get_backend
from cola_core.errors import ShapeError


@pytest.mark.parametrize("name", sorted(ZOO))
@pytest.mark.parametrize("cplx", [False, True])
def test_real_and_imaginary_parts_of_every_operator(name, cplx, rng):
    build, D = ZOO[name](rng, cplx)
    A = build(lambda x: np.asarray(x).astype(complex if cplx else float))
    scale = max(np.abs(D).max(), 1)
    for B, M in ((A.real, D.real), (A.imag, D.imag), (A.H.real, D.real.T), (A.T.imag, D.imag.T)):
        assert not B._is_complex() and B.shape == M.shape
        np.testing.assert_allclose(B.to_dense(), M, atol=1e-12 * scale)
        X = draw(rng, D.shape[1], 2, cplx=True) if B.shape == D.shape else draw(rng, D.shape[0], 2, cplx=True)
        np.testing.assert_allclose(B @ X, M @ X, atol=1e-10 * scale)
        np.testing.assert_allclose(B.H @ (M @ X).real, M.T @ (M @ X).real, atol=1e-9 * scale**2)
        cola.check_properties(B)
    if A.shape[0] == A.shape[1]:
        np.testing.assert_allclose(cola.trace(A.real), np.trace(D.real), atol=1e-10 * scale)
        np.testing.assert_allclose(cola.diag(A.imag), np.diag(D.imag), atol=1e-10 * scale)


def test_parts_keep_structure_and_properties(rng):
    P, S = PSD(spd(rng, 3, True)), SelfAdjoint(sym(rng, 3, True))
    assert P.real.isa(PSD) and S.real.isa(SelfAdjoint) and not S.imag.isa(SelfAdjoint)
    assert isinstance(P.real, ops.Dense) and isinstance((P + 2j * ops.Identity(3)).imag, ops.Sum)
    assert isinstance(cola.block_diag(P, S).real, ops.BlockDiag)
    K = PSD(cola.kron(P, P))
    assert isinstance(K.real, ops.RealPart) and K.real.isa(PSD)
    real = ops.Dense(np.eye(2))
    assert real.real is real and isinstance(real.imag, ops.Zero)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_sums_of_entries(name, rng):
    build, D = ZOO[name](rng, False)
    A = build(np.asarray)
    scale = np.abs(D).sum() + 1
    np.testing.assert_allclose(A.sum(), D.sum(), atol=1e-12 * scale)
    for axis in (0, 1, -1, -2):
        np.testing.assert_allclose(A.sum(axis), D.sum(axis), atol=1e-12 * scale)
    with pytest.raises(ShapeError, match="axes of the matrix"):
        A.sum(2)


def test_sums_on_batches_and_backends(backend, rng):
    a = rng.normal(size=(2, 3, 4))
    A = ops.Dense(backend.asarray(a))
    close(backend, A.sum(), a.sum((-1, -2)), "float64")
    close(backend, A.sum(-2), a.sum(-2), "float64")
    close(backend, A.sum(2), a.sum(2), "float64")
    with pytest.raises(ShapeError):
        A.sum(0)


def test_sum_of_operators(rng):
    a, b = rng.normal(size=(2, 3, 3))
    for S in (
        cola.sum(a, ops.Dense(b), ops.Identity(3)),
        cola.sum([a, b, np.eye(3)]),
        cola.sum(iter([a, b + np.eye(3)])),
    ):
        np.testing.assert_allclose(S.to_dense(), a + b + np.eye(3))
    assert cola.sum(ops.Dense(a)).array is a
    with pytest.raises(ShapeError, match="no operators"):
        cola.sum([])


@pytest.mark.parametrize("name", sorted(ZOO))
def test_helpers_on_every_operator(name, backend, rng):
    build, D = ZOO[name](rng, False)
    A = build(lambda x: backend.asarray(np.asarray(x, float)))
    assert cola.lazify(A) is A and cola.I_like(A).shape == (D.shape[1],) * 2
    close(backend, cola.densify(A), D, "float64")
    x = cola.densify(A)
    assert cola.densify(x) is x and isinstance(cola.lazify(x), ops.Dense)
    assert cola.I_like(A).backend is A.backend and cola.I_like(A).dtype == A.dtype
    hidden = cola.no_dispatch(A)
    assert hidden.properties == A.properties
    close(backend, hidden.to_dense(), D, "float64")


def test_helpers_on_batches(backend, rng):
    a = rng.normal(size=(2, 3, 3))
    A = ops.Dense(backend.asarray(a))
    close(backend, cola.densify(cola.no_dispatch(A)), a, "float64")
    close(backend, (cola.I_like(A) + A).to_dense(), a + np.eye(3), "float64")


# -- operators given by functions ----------------------------------------------------------------------------
def test_a_missing_adjoint_is_refused_where_it_is_asked_for():
    A = ops.FunctionOperator(lambda x: 2 * x, (3, 3))
    for act in (lambda: A.H, lambda: A.T, lambda: np.ones(3) @ A, lambda: A.H @ np.ones(3)):
        with pytest.raises(NotImplementedError, match="rmatvec"):
            act()
    assert SelfAdjoint(A).H.shape == (3, 3)


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("cplx", [False, True])
def test_derived_adjoints(library, cplx, rng):
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    be = get_backend(library)
    M = draw(rng, 3, 5, cplx=cplx)
    placed, dtype = be.asarray(M), "complex128" if cplx else "float64"
    for A in (
        ops.FunctionOperator(lambda x: placed @ x, (3, 5), dtype, backend=library),
        ops.FunctionOperator(None, (3, 5), dtype, matmat=lambda X: placed @ X, backend=library),
        ops.FunctionOperator(lambda x: placed @ x, (3, 5), dtype, vectorized=True, backend=library),
    ):
        close(be, A.to_dense(), M, dtype)
        close(be, A.H.to_dense(), M.conj().T, dtype)
        close(be, A.T @ be.asarray(M.conj()), M.T @ M.conj(), dtype)


def test_vectorized_functions_are_called_once(rng):
    M, calls = rng.normal(size=(4, 3)), []

    def f(x):
        calls.append(x.shape)
        return M @ x

    A = ops.FunctionOperator(f, (4, 3), rmatvec=lambda y: M.T @ y, vectorized=True)
    X = rng.normal(size=(3, 6))
    np.testing.assert_allclose(A @ X, M @ X)
    np.testing.assert_allclose(A @ X[:, 0], M @ X[:, 0])
    assert calls == [(3, 6), (3,)]
    np.testing.assert_allclose(A.H @ M, M.T @ M)


def test_a_function_of_the_wrong_shape_is_named(backend):
    xp, name = backend.xp, backend.name
    wrong = [
        ops.FunctionOperator(lambda x: x[:2], (3, 3), backend=name),
        ops.FunctionOperator(None, (3, 3), matmat=lambda X: X[:2], backend=name),
        ops.FunctionOperator(lambda x: x, (3, 3), rmatvec=lambda x: x[:2], backend=name).H,
    ]
    for A in wrong:
        for shape in ((3,), (3, 4), (2, 3, 4)):
            with pytest.raises(ShapeError, match="FunctionOperator.*must return"):
                A @ xp.ones(shape, dtype=xp.float64)


def test_the_constructor_of_the_cola_package(backend, rng):
    M = rng.normal(size=(4, 3))
    placed = backend.asarray(M)
    dtype = placed.dtype
    more = {"backend": "jax"} if backend.name == "jax" else {}
    A = cola.LinearOperator(dtype, (4, 3), matmat=lambda X: placed @ X, **more)
    assert isinstance(A, ops.FunctionOperator) and A.backend is backend
    close(backend, A @ backend.asarray(np.eye(3)), M, "float64")
    if backend.name != "numpy":
        close(backend, A.H.to_dense(), M.T, "float64")
    B = cola.LinearOperator(np.float64, (2, 2), lambda X: 2 * X, annotations={PSD})
    assert B.isa(PSD) and float(cola.logdet(B)) == pytest.approx(2 * np.log(2))
    with pytest.raises(TypeError, match="all three"):
        cola.LinearOperator(np.float64, (2, 2))
