"""Contenders run side by side in one process:
every answer is checked first, then rounds are timed interleaved.

Times are processor times of the process (and its children), since everybody runs on one thread: they do not
count what other programs on the machine do. ``measure(clock=time.perf_counter)`` gives the clock on the
wall.

A round times every contender once, in an order that rotates, so that a slow spell of the machine hits all
alike. The figure of a contender is its median over the rounds, its spread the middle half; a ratio is the
median of the rounds' ratios, never a ratio of two runs made at different times.
"""

from __future__ import annotations

import gc
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "Bench",
    "Contender",
    "Exchange",
    "Goal",
    "Result",
    "Timing",
    "cpu_clock",
    "measure",
    "measure_elsewhere",
]

Clock = Callable[[], float]


def cpu_clock() -> float:
    """Processor seconds of this process and of the children it has waited for."""
    import resource

    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + spent.ru_utime + spent.ru_stime


@dataclass(frozen=True)
class Contender:
    """run() is timed; its answer goes through the bench's check before that."""

    name: str
    run: Callable[[], Any]


@dataclass(frozen=True)
class Goal:
    """What is due of ours: at most ``limit`` seconds, or so many above the peer, or so many times the peer.

    kind: "absolute", "above" or "ratio".
    """

    kind: str
    limit: float
    peer: str = ""

    def text(self) -> str:
        if self.kind == "ratio":
            return f"at most {self.limit:g}x {self.peer}"
        above = f" above {self.peer}" if self.kind == "above" else ""
        return f"at most {seconds(self.limit)}{above}"


@dataclass(frozen=True)
class Exchange:
    """The same problem for peers in environments of their own: the task's name there, and its arrays."""

    task: str
    arrays: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Bench:
    """setup(short) -> (contenders, check); the first contender is ours.
    check(answer) raises if the answer is wrong.

    needs: modules without which the bench is left out, visibly. children: what is timed happens in child
    processes. exchange: for peers that cannot be installed beside us.
    """

    name: str
    title: str
    setup: Callable[[bool], tuple[Sequence[Contender], Callable[[Any], None]]]
    goal: Goal | None = None
    needs: tuple[str, ...] = ()
    rounds: int = 15
    children: bool = False
    exchange: Exchange | None = None


@dataclass
class Timing:
    """Seconds per call in every round."""

    name: str
    rounds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.rounds) < 2:
            return self.rounds[0], self.rounds[0]
        low, _, high = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return low, high


@dataclass
class Result:
    """All timings of one bench, and whether the goal is met (None: no goal, or not measured)."""

    name: str
    title: str
    timings: list[Timing] = field(default_factory=list)
    goal: str = ""
    value: str = ""
    met: bool | None = None
    skipped: str = ""
    note: str = ""

    def ratio(self, peer: str) -> float:
        """Ours over the peer's, paired by round."""
        theirs = next(t for t in self.timings if t.name == peer)
        ours = self.timings[0]
        if len(ours.rounds) != len(theirs.rounds):  # measured elsewhere
            return ours.median / theirs.median
        return statistics.median(a / b for a, b in zip(ours.rounds, theirs.rounds, strict=True))

    def judge(self, goal: Goal | None) -> None:
        if goal is None:
            return
        self.goal = goal.text()
        if goal.peer and all(t.name != goal.peer for t in self.timings):
            return  # a peer in an environment of its own, judged when it has been measured
        ours = self.timings[0]
        if goal.kind == "absolute":
            got, self.value = ours.median, seconds(ours.median)
        elif goal.kind == "above":
            theirs = next(t for t in self.timings if t.name == goal.peer)
            got = statistics.median(a - b for a, b in zip(ours.rounds, theirs.rounds, strict=True))
            self.value = f"{seconds(got)} above"
        else:
            got = self.ratio(goal.peer)
            self.value = f"{got:.2f}x"
        self.met = got <= goal.limit


def measure(bench: Bench, short: bool = False, clock: Clock | None = None) -> Result:
    """Check every contender's answer, then time them."""
    clock = clock or (cpu_clock if bench.children else time.process_time)
    contenders, check = bench.setup(short)
    result = Result(bench.name, bench.title, [Timing(c.name) for c in contenders])
    loops = []
    for contender in contenders:
        try:
            check(contender.run())
        except Exception as error:
            error.add_note(f"while checking the answer of {contender.name} in {bench.name}")
            raise
        loops.append(1 if short else _loops(contender.run, clock))
    rounds = 2 if short else bench.rounds
    enabled = gc.isenabled()
    if not short:
        gc.collect()  # looks at everything that all libraries keep: most of the time of a short bench
    gc.disable()
    try:
        for r in range(rounds):
            for i in range(len(contenders)):
                j = (i + r) % len(contenders)
                result.timings[j].rounds.append(_time(contenders[j].run, loops[j], clock))
    finally:
        if enabled:
            gc.enable()
    if not short:  # sizes and rounds too small to say anything about speed
        result.judge(bench.goal)
    return result


def measure_elsewhere(bench: Bench, result: Result, name: str, python: str, script: Path) -> None:
    """Add the timing of a peer that runs in its own interpreter; its answer is checked here."""
    import numpy as np

    assert bench.exchange is not None
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, **bench.exchange.arrays())
        subprocess.run([python, str(script), bench.exchange.task, str(source), str(target)], check=True)
        with np.load(target) as found:
            rounds = found["rounds"].tolist()
            answer = tuple(found[key] for key in sorted(found.files) if key.startswith("answer"))
    _, check = bench.setup(False)
    check(answer if len(answer) > 1 else answer[0])
    result.timings.append(Timing(f"{name}, in its own process", rounds))
    if bench.goal is not None and bench.goal.peer == result.timings[-1].name:
        result.judge(bench.goal)
    result.note = (
        f"{name} was not timed in the same rounds: it cannot be installed in one environment with ours."
    )


def _time(run: Callable[[], Any], loops: int, clock: Clock) -> float:
    start = clock()
    for _ in range(loops):
        run()
    return (clock() - start) / loops


def _loops(run: Callable[[], Any], clock: Clock, target: float = 5e-3) -> int:
    """So many calls that one sample takes about ``target`` seconds; the calls also warm caches."""
    run()
    once = _time(run, 1, clock)
    return max(1, min(10_000, round(target / max(once, 1e-9))))


def seconds(t: float) -> str:
    """A duration with three digits and a fitting unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(t) >= scale:
            return f"{t / scale:.3g} {unit}"
    return f"{t / 1e-9:.3g} ns"
