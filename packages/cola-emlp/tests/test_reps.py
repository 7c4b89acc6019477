"""Representations: homomorphism, derivative, algebra of +, *, .T, >>, and the split into tensor words."""

import numpy as np
import pytest

from cola_core import ops
from cola_emlp import (
    GL,
    SO,
    SU,
    GroupError,
    Hom,
    O,
    RepError,
    S,
    Scalar,
    SO13p,
    Sp,
    T,
    U,
    V,
    Z,
)
from cola_emlp.expm import expm

GROUPS = [SO(3), SO13p(), Sp(1), GL(2), SU(2), U(2), S(3), Z(4)]
REPS = [
    V,
    Scalar,
    T(2),
    T(1, 1),
    T(0, 2),
    2 * V + Scalar,
    (V + Scalar) * V.T,
    V >> (Scalar + V),
    T(2) >> V,
    3 * Scalar,
]


def dense(op):
    return np.asarray(op.to_dense())


@pytest.mark.parametrize("group", GROUPS, ids=str)
@pytest.mark.parametrize("rep", REPS, ids=repr)
def test_rho_is_a_homomorphism(group, rep):
    r = rep(group)
    g, h = group.matrix(group.sample(0)), group.matrix(group.sample(1))
    left, right = dense(r.rho(g @ h)), dense(r.rho(g)) @ dense(r.rho(h))
    assert left.shape == (r.size, r.size)
    assert np.allclose(left, right, atol=1e-9 * max(1, np.abs(right).max()))


@pytest.mark.parametrize("group", [SO(3), SO13p(), Sp(1), GL(2), SU(2)], ids=str)
@pytest.mark.parametrize("rep", REPS, ids=repr)
def test_drho_exponentiates_to_rho(group, rep):
    r = rep(group)
    a = 0.3 * group.lie[0] + 0.2 * group.lie[-1]
    assert np.allclose(expm(dense(r.drho(a)) + 0 * a[0, 0]), dense(r.rho(expm(a))), atol=1e-11)


def test_rho_of_products_and_sums_is_structured():
    g = SO(3).sample(0)
    assert isinstance(T(3)(SO(3)).rho(g), ops.Kronecker)
    assert isinstance(T(3)(SO(3)).drho(SO(3).lie[0]), ops.KronSum)
    assert isinstance((V + Scalar)(SO(3)).rho(g), ops.BlockDiag)
    assert isinstance(V(S(4)).rho(S(4).sample(0)), ops.Permutation)


def test_permutations_act_as_their_matrices():
    g = S(5).sample(1)
    assert np.array_equal(dense(V(S(5)).rho(g)), S(5).matrix(g))
    assert np.allclose(dense(T(2)(S(5)).rho(g)), dense(T(2)(S(5)).rho(S(5).matrix(g))))


def test_maps_act_by_conjugation():
    for group in (SO(3), GL(2), SU(2), SO13p()):
        source, target = T(1)(group), T(0, 1)(group)
        g = group.sample(2)
        w = np.random.default_rng(0).standard_normal((target.size, source.size))
        expected = dense(target.rho(g)) @ w @ np.linalg.inv(dense(source.rho(g)))
        assert np.allclose(dense((source >> target).rho(g)) @ w.reshape(-1), expected.reshape(-1), atol=1e-10)


def test_duals():
    assert T(2)(SO(3)).T == T(2)(SO(3)) and T(1, 1)(S(4)) == T(2)(S(4))
    assert V(GL(2)).T != V(GL(2)) and V(GL(2)).T.T == V(GL(2))
    assert (V + T(2)).T == V.T + T(0, 2)


@pytest.mark.parametrize(
    "rep", [(V + 2 * T(2)) * (Scalar + V), 2 * (V + Scalar) + V, (V + T(0, 1)) ** 3, Scalar, 5 * Scalar]
)
@pytest.mark.parametrize("group", [GL(2), S(3)], ids=str)
def test_words_cover_every_coordinate_once_and_split_rho(rep, group):
    r = rep(group)
    index = np.concatenate([i.reshape(-1) for i in r.blocks.values()])
    assert np.array_equal(np.sort(index), np.arange(r.size))
    g = group.matrix(group.sample(0))
    full = dense(r.rho(g))
    for word, copies in r.blocks.items():
        small = np.ones((1, 1))
        for letter in word:
            small = np.kron(small, dense(letter.rho(g)))
        for c in copies:
            assert np.allclose(full[np.ix_(c, c)], small, atol=1e-12)


def test_names_read_back():
    for rep in REPS + [(V + Scalar) ** 2, 2 * (V + T(2)), (V + Scalar) >> (V + T(2)), V >> (V >> V)]:
        again = eval(repr(rep), {"V": V, "T": T, "Scalar": Scalar})  # noqa: S307 - our own repr
        assert again == rep, repr(rep)
    assert repr(T(2) >> V) == "T(2) >> V" and repr(T(1, 1)(SO13p())) == "V(SO13p())*V(SO13p()).T"


def test_mixed_groups():
    r = V(S(3)) * V(O(2)) + 2 * V(O(2))
    assert r.group == S(3) * O(2) and r.size == 10
    g = r.group.sample(0)
    top = np.kron(S(3).matrix(g[0]), g[1])
    assert np.allclose(dense(r.rho(g))[:6, :6], top) and np.allclose(dense(r.rho(g))[6:8, 6:8], g[1])
    assert V(S(3) * O(2)) == V(S(3)) * V(O(2))
    d = dense(r.drho((None, O(2).lie[0])))
    assert np.allclose(d[:6, :6], np.kron(np.eye(3), O(2).lie[0]))


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: T(-1), RepError, ">= 0"),
        (lambda: T(1.5), RepError, "integers"),
        (lambda: V**-1, RepError, ">= 0"),
        (lambda: V * 0, RepError, "1 or more"),
        (lambda: V.size, RepError, "not known yet"),
        (lambda: V.rho(np.eye(3)), RepError, "not known yet"),
        (lambda: Scalar.group, RepError, "no group of its own"),
        (lambda: V("SO(3)"), RepError, "by a group"),
        (lambda: T(2)(SO(3)).rho(np.eye(2)), GroupError, "3x3"),
        (lambda: T(2)(SO(3)).drho(np.eye(2)), GroupError, "3x3"),
        (lambda: (V(S(3)) * V(O(2))).rho(np.eye(6)), GroupError, "tuples of 2"),
        (lambda: V + 3, TypeError, "unsupported"),
        (lambda: V >> 3, TypeError, "unsupported"),
    ],
)
def test_bad_representations_are_refused(build, error, words):
    with pytest.raises(error, match=words):
        build()


def test_maps_of_maps_flatten():
    hom = V >> (V >> V)
    assert isinstance(hom, Hom) and hom(GL(2)).size == 8
    assert (V >> (T(2) >> V))(SO(3)).map_shape == (27, 3)
