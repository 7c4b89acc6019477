"""``python -m benchmarks grid``: Auto's time over the best algorithm's, cell by cell.

Contenders are every registered algorithm of the question that says it applies, on the operator (structure
first, then the algorithm at the leaves) and on the same operator with its structure hidden. A contender
counts where its answer reaches the accuracy of the cell. One that is estimated at 25 times the best so
far, or that needs more than five times it, is given up: it cannot be the best.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..harness import seconds
from ..machine import describe, single_threaded

__all__ = ["main"]

MEMORY = 2.0e9
NEAR, FAR, SHARE = 1.5, 4.0, 0.9


class _TooSlow(BaseException):
    """Raised by the clock; not an Exception, so that no contender swallows it."""


@dataclass
class Contender:
    """An algorithm on a cell: its times, or why there are none."""

    name: str
    run: Callable[[], Any] = field(repr=False)
    times: list[float] = field(default_factory=list)
    error: float | None = None
    problem: str = ""

    @property
    def time(self) -> float:
        """The least time: what else the machine does only ever adds."""
        return min(self.times) if self.times and not self.problem else float("inf")


@dataclass
class Outcome:
    """A cell with its contenders; the first is Auto."""

    title: str
    contenders: list[Contender]
    taken: str = ""

    @property
    def best(self) -> Contender:
        return min(self.contenders, key=lambda c: c.time)

    @property
    def ratio(self) -> float:
        return self.contenders[0].time / self.best.time


def main(argv: list[str]) -> int:
    """Exit status 1 if the goal is missed (never with --short)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks grid", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="WORD", help="cells whose title has one of these words")
    parser.add_argument("--short", action="store_true", help="small sizes: whether it runs, not how fast")
    parser.add_argument("--out", type=Path, help="folder for grid.md and grid.json")
    parser.add_argument("--profile", action="store_true", help="with the user's machine profile")
    parser.add_argument("--verbose", action="store_true", help="every contender of every cell")
    options = parser.parse_args(argv)
    single_threaded()
    if not options.profile:
        import os

        os.environ["COLA_PROFILE"] = "default"
    from .problems import cells

    outcomes = []
    for cell in cells():
        title = cell.title(options.short)
        if options.names and not any(word in title for word in options.names):
            continue
        outcome = measure(cell, options.short)
        outcomes.append(outcome)
        print(_line(outcome), file=sys.stderr, flush=True)
        if options.verbose:
            for c in outcome.contenders:
                shown = c.problem or seconds(c.time)
                print(f"      {c.name:28} {shown}", file=sys.stderr, flush=True)
    machine = describe()
    text = as_markdown(outcomes, machine)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "grid.md").write_text(text, encoding="utf-8")
        (options.out / "grid.json").write_text(as_json(outcomes, machine), encoding="utf-8")
    print(text)
    broken = [o for o in outcomes if o.contenders[0].problem]
    return 1 if broken or not options.short and not _met(outcomes) else 0


def measure(cell: Any, short: bool) -> Outcome:
    """Check every contender's answer, then time those that may be the best, interleaved."""
    import cola_core as cola

    problem = cell.problem(short)
    auto = cola.Auto() if cell.given is None else cola.Auto(accuracy=cell.given)
    taken = _taken(problem, auto)
    first = Contender("Auto", lambda: problem.ask(problem.A, auto))
    outcome = Outcome(cell.title(short), [first], taken)
    _try(first, problem, cell, 120.0)
    if not first.problem and first.time < 1.0:
        first.times.clear()  # what is imported and compiled at the first use is not the algorithm's time
        _try(first, problem, cell, 120.0)
    if first.problem:
        return outcome
    best = first.time
    for contender, estimate in _others(problem, cell):
        outcome.contenders.append(contender)
        if estimate is not None and estimate > 25 * best + 0.5:
            contender.problem = f"not run: estimated {seconds(estimate)}"
            continue
        _try(contender, problem, cell, 5 * best + 0.2)
        if not contender.problem and contender.time < 0.5:
            contender.times.clear()
            _try(contender, problem, cell, 5 * best + 0.2)
        best = min(best, contender.time)
    rounds = 1 if short else 3
    for _ in range(rounds):
        for c in outcome.contenders:
            if not c.problem and (c is first or c.time < 4 * best):
                c.times += _repeat(c.run, 1 if short else max(1, min(20, int(0.03 / max(c.time, 1e-6)))))
    return outcome


def _taken(problem: Any, auto: Any) -> str:
    """Who answers under Auto, down to the leaves."""
    from cola_core.dispatch import explain
    from cola_core.dispatch.plan import PlanNode

    def leaves(node: PlanNode) -> Iterator[str]:
        name = node.by.rpartition("/")[2]
        if node.kind.startswith("rule"):
            for child in node.children:
                yield from leaves(child)
            if not node.children:
                yield name
        else:
            yield name

    try:
        plan = explain(problem.question, problem.A, *_public_operands(problem), alg=auto)
    except Exception as error:  # noqa: BLE001 - the table says so
        return f"? ({type(error).__name__})"
    names = list(dict.fromkeys(leaves(plan.root)))
    return (f"{plan.root.by.rpartition('/')[2]} > " if plan.root.kind.startswith("rule") else "") + ", ".join(
        names
    )


def _public_operands(problem: Any) -> tuple[Any, ...]:
    """What the public function takes after the operator."""
    if problem.question == "lstsq":
        return problem.operands[:1]
    return problem.operands


def _others(problem: Any, cell: Any) -> Iterator[tuple[Contender, float | None]]:
    import cola_core as cola
    from cola_core.dispatch import REGISTRY
    from cola_core.dispatch.choose import seconds as estimated

    hidden = cola.no_dispatch(problem.A)
    settings = cola.Auto() if cell.given is None else cola.Auto(accuracy=cell.given)
    plain = type(problem.A).__name__ in ("Dense", "Sparse", "FunctionOperator", "Tridiagonal", "Banded")
    for entry in REGISTRY.algorithms[problem.question]:
        alg = settings.configure(entry.cls)
        for A, suffix in ((problem.A, ""), (hidden, ", structure hidden")):
            if suffix and plain:
                continue
            contender = Contender(entry.cls.__name__ + suffix, lambda A=A, alg=alg: problem.ask(A, alg))
            estimate = None
            try:
                verdict = alg.applicable(problem.question, A, *problem.operands)
                if verdict is True and suffix + "plain" * plain:
                    cost = alg.cost(problem.question, A, *problem.operands)
                    estimate = estimated(cost, A)
                    if cost.memory > MEMORY:
                        verdict = f"needs {cost.memory / 2**30:.1f} GiB"
            except Exception as error:  # noqa: BLE001
                verdict = f"{type(error).__name__}: {error}"
            if verdict is not True and (suffix or plain):
                contender.problem = f"does not apply: {verdict}"
            yield contender, None if contender.problem else estimate
            if contender.problem:
                continue


def _try(contender: Contender, problem: Any, cell: Any, limit: float) -> None:
    """The first run: its answer is checked, its time kept."""
    if contender.problem:
        return
    try:
        with warnings.catch_warnings(), _at_most(limit):
            warnings.simplefilter("ignore")
            start = time.process_time()
            answer = contender.run()
            contender.times.append(time.process_time() - start)
        contender.error = problem.error(answer)
    except _TooSlow:
        contender.problem = f"more than {seconds(limit)}"
    except Exception as error:  # noqa: BLE001 - an algorithm that cannot answer is no contender
        contender.problem = f"{type(error).__name__}: {error}".splitlines()[0][:100]
    else:
        if not contender.error <= cell.accuracy:
            contender.problem = f"error {contender.error:.1e}"


def _repeat(run: Callable[[], Any], loops: int) -> list[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = []
        for _ in range(loops):
            start = time.process_time()
            run()
            out.append(time.process_time() - start)
    return out


@contextmanager
def _at_most(limit: float) -> Iterator[None]:
    """Interrupt what runs longer; where signals cannot be had (Windows, threads) nothing is interrupted."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- results -------------------------------------------------------------------------------------------------
def _line(o: Outcome) -> str:
    auto = o.contenders[0]
    if auto.problem:
        return f"FAILED {o.title}: {auto.problem}"
    best = f"best {o.best.name} {seconds(o.best.time)}"
    return f"{o.ratio:6.2f}  {o.title}: {o.taken} {seconds(auto.time)}; {best}"


def _met(outcomes: list[Outcome]) -> bool:
    good = [o for o in outcomes if not o.contenders[0].problem]
    near = sum(o.ratio <= NEAR for o in good)
    return len(good) == len(outcomes) and near >= SHARE * len(good) and all(o.ratio <= FAR for o in good)


def as_markdown(outcomes: list[Outcome], machine: dict[str, Any]) -> str:
    """The table, and whether the goal is met."""
    good = [o for o in outcomes if not o.contenders[0].problem]
    near = sum(o.ratio <= NEAR for o in good)
    worst = max((o.ratio for o in good), default=float("nan"))
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items())
    lines = [
        "# Choice by cost",
        "",
        f"{machine['processor']}, one thread of {machine['cores']} cores, {machine['system']}; "
        f"Python {machine['python']}, {machine['blas']}; {versions}. Processor times; the built-in profile.",
        "",
        f"{len(outcomes)} cells; Auto within {NEAR:g}x of the best algorithm in {near} "
        f"({100 * near / max(len(good), 1):.0f} %), at worst {worst:.2f}x.",
        "",
        "| Auto / best | question | operator | size | dtype | Auto takes | time | best | time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for o in outcomes:
        auto = o.contenders[0]
        if auto.problem:
            lines.append(f"| failed | {o.title} | {o.taken} | {auto.problem} | | |")
            continue
        ratio = f"{o.ratio:.2f}" if o.ratio <= NEAR else f"**{o.ratio:.2f}**"
        lines.append(
            f"| {ratio} | {o.title} | {o.taken} | {seconds(auto.time)} | {o.best.name} | "
            f"{seconds(o.best.time)} |"
        )
    return "\n".join(lines) + "\n"


def as_json(outcomes: list[Outcome], machine: dict[str, Any]) -> str:
    """Every contender of every cell."""
    body = [
        {
            "cell": o.title,
            "taken": o.taken,
            "ratio": None if o.contenders[0].problem else o.ratio,
            "contenders": [
                {
                    "name": c.name,
                    "seconds": None if c.problem else c.time,
                    "error": c.error,
                    "problem": c.problem,
                }
                for c in o.contenders
                if not c.problem.startswith("does not apply")
            ],
        }
        for o in outcomes
    ]
    return json.dumps({"machine": machine, "cells": body}, indent=1) + "\n"
