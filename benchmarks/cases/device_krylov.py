"""The device-resident methods of cola-gpu on the CPU, where rare looks at values gain nothing: what
the masks, and the steps after convergence, cost there. (On a GPU: ``python -m benchmarks gpu``.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cola_core as cola
from cola_core import ops

from ..harness import Bench, Contender, Goal

SIZE, SHORT = 200_000, 2_000


def _operator(n: int) -> tuple[Any, Any]:
    """A tridiagonal PSD matrix (condition number 400) of PyTorch, and a right-hand side."""
    import torch

    i = np.arange(n)
    rows, cols = np.r_[i, i[1:], i[:-1]], np.r_[i, i[:-1], i[1:]]
    values = torch.as_tensor(np.r_[np.full(n, 2.01), np.full(2 * n - 2, -1.0)])
    A = cola.no_dispatch(cola.PSD(ops.Sparse(values, rows, cols, (n, n))))
    return A, torch.as_tensor(np.random.default_rng(0).standard_normal(n))


def _contenders(
    ask: Callable[[Any], Any], ours: Any, theirs: Any
) -> tuple[list[Contender], Callable[[Any], None]]:
    def runner(alg: Any) -> Callable[[], Any]:
        return lambda: ask(alg)

    def check(answer: Any) -> None:
        assert bool(answer[1].converged) and float(answer[1].residual) < 1e-6

    pairs = ((type(alg).__name__, alg) for alg in (ours, theirs))
    return [Contender(name, runner(alg)) for name, alg in pairs], check


def _cg(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    from cola_gpu.krylov import DeviceCG

    A, b = _operator(SHORT if short else SIZE)
    return _contenders(lambda alg: cola.solve(A, b, alg, return_info=True), DeviceCG(), cola.CG())


def _lanczos(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    import torch

    from cola_gpu.krylov import DeviceLanczos

    n = SHORT if short else SIZE
    d = torch.cat([torch.linspace(0, 1, n - 3, dtype=torch.float64), torch.tensor([1.2, 1.3, 1.5])])
    A = cola.no_dispatch(cola.PSD(ops.Diagonal(d)))
    return _contenders(
        lambda alg: cola.eigh(A, 3, "LA", alg, return_info=True), DeviceLanczos(), cola.Lanczos()
    )


BENCHES = [
    Bench(
        "device-cg",
        f"DeviceCG beside CG on the CPU, PyTorch, sparse n = {SIZE:,}",
        _cg,
        Goal("ratio", 1.5, "CG"),
        needs=("torch", "cola_gpu"),
        rounds=7,
    ),
    Bench(
        "device-lanczos",
        f"DeviceLanczos beside Lanczos on the CPU, PyTorch, n = {SIZE:,}",
        _lanczos,
        Goal("ratio", 1.5, "Lanczos"),
        needs=("torch", "cola_gpu"),
        rounds=7,
    ),
]
