"""``cola-core check-plugin NAME``: run the conformance kit on an installed plugin."""

from __future__ import annotations

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("check-plugin", help="run the conformance kit on a plugin", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="the plugin's name (cola-core plugins list)")
    parser.add_argument("--backend", metavar="B", help="only this array library (default: all that are installed)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Status 0 if every check passes."""
    from ..testing.cli import run_check_plugin

    return int(run_check_plugin(args.name, backend=args.backend, as_json=args.json) or 0)
