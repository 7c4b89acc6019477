"""Operators on which the rules for functions, roots and products of thin factors step in."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ...operators import Product
from ...properties import PSD
from .. import data
from ..capabilities import Capabilities, closed
from ..case import Case
from .build import blocks, kronsum, of_arrays

normal, psd, general = data.normal, data.psd, data.general


def operator_cases() -> list[Case]:
    """Exponentials, inverses, shifted and scaled compositions, low rank in several spellings."""
    D = ops.Dense

    def two_blocks(t: str, s: int) -> list[Any]:
        return [general(s, 2, t), general(s + 3, 3, t)]

    def thin(t: str, s: int) -> list[Any]:
        return [normal(s, (9, 2), t) / 3, normal(s + 1, (9, 2), t) / 3]

    return [
        of_arrays(
            "exponential",
            lambda t, s: [general(s, 5, t)],
            _exponential,
            _expm,
            capabilities=Capabilities(
                torch_compile=closed("the number of steps depends on norms"),
            ),
        ),
        of_arrays(
            "inverse-psd",
            lambda t, s: [psd(s, 4, t)],
            _inverse,
            np.linalg.inv,
            capabilities=_lazy(),
        ),
        of_arrays(
            "transpose-psd", lambda t, s: [psd(s, 4, t)], lambda M: ops.Transpose(PSD(D(M))), lambda M: M.T
        ),
        of_arrays(
            "scaled-blockdiag",
            two_blocks,
            lambda A, B: 0.5 * ops.BlockDiag(D(A), D(B)),
            lambda A, B: 0.5 * blocks(A, B),
        ),
        of_arrays(
            "shifted-kronsum",
            two_blocks,
            lambda A, B: ops.KronSum(D(A), D(B)) + 0.3 * ops.Identity(6),
            lambda A, B: kronsum(A, B) + 0.3 * np.eye(6, dtype=A.dtype),
        ),
        of_arrays("lowrank-thin", thin, lambda U, V: ops.LowRank(U, V), lambda U, V: U @ V.conj().T),
        of_arrays(
            "scaled-lowrank-thin",
            thin,
            lambda U, V: -2.0 * ops.LowRank(U, V),
            lambda U, V: -2 * U @ V.conj().T,
        ),
        of_arrays(
            "shifted-lowrank-thin",
            thin,
            lambda U, V: ops.LowRank(U, V) + 2.0 * ops.Identity(9),
            lambda U, V: U @ V.conj().T + 2 * np.eye(9, dtype=U.dtype),
        ),
        of_arrays(
            "gram-product",
            lambda t, s: [normal(s, (3, 4), t), psd(s, 3, t)],
            _gram,
            lambda B, S: B.conj().T @ S @ B,
        ),
        of_arrays(
            "thin-product-plus-diagonal",
            lambda t, s: [*thin(t, s), general(s, 2, t), (2 + np.abs(normal(s + 1, (9,), t))).astype(t)],
            lambda U, V, C, d: D(U) @ D(C) @ D(V).H + ops.Diagonal(d),
            lambda U, V, C, d: U @ C @ V.conj().T + np.diag(d),
        ),
        of_arrays(
            "product-chain",
            lambda t, s: [normal(s, (2, 7), t), normal(s + 1, (7, 3), t), normal(s + 2, (3, 2), t)],
            lambda A, B, C: Product(D(A), D(B), D(C)),
            lambda A, B, C: A @ B @ C,
        ),
    ]


def _exponential(M: Any) -> Any:
    from ...linalg import ExponentialAction

    return ExponentialAction(ops.Dense(M))


def _expm(M: Any) -> Any:
    from scipy.linalg import expm

    return expm(M)


def _gram(B: Any, S: Any) -> Any:
    M = ops.Dense(B)
    return M.H @ PSD(ops.Dense(S)) @ M


def _inverse(M: Any) -> Any:
    from ...linalg import Inverse

    return Inverse(PSD(ops.Dense(M)))


def _lazy() -> Capabilities:
    return Capabilities(
        matrix_free=closed("the first product factorises the matrix it inverts"),
        torch_compile=closed(
            "a solve looks at its session, a context variable, which torch does not compile"
        ),
    )
