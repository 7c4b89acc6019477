"""A hundred steps of Lanczos with full reorthogonalisation on a sparse matrix, against the bandwidth limit.

Both contenders make the same steps; the core's waits for the device in each of them. The basis of ten million
rows takes 8 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cola_core as cola
from cola_gpu.bench import Target
from cola_gpu.bench.ceilings import Ceilings
from cola_gpu.bench.eigen_cases import STEPS, UNREACHABLE, basis_reads
from cola_gpu.bench.roofline import Phase
from cola_gpu.bench.sparse_cases import five_diagonals, step_work
from cola_gpu.krylov import DeviceLanczos

from .rows import Row, peak_memory, timed

__all__ = ["TITLE", "rows"]

TITLE = f"Lanczos, {STEPS} steps, sparse (five diagonals), float64"
SIZES = {"cpu": 100_000, "accelerator": 10_000_000, "short": 2000}


def rows(target: Target, ceilings: Ceilings, short: bool) -> Iterator[Row]:
    """One problem; the largest Ritz value is held against the contender before."""
    n = SIZES["short" if short else "accelerator" if target.accelerated else "cpu"]
    A = target.operator(five_diagonals(n)[0])
    algorithms = {
        "DeviceLanczos": DeviceLanczos(max_iters=STEPS, basis=STEPS, tol=UNREACHABLE),
        "Lanczos": cola.algorithms.Lanczos(max_iters=STEPS, basis=STEPS, tol=UNREACHABLE),
    }
    steps: dict[str, int] = {}
    values: list[float] = []

    def runner(alg: Any) -> Callable[[], Any]:
        return lambda: cola.eigh(A, 1, "LA", alg, return_info=True, on_failure="ignore")

    runs = {name: runner(alg) for name, alg in algorithms.items()}

    def check(name: str, answer: Any) -> str:
        (w, _), info = answer
        steps[name] = int(info.iterations)
        values.append(float(w[0]))
        # the spectrum lies below 3.0025 + 2 + 1; a hundred steps come close to its end
        assert 5.9 < values[-1] < 6.0025 and abs(values[-1] - values[0]) < 2e-2, values
        _, memory = peak_memory(target, runs[name])
        held = "" if memory is None else f", holds {memory / (8 * n * STEPS):.2f} bases"
        return f"{steps[name]} steps, largest Ritz value {values[-1]:.6f}{held}"

    def phases(name: str) -> list[Phase]:
        return [step_work(A.matvec_cost * steps[name], basis_reads(steps[name], 1, n), "float64")]

    yield from timed(target, f"n = {n:,}", runs, check, 2 if short else 5, ceilings, phases)
