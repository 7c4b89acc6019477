"""``cola-core rules``: every rule that takes a question apart, with its types, source and plugin."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import UnknownNameError
from .output import json_text, table
from .rules_page import rules_page


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("rules", help="the rules known, by question", description=__doc__)
    parser.add_argument("--question", metavar="QUESTION", help="only rules for this question")
    parser.add_argument("--plugin", metavar="NAME", help="only rules of this plugin")
    parser.add_argument(
        "--markdown", action="store_true", help="print the page question by question, operator by operator"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    from ..dispatch.question import QUESTIONS
    from ..dispatch.registry import REGISTRY

    load_all() if args.plugin is None else load_only(args.plugin)
    wanted = {"logdet": "slogdet"}.get(args.question, args.question)
    if wanted is not None and wanted not in QUESTIONS:
        raise UnknownNameError(
            f"{args.question!r} is not a question; known are {', '.join(sorted(QUESTIONS))}."
        )
    found = [
        rule
        for question in sorted(REGISTRY.rules)
        if wanted in (None, question)
        for rule in sorted(REGISTRY.rules[question], key=lambda r: r.id)
        if args.plugin in (None, rule.provenance.plugin)
    ]
    if args.plugin is not None and not found:
        raise UnknownNameError(f"no rules of a plugin {args.plugin!r}; see `cola-core plugins list`.")
    if args.markdown:
        print(rules_page(found), end="")
        return 0
    if args.json:
        print(json_text([as_dict(rule) for rule in found]))
        return 0
    rows = [
        (
            rule.id,
            ", ".join(t.__name__ for t in rule.types[:-1]) + _for_algorithm(rule),
            "if " + rule.when.__name__.strip("_").replace("_", " ") if rule.when is not None else "",
            rule.source,
            rule.provenance.where,
        )
        for rule in found
    ]
    table(("rule", "operators", "guard", "source", "where"), rows)
    if not args.quiet:
        plugins = sorted({rule.provenance.plugin for rule in found})
        print(f"\n{len(found)} rules of {', '.join(plugins) or 'no plugin'}")
    return 0


def load_all() -> None:
    """Bring every installed plugin to its final state; broken ones warn."""
    from ..plugins.manager import MANAGER

    MANAGER.discover()
    MANAGER.load("core", "always", explicit=True)
    for name in sorted(MANAGER.records):
        MANAGER.load(name, "name")
    MANAGER.trigger("always")


def load_only(name: str) -> None:
    """Bring one plugin to its final state: what others replace is still its own."""
    from ..plugins.manager import MANAGER

    MANAGER.discover()
    MANAGER.load("core", "always", explicit=True)
    if name in MANAGER.records:
        MANAGER.load(name, "name")


def as_dict(rule: Any) -> dict[str, Any]:
    """A rule as plain values."""
    return {
        "id": rule.id,
        "question": rule.question,
        "types": [t.__name__ for t in rule.types],
        "guard": None if rule.when is None else rule.when.__name__,
        "precedence": rule.precedence,
        "replaces": rule.replaces,
        "kind": rule.kind,
        "source": rule.source,
        "summary": rule.summary,
        "complexity": rule.complexity,
        "plugin": rule.provenance.plugin,
        "version": rule.provenance.version,
        "where": rule.provenance.where,
    }


def _for_algorithm(rule: Any) -> str:
    name = rule.types[-1].__name__
    return "" if name == "Algorithm" else f" with {name}"
