"""Cases on a sparse matrix with five diagonals: linear systems in two precisions, and log-determinants.

All are bound by bandwidth on any machine: a product reads twelve bytes of the matrix for every two flops.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import cola_core as cola
from cola_core import PSD, ops

from ..cg import MixedPrecisionCG
from ..gmres_ir import MixedPrecisionGMRES
from ..krylov import DeviceCG, DeviceSLQ
from .case import Case, Problem
from .roofline import Phase
from .target import Target

__all__ = ["CASES", "CG_PASSES", "five_diagonals", "step_work"]

TOLERANCE = 1e-10
SOLVE = {"short": 2**11, "quick": 2**18, "full": 2**21}
SOLVE_ON_ACCELERATORS = {"short": 2**14, "quick": 2**22, "full": 2**24}
KRYLOV = {"short": 2**11, "quick": 2**16, "full": 2**19}
KRYLOV_ON_ACCELERATORS = {"short": 2**14, "quick": 2**20, "full": 2**23}
CG_PASSES = 10  # vectors read or written in a step of CG besides the product's two
RESTART = 50  # of GMRES
LANCZOS_PASSES = 6  # of the recurrence alone
PROBES = 16


def five_diagonals(n: int) -> tuple[Any, np.ndarray]:
    """A diagonally dominant PSD matrix (condition number about 2.4e3), and a right-hand side."""
    from scipy.sparse import diags_array

    far = max(2, int(n**0.5))
    bands = [
        np.full(n - abs(k), v) for k, v in ((-far, -0.5), (-1, -1.0), (0, 3.0025), (1, -1.0), (far, -0.5))
    ]
    M = diags_array(bands, offsets=[-far, -1, 0, 1, far], format="csr")
    return PSD(ops.Sparse.from_scipy(M)), np.random.default_rng(1).standard_normal(n)


def step_work(cost: Any, numbers: float, dtype: str, columns: int = 1) -> Phase:
    """A product, and passes over so many numbers, each multiplied and added for every column of a block."""
    width = np.dtype(dtype).itemsize
    return Phase(cost.flops + 2 * numbers * columns, cost.bytes + width * numbers, dtype)


def _system(target: Target, size: str) -> tuple[Any, Any, int]:
    n = (SOLVE_ON_ACCELERATORS if target.accelerated else SOLVE)[size]
    A, b = five_diagonals(n)
    return target.operator(A), target.put(b), n


def _solve(target: Target, A: Any, b: Any, alg: Any) -> Any:
    return cola.solve(A, b, alg, return_info=True, on_failure="ignore")


def _facts(answer: Any) -> dict[str, Any]:
    info = answer[1]
    return {
        "method": info.method,
        "steps": int(info.iterations),
        "products": int(info.matvecs),
        "converged": bool(info.converged),
        "residual": float(info.residual),
    }


def _cg(target: Target, size: str) -> Problem:
    A, b, n = _system(target, size)
    alg = DeviceCG(tol=TOLERANCE, max_iters=2000)
    step = step_work(A.matvec_cost, CG_PASSES * n, "float64")
    return Problem(
        run=lambda: _solve(target, A, b, alg),
        phases=lambda answer: [step * int(answer[1].iterations)],
        size={"n": n, "tolerance": TOLERANCE},
        facts=_facts,
    )


def _mixed_cg(target: Target, size: str) -> Problem:
    A, b, n = _system(target, size)
    alg = MixedPrecisionCG(tol=TOLERANCE, max_iters=2000, precision="float32")
    low = step_work(A.to(dtype="float32").matvec_cost, CG_PASSES * n, "float32")
    correction = step_work(A.matvec_cost, 4 * n, "float64")

    def phases(answer: Any) -> list[Phase]:
        steps, products = int(answer[1].iterations), int(answer[1].matvecs)
        return [low * steps, correction * max(products - steps, 0)]

    return Problem(
        run=lambda: _solve(target, A, b, alg),
        phases=phases,
        size={"n": n, "tolerance": TOLERANCE},
        facts=_facts,
    )


def _mixed_gmres(target: Target, size: str) -> Problem:
    A, b, n = _system(target, size)
    alg = MixedPrecisionGMRES(tol=TOLERANCE, max_iters=2000, precision="float32", restart=RESTART)
    product, correction = A.to(dtype="float32").matvec_cost, step_work(A.matvec_cost, 4 * n, "float64")

    def phases(answer: Any) -> list[Phase]:
        steps, products = int(answer[1].iterations), int(answer[1].matvecs)
        vectors = sum(4 * (j % RESTART + 1) * n for j in range(steps))
        return [step_work(product * steps, vectors, "float32"), correction * max(products - steps, 0)]

    return Problem(
        run=lambda: _solve(target, A, b, alg),
        phases=phases,
        size={"n": n, "tolerance": TOLERANCE},
        facts=_facts,
    )


def _slq(target: Target, size: str) -> Problem:
    n = (KRYLOV_ON_ACCELERATORS if target.accelerated else KRYLOV)[size]
    A = target.operator(five_diagonals(n)[0])
    alg = DeviceSLQ(tol=1e-2, samples=PROBES, max_samples=PROBES)
    block = step_work(A.matmat_cost(PROBES), LANCZOS_PASSES * PROBES * n, "float64")
    return Problem(
        run=lambda: cola.logdet(A, alg, return_info=True, on_failure="ignore"),
        phases=lambda answer: [block * (int(answer[1].matvecs) / PROBES)],
        size={"n": n, "probes": PROBES},
        facts=lambda answer: {
            "method": answer[1].method,
            "products": int(answer[1].matvecs),
            "converged": bool(answer[1].converged),
        },
    )


CASES = [
    Case(
        "cg",
        "DeviceCG: conjugate gradients, float64",
        "per step: the matrix once, the product's two vectors, and ten passes over vectors",
        _cg,
    ),
    Case(
        "mixed-cg",
        "mixed-precision conjugate gradients, float32 in float64",
        "per step the same in float32; per correction a product and four passes in float64",
        _mixed_cg,
    ),
    Case(
        "mixed-gmres",
        "mixed-precision GMRES(50), float32 in float64",
        "per step: the product and Gram-Schmidt twice, which reads the basis four times, in float32",
        _mixed_gmres,
    ),
    Case(
        "slq",
        "DeviceSLQ: log-determinant by stochastic Lanczos quadrature, 16 probes, float64",
        "per step: the matrix once for all probes, and six passes over their block",
        _slq,
    ),
]
