"""Algorithms under ``jax.jit``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compare import close, survives
from ..registry import check
from .common import has, probes_of, problem, run


@check("algorithm.jit", "algorithm", "capability", capability="jit", backends=("jax",), dtypes="real")
def check_jit(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Under ``jax.jit``, with the operator as an argument, the answer is that of the eager call."""
    import jax

    alg = case.build(backend, dtype, seed)
    A, M = problem(case, backend, dtype, seed)
    for probe in probes_of(case):
        if probe.question.name in ("apply_unary", "eigsh", "eig"):
            continue
        operands = probe.operands(A, M, backend, dtype, seed)
        static = operands if not operands or not hasattr(operands[0], "shape") else ()
        moving = () if static else operands

        def answer(A: Any, moving: Any, probe: Any = probe, static: Any = static) -> Any:
            return run(probe, A, static or moving, alg, on_failure="ignore")

        eager = probe.arrays(A, M, answer(A, moving), operands)
        found = survives(f"jit of {probe.name}", lambda f=answer, A=A, x=moving: jax.jit(f)(A, x))
        traced = probe.arrays(A, M, found, operands)
        slack = 0.3 if alg.kind == "stochastic" else 1e-3 if has(alg, "tol") and dtype == "float32" else 1e-6
        for g, w in zip(traced, eager, strict=True):
            close(
                g,
                w,
                f"jit({probe.name})",
                slack * case.tolerance,
                max(float(np.abs(w).max(initial=0.0)), float(np.abs(M).max())),
            )
