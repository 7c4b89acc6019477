"""Mixed-precision conjugate gradients against float64 ones, to the same float64 residual of a sparse
system."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cola_core as cola
from cola_gpu import MixedPrecisionCG
from cola_gpu.bench import Target
from cola_gpu.bench.ceilings import Ceilings
from cola_gpu.bench.roofline import Phase
from cola_gpu.bench.sparse_cases import CG_PASSES, five_diagonals, step_work
from cola_gpu.krylov import DeviceCG

from .rows import Row, timed

__all__ = ["TITLE", "rows"]

TITLE = "Mixed-precision CG: five diagonals, condition number 2.4e3, to a float64 residual of 1e-10"
TOLERANCE = 1e-10
SIZES = {"cpu": 2**20, "accelerator": 2**24, "short": 2**11}


def rows(target: Target, ceilings: Ceilings, short: bool) -> Iterator[Row]:
    """Products in float32, and in bfloat16 on accelerators, inside float64; against float64 throughout."""
    n = SIZES["short" if short else "accelerator" if target.accelerated else "cpu"]
    A, b = five_diagonals(n)
    A, b = target.operator(A), target.put(b)
    algorithms = {
        "MixedPrecisionCG, float32": MixedPrecisionCG(tol=TOLERANCE, max_iters=4000, precision="float32"),
        "CG, float64": cola.algorithms.CG(tol=TOLERANCE, max_iters=4000),
        "DeviceCG, float64": DeviceCG(tol=TOLERANCE, max_iters=4000),
    }
    if target.accelerated:
        low = MixedPrecisionCG(tol=TOLERANCE, max_iters=4000, precision="bfloat16")
        algorithms["MixedPrecisionCG, bfloat16"] = low
    steps: dict[str, int] = {}
    length = target.backend.xp.linalg.vector_norm
    norm = float(length(b))

    def runner(alg: Any) -> Callable[[], Any]:
        return lambda: cola.solve(A, b, alg, return_info=True, on_failure="ignore")

    def check(name: str, answer: Any) -> str:
        x, info = answer
        steps[name] = int(info.iterations)
        residual = float(length(b - A @ x)) / norm
        assert not bool(info.converged) or residual <= 1.1 * TOLERANCE, f"residual {residual:.1e}"
        return f"{steps[name]} steps, residual {residual:.0e}" + (
            "" if bool(info.converged) else f", {info.reason}"
        )

    def phases(name: str) -> list[Phase]:
        dtype = "float64" if name.endswith("float64") else "float32"
        return [step_work(A.to(dtype=dtype).matvec_cost, CG_PASSES * n, dtype) * steps[name]]

    runs = {name: runner(alg) for name, alg in algorithms.items()}
    yield from timed(target, f"n = {n:,}", runs, check, 2 if short else 5, ceilings, phases)
