"""The structured solves of the first figure of the CoLA paper (arXiv 2309.03060), at its sizes.

The block-diagonal one is two Cholesky factorisations of 1,000 rows and little else: LAPACK's time bounds
everybody's, so code written by hand is the peer that counts there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

import cola_core as cola
from cola_core import ops

from ..harness import Bench, Contender, Exchange, Goal
from .kronecker import spd

PEER = "cola-ml, in its own process"
Setup = Callable[[bool], tuple[list[Contender], Callable[[Any], None]]]


def _kron_arrays() -> dict[str, Any]:
    """50 * 19 * 12 = 11,400."""
    b = np.random.default_rng(3).standard_normal(50 * 19 * 12)
    return {"A": spd(50, 0), "B": spd(19, 1), "C": spd(12, 2), "b": b}


def _product_arrays() -> dict[str, Any]:
    """A diagonal times a Kronecker product of 120 * 120 = 14,400."""
    rng = np.random.default_rng(4)
    return {
        "d": rng.uniform(1, 2, 14_400),
        "A": spd(120, 0),
        "B": spd(120, 1),
        "b": rng.standard_normal(14_400),
    }


def _blocks_arrays() -> dict[str, Any]:
    """Two blocks of 1,000 and a diagonal of 20,000 between them: 22,000."""
    rng = np.random.default_rng(5)
    return {
        "A": spd(1000, 0),
        "d": rng.uniform(1, 2, 20_000),
        "B": spd(1000, 1),
        "b": rng.standard_normal(22_000),
    }


def _kron(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    p = _kron_arrays()
    A, B, C, b = p["A"], p["B"], p["C"], p["b"]
    X = b.reshape(50, 19, 12)
    K = cola.kron(cola.PSD(A), cola.PSD(B), cola.PSD(C))

    def by_hand() -> Any:
        Y = X
        for axis, M in enumerate((A, B, C)):
            Y = np.moveaxis(Y, axis, 0)
            shape = Y.shape
            Y = scipy.linalg.cho_solve(scipy.linalg.cho_factor(M), Y.reshape(shape[0], -1)).reshape(shape)
            Y = np.moveaxis(Y, 0, axis)
        return Y.reshape(-1)

    def check(x: Any) -> None:
        got = np.einsum("ia,jb,kc,abc->ijk", A, B, C, x.reshape(50, 19, 12), optimize=True)
        np.testing.assert_allclose(got, X, atol=1e-9)

    return [
        Contender("solve(kron(A, B, C), b)", lambda: cola.solve(K, b)),
        Contender("by hand, cho_solve along the axes", by_hand),
    ], check


def _product(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    p = _product_arrays()
    d, A, B, b = p["d"], p["A"], p["B"], p["b"]
    D = ops.Diagonal(d) @ cola.kron(cola.PSD(A), cola.PSD(B))

    def by_hand() -> Any:
        Y = (b / d).reshape(120, 120)
        FA, FB = scipy.linalg.cho_factor(A), scipy.linalg.cho_factor(B)
        return scipy.linalg.cho_solve(FA, scipy.linalg.cho_solve(FB, Y.T).T).reshape(-1)

    def check(x: Any) -> None:
        np.testing.assert_allclose(d * (A @ x.reshape(120, 120) @ B.T).reshape(-1), b, atol=1e-9)

    return [
        Contender("solve(Diagonal @ kron(A, B), b)", lambda: cola.solve(D, b)),
        Contender("by hand, cho_solve", by_hand),
    ], check


def _blocks(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    p = _blocks_arrays()
    A, d, B, b = p["A"], p["d"], p["B"], p["b"]
    M = cola.block_diag(cola.PSD(A), cola.PSD(ops.Diagonal(d)), cola.PSD(B))

    def by_hand() -> Any:
        return np.concatenate(
            [
                scipy.linalg.cho_solve(scipy.linalg.cho_factor(A), b[:1000]),
                b[1000:21_000] / d,
                scipy.linalg.cho_solve(scipy.linalg.cho_factor(B), b[21_000:]),
            ]
        )

    def check(x: Any) -> None:
        got = np.concatenate([A @ x[:1000], d * x[1000:21_000], B @ x[21_000:]])
        np.testing.assert_allclose(got, b, atol=1e-9)

    return [
        Contender("solve(block_diag(A, Diagonal, B), b)", lambda: cola.solve(M, b)),
        Contender("by hand, cho_solve", by_hand),
    ], check


def _bench(
    name: str, title: str, setup: Setup, arrays: Callable[[], dict[str, Any]], goal: Goal | None = None
) -> Bench:
    due = goal or Goal("ratio", 1 / 3, PEER)
    return Bench(f"paper-{name}", title, setup, due, rounds=9, exchange=Exchange(name, arrays))


BENCHES = [
    _bench("kron-three", "Kronecker 50 x 19 x 12 = 11,400, solve", _kron, _kron_arrays),
    _bench("diagonal-kron", "Diagonal @ Kronecker 120 x 120 = 14,400, solve", _product, _product_arrays),
    _bench(
        "block-diagonal",
        "block diagonal 1,000 + 20,000 + 1,000, solve",
        _blocks,
        _blocks_arrays,
        Goal("ratio", 1.1, "by hand, cho_solve"),
    ),
]
