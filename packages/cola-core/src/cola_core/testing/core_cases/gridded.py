"""Block grids, concatenations, columnwise and elementwise products, projections."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ...properties import PSD, SelfAdjoint, Stiefel
from .. import data
from ..case import Case
from .build import blocks, of_arrays, scatter

SPOTS = (np.array([0, 1, 2, 3, 4, 0, 1, 2, 3]), np.array([0, 1, 2, 3, 4, 1, 2, 3, 4]))
normal, psd, selfadjoint, general = data.normal, data.psd, data.selfadjoint, data.general


def _khatri_rao(A: Any, B: Any) -> Any:
    return np.stack([np.kron(A[:, i], B[:, i]) for i in range(A.shape[1])], axis=1)


def _orthonormal(seed: int, n: int, k: int, dtype: str) -> Any:
    return data.orthogonal(seed, n, dtype)[:, :k].astype(dtype)


def _spread(d: Any) -> Any:
    """A diagonal away from zero."""
    return (np.abs(d) + 1).astype(d.dtype)


def _plus(shift: float, M: Any) -> Any:
    return M + shift * np.eye(M.shape[-1], dtype=M.dtype)


def operator_cases() -> list[Case]:
    """One case per structure, and one for every rule that looks for a pattern."""
    D = ops.Dense
    z = np.zeros

    def saddle(A: Any, B: Any) -> Any:
        C = D(B)
        return ops.Block([[PSD(D(A)), C.H], [C, None]])

    def tridiagonal(A: Any, B: Any, C: Any) -> Any:
        X, Y = D(B), D(C)
        return ops.Block([[D(A), X, None], [Y, D(A), X], [None, Y, D(A)]])

    def arrow(d: Any, B: Any, A: Any) -> Any:
        C = D(B)
        return ops.Block([[ops.Diagonal(d), C], [C.H, PSD(D(A))]])

    def oblique(U: Any, V: Any) -> Any:
        return U @ np.linalg.inv(V.conj().T @ U) @ V.conj().T

    return [
        of_arrays(
            "block",
            lambda t, s: [
                general(s, 3, t),
                normal(s + 1, (3, 2), t),
                normal(s + 2, (2, 3), t),
                general(s, 2, t),
            ],
            lambda A, B, C, E: ops.Block([[D(A), D(B)], [D(C), D(E)]]),
            lambda A, B, C, E: np.block([[A, B], [C, E]]),
        ),
        of_arrays(
            "block-rectangular",
            lambda t, s: [normal(s, (2, 3), t), normal(s + 1, (4, 1), t), normal(s + 2, (2, 2), t)],
            lambda A, B, C: ops.Block([[None, D(A), D(C)], [D(B), None, None]]),
            lambda A, B, C: np.block([[z((2, 1)), A, C], [B, z((4, 5))]]),
        ),
        of_arrays(
            "block-arrow",
            lambda t, s: [
                _spread(normal(s, (4,), t)),
                normal(s + 1, (4, 2), t),
                _plus(9, psd(s + 2, 2, t)),
            ],
            arrow,
            lambda d, B, A: np.block([[np.diag(d), B], [B.conj().T, A]]),
        ),
        of_arrays(
            "block-saddle",
            lambda t, s: [psd(s, 4, t), normal(s + 1, (2, 4), t)],
            saddle,
            lambda A, B: np.block([[A, B.conj().T], [B, z((2, 2))]]),
        ),
        of_arrays(
            "block-tridiagonal",
            lambda t, s: [
                _plus(3, general(s, 2, t)),
                normal(s + 1, (2, 2), t),
                normal(s + 2, (2, 2), t),
            ],
            tridiagonal,
            lambda A, B, C: np.block([[A, B, z((2, 2))], [C, A, B], [z((2, 2)), C, A]]),
        ),
        of_arrays(
            "block-triangular",
            lambda t, s: [
                general(s, 2, t),
                normal(s + 1, (2, 3), t),
                _plus(3, general(s + 2, 3, t)),
            ],
            lambda A, B, C: ops.Block([[D(A), D(B)], [None, D(C)]]),
            lambda A, B, C: np.block([[A, B], [z((3, 2)), C]]),
        ),
        of_arrays(
            "block-antidiagonal",
            lambda t, s: [general(s, 2, t), general(s + 2, 3, t)],
            lambda A, B: ops.Block([[None, D(A)], [D(B), None]]),
            lambda A, B: np.block([[z((2, 3)), A], [B, z((3, 2))]]),
        ),
        of_arrays(
            "block-batch",
            lambda t, s: [
                _plus(4, normal(s, (2, 3, 3), t)),
                normal(s + 1, (3, 1), t),
                normal(s + 2, (2, 1, 3), t),
            ],
            lambda A, B, C: ops.Block([[D(A), D(B)], [D(C), ops.ScalarMul(2.0, 1)]]),
            lambda A, B, C: np.stack([np.block([[A[i], B], [C[i], 2 * np.eye(1)]]) for i in range(2)]),
        ),
        of_arrays(
            "inverse-block-triangular",
            lambda t, s: [general(s, 2, t), normal(s + 1, (2, 2), t), general(s + 2, 2, t)],
            lambda A, B, C: _inverse(ops.Block([[D(A), None], [D(B), D(C)]])),
            lambda A, B, C: np.linalg.inv(np.block([[A, z((2, 2))], [B, C]])),
            capabilities=_inverse_capabilities(),
        ),
        of_arrays(
            "concatenated",
            lambda t, s: [normal(s, (2, 4), t), normal(s + 1, (3, 4), t)],
            lambda A, B: ops.Concatenated(D(A), D(B)),
            lambda A, B: np.concatenate([A, B]),
        ),
        of_arrays(
            "concatenated-columns",
            lambda t, s: [normal(s, (4, 1), t), normal(s + 1, (4, 3), t)],
            lambda A, B: ops.Concatenated(D(A), D(B), axis=1),
            lambda A, B: np.concatenate([A, B], axis=1),
        ),
        of_arrays(
            "concatenated-batch",
            lambda t, s: [normal(s, (2, 2, 3), t), normal(s + 1, (1, 3), t)],
            lambda A, B: ops.Concatenated(D(A), D(B)),
            lambda A, B: np.stack([np.concatenate([a, B]) for a in A]),
        ),
        of_arrays(
            "khatri-rao",
            lambda t, s: [normal(s, (2, 5), t), normal(s + 1, (3, 5), t)],
            lambda A, B: ops.KhatriRao(D(A), D(B)),
            _khatri_rao,
        ),
        of_arrays(
            "khatri-rao-rows",
            lambda t, s: [normal(s, (5, 2), t), normal(s + 1, (5, 3), t)],
            lambda A, B: ops.KhatriRao(D(A), D(B), rowwise=True),
            lambda A, B: _khatri_rao(A.T, B.T).T,
        ),
        of_arrays(
            "khatri-rao-batch",
            lambda t, s: [normal(s, (2, 2, 4), t), normal(s + 1, (2, 4), t)],
            lambda A, B: ops.KhatriRao(D(A), D(B)),
            lambda A, B: np.stack([_khatri_rao(a, B) for a in A]),
        ),
        of_arrays(
            "hadamard",
            lambda t, s: [general(s, 5, t), 2 + normal(s + 1, (5, 5), t)],
            lambda A, B: ops.HadamardProduct(D(A), D(B)),
            lambda A, B: A * B,
        ),
        of_arrays(
            "hadamard-psd",
            lambda t, s: [psd(s, 3, t), psd(s + 1, 2, t), normal(s + 2, (6, 2), t)],
            lambda A, B, U: ops.HadamardProduct(ops.Kronecker(PSD(D(A)), PSD(D(B))), ops.LowRank(U)),
            lambda A, B, U: np.kron(A, B) * (U @ U.conj().T),
        ),
        of_arrays(
            "hadamard-batch",
            lambda t, s: [normal(s, (2, 3, 4), t), normal(s + 1, (3, 2), t), normal(s + 2, (2, 4, 2), t)],
            lambda A, U, V: ops.HadamardProduct(D(A), ops.LowRank(U, V)),
            lambda A, U, V: np.stack([a * (U @ v.conj().T) for a, v in zip(A, V, strict=True)]),
        ),
        of_arrays(
            "projection",
            lambda t, s: [_orthonormal(s, 6, 2, t)],
            lambda Q: ops.Projection(Stiefel(D(Q))),
            lambda Q: Q @ Q.conj().T,
        ),
        of_arrays(
            "projection-complement",
            lambda t, s: [_orthonormal(s, 5, 2, t)],
            lambda Q: ops.Projection(Stiefel(D(Q)), complement=True),
            lambda Q: np.eye(5) - Q @ Q.conj().T,
        ),
        of_arrays(
            "projection-full",
            lambda t, s: [_orthonormal(s, 4, 4, t)],
            lambda Q: ops.Projection(Stiefel(D(Q))),
            lambda Q: np.eye(4),
        ),
        of_arrays(
            "projection-oblique",
            lambda t, s: [normal(s, (5, 2), t), normal(s, (5, 2), t) + normal(s + 1, (5, 2), t) / 4],
            lambda U, V: ops.Projection.oblique(D(U), D(V)),
            oblique,
        ),
        of_arrays(
            "projection-shift",
            lambda t, s: [_orthonormal(s, 6, 3, t)],
            lambda Q: ops.Projection(Stiefel(D(Q))) + 0.5 * ops.Identity(6),
            lambda Q: Q @ Q.conj().T + 0.5 * np.eye(6),
        ),
        of_arrays(
            "product-diagonal",
            lambda t, s: [_spread(normal(s, (5,), t)), general(s + 1, 5, t)],
            lambda d, A: ops.Product(ops.Diagonal(d), D(A)),
            lambda d, A: d[:, None] * A,
        ),
        of_arrays(
            "product-sparse",
            lambda t, s: [_spread(normal(s, (9,), t)), general(s + 1, 5, t)],
            lambda e, A: ops.Product(ops.Sparse(e, *SPOTS, (5, 5)), D(A)),
            lambda e, A: scatter(e, *SPOTS, 5, 5) @ A,
        ),
        of_arrays(
            "blockdiag-nested",
            lambda t, s: [selfadjoint(s, 2, t), selfadjoint(s + 1, 3, t), normal(s + 2, (2, 3), t)],
            lambda A, B, C: ops.BlockDiag(_selfadjoint(D(A), D(C), D(B)), SelfAdjoint(D(A))),
            lambda A, B, C: blocks(np.block([[A, C], [C.conj().T, B]]), A),
        ),
    ]


def _selfadjoint(A: Any, C: Any, B: Any) -> Any:
    return ops.Block([[SelfAdjoint(A), C], [C.H, SelfAdjoint(B)]])


def _inverse(A: Any) -> Any:
    from ...linalg import Inverse

    return Inverse(A)


def _inverse_capabilities() -> Any:
    from .composed import _inverse_capabilities as made

    return made()
