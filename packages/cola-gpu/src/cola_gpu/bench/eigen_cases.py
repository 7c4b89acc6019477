"""Cases of eigenvalues of the same sparse matrix. No tolerance can be met, so that the steps are as many as
asked for."""

from __future__ import annotations

from typing import Any

import cola_core as cola

from ..krylov import DeviceBlockLanczos, DeviceLanczos, DeviceLOBPCG
from .case import Case, Problem
from .roofline import Phase
from .sparse_cases import KRYLOV, KRYLOV_ON_ACCELERATORS, five_diagonals, step_work
from .target import Target

__all__ = ["CASES", "basis_reads"]

STEPS, WIDTH, PAIRS, LOBPCG_STEPS = 100, 4, 4, 20
UNREACHABLE = 1e-30
BLOCK_PASSES = 16  # of LOBPCG: six blocks into the Gram matrices, six read and four written by the update


def basis_reads(steps: int, width: int, n: int) -> int:
    """Numbers read by orthogonalising: step j reads its `j width` vectors four times (two passes of
    Gram-Schmidt, each reading them for the coefficients and for the subtraction)."""
    return sum(4 * j * width * n for j in range(1, steps + 1))


def _problem(target: Target, size: str) -> tuple[Any, int]:
    n = (KRYLOV_ON_ACCELERATORS if target.accelerated else KRYLOV)[size]
    return target.operator(five_diagonals(n)[0]), n


def _eigh(A: Any, k: int, alg: Any) -> Any:
    return cola.eigh(A, k, "LA", alg, return_info=True, on_failure="ignore")


def _facts(answer: Any) -> dict[str, Any]:
    info = answer[1]
    return {"method": info.method, "steps": int(info.iterations), "products": int(info.matvecs)}


def _lanczos(target: Target, size: str) -> Problem:
    A, n = _problem(target, size)
    alg = DeviceLanczos(max_iters=STEPS, basis=STEPS, tol=UNREACHABLE)

    def phases(answer: Any) -> list[Phase]:
        steps = int(answer[1].iterations)
        return [step_work(A.matvec_cost * steps, basis_reads(steps, 1, n), "float64")]

    return Problem(lambda: _eigh(A, 1, alg), phases, {"n": n, "steps": STEPS}, _facts)


def _block_lanczos(target: Target, size: str) -> Problem:
    A, n = _problem(target, size)
    alg = DeviceBlockLanczos(max_iters=STEPS, basis=STEPS, tol=UNREACHABLE, block=WIDTH)

    def phases(answer: Any) -> list[Phase]:
        blocks = int(answer[1].iterations) // WIDTH
        read = basis_reads(blocks, WIDTH, n)
        return [step_work(A.matmat_cost(WIDTH) * blocks, read, "float64", columns=WIDTH)]

    return Problem(lambda: _eigh(A, 1, alg), phases, {"n": n, "products": STEPS, "block": WIDTH}, _facts)


def _lobpcg(target: Target, size: str) -> Problem:
    A, n = _problem(target, size)
    alg = DeviceLOBPCG(max_iters=LOBPCG_STEPS, tol=UNREACHABLE)

    def phases(answer: Any) -> list[Phase]:
        steps, products = int(answer[1].iterations), int(answer[1].matvecs)
        width = max(round(products / max(steps, 1)), 1)
        return [step_work(A.matmat_cost(width), BLOCK_PASSES * width * n, "float64") * steps]

    return Problem(lambda: _eigh(A, PAIRS, alg), phases, {"n": n, "pairs": PAIRS}, _facts)


CASES = [
    Case(
        "lanczos",
        "DeviceLanczos: 100 steps, float64",
        "per step: the product, and Gram-Schmidt twice, which reads the basis four times",
        _lanczos,
    ),
    Case(
        "block-lanczos",
        "DeviceBlockLanczos: 100 vectors in blocks of four, float64",
        "per block: one product of four vectors, and Gram-Schmidt twice, which reads the basis four times",
        _block_lanczos,
    ),
    Case(
        "lobpcg",
        "DeviceLOBPCG: 20 steps, four pairs, float64",
        "per step: the product of a block, and sixteen passes over such blocks",
        _lobpcg,
    ),
]
