"""The price of the layer: a product with a small dense matrix, where arithmetic costs next to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cola_core as cola

from ..harness import Bench, Contender, Goal

N = 10


def _setup(backend: str) -> Callable[[bool], tuple[list[Contender], Callable[[Any], None]]]:
    def setup(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
        be = cola.backends.get_backend(backend)
        if backend == "torch":
            import torch

            torch.set_num_threads(1)
        rng = np.random.default_rng(0)
        M, x = rng.standard_normal((N, N)), rng.standard_normal(N)
        A, v = be.asarray(M), be.asarray(x)
        D = cola.ops.Dense(A)

        def check(answer: Any) -> None:
            np.testing.assert_allclose(be.to_numpy(answer), M @ x, rtol=1e-4)

        return [Contender("Dense(A) @ v", lambda: D @ v), Contender("A @ v", lambda: A @ v)], check

    return setup


def _solve(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    import scipy.linalg as sl

    n = 101 if short else 1001
    rng = np.random.default_rng(0)
    M, b = rng.standard_normal((n, n)), rng.standard_normal(n)

    def check(answer: Any) -> None:
        assert np.linalg.norm(b - M @ answer) <= 1e-9 * np.linalg.norm(b)

    return [
        Contender("solve(A, b)", lambda: cola.solve(M, b)),
        Contender("scipy.linalg.solve", lambda: sl.solve(M, b)),
        Contender("numpy.linalg.solve", lambda: np.linalg.solve(M, b)),
    ], check


BENCHES = [
    Bench(
        "dense-solve",
        "Solve, dense non-symmetric 1001 x 1001",
        _solve,
        Goal("ratio", 1.2, "scipy.linalg.solve"),
        rounds=9,
    ),
    *(
        Bench(
            f"dense-{name}",
            f"Dense {N}x{N} @ v, {name}",
            _setup(name),
            Goal("above", 4e-6, "A @ v"),
            needs=(name,),
            rounds=31,
        )
        for name in ("numpy", "torch", "jax")
    ),
]
