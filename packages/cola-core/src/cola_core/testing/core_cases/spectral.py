"""Compositions whose eigenvalues or systems are known from those of their parts."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ...properties import SelfAdjoint, Unitary
from .. import data
from ..case import Case
from .build import of_arrays

normal, psd, selfadjoint, general = data.normal, data.psd, data.selfadjoint, data.general


def _unitary(seed: int, n: int, dtype: str) -> Any:
    return np.linalg.qr(normal(seed, (n, n), "complex128" if "complex" in dtype else "float64"))[0].astype(
        dtype
    )


def operator_cases() -> list[Case]:
    """Similarities, shifts and sums of Kronecker products."""
    D = ops.Dense

    def similar(S: Any, U: Any) -> Any:
        V = Unitary(D(U))
        return V @ S @ V.H

    return [
        of_arrays(
            "similarity",
            lambda t, s: [general(s, 5, t), _unitary(s + 1, 5, t)],
            lambda S, U: similar(D(S), U),
            lambda S, U: U @ S @ U.conj().T,
        ),
        of_arrays(
            "similarity-selfadjoint",
            lambda t, s: [selfadjoint(s, 5, t), _unitary(s + 1, 5, t)],
            lambda S, U: SelfAdjoint(similar(SelfAdjoint(D(S)), U)),
            lambda S, U: U @ S @ U.conj().T,
        ),
        of_arrays(
            "lowrank-gram",
            lambda t, s: [normal(s, (7, 2), t)],
            lambda U: ops.LowRank(U),
            lambda U: U @ U.conj().T,
        ),
        of_arrays(
            "kronecker-shift-general",
            lambda t, s: [general(s, 3, t), general(s + 10, 4, t)],
            lambda A, B: ops.Kronecker(D(A), D(B)) + 0.7 * ops.Identity(12),
            lambda A, B: np.kron(A, B) + 0.7 * np.eye(12, dtype=A.dtype),
        ),
        of_arrays(
            "kronecker-scaled-general",
            lambda t, s: [general(s, 3, t), general(s + 10, 4, t)],
            lambda A, B: -2.0 * ops.Kronecker(D(A), D(B)),
            lambda A, B: -2 * np.kron(A, B),
        ),
    ]
