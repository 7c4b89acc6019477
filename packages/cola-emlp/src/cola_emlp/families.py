"""The named groups. Each factory returns a `MatrixGroup` or `PermutationGroup` with exact counts and a good
sampler.

Trivial(n), SO(n), O(n), S(n), Z(n), A(n), C(k), D(k), Sp(m), SO13p(), SO13(), O13(), SO11p(), SO11(), O11(),
SL(n), GL(n), SU(n), U(n), Parity(n). `Lorentz(p, q, component)` is the general pseudo-orthogonal group.
"""

from __future__ import annotations

from functools import partial
from itertools import combinations

import numpy as np

from .counting import counter
from .errors import GroupError
from .groups import MatrixGroup, PermutationGroup

MAX_LIE_DIMENSION = 64
"""Largest matrices of a Lie group here: its algebra has up to d^2 generators of d^2 entries each, stored
densely.
"""


def _size(name: str, n: int, most: int | None = None, least: int = 1) -> int:
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise GroupError(f"{name}(n): n must be an integer, got {n!r}")
    if n < least:
        raise GroupError(f"{name}(n): n must be at least {least}, got {n}")
    if most is not None and n > most:
        raise GroupError(
            f"{name}(n): n may be at most {most}, got {n}; all Lie-algebra generators are stored "
            "as dense matrices"
        )
    return int(n)


def _unit(d: int, i: int, j: int, dtype: type = float) -> np.ndarray:
    m: np.ndarray = np.zeros((d, d), dtype)
    m[i, j] = 1
    return m


def _rotations(d: int, pairs: list[tuple[int, int]], sign: int = -1) -> list[np.ndarray]:
    return [_unit(d, i, j) + sign * _unit(d, j, i) for i, j in pairs]


def _reflection(d: int, *axes: int) -> np.ndarray:
    m = np.eye(d)
    m[list(axes), list(axes)] = -1
    return m


def Trivial(n: int) -> PermutationGroup:
    """The group of one element, on R^n."""
    n = _size("Trivial", n)
    return PermutationGroup(f"Trivial({n})", points=n, counter=counter("Trivial", n))


# --- compact classical groups: Haar samples by QR of a Gaussian (Mezzadri 2007) ---


def _haar(rng: np.random.Generator, n: int, special: bool, cplx: bool) -> np.ndarray:
    a = rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if cplx else 0)
    q, r = np.linalg.qr(a)
    q = q * (np.diag(r) / np.abs(np.diag(r)))
    if special:
        q[:, 0] = q[:, 0] / np.linalg.det(q)
    return q


def SO(n: int) -> MatrixGroup:
    """Rotations of R^n."""
    n = _size("SO", n, MAX_LIE_DIMENSION)
    return MatrixGroup(
        f"SO({n})",
        _rotations(n, list(combinations(range(n), 2))),
        dim=n,
        counter=counter("SO", n),
        sampler=partial(_haar, n=n, special=True, cplx=False),
    )


def O(n: int) -> MatrixGroup:  # noqa: E743 - the group's name
    """Rotations and reflections of R^n."""
    n = _size("O", n, MAX_LIE_DIMENSION)
    return MatrixGroup(
        f"O({n})",
        _rotations(n, list(combinations(range(n), 2))),
        [_reflection(n, 0)],
        dim=n,
        counter=counter("O", n),
        sampler=partial(_haar, n=n, special=False, cplx=False),
    )


def U(n: int) -> MatrixGroup:
    """Unitary matrices of C^n."""
    n = _size("U", n, MAX_LIE_DIMENSION)
    return MatrixGroup(
        f"U({n})",
        [*_su(n), 1j * np.eye(n)],
        dim=n,
        counter=counter("GL", n),
        sampler=partial(_haar, n=n, special=False, cplx=True),
    )


def SU(n: int) -> MatrixGroup:
    """Unitary matrices of C^n with determinant 1. SU(1) is the trivial group, on C."""
    n = _size("SU", n, MAX_LIE_DIMENSION)
    return MatrixGroup(
        f"SU({n})",
        np.asarray(_su(n), complex).reshape(-1, n, n),
        dim=n,
        counter=counter("SL", n),
        sampler=partial(_haar, n=n, special=True, cplx=True),
    )


def _su(n: int) -> list[np.ndarray]:
    out = []
    for i, j in combinations(range(n), 2):
        e, f = _unit(n, i, j, complex), _unit(n, j, i, complex)
        out += [e - f, 1j * (e + f)]
    return out + [1j * (_unit(n, i, i, complex) - _unit(n, i + 1, i + 1, complex)) for i in range(n - 1)]


# --- non-compact classical groups ---


def SL(n: int) -> MatrixGroup:
    """Real matrices with determinant 1."""
    n = _size("SL", n, MAX_LIE_DIMENSION)
    return MatrixGroup(f"SL({n})", _sl(n), dim=n, counter=counter("SL", n))


def GL(n: int) -> MatrixGroup:
    """Invertible real matrices."""
    n = _size("GL", n, MAX_LIE_DIMENSION)
    return MatrixGroup(f"GL({n})", [*_sl(n), np.eye(n)], [_reflection(n, 0)], dim=n, counter=counter("GL", n))


def _sl(n: int) -> list[np.ndarray]:
    off = [_unit(n, i, j) for i in range(n) for j in range(n) if i != j]
    return off + [_unit(n, i, i) - _unit(n, i + 1, i + 1) for i in range(n - 1)]


def Sp(m: int) -> MatrixGroup:
    """Real symplectic matrices of R^(2m): g^T J g = J with J = [[0, I], [-I, 0]]."""
    m = _size("Sp", m, MAX_LIE_DIMENSION // 2)
    d, gens = 2 * m, []
    for i in range(m):
        for j in range(m):
            gens.append(_unit(d, i, j) - _unit(d, m + j, m + i))
            if i <= j:
                gens += [
                    a + (b if i != j else 0)
                    for a, b in [
                        (_unit(d, i, m + j), _unit(d, j, m + i)),
                        (_unit(d, m + i, j), _unit(d, m + j, i)),
                    ]
                ]
    return MatrixGroup(f"Sp({m})", gens, dim=d, counter=counter("Sp", m))


def Lorentz(p: int, q: int, component: str = "all") -> MatrixGroup:
    """The group preserving diag(1 (p times), -1 (q times)): its identity component ("identity"), the part of
    determinant 1 ("special") or all of it ("all")."""
    p, q = _size("Lorentz", p, MAX_LIE_DIMENSION // 2), _size("Lorentz", q, MAX_LIE_DIMENSION // 2)
    d = p + q
    space = [(i, j) for i, j in combinations(range(d), 2) if (i < p) == (j < p)]
    boosts = [(i, j) for i, j in combinations(range(d), 2) if (i < p) != (j < p)]
    lie = _rotations(d, space) + _rotations(d, boosts, +1)
    both, one, other = _reflection(d, 0, d - 1), _reflection(d, 0), _reflection(d, d - 1)
    discrete = {"identity": [], "special": [both], "all": [one, other]}
    if component not in discrete:
        raise GroupError(f"Lorentz component must be one of {sorted(discrete)}, got {component!r}")
    label = {"identity": f"SO{p}{q}p()", "special": f"SO{p}{q}()", "all": f"O{p}{q}()"}[component]
    # diag(-1 first, -1 last) lies in the identity component of SO(p+q, C), whose invariants these are.
    count = counter("O" if component == "all" else "SO", d)
    return MatrixGroup(label, lie, discrete[component], dim=d, counter=count)


def SO13p() -> MatrixGroup:
    """The proper orthochronous Lorentz group SO+(1,3)."""
    return Lorentz(1, 3, "identity")


def SO13() -> MatrixGroup:
    """The proper Lorentz group SO(1,3), with the simultaneous inversion of time and one axis."""
    return Lorentz(1, 3, "special")


def O13() -> MatrixGroup:
    """The full Lorentz group O(1,3)."""
    return Lorentz(1, 3, "all")


def SO11p() -> MatrixGroup:
    """Boosts of the plane, SO+(1,1)."""
    return Lorentz(1, 1, "identity")


def SO11() -> MatrixGroup:
    """SO(1,1): boosts of the plane and -1."""
    return Lorentz(1, 1, "special")


def O11() -> MatrixGroup:
    """O(1,1)."""
    return Lorentz(1, 1, "all")


# --- finite groups ---


def _any_permutation(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.permutation(n)


def _even_permutation(rng: np.random.Generator, n: int) -> np.ndarray:
    p = rng.permutation(n)
    if n > 1 and int(np.sum(np.triu(p[:, None] > p[None, :], 1))) % 2:
        p[[0, 1]] = p[[1, 0]]
    return p


def _any_shift(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.roll(np.arange(n), rng.integers(n))


def S(n: int) -> PermutationGroup:
    """All permutations of n points."""
    n = _size("S", n)
    swap, cycle = np.arange(n), np.roll(np.arange(n), -1)
    swap[:2] = swap[:2][::-1]
    gens = {1: [], 2: [swap]}.get(n, [swap, cycle])
    return PermutationGroup(
        f"S({n})",
        np.array(gens, np.int64).reshape(-1, n),
        points=n,
        counter=counter("S", n),
        sampler=partial(_any_permutation, n=n),
    )


def A(n: int) -> PermutationGroup:
    """Even permutations of n points, generated by the 3-cycles (0 1 i)."""
    n = _size("A", n)
    gens = []
    for i in range(2, n):
        p = np.arange(n)
        p[[0, 1, i]] = [1, i, 0]
        gens.append(p)

    return PermutationGroup(
        f"A({n})", np.array(gens, np.int64).reshape(-1, n), points=n, sampler=partial(_even_permutation, n=n)
    )


def Z(n: int) -> PermutationGroup:
    """Cyclic shifts of n points."""
    n = _size("Z", n)
    gens = [np.roll(np.arange(n), -1)] if n > 1 else []
    return PermutationGroup(
        f"Z({n})", np.array(gens, np.int64).reshape(-1, n), points=n, sampler=partial(_any_shift, n=n)
    )


def _plane_rotation(k: int) -> np.ndarray:
    c, s = np.cos(2 * np.pi / k), np.sin(2 * np.pi / k)
    return np.array([[c, -s], [s, c]])


def C(k: int) -> MatrixGroup:
    """Rotations of the plane by multiples of 2 pi / k."""
    k = _size("C", k)
    return MatrixGroup(f"C({k})", discrete=[_plane_rotation(k)], dim=2)


def D(k: int) -> MatrixGroup:
    """Symmetries of the regular k-gon in the plane."""
    k = _size("D", k)
    return MatrixGroup(f"D({k})", discrete=[_plane_rotation(k), _reflection(2, 1)], dim=2)


def Parity(n: int) -> MatrixGroup:
    """The two elements +1 and -1 of R^n."""
    n = _size("Parity", n)
    return MatrixGroup(f"Parity({n})", discrete=[-np.eye(n)], dim=n)
