"""A million unknowns solved mostly in single precision, and an LQ factorisation with its adjoint, on NumPy
alone.

    python examples/mixed_precision_cg/mixed_precision_cg.py --out report/

Part one: a diagonally dominant system (tridiagonal, plus two far diagonals and a tail of random symmetric
couplings) is solved to a relative residual of 1e-10 by conjugate gradients in double precision, and by
`MixedPrecisionCG`, which multiplies in single precision and corrects in double. Both residuals are recomputed
from the answer with SciPy's own product. Part two: `A = L Q` of a wide matrix, checked as a factorisation,
and its adjoint against central differences. Writes `mixed_precision_cg.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array

import cola_core as cola
from cola_gpu import MixedPrecisionCG
from cola_gpu.lapack import gelqf, gelqf_backward

TOLERANCE = 1e-10


def system(n: int, seed: int = 0) -> tuple[csr_array, np.ndarray]:
    """A symmetric matrix whose diagonal exceeds the sum of its row by one part in a thousand, and a right
    side."""
    rng = np.random.default_rng(seed)
    far = int(n**0.5)
    bands = [np.full(n - k, -w) for k, w in ((1, 1.0), (far, 0.5))]
    rows, cols = rng.integers(0, n, (2, n // 4))
    tail = coo_array((-rng.uniform(0, 0.2, n // 4), (rows, cols)), shape=(n, n))
    upper = (diags_array(bands, offsets=[1, far], shape=(n, n)) + tail).tocsr()
    upper.setdiag(0.0)
    couplings = upper + upper.T
    strength = abs(couplings).sum(axis=0)
    matrix = (couplings + diags_array(1.001 * strength)).tocsr()
    return matrix, rng.standard_normal(n)


def solve_both(matrix: csr_array, b: np.ndarray, repeats: int) -> dict[str, Any]:
    """Time, steps and recomputed residual of CG in double precision and of mixed-precision CG."""
    A = cola.PSD(cola.ops.Sparse.from_scipy(matrix))
    out: dict[str, Any] = {"n": matrix.shape[0], "nonzeros": int(matrix.nnz), "tolerance": TOLERANCE}
    solvers = {
        "double": cola.algorithms.CG(tol=TOLERANCE, max_iters=5000),
        "mixed": MixedPrecisionCG(tol=TOLERANCE, max_iters=5000),
    }
    for name, alg in solvers.items():
        seconds = np.inf
        for _ in range(repeats):
            start = time.perf_counter()
            x, info = cola.solve(A, b, alg, return_info=True)
            seconds = min(seconds, time.perf_counter() - start)
        out[name] = {
            "method": info.method,
            "seconds": seconds,
            "steps": int(info.iterations),
            "converged": bool(info.converged),
            "reported_residual": float(info.residual),
            "residual": float(np.linalg.norm(b - matrix @ x) / np.linalg.norm(b)),
        }
    out["speedup"] = out["double"]["seconds"] / out["mixed"]["seconds"]
    return out


def check_lq(m: int, n: int, seed: int = 0) -> dict[str, Any]:
    """Errors of the LQ factorisation, and of its adjoint against a central difference in a random
    direction."""
    rng = np.random.default_rng(seed)
    A, direction = rng.standard_normal((2, m, n))
    start = time.perf_counter()
    Q, L = gelqf(A)
    forward = time.perf_counter() - start
    Qbar, Lbar = rng.standard_normal(Q.shape), rng.standard_normal(L.shape)
    start = time.perf_counter()
    Abar = gelqf_backward(Q, L, Qbar, Lbar)
    backward = time.perf_counter() - start

    def loss(A: np.ndarray) -> float:
        Q, L = gelqf(A)
        return float((Q * Qbar).sum() + (L * Lbar).sum())

    step = 1e-6
    slope = (loss(A + step * direction) - loss(A - step * direction)) / (2 * step)
    adjoint = float((Abar * direction).sum())
    return {
        "shape": [m, n],
        "forward_seconds": forward,
        "backward_seconds": backward,
        "factorisation_error": float(np.linalg.norm(L @ Q - A) / np.linalg.norm(A)),
        "orthogonality_error": float(np.linalg.norm(Q @ Q.T - np.eye(m))),
        "upper_triangle_is_zero": bool((np.triu(L, 1) == 0).all()),
        "slope_by_adjoint": adjoint,
        "slope_by_differences": slope,
        "adjoint_error": abs(adjoint - slope) / abs(slope),
    }


def run(outdir: str | Path | None = None, quick: bool = True) -> dict[str, Any]:
    """Do both parts; with `outdir`, write the numbers there. `quick` uses a million unknowns, else four
    million."""
    matrix, b = system(1_000_000 if quick else 4_000_000)
    result = {
        "cg": solve_both(matrix, b, repeats=1 if quick else 3),
        "lq": check_lq(60, 400) if quick else check_lq(300, 2000),
    }
    checks = {
        "both residuals are below the tolerance": all(
            result["cg"][k]["converged"] and result["cg"][k]["residual"] <= 1.1 * TOLERANCE
            for k in ("double", "mixed")
        ),
        "A = L Q to rounding": result["lq"]["factorisation_error"] < 1e-13,
        "the adjoint of LQ agrees with differences": result["lq"]["adjoint_error"] < 1e-6,
    }
    result["checks"] = checks
    result["ok"] = all(checks.values())
    if outdir is not None:
        folder = Path(outdir)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / "mixed_precision_cg.json.part"
        unfinished.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(folder / "mixed_precision_cg.json")
    return result


def main() -> int:
    """Command line: run, print, and fail if a check does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", help="folder for mixed_precision_cg.json")
    parser.add_argument("--full", action="store_true", help="four million unknowns, best of three")
    args = parser.parse_args()
    result = run(args.out, quick=not args.full)
    cg, lq = result["cg"], result["lq"]
    print(f"{cg['n']:,} unknowns, {cg['nonzeros']:,} entries, tolerance {cg['tolerance']:.0e}")
    for name in ("double", "mixed"):
        r = cg[name]
        print(
            f"  {r['method']:42s} {r['steps']:4d} steps  {r['seconds']:6.2f} s  residual {r['residual']:.1e}"
        )
    print(f"  mixed precision is {cg['speedup']:.2f} times as fast")
    print(f"LQ {lq['shape'][0]} x {lq['shape'][1]}: |LQ - A| / |A| = {lq['factorisation_error']:.1e}")
    print(f"  adjoint {lq['slope_by_adjoint']:.10g}, central difference {lq['slope_by_differences']:.10g}")
    for text, held in result["checks"].items():
        print(f"  {'ok  ' if held else 'FAIL'}  {text}")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
