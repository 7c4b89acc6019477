"""Derivatives of an algorithm's answers, in the operator's arrays and in the right-hand side: both orders.

Every question with a smooth reduction of its answer (``testing.smooth``) is differentiated; an estimate is
compared with differences of its own values, which the same probes give.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..derivatives import Derivatives, demand
from ..registry import check
from ..smooth import Smooth, smooth_named, smooth_problem
from .common import matrix, probes_of, with_tol, wrap

__all__ = ["algorithm_problem", "differentiable", "precise"]

FRAMEWORKS = ("jax", "torch")
SIZE = 5


def differentiable(case: Any) -> list[Smooth]:
    """The smooth reductions of the answers to a case's questions; of pairs and vectors the whole, not the
    eigenvalues alone."""
    found = [s for probe in probes_of(case) for s in smooth_named(probe.name)]
    whole = {s.name for s in found}
    return [s for s in found if s.name.removesuffix("-values") not in whole - {s.name}]


def _has_any(case: Any) -> bool:
    return bool(differentiable(case))


def algorithm_problem(case: Any, backend: Any, dtype: str, seed: int) -> Any:
    """``make(backend, seed)`` of the kind of operator that the algorithm is for, well conditioned."""

    def make(b: Any, s: int) -> Any:
        if callable(case.problem):
            return case.problem(b, dtype, s, SIZE, 10.0)[0]
        return wrap(case, b.asarray(matrix(case, dtype, s, SIZE, 10.0)))

    return make


def precise(case: Any, backend: Any, dtype: str, seed: int) -> tuple[Any, float, bool]:
    """(the algorithm, the relative error to expect of a derivative, whether its values are estimates).

    An iteration is run to rounding, so that differences of answers mean something; an estimate takes the few
    samples of ``case.starve``, because differences of it are as exact with few as with many; unless its
    derivative is an estimate in turn (``case.estimate``), to be compared with the exact one.
    """
    alg = case.build(backend, dtype, seed)
    if alg.kind == "exact":
        return alg, 1e-6, False
    rtol = max(2e-5, 100 * (case.accuracy or 0.0))
    if alg.kind == "stochastic" and case.estimate:
        return alg, 0.3, False
    if alg.kind == "stochastic":
        return replace(alg, **(case.starve or {"max_iters": 1})), rtol, True
    return with_tol(alg, 1e-12), rtol, False


def derivatives_of(case: Any, backend: Any, dtype: str, seed: int) -> Iterator[Derivatives]:
    """One for each question that suits the problem."""
    alg, rtol, own = precise(case, backend, dtype, seed)
    for smooth in differentiable(case):
        make = algorithm_problem(case, backend, dtype, seed)
        found = smooth_problem(smooth, make, backend, dtype, seed, alg, own)
        if found is not None:
            jit = case.capabilities.jit.is_open
            yield Derivatives(**found, rtol=rtol * case.tolerance, jit=jit, what=smooth.name)


def _hold(case: Any, backend: Any, dtype: str, seed: int, modes: Iterable[str]) -> None:
    for f in derivatives_of(case, backend, dtype, seed):
        demand(f, modes)


@check(
    "algorithm.grad",
    "algorithm",
    "capability",
    capability="grad",
    backends=FRAMEWORKS,
    dtypes="double-pair",
    applies=_has_any,
)
def check_grad(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The gradient of every answer in the entries and in the right-hand side equals
    differences of the dense answer."""
    _hold(case, backend, dtype, seed, ("reverse",))


@check(
    "algorithm.grad-forward",
    "algorithm",
    "capability",
    capability="grad",
    backends=FRAMEWORKS,
    dtypes="double-pair",
    applies=_has_any,
)
def check_grad_forward(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The forward derivative of every answer equals differences of the dense answer."""
    _hold(case, backend, dtype, seed, ("forward",))


@check(
    "algorithm.grad-second",
    "algorithm",
    "capability",
    capability="grad2",
    backends=FRAMEWORKS,
    dtypes="double-pair",
    applies=_has_any,
)
def check_grad_second(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Second derivatives of every answer, reverse and forward over reverse, equal differences."""
    _hold(case, backend, dtype, seed, ("reverse-reverse", "forward-reverse"))
