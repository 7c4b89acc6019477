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


BENCHES = [
    Bench(
        f"dense-{name}",
        f"Dense {N}x{N} @ v, {name}",
        _setup(name),
        Goal("above", 4e-6, "A @ v"),
        needs=(name,),
        rounds=31,
    )
    for name in ("numpy", "torch", "jax")
]
