"""Many small blocks, where a call per block would cost more than the arithmetic; and one tiny system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cola_core as cola
from cola_core import ops

from ..harness import Bench, Contender, Goal


def _logdet(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    rng = np.random.default_rng(0)
    blocks = [rng.standard_normal((20, 20)) + 9 * np.eye(20) for _ in range(10 if short else 200)]
    A = cola.block_diag(*(ops.Dense(b) for b in blocks))
    want = sum(np.linalg.slogdet(b)[1] for b in blocks)

    def batched() -> Any:
        return np.linalg.slogdet(np.stack(blocks))[1].sum()

    def check(value: Any) -> None:
        np.testing.assert_allclose(value, want, rtol=1e-12)

    return [
        Contender("slogdet(block_diag(...))", lambda: cola.slogdet(A)[1]),
        Contender("numpy.linalg.slogdet of the stack", batched),
    ], check


def _tiny(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 4)) + 4 * np.eye(4), rng.standard_normal(4)
    A = ops.Dense(a)

    def check(x: Any) -> None:
        np.testing.assert_allclose(a @ x, b, atol=1e-12)

    return [
        Contender("solve(Dense, b), checked", lambda: cola.solve(A, b)),
        Contender("numpy.linalg.solve", lambda: np.linalg.solve(a, b)),
    ], check


BENCHES = [
    Bench(
        "blocks-logdet",
        "log-determinant of 200 blocks of 20",
        _logdet,
        Goal("ratio", 2.0, "numpy.linalg.slogdet of the stack"),
        rounds=21,
    ),
    Bench("tiny-solve", "solve of a 4 x 4 Dense", _tiny, Goal("absolute", 60e-6), rounds=21),
]
