"""Operators that store something."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ...properties import PSD, SelfAdjoint, Unitary
from .. import data
from ..capabilities import Capabilities, closed
from ..case import Case
from .build import diagonals, of_arrays, operator_case, scatter

normal, psd, selfadjoint, general = data.normal, data.psd, data.selfadjoint, data.general


def _sparse(dtype: str, seed: int) -> tuple[Any, Any, Any]:
    n = 9
    main = 4 + np.abs(normal(seed, (n,), dtype))
    upper, lower = normal(seed + 1, (n - 1,), dtype), normal(seed + 2, (n - 2,), dtype)
    data_ = np.concatenate([main, upper, lower]).astype(dtype)
    rows = np.concatenate([np.arange(n), np.arange(n - 1), np.arange(2, n)])
    cols = np.concatenate([np.arange(n), np.arange(1, n), np.arange(n - 2)])
    return data_, rows, cols


def _sparse_batch(dtype: str, seed: int) -> Any:
    return np.stack([_sparse(dtype, seed)[0], _sparse(dtype, seed + 7)[0]])


def _sparse_operator_batch(put: Any, t: Any, s: Any) -> Any:
    _, rows, cols = map(put, _sparse(t, s))
    return ops.Sparse(put(_sparse_batch(t, s)), rows, cols, (9, 9))


def _sparse_operator(put: Any, t: Any, s: Any) -> Any:
    data, rows, cols = map(put, _sparse(t, s))
    return ops.Sparse(data, rows, cols, (9, 9))


def _perm(dtype: str, seed: int) -> Any:
    return np.random.default_rng(seed + 5).permutation(7)


def _three(dtype: str, seed: int) -> list[Any]:
    main = normal(seed, (6,), dtype)
    return [normal(seed + 1, (5,), dtype), main + 4, normal(seed + 2, (5,), dtype)]


def _tridiagonal(alpha: Any, beta: Any, gamma: Any) -> Any:
    return np.diag(alpha, -1) + np.diag(beta) + np.diag(gamma, 1)


def _bands(dtype: str, seed: int, shape: tuple[int, ...]) -> Any:
    bands = normal(seed, shape, dtype)
    bands[..., 2, :] += 4  # the main diagonal where u = 2
    return bands


def _banded(bands: Any, low: int, high: int, m: int) -> Any:
    n = bands.shape[-1]
    out = np.zeros((m, n), bands.dtype)
    for i in range(m):
        for j in range(max(0, i - low), min(n, i + high + 1)):
            out[i, j] = bands[high + i - j, j]
    return out


def _reflections(V: Any, tau: Any = None) -> Any:
    m, k = V.shape
    out = np.eye(m, dtype=V.dtype)
    for i in range(k):
        v = np.concatenate([np.zeros(i), np.ones(1), V[i + 1 :, i]])
        t = 2 / np.vdot(v, v).real if tau is None else tau[i]
        out = out @ (np.eye(m) - t * np.outer(v, v.conj()))
    return out


def operator_cases() -> list[Case]:
    """Operators that store something."""
    masked = Capabilities(matrix_free=closed("a stored matrix: a product masks the half that is not read"))
    out = [
        of_arrays("dense", lambda t, s: [general(s, 6, t)], ops.Dense, lambda M: M),
        of_arrays("dense-tall", lambda t, s: [normal(s, (7, 4), t)], ops.Dense, lambda M: M),
        of_arrays("dense-wide", lambda t, s: [normal(s, (3, 8), t)], ops.Dense, lambda M: M),
        of_arrays("dense-one", lambda t, s: [normal(s, (1, 1), t)], ops.Dense, lambda M: M),
        of_arrays("dense-psd", lambda t, s: [psd(s, 6, t)], lambda M: PSD(ops.Dense(M)), lambda M: M),
        of_arrays(
            "dense-selfadjoint",
            lambda t, s: [selfadjoint(s, 6, t)],
            lambda M: SelfAdjoint(ops.Dense(M)),
            lambda M: M,
        ),
        of_arrays(
            "dense-unitary",
            lambda t, s: [data.orthogonal(s, 5, t).astype(t)],
            lambda M: Unitary(ops.Dense(M)),
            lambda M: M,
        ),
        of_arrays(
            "dense-batch",
            lambda t, s: [np.stack([general(s, 4, t), general(s + 5, 4, t)])],
            ops.Dense,
            lambda M: M,
        ),
        of_arrays("diagonal", lambda t, s: [normal(s, (6,), t)], ops.Diagonal, np.diag),
        of_arrays(
            "diagonal-psd",
            lambda t, s: [(0.5 + np.abs(normal(s, (6,), t))).astype(t)],
            lambda d: PSD(ops.Diagonal(d)),
            np.diag,
        ),
        of_arrays("diagonal-batch", lambda t, s: [2 + normal(s, (2, 4), t)], ops.Diagonal, diagonals),
        of_arrays(
            "scalar",
            lambda t, s: [np.asarray(-1.5 if "complex" not in t else -1.5 + 1j, t)],
            lambda c: ops.ScalarMul(c, 5),
            lambda c: c * np.eye(5, dtype=c.dtype),
        ),
        operator_case("identity", lambda put, t, s: ops.Identity(5, t), lambda t, s: np.eye(5)),
        operator_case(
            "zero",
            lambda put, t, s: ops.Zero.like(ops.Dense(put(np.ones((5, 5), t)))),
            lambda t, s: np.zeros((5, 5)),
        ),
        operator_case(
            "zero-wide",
            lambda put, t, s: ops.Zero.like(ops.Dense(put(np.ones((2, 3, 4), t)))),
            lambda t, s: np.zeros((2, 3, 4)),
        ),
        operator_case(
            "zero-empty",
            lambda put, t, s: ops.Zero.like(ops.Dense(put(np.ones((0, 0), t)))),
            lambda t, s: np.zeros((0, 0)),
        ),
        of_arrays("tridiagonal", _three, ops.Tridiagonal, _tridiagonal),
        of_arrays(
            "tridiagonal-psd",
            lambda t, s: [_three(t, s)[0] / 2, (4 + np.abs(_three(t, s)[1])).astype(t)],
            lambda a, b: PSD(ops.Tridiagonal(a, b)),
            lambda a, b: _tridiagonal(a, b, a.conj()),
        ),
        of_arrays(
            "tridiagonal-selfadjoint",
            lambda t, s: [_three(t, s)[0], np.abs(_three(t, s)[1]).astype(t)],
            lambda a, b: SelfAdjoint(ops.Tridiagonal(a, b)),
            lambda a, b: _tridiagonal(a, b, a.conj()),
        ),
        of_arrays(
            "banded",
            lambda t, s: [_bands(t, s, (4, 7))],
            lambda b: ops.Banded(b, (1, 2)),
            lambda b: _banded(b, 1, 2, 7),
        ),
        of_arrays(
            "banded-psd",
            lambda t, s: [_bands(t, s, (3, 6))],
            lambda b: PSD(ops.Banded(b, (0, 2)).H @ ops.Banded(b, (0, 2))),
            lambda b: _banded(b, 0, 2, 6).conj().T @ _banded(b, 0, 2, 6),
        ),
        of_arrays(
            "banded-tall-batch",
            lambda t, s: [_bands(t, s, (2, 3, 4))],
            lambda b: ops.Banded(b, (1, 1), (6, 4)),
            lambda b: np.stack([_banded(x, 1, 1, 6) for x in b]),
        ),
        of_arrays(
            "householder",
            lambda t, s: [normal(s, (6,), t)],
            ops.Householder,
            lambda v: np.eye(6) - 2 * np.outer(v, v.conj()) / np.vdot(v, v).real,
        ),
        of_arrays(
            "householder-beta",
            lambda t, s: [normal(s, (2, 4), t), 0.2 + 0.1 * normal(s + 1, (2,), t)],
            ops.Householder,
            lambda v, b: np.stack([np.eye(4) - c * np.outer(x, x.conj()) for x, c in zip(v, b, strict=True)]),
        ),
        of_arrays(
            "householder-product",
            lambda t, s: [normal(s, (6, 3), t), 0.5 * normal(s + 1, (3,), t)],
            ops.HouseholderProduct,
            _reflections,
        ),
        of_arrays(
            "householder-product-unitary",
            lambda t, s: [normal(s, (5, 2), t)],
            ops.HouseholderProduct,
            _reflections,
        ),
        of_arrays(
            "lowrank",
            lambda t, s: [normal(s, (7, 2), t), normal(s + 1, (5, 2), t)],
            ops.LowRank,
            lambda U, V: U @ V.conj().T,
        ),
        of_arrays("lowrank-psd", lambda t, s: [normal(s, (6, 2), t)], ops.LowRank, lambda U: U @ U.conj().T),
        operator_case(
            "permutation",
            lambda put, t, s: ops.Permutation(put(_perm(t, s)), t),
            lambda t, s: np.eye(7)[_perm(t, s)],
        ),
        operator_case(
            "sparse",
            _sparse_operator,
            lambda t, s: scatter(*_sparse(t, s), 9, 9),
        ),
        operator_case(
            "sparse-batch",
            _sparse_operator_batch,
            lambda t, s: np.stack([scatter(d, *_sparse(t, s)[1:], 9, 9) for d in _sparse_batch(t, s)]),
        ),
        operator_case(
            "sparse-wide",
            lambda put, t, s: ops.Sparse(
                put(normal(s, (4,), t)), put(np.array([0, 2, 1, 2])), put(np.array([3, 0, 6, 0])), (3, 7)
            ),
            lambda t, s: scatter(normal(s, (4,), t), np.array([0, 2, 1, 2]), np.array([3, 0, 6, 0]), 3, 7),
        ),
    ]
    for lower in (True, False):
        for unit in (False, True):

            def dense(M: Any, lower: bool = lower, unit: bool = unit) -> Any:
                half = np.tril(M) if lower else np.triu(M)
                return half - np.diag(np.diag(half)) + np.eye(len(M), dtype=M.dtype) if unit else half

            out.append(
                of_arrays(
                    f"triangular-{'lower' if lower else 'upper'}{'-unit' if unit else ''}",
                    lambda t, s: [0.3 * normal(s, (6, 6), t) + 2 * np.eye(6, dtype=t)],
                    lambda M, lower=lower, unit=unit: ops.Triangular(M, lower=lower, unit=unit),
                    dense,
                    capabilities=masked,
                )
            )
    return out
