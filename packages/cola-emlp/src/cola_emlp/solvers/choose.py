"""Which method answers for which group, and the certificate that comes with the answer."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np

from ..algebra import adjoint_closed, finite_elements, lie_basis
from ..counting import FINITE_LIMIT, exact_dimension
from ..errors import BasisError
from ..groups import Group, MatrixGroup, PermutationGroup
from .average import MAX_FLOPS, average_flops, average_invariants
from .casimir import casimir_invariants
from .nullspace import discrete_constraint, lie_constraint, nullspace_invariants, restrict
from .orbits import orbit_labels
from .tensor import algebra_action, group_action, letters

MAX_BYTES = 2**32
"""Largest working set a solve may use unless told otherwise."""
MAX_GENERAL = 2048
"""Largest N for which the general path (dense N x N) is taken."""


@dataclass(frozen=True, eq=False)
class Invariants:
    """Invariants of one tensor word: either orbit `labels` (N,) or an orthonormal `matrix` (N, r), read-only.

    residual: largest violation, by a column, of an equation of the given generators (normalised).
    """

    dimension: int
    method: str
    exact: tuple[int, str] | None
    labels: np.ndarray | None = None
    matrix: np.ndarray | None = None
    residual: float = 0.0

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in (self.labels, self.matrix) if a is not None)


CACHE_BYTES = 2**28
_cache: OrderedDict[tuple[Group, int, int], Invariants] = OrderedDict()
_lock = Lock()


def clear_cache() -> None:
    """Forget all stored answers."""
    with _lock:
        _cache.clear()


def invariants(group: Group, p: int, q: int, max_bytes: int = MAX_BYTES) -> Invariants:
    """Orthonormal basis of the invariants of V^p (V*)^q.

    The latest answers are kept, up to CACHE_BYTES together, keyed by the group's content. Raises BasisError
    if the size exceeds the limits, or if an exact count contradicts what was found.
    """
    key = (group, p, q)
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    found = _solve(group, p, q, max_bytes)
    with _lock:
        _cache[key] = found
        while sum(f.nbytes for f in _cache.values()) > CACHE_BYTES:
            _cache.popitem(last=False)
    return found


def _solve(group: Group, p: int, q: int, max_bytes: int) -> Invariants:
    k, n = p + q, group.d ** (p + q)
    exact = exact_dimension(group, p, q)
    where = f"V^{p} V*^{q} of {group} (N = {n})"
    if isinstance(group, PermutationGroup):
        within(48 * n * max(1, len(group.generators)), max_bytes, where)
        count, labels = orbit_labels(group, k)
        labels.setflags(write=False)
        found = Invariants(count, "orbits", exact, labels=labels)
    else:
        assert isinstance(group, MatrixGroup), type(group)
        matrix, method = _matrix_group(group, p, q, exact[0] if exact else None, max_bytes, where)
        matrix.setflags(write=False)
        found = Invariants(
            matrix.shape[1], method, exact, matrix=matrix, residual=_residual(group, letters(p, q), matrix)
        )
    if exact is not None and exact[0] != found.dimension:
        raise BasisError(
            f"{where}: the method {found.method!r} found {found.dimension} invariants, but the exact count "
            f"({exact[1]}) is {exact[0]}. This is a defect or generators of too low precision; no basis "
            "is returned."
        )
    return found


def _residual(group: MatrixGroup, word: tuple[bool, ...], q: np.ndarray) -> float:
    worst = 0.0
    if q.shape[1] and word:
        for a in group.lie:
            size = np.linalg.norm(a)
            if size > 0:
                worst = max(worst, float(np.linalg.norm(algebra_action(a / size, q, word), axis=0).max()))
        for h in group.discrete:
            worst = max(worst, float(np.linalg.norm(group_action(h, q, word) - q, axis=0).max()))
    return worst


def within(need: int, limit: int, where: str) -> None:
    """Raise BasisError if a working set of `need` bytes is above the limit."""
    if need > limit:
        size = f"{need / 2**30:.1f} GiB" if need < 2**60 else f"10^{len(str(need)) - 1} bytes"
        raise BasisError(
            f"{where} needs about {size}, above the limit of {limit / 2**30:.1f} GiB. Split the "
            "representation, or raise max_bytes if the machine has the memory."
        )


def _matrix_group(
    group: MatrixGroup, p: int, q: int, expected: int | None, max_bytes: int, where: str
) -> tuple[np.ndarray, str]:
    word, n, d = letters(p, q), group.d ** (p + q), group.d
    dtype = np.dtype(complex if group.is_complex else float)
    lie = lie_basis(group)
    width = 24 if expected is None else expected + 8
    within(dtype.itemsize * n * (4 * width + 4 * (p + q) ** 2), max_bytes, where)
    discrete = [discrete_constraint(h, word) for h in group.discrete]
    reason = ""
    if (not len(lie) and not len(group.discrete)) or not word:
        return np.eye(n, dtype=dtype), "identity (nothing acts)"
    if len(lie) and adjoint_closed(group):
        # With discrete generators to follow, the connected part has more invariants than the count says.
        found = casimir_invariants(lie, word, None if discrete else expected)
        if not isinstance(found, str):
            if not discrete:
                return found, "Casimir polynomial"
            return restrict(found, discrete), "Casimir polynomial, then discrete generators"
        reason = found
    elif len(lie):
        reason = "the Lie algebra is not closed under the adjoint, so it has no Casimir projector"
    else:
        elements = finite_elements(group, FINITE_LIMIT)
        if elements is None:
            reason = f"the group is infinite or has more than {FINITE_LIMIT} elements"
        elif average_flops(len(elements), n, d, p + q, width) > MAX_FLOPS:
            reason = f"averaging {len(elements)} elements would take too many operations"
        else:
            return average_invariants(elements, word, expected), f"average over {len(elements)} elements"
    if n > MAX_GENERAL:
        raise BasisError(
            f"{where}: {reason}, and the general nullspace path is limited to N <= {MAX_GENERAL}. "
            "Use a smaller "
            "tensor, or generators of a larger group whose algebra is closed under transposition."
        )
    constraints = [lie_constraint(a, word) for a in lie] + discrete
    return nullspace_invariants(n, dtype, constraints), "nullspace of the stacked constraints"
