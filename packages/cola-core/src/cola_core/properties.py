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

from .compiling import read_instead
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
        if self in A.properties:
            return A if self in A.declared else A.replace(declared=A.declared | {self})
        return A._declared_down(self).replace(declared=A.declared | {self})

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


@read_instead(lambda properties: _closed(properties))
def closure(properties: Iterable[Property]) -> frozenset[Property]:
    """All properties that follow from the given ones (PSD implies SelfAdjoint, Unitary implies Stiefel)."""
    return _closure(frozenset(properties))


@lru_cache(maxsize=1024)  # asked of every operator that is made
def _closure(properties: frozenset[Property]) -> frozenset[Property]:
    return _closed(properties)


def _closed(properties: Iterable[Property]) -> frozenset[Property]:
    found: set[Property] = set()
    stack = list(properties)
    while stack:
        p = stack.pop()
        if p not in found:
            found.add(p)
            stack.extend(p.implies)
    return frozenset(found)


def check_properties(A: Any, key: int = 0, probes: int = 8) -> None:
    """Verify the properties of ``A`` on random vectors, without densifying and without its adjoint;
    raise ``PropertyError`` if one is false.

    Cost: three products with ``probes`` columns. Self-adjointness is seen in ``X^H A X``, orthonormal
    columns in ``(A X)^H A X``, a negative direction among the Ritz values of the space spanned by X and ``A
    X``. A pass is evidence, not proof (a negative direction of small measure can be missed); a failure is
    proof up to rounding.

    >>> import numpy as np, cola_core as cola
    >>> cola.check_properties(cola.PSD(np.array([[2.0, 1.0], [1.0, 2.0]])))
    """
    from .backends import get_backend

    be = A.backend or get_backend("numpy")
    xp, n = be.xp, A.shape[-1]
    if 0 in A.shape or not A.properties:
        return
    X = be.normal(key, (n, probes), A.dtype, A.device)
    tol = 100 * float(xp.finfo(A.dtype).eps) * n**0.5
    AX = A @ X
    if AX.ndim > 2:
        X = xp.broadcast_to(X, AX.shape[:-2] + tuple(X.shape))

    def largest(x: Any) -> float:
        return be.number(xp.max(xp.abs(x)))

    def require(name: str, error: float, tolerance: float) -> None:
        if not error <= tolerance:
            raise PropertyError(
                f"{A!r} is declared or built as {name}, but probes contradict it by {error:.3g} "
                f"(tolerance {tolerance:.3g}). Remove the declaration or repair the operator."
            )

    if not be.all_finite(AX):
        require("/".join(sorted(p.name for p in A.properties)), float("nan"), tol)
    if A.isa(SelfAdjoint):
        Z = be.matmul(be.adjoint(X), AX)
        scale = largest(xp.linalg.vector_norm(X, axis=-2)) * largest(xp.linalg.vector_norm(AX, axis=-2))
        require("SelfAdjoint", largest(Z - be.adjoint(Z)) / (scale or 1.0), tol)
    if A.isa(PSD):
        Q, _ = xp.linalg.qr(xp.concat([X, AX / (largest(AX) or 1.0)], axis=-1))
        T = be.matmul(be.adjoint(Q), A @ Q)
        w, _ = be.eigh((T + be.adjoint(T)) / 2)
        require("PSD", -be.number(xp.min(w)) / (largest(w) or 1.0), tol)
    if A.isa(Stiefel):  # of a square operator that is all of Unitary
        gram, want = (be.matmul(be.adjoint(Y), Y) for Y in (AX, X))
        name = "Unitary" if A.isa(Unitary) else "Stiefel"
        require(name, largest(gram - want), tol * largest(want))
