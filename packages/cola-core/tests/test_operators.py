"""Operators as values: normal forms, batches, properties, pytrees, copies,
and errors that name both sides."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from zoo import ZOO, installed
from zoo.common import spd, sym

import cola_core as cola
from cola_core import PSD, SelfAdjoint, Stiefel, Unitary, ops
from cola_core.errors import (
    BackendError,
    DTypeError,
    MemoryBudgetError,
    NonSquareError,
    PropertyError,
    ShapeError,
)
from cola_core.operators import flatten, map_leaves, unflatten


def kinds(A):
    """The class of an operator and of its parts."""
    return type(A).__name__, tuple(type(M).__name__ for M in getattr(A, "Ms", ()))


# -- normal forms --------------------------------------------------------------------------------------------
def test_sums_products_and_kroneckers_flatten(rng):
    A, B, C = (ops.Dense(rng.normal(size=(3, 3))) for _ in range(3))
    T = ops.Triangular(rng.normal(size=(3, 3)))
    assert kinds((A @ B) @ (C @ T)) == ("Product", ("Dense", "Dense", "Dense", "Triangular"))
    assert kinds((A + T) + (A @ B + T)) == ("Sum", ("Dense", "Triangular", "Product", "Triangular"))
    assert kinds(cola.kron(cola.kron(A, B), C)) == ("Kronecker", ("Dense",) * 3)
    assert kinds(cola.kronsum(cola.kronsum(A, B), C)) == ("KronSum", ("Dense",) * 3)


def test_numbers_gather_in_front(rng):
    A, B = (ops.Dense(rng.normal(size=(3, 3))) for _ in range(2))
    P = 2 * (3 * A @ (4 * B))
    assert kinds(P) == ("Product", ("ScalarMul", "Dense", "Dense")) and P.Ms[0].c == 24
    assert (0.5 * (2 * A)) is A
    K = cola.kron(2 * A, 3 * B)
    assert kinds(K) == ("Product", ("ScalarMul", "Kronecker")) and K.Ms[0].c == 6


def test_identities_are_absorbed_and_diagonals_merge():
    I = ops.Identity(3)
    d = ops.Diagonal(np.arange(1.0, 4))
    A = ops.Dense(np.ones((3, 3)))
    assert (I @ A) is A and (A @ I) is A and (I @ I) is I
    assert (
        isinstance(d @ d, ops.Diagonal)
        and isinstance(d + d, ops.Diagonal)
        and isinstance(d + 2 * I, ops.Diagonal)
    )
    assert isinstance(I + I, ops.ScalarMul) and (I + I).c == 2
    assert isinstance(A + A, ops.Dense) and isinstance(2 * d, ops.Diagonal)
    assert (A - A).to_dense().any() == False  # noqa: E712
    assert cola.kron(I, ops.Identity(2)).shape == (6, 6) and isinstance(cola.kron(I, I), ops.Identity)


def test_mixed_products(rng):
    a, b, c, d = (
        rng.normal(size=(2, 3)),
        rng.normal(size=(4, 2)),
        rng.normal(size=(3, 2)),
        rng.normal(size=(2, 5)),
    )
    K = cola.kron(a, b) @ cola.kron(c, d)
    assert isinstance(K, ops.Kronecker)
    np.testing.assert_allclose(K.to_dense(), np.kron(a, b) @ np.kron(c, d), atol=1e-12)
    P, Q = ops.Permutation([1, 2, 0]), ops.Permutation([0, 2, 1])
    assert isinstance(P @ Q, ops.Permutation)
    np.testing.assert_array_equal((P @ Q).to_dense(), P.to_dense() @ Q.to_dense())


def test_inverse_of_inverse_and_transposes_at_the_leaves(rng):
    A = ops.Dense(rng.normal(size=(3, 3)))
    assert cola.inv(cola.inv(A)) is A
    K = cola.kron(A, ops.Triangular(rng.normal(size=(2, 2)))).T
    assert kinds(K) == ("Kronecker", ("Dense", "Triangular")) and not K.Ms[1].lower
    assert ops.Diagonal(np.ones(3)).T is not None and isinstance(ops.Diagonal(np.ones(3)).H, ops.Diagonal)


def test_python_sum_and_powers(rng):
    A = ops.Dense(rng.normal(size=(3, 3)))
    np.testing.assert_allclose(sum([A, A, A]).to_dense(), 3 * A.array)
    np.testing.assert_allclose((A**3).to_dense(), np.linalg.matrix_power(A.array, 3))
    assert isinstance(A**0, ops.Identity)
    for bad in (lambda: A**-1, lambda: A**0.5, lambda: A + 2, lambda: 2 / A, lambda: A * A):
        with pytest.raises(TypeError):
            bad()


def test_division_scales_the_right_way(rng):
    A = ops.Dense(rng.normal(size=(3, 3)))
    np.testing.assert_allclose((A / 4).to_dense(), A.array / 4)
    with pytest.raises(ZeroDivisionError):
        A / 0


# -- every pair ----------------------------------------------------------------------------------------------
def test_every_pair_adds_multiplies_and_krons(rng):
    pairs = {}
    for name, make in ZOO.items():
        build, D = make(rng, False)
        pairs[name] = (build(np.asarray), D)
    for na, (A, a) in pairs.items():
        for nb, (B, b) in pairs.items():
            np.testing.assert_allclose(
                cola.kron(A, B).to_dense(), np.kron(a, b), atol=1e-8, err_msg=f"{na} {nb}"
            )
            if a.shape[1] == b.shape[0]:
                np.testing.assert_allclose((A @ B).to_dense(), a @ b, atol=1e-8, err_msg=f"{na} @ {nb}")
            if a.shape == b.shape:
                np.testing.assert_allclose((A + B).to_dense(), a + b, atol=1e-8, err_msg=f"{na} + {nb}")
                np.testing.assert_allclose(
                    (A - 2 * B).to_dense(), a - 2 * b, atol=1e-8, err_msg=f"{na} - {nb}"
                )


# -- properties ----------------------------------------------------------------------------------------------
def test_properties_flow_up_with_their_signs(rng):
    P, S = PSD(spd(rng, 3)), SelfAdjoint(sym(rng, 3))
    U = Unitary(np.eye(3)[[1, 2, 0]])
    assert P.isa(SelfAdjoint) and (P + P).isa(PSD) and (2 * P).isa(PSD) and cola.kron(P, P).isa(PSD)
    assert (
        not (-P).isa(PSD) and (-P).isa(SelfAdjoint) and not (P - 2 * P).isa(PSD) and (P - P).isa(SelfAdjoint)
    )
    assert (P + S).isa(SelfAdjoint) and not (P + S).isa(PSD) and not (1j * S).isa(SelfAdjoint)
    assert (
        not (2 * U).isa(Unitary)
        and (U @ U).isa(Unitary)
        and (-1 * U).isa(Unitary)
        and cola.kron(U, U).isa(Unitary)
    )
    assert (
        (P @ P).isa(PSD)
        and not (P @ PSD(spd(rng, 3))).isa(SelfAdjoint)
        and cola.block_diag(P, P).isa(PSD)
        and cola.kronsum(P, P).isa(PSD)
    )
    assert not (np.asarray(2.0) * P).isa(PSD), "an array's sign is a value, not structure"
    assert (P + ops.Identity(3)).isa(PSD) and not (P - ops.Identity(3)).isa(PSD)


def test_properties_flow_out(rng):
    P = PSD(spd(rng, 4))
    assert cola.inv(P).isa(PSD) and cola.exp(P).isa(PSD) and cola.sqrt(P).isa(PSD)
    assert cola.exp(SelfAdjoint(sym(rng, 4))).isa(PSD) and cola.log(P).isa(SelfAdjoint)
    assert P.H is P and P[1:3, 1:3].isa(PSD) and not P[0:2, 1:3].isa(SelfAdjoint)


def test_congruences_are_recognised(rng):
    B = ops.Dense(rng.normal(size=(5, 3)))
    P = PSD(spd(rng, 5))
    assert (B.H @ B).isa(PSD) and (B @ B.H).isa(PSD) and (B.H @ P @ B).isa(PSD)
    assert not (B.H @ SelfAdjoint(sym(rng, 5)) @ B).isa(PSD) and (B.H @ SelfAdjoint(sym(rng, 5)) @ B).isa(
        SelfAdjoint
    )
    assert not (-1 * (B.H @ B)).isa(PSD) and (-1 * (B.H @ B)).isa(SelfAdjoint) and (3 * (B.H @ B)).isa(PSD)
    K = cola.kron(B, B)
    assert (K.H @ K).isa(PSD)


def test_complex_self_adjoint_transpose_is_the_conjugate(rng):
    D = sym(rng, 3, True)
    for A in (
        SelfAdjoint(ops.Dense(D)),
        SelfAdjoint(ops.FunctionOperator(lambda v: D @ v, (3, 3), "complex128")),
    ):
        np.testing.assert_allclose(A.T.to_dense(), D.T)
        np.testing.assert_allclose(A.conj().to_dense(), D.conj())
        assert A.T.isa(SelfAdjoint)


def test_false_claims_are_found_or_refused(rng):
    bad = [
        SelfAdjoint(rng.normal(size=(6, 6))),
        PSD(np.diag([1.0, -1.0, 2.0])),
        Unitary(2 * np.eye(3)),
        Stiefel(rng.normal(size=(5, 2))),
    ]
    for A in bad:
        with pytest.raises(PropertyError, match="contradict"):
            cola.check_properties(A)
    with pytest.raises(PropertyError, match="square"):
        PSD(np.ones((3, 2)))
    with pytest.raises(PropertyError, match="as many rows"):
        Stiefel(np.ones((2, 3)))
    cola.check_properties(PSD(np.zeros((0, 0))))


# -- batches -------------------------------------------------------------------------------------------------
def test_batches_broadcast_everywhere(backend, rng):
    a, b = rng.normal(size=(2, 3, 3)) + 4 * np.eye(3), rng.normal(size=(2, 2)) + 3 * np.eye(2)
    d = rng.normal(size=(2, 6)) + 5
    f = backend.asarray
    A, B = ops.Dense(f(a)), ops.Dense(f(b))
    K = cola.kron(A, B)
    k = np.stack([np.kron(x, b) for x in a])
    S = K + ops.Diagonal(f(d))
    s = k + np.stack([np.diag(x) for x in d])
    BD = cola.block_diag(A, B, multiplicities=[1, 2])
    bd = np.stack([np.block([[x, np.zeros((3, 4))], [np.zeros((4, 3)), np.kron(np.eye(2), b)]]) for x in a])
    KS = cola.kronsum(A, B)
    ks = np.stack([np.kron(x, np.eye(2)) + np.kron(np.eye(3), b) for x in a])
    U = rng.normal(size=(2, 6, 1))
    W = K + ops.LowRank(f(U))
    w = k + U @ U.swapaxes(-1, -2)
    for Op, D in (
        (A, a),
        (K, k),
        (S, s),
        (BD, bd),
        (KS, ks),
        (W, w),
        (2 * K @ K, 2 * k @ k),
        (K.T, k.swapaxes(1, 2)),
    ):
        n = D.shape[-1]
        assert Op.shape == D.shape
        for X in (
            rng.normal(size=n),
            rng.normal(size=(n, 2)),
            rng.normal(size=(2, n, 2)),
            rng.normal(size=(5, 1, n, 2)),
        ):
            np.testing.assert_allclose(backend.to_numpy(Op @ f(X)), D @ X, atol=1e-10)
        np.testing.assert_allclose(backend.to_numpy(Op.to_dense()), D, atol=1e-10)
        X = rng.normal(size=(2, n, 2))
        np.testing.assert_allclose(backend.to_numpy(cola.solve(Op, f(X))), np.linalg.solve(D, X), atol=1e-8)
        sign, value = cola.slogdet(Op)
        np.testing.assert_allclose(backend.to_numpy(value), np.linalg.slogdet(D)[1], atol=1e-9)
        np.testing.assert_allclose(backend.to_numpy(sign), np.linalg.slogdet(D)[0], atol=1e-9)
        np.testing.assert_allclose(backend.to_numpy(cola.trace(Op)), np.trace(D, axis1=1, axis2=2), atol=1e-9)
        np.testing.assert_allclose(
            backend.to_numpy(cola.diag(Op)), np.diagonal(D, axis1=1, axis2=2), atol=1e-9
        )
    assert (np.ones(2).reshape(2) * K).shape == (2, 6, 6) if backend.name == "numpy" else True


def test_incompatible_batches_are_refused():
    with pytest.raises(ShapeError, match="broadcast"):
        ops.Dense(np.ones((2, 3, 3))) + ops.Triangular(np.ones((4, 3, 3)))


# -- sizes ---------------------------------------------------------------------------------------------------
def test_sizes_zero_and_one(backend):
    f = backend.asarray
    for n in (0, 1):
        for A in (
            ops.Dense(f(np.ones((n, n)))),
            PSD(ops.Dense(f(np.ones((n, n))))),
            ops.Diagonal(f(np.ones(n))),
            ops.Triangular(f(np.ones((n, n)))),
            cola.kron(f(np.ones((n, n))), f(np.eye(2))),
            cola.block_diag(f(np.ones((n, n))), f(np.eye(2))),
            cola.kronsum(SelfAdjoint(f(np.ones((n, n)))), SelfAdjoint(f(np.eye(2)))),
        ):
            m = A.shape[0]
            D = backend.to_numpy(A.to_dense())
            assert D.shape == (m, m)
            np.testing.assert_allclose(
                backend.to_numpy(cola.solve(A, f(np.ones(m)))), np.linalg.solve(D, np.ones(m))
            )
            assert cola.solve(A, f(np.ones((m, 0)))).shape == (m, 0)
            assert float(cola.logdet(A)) == pytest.approx(np.linalg.slogdet(D)[1])
            assert float(cola.trace(A)) == pytest.approx(np.trace(D))
            assert cola.diag(A).shape == (m,)
            assert cola.exp(A).to_dense().shape == (m, m)


# -- pytrees, copies, moves ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ZOO)
def test_round_trips(name, rng):
    build, D = ZOO[name](rng, False)
    A = build(np.asarray)
    hash(A), repr(A), A.matvec_cost
    for B in (
        unflatten(type(A), flatten(A)[1], flatten(A)[0]),
        map_leaves(lambda x: x, A),
        pickle.loads(pickle.dumps(A)),
        copy.deepcopy(A),
        A.replace(),
    ):
        assert type(B) is type(A) and B.properties == A.properties and B.shape == A.shape
        np.testing.assert_array_equal(B.to_dense(), A.to_dense())
    half = A.to(dtype="float32")
    assert str(half.dtype) == "float32" and half.to_dense().dtype == np.float32
    np.testing.assert_allclose(half.to_dense(), D, rtol=1e-5, atol=1e-5)
    assert half.properties == A.properties


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("name", ZOO)
def test_moving_between_libraries(name, library, rng):
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    build, D = ZOO[name](rng, False)
    A = build(np.asarray).to(backend=library)
    assert A.backend.name == library
    back = A.to(backend="numpy")
    np.testing.assert_allclose(back.to_dense(), D, atol=1e-10)
    if library == "jax":
        import jax

        leaves, tree = jax.tree.flatten(A)
        assert jax.tree.unflatten(tree, leaves).properties == A.properties
        x = jax.numpy.ones(D.shape[1])
        np.testing.assert_allclose(jax.jit(lambda op, v: op @ v)(A, x), D @ np.ones(D.shape[1]), atol=1e-9)
    else:
        from torch.utils import _pytree

        leaves, tree = _pytree.tree_flatten(A)
        assert _pytree.tree_unflatten(leaves, tree).properties == A.properties


def test_optree_knows_operators(rng):
    import optree

    K = cola.kron(rng.normal(size=(2, 2)), PSD(spd(rng, 3)))
    leaves, tree = optree.tree_flatten(K, namespace="cola_core")
    assert len(leaves) == 2
    assert optree.tree_unflatten(tree, leaves).properties == K.properties


def test_operators_are_immutable(rng):
    A = ops.Dense(rng.normal(size=(2, 2)))
    with pytest.raises(AttributeError):
        A.array = 3
    with pytest.raises(TypeError, match="no field"):
        A.replace(matrix=3)


def test_integer_entries_become_floats_and_indices_stay():
    assert ops.Dense(np.eye(3, dtype=int)).dtype == np.float64
    P = ops.Permutation(np.array([1, 0, 2])).to(dtype="float32")
    assert P.perm.dtype.kind == "i" and P.to_dense().dtype == np.float32
    S = ops.Sparse(np.ones(2), [0, 1], [1, 0], (2, 2)).to(dtype="float32")
    assert S.rows.dtype.kind == "i" and S.data.dtype == np.float32


# -- errors that name both sides -----------------------------------------------------------------------------
def test_shape_errors(rng):
    A, B = ops.Dense(rng.normal(size=(3, 4))), ops.Dense(rng.normal(size=(3, 4)))
    for bad, words in (
        (lambda: A @ np.ones(3), r"\(3, 4\).*\(3,\)"),
        (lambda: A @ np.ones((3, 2)), r"\(3, 4\).*\(3, 2\)"),
        (lambda: np.ones(4) @ A, r"\(4,\).*\(3, 4\)"),
        (lambda: A @ B, "4 columns against 3 rows"),
        (lambda: A + B.T, r"\(3, 4\).*\(4, 3\)"),
        (lambda: cola.solve(A.H @ A, np.ones(3)), r"\(4, 4\).*\(3,\)"),
        (lambda: A[5], "out of range"),
        (lambda: A[[0, 7]], "out of range"),
        (lambda: ops.Sparse(np.ones(2), [0, 5], [0, 1], (3, 3)), "outside"),
        (lambda: ops.Permutation([0, 0, 1]), "exactly once"),
        (lambda: ops.LowRank(np.ones((3, 2)), np.ones((3, 1))), "number of columns"),
        (lambda: ops.FunctionOperator(lambda v: v[:2], (3, 3)) @ np.ones(3), "must return"),
    ):
        with pytest.raises((ShapeError, IndexError), match=words):
            bad()
    for ask in (cola.solve, cola.inv, cola.logdet, cola.trace, cola.eig, cola.exp):
        with pytest.raises(NonSquareError, match="3x4"):
            ask(A, np.ones(3)) if ask is cola.solve else ask(A)


def test_mixed_libraries_are_refused(rng):
    if not installed("torch"):
        pytest.skip("torch is not installed")
    import torch

    A, T = ops.Dense(rng.normal(size=(3, 3))), ops.Dense(torch.ones(3, 3, dtype=torch.float64))
    for bad in (
        lambda: A @ torch.ones(3, dtype=torch.float64),
        lambda: T @ np.ones(3),
        lambda: A + T,
        lambda: A @ T,
        lambda: cola.kron(A, T),
        lambda: cola.solve(A, torch.ones(3)),
    ):
        with pytest.raises(BackendError, match="numpy.*torch|torch.*numpy"):
            bad()


def test_arrays_do_not_swallow_operators(rng):
    a = rng.normal(size=(3, 3))
    A = ops.Dense(a)
    assert isinstance(a + A, ops.Dense) and isinstance(np.float64(2) * A, cola.LinearOperator)
    np.testing.assert_allclose((a + A).to_dense(), 2 * a)
    np.testing.assert_allclose(a @ A, a @ a)
    with pytest.raises(TypeError, match="to_dense"):
        np.asarray(A)
    with pytest.raises(TypeError):
        bool(A)
    with pytest.raises(TypeError):
        list(A)


def test_densifying_is_guarded():
    A = cola.kron(*(np.eye(60) for _ in range(4)))
    with pytest.raises(MemoryBudgetError, match="GiB"):
        A.to_dense()
    with pytest.raises(MemoryBudgetError):
        ops.Dense(np.eye(100)).to_dense(max_bytes=1000)


def test_undeclared_symmetry_is_not_trusted(rng):
    with pytest.raises(PropertyError, match="Declare it"):
        cola.eigh(rng.normal(size=(3, 3)))


def test_unsupported_objects():
    with pytest.raises(TypeError, match="FunctionOperator"):
        cola.solve(lambda v: v, np.ones(3))
    with pytest.raises((BackendError, TypeError)):
        ops.Dense(np.eye(2)) @ "ab"
    with pytest.raises((DTypeError, TypeError, ValueError)):
        ops.Dense(np.array([["a", "b"], ["c", "d"]]))


def test_importing_is_light():
    code = (
        "import sys, cola_core\n"
        "heavy = [m for m in ('torch', 'jax', 'scipy.sparse.linalg', 'plum', 'pluggy', 'matplotlib') "
        "if m in sys.modules]\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_batched_spectra(backend, rng):
    a = rng.normal(size=(2, 4, 4))
    s = a + a.swapaxes(-1, -2)
    p = a @ a.swapaxes(-1, -2) + np.eye(4)
    f, num = backend.asarray, backend.to_numpy
    w, V = cola.eigh(SelfAdjoint(f(s)))
    np.testing.assert_allclose(num(w), np.linalg.eigvalsh(s), atol=1e-10)
    Vd = num(V.to_dense())
    np.testing.assert_allclose(s @ Vd, Vd * num(w)[:, None, :], atol=1e-9)
    w, V = cola.eigh(SelfAdjoint(f(s)), 2, "LA")
    np.testing.assert_allclose(num(w), np.linalg.eigvalsh(s)[:, -2:], atol=1e-10)
    np.testing.assert_allclose(s @ num(V.to_dense()), num(V.to_dense()) * num(w)[:, None, :], atol=1e-9)
    w, V = cola.eig(f(a))
    np.testing.assert_allclose(a @ num(V.to_dense()), num(V.to_dense()) * num(w)[:, None, :], atol=1e-9)
    assert (np.diff(np.abs(num(w)), axis=-1) <= 1e-9).all()
    K = cola.kron(PSD(f(p)), PSD(f(p[0])))
    k = np.stack([np.kron(x, p[0]) for x in p])
    np.testing.assert_allclose(num(cola.eigvalsh(K)), np.linalg.eigvalsh(k), rtol=1e-9)
    np.testing.assert_allclose(num(cola.logdet(PSD(f(p)))), np.linalg.slogdet(p)[1], rtol=1e-10)
    L = num(cola.cholesky(PSD(f(p))).to_dense())
    np.testing.assert_allclose(L @ L.swapaxes(-1, -2), p, atol=1e-10)
    R = num(cola.sqrt(PSD(f(p))).to_dense())
    np.testing.assert_allclose(R @ R, p, atol=1e-9)


@pytest.mark.parametrize("lower", [True, False])
def test_triangular_eigenpairs(backend, rng, lower):
    a = rng.normal(size=(6, 6)) + np.diag(np.arange(6.0) * 3)
    D = np.tril(a) if lower else np.triu(a)
    w, V = cola.eig(ops.Triangular(backend.asarray(a), lower))
    V, w = backend.to_numpy(V.to_dense()), backend.to_numpy(w)
    np.testing.assert_allclose(np.sort(w.real), np.sort(np.diag(D)), atol=1e-12)
    np.testing.assert_allclose(D @ V, V * w, atol=1e-10)
    assert cola.explain(cola.eig, ops.Triangular(backend.asarray(a), lower)).root.by == "core:eig/triangular"
    twice = ops.Triangular(backend.asarray(np.diag([1.0, 1.0, 2.0]) + np.eye(3, k=-1 if lower else 1)), lower)
    w, V = cola.eig(twice)  # repeated eigenvalues: the general algorithm answers
    np.testing.assert_allclose(
        backend.to_numpy(twice.to_dense()) @ backend.to_numpy(V.to_dense()),
        backend.to_numpy(V.to_dense()) * backend.to_numpy(w),
        atol=1e-7,
    )


def test_scipy_matrices_and_operators_come_in_and_other_objects_are_refused():
    import scipy.sparse as sp
    from scipy.sparse.linalg import aslinearoperator

    M = sp.csr_array(2 * np.eye(3))
    assert isinstance(cola.as_operator(M), ops.Sparse)
    assert cola.trace(aslinearoperator(M)) == 6
    assert "trace/sparse" in str(cola.explain(cola.trace, aslinearoperator(M)))
    for ask in (cola.as_operator, cola.trace, lambda F: cola.explain(cola.trace, F)):
        with pytest.raises(TypeError, match="ops.FunctionOperator"):
            ask(sp.linalg.cg)
    with pytest.raises(TypeError):
        ops.Dense(np.eye(3)) + sp.linalg.cg
