"""Inputs on which an answer was once wrong without a word: sizes, NaN, declarations, precisions, batches."""

import numpy as np
import pytest

import cola_core as cola
from cola_core import PSD, ops
from cola_core.errors import NonFiniteError, NotPositiveDefiniteError, PropertyError, UnknownNameError


def dense(backend, D, *properties):
    return ops.Dense(backend.asarray(np.asarray(D)), declared=frozenset(properties))


def number(backend, x):
    return backend.to_numpy(x).item()


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_frobenius_norms_neither_underflow_nor_overflow(backend, size):
    entries = backend.asarray(np.array([3.0, 4.0]) * size)
    index = backend.asarray(np.arange(2))
    D = dense(backend, np.diag([3.0, 4.0]) * size)
    for A in (ops.Diagonal(entries), D, ops.Sparse(entries, index, index, (2, 2)), cola.block_diag(D)):
        assert number(backend, cola.norm(A)) == pytest.approx(5 * size, rel=1e-12)
    column = backend.asarray(np.array([size, 0.0, 0.0]))
    for A in (ops.Circulant(column), ops.Toeplitz(column)):
        assert number(backend, cola.norm(A)) == pytest.approx(3**0.5 * size, rel=1e-12)
    K = cola.kron(D, dense(backend, np.eye(2) / size))
    assert number(backend, cola.norm(K)) == pytest.approx(50**0.5, rel=1e-12)


def test_norms_of_zero_and_of_single_precision(backend):
    assert number(backend, cola.norm(dense(backend, np.zeros((2, 3))))) == 0
    tiny = dense(backend, np.full((2, 2), 1e-30, np.float32))
    assert number(backend, cola.norm(tiny)) == pytest.approx(2e-30, rel=1e-5)


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_reflections_by_vectors_of_any_length(backend, size):
    v = np.array([3.0, 4.0])
    want = np.eye(2) - 2 * np.outer(v, v) / 25
    for A in (
        ops.Householder(backend.asarray(v * size)),
        ops.HouseholderProduct(backend.asarray(v[:, None] / v[0])),
    ):
        np.testing.assert_allclose(backend.to_numpy(A.to_dense()), want, atol=1e-14)
        assert number(backend, cola.det(A)) == pytest.approx(-1)
        np.testing.assert_allclose(backend.to_numpy(cola.diag(A)), np.diag(want), atol=1e-14)
    w, V = cola.eigh(ops.Householder(backend.asarray(v * size)))
    V, w = backend.to_numpy(V.to_dense()), backend.to_numpy(w)
    np.testing.assert_allclose((V * w) @ V.T, want, atol=1e-13)


def test_long_vectors_of_products_of_reflections(backend):
    A = ops.HouseholderProduct(backend.asarray(np.array([[1.0], [1e200]])))
    np.testing.assert_allclose(backend.to_numpy(A.to_dense()), np.diag([1.0, -1.0]), atol=1e-14)


def spoiled(backend):
    nan = backend.asarray(np.array([1.0, np.nan]))
    return {
        "diagonal": ops.Diagonal(nan),
        "circulant": ops.Circulant(nan),
        "sum": cola.kronsum(ops.Diagonal(nan), ops.Diagonal(nan)),
        "dense": dense(backend, [[1.0, np.nan], [0.0, 1.0]]),
    }


@pytest.mark.parametrize("kind", ["diagonal", "circulant", "sum", "dense"])
def test_entries_that_are_not_numbers_are_no_rank_and_no_pseudoinverse(backend, kind):
    A = spoiled(backend)[kind]
    b = backend.asarray(np.ones(A.shape[0]))
    for ask in (
        cola.rank,
        cola.cond,
        cola.norm,
        cola.svdvals,
        cola.slogdet,
        lambda A: cola.pinv(A).to_dense() if kind != "dense" else cola.pinv(A) @ b,
        lambda A: cola.lstsq(A, b),
        cola.eigvals,
        cola.nullspace,
        lambda A: cola.exp(A) @ b if kind == "dense" else cola.exp(A),
    ):
        with pytest.raises(NonFiniteError), np.errstate(all="ignore"):
            ask(A)


def test_right_sides_that_are_not_numbers(backend):
    A, B = dense(backend, np.diag([1.0, 2.0])), dense(backend, np.diag([1.0, 3.0]))
    with pytest.raises(NonFiniteError, match="operand"):
        cola.sylvester(A, B, backend.asarray(np.full((2, 2), np.nan)))


def test_an_infinite_determinant_is_an_answer_where_the_entries_are_finite():
    assert cola.slogdet(np.zeros((2, 2)))[1] == -np.inf and cola.cond(np.zeros((2, 2))) == np.inf


@pytest.mark.parametrize("tol", [-1.0, float("nan")])
def test_tolerances_are_not_negative(tol):
    for ask in (cola.rank, cola.nullspace, cola.orth):
        with pytest.raises(ValueError, match="tol"):
            ask(np.eye(2), tol=tol)


def test_a_negative_eigenvalue_disproves_a_declaration(backend):
    false = dense(backend, np.diag([-1.0, 2.0]), PSD)
    true = dense(backend, np.eye(2), PSD)
    circulant = PSD(ops.Circulant(backend.asarray(np.array([1.0, 3.0, 3.0]))))
    for A in (false, cola.kron(false, true), circulant):
        with pytest.raises((NotPositiveDefiniteError, PropertyError)):
            cola.sqrt(A)


def test_rounding_below_zero_does_not():
    U = np.random.default_rng(0).standard_normal((30, 2))
    A = PSD(U @ U.T)
    np.testing.assert_allclose((cola.sqrt(A) @ cola.sqrt(A)).to_dense(), U @ U.T, atol=1e-6)


def test_functions_of_real_circulants_are_real_or_an_error(backend):
    c = np.array([4.0, 1.0, 0.0, -0.5, 0.2])
    F = cola.sqrt(ops.Circulant(backend.asarray(c)))
    assert not F._is_complex()
    want = ops.Circulant(c).to_dense()
    np.testing.assert_allclose(backend.to_numpy((F @ F).to_dense()), want, atol=1e-12)
    for f in (cola.sqrt, cola.log):
        with pytest.raises(PropertyError, match="real"):
            f(ops.Circulant(backend.asarray(np.array([-3.0, 1.0, 0.5]))))


def test_negative_zero_is_above_the_branch_cut():
    A = ops.Diagonal(np.array([complex(-1.0, -0.0), complex(-1.0, 0.0)]))
    np.testing.assert_allclose(cola.sqrt(A).diag, [1j, 1j])
    np.testing.assert_allclose(cola.log(A).diag, [np.pi * 1j, np.pi * 1j])


def test_the_zeroth_power_of_a_batch_is_a_batch(backend):
    A = dense(backend, np.ones((3, 2, 2)))
    for P in (cola.pow(A, 0), A**0):
        assert P.shape == (3, 2, 2)
        np.testing.assert_array_equal(backend.to_numpy(P.to_dense()), np.broadcast_to(np.eye(2), (3, 2, 2)))


def test_numbers_in_the_precision_of_the_operator():
    U = np.ones((2, 2), np.float32)
    mixed = ops.LowRank(U, U.astype(np.complex64))
    single = dense_complex() @ ops.FFT(2)
    for A in (mixed, single, ops.NoDispatch(mixed)):
        sign, value = cola.slogdet(A)
        assert A.dtype == np.complex64
        assert (sign.dtype, value.dtype, cola.det(A).dtype) == (np.complex64, np.float32, np.complex64)
        assert cola.trace(A).dtype == cola.diag(A).dtype == np.complex64
        assert cola.norm(A).dtype == cola.svdvals(A).dtype == np.float32


def dense_complex():
    return ops.Dense(np.array([[2.0, 1j], [0.0, 1.0]], np.complex64))


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_functions_of_zero_and_of_projections_keep_the_precision(dtype):
    Q = cola.Stiefel(np.array([[1.0], [0.0]], dtype))
    for A in (ops.Zero(2, 2, dtype), ops.Projection(Q), ops.Projection(cola.Stiefel(np.eye(2, dtype=dtype)))):
        assert cola.exp(A).dtype == cola.cos(A).dtype == np.dtype(dtype)
        assert (cola.exp(A) @ np.ones(2, np.float32)).dtype == np.dtype(dtype)
        np.testing.assert_allclose(cola.exp(A).to_dense(), np.diag(np.exp(np.diag(A.to_dense()))), rtol=1e-6)


def test_a_number_in_an_array_keeps_its_precision():
    A = ops.ScalarMul(np.asarray(np.float32(0.5)), 3)
    assert cola.exp(A).dtype == cola.cos(A).dtype == np.float32


def test_algorithms_that_know_no_singular_values_are_refused():
    for ask in (cola.rank, cola.cond, cola.nullspace, cola.orth):
        for alg in (cola.LU(), cola.CG()):
            with pytest.raises(UnknownNameError, match=type(alg).__name__):
                ask(np.eye(2), alg=alg)
    assert cola.rank(np.eye(2), alg=cola.SVD()) == 2 and cola.cond(np.eye(2), 1, cola.LU()) == 1


def test_a_quadratic_form_with_an_inverse_is_explained():
    assert "solve" in str(cola.explain(cola.inv_quad, cola.PSD(np.eye(2)), np.ones(2)))


def test_dependent_first_vectors_are_replaced(backend):
    """Zero vectors had residual zero, and their place in the spectrum, beyond its end, was an eigenvalue."""
    first = backend.asarray(np.eye(10)[:, [0, 0]])
    for entries, which, want in (
        (np.arange(1.0, 11), "LA", [9, 10]),
        (np.r_[np.ones(5), np.arange(2.0, 7)], "SA", [1, 1]),
    ):
        A = dense(backend, np.diag(entries), PSD)
        (w, V), info = cola.eigh(A, 2, which, cola.LOBPCG(x0=first, guard=0), return_info=True)
        assert info.converged
        np.testing.assert_allclose(backend.to_numpy(w), want, rtol=1e-6)
        V = backend.to_numpy(V.to_dense())
        np.testing.assert_allclose(V.T @ V, np.eye(2), atol=1e-10)
