"""A plan as HTML: nested details, estimates beside measurements, everything escaped, nothing loaded."""

from __future__ import annotations

from html import escape
from typing import Any

from .plan import Plan, PlanNode, _count, _si, _time

__all__ = ["fragment", "page"]

STYLE = """
.cola-plan{font:14px/1.5 system-ui,sans-serif;color:#1b1f24;background:#fff}
.cola-plan details{margin:.25em 0 .25em .9em;border-left:2px solid #d0d7de;padding-left:.8em}
.cola-plan>details{margin-left:0}
.cola-plan summary{cursor:pointer}
.cola-plan code{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
.cola-plan table{border-collapse:collapse;margin:.3em 0}
.cola-plan th,.cola-plan td{padding:.1em .8em .1em 0;text-align:right;font-weight:400}
.cola-plan th:first-child,.cola-plan td:first-child{text-align:left;color:#57606a}
.cola-plan th{color:#57606a}
.cola-plan .who{color:#0b5394}
.cola-plan .quiet{color:#57606a}
.cola-plan .note{color:#9a3412}
.cola-plan .refused td,.cola-plan .refused th{text-align:left;vertical-align:top}
@media (prefers-color-scheme:dark){
.cola-plan{color:#e6edf3;background:#0d1117}
.cola-plan details{border-color:#30363d}
.cola-plan .who{color:#79b8ff}
.cola-plan .note{color:#ffa657}
.cola-plan .quiet,.cola-plan th,.cola-plan td:first-child{color:#9198a1}
}
"""


def page(plan: Plan) -> str:
    """A whole document."""
    title = escape(f"{plan.root.question} {plan.root.operator}")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title></head>\n<body>{fragment(plan)}</body>\n</html>\n"
    )


def fragment(plan: Plan) -> str:
    """The plan for a notebook or a page of one's own."""
    return f'<style>{STYLE}</style><div class="cola-plan">{_node(plan.root, plan.candidates)}</div>'


def _node(node: PlanNode, candidates: bool) -> str:
    size = " × ".join(map(str, node.shape))
    times = f" {node.repeated}×" if node.repeated > 1 else ""
    settings = f", {node.settings}" if node.settings else ""
    parts = [
        f"<details open><summary><b>{escape(node.question)}</b>{times} <code>{escape(node.operator)}</code> "
        f'<span class="quiet">{size}</span></summary>',
        f'<div><span class="who">{escape(node.by)}</span> ({escape(node.kind + settings)}) '
        f'<span class="quiet">{escape(f"{node.plugin} {node.version}")} <code>{escape(node.where)}</code>'
        f"{' · ' + escape(node.source) if node.source else ''}</span></div>",
        _numbers(node),
    ]
    if node.note:
        parts.append(f'<div class="note">{escape(node.note)}</div>')
    if candidates and (node.refusals or node.unmatched):
        parts.append(_refused(node))
    parts += [_node(child, candidates) for child in node.children]
    return "".join(parts) + "</details>"


def _numbers(node: PlanNode) -> str:
    """Estimated beside measured."""
    total = node.total
    measured = [node.seconds, node.peak, node.products, node.residual]
    rows: list[tuple[str, str, str]] = [
        ("time", _time(node.estimate), _or_dash(node.seconds, _time)),
        ("memory", f"{_si(total.memory)}B", _or_dash(node.peak, lambda x: f"{_si(x)}B")),
        ("products", _count(total.matvecs) if total.matvecs else "–", _or_dash(node.products, _count)),
        ("residual", _or_dash(node.accuracy, _small), _or_dash(node.residual, _small)),
        ("work", f"{_si(total.arithmetic)}flop, {_si(total.bytes)}B moved", "–"),
    ]
    ran = any(m is not None for m in measured)
    head = "<tr><th></th><th>estimated</th>" + ("<th>measured</th>" if ran else "") + "</tr>"
    body = "".join(
        f"<tr><td>{name}</td><td>{escape(a)}</td>" + (f"<td>{escape(b)}</td>" if ran else "") + "</tr>"
        for name, a, b in rows
    )
    return f"<table>{head}{body}</table>"


def _refused(node: PlanNode) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(r.name)}</code></td><td>{escape(r.reason)}</td>"
        f"<td>{_or_dash(r.seconds, _time)}</td>"
        f"<td>{'–' if r.cost is None else escape(_si(r.cost.memory)) + 'B'}</td>"
        f"<td><code>{escape(r.where)}</code></td></tr>"
        for r in node.refusals
    )
    more = f", and {node.unmatched} rules for other operators" if node.unmatched else ""
    return (
        f'<details class="refused"><summary class="quiet">{len(node.refusals)} others{more}</summary><table>'
        f"<tr><th>candidate</th><th>why not</th><th>time</th><th>memory</th><th>where</th></tr>{rows}</table>"
        "</details>"
    )


def _or_dash(value: Any, show: Any) -> str:
    return "–" if value is None else str(show(value))


def _small(x: float) -> str:
    return f"{x:.1e}"
