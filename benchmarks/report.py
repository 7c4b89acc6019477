"""Results as a table for people (markdown) and for machines (JSON)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .harness import Result, seconds

__all__ = ["as_json", "as_markdown"]


def as_json(results: Sequence[Result], machine: dict[str, Any]) -> str:
    """Every round of every contender."""
    body = [
        {
            "name": r.name,
            "title": r.title,
            "goal": r.goal,
            "value": r.value,
            "met": r.met,
            "skipped": r.skipped,
            "note": r.note,
            "contenders": [
                {"name": t.name, "median": t.median, "quartiles": list(t.quartiles), "rounds": t.rounds}
                for t in r.timings
            ],
        }
        for r in results
    ]
    return json.dumps({"machine": machine, "results": body}, indent=1) + "\n"


def as_markdown(results: Sequence[Result], machine: dict[str, Any]) -> str:
    """Goals first, then one table per bench."""
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items())
    lines = [
        "# Benchmarks",
        "",
        f"{machine['processor']}, one thread of {machine['cores']} cores, {machine['system']}; "
        f"Python {machine['python']}, {machine['blas']}; {versions}. Times are {machine['clock']} times.",
        "",
        "| due | measured | met |",
        "|---|---|---|",
    ]
    lines += [
        f"| {r.title}: {r.goal} | {r.value} | {'yes' if r.met else '**no**'} |"
        for r in results
        if r.met is not None
    ]
    for r in results:
        lines += ["", f"## {r.title}", ""]
        if r.skipped:
            lines.append(f"Not measured: {r.skipped}")
            continue
        lines += ["| | median | middle half | ours / it |", "|---|---|---|---|"]
        for i, t in enumerate(r.timings):
            low, high = t.quartiles
            ratio = f"{r.ratio(t.name):.2f}" if i else ""
            lines.append(f"| {t.name} | {seconds(t.median)} | {seconds(low)} – {seconds(high)} | {ratio} |")
        if r.note:
            lines += ["", r.note]
    return "\n".join(lines) + "\n"
