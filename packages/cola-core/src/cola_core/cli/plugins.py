"""``cola-core plugins list|show|errors|overrides|new``: what is installed, what became of it, and a new one.

``list`` reads the index only and imports no plugin; the others load what they are about.
"""

from __future__ import annotations

import argparse
import traceback
import warnings
from typing import Any

from .output import facts, json_text, table
from .rules import as_dict, load_all


def add(commands: Any) -> None:
    """Add the commands."""
    parser = commands.add_parser("plugins", help="list, inspect and make plugins", description=__doc__)
    parser.set_defaults(run=run_list, json=False)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, run, text in (
        ("list", run_list, "what is installed (imports nothing)"),
        ("show", run_show, "load one and show what it adds"),
        ("errors", run_errors, "load all and show what went wrong"),
        ("overrides", run_overrides, "rules that change how other packages' operators behave"),
        ("new", run_new, "make a new plugin from the template"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.set_defaults(run=run)
        if name != "new":
            action.add_argument("--json", action="store_true", help="print JSON")
        if name == "show":
            action.add_argument("name", metavar="NAME")
        if name == "new":
            action.add_argument("name", metavar="NAME", help="the plugin's name, such as toeplitz")
            action.add_argument(
                "destination", metavar="FOLDER", nargs="?", help="its folder (default ./cola-NAME)"
            )


def run_list(args: argparse.Namespace) -> int:
    """The index, as entry points give it."""
    from ..plugins.manager import MANAGER

    index = MANAGER.discover()
    found: list[dict[str, Any]] = []
    for name, record in MANAGER.records.items():
        entry = record.entry
        groups: dict[str, list[str]] = {}
        for e in index.entries:
            if (
                e.distribution == entry.distribution
                and e.group not in ("plugins", "conformance")
                and name != "core"
            ):
                groups.setdefault(e.group, []).append(e.name)
        found.append(
            {
                "name": name,
                "distribution": entry.distribution,
                "version": entry.version,
                "module": entry.value,
                "state": record.state,
                "reason": record.reason,
                "provides": groups,
            }
        )
    if args.json:
        print(json_text(found))
        return 0
    rows = [
        (
            p["name"],
            f"{p['distribution']} {p['version']}",
            p["state"] + (f" ({p['reason']})" if p["reason"] else ""),
            "; ".join(f"{group}: {', '.join(names)}" for group, names in p["provides"].items()),
        )
        for p in found
    ]
    table(("plugin", "distribution", "state", "provides"), rows)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Everything one plugin adds; a broken one is an error, because it was asked for by name."""
    from ..dispatch.registry import REGISTRY
    from ..plugins.manager import MANAGER

    record = MANAGER.load(args.name, "name", explicit=True)
    MANAGER.trigger("always")
    assert record is not None
    rules = [r for found in REGISTRY.rules.values() for r in found if r.provenance.plugin == args.name]
    algorithms = [
        e for found in REGISTRY.algorithms.values() for e in found if e.provenance.plugin == args.name
    ]
    entries = [
        e
        for e in MANAGER.discover().entries
        if e.distribution == record.entry.distribution and e.group != "plugins"
    ]
    info = record.info
    if args.json:
        print(
            json_text(
                {
                    "name": record.name,
                    "state": record.state,
                    "distribution": record.entry.distribution,
                    "version": record.entry.version,
                    "api": None if info is None else info.api,
                    "summary": "" if info is None else info.summary,
                    "location": record.entry.location,
                    "entry_points": [{"group": e.group, "name": e.name, "value": e.value} for e in entries],
                    "rules": [as_dict(r) for r in rules],
                    "algorithms": [
                        {"question": e.question, "name": e.name, "where": e.provenance.where}
                        for e in algorithms
                    ],
                }
            )
        )
        return 0
    rows = [
        ("plugin", record.name),
        ("summary", info.summary if info else ""),
        ("distribution", record.distribution),
        ("module", record.entry.value),
        ("state", record.state),
        ("plugin API", str(info.api) if info else "?"),
    ]
    for group in ("operators", "algorithms", "rules", "commands", "domains", "conformance"):
        names = [f"{e.name} = {e.value}" for e in entries if e.group == group]
        if names and record.name != "core":
            rows.append((group, ", ".join(names)))
    facts(rows)
    if algorithms:
        print()
        table(
            ("algorithm", "question", "where"), [(e.name, e.question, e.provenance.where) for e in algorithms]
        )
    if rules:
        print()
        shown = sorted(rules, key=lambda r: r.id)
        table(
            ("rule", "operators", "source"),
            [(r.id, ", ".join(t.__name__ for t in r.types[:-1]), r.source) for r in shown],
        )
    return 0


def run_errors(args: argparse.Namespace) -> int:
    """Each plugin that is not usable, with its traceback; status 1 if there is one."""
    from ..plugins.manager import MANAGER

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they would say is printed in full
        load_all()
    broken = [r for r in MANAGER.records.values() if r.state in ("broken", "incompatible")]
    if args.json:
        print(
            json_text(
                [
                    {
                        "name": r.name,
                        "distribution": r.distribution,
                        "state": r.state,
                        "reason": r.reason,
                        "traceback": _trace(r.error),
                    }
                    for r in broken
                ]
            )
        )
        return 1 if broken else 0
    if not broken:
        print(f"no errors: {', '.join(f'{r.name} {r.state}' for r in MANAGER.records.values())}")
        return 0
    for record in broken:
        print(
            f"{record.name}  ({record.distribution}, {record.entry.value})  {record.state}: {record.reason}"
        )
        for line in _trace(record.error).splitlines():
            print(f"    {line}")
        print(f"    to silence it: COLA_DISABLE_PLUGINS={record.name}\n")
    return 1


def _trace(error: BaseException | None) -> str:
    return "" if error is None else "".join(traceback.format_exception(error)).rstrip()


def run_overrides(args: argparse.Namespace) -> int:
    """Rules of plugins on operators that are not theirs."""
    from ..dispatch.registry import REGISTRY

    load_all()
    found = sorted(REGISTRY.overrides(), key=lambda r: r.id)
    if args.json:
        print(json_text([as_dict(r) for r in found]))
        return 0
    if not found:
        print("no plugin changes how other packages' operators behave")
        return 0
    table(
        ("rule", "operators", "replaces", "precedence", "where"),
        [
            (
                r.id,
                ", ".join(t.__name__ for t in r.types[:-1]),
                r.replaces or "",
                r.precedence,
                r.provenance.where,
            )
            for r in found
        ],
    )
    return 0


def run_new(args: argparse.Namespace) -> int:
    """Make a plugin that builds and passes the conformance kit as it stands."""
    from ..plugins.template import new

    made = new(args.name, args.destination)
    print(f"made {made}")
    return 0
