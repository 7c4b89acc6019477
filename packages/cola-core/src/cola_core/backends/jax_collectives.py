"""What a compiled JAX program sends between devices, read off its text (HLO).

``collectives(compiled.as_text())`` finds every communication, with the bytes of its result on one device. One
inside of a loop is counted once: its bytes are those of an iteration. Conditional branches count in full.
Source of the grammar: OpenXLA, "HLO dumps"; an operation that is split into a start and a done is one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["KINDS", "Collective", "collectives", "compiled_collectives", "summary"]

KINDS = (
    *("all-gather", "all-reduce", "all-to-all", "ragged-all-to-all", "collective-permute", "reduce-scatter"),
    "collective-broadcast",
)
_LINE = re.compile(
    r"=\s*(?P<result>\(.*?\)|\S+)\s+(?P<kind>" + "|".join(sorted(KINDS, key=len, reverse=True)) + r")"
    r"(?P<start>-start)?\("
)
_SHAPE = re.compile(r"\b(?P<dtype>[a-z]+[0-9]*(?:e\dm\d\w*)?)\[(?P<sizes>[\d,<=]*)\]")
_BYTES = {"pred": 1, "token": 0, "c64": 8, "c128": 16}


@dataclass(frozen=True)
class Collective:
    """kind: one of ``KINDS``. shapes: of its results on one device. bytes: all of them together."""

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    bytes: int


def collectives(text: str) -> list[Collective]:
    """The communications in the text of a compiled program, in its order.

    >>> line = "%g = f64[16,2]{1,0} all-gather(f64[4,2]{1,0} %p), dimensions={0}"
    >>> collectives(line)
    [Collective(kind='all-gather', shapes=((16, 2),), bytes=256)]
    """
    found = []
    for line in text.splitlines():
        hit = _LINE.search(line)
        if hit is None:
            continue
        results = _results(hit["result"])
        if hit["start"] and hit["result"].startswith("("):
            results = _of_start(hit["kind"], results)
        shapes = tuple(shape for _, shape in results)
        found.append(Collective(hit["kind"], shapes, sum(_size(d, s) for d, s in results)))
    return found


def summary(found: list[Collective]) -> dict[str, dict[str, int]]:
    """How many of each kind, and their bytes together."""
    out: dict[str, dict[str, int]] = {}
    for c in found:
        entry = out.setdefault(c.kind, {"count": 0, "bytes": 0})
        entry["count"] += 1
        entry["bytes"] += c.bytes
    return out


def compiled_collectives(fn: Callable[..., Any], *args: Any) -> list[Collective]:
    """The communications of ``jax.jit(fn)(*args)``, which is compiled and not run."""
    import jax

    return collectives(jax.jit(fn).lower(*args).compile().as_text() or "")


def _results(text: str) -> list[tuple[str, tuple[int, ...]]]:
    return [
        (m["dtype"], tuple(int(s.lstrip("<=")) for s in m["sizes"].split(",") if s))
        for m in _SHAPE.finditer(text)
    ]


def _of_start(kind: str, results: list[Any]) -> list[Any]:
    """A start that gives operands and results together: the second half. (That of an all-reduce gives its
    results only; a permutation adds two numbers of its own.)"""
    if kind == "all-reduce":
        return results
    if kind == "collective-permute":
        return results[1:2]
    return results[len(results) // 2 :]


def _size(dtype: str, shape: tuple[int, ...]) -> int:
    if dtype in _BYTES:
        return _BYTES[dtype] * math.prod(shape)
    bits = re.search(r"\d+", dtype)
    return math.prod(shape) * (max(int(bits[0]), 8) // 8 if bits else 0)
