"""Groups: generators satisfy the defining equations, samples lie in the group, bad input is refused."""

import pickle

import numpy as np
import pytest

from cola_core.errors import ColaError
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
    C,
    D,
    DirectProduct,
    GroupError,
    Lorentz,
    MatrixGroup,
    O,
    Parity,
    PermutationGroup,
    S,
    SO11p,
    SO13p,
    Sp,
    Trivial,
    U,
    Z,
)
from cola_emlp.algebra import adjoint_closed, finite_elements, lie_basis
from cola_emlp.expm import expm

MINKOWSKI = np.diag([1.0, -1, -1, -1])
J4 = np.block([[np.zeros((2, 2)), np.eye(2)], [-np.eye(2), np.zeros((2, 2))]])
ALL = [
    Trivial(3),
    SO(1),
    SO(2),
    SO(3),
    O(4),
    S(1),
    S(2),
    S(5),
    Z(1),
    Z(4),
    A(1),
    A(2),
    A(4),
    C(1),
    C(5),
    D(4),
    Sp(2),
    SO13p(),
    SO13(),
    O13(),
    SO11p(),
    SO11(),
    O11(),
    SL(3),
    GL(2),
    SU(1),
    SU(3),
    U(2),
    Parity(2),
    S(3) * O(2),
]
ALGEBRA_DIMENSIONS = {
    SO(4): 6,
    O(3): 3,
    Sp(2): 10,
    SO13p(): 6,
    SL(3): 8,
    GL(3): 9,
    SU(3): 8,
    U(2): 4,
    C(3): 0,
}


@pytest.mark.parametrize("group", ALL, ids=str)
def test_samples_are_reproducible_finite_and_invertible(group):
    a, b, c = (group.matrix(group.sample(k)) for k in (3, 3, 4))
    assert np.array_equal(a, b) and a.shape == (group.d, group.d) and c.shape == a.shape
    assert np.isfinite(a).all() and abs(np.linalg.det(a)) > 1e-8


@pytest.mark.parametrize("group", ALL, ids=str)
def test_pickle_and_equality_by_content(group):
    again = pickle.loads(pickle.dumps(group))
    assert again == group and hash(again) == hash(group) and repr(again) == repr(group)


def test_samples_satisfy_the_defining_equations():
    for k in range(4):
        for n in (1, 2, 3, 4):
            for g in (SO(n), O(n), SU(n), U(n)):
                m = g.sample(k)
                assert np.allclose(m @ m.conj().T, np.eye(n), atol=1e-13)
            assert np.isclose(np.linalg.det(SO(n).sample(k)), 1) and np.isclose(
                np.linalg.det(SU(n).sample(k)), 1
            )
        for g in (SO13p(), SO13(), O13()):
            m = g.sample(k)
            assert np.allclose(m.T @ MINKOWSKI @ m, MINKOWSKI, atol=1e-11)
        assert SO13p().sample(k)[0, 0] >= 1
        m = Sp(2).sample(k)
        assert np.allclose(m.T @ J4 @ m, J4, atol=1e-11)
        assert np.isclose(np.linalg.det(SL(3).sample(k)), 1)
        p = A(5).sample(k)
        assert np.isclose(np.linalg.det(A(5).matrix(p)), 1)


@pytest.mark.parametrize(("group", "m"), ALGEBRA_DIMENSIONS.items(), ids=str)
def test_lie_basis_is_orthonormal_closed_and_of_the_right_dimension(group, m):
    basis = lie_basis(group)
    assert len(basis) == m and adjoint_closed(group)
    gram = np.einsum("iab,jab->ij", basis.conj(), basis).real
    assert np.allclose(gram, np.eye(m), atol=1e-13)


def test_two_generators_and_their_brackets_give_the_whole_algebra():
    a, b = SO(4).lie[0] + SO(4).lie[5] * 0.3, SO(4).lie[1] + SO(4).lie[3]
    assert len(lie_basis(MatrixGroup("two", [a * 1e6, b * 1e-6, a]))) == 6


def test_finite_groups_are_enumerated_to_the_last_element():
    assert [len(finite_elements(g, 1000)) for g in (S(5), A(5), Z(7), Trivial(3))] == [120, 60, 7, 1]
    assert [len(finite_elements(g, 1000)) for g in (C(12), D(12), C(1), Parity(3))] == [12, 24, 1, 2]
    assert finite_elements(S(7), 100) is None and finite_elements(SO(2), 100) is None
    assert finite_elements(MatrixGroup("shear", discrete=[[[1, 1], [0, 1]]]), 50) is None


def test_expm_of_known_exponentials():
    t = 2.5
    assert np.allclose(
        expm(t * np.array([[0.0, -1], [1, 0]])), [[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]], atol=1e-14
    )
    assert np.allclose(expm(np.zeros((3, 3))), np.eye(3))
    assert np.allclose(expm(np.diag([1.0, -3])), np.diag(np.exp([1.0, -3])), rtol=1e-13)


def test_same_name_and_other_generators_are_different_groups():
    a = MatrixGroup("mine", [[[0, 1, 0], [-1, 0, 0], [0, 0, 0]]])
    b = MatrixGroup("mine", [[[0, 0, 0], [0, 0, 1], [0, -1, 0]]])
    assert a != b and hash(a) != hash(b)


def test_orthogonality_is_read_off_the_generators():
    assert all(g.orthogonal for g in (SO(3), O(3), S(4), D(5), S(3) * O(2)))
    assert not any(g.orthogonal for g in (SO13p(), Sp(1), GL(2), SU(2), SL(2)))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: MatrixGroup("g", [[[1, 2, 3], [4, 5, 6]]]), "square"),
        (lambda: MatrixGroup("g", [[[1, 2], [3, 4]], [[1]]]), "one size"),
        (lambda: MatrixGroup("g", [[[0, np.nan], [0, 0]]]), "NaN"),
        (lambda: MatrixGroup("g", [[["a", "b"], ["c", "d"]]]), "numbers"),
        (lambda: MatrixGroup("g", discrete=[[[1, 0], [0, 0]]]), "singular"),
        (lambda: MatrixGroup("g", [np.eye(2)], [np.eye(3)]), "different sizes"),
        (lambda: MatrixGroup("g"), "dim"),
        (lambda: PermutationGroup("g", [[0, 0, 1]]), "exactly once"),
        (lambda: PermutationGroup("g", [[0.0, 1.0]]), "integer"),
        (lambda: PermutationGroup("g"), "at least one point"),
        (lambda: SO(0), "at least 1"),
        (lambda: SO(2.5), "integer"),
        (lambda: SO(True), "integer"),
        (lambda: SO(10**6), "at most"),
        (lambda: Lorentz(1, 3, "some"), "component"),
        (lambda: O(3) * O(3), "twice"),
        (lambda: DirectProduct([O(3)]), "two factors"),
        (lambda: DirectProduct([O(3), 3]), "made of groups"),
        (lambda: SO(3).matrix(np.eye(2)), "3x3"),
        (lambda: S(3).matrix([0, 1]), "length 3"),
    ],
)
def test_bad_groups_are_refused(build, words):
    with pytest.raises(GroupError, match=words) as e:
        build()
    assert isinstance(e.value, ColaError) and isinstance(e.value, ValueError)
