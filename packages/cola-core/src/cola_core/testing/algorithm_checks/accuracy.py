"""Answers against the dense ones:
over a grid of condition numbers, for small and several right-hand sides, by dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compare import close, eps_of, expect, host
from ..operator_checks.common import name_of
from ..probes import PROBES
from ..registry import check
from .common import answers, probes_of, problem, run, solves, tolerance


def _stochastic(case: Any) -> bool:
    return case.sample().kind == "stochastic"


def _size(want: Any, M: Any) -> float:
    return float(np.abs(want).max(initial=0.0)) or float(np.abs(M).max(initial=0.0)) or 1.0


@check("algorithm.accuracy", "algorithm")
def check_accuracy(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The answer is right to tolerance times condition number,
    from condition 1 up to what the case claims."""
    alg = case.build(backend, dtype, seed)
    for cond in (1.0, 1e2, 1e4, 1e6, 1e8):
        if cond > case.max_condition or cond * eps_of(dtype) > 1e-3:
            break
        A, M = problem(case, backend, dtype, seed, 8, cond)
        for probe in probes_of(case):
            what = f"{probe.name} at condition number {cond:.0e}"
            got, want, info = answers(probe, A, M, backend, dtype, seed, alg, on_failure="ignore")
            stochastic = alg.kind == "stochastic"
            expect(
                stochastic or bool(info.converged),
                f"{what}: not converged ({info.reason}, residual {info.residual})",
            )
            tol = tolerance(case, alg, probe, dtype, M)
            for g, w in zip(got, want, strict=True):
                size = max(_size(w, M), 1.0) if probe.name in ("slogdet", "log") else _size(w, M)
                if not stochastic:
                    close(g, w, what, tol, size)
                    continue
                error, bound = float(np.linalg.norm(host(g) - w)), 5 * float(info.standard_error) + tol * size
                expect(
                    error <= bound,
                    f"{what}: off by {error:.3g} with a standard error of {info.standard_error:.3g}",
                )


@check("algorithm.size-one", "algorithm", dtypes="pair")
def check_size_one(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """A 1 x 1 operator is answered like any other."""
    alg = case.build(backend, dtype, seed)
    A, M = problem(case, backend, dtype, seed, 1, 1.0)
    for probe in probes_of(case):
        got, want, _ = answers(probe, A, M, backend, dtype, seed, alg, on_failure="raise")
        tol = max(tolerance(case, alg, probe, dtype, M), 1e2 * eps_of(dtype))
        for g, w in zip(got, want, strict=True):
            close(g, w, f"{probe.name} of a 1 x 1 operator", tol, max(_size(w, M), 1.0))


@check("algorithm.columns", "algorithm", "capability", capability="multiple", dtypes="real", applies=solves)
def check_columns(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Several right-hand sides at once give what they give one by one, also as a batch."""
    alg = case.build(backend, dtype, seed)
    A, M = problem(case, backend, dtype, seed)
    probe = PROBES["solve"]
    from .. import data

    b0 = data.normal(seed + 4, (8, 3), dtype)
    b0[:, 1] *= 1e-3  # columns of different size: a common stopping test would leave this one unsolved
    X = host(run(probe, A, (backend.asarray(b0),), alg))
    tol = 2 * tolerance(case, alg, probe, dtype, M)
    for j in range(3):
        x = host(run(probe, A, (backend.asarray(b0[:, j : j + 1].copy()),), alg))
        close(X[:, j : j + 1], x, f"column {j} of 3 against the same alone", tol)
    stacked = host(run(probe, A, (backend.asarray(np.stack([b0, 2 * b0])),), alg))
    close(stacked, np.stack([X, 2 * X]), "a batch of right-hand sides", 2 * tol)


@check("algorithm.batch", "algorithm", "capability", capability="batch", dtypes="real")
def check_batch(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """A batch of operators gives the answers of its elements."""
    from .common import matrix, wrap

    alg = case.build(backend, dtype, seed)
    stack = np.stack([matrix(case, dtype, seed + i, 6, 10.0) for i in range(2)])
    A, M = (
        wrap(case, backend.asarray(stack)),
        stack.astype(np.complex128 if stack.dtype.kind == "c" else np.float64),
    )
    for probe in probes_of(case):
        if probe.name == "eigsh":
            continue
        got, want, _ = answers(probe, A, M, backend, dtype, seed, alg, on_failure="ignore")
        for g, w in zip(got, want, strict=True):
            tol = max(tolerance(case, alg, probe, dtype, M), 0.3 if alg.kind == "stochastic" else 0.0)
            close(g, w, f"{probe.name} of a batch", tol, max(_size(w, M), 1.0))


@check("algorithm.dtype", "algorithm")
def check_dtype(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The answer has the precision of the operator: float32 is not widened, float64 not narrowed."""
    alg = case.build(backend, dtype, seed)
    A, M = problem(case, backend, dtype, seed)
    double = {"float64", "complex128"}
    for probe in probes_of(case):
        answer = run(probe, A, probe.operands(A, M, backend, dtype, seed), alg, on_failure="ignore")
        for part in answer if isinstance(answer, tuple) else (answer,):
            found = name_of(part.dtype)
            expect(
                (found in double) == (dtype in double) and ("float" in found or "complex" in found),
                f"{probe.name} of a {dtype} operator answers in {found}",
            )
            if "complex" not in dtype and probe.name not in ("eig", "eigs", "eigvals", "schur-complex"):
                expect("complex" not in found, f"{probe.name} of a {dtype} operator answers in {found}")


@check("algorithm.scale", "algorithm", "capability", capability="scale", dtypes="pair")
def check_scale(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """A change of units changes nothing:
    (1e-9 A, 1e9 b) gives 1e18 x, and the other answers scale as they must."""
    from .common import matrix, wrap

    if callable(case.problem):
        return
    alg = case.build(backend, dtype, seed)
    array = matrix(case, dtype, seed, 8, 10.0)
    M = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    A, small = wrap(case, backend.asarray(array)), wrap(case, backend.asarray(array * 1e-9))
    for probe in probes_of(case):
        operands = probe.operands(A, M, backend, dtype, seed)
        first = run(probe, A, operands, alg, on_failure="ignore")
        if probe.name == "solve":
            second, info = run(probe, small, (operands[0] * 1e9,), alg, return_info=True, on_failure="ignore")
            expect(bool(info.converged), f"solve(1e-9 A, 1e9 b): not converged ({info.reason})")
            want = host(first) * 1e18
        elif probe.name in ("trace", "diag", "diag-above", "diag-below"):
            second, want = run(probe, small, operands, alg, on_failure="ignore"), host(first) * 1e-9
        elif probe.name in ("eigh", "eigsh"):
            second, want = run(probe, small, operands, alg, on_failure="ignore")[0], host(first[0]) * 1e-9
        elif probe.name == "slogdet":
            (_, second), info = run(probe, small, operands, alg, return_info=True, on_failure="ignore")
            want = host(first[1]) + 8 * np.log(1e-9)
            if alg.kind == "stochastic":  # how many samples are drawn may depend on the size of the answer
                error = abs(float(host(second)) - float(want))
                expect(
                    error <= 8 * float(info.standard_error), f"slogdet in other units is off by {error:.3g}"
                )
                continue
        else:
            continue
        close(
            second,
            want,
            f"{probe.name} in other units",
            max(2 * tolerance(case, alg, probe, dtype, M), 1e-12),
        )


@check("algorithm.standard-error", "algorithm", dtypes="real", applies=_stochastic)
def check_standard_error(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Over twelve keys every answer is within four reported standard errors,
    and the errors are not wild guesses."""
    from dataclasses import replace

    base = case.build(backend, dtype, seed)
    A, M = problem(case, backend, dtype, seed, 16, 10.0)
    for probe in probes_of(case):
        operands = probe.operands(A, M, backend, dtype, seed)
        want = probe.dense(M, operands)[-1]
        ratios = []
        for key in range(12):
            answer, info = run(
                probe, A, operands, replace(base, key=key), return_info=True, on_failure="ignore"
            )
            expect(
                info.standard_error is not None, f"{probe.name}: a stochastic answer without a standard error"
            )
            error = float(np.linalg.norm(probe.arrays(A, M, answer, operands)[-1] - want))
            floor = 100 * eps_of(dtype) * max(float(np.abs(want).max()), 1.0)
            ratios.append(max(error - floor, 0.0) / max(float(info.standard_error), 1e-300))
        expect(
            max(ratios) <= 4.0,
            f"{probe.name}: an answer is {max(ratios):.1f} standard errors off (12 keys: "
            f"{np.round(ratios, 1).tolist()})",
        )
        expect(
            np.mean(np.square(ratios)) > 1e-3 or max(ratios) == 0.0,
            f"{probe.name}: the standard error is far too large (errors are "
            f"{np.round(ratios, 4).tolist()} of it)",
        )
