"""What the checks of algorithms share: problems of a given size and condition, and running one question."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from ... import ops
from ...algorithms import default_tol
from ...backends import get_backend
from ...operators import no_dispatch
from ...properties import PSD, SelfAdjoint
from .. import data
from ..compare import condition, eps_of
from ..probes import PROBES, Probe

__all__ = ["answers", "has", "probes_of", "problem", "run", "solves", "tolerance", "with_tol"]


def has(alg: Any, setting: str) -> bool:
    """Whether an algorithm has a setting of this name."""
    return any(f.name == setting for f in fields(alg))


def probes_of(case: Any) -> list[Probe]:
    """What the algorithm is asked: probes named directly or by their question."""
    named = [p for p in PROBES.values() if p.name in case.questions]
    asked = [p for p in PROBES.values() if p.question.name in case.questions and p not in named]
    return named + [p for p in asked if not any(p.question is q.question for q in named)]


def solves(case: Any) -> bool:
    """Whether one of its questions is ``solve``."""
    return "solve" in case.questions


def matrix(case: Any, dtype: str, seed: int, n: int, cond: float) -> Any:
    """The entries of the case's kind of problem."""
    if callable(case.problem):
        return case.problem(get_backend("numpy"), dtype, seed, n, cond)[1]
    return {"psd": data.psd, "selfadjoint": data.selfadjoint, "general": data.general}[case.problem](
        seed, n, dtype, cond
    )


def wrap(case: Any, array: Any) -> Any:
    """An array as an operator with the problem's property and its structure hidden,
    so that no rule steps in."""
    A = ops.Dense(array)
    declare = {"psd": PSD, "selfadjoint": SelfAdjoint}.get(case.problem)
    return no_dispatch(A if declare is None else declare(A))


def problem(
    case: Any, backend: Any, dtype: str, seed: int, n: int = 8, cond: float = 10.0
) -> tuple[Any, Any]:
    """An operator for the algorithm, n x n with the given condition number,
    and its entries in double precision."""
    if callable(case.problem):
        A, M = case.problem(backend, dtype, seed, n, cond)
    else:
        M = matrix(case, dtype, seed, n, cond)
        A = wrap(case, backend.asarray(M))
    return A, np.asarray(M).astype(np.complex128 if np.asarray(M).dtype.kind == "c" else np.float64)


def run(probe: Probe, A: Any, operands: tuple[Any, ...], alg: Any, **options: Any) -> Any:
    """The raw answer of a question by this algorithm."""
    return probe.question.run(A, *operands, alg=alg, **options)


def answers(
    probe: Probe, A: Any, M: Any, backend: Any, dtype: str, seed: int, alg: Any, **options: Any
) -> tuple[list[Any], list[Any], Any]:
    """(found, wanted, Info) of a question as comparable arrays."""
    operands = probe.operands(A, M, backend, dtype, seed)
    answer, info = run(probe, A, operands, alg, return_info=True, **options)
    return probe.arrays(A, M, answer, operands), probe.dense(M, operands), info


def with_tol(alg: Any, tol: float) -> Any:
    """The algorithm with another tolerance, if it has one."""
    from dataclasses import replace

    return replace(alg, tol=tol) if has(alg, "tol") else alg


def tolerance(case: Any, alg: Any, probe: Probe, dtype: str, M: Any) -> float:
    """The relative error that an algorithm of this kind may leave in its answer."""
    n = max(M.shape[-1], 1)
    rounding = 300 * eps_of(dtype) * n * probe.sensitivity(M)
    if case.accuracy is not None:
        return float(case.tolerance * max(case.accuracy, rounding))
    if alg.kind != "iterative":  # a stochastic answer is judged by its standard error
        return float(case.tolerance * rounding)
    tol = getattr(alg, "tol", None) or default_tol(dtype)
    # a residual of tol leaves an error of at most cond * tol
    amplified = tol * (condition(M) if probe.name == "solve" else 10.0)
    return float(case.tolerance * (rounding + 3 * amplified))
