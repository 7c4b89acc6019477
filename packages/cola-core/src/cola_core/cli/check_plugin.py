"""``cola-core check-plugin NAME``: run the conformance kit on an installed plugin."""

from __future__ import annotations

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check-plugin", help="run the conformance kit on a plugin", description=__doc__
    )
    parser.add_argument("name", metavar="NAME", help="the plugin's name (cola-core plugins list)")
    parser.add_argument(
        "--backend",
        action="append",
        metavar="B",
        help="only this array library; repeatable (default: all installed)",
    )
    parser.add_argument("--verbose", action="store_true", help="also list the checks that passed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Status 0 if every check passes, 1 if one fails; a plugin or backend that cannot be loaded is an
    error."""
    from ..backends import get_backend
    from ..plugins.manager import MANAGER
    from ..testing.cli import run_check_plugin

    MANAGER.load(args.name, "name", explicit=True)
    for name in args.backend or ():
        get_backend(name)
    return run_check_plugin(args.name, backends=args.backend, json=args.json, verbose=args.verbose)
