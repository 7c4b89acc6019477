"""Rows of the report: contenders checked first, then timed in interleaved rounds by the clock on the wall,
with the device waited for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cola_gpu.bench import Target
from cola_gpu.bench.ceilings import Ceilings
from cola_gpu.bench.roofline import Phase, roof

__all__ = ["Row", "peak_memory", "times", "timed"]


@dataclass
class Row:
    """One contender on one problem. rounds: seconds; least: of the roofline, and what binds it; note: what
    else the answer says."""

    problem: str
    contender: str
    rounds: list[float] = field(default_factory=list)
    ratio: float | None = None  # of the first contender's time to this one's, by rounds
    least: float | None = None
    bound: str = ""
    note: str = ""
    missing: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def fraction(self) -> float | None:
        """Of the roofline, at the median."""
        return None if self.least is None else self.least / self.median


def times(target: Target, runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run in every round; the order rotates. Each must have run once before."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for r in range(rounds):
        for i in range(len(names)):
            name = names[(i + r) % len(names)]
            target.wait()
            start = time.perf_counter()
            target.wait(runs[name]())
            found[name].append(time.perf_counter() - start)
    return found


def timed(
    target: Target,
    problem: str,
    runs: Mapping[str, Callable[[], Any]],
    check: Callable[[str, Any], str],
    rounds: int,
    ceilings: Ceilings,
    phases: Callable[[str], Sequence[Phase]],
) -> list[Row]:
    """A row per contender, the first being ours. check(name, answer) raises if an answer is wrong and returns
    a note; phases(name) is the work that the contender's roof counts."""
    rows = []
    for name, run in runs.items():
        try:
            answer = run()
            target.wait(answer)
            note = check(name, answer)
        except Exception as error:
            error.add_note(f"while checking the answer of {name} for {problem}")
            raise
        rows.append(Row(problem, name, note=note))
    measured = times(target, runs, rounds)
    ours = measured[rows[0].contender]
    for i, row in enumerate(rows):
        row.rounds = measured[row.contender]
        if i:
            row.ratio = statistics.median(a / b for a, b in zip(ours, row.rounds, strict=True))
        counted = phases(row.contender)
        if counted:
            least = roof(counted, ceilings)
            row.least, row.bound = least.seconds, least.bound
    return rows


def peak_memory(target: Target, run: Callable[[], Any]) -> tuple[Any, int | None]:
    """The answer of a run, and the most bytes of the device it held beside what was there (PyTorch on CUDA;
    None elsewhere)."""
    if target.framework != "torch" or target.kind != "cuda":
        return run(), None
    import torch

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    answer = run()
    torch.cuda.synchronize()
    return answer, torch.cuda.max_memory_allocated() - before
