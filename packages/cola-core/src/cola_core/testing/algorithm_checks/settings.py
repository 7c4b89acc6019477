"""The algorithm as an object: immutable settings, a cost, a verdict where it applies."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

from ...algorithms import Algorithm
from ..compare import expect
from ..registry import check
from .common import probes_of, problem


@check("algorithm.settings", "algorithm", dtypes="real")
def check_settings(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """A frozen dataclass of settings with a method per question, a known kind and a one-line description."""
    alg = case.build(backend, dtype, seed)
    expect(isinstance(alg, Algorithm), f"{type(alg).__name__} is not an Algorithm")
    expect(alg.kind in ("exact", "iterative", "stochastic"), f"kind {alg.kind!r}")
    expect(replace(alg) == alg, "a copy with the same settings is not equal")
    hash(alg)
    for f in fields(alg)[:1]:
        try:
            setattr(alg, f.name, getattr(alg, f.name))
        except (FrozenInstanceError, AttributeError):
            continue
        expect(False, f"the setting {f.name} can be assigned: algorithms are immutable")
    for probe in probes_of(case):
        expect(callable(getattr(alg, probe.question.name, None)), f"no method {probe.question.name}")
    text = alg.describe()
    expect(isinstance(text, str) and "\n" not in text, f"describe() is not one line: {text!r}")


@check("algorithm.cost", "algorithm", dtypes="real")
def check_cost(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Costs are finite, not negative and do not shrink with size; ``applicable`` says True or why not;
    both on shapes."""
    from ...dispatch.abstract import abstract

    alg = case.build(backend, dtype, seed)
    for probe in probes_of(case):
        seconds = []
        for n in (6, 24):
            A, M = problem(case, backend, dtype, seed, n, 10.0)
            operands = probe.operands(A, M, backend, dtype, seed)
            for B, rest in ((A, operands), (abstract(A), tuple(map(abstract, operands)))):
                verdict = alg.applicable(probe.question.name, B, *rest)
                expect(
                    verdict is True or (isinstance(verdict, str) and verdict),
                    f"applicable() gave {verdict!r}",
                )
                if verdict is not True:
                    continue
                cost = alg.cost(probe.question.name, B, *rest)
                for name in ("flops", "bytes", "memory", "matvecs", "calls", "seconds"):
                    value = getattr(cost, name)
                    expect(math.isfinite(value) and value >= 0, f"cost of {probe.name}: {name} is {value}")
                seconds.append(cost.seconds)
        expect(seconds == sorted(seconds), f"cost of {probe.name} falls with size: {seconds}")
