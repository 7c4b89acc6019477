"""Low rank plus diagonal, n = 50,000: against the Woodbury identity written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

import cola_core as cola

from ..harness import Bench, Contender, Goal


def _setup(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    n, k = (500, 5) if short else (50_000, 50)
    rng = np.random.default_rng(0)
    U, d, b = rng.standard_normal((n, k)), rng.uniform(1, 2, n), rng.standard_normal(n)

    def ours() -> Any:
        return cola.solve(cola.PSD(cola.ops.Diagonal(d)) + cola.ops.LowRank(U), b)

    def undeclared() -> Any:
        return cola.solve(cola.ops.Diagonal(d) + cola.ops.LowRank(U), b)

    def by_hand() -> Any:
        Z = U / d[:, None]
        y = b / d
        F = scipy.linalg.cho_factor(np.eye(k) + U.T @ Z, lower=True)
        return y - Z @ scipy.linalg.cho_solve(F, U.T @ y)

    def check(answer: Any) -> None:
        np.testing.assert_allclose(d * answer + U @ (U.T @ answer), b, atol=1e-7)

    return [
        Contender("solve(Diagonal + LowRank, b)", ours),
        Contender("solve, nothing declared", undeclared),
        Contender("by hand", by_hand),
    ], check


BENCHES = [
    Bench(
        "woodbury",
        "Rank 50 plus diagonal, n = 50,000, solve",
        _setup,
        Goal("ratio", 1.3, "by hand"),
        rounds=15,
    )
]
