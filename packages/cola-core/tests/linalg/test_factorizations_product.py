"""Factorisations, norms, ranks and least squares of every operator of the zoo, on every backend and dtype,
against NumPy and against the same operator with its structure hidden."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg as sl
from compare import close, square
from zoo import SINGULAR, tolerance

import cola_core as cola
from cola_core import ops


def wide(D):
    return D.astype("complex128" if D.dtype.kind == "c" else "float64")


def dense(backend, A):
    return np.asarray(backend.to_numpy(A.to_dense()))


def orthonormal(backend, Q, dtype):
    Q = dense(backend, Q)
    np.testing.assert_allclose(Q.conj().T @ Q, np.eye(Q.shape[1]), atol=30 * tolerance(dtype))


def hidden(A):
    return cola.no_dispatch(A)


def both(A, backend):
    """The operator, and the same without structure (not on JAX, which compiles every shape anew)."""
    return (A,) if backend.name == "jax" else (A, hidden(A))


def zero(D):
    """What counts as zero in entries rounded to D's precision, relative to the largest singular value."""
    return 1e-4 if D.dtype.char in "fF" else 1e-10


def rank_of(D):
    s = np.linalg.svd(wide(D), compute_uv=False)
    return int((s > zero(D) * s.max()).sum())


def test_svd(pair, backend, dtype):
    A, D = pair
    want = np.linalg.svd(wide(D), compute_uv=False)
    for B in both(A, backend):
        U, S, V = cola.svd(B)
        assert isinstance(S, ops.Diagonal) and S.dtype == backend.real_dtype(A.dtype)
        s = backend.to_numpy(S.diag)
        assert (s >= 0).all() and (np.diff(s) <= tolerance(dtype) * want[0]).all()
        close(backend, (U @ S @ V.H).to_dense(), D, dtype, scale=10 * want[0])
        close(backend, S.diag, want[: len(s)], dtype, scale=10 * want[0])
        assert len(s) == min(D.shape) or want[len(s)] <= zero(D) * want[0]
        orthonormal(backend, U, dtype)
        orthonormal(backend, V, dtype)
        close(backend, cola.svdvals(B), want, dtype, scale=10 * want[0])
    for which, part in (("LM", want[:1]), ("SM", want[-1:])):
        if backend.name == "jax":
            break
        U, S, V = cola.svd(A, 1, which)
        assert U.shape == (D.shape[0], 1) and V.shape == (D.shape[1], 1)
        close(backend, S.diag, part, dtype, scale=10 * want[0])
        u, v = dense(backend, U), dense(backend, V)
        np.testing.assert_allclose(D @ v, u * part, atol=30 * tolerance(dtype) * want[0])


def test_qr_and_lq(pair, backend, dtype):
    A, D = pair
    scale = 10 * np.abs(D).max()
    for B in both(A, backend):
        Q, R = cola.qr(B)
        close(backend, (Q @ R).to_dense(), D, dtype, scale)
        orthonormal(backend, Q, dtype)
        L, P = cola.lq(B)
        close(backend, (L @ P).to_dense(), D, dtype, scale)
        orthonormal(backend, P.H, dtype)
        for T in (dense(backend, R), dense(backend, L).conj().T):
            np.testing.assert_allclose(np.tril(T, -1), 0, atol=30 * tolerance(dtype) * scale)
            d = np.diagonal(T)
            np.testing.assert_allclose(np.abs(d), d, atol=30 * tolerance(dtype) * scale)


def test_lu(pair, backend, dtype):
    A, D = pair
    for B in both(A, backend):
        P, L, U = (dense(backend, F) for F in cola.plu(B))
        np.testing.assert_allclose(P @ L @ U, D, atol=30 * tolerance(dtype) * np.abs(D).max())
        assert set(np.unique(np.abs(P))) <= {0.0, 1.0}
        np.testing.assert_array_equal(P.conj().T @ P, np.eye(len(P)))
        np.testing.assert_array_equal(L, np.tril(L))
        np.testing.assert_array_equal(np.diagonal(L), 1)
        np.testing.assert_array_equal(U, np.triu(U))


def test_schur(pair, backend, dtype):
    A, D = pair
    if not square(D):
        with pytest.raises(cola.errors.NonSquareError):
            cola.schur(A)
        return
    for B, output in ((A, "real"), (A, "complex"), (both(A, backend)[-1], "real")):
        T, Z = cola.schur(B, output=output)
        orthonormal(backend, Z, dtype)
        T, Z = dense(backend, T), dense(backend, Z)
        np.testing.assert_allclose(Z @ T @ Z.conj().T, D, atol=30 * tolerance(dtype) * np.abs(D).sum())
        below = np.tril(T, -1 if output == "complex" or "complex" in dtype else -2)
        np.testing.assert_allclose(below, 0, atol=30 * tolerance(dtype) * np.abs(D).sum())


def test_lstsq_and_pinv(pair, name, backend, dtype, rng):
    A, D = pair
    W = wide(D)
    want = np.linalg.pinv(W, rcond=zero(D))
    s = np.linalg.svd(W, compute_uv=False)
    gain = (s[0] / s[rank_of(D) - 1]) ** 2 / s[0] if rank_of(D) else 1.0
    rcond = zero(D)
    for B in both(A, backend):
        P = cola.pinv(B, rcond=rcond)
        assert P.shape == D.shape[::-1]
        close(backend, P.to_dense(), want, dtype, scale=100 * gain * s[0])
        for shape in ((len(D),), (len(D), 2), (2, len(D), 3)):
            if len(shape) == 2 and backend.name == "jax":
                continue
            b = rng.normal(size=shape).astype(dtype)
            x, info = cola.lstsq(B, backend.asarray(b), rcond=rcond, return_info=True)
            close(backend, x, want @ b, dtype, scale=100 * gain * s[0] * np.abs(b).max())
        assert info.rank in (None, rank_of(D)) and info.converged
        assert info.rank is not None or backend.name == "jax"
        r = np.linalg.norm(b - D @ (want @ b), axis=-2) / np.linalg.norm(b, axis=-2)
        assert abs(float(info.residual) - r.max()) < 1e3 * tolerance(dtype) * gain * max(s[0], 1.0)
        close(backend, P.H @ backend.asarray(np.ones(D.shape[1], dtype)),
              want.conj().T @ np.ones(D.shape[1]), dtype, scale=100 * gain * s[0])  # fmt: skip


def test_norms(pair, backend, dtype):
    A, D = pair
    for ord in ("fro", 2, 1, np.inf, "nuc"):
        want = np.linalg.norm(wide(D), ord)
        for B in both(A, backend):
            got = cola.norm(B, ord)
            close(backend, got, want, dtype, scale=10 * want)
            assert got.dtype == backend.real_dtype(A.dtype)


def test_cond_and_rank(pair, name, backend, dtype):
    A, D = pair
    tol = zero(D) * np.linalg.norm(D, 2) if D.dtype.char in "fF" else None
    for B in both(A, backend):
        assert int(cola.rank(B, tol)) == rank_of(D)
    if square(D) and name not in SINGULAR:
        for p in (2, "fro", 1, np.inf):
            want = np.linalg.cond(wide(D), p)
            for B in both(A, backend):
                close(backend, cola.cond(B, p), want, dtype, scale=10 * want**2)


def test_det(pair, name, backend, dtype):
    A, D = pair
    if not square(D):
        with pytest.raises(cola.errors.NonSquareError):
            cola.det(A)
        return
    want = np.linalg.det(wide(D))
    scale = 100 * max(abs(want), np.linalg.norm(D, 2) ** len(D) * 1e-3)
    close(backend, cola.det(A), want, dtype, scale=scale)
    if name not in SINGULAR:
        close(backend, cola.det(hidden(A)), want, dtype, scale=scale)


def test_nullspace_and_orth(pair, name, backend, dtype):
    A, D = pair
    W, r = wide(D), rank_of(D)
    tol = zero(D) * np.linalg.norm(D, 2) if D.dtype.char in "fF" else None
    scale = 100 * np.linalg.norm(W, 2)
    for B in both(A, backend):
        N, Q = cola.nullspace(B, tol), cola.orth(B, tol)
        assert N.shape == (D.shape[1], D.shape[1] - r) and Q.shape == (D.shape[0], r)
        orthonormal(backend, N, dtype)
        orthonormal(backend, Q, dtype)
        close(backend, (A @ N).to_dense(), np.zeros((D.shape[0], D.shape[1] - r)), dtype, scale)
        Q = dense(backend, Q)
        np.testing.assert_allclose(Q @ (Q.conj().T @ D), D, atol=tolerance(dtype) * scale)


def test_cholesky_of_a_gram_matrix_is_the_triangular_factor(backend, dtype, rng):
    b = rng.normal(size=(6, 3)).astype(dtype)
    B = ops.Dense(backend.asarray(b))
    L = cola.cholesky(B.H @ B)
    assert isinstance(L, ops.Triangular)
    close(backend, L.to_dense(), np.linalg.cholesky(wide(b.conj().T @ b)), dtype, scale=100)


def test_plans_match_runs(pair, name, backend, dtype, rng):
    A, D = pair
    if dtype != "float64" or backend.name == "jax":
        return
    b = backend.asarray(rng.normal(size=len(D)).astype(dtype))

    def who(plan):
        return [(n.question, n.by, n.operator) for n in plan.nodes()]

    questions = [(f, (A,)) for f in (cola.svd, cola.svdvals, cola.qr, cola.lq, cola.lu, cola.rank, cola.cond)]
    questions += [(cola.norm, (A,)), (cola.norm, (A, 2)), (cola.norm, (A, 1)), (cola.lstsq, (A, b))]
    questions += [(cola.nullspace, (A,)), (cola.orth, (A,))] + [(cola.schur, (A,))] * square(D)
    for question, operands in questions:
        planned = cola.explain(question, *operands)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ran = cola.explain(question, *operands, analyze=True)
        assert who(planned) == who(ran), f"{planned}\n\n{ran}"
        assert not any(n.note for n in planned.nodes()), str(planned)


def test_sylvester_of_scipy_agrees_with_the_order_of_schur(rng):
    a = rng.normal(size=(5, 5))
    T, Z = cola.schur(a)
    t, z = sl.schur(a)
    np.testing.assert_allclose(T.to_dense(), t, atol=1e-12)
    np.testing.assert_allclose(Z.to_dense(), z, atol=1e-12)


def test_the_adjoint_of_a_sparse_operator_can_be_planned_and_traced():
    A = ops.Sparse(np.array([1.0, 2.0, 3.0]), np.array([0, 2, 1]), np.array([1, 0, 2]), (3, 4))
    assert cola.explain(cola.lq, A).nodes()[0].by == "core:lq/lq"
    jax = pytest.importorskip("jax")
    J = A.to(backend="jax")
    got = jax.jit(lambda A, x: A.H @ x)(J, jax.numpy.ones(3))
    np.testing.assert_allclose(got, A.to_dense().T @ np.ones(3))
