"""Systems, determinants, inverses and spectra of block grids; which rule answers, and when it steps back."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from compare import close
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import installed

import cola_core as cola
from cola_core import ops
from cola_core.errors import SingularMatrixError
from cola_core.linalg.block_elimination import eliminates, plan_of, triangular_order

TWO = pytest.mark.parametrize("dtype", ["float32", "complex128"])


def draw(rng, dtype, *shape):
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if "complex" in dtype else x).astype(dtype)


def well(rng, n, dtype="float64"):
    return (draw(rng, dtype, n, n) + 3 * n**0.5 * np.eye(n)).astype(dtype)


def spd(rng, n, dtype="float64"):
    a = draw(rng, dtype, n, n)
    return (a @ a.conj().T + n * np.eye(n)).astype(dtype)


def by(A, b=None):
    b = np.ones(A.shape[-1]) if b is None else b
    return cola.explain(cola.solve, A, b).root.by


def check(A, D, seed=0, scale=1.0):
    """Solve, inverse, their adjoints, determinant and that of the inverse, against NumPy."""
    n = len(D)
    b = np.random.default_rng(seed).normal(size=(2, n, 3))
    tol = 1e-12 * np.linalg.cond(D) * scale + 1e-10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, info = cola.solve(A, b, return_info=True)
        Ainv = cola.inv(A)
        inverse, again, adjoint = Ainv @ b, Ainv @ b[0], Ainv.H @ b
        got, of_inverse, kept = cola.slogdet(A), cola.slogdet(cola.inv(A)), cola.slogdet(Ainv)
    want = np.linalg.solve(D, b)
    np.testing.assert_allclose(x, want, atol=tol)
    np.testing.assert_allclose(inverse, want, atol=tol)
    np.testing.assert_allclose(again, want[0], atol=tol)
    np.testing.assert_allclose(adjoint, np.linalg.solve(D.conj().T, b), atol=tol)
    assert info.residual < 1e-8
    sign, value = np.linalg.slogdet(D)
    for s, v in (got, (np.conj(of_inverse[0]), -of_inverse[1]), (np.conj(kept[0]), -kept[1])):
        np.testing.assert_allclose(v, value, atol=1e-8)
        np.testing.assert_allclose(s, sign, atol=1e-8)
    return info.rule


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 3), min_size=1, max_size=5))
def test_any_square_grid_is_solved(seed, sizes):
    """Random patterns: triangular, permuted, sparse and full ones, in one way or another."""
    rng = np.random.default_rng(seed)
    p = len(sizes)
    shuffled = rng.permutation(p)  # the square block of row i is in column shuffled[i]
    table: list = [[None] * p for _ in range(p)]
    for i, at in enumerate(shuffled):
        for j in range(p):
            if j == at or rng.random() < 0.3:
                table[i][j] = rng.normal(size=(sizes[at], sizes[j])) + 4 * (j == at) * np.eye(
                    sizes[at], sizes[j]
                )
    A = ops.Block(table, [sizes[at] for at in shuffled], sizes)
    D = A.to_dense()
    if np.linalg.cond(D) < 1e5:
        check(A, D, seed)


@TWO
def test_schur_on_every_backend(backend, dtype, rng):
    a, b, c, d = well(rng, 4, dtype), draw(rng, dtype, 4, 2), draw(rng, dtype, 2, 4), well(rng, 2, dtype)
    A = ops.Block([[backend.asarray(a), backend.asarray(b)], [backend.asarray(c), backend.asarray(d)]])
    D = np.block([[a, b], [c, d]])
    x = draw(rng, dtype, 6, 2)
    close(backend, cola.solve(A, backend.asarray(D @ x)), x, dtype, scale=100)
    close(backend, cola.inv(A) @ backend.asarray(D @ x), x, dtype, scale=100)
    close(backend, cola.slogdet(A)[1], np.linalg.slogdet(D)[1], dtype, 10)
    assert cola.explain(cola.slogdet, A).root.by == "core:slogdet/schur"


def test_each_pattern_has_its_rule(rng):
    A, B, C, D = well(rng, 3), rng.normal(size=(3, 2)), rng.normal(size=(2, 3)), well(rng, 2)
    S, M = cola.PSD(spd(rng, 3)), ops.Dense(C)
    o = None
    for rows, rule in (
        ([[A, B], [C, D]], "schur"),
        ([[S, M.H], [M, o]], "saddle-point"),
        ([[o, M], [M.H, S]], "saddle-point"),
        ([[A, B], [o, D]], "block-triangular"),
        ([[A, o], [C, D]], "block-triangular"),
        ([[o, D], [A, o]], "block-triangular"),
        ([[B, A], [D, o]], "block-triangular"),
        ([[A, B, o], [C, D, C], [o, B, A]], "block-tridiagonal"),
        ([[A, B, B], [C, D, o], [C, o, D]], "schur"),  # an arrow: no fill if its head comes last
    ):
        K = ops.Block(rows)
        assert check(K, K.to_dense()) == f"core:solve/{rule}"
        assert cola.explain(cola.slogdet, K).root.by == f"core:slogdet/{rule}"


def test_arrow_is_eliminated_from_its_tips(rng):
    d = [rng.uniform(1, 2, 5) for _ in range(3)]
    tips = [rng.normal(size=(5, 2)) for _ in d]
    rows = [[well(rng, 2) + 20 * np.eye(2), *(t.T.copy() for t in tips)]]
    for i, t in enumerate(tips):
        rows.append([t, *(ops.Diagonal(d[j]) if j == i else None for j in range(3))])
    A = ops.Block(rows)
    assert plan_of(A).pivots[-1] == (0, 0)
    assert plan_of(A).entries < 100  # no block of the tips meets another
    check(A, A.to_dense())


def test_determinant_signs_of_permuted_blocks(rng):
    for m, n in ((1, 1), (1, 2), (3, 2), (3, 3), (1, 4)):
        a, b, c = well(rng, m), well(rng, n), rng.normal(size=(n, m))
        for rows in ([[None, a], [b, None]], [[None, a], [b, c]], [[c.T.copy(), a], [b, None]]):
            A = ops.Block(rows)
            np.testing.assert_allclose(cola.slogdet(A), np.linalg.slogdet(A.to_dense()), atol=1e-12)


def test_singular_pivots_of_regular_matrices():
    """``[[0, I], [I, 0]]`` written with stored zeros: both diagonal blocks are singular, the whole is not."""
    rng = np.random.default_rng(3)
    z, one = np.zeros((2, 2)), np.eye(2)
    singular = np.array([[1.0, 2.0], [2.0, 4.0]])
    for rows in (
        [[z, one], [one, z]],
        [[singular, one], [one, singular]],
        [[singular, rng.normal(size=(2, 3))], [rng.normal(size=(3, 2)), well(rng, 3)]],
        [[1e-17 * well(rng, 2), one], [one, 1e-17 * one]],
        [[ops.Diagonal(np.array([0.0, 1.0])), one], [one, 2 * one]],
        [[ops.Diagonal(np.array([1e-18, 1.0])), np.ones((2, 1))], [rng.normal(size=(1, 2)), 5 * one[:1, :1]]],
        [[z, one, z], [one, z, one], [z, one, one]],
    ):
        A = ops.Block(rows)
        check(A, A.to_dense())


def test_a_singular_whole_is_never_a_silent_success():
    a = np.array([[1.0, 2.0], [2.0, 4.0]])
    triangular = ops.Block([[a, np.ones((2, 1))], [None, np.ones((1, 1))]])
    full = ops.Block([[np.eye(2), np.eye(2)], [np.eye(2), np.eye(2)]])
    for A in (triangular, full):
        with pytest.raises((SingularMatrixError, Warning)), warnings.catch_warnings():
            warnings.simplefilter("error")
            cola.solve(A, np.ones(A.shape[-1]))
        sign, value = cola.slogdet(A)
        assert value < -30


def test_structured_blocks_stay_structured(rng):
    n = 400
    d, e = rng.uniform(1, 2, n), rng.uniform(-0.5, 0.5, n)
    A = ops.Block([[ops.Diagonal(d), ops.Diagonal(e)], [ops.Diagonal(e), ops.ScalarMul(2.0, n)]])
    assert plan_of(A).entries == 0  # every Schur complement is diagonal
    check(A, A.to_dense())
    a, b, c = spd(rng, 4), spd(rng, 5), rng.normal(size=(4, 4)) + 4 * np.eye(4)
    B = cola.kron(c, np.eye(5))
    K = ops.Block([[cola.kron(cola.PSD(a), cola.PSD(b)), B.H], [B, None]])
    check(K, K.to_dense())
    plan = cola.explain(cola.solve, K, np.ones(40))
    assert max(x.shape[-1] for x in plan.nodes() if not x.kind.startswith("rule")) <= 5, str(plan)


def test_a_saddle_point_uses_cholesky_twice(rng):
    B = ops.Dense(rng.normal(size=(3, 8)))
    K = ops.Block([[cola.PSD(spd(rng, 8)), B.H], [B, None]])
    plan = cola.explain(cola.solve, K, np.ones(11))
    assert {n.by for n in plan.nodes() if not n.kind.startswith("rule")} == {"core:solve/cholesky"}, str(plan)


def test_psd_grid_has_psd_complements(rng):
    a = spd(rng, 6)
    K = cola.PSD(ops.Block([[a[:4, :4], a[:4, 4:]], [a[4:, :4], a[4:, 4:]]]))
    check(K, a)
    np.testing.assert_allclose(cola.logdet(K), np.linalg.slogdet(a)[1])


def test_an_explicit_algorithm_reaches_triangular_blocks_and_otherwise_the_whole(rng):
    A, B, D = spd(rng, 3), rng.normal(size=(3, 2)), spd(rng, 2)
    T = ops.Block([[cola.PSD(A), B], [None, cola.PSD(D)]])
    x, info = cola.solve(T, np.ones(5), cola.CG(tol=1e-12), return_info=True)
    np.testing.assert_allclose(x, np.linalg.solve(T.to_dense(), np.ones(5)), atol=1e-9)
    assert info.rule == "core:solve/block-triangular"
    F = ops.Block([[A, B], [B.T.copy(), D]])
    x, info = cola.solve(F, np.ones(5), cola.GMRES(tol=1e-12), return_info=True)
    np.testing.assert_allclose(x, np.linalg.solve(F.to_dense(), np.ones(5)), atol=1e-9)
    assert "schur" not in info.rule


def test_memory_budget_and_iterations_are_preferred_where_fill_is_dear():
    n = 3000
    i = np.arange(n)
    L = ops.Sparse(
        np.concatenate([np.full(n, 4.0), np.full(2 * n - 2, -1.0)]),
        np.concatenate([i, i[1:], i[:-1]]),
        np.concatenate([i, i[:-1], i[1:]]),
        (n, n),
    )
    A = ops.Block([[L, ops.Identity(n)], [-1.0 * ops.Identity(n), L]])
    plan = cola.explain(cola.solve, A, np.ones(2 * n), candidates=True)
    assert not plan.root.kind.startswith("rule"), str(plan)
    x = cola.solve(A, np.ones(2 * n))
    assert np.linalg.norm(A @ x - 1) < 1e-5 * n
    small = ops.Block([[np.eye(50), np.ones((50, 40))], [np.ones((40, 50)), np.eye(40)]])
    assert by(small) == "core:solve/schur"
    verdict = eliminates(small, np.ones((90, 1)), alg=cola.Auto(memory=1e4))
    assert isinstance(verdict, str) and "MiB" in verdict


def test_grids_without_square_pivots_fall_to_algorithms(rng):
    A = ops.Block(
        [[rng.normal(size=(2, 3)), rng.normal(size=(2, 3))], [rng.normal(size=(4, 3)) for _ in range(2)]]
    )
    assert plan_of(A) is None and triangular_order(A) is None
    D = A.to_dense()
    np.testing.assert_allclose(cola.solve(A, np.ones(6)), np.linalg.solve(D, np.ones(6)), atol=1e-9)
    B = ops.Block([[rng.normal(size=(1, 2)), rng.normal(size=(1, 1))], [rng.normal(size=(2, 2)), None]])
    np.testing.assert_allclose(cola.slogdet(B), np.linalg.slogdet(B.to_dense()), atol=1e-10)


def test_inverse_of_one_block_in_each_row_is_a_grid(rng):
    a, b = well(rng, 2), well(rng, 3)
    Ainv = cola.inv(ops.Block([[None, a], [b, None]]))
    assert isinstance(Ainv, ops.Block)
    np.testing.assert_allclose(Ainv.to_dense(), np.linalg.inv(ops.Block([[None, a], [b, None]]).to_dense()))


def test_diagonal_and_trace_of_the_inverse_of_a_triangular_grid(rng):
    a, b, c, d = well(rng, 2), rng.normal(size=(2, 3)), well(rng, 3), well(rng, 1)
    for rows in (
        [[a, b, None], [None, c, np.ones((3, 1))], [None, None, d]],
        [[a, None, None], [b.T.copy(), c, None], [np.ones((1, 2)), None, d]],
    ):
        A = ops.Block(rows)
        want = np.linalg.inv(A.to_dense())
        np.testing.assert_allclose(cola.diag(cola.inv(A)), np.diag(want), atol=1e-12)
        np.testing.assert_allclose(cola.trace(cola.inv(A)), np.trace(want), atol=1e-12)
        assert cola.explain(cola.diag, cola.inv(A)).root.by == "core:diag/inverse-block-triangular"


@pytest.mark.parametrize("upper", [True, False])
def test_eigenvalues_of_triangular_grids(upper, rng):
    blocks = [well(rng, 2), well(rng, 3) + 5 * np.eye(3), cola.PSD(spd(rng, 2) + 40 * np.eye(2))]
    sizes = (2, 3, 2)
    rows = [
        [
            blocks[i] if i == j else rng.normal(size=(sizes[i], sizes[j])) if (j > i) == upper else None
            for j in range(3)
        ]
        for i in range(3)
    ]
    A = ops.Block(rows)
    D = A.to_dense()
    assert cola.explain(cola.eig, A).root.by == "core:eig/block-triangular"
    w, V = cola.eig(A)
    V = V.to_dense()
    np.testing.assert_allclose(D @ V, V * w, atol=1e-9)
    assert np.linalg.matrix_rank(V) == 7
    want = np.linalg.eigvals(D)
    for z in np.concatenate([want, cola.linalg.eigvals(A)]):
        assert np.abs(want - z).min() < 1e-9
    assert cola.explain(cola.linalg.eigvals, A).root.by == "core:eigvals/block-triangular"


def test_equal_spectra_have_no_vectors_from_a_sylvester_equation(rng):
    a = well(rng, 2)
    A = ops.Block([[a, np.ones((2, 2))], [None, a]])
    w = cola.linalg.eigvals(A)  # the values are exact all the same
    np.testing.assert_allclose(np.sort_complex(w), np.sort_complex(np.repeat(np.linalg.eigvals(a), 2)))
    plan = cola.explain(cola.eig, A, analyze=True)
    assert plan.root.by == "core:eig/eig", str(plan)


def test_large_tridiagonal_grid_is_linear_in_its_blocks(rng):
    p, m = 200, 3
    A, B, C = well(rng, m) + 5 * np.eye(m), rng.normal(size=(m, m)), rng.normal(size=(m, m))
    near = {0: A, 1: B, -1: C}
    K = ops.Block([[near.get(j - i) for j in range(p)] for i in range(p)])
    assert plan_of(K).entries <= 3 * p * m * m
    x = rng.normal(size=p * m)
    np.testing.assert_allclose(cola.solve(K, K @ x), x, atol=1e-9)
    np.testing.assert_allclose(cola.slogdet(K), np.linalg.slogdet(K.to_dense()), atol=1e-8)


def test_sizes_zero_and_one():
    e = np.zeros((0, 0))
    A = ops.Block([[e, np.zeros((0, 2))], [np.zeros((2, 0)), 2 * np.eye(2)]])
    np.testing.assert_allclose(cola.solve(A, np.ones(2)), np.full(2, 0.5))
    np.testing.assert_allclose(cola.slogdet(A), (1, 2 * np.log(2)))
    B = ops.Block([[np.full((1, 1), 4.0)]])
    np.testing.assert_allclose(cola.solve(B, np.ones(1)), [0.25])
    assert cola.solve(B, np.ones((1, 0))).shape == (1, 0)
    assert cola.trace(ops.Block([[e]])) == 0


@pytest.mark.parametrize("library", [lib for lib in ("torch", "jax") if installed(lib)])
def test_gradients_of_schur_and_saddle_point(library, rng):
    from cola_core.backends import get_backend

    be = get_backend(library)
    a, b, d = spd(rng, 3), rng.normal(size=(2, 3)), spd(rng, 2)
    rhs, along = be.asarray(np.ones(5)), [rng.normal(size=x.shape) for x in (a, b, d)]

    def value(a, b, d):
        B = ops.Dense(b)
        out = 0
        for corner in (d, None):
            K = ops.Block([[cola.PSD(ops.Dense(a)), B.H], [B, corner]])
            out = out + be.xp.sum(cola.solve(K, rhs) ** 2) + cola.slogdet(K)[1]
        return out

    args = [be.asarray(x) for x in (a, b, d)]
    if library == "torch":
        leaves = [x.clone().requires_grad_() for x in args]
        value(*leaves).backward()
        got = [x.grad.numpy() for x in leaves]
    else:
        import jax

        got = [np.asarray(g) for g in jax.grad(value, argnums=(0, 1, 2))(*args)]
        np.testing.assert_allclose(jax.jit(value)(*args), value(*args), rtol=1e-10)
    along[0] = along[0] + along[0].T  # a stays symmetric: one triangle of it is read
    h = 1e-6
    up = value(*(be.asarray(x + h * s) for x, s in zip((a, b, d), along, strict=True)))
    down = value(*(be.asarray(x - h * s) for x, s in zip((a, b, d), along, strict=True)))
    want = float(up - down) / (2 * h)
    np.testing.assert_allclose(sum(np.sum(g * s) for g, s in zip(got, along, strict=True)), want, rtol=1e-5)


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
def test_compiled_programs_do_not_trust_a_pivot_that_may_be_singular():
    import jax
    import jax.numpy as jnp

    one, rhs = jnp.eye(2), jnp.arange(4.0)

    @jax.jit
    def dense(z):
        return cola.solve(ops.Block([[z, one], [one, z]]), rhs)

    np.testing.assert_allclose(dense(jnp.zeros((2, 2))), [2, 3, 0, 1])

    @jax.jit
    def light(d):  # refined once in any case: the pivot 1e-9 costs nine digits
        return cola.solve(ops.Block([[ops.Diagonal(d), one], [one, one]]), rhs)

    d = jnp.asarray([1e-9, 3.0])
    D = np.block([[np.diag(d), np.eye(2)], [np.eye(2), np.eye(2)]])
    np.testing.assert_allclose(light(d), np.linalg.solve(D, rhs), atol=1e-12)
