"""``Plan``: the tree of who answers what, before anything runs (or, with measurements, after).

A ``Recorder`` sits in the session while a question is asked on placeholders (planning) or on real operands
(analysing); rules run as they are, leaves answer with shapes when planning.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..cost import Cost
from .rule import Provenance

__all__ = ["Plan", "PlanNode", "Recorder"]


@dataclass
class PlanNode:
    """One question on one operator:
    who answers it, at what estimated (and measured) cost, and who was refused."""

    question: str
    operator: str
    shape: tuple[int, ...]
    by: str = ""
    kind: str = "exact"
    settings: str = ""
    plugin: str = ""
    version: str = ""
    where: str = ""
    source: str = ""
    cost: Cost | None = None
    seconds: float | None = None
    note: str = ""
    rejected: list[tuple[str, str, str]] = field(default_factory=list)
    children: list[PlanNode] = field(default_factory=list)
    planning: bool = False
    repeated: int = 1

    def chose_rule(self, rule: Any, args: tuple[Any, ...], alg: Any) -> None:
        self.by, self.kind, self.source = rule.id, f"rule, {rule.kind}", rule.source
        self._from(rule.provenance)
        if rule.cost is not None:
            self.cost = rule.cost(*args, alg=alg)

    def chose_algorithm(self, alg: Any, entry: Any, question: Any, args: tuple[Any, ...]) -> None:
        self.by, self.kind, self.settings = entry.id, alg.kind, alg.describe()
        self._from(entry.provenance)
        self.cost = alg.cost(question.name, *args)

    def refused(self, name: str, reason: str, provenance: Provenance) -> None:
        self.rejected.append((name, reason, provenance.where))

    def _from(self, provenance: Provenance) -> None:
        self.plugin, self.version, self.where = provenance.plugin, provenance.version, provenance.where

    @property
    def total(self) -> Cost:
        """Own cost plus the children's."""
        total = self.cost or Cost(calls=0)
        for child in self.children:
            total = total + child.total * child.repeated
        return total

    def as_dict(self) -> dict[str, Any]:
        total = self.total
        return {
            "question": self.question,
            "operator": self.operator,
            "shape": list(self.shape),
            "by": self.by,
            "kind": self.kind,
            "settings": self.settings,
            "plugin": self.plugin,
            "version": self.version,
            "where": self.where,
            "source": self.source,
            "flops": total.flops,
            "bytes": total.bytes,
            "memory": total.memory,
            "estimated_seconds": total.seconds,
            "measured_seconds": self.seconds,
            "repeated": self.repeated,
            "note": self.note,
            "rejected": [{"name": n, "reason": r, "where": w} for n, r, w in self.rejected],
            "children": [c.as_dict() for c in self.children],
        }


@dataclass
class Plan:
    """What ``explain`` returns: print it, or take ``as_dict()``, ``to_json()``."""

    root: PlanNode
    candidates: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain Python values."""
        return self.root.as_dict()

    def to_json(self, indent: int = 2) -> str:
        """The plan as JSON."""
        return json.dumps(self.as_dict(), indent=indent)

    def nodes(self) -> list[PlanNode]:
        """All nodes, outermost first."""
        out: list[PlanNode] = []
        stack = [self.root]
        while stack:
            node = stack.pop()
            out.append(node)
            stack.extend(reversed(node.children))
        return out

    def __str__(self) -> str:
        lines: list[str] = []
        self._render(self.root, "", "", lines)
        return "\n".join(lines)

    __repr__ = __str__

    def _render(self, node: PlanNode, first: str, rest: str, lines: list[str]) -> None:
        total = node.total
        size = "x".join(map(str, node.shape))
        times = f" {node.repeated}x" if node.repeated > 1 else ""
        lines.append(f"{first}{node.question}{times}  {node.operator}  [{size}]")
        pad = rest + ("│  " if node.children else "   ")
        who = f"{node.by}  ({node.kind}{', ' + node.settings if node.settings else ''})"
        lines.append(f"{pad}by {who}  {node.plugin} {node.version}  {node.where}".rstrip())
        work = f"~{_si(total.flops)}flop, {_si(total.bytes)}B moved, {_si(total.memory)}B held"
        numbers = f"{work}, ~{_time(total.seconds)}"
        if node.seconds is not None:
            numbers += f"; measured {_time(node.seconds)}"
        lines.append(pad + numbers)
        if node.note:
            lines.append(f"{pad}note: {node.note}")
        if self.candidates:
            for name, reason, where in node.rejected:
                lines.append(f"{pad}not {name}: {reason}  ({where})")
        for i, child in enumerate(node.children):
            last = i == len(node.children) - 1
            self._render(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), lines)


class Recorder:
    """Builds the plan while a question runs. planning:
    leaves answer with placeholders instead of computing."""

    def __init__(self, planning: bool, library: str = "") -> None:
        self.planning = planning
        self.library = library  # whose arrays the placeholders stand for
        self.root: PlanNode | None = None
        self._stack: list[PlanNode] = []

    def ask(self, question: Any, args: tuple[Any, ...], alg: Any, answer: Callable[..., Any]) -> Any:
        A = args[0]
        node = PlanNode(question.name, repr(A), A.shape, planning=self.planning)
        if self.root is None:
            self.root = node
        parent = self._stack[-1] if self._stack else None
        self._stack.append(node)
        start = time.perf_counter()
        try:
            return answer(question, args, alg, node)
        except Exception as error:
            if not self.planning or not node.by or parent is None and isinstance(error, LookupError):
                raise
            # a rule that computes on values cannot be planned through: say so and answer with the shape
            node.note = f"not planned further: {type(error).__name__}: {error}".splitlines()[0][:160]
            return question.abstract(*args)
        finally:
            if not self.planning:
                node.seconds = time.perf_counter() - start
            self._stack.pop()
            if parent is not None:
                twin = parent.children[-1] if parent.children else None
                if twin is not None and _same(twin, node):
                    twin.repeated += 1
                    if node.seconds is not None:
                        twin.seconds = (twin.seconds or 0) + node.seconds
                else:
                    parent.children.append(node)


def _same(a: PlanNode, b: PlanNode) -> bool:
    """Whether two neighbours would print alike, so that twenty equal blocks take one line."""
    if (a.question, a.operator, a.shape, a.by, a.settings, a.note) != (
        b.question,
        b.operator,
        b.shape,
        b.by,
        b.settings,
        b.note,
    ):
        return False
    return len(a.children) == len(b.children) and all(map(_same, a.children, b.children))


def _si(x: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if x >= size:
            return f"{x / size:.3g} {unit}"
    return f"{x:.3g} "


def _time(s: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if s >= size:
            return f"{s / size:.3g} {unit}"
    return f"{s * 1e9:.3g} ns"
