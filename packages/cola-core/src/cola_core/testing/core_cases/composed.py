"""Operators made of operators, and compositions of those."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ...properties import PSD, SelfAdjoint
from .. import data
from ..capabilities import Capabilities, closed
from ..case import Case
from .build import blocks, kron, kronsum, of_arrays, operator_case

normal, psd, selfadjoint, general = data.normal, data.psd, data.selfadjoint, data.general


def _two(seed: int, dtype: str, make: Any = general, sizes: tuple[int, int] = (3, 4)) -> list[Any]:
    return [make(seed, sizes[0], dtype), make(seed + 10, sizes[1], dtype)]


def operator_cases() -> list[Case]:
    """Operators made of operators, and compositions of those."""
    D = ops.Dense

    def pair(make: Any = general, sizes: tuple[int, int] = (3, 4)) -> Any:
        return lambda t, s: _two(s, t, make, sizes)

    def dense_psd(M: Any) -> Any:
        return PSD(D(M))

    out = [
        of_arrays("sum", pair(general, (5, 5)), lambda A, B: ops.Sum(D(A), D(B)), lambda A, B: A + B),
        of_arrays(
            "sum-shift",
            lambda t, s: [selfadjoint(s, 6, t)],
            lambda A: SelfAdjoint(D(A)) + 0.3 * ops.Identity(6),
            lambda A: A + 0.3 * np.eye(6, dtype=A.dtype),
        ),
        of_arrays("product", pair(general, (5, 5)), lambda A, B: ops.Product(D(A), D(B)), lambda A, B: A @ B),
        of_arrays(
            "product-wide",
            lambda t, s: [normal(s, (7, 2), t), normal(s + 1, (2, 7), t)],
            lambda A, B: ops.Product(D(A), D(B)),
            lambda A, B: A @ B,
        ),
        of_arrays("scaled", lambda t, s: [psd(s, 5, t)], lambda A: 3.0 * dense_psd(A), lambda A: 3 * A),
        of_arrays("kronecker", pair(), lambda A, B: ops.Kronecker(D(A), D(B)), np.kron),
        of_arrays(
            "kronecker-psd", pair(psd), lambda A, B: ops.Kronecker(dense_psd(A), dense_psd(B)), np.kron
        ),
        of_arrays(
            "kronecker-rectangular",
            lambda t, s: [normal(s, (2, 3), t), normal(s + 1, (4, 2), t)],
            lambda A, B: ops.Kronecker(D(A), D(B)),
            np.kron,
        ),
        of_arrays(
            "kronecker-three",
            lambda t, s: [general(s, 2, t), 2 + normal(s, (3,), t), general(s + 9, 2, t)],
            lambda A, d, B: ops.Kronecker(D(A), ops.Diagonal(d), D(B)),
            lambda A, d, B: kron(A, np.diag(d), B),
        ),
        of_arrays("kronsum", pair(general), lambda A, B: ops.KronSum(D(A), D(B)), kronsum),
        of_arrays("kronsum-psd", pair(psd), lambda A, B: ops.KronSum(dense_psd(A), dense_psd(B)), kronsum),
        of_arrays(
            "blockdiag",
            lambda t, s: [general(s, 2, t), general(s + 3, 3, t)],
            lambda A, B: ops.BlockDiag(D(A), D(B), multiplicities=(3, 1)),
            lambda A, B: blocks(A, A, A, B),
        ),
        of_arrays(
            "blockdiag-psd",
            lambda t, s: [psd(s, 2, t), psd(s + 3, 3, t)],
            lambda A, B: ops.BlockDiag(dense_psd(A), dense_psd(B), multiplicities=(1, 2)),
            lambda A, B: blocks(A, B, B),
        ),
        of_arrays(
            "blockdiag-rectangular",
            lambda t, s: [normal(s, (2, 3), t), normal(s + 1, (3, 1), t)],
            lambda A, B: ops.BlockDiag(D(A), D(B), multiplicities=(2, 1)),
            lambda A, B: blocks(A, A, B),
        ),
        of_arrays(
            "transpose", lambda t, s: [normal(s, (4, 6), t)], lambda M: ops.Transpose(D(M)), lambda M: M.T
        ),
        of_arrays(
            "transpose-square", lambda t, s: [general(s, 5, t)], lambda M: ops.Transpose(D(M)), lambda M: M.T
        ),
        of_arrays(
            "adjoint-selfadjoint",
            lambda t, s: [selfadjoint(s, 5, t)],
            lambda M: ops.Adjoint(SelfAdjoint(D(M))),
            lambda M: M,
        ),
        of_arrays(
            "scaled-kronecker",
            pair(selfadjoint),
            lambda A, B: -2.0 * ops.Kronecker(SelfAdjoint(D(A)), SelfAdjoint(D(B))),
            lambda A, B: -2 * np.kron(A, B),
        ),
        operator_case(
            "scalar-psd",
            lambda put, t, s: PSD(ops.ScalarMul(put(np.asarray(2.5, t)), 4)),
            lambda t, s: 2.5 * np.eye(4),
        ),
        of_arrays(
            "adjoint", lambda t, s: [general(s, 5, t)], lambda M: ops.Adjoint(D(M)), lambda M: M.conj().T
        ),
        operator_case(
            "sliced",
            lambda put, t, s: ops.Sliced(
                D(put(normal(s, (6, 5), t))), put(np.array([4, 0, 0, 2])), put(np.array([1, 3, 4]))
            ),
            lambda t, s: normal(s, (6, 5), t)[np.ix_([4, 0, 0, 2], [1, 3, 4])],
        ),
        of_arrays(
            "sliced-principal",
            lambda t, s: [psd(s, 6, t)],
            lambda M: dense_psd(M)[1:5, 1:5],
            lambda M: M[1:5, 1:5],
        ),
        of_arrays(
            "no-dispatch",
            pair(psd),
            lambda A, B: ops.no_dispatch(ops.Kronecker(dense_psd(A), dense_psd(B))),
            np.kron,
        ),
        of_arrays(
            "inverse",
            lambda t, s: [general(s, 5, t)],
            _inverse,
            np.linalg.inv,
            capabilities=_inverse_capabilities(),
        ),
        operator_case("function", _function_operator, _function_dense, capabilities=_function_capabilities()),
        of_arrays(
            "nested-kron-shift",
            pair(psd),
            lambda A, B: 2.0 * ops.Kronecker(dense_psd(A), dense_psd(B)) + 0.5 * ops.Identity(12),
            lambda A, B: 2 * np.kron(A, B) + 0.5 * np.eye(12, dtype=A.dtype),
        ),
        of_arrays(
            "nested-lowrank-diagonal",
            lambda t, s: [normal(s, (9, 2), t), (1 + np.abs(normal(s + 1, (9,), t))).astype(t)],
            lambda U, d: ops.LowRank(U) + PSD(ops.Diagonal(d)),
            lambda U, d: U @ U.conj().T + np.diag(d),
        ),
        of_arrays(
            "nested-blockdiag-kron",
            lambda t, s: [psd(s, 2, t), psd(s + 1, 2, t), psd(s + 2, 3, t)],
            lambda A, B, C: ops.BlockDiag(
                ops.Kronecker(dense_psd(A), dense_psd(B)), ops.KronSum(dense_psd(C))
            ),
            lambda A, B, C: blocks(np.kron(A, B), C),
        ),
        of_arrays(
            "nested-product-kron",
            pair(),
            lambda A, B: ops.Product(ops.Kronecker(D(A), D(B)), ops.Kronecker(D(B), D(A)).H),
            lambda A, B: np.kron(A, B) @ np.kron(B, A).conj().T,
        ),
        of_arrays(
            "kronecker-batch",
            lambda t, s: [np.stack([general(s, 2, t), general(s + 1, 2, t)]), general(s + 2, 3, t)],
            lambda A, B: ops.Kronecker(D(A), D(B)),
            lambda A, B: np.stack([np.kron(a, B) for a in A]),
        ),
        of_arrays(
            "kronsum-batch",
            lambda t, s: [np.stack([psd(s, 2, t), psd(s + 1, 2, t)]), psd(s + 2, 3, t)],
            lambda A, B: ops.KronSum(dense_psd(A), dense_psd(B)),
            lambda A, B: np.stack([kronsum(a, B) for a in A]),
        ),
        of_arrays(
            "blockdiag-batch",
            lambda t, s: [np.stack([general(s, 2, t), general(s + 1, 2, t)]), general(s + 2, 3, t)],
            lambda A, B: ops.BlockDiag(D(A), D(B), multiplicities=(2, 1)),
            lambda A, B: np.stack([blocks(a, a, B) for a in A]),
        ),
    ]
    return out


_CLOSURE = "the functions are closures"


def _inverse(M: Any) -> Any:
    from ...linalg import Inverse

    return Inverse(ops.Dense(M))


def _inverse_capabilities() -> Capabilities:
    return Capabilities(
        matrix_free=closed("the first product factorises the matrix it inverts"),
        torch_compile=closed(
            "a solve looks at its session, a context variable, which torch does not compile"
        ),
    )


def _function_operator(put: Any, dtype: str, seed: int) -> Any:
    M = put(general(seed, 6, dtype))
    be = _backend_of(M)
    return ops.FunctionOperator(
        lambda x: be.matmul(M, x),
        (6, 6),
        dtype,
        rmatvec=lambda y: be.matmul(be.adjoint(M), y),
        backend=be.name,
    )


def _backend_of(x: Any) -> Any:
    from ...backends import backend_of

    return backend_of(x)


def _function_dense(dtype: str, seed: int) -> Any:
    return general(seed, 6, dtype)


def _function_capabilities() -> Capabilities:
    return Capabilities(
        pickle=closed(_CLOSURE),
        moving=closed("a function cannot be moved to another library or precision"),
    )
