"""Compositions whose eigenvalues or systems are known from those of their parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ... import ops
from ...properties import PSD, SelfAdjoint, Unitary
from .. import data
from ..capabilities import closed
from ..case import Case
from .build import kronsum, of_arrays
from .composed import _inverse_capabilities

normal, psd, selfadjoint, general = data.normal, data.psd, data.selfadjoint, data.general


def _unitary(seed: int, n: int, dtype: str) -> Any:
    return np.linalg.qr(normal(seed, (n, n), "complex128" if "complex" in dtype else "float64"))[0].astype(
        dtype
    )


def _shared(A: Any, B: Any) -> Any:
    return ops.Kronecker(A, B) + 2.0 * ops.Kronecker(A, ops.Identity(3))


def operator_cases() -> list[Case]:
    """Similarities, shifts and sums of Kronecker products."""
    from ...linalg import Inverse

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
            "kronecker-stiffness",
            lambda t, s: [selfadjoint(s, 2, t), psd(s + 1, 3, t), psd(s + 2, 2, t), selfadjoint(s + 3, 3, t)],
            lambda K, N, M, L: (
                ops.Kronecker(SelfAdjoint(D(K)), PSD(D(N)))
                + 3.0 * ops.Kronecker(PSD(D(M)), SelfAdjoint(D(L)))
            ),
            lambda K, N, M, L: np.kron(K, N) + 3 * np.kron(M, L),
        ),
        of_arrays(
            "kronecker-shared-general",
            lambda t, s: [general(s, 2, t), general(s + 1, 3, t)],
            lambda A, B: _shared(D(A), D(B)),
            lambda A, B: np.kron(A, B) + 2 * np.kron(A, np.eye(3, dtype=A.dtype)),
        ),
        of_arrays(
            "kronecker-shared-psd",
            lambda t, s: [psd(s, 2, t), psd(s + 1, 3, t)],
            lambda A, B: _shared(PSD(D(A)), PSD(D(B))),
            lambda A, B: np.kron(A, B) + 2 * np.kron(A, np.eye(3, dtype=A.dtype)),
        ),
        of_arrays(
            "kronecker-spectral",
            lambda t, s: [normal(s, (2, 2), t), normal(s + 1, (3, 3), t), normal(s + 2, (6,), t)],
            lambda A, B, d: ops.Kronecker(D(A), D(B)) @ ops.Diagonal(d) @ ops.Kronecker(D(A), D(B)).H,
            lambda A, B, d: np.kron(A, B) * d @ np.kron(A, B).conj().T,
        ),
        of_arrays(
            "inverse-kronsum",
            lambda t, s: [psd(s, 2, t), psd(s + 1, 3, t)],
            lambda A, B: Inverse(ops.KronSum(PSD(D(A)), PSD(D(B)))),
            lambda A, B: np.linalg.inv(kronsum(A, B)),
            capabilities=replace(
                _inverse_capabilities(), grad=closed("differentiated along self-adjoint directions only")
            ),
        ),
        of_arrays(
            "kronecker-scaled-general",
            lambda t, s: [general(s, 3, t), general(s + 10, 4, t)],
            lambda A, B: -2.0 * ops.Kronecker(D(A), D(B)),
            lambda A, B: -2 * np.kron(A, B),
        ),
    ]
