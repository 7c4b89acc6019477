"""The report as one HTML page that needs nothing else: no script, no network, figures embedded."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from section import Section

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def page(report: dict[str, Any], sections: list[Section]) -> str:
    """The whole page."""
    checks = [c for s in sections for c in s.checks]
    held = sum(c.ok for c in checks)
    good = sum(s.ok for s in sections)
    machine = report["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
    absent = " and ".join(k for k, v in machine["versions"].items() if not v)
    facts = [
        (f"{good} of {len(sections)}", "parts succeeded", good == len(sections)),
        (f"{held} of {len(checks)}", "checks held", held == len(checks)),
        (f"{report['seconds']:.0f} s", "in all", True),
        (
            f"{machine['cores']} cores",
            f"Python {machine['python']}, NumPy {machine['versions']['numpy']}",
            True,
        ),
    ]
    boxes = "".join(
        f"<div{'' if ok else ' class=bad'}><b>{_(big)}</b><span>{_(small)}</span></div>"
        for big, small, ok in facts
    )
    links = "".join(
        f'<a href="#{s.id}">{i}. {_(s.title.partition(":")[0])}</a>' for i, s in enumerate(sections, 1)
    )
    body = "".join(_section(i, s) for i, s in enumerate(sections, 1))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Structured linear algebra at work</title><style>{STYLE}</style></head><body>
<header><div><h1>Structured linear algebra at work</h1>
<p>Every part asks a question of a matrix, shows the plan that was chosen from the matrix's structure, and
measures the answer against something it was not computed from.</p>
<div class="facts">{boxes}</div></div></header>
<nav><div>{links}</div></nav>
<main>{body}</main>
<footer>Made {report["created"]} by <code>examples/demo/run.py</code> on {_(machine["system"])} with {
        _(versions)
    }{
        f"; without {_(absent)}" if absent else ""
    }. All numbers of this page, and more, are in <code>numbers.json</code>.</footer>
</body></html>
"""


def _section(number: int, s: Section) -> str:
    blocks = "".join(_BLOCKS[kind](content) for kind, content in s.blocks)
    badge = '<span class="badge">all checks held</span>' if s.ok else '<span class="badge bad">failed</span>'
    failure = ""
    if s.error:
        failure = f'<div class="failure"><b>This part stopped</b><pre>{_(s.error.strip())}</pre></div>'
    elif not s.checks:
        failure = '<div class="failure"><b>This part checked nothing</b></div>'
    return (
        f'<section id="{s.id}"><div class="top"><h2>{number}. {_(s.title)}</h2>'
        f'<span class="time">{s.seconds:.1f} s</span>{badge}</div>'
        f'<p class="asked">{_(s.asked)}</p>{blocks}{failure}{_checks(s)}</section>\n'
    )


def _checks(s: Section) -> str:
    if not s.checks:
        return ""
    rows = "".join(
        f'<tr><td>{_(c.name)}</td><td class="number">{c.value:.2e}</td><td class="number">{c.below:.0e}</td>'
        f'<td class="{"yes" if c.ok else "no"}">{"✓" if c.ok else "✗"}</td></tr>'
        for c in s.checks
    )
    return (
        '<h3>Checks</h3><table class="checks"><tr><th>what</th><th class="number">measured</th>'
        f'<th class="number">must not exceed</th><th>held</th></tr>{rows}</table>'
    )


def _text(words: str) -> str:
    return f"<p>{_(words)}</p>"


def _heading(words: str) -> str:
    return f"<h3>{_(words)}</h3>"


def _plan(content: tuple[str, str]) -> str:
    caption, plan = content
    return f'<div class="plan"><b>{_(caption)}</b><pre>{_(plan)}</pre></div>'


def _terminal(content: tuple[str, str, float]) -> str:
    command, output, seconds = content
    return (
        f'<div class="terminal"><div class="line"><i>$</i><code>{_(command)}</code>'
        f"<span>{seconds:.1f} s</span></div><pre>{_(output.rstrip())}</pre></div>"
    )


def _table(content: tuple[list[str], list[list[str]]]) -> str:
    columns, rows = content
    kinds = [' class="number"' if all(_numeric(row[i]) for row in rows) else "" for i in range(len(columns))]
    head = "".join(f"<th{k}>{_(c)}</th>" for c, k in zip(columns, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{k}>{_(c)}</td>" for c, k in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _numeric(cell: str) -> bool:
    return cell in ("", "-") or cell.replace(",", "").lstrip("+-")[:1].isdigit()


def _figure(content: tuple[str, str]) -> str:
    url, caption = content
    return f'<figure><img alt="{_(caption)}" src="{url}"><figcaption>{_(caption)}</figcaption></figure>'


def _(text: str) -> str:
    return html.escape(text)


_BLOCKS: dict[str, Any] = {
    "text": _text,
    "heading": _heading,
    "plan": _plan,
    "terminal": _terminal,
    "table": _table,
    "figure": _figure,
}
