"""Exact dimensions of invariants, by integer arithmetic only, independent of every solver in this package.

`dim (V^p tensor (V*)^q)^G` for a group with a known character theory:

* connected classical groups: the number of times the trivial representation occurs, by the Brauer-Klimyk rule
  chi_lambda * chi_V = sum over weights mu of V of sign * chi_{[lambda + mu + rho] - rho}, walked from lambda
  = 0 (Humphreys, Introduction to Lie Algebras, section 24.4). The states are dominant weights with at most
  p+q boxes.
* O(n): half of SO(n) plus half of the other component; that one is -SO(n) for odd n and carries the Weyl
  measure of Sp(n-2) for even n (Weyl, The Classical Groups, chapter VII.9).
* symmetric groups: set partitions of p+q points into at most n blocks (Stirling numbers).
* finite groups: the average of the character (for permutations, Burnside's orbit count).

Real forms share the invariants of their complexification, so Lorentz groups count as orthogonal ones and
SL(n, R) as SU(n).
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache, partial

import numpy as np

from .algebra import finite_elements
from .groups import Counter, Group, MatrixGroup, PermutationGroup

Weight = tuple[int, ...]

FINITE_LIMIT = 5000
"""Finite groups up to this order are enumerated to count by characters."""


def _sorted_sign(v: list[int]) -> tuple[int, list[int]]:
    """Sort descending; sign of the permutation, 0 if two entries are equal."""
    sign, v = 1, list(v)
    for i in range(1, len(v)):
        j = i
        while j and v[j - 1] < v[j]:
            v[j - 1], v[j], sign = v[j], v[j - 1], -sign
            j -= 1
        if j and v[j - 1] == v[j]:
            return 0, v
    return sign, v


def _reflect(kind: str, v: list[int]) -> tuple[int, list[int]]:
    """Weyl group of the type brings v (a weight plus rho) to the open dominant chamber: (sign, image), sign 0
    on a wall.
    """
    if kind == "A":
        return _sorted_sign(v)
    negative = sum(x < 0 for x in v)
    if kind in "BC":
        if 0 in v:
            return 0, v
        sign, out = _sorted_sign([abs(x) for x in v])
        return (-sign if negative % 2 else sign), out
    # D: only even numbers of sign changes, each pair of them even
    sign, out = _sorted_sign([abs(x) for x in v])
    if negative % 2 and 0 not in v:
        out[-1] = -out[-1]
    return sign, out


@lru_cache(maxsize=512)
def _walk(kind: str, rank: int, p: int, q: int) -> tuple[tuple[Weight, int], ...]:
    """Multiplicities of dominant weights in V^p (V*)^q, V the defining representation of type A (GL), B, C or
    D.
    """
    if kind == "B":  # weights and rho doubled, to stay in integers
        rho = [2 * (rank - i) - 1 for i in range(rank)]
        step = 2
    else:
        rho = [rank - i - (kind == "D") for i in range(rank)]
        step = 1
    plus = [tuple(step * (i == j) for j in range(rank)) for i in range(rank)]
    minus = [tuple(-x for x in w) for w in plus]
    zero = (0,) * rank
    if kind == "A":
        steps = [plus] * p + [minus] * q
    else:
        steps = [plus + minus + ([zero] if kind == "B" else [])] * (p + q)
    state: dict[Weight, int] = {zero: 1}
    for weights in steps:
        new: defaultdict[Weight, int] = defaultdict(int)
        for lam, mult in state.items():
            for mu in weights:
                sign, v = _reflect(kind, [a + b + r for a, b, r in zip(lam, mu, rho, strict=True)])
                if sign:
                    new[tuple(a - r for a, r in zip(v, rho, strict=True))] += sign * mult
        state = {lam: m for lam, m in new.items() if m}
    return tuple(state.items())


def _trivial(kind: str, rank: int, k: int) -> int:
    return dict(_walk(kind, rank, k, 0)).get((0,) * rank, 0)


def _so(n: int, p: int, q: int) -> int:
    return _trivial("B" if n % 2 else "D", n // 2, p + q)


def _o(n: int, p: int, q: int) -> int:
    k = p + q
    if n % 2:
        return _so(n, p, q) if k % 2 == 0 else 0
    return (_so(n, p, q) + _trivial("C", n // 2 - 1, k)) // 2


def _sp(m: int, p: int, q: int) -> int:
    return _trivial("C", m, p + q)


def _gl(n: int, p: int, q: int) -> int:
    return dict(_walk("A", n, p, q)).get((0,) * n, 0)


def _sl(n: int, p: int, q: int) -> int:
    # The determinant's powers, weights (c, ..., c), are trivial for SL and SU.
    return sum(m for lam, m in _walk("A", n, p, q) if len(set(lam)) == 1)


def _symmetric(n: int, p: int, q: int) -> int:
    row = [1]  # row[j] = set partitions of the points so far into j blocks
    for _ in range(p + q):
        row = [0] + [j * (row[j] if j < len(row) else 0) + row[j - 1] for j in range(1, len(row) + 1)]
    return sum(row[: n + 1])


def _trivial_group(n: int, p: int, q: int) -> int:
    return n ** (p + q)


_COUNTS = {"SO": _so, "O": _o, "Sp": _sp, "GL": _gl, "SL": _sl, "S": _symmetric, "Trivial": _trivial_group}


def counter(family: str, n: int) -> Counter:
    """(p, q) -> exact dimension, for a family of groups ("SO", "O", "Sp", "GL", "SL", "S", "Trivial") and its
    size.
    """
    return partial(_COUNTS[family], n)


def exact_dimension(group: Group, p: int, q: int = 0) -> tuple[int, str] | None:
    """(dimension, how it was counted) of the invariants of V^p (V*)^q, or None if no exact count is known."""
    if isinstance(group, MatrixGroup | PermutationGroup) and group.counter is not None:
        return group.counter(p, q), "set partitions" if isinstance(
            group, PermutationGroup
        ) else "Weyl characters"
    if not isinstance(group, MatrixGroup | PermutationGroup):
        return None
    elements = finite_elements(group, FINITE_LIMIT)
    if elements is None:
        return None
    if isinstance(group, PermutationGroup):
        fixed = (elements == np.arange(group.d)).sum(axis=1)
        total = sum(int(f) ** (p + q) for f in fixed.tolist())
        assert total % len(elements) == 0, "Burnside's count is an integer"
        return total // len(elements), f"Burnside, order {len(elements)}"
    chi = np.trace(elements, axis1=1, axis2=2)
    dual = np.trace(np.linalg.inv(elements), axis1=1, axis2=2)
    value = float(np.mean(chi**p * dual**q).real)
    if abs(value - round(value)) > 1e-6:  # rounding too large to call it a count
        return None
    return round(value), f"characters, order {len(elements)}"
