"""``cola-core tune``: measure this machine, so that choices rest on its speeds; a few seconds, once."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..errors import UnknownNameError
from .output import bytes_text, facts, json_text


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "tune", help="measure this machine for estimates of time", description=__doc__
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--show", action="store_true", help="the profile in use; measures nothing")
    what.add_argument("--reset", action="store_true", help="remove the stored profile")
    parser.add_argument("--quick", action="store_true", help="a rough measurement in well under a second")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and store, show, or remove."""
    from ..profile import VARIABLE, location, profile, remove_profile, set_profile, write_profile

    path = location()
    if args.show:
        return _show(profile(), args)
    if path is None:
        raise UnknownNameError(
            f"{VARIABLE}=default switches the stored profile off; unset it, or name a file."
        )
    if args.reset:
        gone = remove_profile(path)
        set_profile(None)
        print(f"removed {path}" if gone else f"there is no stored profile ({path})")
        return 0
    from ..tuning import measure

    def say(text: str) -> None:
        if not args.quiet:
            print(text, file=sys.stderr, flush=True)

    write_profile(measure(args.quick, say), path)
    set_profile(None)
    return _show(profile(), args)


def _show(found: Any, args: argparse.Namespace) -> int:
    if args.json:
        print(json_text(found.as_dict() | {"source": found.source}))
        return 0

    def speeds(table: Any) -> str:
        return ", ".join(f"{name} {value / 1e9:.3g}" for name, value in sorted(table.items()))

    facts(
        [
            ("source", found.source),
            ("matrix products", f"{speeds(found.product)} Gflop/s"),
            ("factorisations", f"{speeds(found.factor)} Gflop/s"),
            ("eigenvalues", f"{speeds(found.eigen)} Gflop/s"),
            ("traffic", f"{found.bandwidth / 1e9:.3g} GB/s"),
            (
                "a call",
                ", ".join(f"{name} {value * 1e6:.3g} us" for name, value in sorted(found.call.items())),
            ),
            ("a step", f"{found.step * 1e6:.3g} us"),
            ("memory", f"{bytes_text(found.memory)} for factors and bases"),
        ]
    )
    return 0
