"""The report as one HTML page that needs nothing else: no script, no network, figures embedded."""

from __future__ import annotations

import html
from typing import Any

from section import Section

STYLE = """
:root { --ink:#1d2530; --soft:#5b6675; --line:#dfe4ea; --paper:#fff; --ground:#f5f7f9; --blue:#2456a6; --green:#1d7a46;
  --red:#b3392f; --mono: ui-monospace, SFMono-Regular, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin:0; background:var(--ground); color:var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
header { background:#15243b; color:#fff; padding:44px 24px 36px; }
header > div, main, nav > div, footer { max-width:1080px; margin:0 auto; }
h1 { font-size:31px; line-height:1.2; margin:0 0 8px; letter-spacing:-.01em; }
header p { margin:0; color:#c5d0e0; max-width:760px; }
.facts { display:flex; flex-wrap:wrap; gap:12px; margin-top:26px; }
.facts div { background:rgba(255,255,255,.08); border-radius:8px; padding:10px 16px; min-width:128px; }
.facts b { display:block; font-size:21px; line-height:1.25; }
.facts span { font-size:13px; color:#b6c3d6; }
.facts .bad b { color:#ff9d92; }
nav { position:sticky; top:0; background:#fff; border-bottom:1px solid var(--line); z-index:2; padding:0 24px; }
nav > div { display:flex; gap:22px; overflow-x:auto; }
nav a { color:var(--soft); text-decoration:none; font-size:14px; padding:12px 0; white-space:nowrap; }
nav a:hover { color:var(--blue); }
main { padding:28px 24px 40px; }
section { background:var(--paper); border:1px solid var(--line); border-radius:12px; padding:28px 32px 30px; margin-bottom:26px;
  scroll-margin-top:56px; }
.top { display:flex; align-items:baseline; gap:14px; }
h2 { font-size:22px; line-height:1.3; margin:0; flex:1; letter-spacing:-.005em; }
h3 { font-size:16.5px; margin:30px 0 8px; }
.badge { font-size:13px; font-weight:600; border-radius:20px; padding:3px 12px; white-space:nowrap; color:var(--green); background:#e4f4ea; }
.badge.bad { color:var(--red); background:#fbe6e3; }
.time { color:var(--soft); font-size:14px; white-space:nowrap; }
.asked { border-left:3px solid var(--blue); padding:2px 0 2px 16px; margin:16px 0 20px; color:#37414f; }
p { margin:10px 0; }
figure { margin:22px 0; } figure img { width:100%; height:auto; display:block; }
figcaption { color:var(--soft); font-size:14px; margin-top:8px; }
.plan, .terminal { border-radius:8px; margin:16px 0; overflow:hidden; font-size:12.5px; line-height:1.5; }
.plan { border:1px solid #d5dfee; background:#f4f8fd; }
.plan b { display:block; font-weight:600; font-size:13px; color:var(--blue); padding:8px 16px 0; }
.terminal { background:#172232; color:#dbe4ef; }
.terminal .line { display:flex; gap:12px; background:#0f1824; padding:9px 16px; font-family:var(--mono); color:#fff; }
.terminal .line i { color:#7fd3a4; font-style:normal; } .terminal .line code { flex:1; white-space:pre-wrap; overflow-wrap:anywhere; }
.terminal .line span { color:#8fa2ba; white-space:nowrap; }
pre { margin:0; padding:10px 16px 12px; overflow-x:auto; font-family:var(--mono); }
table { border-collapse:collapse; width:100%; font-size:14px; margin:14px 0; font-variant-numeric:tabular-nums; }
th { text-align:left; color:var(--soft); font-weight:600; border-bottom:1px solid #c9d1da; padding:6px 12px 6px 0; }
td { border-bottom:1px solid #edf0f3; padding:6px 12px 6px 0; vertical-align:top; }
.number { text-align:right; white-space:nowrap; }
.checks td:last-child, .checks th:last-child { text-align:center; padding-right:0; width:64px; }
.yes { color:var(--green); font-weight:700; } .no { color:var(--red); font-weight:700; }
.failure { border:1px solid #eec4be; background:#fdf3f1; border-radius:8px; margin:16px 0; font-size:12.5px; color:#7d241b; }
.failure b { display:block; padding:10px 16px 0; }
footer { color:var(--soft); font-size:13.5px; padding:0 24px 48px; }
@media (max-width:640px) { section { padding:20px 16px; } h1 { font-size:25px; } }
@media print { nav { display:none; } section { break-inside:avoid-page; } }
"""


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
        (f"{machine['cores']} cores", f"Python {machine['python']}, NumPy {machine['versions']['numpy']}", True),
    ]
    boxes = "".join(
        f'<div{"" if ok else " class=bad"}><b>{_(big)}</b><span>{_(small)}</span></div>' for big, small, ok in facts
    )
    links = "".join(f'<a href="#{s.id}">{i}. {_(s.title.partition(":")[0])}</a>' for i, s in enumerate(sections, 1))
    body = "".join(_section(i, s) for i, s in enumerate(sections, 1))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Structured linear algebra at work</title><style>{STYLE}</style></head><body>
<header><div><h1>Structured linear algebra at work</h1>
<p>Every part asks a question of a matrix, shows the plan that was chosen from the matrix's structure, and measures the
answer against something it was not computed from.</p>
<div class="facts">{boxes}</div></div></header>
<nav><div>{links}</div></nav>
<main>{body}</main>
<footer>Made {report["created"]} by <code>examples/demo/run.py</code> on {_(machine["system"])} with {_(versions)}{
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
        f'<div class="terminal"><div class="line"><i>$</i><code>{_(command)}</code><span>{seconds:.1f} s</span></div>'
        f"<pre>{_(output.rstrip())}</pre></div>"
    )


def _table(content: tuple[list[str], list[list[str]]]) -> str:
    columns, rows = content
    kinds = [' class="number"' if all(_numeric(row[i]) for row in rows) else "" for i in range(len(columns))]
    head = "".join(f"<th{k}>{_(c)}</th>" for c, k in zip(columns, kinds, strict=True))
    body = "".join("<tr>" + "".join(f"<td{k}>{_(c)}</td>" for c, k in zip(row, kinds, strict=True)) + "</tr>" for row in rows)
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
