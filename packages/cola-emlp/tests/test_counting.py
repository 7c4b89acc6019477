"""Exact dimensions against published integer sequences, and against each other."""

import math
from fractions import Fraction
from itertools import permutations

import pytest

from cola_emlp import GL, O11, O13, SL, SO, SU, A, C, D, O, S, SO13p, Sp, Trivial, U, Z, exact_dimension

BELL = [1, 1, 2, 5, 15, 52, 203]
RIORDAN = [1, 0, 1, 1, 3, 6, 15, 36, 91, 232, 603]
KNOWN = [
    (S(7), BELL),
    (SO(2), [1, 0, 2, 0, 6, 0, 20, 0, 70]),
    (O(2), [1, 0, 1, 0, 3, 0, 10, 0, 35]),
    (SO(3), RIORDAN),
    (O(3), [r if k % 2 == 0 else 0 for k, r in enumerate(RIORDAN)]),
    (SO(4), [1, 0, 1, 0, 4, 0, 25, 0, 196]),
    (O(4), [1, 0, 1, 0, 3, 0, 15, 0, 105]),
    (SO13p(), [1, 0, 1, 0, 4, 0, 25, 0, 196]),
    (O13(), [1, 0, 1, 0, 3, 0, 15, 0, 105]),
    (O11(), [1, 0, 1, 0, 3, 0, 10]),
    (Sp(1), [1, 0, 1, 0, 2, 0, 5, 0, 14]),
    (Sp(2), [1, 0, 1, 0, 3, 0, 14, 0, 84]),
    (O(9), [1, 0, 1, 0, 3, 0, 15, 0, 105]),
    (Sp(5), [1, 0, 1, 0, 3, 0, 15, 0, 105]),
    (SO(1), [1, 1, 1]),
    (O(1), [1, 0, 1, 0]),
    (SU(2), [1, 0, 1, 0, 2, 0, 5]),
    (SL(3), [1, 0, 0, 1, 0, 0, 5]),
    (Trivial(3), [1, 3, 9]),
]


@pytest.mark.parametrize(("group", "dims"), KNOWN, ids=lambda x: str(x) if not isinstance(x, list) else "")
def test_published_dimensions(group, dims):
    assert [exact_dimension(group, k)[0] for k in range(len(dims))] == dims


@pytest.mark.parametrize("group", [GL(2), U(2), GL(3), U(3), GL(4)], ids=str)
def test_mixed_tensors_of_the_general_linear_group(group):
    n = group.d
    # permutations of p letters without a decreasing run of n+1: Catalan numbers for n = 2, p! for p <= n
    expected = [sum(_longest_decreasing(w) <= n for w in permutations(range(p))) for p in range(5)]
    assert [exact_dimension(group, p, p)[0] for p in range(5)] == expected
    assert exact_dimension(group, 2, 1)[0] == 0


def _longest_decreasing(w):
    best = [1] * len(w)
    for i in range(len(w)):
        for j in range(i):
            if w[j] > w[i]:
                best[i] = max(best[i], best[j] + 1)
    return max(best, default=0)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_cyclic_shifts(n):
    assert [exact_dimension(Z(n), k)[0] for k in range(1, 5)] == [n ** (k - 1) for k in range(1, 5)]


def test_small_symmetric_groups_need_at_most_n_blocks():
    assert [exact_dimension(S(2), k)[0] for k in range(1, 5)] == [1, 2, 4, 8]
    assert exact_dimension(S(3), 4)[0] == 14  # Bell 15 minus the partition into four blocks


def test_alternating_group_by_its_own_burnside_sum():
    for n, k in [(3, 3), (4, 3), (4, 4), (5, 3)]:
        total, even = 0, 0
        for w in permutations(range(n)):
            if sum(w[i] > w[j] for i in range(n) for j in range(i + 1, n)) % 2 == 0:
                even += 1
                total += sum(w[i] == i for i in range(n)) ** k
        assert exact_dimension(A(n), k)[0] == Fraction(total, even)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 7, 12])
def test_plane_rotations_by_a_cosine_sum(k):
    for p in range(6):
        rotations = [(2 * math.cos(2 * math.pi * j / k)) ** p for j in range(k)]
        assert exact_dimension(C(k), p)[0] == round(sum(rotations) / k)
        assert exact_dimension(D(k), p)[0] == round((sum(rotations) + k * (p == 0)) / (2 * k))


def test_dual_is_as_good_as_the_space_itself():
    for g in (SO(4), Sp(2), SO13p(), S(4), D(5)):
        assert exact_dimension(g, 4) == exact_dimension(g, 2, 2) == exact_dimension(g, 0, 4)
