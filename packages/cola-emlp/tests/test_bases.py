"""Bases: exact dimensions, residuals, known bases, and independence of how a group was described."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cola_emlp.solvers.choose as choose
from cola_core import ops
from cola_emlp import (
    GL,
    O11,
    O13,
    SL,
    SO,
    SO11,
    SO13,
    SU,
    A,
    BasisError,
    C,
    D,
    MatrixGroup,
    O,
    OrbitBasis,
    OrbitProjector,
    Parity,
    PermutationGroup,
    RepError,
    S,
    Scalar,
    SO11p,
    SO13p,
    Sp,
    T,
    Trivial,
    U,
    V,
    Z,
    equivariance_error,
    equivariant_basis,
    equivariant_projector,
)
from cola_emlp.bases import RESIDUAL_TOLERANCE


def dense(op):
    return np.asarray(op.to_dense())


def check(basis):
    """Everything that must hold of any basis small enough to look at densely."""
    q, p = dense(basis.Q), dense(basis.projector())
    assert q.shape == (basis.size, basis.dimension) and np.isfinite(q).all()
    assert np.allclose(q.conj().T @ q, np.eye(basis.dimension), atol=1e-12)
    assert np.allclose(p, q @ q.conj().T, atol=1e-12) and np.allclose(p @ p, p, atol=1e-12)
    assert np.allclose(p, p.conj().T, atol=1e-13) and abs(np.trace(p) - basis.dimension) < 1e-9
    assert basis.residual <= RESIDUAL_TOLERANCE and equivariance_error(basis, basis.rep) <= 1e-9
    return q


def same_space(a, b):
    return a.shape == b.shape and np.allclose(a @ a.conj().T, b @ b.conj().T, atol=1e-9)


EXACT = [
    (S(5), [1, 1, 2, 5, 15, 52]),
    (A(4), [1, 1, 2, 6, 22]),
    (Z(4), [1, 1, 4, 16, 64]),
    (SO(2), [1, 0, 2, 0, 6, 0, 20, 0, 70]),
    (O(2), [1, 0, 1, 0, 3, 0, 10]),
    (SO(3), [1, 0, 1, 1, 3, 6, 15, 36]),
    (O(3), [1, 0, 1, 0, 3, 0, 15]),
    (SO(4), [1, 0, 1, 0, 4, 0, 25]),
    (O(4), [1, 0, 1, 0, 3, 0]),
    (O(5), [1, 0, 1, 0, 3]),
    (SO13p(), [1, 0, 1, 0, 4, 0, 25]),
    (SO13(), [1, 0, 1, 0, 4]),
    (O13(), [1, 0, 1, 0, 3]),
    (SO11p(), [1, 0, 2, 0, 6]),
    (SO11(), [1, 0, 2, 0, 6]),
    (O11(), [1, 0, 1, 0, 3]),
    (Sp(1), [1, 0, 1, 0, 2, 0, 5]),
    (Sp(2), [1, 0, 1, 0, 3, 0, 14]),
    (SL(2), [1, 0, 1, 0, 2, 0, 5]),
    (SU(2), [1, 0, 1, 0, 2, 0, 5]),
    (SU(3), [1, 0, 0, 1, 0, 0, 5]),
    (C(4), [1, 0, 2, 0, 8, 0]),
    (D(4), [1, 0, 1, 0, 4, 0]),
    (Parity(3), [1, 0, 9, 0]),
    (Trivial(3), [1, 3, 9]),
    (SO(1), [1, 1, 1]),
    (S(1), [1, 1, 1]),
]


@pytest.mark.parametrize(("group", "dims"), EXACT, ids=lambda x: str(x) if not isinstance(x, list) else "")
def test_dimension_of_tensor_invariants(group, dims):
    for k, dim in enumerate(dims):
        basis = equivariant_basis(T(k), group) if k else equivariant_basis(T(0)(group))
        assert basis.dimension == dim == basis.exact and "exact count" in basis.certified
        assert basis.residual <= RESIDUAL_TOLERANCE
        if basis.size <= 256:
            check(basis)


@pytest.mark.parametrize(
    ("group", "dims"),
    [
        (GL(2), [1, 1, 2, 5, 14]),
        (U(2), [1, 1, 2, 5, 14]),
        (GL(3), [1, 1, 2, 6]),
        (U(3), [1, 1, 2, 6]),
        (SL(3), [1, 1, 2, 6]),
        (SU(3), [1, 1, 2, 6]),
        (SO13p(), [1, 1, 4, 25]),
    ],
    ids=lambda x: str(x) if not isinstance(x, list) else "",
)
def test_dimension_of_mixed_tensor_invariants(group, dims):
    for p, dim in enumerate(dims):
        basis = equivariant_basis(T(p, p)(group))
        assert basis.dimension == dim == basis.exact
        if basis.size <= 256:
            check(basis)
    assert equivariant_basis(T(2, 1)(group)).dimension == 0


def test_maps_have_the_dimension_of_the_combined_tensor():
    for group, dim in ((SO(3), 3), (S(5), 15), (SU(2), 2), (GL(2), 2), (Sp(2), 3)):
        basis = equivariant_basis(T(2) >> T(2), group)
        check(basis)
        assert basis.dimension == dim
        maps = basis.maps()
        assert maps.shape == (dim, group.d**2, group.d**2)
        g = group.matrix(group.sample(5))
        r = np.kron(g, g)
        for m in maps:
            assert np.allclose(r @ m, m @ r, atol=1e-9 * np.abs(r).max() ** 2)
        assert equivariance_error(maps, basis.rep) < 1e-10 and equivariance_error(maps[0], basis.rep) < 1e-10


# --- known bases ---


def test_levi_civita():
    q = check(equivariant_basis(T(3)(SO(3)))).reshape(3, 3, 3)
    eps = np.zeros((3, 3, 3))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        eps[i, j, k], eps[j, i, k] = 1, -1
    assert min(np.abs(q - s * eps / np.sqrt(6)).max() for s in (1, -1)) < 1e-12


def test_products_of_deltas():
    delta = np.eye(3)
    pairings = [
        np.einsum(f"{a},{b}->ijkl", delta, delta).reshape(-1)
        for a, b in (("ij", "kl"), ("ik", "jl"), ("il", "jk"))
    ]
    q, _ = np.linalg.qr(np.stack(pairings, axis=1))
    assert same_space(check(equivariant_basis(T(4)(O(3)))), q)


def test_symplectic_form_and_minkowski_metric():
    j = np.block([[np.zeros((2, 2)), np.eye(2)], [-np.eye(2), np.zeros((2, 2))]])
    assert same_space(check(equivariant_basis(T(2)(Sp(2)))), j.reshape(-1, 1) / 2)
    eta = np.diag([1.0, -1, -1, -1])
    assert same_space(check(equivariant_basis(T(2)(O13()))), eta.reshape(-1, 1) / 2)
    assert same_space(check(equivariant_basis(T(1, 1)(O13()))), np.eye(4).reshape(-1, 1) / 2)


def test_set_partitions_of_two_indices():
    q = check(equivariant_basis(V >> V, S(4)))
    expected, _ = np.linalg.qr(np.stack([np.eye(4).reshape(-1), np.ones(16)], axis=1))
    assert same_space(q, expected)


def test_permutations_of_tensor_factors_span_the_commutant():
    basis = equivariant_basis(T(2) >> T(2), U(3))
    swap = np.einsum("ik,lj->iljk", np.eye(3), np.eye(3)).reshape(9, 9)
    expected, _ = np.linalg.qr(np.stack([np.eye(9).reshape(-1), swap.reshape(-1)], axis=1))
    assert same_space(check(basis), expected.astype(complex))


# --- independence of the description ---


def orthogonal_projection(a):
    return a @ a.conj().T


@pytest.mark.parametrize("group", [SO(3), O(3), SO13p(), Sp(2), GL(2), SU(2), O13()], ids=str)
def test_scaling_order_and_redundancy_of_generators_do_not_matter(group):
    rng = np.random.default_rng(0)
    rep = T(2, 2) if group in (GL(2), SU(2)) else T(4)
    reference = dense(equivariant_basis(rep(group)).Q)
    for scale in (100.0, 1e-6, 1e6):
        lie = [scale ** rng.uniform(0, 1) * a for a in group.lie]
        lie += [lie[0] + 2 * lie[-1], lie[0], 0 * lie[0]]
        lie = [lie[i] for i in rng.permutation(len(lie))]
        discrete = [*group.discrete, *group.discrete]
        basis = equivariant_basis(rep(MatrixGroup("again", lie, discrete)))
        assert basis.residual <= RESIDUAL_TOLERANCE and same_space(dense(basis.Q), reference)


def test_few_generators_suffice():
    few = MatrixGroup("two rotations", SO(4).lie[[0, 3]] * 1e5, SO(4).lie[:0])
    more = MatrixGroup("three rotations", SO(4).lie[[0, 3, 5]])
    assert equivariant_basis(T(4)(few)).dimension > 4  # rotations of the first three axes only
    assert same_space(dense(equivariant_basis(T(4)(more)).Q), dense(equivariant_basis(T(4)(SO(4))).Q))


def test_methods_agree():
    """Orbits against averaging against the general nullspace, for one and the same group."""
    perms = [S(4).matrix(p) for p in S(4).generators]
    by_orbits = dense(equivariant_basis(T(3)(S(4))).Q)
    as_matrices = equivariant_basis(T(3)(MatrixGroup("matrices", discrete=perms)))
    assert "average" in as_matrices.method and as_matrices.exact == 5
    assert same_space(dense(as_matrices.Q), by_orbits)
    for group, k in ((SO(3), 4), (SO13p(), 3), (Sp(1), 4), (O(3), 4)):
        word = (False,) * k
        constraints = [choose.lie_constraint(a, word) for a in group.lie]
        constraints += [choose.discrete_constraint(h, word) for h in group.discrete]
        general = choose.nullspace_invariants(group.d**k, np.dtype(float), constraints)
        assert same_space(general, dense(equivariant_basis(T(k)(group)).Q))


def test_conjugated_group_takes_the_general_path():
    rng = np.random.default_rng(1)
    b = rng.standard_normal((3, 3)) + 3 * np.eye(3)
    inv = np.linalg.inv(b)
    tilted = MatrixGroup("tilted rotations", [b @ a @ inv for a in SO(3).lie])
    basis = equivariant_basis(T(3)(tilted))
    assert "nullspace" in basis.method and basis.dimension == 1 and basis.exact is None
    check(basis)
    assert "residual" in basis.certified


def test_non_reductive_and_infinite_discrete_groups():
    shear = MatrixGroup("shear", [[[0, 1], [0, 0]]])
    integer_shear = MatrixGroup("integer shear", discrete=[[[1, 1], [0, 1]]])
    for k, dim in enumerate([1, 1, 2, 3, 6]):  # sl(2) highest-weight vectors in V^k
        for group in (shear, integer_shear):
            basis = equivariant_basis(T(k)(group))
            assert basis.dimension == dim
            check(basis)


def test_torus_with_incommensurate_speeds():
    a = np.zeros((4, 4))
    a[0, 1], a[1, 0], a[2, 3], a[3, 2] = -1, 1, -np.sqrt(2), np.sqrt(2)
    basis = equivariant_basis(T(2)(MatrixGroup("line", [a])))
    assert basis.dimension == 4
    check(basis)


# --- sums, products of groups, sizes ---


def test_direct_sums_reuse_words_and_keep_coordinates():
    rep = (V + 2 * T(2) + Scalar) >> (Scalar + V)
    basis = equivariant_basis(rep, SO(3))
    check(basis)
    # Hom blocks: T2->1 (1 each, two), T2->V (1 each, two), V->V (1), 1->1 (1)
    assert basis.dimension == 6 and sum(w.copies * w.dimension for w in basis.words) == 6


def test_large_sums_stay_lazy():
    channels = 100 * Scalar + 100 * V + 20 * T(2)
    basis = equivariant_basis(channels >> channels, S(6))
    assert basis.Q.shape == (2_016_400, 84_000) and isinstance(basis.Q, OrbitBasis)
    rotations = equivariant_basis(channels >> channels, SO(3))
    assert rotations.Q.shape == (580**2, rotations.dimension) and rotations.residual < 1e-12


def test_products_of_groups_multiply():
    basis = equivariant_basis(V >> V, S(4) * O(3))
    check(basis)
    assert basis.dimension == 2 * 1
    r = V(S(3)) * V(O(2)) + V(O(2)) + V(S(3))
    mixed = equivariant_basis(r >> r)
    check(mixed)
    # (S x O parts): VsVo->VsVo 2*1, VsVo->Vo 1*1 and back, Vo->Vo 1, Vs->Vs 2; the rest is odd in V(O(2))
    assert mixed.dimension == 2 + 1 + 1 + 1 + 2
    both = equivariant_basis(V >> V, S(3) * Z(4))
    assert isinstance(both.Q, OrbitBasis) and both.dimension == 2 * 4
    check(both)
    check(equivariant_basis(T(1, 1), U(2) * S(3)))
    assert equivariant_basis(V, U(2) * S(3)).dimension == 0


@pytest.mark.parametrize("group", [S(3), SO(3), SU(2), C(5)], ids=str)
def test_trivial_rep_and_empty_basis(group):
    one = equivariant_basis(Scalar, group)
    assert one.dimension == 1 and np.allclose(dense(one.Q), 1)
    three = equivariant_basis(3 * Scalar, group)
    assert three.dimension == 3 and np.allclose(dense(three.projector()), np.eye(3))
    if group != S(3):
        none = equivariant_basis(V, group)
        assert none.dimension == 0 and none.Q.shape == (group.d, 0) and none.residual == 0
        assert np.array_equal(dense(none.projector()), np.zeros((group.d, group.d)))
        assert equivariance_error(none, none.rep) == 0


REP = st.recursive(
    st.sampled_from([V, V, Scalar, T(1, 1), T(0, 1)]),
    lambda inner: st.tuples(inner, inner, st.sampled_from("+*>")).map(
        lambda t: t[0] + t[1] if t[2] == "+" else t[0] * t[1] if t[2] == "*" else t[0] >> t[1]
    ),
    max_leaves=4,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    rep=REP,
    group=st.sampled_from([S(3), SO(2), O(2), SO(3), Sp(1), GL(2), SU(2), D(3), Z(3), SO11p(), S(2) * SO(2)]),
)
def test_random_representations(rep, group):
    concrete = rep(group)
    if concrete.size > 400:
        return
    basis = equivariant_basis(concrete)
    check(basis)
    assert basis.exact == basis.dimension
    # Completeness by an independent route: dense nullspace of the generators' own constraints.
    rows = []
    for a, h in [(None, None)] if group.factors != (group,) else []:
        assert a is h
    if group.factors == (group,):
        if isinstance(group, PermutationGroup):
            rows = [dense(concrete.rho(h)) - np.eye(basis.size) for h in group.generators]
        else:
            rows = [dense(concrete.drho(a)) for a in group.lie]
            rows += [dense(concrete.rho(h)) - np.eye(basis.size) for h in group.discrete]
        s = np.linalg.svd(np.concatenate(rows), compute_uv=False)
        assert int(np.sum(s > 1e-9)) == basis.size - basis.dimension


# --- errors ---


def test_equivariance_error_tells_right_from_wrong():
    rep = (T(2) >> V)(SO(3))
    w = np.random.default_rng(0).standard_normal((3, 9))
    assert equivariance_error(w, rep) > 0.3 and equivariance_error(w.reshape(-1), rep) > 0.3
    p = equivariant_projector(rep)
    assert equivariance_error((p @ w.reshape(-1)).reshape(3, 9), rep) < 1e-13
    assert equivariance_error(p, rep) < 1e-13 and equivariance_error(ops.Dense(dense(p)), rep) < 1e-13
    assert equivariance_error(np.zeros((3, 9)), rep) == 0.0
    assert equivariance_error(np.eye(3), V >> V, SO(3), samples=2, key=7) < 1e-13


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: equivariant_basis(T(2)), RepError, "not known yet"),
        (lambda: equivariant_basis("T(2)", SO(3)), RepError, "takes a representation"),
        (lambda: equivariant_basis(T(60), S(3)), BasisError, "limit"),
        (lambda: equivariant_basis(T(20), SO(3)), BasisError, "limit"),
        (lambda: equivariant_basis(T(2), S(50), max_bytes=1000), BasisError, "max_bytes"),
        (
            lambda: equivariant_basis(T(12)(MatrixGroup("shear", [[[0, 1], [0, 0]]]))),
            BasisError,
            "general nullspace",
        ),
        (lambda: equivariant_basis(T(2)(SO(3))).maps(), RepError, "linear maps"),
        (lambda: equivariance_error(np.ones((2, 2)), T(2)(SO(3))), RepError, "do not fit"),
        (lambda: equivariance_error(np.full(9, np.nan), T(2)(SO(3))), BasisError, "NaN"),
        (lambda: equivariance_error(np.ones(9), T(2)(SO(3)), samples=0), ValueError, "sample"),
    ],
)
def test_bad_requests_are_refused(build, error, words):
    with pytest.raises(error, match=words):
        build()


def test_imprecise_generators_are_refused_not_guessed():
    rng = np.random.default_rng(0)
    noisy = [a + 1e-7 * rng.standard_normal((3, 3)) for a in SO(3).lie]
    with pytest.raises(BasisError, match="not numerically determined|residual"):
        equivariant_basis(T(2)(MatrixGroup("noisy", noisy)))


def test_contradicted_count_is_an_error():
    liar = MatrixGroup("liar", SO(3).lie, counter=lambda p, q: 2)
    with pytest.raises(BasisError, match="exact count"):
        equivariant_basis(T(2)(liar))


def test_orbit_projector_is_used_for_permutations():
    p = equivariant_projector(T(2) >> T(2), S(5))
    assert isinstance(p, OrbitProjector) and p.rank == 15
    x = np.random.default_rng(0).standard_normal(625)
    assert np.allclose(p @ (p @ x), p @ x, atol=1e-13)


def test_reports_read_well():
    basis = equivariant_basis((V + T(2)) >> V, SO(3))
    assert str(basis).startswith("2 equivariant of 36") and "Casimir" in repr(basis)
    assert "dimension        2" in basis.describe() and "1 x V(SO(3))**3: 1 each" in basis.describe()


@pytest.mark.parametrize(
    ("rep", "group", "seconds"),
    [(T(7), SO(3), 1.0), (T(5), S(5), 0.3), (T(6), SO13p(), 1.0), (T(2), S(50), 0.3), (T(6), Sp(2), 1.0)],
    ids=str,
)
def test_speed(rep, group, seconds):
    choose.clear_cache()
    start = time.perf_counter()
    equivariant_basis(rep, group)
    assert time.perf_counter() - start < seconds


def test_answers_are_kept_within_a_budget(monkeypatch):
    choose.clear_cache()
    first = choose.invariants(SO(3), 4, 0)
    assert choose.invariants(SO(3), 4, 0) is first and not first.matrix.flags.writeable
    monkeypatch.setattr(choose, "CACHE_BYTES", 2 * first.nbytes)
    choose.invariants(SO(3), 5, 0)  # 243 x 6 is larger than the budget: not kept
    assert sum(f.nbytes for f in choose._cache.values()) <= 2 * first.nbytes
    choose.clear_cache()
    assert not choose._cache


def test_importing_is_light():
    import subprocess
    import sys

    heavy = "{'torch', 'jax', 'scipy.sparse', 'scipy.sparse.linalg'}"
    code = f"import sys, cola_emlp; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True)
