"""What is known about an operator: declared, or implied by structure, never derived from array values.

Calling a property declares it: ``PSD(A)`` is ``A`` with the claim attached (arrays become ``Dense`` first). A
false claim gives wrong answers, so ``check_properties`` verifies claims with random probes; rules only ever
*read* them. Values are never inspected because eager and jitted code must agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .errors import PropertyError

__all__ = [
    "PSD",
    "Congruence",
    "Hermitian",
    "Property",
    "SelfAdjoint",
    "Stiefel",
    "Unitary",
    "closure",
    "check_properties",
]


@dataclass(frozen=True, eq=False)
class Property:
    """A claim about an operator; calling it declares the claim. There is one object per property."""

    name: str
    implies: tuple[Property, ...] = ()
    square: bool = True

    def __call__(self, A: Any) -> Any:
        """Return ``A`` with this property declared (an array becomes ``Dense``)."""
        from .operators import as_operator

        A = as_operator(A)
        m, n = A.shape[-2:]
        if self.square and m != n:
            raise PropertyError(
                f"{self.name} needs a square operator; {A!r} is {m}x{n}. Remove the declaration."
            )
        if not self.square and m < n:
            raise PropertyError(
                f"{self.name} (orthonormal columns) needs at least as many rows as columns; {A!r} is {m}x{n}."
            )
        return A.replace(declared=A.declared | {self})

    def __hash__(self) -> int:
        return hash(self.name)  # the generated hash would walk ``implies`` at every look into a set

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        # Pickle by name: a property is a global, and identity matters little but size does.
        return self.name


SelfAdjoint = Property("SelfAdjoint")
"""``A == A.H`` (symmetric if real, Hermitian if complex)."""

PSD = Property("PSD", (SelfAdjoint,))
"""Self-adjoint with eigenvalues >= 0."""

Stiefel = Property("Stiefel", square=False)
"""Orthonormal columns: ``A.H @ A == I``."""

Unitary = Property("Unitary", (Stiefel,))
"""Square with ``A.H @ A == A @ A.H == I``."""

Congruence = Property("Congruence")
"""A product ``U @ S @ U.H``: its last factor is the adjoint of its first. Noted when it is written."""

Hermitian = SelfAdjoint


def closure(properties: Iterable[Property]) -> frozenset[Property]:
    """All properties that follow from the given ones (PSD implies SelfAdjoint, Unitary implies Stiefel)."""
    return _closure(frozenset(properties))


@lru_cache(maxsize=1024)  # asked of every operator that is made
def _closure(properties: frozenset[Property]) -> frozenset[Property]:
    found: set[Property] = set()
    stack = list(properties)
    while stack:
        p = stack.pop()
        if p not in found:
            found.add(p)
            stack.extend(p.implies)
    return frozenset(found)


def check_properties(A: Any, key: int = 0, probes: int = 8) -> None:
    """Verify the properties of ``A`` on random vectors, without densifying;
    raise ``PropertyError`` if one is false.

    Cost: ``O(probes)`` products with ``A`` and ``A.H``. A pass is evidence, not proof (PSD: a negative
    direction of small measure can be missed); a failure is proof up to rounding.
    """
    from .backends import get_backend

    be = A.backend or get_backend("numpy")
    xp, n = be.xp, A.shape[-1]
    if 0 in A.shape or not A.properties:
        return
    X = be.normal(key, (n, probes), A.dtype, A.device)
    eps = float(xp.finfo(A.dtype).eps)
    AX = A @ X
    scale = be.number(xp.max(xp.abs(AX))) + 1e-300

    def require(name: str, error: float, tolerance: float) -> None:
        if not error <= tolerance:
            raise PropertyError(
                f"{A!r} is declared or built as {name}, but probes contradict it by {error:.3g} "
                f"(tolerance {tolerance:.3g}). Remove the declaration or repair the operator."
            )

    tol = 100 * eps * n**0.5
    if A.isa(SelfAdjoint):
        adjoint = A._rmatmat(X)
        require("SelfAdjoint", be.number(xp.max(xp.abs(adjoint - AX))) / scale, tol)
    if A.isa(PSD):
        quadratic = (
            xp.real(xp.sum(xp.conj(X) * AX, axis=-2)) if be.is_complex(AX) else xp.sum(X * AX, axis=-2)
        )
        norms = xp.linalg.vector_norm(X, axis=-2) * xp.linalg.vector_norm(AX, axis=-2)
        safe = xp.where(norms > 0, norms, xp.ones_like(norms))
        require("PSD", float(-xp.min(quadratic / safe)), tol)
    if A.isa(Stiefel):
        require("Stiefel", be.number(xp.max(xp.abs(A._rmatmat(AX) - X))), tol * be.number(xp.max(xp.abs(X))))
    if A.isa(Unitary):
        back = A @ A._rmatmat(X)
        require("Unitary", be.number(xp.max(xp.abs(back - X))), tol * be.number(xp.max(xp.abs(X))))
