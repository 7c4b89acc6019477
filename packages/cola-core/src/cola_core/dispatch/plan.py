"""``Plan``: the tree of who answers what, before anything runs (or, with measurements, after).

A ``Recorder`` (``recorder.py``) builds it while a question is asked on placeholders (planning) or on real
operands (analysing); rules run as they are, leaves answer with shapes when planning.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ..cost import Cost
from .communication import priced, product_bytes
from .gathering import gathering_note
from .question import question_of
from .rule import Provenance

__all__ = ["Plan", "PlanNode", "Refusal"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule or algorithm that did not answer: why, where it is, and its estimate where it has one."""

    name: str
    reason: str
    where: str
    plugin: str = ""
    cost: Cost | None = None
    seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        found = {"name": self.name, "reason": self.reason, "where": self.where, "plugin": self.plugin}
        if self.cost is None:
            return found
        return found | {"estimated_seconds": self.seconds, "memory": self.cost.memory}


@dataclass
class PlanNode:
    """One question on one operator:
    who answers it, at what estimated (and measured) cost, and who was refused.

    seconds, peak, products, residual: measured: time, memory held beside what was there before (bytes),
    products that the algorithms report, relative residual. thorough: note the candidates that were not
    needed, too. unmatched: rules for other operators, which were not asked.
    """

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
    accuracy: float | None = None
    own_seconds: float = 0.0
    sent_per_product: float = 0.0
    collectives: dict[str, Any] | None = None
    seconds: float | None = None
    peak: float | None = None
    products: float | None = None
    residual: float | None = None
    note: str = ""
    refusals: list[Refusal] = field(default_factory=list)
    unmatched: int = 0
    children: list[PlanNode] = field(default_factory=list)
    planning: bool = False
    repeated: int = 1
    thorough: bool = False

    def chose_rule(self, rule: Any, args: tuple[Any, ...], alg: Any) -> None:
        self.by, self.kind, self.source = rule.id, f"rule, {rule.kind}", rule.source
        self._from(rule.provenance)
        if rule.cost is not None and not question_of(rule.question).prospective:
            self._costs(rule.cost(*args, alg=alg), args[0])

    def chose_algorithm(
        self, alg: Any, entry: Any, question: Any, args: tuple[Any, ...], asked: Any = None
    ) -> None:
        self.by, self.kind, self.settings = entry.id, alg.kind, alg.describe()
        self._from(entry.provenance)
        self._costs(priced(alg, question.name, args), args[0])
        self.sent_per_product = product_bytes(args[0])
        self.note = gathering_note(args[0], getattr(alg, "gathers", ""), asked)
        if hasattr(alg, "accuracy"):
            self.accuracy = alg.accuracy(question.name, *args)

    def refused(
        self,
        name: str,
        reason: str,
        provenance: Provenance,
        cost: Cost | None = None,
        seconds: float | None = None,
    ) -> None:
        """Note a candidate that does not answer; the first reason counts."""
        if all(r.name != name for r in self.refusals):
            self.refusals.append(Refusal(name, reason, provenance.where, provenance.plugin, cost, seconds))

    @property
    def rejected(self) -> list[tuple[str, str, str]]:
        """Name, reason and place of every candidate that did not answer."""
        return [(r.name, r.reason, r.where) for r in self.refusals]

    def _from(self, provenance: Provenance) -> None:
        self.plugin, self.version, self.where = provenance.plugin, provenance.version, provenance.where

    def _costs(self, cost: Cost, A: Any) -> None:
        from .choose import seconds

        self.cost, self.own_seconds = cost, seconds(cost, A)

    @property
    def total(self) -> Cost:
        """Own cost plus the children's; an algorithm's own covers what it asks in turn."""
        total = self.cost or Cost(calls=0)
        for child in self._parts:
            total = total + child.total * child.repeated
        return total

    @property
    def _parts(self) -> list[PlanNode]:
        return self.children if self.kind.startswith("rule") or self.cost is None else []

    @property
    def estimate(self) -> float:
        """Estimated seconds, own and the children's, for each one's precision and library."""
        return self.own_seconds + sum(c.estimate * c.repeated for c in self._parts)

    def as_dict(self) -> dict[str, Any]:
        """Plain Python values, the children's included."""
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
            "flops": total.arithmetic,
            "bytes": total.bytes,
            "memory": total.memory,
            "matvecs": total.matvecs,
            "syncs": total.syncs,
            "sent_between_devices": total.moved,
            "sent_per_product": self.sent_per_product,
            "measured_collectives": self.collectives,
            "accuracy": self.accuracy,
            "estimated_seconds": self.estimate,
            "measured_seconds": self.seconds,
            "measured_memory": self.peak,
            "measured_matvecs": self.products,
            "residual": self.residual,
            "repeated": self.repeated,
            "note": self.note,
            "rejected": [r.as_dict() for r in self.refusals],
            "rules_for_other_operators": self.unmatched,
            "children": [c.as_dict() for c in self.children],
        }


@dataclass
class Plan:
    """What ``explain`` returns: print it, or take ``as_dict()``, ``to_json()``, ``to_html()``.

    candidates: print those that did not answer, too. analyzed: it has been run and measured.
    """

    root: PlanNode
    candidates: bool = False
    analyzed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain Python values."""
        return self.root.as_dict()

    def to_json(self, indent: int = 2) -> str:
        """The plan as JSON."""
        return json.dumps(_finite(self.as_dict()), indent=indent)

    def to_html(self) -> str:
        """The plan as one HTML page without references to anything outside of it."""
        from .plan_html import page

        return page(self)

    def _repr_html_(self) -> str:
        from .plan_html import fragment

        return fragment(self)

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
        size = "x".join(map(str, node.shape))
        times = f" {node.repeated}x" if node.repeated > 1 else ""
        lines.append(f"{first}{node.question}{times}  {node.operator}  [{size}]")
        pad = rest + ("│  " if node.children else "   ")
        who = f"{node.by}  ({node.kind}{', ' + node.settings if node.settings else ''})"
        lines.append(f"{pad}by {who}  {node.plugin} {node.version}  {node.where}".rstrip())
        measured = measured_text(node)
        lines.append(pad + estimated_text(node) + (f"; measured {measured}" if measured else ""))
        if node.note:
            lines.append(f"{pad}note: {node.note}")
        if self.candidates:
            lines += [f"{pad}not {refusal_text(r)}" for r in node.refusals]
            if node.unmatched:
                lines.append(f"{pad}not {node.unmatched} rules of {node.question} for other operators")
        for i, child in enumerate(node.children):
            last = i == len(node.children) - 1
            self._render(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), lines)


def estimated_text(node: PlanNode) -> str:
    """What the node and its children are expected to cost."""
    total = node.total
    products = f", {_count(total.matvecs)} products" if total.matvecs and node.kind != "exact" else ""
    work = f"~{_si(total.arithmetic)}flop, {_si(total.bytes)}B moved, {_si(total.memory)}B held"
    sent = f", {_si(total.moved)}B sent between devices" if total.moved else ""
    if sent and node.sent_per_product:
        sent += f" ({_si(node.sent_per_product)}B a product)"
    return f"{work}{sent}{products}, ~{_time(node.estimate)}"


def measured_text(node: PlanNode) -> str:
    """What was measured, or nothing."""
    found = []
    if node.seconds is not None:
        found.append(_time(node.seconds))
    if node.peak is not None:
        found.append(f"{_si(node.peak)}B held")
    if node.products is not None:
        found.append(f"{_count(node.products)} products")
    if node.collectives is not None:
        found.append(_collectives_text(node.collectives))
    if node.residual is not None:
        found.append(f"residual {node.residual:.1e}")
    return ", ".join(found)


def _collectives_text(found: dict[str, Any]) -> str:
    """What one compiled product sends."""
    each = [f"{v['count']} {kind} of {_si(v['bytes'])}B" for kind, v in found.items()]
    return f"compiled product: {' + '.join(each) if each else 'nothing sent'}"


def refusal_text(r: Refusal) -> str:
    """Who, why, at what cost, and where."""
    known = f"; ~{_time(r.seconds)}, {_si(r.cost.memory)}B" if r.cost and r.seconds is not None else ""
    return f"{r.name}: {r.reason}{known}  ({r.where})"


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def _count(x: float) -> str:
    return f"{x:,.0f}"


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
