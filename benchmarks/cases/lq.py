"""LQ with its gradient in PyTorch: ours, overwriting or not, against autograd of `torch.linalg.qr`.

The overwriting form destroys its matrix: its time has a copy of that in it. What they hold is measured by
`python -m benchmarks.lq_memory`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..harness import Bench, Contender, Goal

PEER = "autograd of torch.linalg.qr"


def _setup(m: int, n: int, dtype: str) -> Callable[[bool], tuple[list[Contender], Callable[[Any], None]]]:
    def setup(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
        import torch

        from cola_gpu import lapack

        rows, columns = (50, 200) if short else (m, n)
        rng = np.random.default_rng(0)
        kind = getattr(torch, dtype)
        X, W = (torch.tensor(rng.standard_normal((rows, columns)), dtype=kind) for _ in range(2))
        V = torch.tensor(np.tril(rng.standard_normal((rows, rows))), dtype=kind)

        def ours() -> Any:
            A = X.detach().requires_grad_()
            Q, L = lapack.gelqf(A)
            return torch.autograd.grad((Q, L), A, (W, V))[0]

        def overwriting() -> Any:
            A = X.detach().requires_grad_()
            Q, L = lapack.gelqf(A.clone(), overwrite=True)
            return torch.autograd.grad((Q, L), A, (W, V))[0]

        def peer() -> Any:
            A = X.detach().requires_grad_()
            Qt, R = torch.linalg.qr(A.mT)
            sign = torch.where(R.detach().diagonal() < 0, -1.0, 1.0).to(kind)
            # the same loss: the signs, which LAPACK leaves open, go into the cotangents
            return torch.autograd.grad((Qt, R), A, (W.mT * sign, sign[:, None] * V.mT))[0]

        expected = peer()

        def check(answer: Any) -> None:
            scale = float(expected.abs().max())
            tol = 1e-10 if dtype == "float64" else 1e-3
            np.testing.assert_allclose(answer, expected, atol=tol * scale)

        return [
            Contender("gelqf", ours),
            Contender(PEER, peer),
            Contender("a copy and gelqf(overwrite=True)", overwriting),
        ], check

    return setup


BENCHES = [
    Bench(
        f"lq-{m}x{n}-{dtype}",
        f"LQ and its gradient, {m} x {n}, {dtype} (PyTorch)",
        _setup(m, n, dtype),
        goal,
        needs=("torch", "cola_gpu"),
        rounds=rounds,
    )
    for m, n, dtype, rounds, goal in [
        (500, 2000, "float64", 15, Goal("ratio", 1.0, PEER)),
        (500, 2000, "float32", 15, Goal("ratio", 1.0, PEER)),
        (1000, 8000, "float64", 5, Goal("ratio", 1.0, PEER)),
        (50, 100, "float64", 31, Goal("above", 4e-4, PEER)),  # checks, and a function of Python's in autograd
    ]
]
