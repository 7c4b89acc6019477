"""This package's claims as cases of the conformance kit: its operators, its rules, and exact dimensions.

Factories and references share their numbers, so every backend is compared with the same dense NumPy matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cola_core import ops as core
from cola_core.properties import Stiefel
from cola_core.testing import Capabilities, Case, closed, data

from .bases import equivariance_error, equivariant_basis
from .families import SO, SU, O, S, SO13p, Sp
from .ops import (
    EquivariantProjector,
    OrbitBasis,
    OrbitFrame,
    OrbitProjector,
    RangeFrame,
    orbit_frame,
    range_frame,
)
from .reps import Rep, T, V

LABELS = np.array([0, 1, 0, 2, 1, 0, 3])
SIZE, RANK = len(LABELS), int(LABELS.max()) + 1


def _weights() -> np.ndarray:
    return 1.0 / np.sqrt(np.bincount(LABELS))


def _orbit(cls: Any) -> Callable[..., Any]:
    def factory(backend: Any, dtype: str, seed: int) -> Any:
        return cls(backend.asarray(LABELS), backend.asarray(_weights().astype(dtype)))

    return factory


def _orbit_columns(dtype: str, seed: int) -> np.ndarray:
    q = np.zeros((SIZE, RANK))
    q[np.arange(SIZE), LABELS] = _weights()[LABELS]
    return q.astype(dtype)


def _orbit_matrix(dtype: str, seed: int) -> np.ndarray:
    q = _orbit_columns("float64", seed)
    return (q @ q.T).astype(dtype)


def _orthonormal(dtype: str, seed: int) -> np.ndarray:
    return data.orthogonal(seed, SIZE, dtype)[:, :RANK]


def _equivariant(backend: Any, dtype: str, seed: int) -> EquivariantProjector:
    q = backend.asarray(_orthonormal(dtype, seed).astype(dtype))
    return EquivariantProjector(Stiefel(core.Dense(q)), RANK)


def _equivariant_matrix(dtype: str, seed: int) -> np.ndarray:
    q = _orthonormal(dtype, seed)
    return q @ q.conj().T


def _orbit_frame(backend: Any, dtype: str, seed: int) -> OrbitFrame:
    return orbit_frame(_orbit(OrbitProjector)(backend, dtype, seed))[1]


def _orbit_frame_matrix(dtype: str, seed: int) -> np.ndarray:
    """Householder's reflection written out, orbit by orbit."""
    out = np.eye(SIZE)
    for j in range(RANK):
        at = np.flatnonzero(LABELS == j)
        u = -np.full(len(at), 1.0 / np.sqrt(len(at)))
        u[0] += 1.0
        if len(at) > 1:
            out[np.ix_(at, at)] -= 2.0 * np.outer(u, u) / (u @ u)
    return out.astype(dtype)


def _range_frame(backend: Any, dtype: str, seed: int) -> RangeFrame:
    return range_frame(_equivariant(backend, dtype, seed))[1]


def _range_frame_matrix(dtype: str, seed: int) -> np.ndarray:
    """The block reflector written out with dense matrices."""
    q = _orthonormal(dtype, seed)
    u, _, vh = np.linalg.svd(q[:RANK])
    s = -u @ vh
    w = q.copy()
    w[:RANK] -= s
    return np.eye(SIZE) - w @ np.linalg.inv(np.eye(RANK) - q[:RANK].conj().T @ s) @ w.conj().T


def operator_cases() -> list[Case]:
    """One case for each operator class."""
    return [
        Case("orbit-basis", factory=_orbit(OrbitBasis), reference=_orbit_columns),
        Case("orbit-projector", factory=_orbit(OrbitProjector), reference=_orbit_matrix),
        Case("orbit-frame", factory=_orbit_frame, reference=_orbit_frame_matrix),
        Case("equivariant-projector", factory=_equivariant, reference=_equivariant_matrix),
        Case("range-frame", factory=_range_frame, reference=_range_frame_matrix),
    ]


CONSTRAINED = closed(
    "orbits fix the weights: with others than 1 / sqrt(size) the operator is not a projector"
)


def rule_cases() -> list[Case]:
    """One case for each rule."""
    rigid = {f"emlp:{question}/orbit-projector" for question in ("trace", "apply_unary")}
    out = []
    for name, factory, reference in (
        ("orbit", _orbit(OrbitProjector), _orbit_matrix),
        ("equivariant", _equivariant, _equivariant_matrix),
    ):
        for question in ("trace", "diag", "slogdet", "apply_unary", "eigh", "eigsh"):
            rule = f"emlp:{question}/{name}-projector"
            claims = Capabilities(grad=CONSTRAINED, grad2=CONSTRAINED) if rule in rigid else Capabilities()
            out.append(
                Case(rule, kind="rule", factory=factory, reference=reference, rule=rule, capabilities=claims)
            )
    return out


DIMENSIONS: dict[str, tuple[Any, Rep, int]] = {
    "S(5) T(2)->T(2), Bell number": (S(5), T(2) >> T(2), 15),
    "SO(3) T(2)->T(2), Riordan number": (SO(3), T(2) >> T(2), 3),
    "O(3) T(4), pairings": (O(3), T(4), 3),
    "SO+(1,3) T(4)": (SO13p(), T(4), 4),
    "Sp(2) T(4)": (Sp(2), T(4), 3),
    "SU(3) T(2,2)": (SU(3), T(2, 2), 2),
    "sets of 3-vectors": (S(4) * O(3), V >> V, 2),
}


def domain_cases() -> list[Case]:
    """Exact dimensions, and equivariance on random group elements at rounding level."""

    def dimension(name: str) -> Callable[[Any], tuple[Any, Any]]:
        group, rep, dim = DIMENSIONS[name]
        return lambda backend: (float(equivariant_basis(rep, group).dimension), float(dim))

    def levi_civita(backend: Any) -> tuple[Any, Any, float]:
        q = np.asarray(equivariant_basis(T(3), SO(3)).Q.to_dense()).reshape(3, 3, 3)
        eps = np.zeros((3, 3, 3))
        for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            eps[i, j, k], eps[j, i, k] = 1.0, -1.0
        return q * np.sign(q[0, 1, 2]), eps / np.sqrt(6.0), 1e-12

    def error(backend: Any) -> tuple[Any, Any, float]:
        basis = equivariant_basis(T(2) >> T(2), SO13p())
        return 1.0 + equivariance_error(basis, basis.rep), 1.0, 1e-10

    values: dict[str, Callable[..., Any]] = {f"dimension: {name}": dimension(name) for name in DIMENSIONS}
    values |= {"SO(3) T(3) is Levi-Civita": levi_civita, "Lorentz equivariance error": error}
    return [Case("emlp", kind="domain", module="cola_emlp", values=values)]


def cases() -> list[Case]:
    """Everything this package claims."""
    return operator_cases() + rule_cases() + domain_cases()
