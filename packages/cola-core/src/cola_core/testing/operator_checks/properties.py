"""Properties: those an operator claims are true, also of what is made from it,
and false claims are caught."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import PropertyError
from ...properties import PSD, SelfAdjoint, Stiefel, Unitary, check_properties
from ..compare import eps_of, expect
from ..registry import check
from .common import make

NAMED = (SelfAdjoint, PSD, Unitary, Stiefel)


def holds(prop: Any, M: Any, dtype: str) -> bool:
    """Whether a property is true of the matrix, up to rounding."""
    m, n = M.shape[-2:]
    if not M.size:
        return True
    tol = 1e3 * eps_of(dtype) * max(m, n)
    H = np.conj(np.swapaxes(M, -1, -2))
    size = max(float(np.abs(M).max()), 1e-300)
    if prop in (SelfAdjoint, PSD):
        if m != n or float(np.abs(M - H).max()) > tol * size:
            return False
        return prop is SelfAdjoint or bool(np.linalg.eigvalsh((M + H) / 2).min() >= -tol * size)
    if prop is Unitary and m != n:
        return False
    return float(np.abs(H @ M - np.eye(n)).max()) <= tol


@check("operator.properties", "operator", dtypes="pair")
def check_true(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Every property the operator, its transposes, multiples,
    sums and products claim is true of the reference."""
    A, M = make(case, backend, dtype, seed)
    M = M.astype(np.complex128 if M.dtype.kind == "c" else np.float64)
    H = np.conj(np.swapaxes(M, -1, -2))
    made: list[tuple[str, Any, Any]] = [("A", A, M), ("-2 * A", -2 * A, -2 * M), ("A + A", A + A, 2 * M)]
    if case.capabilities.adjoint.is_open:
        made += [("A.H", A.H, H), ("A.T", A.T, np.swapaxes(M, -1, -2)), ("A.H @ A", A.H @ A, H @ M)]
        made += [("A @ A.H", A @ A.H, M @ H), ("A.H @ (-1 * A)", A.H @ (-1 * A), -H @ M)]
    if M.shape[-1] == M.shape[-2]:
        from ...ops import Identity

        made += [
            ("A @ A", A @ A, M @ M),
            ("A - 100 I", A - 100 * Identity(M.shape[-1]), M - 100 * np.eye(M.shape[-1])),
        ]
    for text, B, N in made:
        for prop in NAMED:
            if B.isa(prop):
                expect(holds(prop, N, dtype), f"{text} claims to be {prop.name}, the reference is not")
    if case.capabilities.adjoint.is_open:
        try:
            check_properties(A)
        except PropertyError as error:
            expect(False, f"check_properties rejects a property that holds: {error}")


@check("operator.false-claims", "operator", "capability", capability="adjoint", dtypes="pair")
def check_false(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Declaring what is false of the operator is caught:
    refused at once, or found by ``check_properties``."""
    A, M = make(case, backend, dtype, seed)
    if 0 in M.shape:
        return
    for prop in NAMED:
        if holds(prop, M, dtype):
            continue
        try:
            check_properties(prop(A), probes=32)
        except PropertyError:
            continue
        if prop is PSD and _barely_indefinite(M):
            continue  # random probes need not meet a direction of small negative curvature
        expect(
            False, f"{prop.name} was declared, is false of the operator, and check_properties did not notice"
        )


def _barely_indefinite(M: Any) -> bool:
    """Whether x^H M x is positive for nearly all x."""
    H = np.conj(np.swapaxes(M, -1, -2))
    w = np.linalg.eigvalsh((M + H) / 2)
    return bool(np.abs(M - H).max() <= 1e-10 * np.abs(M).max() and w.sum() > 0)
