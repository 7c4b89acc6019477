"""Block grids, concatenations, Khatri-Rao and elementwise products, projections: normal forms, sizes,
errors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
from compare import close
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import installed

import cola_core as cola
from cola_core import ops
from cola_core.errors import PropertyError, ShapeError, SingularMatrixError

TWO = pytest.mark.parametrize("dtype", ["float32", "complex128"])  # JAX compiles every shape anew


def draw(rng, dtype, *shape):
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if "complex" in dtype else x).astype(dtype)


# -- Block ---------------------------------------------------------------------------------------------------
def _grid(rng, heights, widths, present):
    """Random blocks where ``present`` says so, and the dense matrix."""
    table = [
        [rng.normal(size=(h, w)) if present[i][j] else None for j, w in enumerate(widths)]
        for i, h in enumerate(heights)
    ]
    dense = np.block(
        [
            [np.zeros((h, w)) if table[i][j] is None else table[i][j] for j, w in enumerate(widths)]
            for i, h in enumerate(heights)
        ]
    )
    return table, dense


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
)
def test_block_of_any_grid(seed, heights, widths):
    rng = np.random.default_rng(seed)
    present = rng.random((len(heights), len(widths))) < 0.6
    present[0, 0] = True
    table, D = _grid(rng, heights, widths, present)
    A = ops.Block(table, heights, widths)
    assert A.shape == D.shape
    X, Y = rng.normal(size=(2, D.shape[1], 3)), rng.normal(size=(D.shape[0], 2))
    np.testing.assert_allclose(A.to_dense(), D)
    np.testing.assert_allclose(A @ X, D @ X, atol=1e-12)
    np.testing.assert_allclose(A.H @ Y, D.T @ Y, atol=1e-12)
    for k in range(-D.shape[0], D.shape[1] + 1):
        np.testing.assert_allclose(cola.diag(A, k), np.diag(D, k) if D.size else np.zeros(0))
    np.testing.assert_allclose((A.H @ A).to_dense(), D.T @ D, atol=1e-12)
    np.testing.assert_allclose((A + 2 * A).to_dense(), 3 * D, atol=1e-12)
    if D.shape[0] == D.shape[1]:
        np.testing.assert_allclose(
            (A - 2 * ops.Identity(len(D))).to_dense(), D - 2 * np.eye(len(D)), atol=1e-12
        )
        np.testing.assert_allclose(cola.trace(A), np.trace(D), atol=1e-12)


def test_block_names_the_blocks_that_clash():
    with pytest.raises(ShapeError, match=r"row 1, block \(1, 1\) .* and block \(1, 0\) .* numbers of rows"):
        ops.Block([[np.eye(2), None], [np.ones((3, 2)), np.ones((2, 1))]])
    with pytest.raises(ShapeError, match=r"column 0, block \(1, 0\) .* and block \(0, 0\) .* of columns"):
        ops.Block([[np.eye(2)], [np.ones((3, 3))]])
    with pytest.raises(ShapeError, match="block row 1 has no block.*heights="):
        ops.Block([[np.eye(2), None], [None, None]])
    with pytest.raises(ShapeError, match="row 1 has 1 blocks, row 0 has 2"):
        ops.Block([[np.eye(2), None], [np.eye(2)]])
    with pytest.raises(ShapeError, match="list of rows"):
        ops.Block([])
    with pytest.raises(ShapeError, match="not a list of blocks"):
        ops.Block([np.eye(2)])
    assert ops.Block([[np.eye(2), None]], widths=[2, 3]).shape == (2, 5)
    with pytest.raises(ShapeError, match="the given size 4"):
        ops.Block([[np.eye(2), None]], widths=[4, 3])


def test_zero_blocks_give_sizes_and_cost_nothing():
    A = ops.Block([[np.eye(2), ops.Zero(2, 3)], [ops.Zero(1, 2), ops.Zero(1, 3)]])
    assert A.shape == (3, 5) and len(A.Ms) == 1
    np.testing.assert_allclose(A.to_dense()[:2, :2], np.eye(2))


def test_block_simplifies():
    a, b, c = np.ones((2, 2)), np.full((3, 3), 2.0), np.full((1, 1), 3.0)
    assert isinstance(cola.block([[a, None], [None, b]]), ops.BlockDiag)
    assert isinstance(cola.block([[a]]), ops.Dense)
    inner = ops.Block([[a, np.ones((2, 3))], [np.ones((3, 2)), b]])
    flat = cola.block([[inner, None], [None, c]])
    assert flat.heights == (2, 3, 1)
    np.testing.assert_allclose(flat.to_dense(), sl.block_diag(inner.to_dense(), c))
    kept = cola.block([[inner, np.ones((5, 1))], [np.ones((1, 5)), c]])  # the other blocks are not cut alike
    assert kept.heights == (5, 1)
    both = cola.block([[cola.block_diag(a, b), cola.ops.Concatenated(np.ones((2, 1)), np.ones((3, 1)))]])
    assert both.heights == (2, 3) and both.widths == (2, 3, 1)


def test_products_of_blocks():
    rng = np.random.default_rng(0)
    t, D = _grid(rng, (2, 3), (3, 2), [[1, 1], [1, 0]])
    s, E = _grid(rng, (3, 2), (4, 1), [[1, 0], [1, 1]])
    A, B = ops.Block(t), ops.Block(s)
    assert isinstance(A @ B, ops.Block) and (A @ B).heights == (2, 3)
    np.testing.assert_allclose((A @ B).to_dense(), D @ E)
    F = cola.block_diag(np.ones((3, 3)), 2 * np.eye(2))
    assert isinstance(A @ F, ops.Block) and isinstance(F @ B, ops.Block)
    np.testing.assert_allclose((A @ F).to_dense(), D @ F.to_dense())
    np.testing.assert_allclose((F @ B).to_dense(), F.to_dense() @ E)
    assert isinstance(A @ ops.Block([[np.ones((5, 2))]]), ops.Product)  # not cut alike
    big, G = _grid(rng, (1,) * 6, (1,) * 6, np.ones((6, 6)))
    C = ops.Block(big) @ ops.Block(big)
    assert isinstance(C, ops.Product)  # 216 products would replace 72
    np.testing.assert_allclose(C.to_dense(), G @ G)


def test_sums_and_shifts_of_blocks():
    rng = np.random.default_rng(1)
    t, D = _grid(rng, (2, 3), (2, 3), [[1, 1], [1, 0]])
    A, d = ops.Block(t), rng.normal(size=5)
    S = A + ops.Diagonal(d)
    assert isinstance(S, ops.Block)
    np.testing.assert_allclose(S.to_dense(), D + np.diag(d))
    assert isinstance(A + A.H, ops.Block)
    np.testing.assert_allclose((A + A.H).to_dense(), D + D.T)
    np.testing.assert_allclose((cola.block_diag(np.eye(2), np.eye(3)) + A).to_dense(), D + np.eye(5))


@TWO
def test_self_adjoint_is_seen_when_it_is_written(backend, dtype, rng):
    a, b = draw(rng, dtype, 3, 3), draw(rng, dtype, 2, 3)
    A, B = cola.SelfAdjoint(backend.asarray(a + a.conj().T)), ops.Dense(backend.asarray(b))
    K = ops.Block([[A, B.H], [B, None]])
    assert K.isa(cola.SelfAdjoint) and K.H is K
    C, one = ops.Dense(backend.asarray(b.conj().T.copy())), cola.PSD(backend.asarray(np.eye(2, dtype=dtype)))
    for rows in ([[A, C], [B, None]], [[A, B.H], [2.0 * B, None]], [[A, None], [B, one]]):
        assert not ops.Block(rows).isa(cola.SelfAdjoint)
    cola.check_properties(K)
    D = np.block([[a + a.conj().T, b.conj().T], [b, np.zeros((2, 2))]])
    close(backend, cola.eigh(K)[0], np.linalg.eigvalsh(D), dtype, scale=100)


def test_gram_of_blocks_is_psd():
    A = ops.Block([[np.ones((2, 2)), None], [np.ones((1, 2)), np.ones((1, 1))]])
    assert (A.H @ A).isa(cola.PSD)
    cola.check_properties(A.H @ A)


@TWO
def test_batches_of_blocks_broadcast(backend, dtype, rng):
    a, b, c = draw(rng, dtype, 4, 1, 2, 2), draw(rng, dtype, 3, 2, 1), draw(rng, dtype, 1, 2)
    A = ops.Block([[backend.asarray(a), backend.asarray(b)], [backend.asarray(c), ops.ScalarMul(3.0, 1)]])
    assert A.shape == (4, 3, 3, 3)
    D = np.zeros((4, 3, 3, 3), dtype)
    D[..., :2, :2], D[..., :2, 2:], D[..., 2:, :2], D[..., 2, 2] = a, b, c, 3
    X = draw(rng, dtype, 4, 3, 3, 2)
    close(backend, A @ backend.asarray(X), D @ X, dtype)
    close(backend, A.to_dense(), D, dtype)
    close(backend, cola.diag(A), np.diagonal(D, axis1=-2, axis2=-1), dtype)
    want = np.linalg.solve(D, X)
    scale = np.abs(want).max() * np.linalg.cond(D).max()
    close(backend, cola.solve(A, backend.asarray(X)), want, dtype, scale=scale)
    sign, value = np.linalg.slogdet(D)
    close(backend, cola.slogdet(A)[1], value, dtype, scale=100)
    close(backend, cola.slogdet(A)[0], sign, dtype, scale=100)


# -- Concatenated --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("axis", [0, -2, 1, -1])
def test_concatenated(backend, axis, rng):
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(4, 3))
    parts = (a, b) if axis in (0, -2) else (a.T.copy(), b.T.copy())
    V = ops.Concatenated(*map(backend.asarray, parts), axis=axis)
    D = np.concatenate(parts, axis=axis)
    close(backend, V.to_dense(), D, "float64")
    close(backend, V @ backend.asarray(np.ones(D.shape[1])), D.sum(1), "float64")
    close(backend, (V.H @ V).to_dense(), D.T @ D, "float64")
    close(backend, (V @ V.H).to_dense(), D @ D.T, "float64")
    assert (V.H @ V).isa(cola.PSD)
    close(backend, cola.trace(V.H @ V), np.trace(D.T @ D), "float64")
    for k in (-3, 0, 2):
        close(backend, cola.diag(V, k), np.diag(D, k), "float64")


def test_gram_of_stacked_operators_is_a_sum():
    a, b = np.ones((2, 3)), np.eye(3)
    V = ops.Concatenated(a, b)
    assert isinstance(V.H @ V, ops.Sum) and len((V.H @ V).Ms) == 2
    assert isinstance(V @ V.H, ops.Block)
    assert isinstance(V.H @ ops.Block([[a, None], [b, b]]), (ops.Block, ops.Concatenated))
    assert isinstance(V + V, ops.Concatenated)


def test_concatenated_errors():
    with pytest.raises(ShapeError, match="different numbers of columns"):
        ops.Concatenated(np.eye(2), np.eye(3))
    with pytest.raises(ShapeError, match="different numbers of rows"):
        ops.Concatenated(np.eye(2), np.eye(3), axis=1)
    with pytest.raises(ShapeError, match="neither the rows"):
        ops.Concatenated(np.eye(2), axis=2)
    with pytest.raises(ShapeError, match="at least one"):
        ops.Concatenated()


# -- KhatriRao and HadamardProduct ---------------------------------------------------------------------------
@TWO
def test_khatri_rao_against_scipy(backend, dtype, rng):
    a, b = draw(rng, dtype, 3, 4), draw(rng, dtype, 2, 4)
    K, D = ops.KhatriRao(backend.asarray(a), backend.asarray(b)), sl.khatri_rao(a, b)
    X, Y = draw(rng, dtype, 2, 4, 3), draw(rng, dtype, 6, 2)
    close(backend, K @ backend.asarray(X), D @ X, dtype)
    close(backend, K.H @ backend.asarray(Y), D.conj().T @ Y, dtype)
    close(backend, K.T @ backend.asarray(Y), D.T @ Y, dtype)
    close(backend, K.conj().to_dense(), D.conj(), dtype)
    assert K.H.rowwise and K.H.H.rowwise is False
    for k in (-4, 0, 1):
        close(backend, cola.diag(K, k), np.diag(D, k), dtype)
        close(backend, cola.diag(K.T, k), np.diag(D.T, k), dtype)
    G = K.H @ K
    assert isinstance(G, ops.HadamardProduct) and G.isa(cola.PSD)
    close(backend, G.to_dense(), D.conj().T @ D, dtype)
    close(backend, G @ backend.asarray(X), D.conj().T @ D @ X, dtype, scale=50)


def test_khatri_rao_takes_kronecker_products_in():
    rng = np.random.default_rng(5)
    a, b, c, d = (rng.normal(size=s) for s in ((3, 4), (2, 4), (2, 3), (5, 2)))
    K = cola.kron(c, d) @ ops.KhatriRao(a, b)
    assert isinstance(K, ops.KhatriRao)
    np.testing.assert_allclose(K.to_dense(), np.kron(c, d) @ sl.khatri_rao(a, b))
    L = ops.KhatriRao(a, b).H @ cola.kron(c, d).H
    assert isinstance(L, ops.KhatriRao) and L.rowwise
    np.testing.assert_allclose(L.to_dense(), K.to_dense().T)


def test_khatri_rao_errors_and_small_sizes():
    with pytest.raises(ShapeError, match="number of columns"):
        ops.KhatriRao(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ShapeError, match="number of rows"):
        ops.KhatriRao(np.ones((2, 3)), np.ones((3, 3)), rowwise=True)
    for m, p, n in ((0, 2, 3), (2, 0, 3), (2, 2, 0), (1, 1, 1)):
        K = ops.KhatriRao(np.ones((m, n)), np.ones((p, n)))
        assert (K @ np.ones((n, 2))).shape == (m * p, 2) and (K.H @ np.ones((m * p, 2))).shape == (n, 2)
        assert K.to_dense().shape == (m * p, n) and cola.diag(K).shape == (min(m * p, n),)


@TWO
def test_elementwise_products(backend, dtype, rng):
    a, u, v = draw(rng, dtype, 4, 5), draw(rng, dtype, 4, 2), draw(rng, dtype, 5, 2)
    A, L = ops.Dense(backend.asarray(a)), ops.LowRank(backend.asarray(u), backend.asarray(v))
    D = a * (u @ v.conj().T)
    X, Y = draw(rng, dtype, 2, 5, 3), draw(rng, dtype, 4, 2)
    for H in (ops.HadamardProduct(A, L), ops.HadamardProduct(L, A)):
        close(backend, H @ backend.asarray(X), D @ X, dtype, scale=20)
        close(backend, H.H @ backend.asarray(Y), D.conj().T @ Y, dtype, scale=20)
        close(backend, H.T @ backend.asarray(Y), D.T @ Y, dtype, scale=20)
        for k in (-1, 0, 2):
            close(backend, cola.diag(H, k), np.diag(D, k), dtype, scale=20)


def test_elementwise_products_in_strips(monkeypatch):
    from cola_core.operators import hadamard as module

    monkeypatch.setattr(module, "STRIP_BYTES", 3 * 8 * 20 * 7)  # seven columns at a time
    rng = np.random.default_rng(3)
    a, b, c = rng.normal(size=(4, 4)), rng.normal(size=(5, 5)), rng.normal(size=(20, 20))
    H, D = ops.HadamardProduct(cola.kron(a, b), c), np.kron(a, b) * c
    assert len(H._strips()) == 3
    np.testing.assert_allclose(H @ np.eye(20), D)
    np.testing.assert_allclose(H.H @ np.eye(20), D.T)


def test_hadamard_simplifies():
    rng = np.random.default_rng(4)
    a, b, d = rng.normal(size=(2, 2)), rng.normal(size=(3, 3)), rng.normal(size=6)
    full, U = rng.normal(size=(6, 6)), rng.normal(size=(6, 2))
    rows, cols = np.array([0, 2, 5, 5]), np.array([1, 2, 0, 3])
    S = ops.Sparse(np.ones(4), rows, cols, (6, 6))
    K, E = cola.kron(a, b), np.kron(a, b)
    for A, B, want, kind in (
        (ops.Identity(6), full, np.diag(np.diag(full)), ops.Diagonal),
        (K, ops.Diagonal(d), np.diag(np.diag(E) * d), ops.Diagonal),
        (2 * K, 3 * cola.kron(b[:2, :2], rng.normal(size=(3, 3))), None, ops.Product),
        (K, K, E * E, ops.Kronecker),
        (ops.LowRank(U), ops.LowRank(U), (U @ U.T) ** 2, ops.LowRank),
        (S, full, S.to_dense() * full, ops.Sparse),
        (ops.LowRank(U), S, S.to_dense() * (U @ U.T), ops.Sparse),
        (S, 3.0 * S, 3 * S.to_dense(), ops.Sparse),
        (full, full, full**2, ops.Dense),
        (K, full, E * full, ops.HadamardProduct),
    ):
        H = cola.hadamard(A, B)
        assert isinstance(H, kind), (A, B, H)
        want = cola.densify(A) * cola.densify(B) if want is None else want
        np.testing.assert_allclose(H.to_dense(), want, atol=1e-12)
        np.testing.assert_allclose(H @ d, want @ d, atol=1e-12)
    with pytest.raises(ShapeError, match="one shape"):
        cola.hadamard(np.eye(2), np.eye(3))


def test_schur_product_theorem():
    rng = np.random.default_rng(6)
    a = rng.normal(size=(6, 6))
    A, B = cola.PSD(a @ a.T), ops.LowRank(rng.normal(size=(6, 2)))
    for H in (cola.hadamard(A, B), ops.HadamardProduct(A, B), cola.hadamard(A, A), cola.hadamard(B, B)):
        assert H.isa(cola.PSD)
        cola.check_properties(H)
    assert not cola.hadamard(A, -1.0 * B).isa(cola.PSD)
    assert cola.hadamard(A, -1.0 * B).isa(cola.SelfAdjoint)


# -- Projection ----------------------------------------------------------------------------------------------
def _orthonormal(rng, dtype, *shape):
    return np.linalg.qr(draw(rng, dtype, *shape))[0].astype(dtype)


@pytest.mark.parametrize("complement", [False, True])
@TWO
def test_projection_answers_everything(backend, dtype, rng, complement):
    q = _orthonormal(rng, dtype, 6, 2)
    P = ops.Projection(cola.Stiefel(backend.asarray(q)), complement=complement)
    D = q @ q.conj().T
    D = np.eye(6) - D if complement else D
    cola.check_properties(P)
    w, V = cola.eigh(P)
    close(backend, w, np.round(np.linalg.eigvalsh(D)), dtype)
    assert set(np.unique(backend.to_numpy(w))) == {0, 1}  # exactly
    Vd = backend.to_numpy(V.to_dense())
    np.testing.assert_allclose(Vd @ np.diag(backend.to_numpy(w)) @ Vd.conj().T, D, atol=1e-5)
    np.testing.assert_allclose(Vd.conj().T @ Vd, np.eye(6), atol=1e-5)
    assert float(backend.to_numpy(cola.trace(P)).real) == (4 if complement else 2)
    close(backend, cola.diag(P), np.diag(D), dtype)
    close(backend, cola.diag(P, 2), np.diag(D, 2), dtype)
    close(backend, cola.exp(P).to_dense(), sl.expm(D), dtype)
    close(backend, cola.sqrt(P).to_dense(), D, dtype)
    f = cola.apply_unary(lambda w: 3 * w + 2, P)
    close(backend, f.to_dense(), 3 * D + 2 * np.eye(6), dtype)
    sign, value = cola.slogdet(P)
    assert float(backend.to_numpy(value)) == -np.inf and complex(backend.to_numpy(sign)) == 0
    b = backend.asarray(np.ones(6, dtype))
    with pytest.raises(SingularMatrixError, match="rank"):
        cola.solve(P, b)
    with pytest.raises(SingularMatrixError):
        cola.inv(P)
    assert cola.pinv(P) is P
    shifted = P + 0.5 * ops.Identity(6)
    assert cola.explain(cola.solve, shifted, b).root.by == "core:solve/shift"
    close(backend, cola.solve(shifted, b), np.linalg.solve(D + 0.5 * np.eye(6), np.ones(6)), dtype)
    close(backend, cola.logdet(shifted), np.linalg.slogdet(D + 0.5 * np.eye(6))[1], dtype)


def test_projection_normal_forms():
    rng = np.random.default_rng(8)
    P, I = ops.Projection.onto(rng.normal(size=(5, 2))), ops.Identity(5)
    C = I - P
    assert isinstance(C, ops.Projection) and C.complement and C.Q is P.Q
    assert P @ P is P and P.H is P and C @ C is C
    assert isinstance(P @ C, ops.Zero) and isinstance(C @ P, ops.Zero)
    assert isinstance(P + C, ops.Identity) and isinstance(I - C, ops.Projection) and not (I - C).complement
    assert P @ P.Q is P.Q
    np.testing.assert_allclose((2 * P @ P).to_dense(), 2 * P.to_dense())
    np.testing.assert_allclose((2 * I - P).to_dense(), 2 * np.eye(5) - P.to_dense())
    O = ops.Projection.oblique(rng.normal(size=(5, 2)), rng.normal(size=(5, 2)))
    assert O @ O is O and not O.isa(cola.SelfAdjoint)
    np.testing.assert_allclose((I - O).to_dense(), np.eye(5) - O.to_dense())
    np.testing.assert_allclose(O.H.to_dense(), O.to_dense().T)


@TWO
def test_oblique_projection(backend, dtype, rng):
    u = draw(rng, dtype, 6, 2)
    v = (u + 0.3 * draw(rng, dtype, 6, 2)).astype(dtype)
    P = ops.Projection.oblique(backend.asarray(u), backend.asarray(v))
    D = u @ np.linalg.solve(v.conj().T @ u, v.conj().T)
    close(backend, P.to_dense(), D, dtype, scale=20)
    close(backend, P.H.to_dense(), D.conj().T, dtype, scale=20)
    close(backend, P.T.to_dense(), D.T, dtype, scale=20)
    close(backend, cola.diag(P, 1), np.diag(D, 1), dtype, scale=20)
    w, V = cola.eig(P)
    w, V = backend.to_numpy(w), backend.to_numpy(V.to_dense())
    assert sorted(w.real) == [0, 0, 0, 0, 1, 1]
    np.testing.assert_allclose(D @ V, V * w, atol=1e-4)
    assert np.linalg.matrix_rank(V, tol=1e-4) == 6
    close(backend, cola.exp(P).to_dense(), sl.expm(D), dtype, scale=50)


def test_projection_onto_everything_and_nothing():
    P = ops.Projection(cola.Stiefel(np.eye(3)))
    np.testing.assert_allclose(cola.solve(P, np.ones(3)), np.ones(3))
    assert cola.slogdet(P) == (1, 0) and cola.inv(P) is P
    np.testing.assert_allclose(cola.log(P).to_dense(), 0 * np.eye(3), atol=1e-15)
    Z = ops.Projection(cola.Stiefel(np.zeros((3, 0))))
    np.testing.assert_allclose(Z.to_dense(), 0)
    np.testing.assert_allclose(cola.eigvalsh(Z), 0)
    assert cola.slogdet(ops.Identity(3) - Z) == (1, 0)
    with pytest.raises((SingularMatrixError, PropertyError)):
        cola.log(Z)
    with pytest.raises((SingularMatrixError, PropertyError)):
        cola.isqrt(Z)


def test_projection_must_be_declared_and_claims_are_checked():
    with pytest.raises(PropertyError, match="Projection.onto"):
        ops.Projection(np.eye(3)[:, :2])
    with pytest.raises(PropertyError):
        cola.check_properties(ops.Projection(cola.Stiefel(np.ones((3, 2)))).Q)
    with pytest.raises(ShapeError, match="independent"):
        ops.Projection.onto(np.ones((2, 3)))
    with pytest.raises(ShapeError, match="one shape"):
        ops.Projection.oblique(np.ones((3, 2)), np.ones((3, 1)))
    with pytest.raises(SingularMatrixError):
        ops.Projection.oblique(np.eye(3)[:, :1], np.eye(3)[:, 1:2])


def test_projections_in_batches(backend, rng):
    q = np.linalg.qr(rng.normal(size=(3, 5, 2)))[0]
    P = ops.Projection(cola.Stiefel(backend.asarray(q)))
    D = q @ q.swapaxes(-1, -2)
    close(backend, P.to_dense(), D, "float64")
    close(backend, cola.trace(P), np.full(3, 2.0), "float64")
    w, V = cola.eigh(P)
    Vd = backend.to_numpy(V.to_dense())
    np.testing.assert_allclose(Vd * backend.to_numpy(w)[:, None, :] @ Vd.swapaxes(-1, -2), D, atol=1e-10)
    X = rng.normal(size=(3, 5, 2))
    want = np.linalg.solve(D + np.eye(5), X)
    close(backend, cola.solve(P + ops.Identity(5), backend.asarray(X)), want, "float64", scale=10)


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
def test_products_under_jit_and_their_gradients():
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(9)
    a, b, q = rng.normal(size=(3, 4)), rng.normal(size=(2, 4)), np.linalg.qr(rng.normal(size=(4, 2)))[0]

    def value(a, b, q):
        K = ops.KhatriRao(a, b)
        H = ops.HadamardProduct(K.H @ K, ops.Projection(cola.Stiefel(q)))
        V = ops.Concatenated(H, ops.Block([[jnp.eye(2), b[:, :2]]]))
        return jnp.sum((V @ jnp.ones(4)) ** 2)

    args = tuple(map(jnp.asarray, (a, b, q)))
    np.testing.assert_allclose(jax.jit(value)(*args), value(*args), rtol=1e-12)
    got = jax.grad(value, argnums=(0, 1))(*args)
    for i in range(2):
        step = 1e-6 * rng.normal(size=args[i].shape)
        up = [x + (step if j == i else 0) for j, x in enumerate(args)]
        down = [x - (step if j == i else 0) for j, x in enumerate(args)]
        np.testing.assert_allclose((value(*up) - value(*down)) / 2, float(jnp.sum(got[i] * step)), rtol=1e-5)
