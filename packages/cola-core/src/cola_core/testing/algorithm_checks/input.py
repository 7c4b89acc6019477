"""Input an algorithm must not answer as if nothing were wrong: NaN, singular operators, false claims."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ...errors import ColaError, NonFiniteError, UnreliableResultWarning
from .. import data
from ..compare import expect, host, raises
from ..probes import PROBES
from ..registry import check
from .common import matrix, probes_of, problem, run, solves, wrap


def _definite_by_name(case: Any) -> bool:
    return case.problem == "psd" and bool({"solve", "slogdet", "cholesky"} & set(case.questions))


def _silent(probe: Any, A: Any, operands: tuple[Any, ...], alg: Any) -> Any:
    """The answer if it comes without any sign of trouble, else None."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer, info = run(probe, A, operands, alg, return_info=True, on_failure="ignore")
        except (ColaError, np.linalg.LinAlgError, ArithmeticError):
            return None
    if any(issubclass(w.category, UnreliableResultWarning) for w in caught) or not bool(info.converged):
        return None
    return answer


@check(
    "algorithm.nonfinite", "algorithm", "capability", capability="nonfinite", dtypes="real", applies=solves
)
def check_nonfinite(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """A NaN or infinity in the right-hand side is a NonFiniteError;
    one in the operator is never a success."""
    alg = case.build(backend, dtype, seed)
    A, _ = problem(case, backend, dtype, seed)
    for bad in (np.nan, np.inf):
        b0 = data.normal(seed, (8, 1), dtype)
        b0[3] = bad
        raises(
            NonFiniteError,
            f"solve with {bad} in b",
            lambda b=b0: run(PROBES["solve"], A, (backend.asarray(b),), alg),
        )
    if callable(case.problem):
        return
    M = matrix(case, dtype, seed, 8, 10.0)
    M[2, 2] = np.nan
    b0 = data.normal(seed, (8, 1), dtype)
    silent = _silent(PROBES["solve"], wrap(case, backend.asarray(M)), (backend.asarray(b0),), alg)
    expect(silent is None, "a NaN in the operator passed as a converged solve")


@check("algorithm.singular", "algorithm", "capability", capability="singular", dtypes="real", applies=solves)
def check_singular(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """A singular system with an unreachable right-hand side is an error, a warning, or not converged."""
    alg = case.build(backend, dtype, seed)
    if callable(case.problem):
        A, M = case.problem(backend, dtype, seed, 8, np.inf)
    else:
        M = np.diag(np.arange(8.0) / 8).astype(dtype)  # exactly singular, whatever the rounding
        A = wrap(case, backend.asarray(M))
    b0 = np.ones((8, 1), dtype)
    x = _silent(PROBES["solve"], A, (backend.asarray(b0),), alg)
    expect(
        x is None,
        f"a singular system was solved in silence: |x| = {np.abs(host(x)).max() if x is not None else 0:.3g}",
    )


@check(
    "algorithm.indefinite",
    "algorithm",
    "capability",
    capability="singular",
    dtypes="real",
    applies=_definite_by_name,
)
def check_indefinite(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """An indefinite operator declared PSD is noticed, unless the answer is right all the same."""
    alg = case.build(backend, dtype, seed)
    M = data.selfadjoint(seed, 8, dtype, 10.0)
    A = wrap(case, backend.asarray(M))
    wide = M.astype(np.float64)
    for probe in probes_of(case):
        if probe.name not in ("solve", "slogdet", "cholesky"):
            continue
        operands = probe.operands(A, wide, backend, dtype, seed)
        answer = _silent(probe, A, operands, alg)
        if answer is None:
            continue
        if probe.name == "solve":
            b = host(operands[0])
            residual = np.linalg.norm(b - wide @ host(answer)) / np.linalg.norm(b)
            expect(
                residual <= 1e-3,
                f"solve of an indefinite operator declared PSD: silently wrong, residual {residual:.3g}",
            )
        else:
            expect(False, f"{probe.name} of an indefinite operator declared PSD was answered in silence")
