"""What an algorithm says about itself: residuals, convergence, tolerance, number of products, determinism."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import ConvergenceError, ConvergenceWarning
from ...operators import LinearOperator, operator, static
from .. import data
from ..compare import close, eps_of, expect, host, raises
from ..probes import PROBES
from ..registry import check
from .common import has, probes_of, problem, run, solves, with_tol, wrap


def _iterates(case: Any) -> bool:
    return case.sample().kind != "exact"


def _starvable(case: Any) -> bool:
    return _iterates(case) and bool(_starved_settings(case, case.sample()))


def _starved_settings(case: Any, alg: Any) -> dict[str, Any]:
    return dict(case.starve) or ({"max_iters": 1} if has(alg, "max_iters") else {})


@check("algorithm.residual", "algorithm", dtypes="pair", applies=solves)
def check_residual(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The residual reported, by the algorithm itself and by ``solve``, is that of the answer, recomputed
    here; convergence means it meets the tolerance."""
    from ... import linalg

    alg = case.build(backend, dtype, seed)
    b0 = data.normal(seed + 2, (10, 1), dtype)
    for cond in (10.0, min(1e5, case.max_condition)):
        A, M = problem(case, backend, dtype, seed, 10, cond)
        b = backend.asarray(b0)
        own = run(PROBES["solve"], A, (b,), alg, return_info=True, on_failure="ignore")
        whole = linalg.solve(A, b, alg, return_info=True, on_failure="ignore")
        expect(whole[1].residual is not None, "solve(..., return_info=True) reports no residual")
        for who, (x, info) in (("the algorithm", own), ("solve", whole)):
            if info.residual is None and alg.kind == "exact":
                continue  # direct methods leave the residual to solve
            expect(info.residual is not None, f"{who} reports no residual")
            x0 = host(x)
            true = float(np.linalg.norm(b0 - M @ x0) / np.linalg.norm(b0))
            size = np.linalg.norm(M, 2) * np.linalg.norm(x0) / np.linalg.norm(b0) + 1
            slack = 50 * eps_of(dtype) * float(size)
            expect(
                abs(float(info.residual) - true) <= 0.2 * true + slack,
                f"{who} reports residual {float(info.residual):.3g}, true is {true:.3g} (kappa {cond:.0e})",
            )
            if bool(info.converged) and info.tolerance is not None:
                bound = 1.2 * float(info.tolerance) + slack
                expect(true <= bound, f"{who}: converged with residual {true:.3g} > {info.tolerance:.3g}")


@check(
    "algorithm.starved", "algorithm", "capability", capability="starved", dtypes="real", applies=_starvable
)
def check_starved(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """With too few steps or samples: not converged, one ConvergenceWarning, and on_failure="raise" raises."""
    full = case.build(backend, dtype, seed)
    alg = replace(full, **_starved_settings(case, full))
    A, M = problem(case, backend, dtype, seed, 60, min(1e4, case.max_condition))
    for probe in probes_of(case):
        if probe.question.name == "apply_unary":
            continue  # answers lazily: products report
        operands = probe.operands(A, M, backend, dtype, seed)
        _, info = run(probe, A, operands, alg, return_info=True, on_failure="ignore")
        expect(
            not bool(info.converged),
            f"{probe.name} with {_starved_settings(case, full)} claims to have converged",
        )
        expect(
            bool(info.reason) and info.reason != "converged", f"{probe.name}: no reason for stopping is given"
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run(probe, A, operands, alg)
        count = sum(issubclass(w.category, ConvergenceWarning) for w in caught)
        expect(count == 1, f"{probe.name} without return_info gave {count} ConvergenceWarnings, expected one")
        raises(
            ConvergenceError,
            f'{probe.name} with on_failure="raise"',
            lambda p=probe, o=operands: run(p, A, o, alg, on_failure="raise"),
        )


@check(
    "algorithm.tolerance",
    "algorithm",
    dtypes="real",
    applies=lambda case: solves(case) and _iterates(case) and has(case.sample(), "tol"),
)
def check_tolerance(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """A tolerance that is asked for is met; a looser one costs no more products."""
    base = case.build(backend, dtype, seed)
    A, M = problem(case, backend, dtype, seed, 40, 1e2)
    if case.problem == "general":  # eigenvalues away from zero: otherwise Krylov methods need all n steps
        array = (2 * np.eye(40) + data.general(seed, 40, dtype)).astype(dtype)
        A, M = wrap(case, backend.asarray(array)), array.astype(np.float64)
    b0 = data.normal(seed + 2, (40, 1), dtype)
    products = []
    for tol in (1e-1, 1e-3, 1e-3 if dtype == "float32" else 1e-9):
        x, info = run(
            PROBES["solve"],
            A,
            (backend.asarray(b0),),
            with_tol(base, tol),
            return_info=True,
            on_failure="ignore",
        )
        true = float(np.linalg.norm(b0 - M @ host(x)) / np.linalg.norm(b0))
        expect(bool(info.converged), f"tol={tol:g}: not converged ({info.reason})")
        expect(true <= 1.2 * tol, f"tol={tol:g} was asked for, the residual is {true:.3g}")
        products.append(int(info.matvecs))
    expect(products == sorted(products), f"tighter tolerances took fewer products: {products}")
    expect(
        products[0] < products[-1] or products[-1] <= 3,
        f"the tolerance has no effect on the work: {products}",
    )


@check("algorithm.deterministic", "algorithm", "capability", capability="deterministic", dtypes="real")
def check_deterministic(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The same question, twice, with the same key has the same answer; another key gives other samples."""
    alg = case.build(backend, dtype, seed)
    A, M = problem(case, backend, dtype, seed, 12, 10.0)
    for probe in probes_of(case):
        operands = probe.operands(A, M, backend, dtype, seed)
        first, second = (
            [host(x) for x in _parts(run(probe, A, operands, alg, on_failure="ignore"))] for _ in range(2)
        )
        for a, b in zip(first, second, strict=True):
            expect(
                np.array_equal(a, b, equal_nan=True),
                f"{probe.name} gave two different answers to one question",
            )
        if alg.kind == "stochastic" and has(alg, "key"):
            other = [
                host(x) for x in _parts(run(probe, A, operands, replace(alg, key=77), on_failure="ignore"))
            ]
            same = all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
            expect(not same, f"{probe.name}: the key has no effect on a stochastic answer")


def _parts(answer: Any) -> tuple[Any, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


@operator
class Counting(LinearOperator):
    """An operator that counts the columns it is multiplied with."""

    A: LinearOperator
    heard: Any = static()

    def _shape(self) -> tuple[int, ...]:
        return self.A.shape

    def _matmat(self, X: Any) -> Any:
        self.heard.columns += X.shape[-1]
        return self.A._matmat(X)

    def _rmatmat(self, X: Any) -> Any:
        self.heard.columns += X.shape[-1]
        return self.A._rmatmat(X)

    def _properties(self) -> Any:
        return self.A.properties

    def _to_dense(self) -> Any:
        return self.A._to_dense()


class Counter:
    """How many columns were multiplied."""

    columns = 0


@check("algorithm.products", "algorithm", backends=("numpy", "torch"), dtypes="real", applies=_iterates)
def check_products(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The number of products made is the number reported, give or take the bookkeeping,
    and within the estimate."""
    alg = case.build(backend, dtype, seed)
    A, M = problem(case, backend, dtype, seed, 24, 10.0)
    for probe in probes_of(case):
        if probe.question.name == "apply_unary":
            continue
        operands = probe.operands(A, M, backend, dtype, seed)
        if probe.name in ("solve", "lstsq"):
            operands = (operands[0][:, :1], *operands[1:])
        counter = Counter()
        _, info = run(probe, Counting(A, counter), operands, alg, return_info=True, on_failure="ignore")
        expect(info.matvecs is not None, f"{probe.name}: an iterative answer without a number of products")
        made, said = counter.columns, int(info.matvecs)
        expect(made <= said + 4, f"{probe.name} made {made} products and reports {said}")
        expect(said <= 2 * made + 4, f"{probe.name} made {made} products and reports {said}")
        expect(
            probe.name != "solve" or made <= 10 * 24,
            f"solve of a well-conditioned system of 24 unknowns took {made} products",
        )


def _zero_columns(case: Any) -> bool:
    return solves(case)


@check("algorithm.zero", "algorithm", "capability", capability="zero", dtypes="pair", applies=_zero_columns)
def check_zero(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """A zero right-hand side has the zero solution, exactly and converged,
    alone and beside another column."""
    alg = case.build(backend, dtype, seed)
    A, M = problem(case, backend, dtype, seed)
    x, info = run(
        PROBES["solve"],
        A,
        (backend.asarray(np.zeros((8, 1), dtype)),),
        alg,
        return_info=True,
        on_failure="ignore",
    )
    close(x, np.zeros((8, 1)), "solve(A, 0)", 0.0)
    expect(bool(info.converged), f"solve(A, 0) is not converged ({info.reason})")
    b0 = np.stack([np.zeros(8), data.normal(seed, (8,))], axis=1).astype(dtype)
    X = host(run(PROBES["solve"], A, (backend.asarray(b0),), alg))
    close(X[:, 0], np.zeros(8), "the zero column beside another", 0.0)
    expect(np.isfinite(X).all(), "a zero column spoils its neighbour")
