"""What a covariance operator answers better than the general path: diagonal, trace, Cholesky."""

from __future__ import annotations

from typing import Any

from cola_core import PSD, ops
from cola_core.linalg import cholesky, diag, trace
from cola_core.plugins import RuleBook

from .covariance import CovarianceOperator
from .inference import (
    dense,
    ep,
    grid,
    grid_iterative,
    inducing,
    interpolated,
    laplace,
    lazy,
    lowrank,
    observed,
    questions,
    state_space,
    toeplitz,
    white,
)
from .inference.questions import memory_budget

RULES = RuleBook()


def _main_diagonal(A: Any, k: int, *, alg: Any) -> bool | str:
    if k != 0:
        return f"only the main diagonal is known without forming the matrix, not k={k}"
    return _square(A, alg=alg)


def _square(A: Any, *, alg: Any) -> bool | str:
    return True if A.is_square else "the operator is rectangular"


def _fits(A: Any, *, alg: Any) -> bool | str:
    if A.X2 is not None:
        return "the two point sets differ, so the matrix is not symmetric"
    size = A.itemsize * A.shape[0] ** 2
    budget = memory_budget(alg)
    if size > budget:
        return f"the matrix takes {size / 2**30:.3g} GiB, the budget is {budget / 2**30:.3g} GiB"
    return True


@RULES.rule(diag, (CovarianceOperator,), id="diag/covariance", source="k(x, x)", when=_main_diagonal)
def diag_covariance(A: Any, k: int, *, alg: Any) -> Any:
    return A.diagonal()


@RULES.rule(trace, (CovarianceOperator,), id="trace/covariance", source="sum of k(x, x)", when=_square)
def trace_covariance(A: Any, *, alg: Any) -> Any:
    return A.xp.sum(A.diagonal())


@RULES.rule(cholesky, (CovarianceOperator,), id="cholesky/covariance", source="the stored matrix", when=_fits)
def cholesky_covariance(A: Any, *, alg: Any) -> Any:
    return cholesky(PSD(ops.Dense(A.to_dense())), alg)


def register(registrar: Any) -> None:
    """Add the rules of this package to the core's registry."""
    for book in (
        RULES,
        questions.RULES,
        dense.RULES,
        grid.RULES,
        grid_iterative.RULES,
        observed.RULES,
        toeplitz.RULES,
        lowrank.RULES,
        inducing.RULES,
        interpolated.RULES,
        lazy.RULES,
        state_space.RULES,
        laplace.RULES,
        ep.RULES,
        white.RULES,
    ):
        registrar.include(book)
