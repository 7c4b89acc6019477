"""Algorithms under transformations: gradients against differences of the dense answer, and ``jax.jit``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import data
from ..compare import close, expect, host, survives
from ..registry import check
from .common import has, matrix, probes_of, problem, run, with_tol, wrap

SMOOTH = ("solve", "slogdet", "trace", "diag")


def _by_name(case: Any) -> bool:
    return not callable(case.problem) and any(q in SMOOTH for q in case.questions)


@check(
    "algorithm.grad",
    "algorithm",
    "capability",
    capability="grad",
    backends=("jax", "torch"),
    dtypes="double",
    applies=_by_name,
)
def check_grad(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The derivative of an answer in the entries and in the right-hand side equals
    differences of the dense answer."""
    alg = case.build(backend, dtype, seed)
    if alg.kind == "iterative":
        alg = with_tol(alg, 1e-11)
    n = 6
    M = matrix(case, dtype, seed, n, 10.0)
    D = data.normal(seed + 1, (n, n), dtype)
    if case.problem != "general":
        D = (D + D.T) / 2
    b, e = data.normal(seed + 2, (n, 1)), data.normal(seed + 3, (n, 1))
    for probe in probes_of(case):
        if probe.name not in SMOOTH:
            continue
        operands = probe.operands(None, M, backend, dtype, seed)
        w = data.normal(seed + 5, (n,), dtype)

        def reduce(x: Any, probe: Any = probe, w: Any = w) -> Any:
            x = x[1] if probe.name == "slogdet" else x
            if probe.name == "solve":
                return (x[..., 0] * w).sum()
            return (x * w).sum() if probe.name == "diag" else x

        def dense(t: float, probe: Any = probe, operands: Any = operands, w: Any = w) -> float:
            rest = (b + t * e,) if probe.name == "solve" else operands
            out = probe.dense(M + t * D, rest)
            x = out[-1]
            if probe.name == "solve":
                x = np.sum(x[:, 0] * w)
            return float(np.sum(x * w) if probe.name == "diag" else x)

        def loss(
            arrays: Any, probe: Any = probe, operands: Any = operands, reduce: Any = reduce, w: Any = w
        ) -> Any:
            A = wrap(case, arrays[0])
            rest = (arrays[1],) if probe.name == "solve" else operands
            weights = backend.asarray(w)
            return reduce(run(probe, A, rest, alg, on_failure="ignore"), w=weights)

        from ..operator_checks.transforms import _gradient

        arrays = [backend.asarray(M), backend.asarray(b)]
        gM, gb = map(
            host, survives(f"the gradient of {probe.name}", lambda f=loss, a=arrays: _gradient(backend, f, a))
        )
        got = float(np.sum(gM * D) + np.sum(gb * e))
        h = 1e-5
        want = (dense(h) - dense(-h)) / (2 * h)
        expect(np.isfinite(got), f"the gradient of {probe.name} is not finite")
        if alg.kind == "stochastic":
            expect(
                abs(got - want) <= 1.0 * max(abs(want), 1.0),
                f"gradient of {probe.name}: {got:.4g}, expected about {want:.4g}",
            )
        else:
            close(
                np.asarray(got),
                np.asarray(want),
                f"directional derivative of {probe.name}",
                1e-5 * case.tolerance,
                max(abs(want), 1.0),
            )


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
